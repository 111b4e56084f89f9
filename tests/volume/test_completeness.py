"""What a figure says of itself: complete, or why not."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from exchanges.ledger import Ledger
from exchanges.models import ExchangeCredential, HeldRow
from exchanges.sandbox import bybit
from exchanges.venues.base import Missing, Window, subtract
from tests import factories
from tests.conftest import NOW
from volume.completeness import Completeness
from volume.glance import summary
from volume.queries import Filter, volume

pytestmark = pytest.mark.django_db
START = NOW - timedelta(days=100)
DAY = timedelta(days=1)


def read_until(credential: ExchangeCredential, until: datetime = NOW) -> ExchangeCredential:
    for stream in credential.venue_type.streams:
        Ledger(credential, stream.name).cover(Window(credential.history_from, until))
    credential.fresh_at = until
    credential.save(update_fields=["fresh_at"])
    return credential


@pytest.fixture
def account() -> ExchangeCredential:
    return read_until(factories.credential(history_from=datetime(2026, 8, 13, tzinfo=UTC)))


def verdict(since: datetime, until: datetime = NOW, now: datetime = NOW, **more: Any) -> Any:
    return Completeness(ExchangeCredential.objects.all(), now=now).of(Window(since, until), **more)


def test_all_that_was_asked_for_and_read_is_complete(account: ExchangeCredential) -> None:
    assert verdict(account.history_from).complete


def test_an_account_that_was_not_read_yet_is_not_complete() -> None:
    factories.credential(history_from=START)
    assert verdict(NOW - DAY).why == (
        "Hyperliquid · Main: 2026-08-13 12:00 to 2026-11-21 12:00 UTC is not read yet. It is being read.",
    )


def test_one_stream_that_was_not_read_is_enough_to_say_so() -> None:
    account = factories.credential(history_from=START)
    Ledger(account, "fills").cover(Window(START, NOW))
    assert not verdict(START).complete


def test_an_account_not_read_lately_makes_only_the_present_stale(account: ExchangeCredential) -> None:
    later = NOW + timedelta(minutes=6)
    assert verdict(NOW - DAY, NOW, now=later).complete
    found = verdict(NOW - DAY, later, now=later)
    assert (found.complete, found.stale) == (False, True)
    assert found.why == ("Hyperliquid · Main: Not read since 2026-11-21 12:00 UTC. Read new fills now.",)


def test_a_minute_since_the_last_reading_is_fresh(account: ExchangeCredential) -> None:
    assert verdict(NOW - DAY, NOW + timedelta(minutes=1), now=NOW + timedelta(minutes=1)).complete


def test_a_gap_touches_only_the_ranges_it_lies_in(account: ExchangeCredential) -> None:
    gap = Window(NOW - 10 * DAY, NOW - 9 * DAY)
    account.coverage.all().delete()
    for stream in account.venue_type.streams:
        ledger = Ledger(account, stream.name)
        ledger.cover(Window(account.history_from, gap.since))
        ledger.cover(Window(gap.until, NOW))
        ledger.mark_gap(Missing(gap, "The venue did not answer."), retry_at=NOW)
    assert not verdict(NOW - 30 * DAY).complete
    assert verdict(NOW - 9 * DAY).complete
    assert verdict(account.history_from, gap.since).complete
    assert verdict(gap.since, gap.until).why == (
        "Hyperliquid · Main: 2026-11-11 12:00 to 2026-11-12 12:00 UTC could not be read: The venue did not answer. "
        "It is tried again at 2026-11-21 12:00 UTC.",
    )


def test_a_held_row_marks_its_own_day_and_one_without_a_time_marks_all(account: ExchangeCredential) -> None:
    HeldRow.objects.create(
        credential=account, stream="fills", digest="1", raw="{}", why="?", seen_at=NOW, executed_at=NOW - 5 * DAY
    )
    assert verdict(NOW - DAY).complete
    assert not verdict(NOW - 6 * DAY).complete
    HeldRow.objects.create(credential=account, stream="fills", digest="2", raw="{}", why="?", seen_at=NOW)
    assert not verdict(NOW - DAY).complete


def test_complete_since_names_the_first_whole_day(account: ExchangeCredential) -> None:
    gone = Window(account.history_from, datetime(2026, 9, 1, 5, 13, tzinfo=UTC))
    account.coverage.all().delete()
    for stream in account.venue_type.streams:
        Ledger(account, stream.name).cover(Window(gone.until, NOW))
        Ledger(account, stream.name).mark_out_of_reach(Missing(gone, "gone"))
    assert Completeness([account], now=NOW).complete_from(account.pk) == datetime(2026, 9, 2, tzinfo=UTC)


def test_progress_counts_every_stream() -> None:
    account = factories.credential(history_from=START)
    Ledger(account, "fills").cover(Window(START, NOW))
    assert Completeness([account], now=NOW).progress(account.pk) == pytest.approx(0.5, abs=0.01)


def test_a_paused_account_makes_the_present_stale_and_says_so(account: ExchangeCredential) -> None:
    ExchangeCredential.objects.update(is_enabled=False)
    later = NOW + DAY
    total = summary(account.owner_id, now=later)["totals"]["24h"]
    said = "Hyperliquid · Main: Not read since 2026-11-21 12:00 UTC. The account is paused: resume it."
    assert (total["complete"], total["stale"], total["why"]) == (False, True, [said])


def test_one_accounts_lack_is_not_anothers(account: ExchangeCredential) -> None:
    other = factories.credential(label="New", secrets={"address": "0x" + "1" * 40}, history_from=START)
    found = {row["id"]: row["complete"] for row in summary(account.owner_id, now=NOW)["accounts"]}
    assert found == {account.pk: True, other.pk: False}


def test_an_owner_without_accounts_has_an_empty_summary() -> None:
    total = summary(factories.user("nobody").pk, now=NOW)["totals"]["all"]
    assert (total["notional_usd"], total["fills"], total["complete"]) == ("0", 0, True)


def test_the_series_has_every_day_and_marks_the_ones_not_read() -> None:
    account = factories.credential(history_from=START)
    Ledger(account, "fills").cover(Window(NOW - 3 * DAY, NOW))
    Ledger(account, "twap").cover(Window(NOW - 3 * DAY, NOW))
    account.fresh_at = NOW
    account.save()
    shown = factories.series(account.owner_id, range="7d", now=NOW)
    assert shown["days"] == [f"2026-11-{day}" for day in range(15, 22)]
    assert shown["complete"] == [False, False, False, False, True, True, True]


def test_long_ranges_are_shown_by_weeks_from_monday(account: ExchangeCredential) -> None:
    shown = factories.series(account.owner_id, range="1y", now=NOW)
    assert shown["granularity"] == "week"
    assert all(datetime.fromisoformat(day).weekday() == 0 for day in shown["days"])
    assert shown["days"][-1] == "2026-11-16"


def test_nothing_is_grouped_into_nothing(account: ExchangeCredential) -> None:
    assert volume(Filter(), by=("day",), now=NOW) == []


def test_stretches_are_judged_together_as_each_on_its_own() -> None:
    account, other = (
        factories.credential(venue, history_from=NOW - days * DAY, secrets=secrets)
        for venue, days, secrets in (("hyperliquid", 100, None), ("bybit", 60, bybit.MAIN))
    )
    read_until(other, NOW - timedelta(hours=1))
    Ledger(account, "twap").cover(Window(START, NOW))
    fills = Ledger(account, "fills")
    gap, gone = Window(NOW - 40 * DAY, NOW - 38 * DAY), Window(START, NOW - 70 * DAY)
    fills.mark_gap(Missing(gap, "No answer."), retry_at=NOW)
    fills.mark_out_of_reach(Missing(gone, "Forgotten."))
    for part in subtract(Window(START, NOW), [gap, gone]):
        fills.cover(part)
    HeldRow.objects.create(credential=account, digest="1", raw="{}", seen_at=NOW, executed_at=NOW - 20 * DAY)
    for step in (DAY, timedelta(hours=7)):
        ends = [START - 30 * DAY + number * step for number in range(130 * DAY // step)]
        found = Completeness(ExchangeCredential.objects.all(), now=NOW)
        each = [found.state(Window(since, until)) for since, until in pairwise(ends)]
        assert found.states(ends) == each
        assert {state for state, _ in each} >= {"complete", "gap", "out_of_reach", "held", "not_asked"}
    HeldRow.objects.create(credential=other, digest="2", raw="{}", seen_at=NOW)  # of no known time
    everywhere = Completeness(ExchangeCredential.objects.all(), now=NOW).states([NOW - 3 * DAY, NOW - 2 * DAY])
    assert [state for state, _ in everywhere] == ["held"]
