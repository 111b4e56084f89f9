"""Rows for tests, made the way the product makes them."""

import time
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from allauth.account.internal.flows.login import (
    _AUTHENTICATION_METHODS_USER_SESSION_KEY,
    AUTHENTICATION_METHODS_SESSION_KEY,
)
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from exchanges.models import ExchangeCredential, history_start
from exchanges.sandbox import Sandbox, hyperliquid
from exchanges.sandbox.base import to_ms
from exchanges.venues import VENUES
from volume.history import History
from volume.scope import Scope

PASSWORD = "correct horse battery staple"


def user(username: str = "ada", **fields: Any) -> Any:
    """A person who signs in with client.force_login(); the password hash, slow on purpose, is left out."""
    return get_user_model().objects.create(username=username, **fields)


def sign_in(client: Client, person: Any) -> Client:
    """Just now, with a password, as far as pages that ask once more are concerned."""
    client.force_login(person)
    session = client.session
    session[_AUTHENTICATION_METHODS_USER_SESSION_KEY] = str(person.pk)
    session[AUTHENTICATION_METHODS_SESSION_KEY] = [{"method": "password", "at": time.time(), "reauthenticated": True}]
    session.save()
    return client


def credential(
    venue: str = "hyperliquid", *, owner: Any = None, label: str = "Main", secrets: dict[str, str] | None = None,
    **fields: Any,
) -> ExchangeCredential:  # fmt: skip
    """A stored account, by default of the sandbox's trader, that was not read yet."""
    now = timezone.now()
    made = ExchangeCredential(
        owner=owner or get_user_model().objects.first() or user(),
        venue=venue, label=label, **{"history_from": history_start(now), "due_at": now} | fields,
    )  # fmt: skip
    made.set_secrets(VENUES[venue].credentials_type.parse(secrets or {"address": hyperliquid.DEMO_TRADER}))
    made.save()
    return made


def series(owner_id: int, *, now: datetime, **query: str) -> dict[str, Any]:
    """The chart's data, as the dashboard's address asks for it."""
    return History(Scope.parse(query, owner_id, now=now), now=now).series()


def hyperliquid_row(at: datetime, **changes: Any) -> dict[str, Any]:
    """A taker's buy of 2 BTC at 50,000, as Hyperliquid sends it."""
    return {
        "coin": "BTC", "px": "50000", "sz": "2", "side": "B", "time": to_ms(at), "startPosition": "0.0",
        "dir": "Open Long", "closedPnl": "0.0", "hash": "0x" + "0" * 64, "oid": 1, "crossed": True, "fee": "45",
        "feeToken": "USDC", "tid": 1, "twapId": None,
    } | changes  # fmt: skip


@cache
def _recent_rows(address: str, since: datetime, now: datetime) -> dict[str, list[Any]]:
    venue = hyperliquid.Hyperliquid(lambda: now)
    lists = {"rows": venue.rows(address), "twap": venue.twap_rows(address)}
    return {name: [row for row in rows if hyperliquid.time_of(row) >= to_ms(since)] for name, rows in lists.items()}


def shorten(sandbox: Sandbox, *, days: int, now: datetime) -> Sandbox:
    """Leaves the demo's trader and sub-account only their last days: enough for most tests, and quick."""
    for address in (hyperliquid.DEMO_TRADER, hyperliquid.DEMO_SUB):
        known = sandbox.hyperliquid.accounts[address]
        recent = _recent_rows(address, now - timedelta(days=days), now)
        sandbox.hyperliquid.add(address, **recent, role=known.role, of=known.of, name=known.name)
    return sandbox
