"""What is read next: new before old, what is about to be forgotten before all, nothing twice, nothing left out."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from exchanges import sync
from exchanges.ledger import Ledger
from exchanges.models import Coverage, ExchangeCredential
from exchanges.venues import VENUES
from exchanges.venues.base import Stream, Window
from exchanges.venues.hyperliquid import Hyperliquid
from tests import factories
from tests.conftest import NOW

DAY, WEEK, OVERLAP = timedelta(days=1), timedelta(days=7), timedelta(minutes=10)
YEARS = timedelta(days=730)


class Weekly(Hyperliquid):
    """A venue that answers seven days at once and forgets after two years; only its facts are asked here."""

    slug = "weekly"
    streams = (Stream(name="fills", longest_window=WEEK, memory=YEARS),)


@pytest.fixture
def account(db: Any, clock: Any, monkeypatch: pytest.MonkeyPatch) -> ExchangeCredential:
    monkeypatch.setitem(VENUES, "weekly", Weekly)
    return factories.credential("weekly", secrets={"address": "0x" + "1" * 40}, history_from=NOW - 100 * DAY)


def read_all(account: ExchangeCredential, since: datetime, now: datetime) -> list[Window]:
    """The windows handed out until there are no more, each covered as if it had been read."""
    windows = []
    while step := sync.next_step(account, Window(since, now), now=now):
        windows.append(step.window)
        Ledger(account, step.stream.name).cover(step.window)
        assert len(windows) < 1000
    return windows


def covered(account: ExchangeCredential) -> list[Window]:
    return [Window(row.from_at, row.until_at) for row in account.coverage.filter(state=Coverage.State.COVERED)]


def test_history_is_read_newest_first_in_windows_the_venue_answers(account: ExchangeCredential) -> None:
    windows = read_all(account, account.history_from, NOW)
    assert [window.until for window in windows] == sorted((window.until for window in windows), reverse=True)
    assert max(window.until - window.since for window in windows) == WEEK
    assert len(windows) == 15
    assert covered(account) == [Window(account.history_from, NOW)]


def test_a_range_about_to_be_forgotten_is_read_before_all_others(account: ExchangeCredential) -> None:
    first, second, *_ = read_all(account, NOW - YEARS, NOW)
    assert first == Window(NOW - YEARS, NOW - YEARS + WEEK)
    assert second.until == NOW


def test_what_is_older_than_the_venues_memory_is_out_of_reach_and_not_asked_for(account: ExchangeCredential) -> None:
    windows = read_all(account, NOW - YEARS - 10 * DAY, NOW)
    assert min(window.since for window in windows) == NOW - YEARS
    gone = account.coverage.get(state=Coverage.State.OUT_OF_REACH)
    assert (gone.from_at, gone.until_at) == (NOW - YEARS - 10 * DAY, NOW - YEARS)


@pytest.mark.parametrize("is_backfilling", [True, False])
def test_after_an_absence_all_that_is_new_is_read_with_an_overlap(
    account: ExchangeCredential, is_backfilling: bool
) -> None:
    read_all(account, account.history_from, NOW)
    account.is_backfilling = is_backfilling
    later = NOW + 16 * DAY
    windows = read_all(account, account.history_from, later)
    assert windows[0] == Window(NOW - OVERLAP, NOW - OVERLAP + WEEK)
    assert covered(account) == [Window(account.history_from, later)]
    assert all(later_one.since <= earlier.until - OVERLAP for earlier, later_one in pairwise(windows))


def test_with_the_backfill_stopped_only_what_is_new_is_read(account: ExchangeCredential) -> None:
    account.is_backfilling = False
    assert read_all(account, account.history_from, NOW + DAY) == [Window(NOW - OVERLAP, NOW + DAY)]
    assert read_all(account, account.history_from, NOW + 2 * DAY) == [Window(NOW + DAY - OVERLAP, NOW + 2 * DAY)]


def test_reading_again_keeps_to_the_memory_and_leaves_nothing_out(account: ExchangeCredential) -> None:
    steps = list(sync.steps_again(account, Window(NOW - YEARS - DAY, NOW), now=NOW))
    assert steps[0].window.until == NOW
    assert steps[-1].window.since == NOW - YEARS
    assert all(later.window.until == earlier.window.since for earlier, later in pairwise(steps))


def test_what_a_fetch_left_unsaid_becomes_a_gap(account: ExchangeCredential) -> None:
    step = sync.next_step(account, Window(account.history_from, NOW), now=NOW)
    assert step
    Ledger(account, "fills").cover(Window(step.window.since, step.window.since + DAY))
    sync.settle(account, step, now=NOW)
    gap = account.coverage.get(state=Coverage.State.GAP)
    assert (gap.from_at, gap.until_at, gap.retry_at) == (step.window.since + DAY, NOW, NOW + sync.GAP_RETRY)
