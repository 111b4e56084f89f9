"""From a stored credential to an open venue: hosts, budgets and, where this installation says so, the sandbox."""

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

from django.apps import apps
from django.conf import settings
from limits.storage import storage_from_string
from redis.backoff import NoBackoff
from redis.retry import Retry

from exchanges.apps import ExchangesConfig
from exchanges.models import ExchangeCredential
from exchanges.tally import SHARES, tally
from exchanges.venues.base import Venue
from exchanges.venues.http import Budget

if TYPE_CHECKING:
    from exchanges.sandbox import Sandbox

PATIENT = 120.0  # seconds a person at a terminal is made to wait at once
UNMETERED = 1e6  # times the documented budget
BRIEF = 5.0  # seconds a worker sleeps before it turns to other accounts
# How long a Redis that says nothing is waited for, in seconds. One retry: after its restart a connection is gone.
REDIS: dict[str, Any] = {
    "socket_timeout": 5.0, "socket_connect_timeout": 2.0, "socket_keepalive": True, "retry": Retry(NoBackoff(), 1),
}  # fmt: skip


@cache
def budget(sandbox: "Sandbox | None") -> Budget:
    """One for all venues of this process; shared by all processes where there is a Redis.

    A sandbox in process has its limits, if any, for itself.
    """
    storage = storage_from_string(settings.REDIS_URL, **REDIS) if settings.REDIS_URL and not sandbox else None
    share = UNMETERED if sandbox and not sandbox.is_metered else settings.VENUE_BUDGET_SHARE
    return Budget(storage, share=share, on_use=_note_use)  # type: ignore[arg-type]


def connect(
    credential: ExchangeCredential,
    *,
    patience: float = BRIEF,
    before_sleep: Callable[[float], None] = lambda seconds: None,
) -> Venue:
    """An open venue; close it after use. Raises SecretError where the stored secrets can't be read.

    `before_sleep` is told each wait, in seconds, before it is slept.
    """
    venue = credential.venue_type
    app = cast(ExchangesConfig, apps.get_app_config("exchanges"))

    def sleep(seconds: float) -> None:
        before_sleep(seconds)
        app.sleep(seconds)

    return venue(  # type: ignore[call-arg]
        credential.open_secrets(),
        account_ref=credential.account_ref,
        base_url=settings.VENUE_URLS[venue.slug],
        budget=budget(app.sandbox),
        patience=patience,
        transport=app.sandbox.transport(venue.slug) if app.sandbox else None,
        sleep=sleep,
        on_answer=partial(_note_answer, venue.slug),
    )


def _note_use(slug: str, share: float) -> None:
    tally.observe("venue_budget_used_ratio", slug, value=share, buckets=SHARES)


def _note_answer(slug: str, seconds: float, trouble: str) -> None:
    tally.observe("venue_request_seconds", slug, value=seconds)
    if trouble:
        tally.add("venue_errors", slug, trouble)
