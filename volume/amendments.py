"""The record of what changed after it had been called read: which day and market, by how much, and why."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from exchanges.fields import to_usd_places
from exchanges.models import ExchangeCredential
from exchanges.sync import Cause, Change
from exchanges.venues.base import EXACT
from volume.models import Amendment, Preferences
from volume.rollup import usd_prices


def note(credential: ExchangeCredential, changes: Sequence[Change], *, now: datetime) -> int:
    """Writes the changes down, inside the caller's transaction. Returns how many fills they are about."""
    if not changes:
        return 0
    at_market = Preferences.of(credential.owner_id).stablecoins_at_market
    prices = usd_prices({(change.day, change.quote) for change in changes}, at_market=at_market)
    Amendment.objects.bulk_create(
        Amendment(
            credential=credential,
            seen_at=now,
            day=change.day,
            symbol=change.symbol,
            cause=change.cause,
            why=change.why[:300],
            fills=change.fills,
            # Without a price it is in no dollar figure, neither before nor after.
            notional_usd=_usd(change.notional, prices.get((change.day, change.quote))),
        )
        for change in changes
    )
    # One that moved stands here twice, as gone and as come.
    moved = (Cause.RENAMED, Cause.CHANGED)
    return sum(max(1, abs(item.fills)) for item in changes if item.cause not in moved or item.fills >= 0)


def _usd(notional: Decimal, price: Decimal | None) -> Any:
    return to_usd_places(EXACT.multiply(notional, price or Decimal(0)))
