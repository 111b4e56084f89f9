"""Django in a section's process, on the empty database that was given to it."""

import os

import django


def set_up() -> None:
    """Settings from the environment, and every table. Call it before importing a model."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "perpdash.settings")
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
