"""What must be true of the settings before a secret is stored."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def keys_are_set(**_: Any) -> list[CheckMessage]:
    """Refuses to start without keys: what is encrypted with an empty one is not encrypted."""
    found: list[CheckMessage] = []
    if not settings.SALT_KEY or not all(isinstance(salt, str) and len(salt) >= 16 for salt in settings.SALT_KEY):
        found.append(
            Error(
                "SALT_KEY is missing or shorter than 16 characters.",
                hint="Set it in the environment or in .env (a comma list, newest first); see .env.example.",
                id="exchanges.E001",
            )
        )
    if len(settings.SECRET_KEY) < 32:
        found.append(
            Error(
                "SECRET_KEY is missing or shorter than 32 characters.",
                hint="Set it in the environment or in .env; see .env.example.",
                id="exchanges.E002",
            )
        )
    return found
