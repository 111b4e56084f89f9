"""What keeps a process from starting: settings that are not safe.

manage.py asks Django's checks by itself; daphne, worker and beat do not, so each of them calls `refuse_unsafe`.
"""

import logging
import sys
from typing import Any

import django
from celery.signals import beat_init, celeryd_init
from django.conf import settings
from django.core.checks import ERROR, CheckMessage, Error, Warning, register, run_checks

from exchanges.checks import START

logger = logging.getLogger("perpdash")
OWN_MACHINE = {"127.0.0.1", "localhost", "[::1]", "testserver"}


@register(START)
def page_is_safe(**_: Any) -> list[CheckMessage]:
    """Outside DEBUG the hosts must be named; DEBUG on a machine that others reach is warned of."""
    if not settings.DEBUG and "*" in settings.ALLOWED_HOSTS:
        return [
            Error(
                "ALLOWED_HOSTS is *: pages of any other site could open your sockets, and links could lead anywhere.",
                hint="Name the hosts under which the page is opened, separated by commas.",
                id="perpdash.E001",
            )
        ]
    if settings.DEBUG and (settings.REDIS_URL or not OWN_MACHINE.issuperset(settings.ALLOWED_HOSTS)):
        return [
            Warning(
                "DEBUG is on where others may come: every fault shows them source and settings, and weak keys pass.",
                hint="Set DEBUG=0.",
                id="perpdash.W001",
            )
        ]
    return []


@celeryd_init.connect
@beat_init.connect
def refuse_unsafe(**_: Any) -> None:
    """Ends this process, with all that is wrong in words, where its settings are not safe."""
    django.setup()
    found = run_checks(tags=[START])
    if errors := [message for message in found if message.level >= ERROR]:
        said = " ".join(f"{message.msg} {message.hint}" for message in errors)
        print(f"perpdash does not start. {said}", file=sys.__stderr__)  # beat has made sys.stderr a log
        sys.exit(1)
    for message in found:
        logger.warning("%s %s", message.msg, message.hint)
