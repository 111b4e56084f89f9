"""An owner's newest summary, computed once for all pages and programs that look at it."""

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from django.core.cache import cache

from exchanges.models import ExchangeCredential
from volume import trouble
from volume.glance import summary
from volume.queries import Filter, Standing

KEPT_FOR = timedelta(seconds=5)  # the last 24 hours move on, and accounts grow stale, without anything being stored
ACCOUNT = [field.attname for field in ExchangeCredential._meta.concrete_fields if field.attname != "secrets"]


def newest_summary(owner_id: int, *, now: datetime, standing: Standing | None = None) -> dict[str, Any]:
    """As `summary`, of everything that is committed by now. Its `as_of` may lie a few seconds back.

    `standing` is the owner's, of which nothing was looked at yet. Without a cache it is computed each time.
    """
    standing = standing or Standing(Filter(owner_id=owner_id), now=now)
    state = _state(owner_id, standing)  # before what is computed of it: a commit in between makes that newer, not older
    key = f"summary/{owner_id}"
    kept_state, computed_at, kept = cache.get(key) or ("", now, {})
    if kept_state == state and abs(now - computed_at) < KEPT_FOR and now.date() == computed_at.date():
        return kept | {"trouble": trouble.now()}
    newest = summary(owner_id, now=now, standing=standing)
    # One for each owner: whoever saw another state is never told of an earlier time when the first one comes back.
    cache.set(key, (state, now, newest), KEPT_FOR.total_seconds())
    return newest


def _state(owner_id: int, standing: Standing) -> str:
    """Another one with every commit that changes the summary: an account's version stands for all that hangs on it."""
    accounts = [[getattr(account, name) for name in ACCOUNT] for account in standing.accounts]
    chosen = standing.preferences[owner_id]
    state = [*accounts, chosen.counts_forced, chosen.stablecoins_at_market]
    return sha256(repr(state).encode()).hexdigest()
