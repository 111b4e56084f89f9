"""Sums that are kept: found by whoever asks the same, and never once a day of theirs has changed."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from exchanges.ledger import Ledger
from exchanges.models import ExchangeCredential
from exchanges.venues.base import Window
from tests.volume.test_periods import NOW, TODAY, account_of, fill, store
from volume import kept, periods, queries
from volume.models import Preferences
from volume.queries import Filter

pytestmark = pytest.mark.django_db
LONG_AGO = NOW - timedelta(days=40)


@pytest.fixture(autouse=True)
def nothing_is_kept() -> Iterator[None]:
    kept.forget()
    yield
    kept.forget()


@pytest.fixture
def account() -> ExchangeCredential:
    """With a fill of 10 USDC on each of sixty days."""
    found = account_of("One")
    days = (fill(found, number, NOW - timedelta(days=number), **TEN) for number in range(60))
    store(found, *days)
    periods.add_up(found, today=TODAY)
    return found


TEN: dict[str, Any] = {
    "symbol": "BTC",
    "kind": "trade",
    "quote": "USDC",
    "notional": Decimal(10),
    "fee_asset": "USDC",
    "fee": Decimal(1),
}


def volume(account: ExchangeCredential) -> Decimal:
    wanted = Filter(owner_id=account.owner_id, since=TODAY - timedelta(days=59))
    [row] = queries.volume(wanted, by=(), now=NOW)
    return Decimal(row["notional_usd"])


def queries_of(account: ExchangeCredential) -> int:
    with CaptureQueriesContext(connection) as asked:
        volume(account)
    return len(asked)


def test_what_was_asked_before_is_not_summed_up_again(account):
    first = queries_of(account)
    assert queries_of(account) < first
    assert volume(account) == 600


@pytest.mark.parametrize("at", [NOW, LONG_AGO])
def test_a_new_fill_is_in_the_next_sum(account, at):
    assert volume(account) == 600
    store(account, fill(account, 1000, at, **TEN))
    assert volume(account) == 610
    periods.add_up(account, today=TODAY)
    assert volume(account) == 610


def test_who_counts_forced_fills_from_now_on_gets_other_sums(account):
    store(account, fill(account, 1000, LONG_AGO, **TEN | {"kind": "liquidation"}))
    periods.add_up(account, today=TODAY)
    assert volume(account) == 600
    Preferences.objects.update_or_create(owner=account.owner, defaults={"counts_forced": True})
    assert volume(account) == 610
    Preferences.objects.update(counts_forced=False)
    assert volume(account) == 600


def test_what_changes_while_it_is_summed_up_is_not_kept(account, monkeypatch):
    summed = queries._added

    def and_then_a_fill_comes(*args: Any) -> Any:
        monkeypatch.setattr(queries, "_added", summed)
        store(account, fill(account, 1000, LONG_AGO, **TEN))
        return summed(*args)

    monkeypatch.setattr(queries, "_added", and_then_a_fill_comes)
    volume(account)
    assert not len(kept._kept)
    assert volume(account) == 610


def test_what_was_asked_for_longest_ago_goes_first(account, monkeypatch):
    books = periods.Books.of([account])
    days = [Filter(owner_id=account.owner_id, since=TODAY - timedelta(days=59 - number)) for number in range(4)]
    monkeypatch.setattr(kept, "MOST_CELLS", 2.5 * 60 * 3)
    for wanted in days:
        queries.amounts(wanted, books, by=("day",))
    assert len(kept._kept) == 2
    assert kept._kept.cells == (58 + 57) * 3
    queries.amounts(days[2], books, by=("day",))  # asked for again, so that the other one goes
    queries.amounts(days[0], books, by=("day",))
    assert kept._kept.cells == (58 + 60) * 3


def test_neither_what_is_empty_nor_what_is_too_large_is_kept(account, monkeypatch):
    books = periods.Books.of([account])
    queries.amounts(Filter(owner_id=account.owner_id, markets=("no such market",)), books, by=("day",))
    monkeypatch.setattr(kept, "LARGEST", 10)
    queries.amounts(Filter(owner_id=account.owner_id), books, by=("day",))
    assert not len(kept._kept)


def test_accounts_of_others_have_sums_of_their_own(account):
    assert volume(account) == 600
    other = account_of("Other")
    store(other, fill(other, 1, LONG_AGO, **TEN))
    assert volume(account) == 610
    periods.add_up(other, today=TODAY)
    assert volume(account) == 610


def test_a_figure_may_be_newer_than_what_is_said_of_it_and_never_older(account, monkeypatch):
    """What closes a gap between the two readings must not be said of figures from before it."""
    ExchangeCredential.objects.update(history_from=NOW - timedelta(days=59), fresh_at=NOW)
    added = queries.added

    def and_then_all_is_read(*args: Any) -> Any:
        found = added(*args)
        Ledger(account, account.streams[0].name).cover(Window(NOW - timedelta(days=60), NOW))
        return found

    monkeypatch.setattr(queries, "added", and_then_all_is_read)
    wanted = Filter(owner_id=account.owner_id, since=TODAY - timedelta(days=3))
    for rows in (queries.volume(wanted, now=NOW), list(queries.VolumeRows(wanted, by=("day",), now=NOW))):
        assert rows
        assert not any(row["complete"] for row in rows)
        account.coverage.all().delete()
