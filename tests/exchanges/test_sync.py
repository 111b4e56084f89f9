"""What is read next: new before old, what is about to be forgotten before all, nothing twice, nothing left out."""

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from exchanges import sync
from exchanges.ledger import Ledger
from exchanges.models import Coverage, ExchangeCredential, Retraction
from exchanges.sandbox.paradex import DEMO_SUB_TOKEN, DEMO_TOKEN
from exchanges.venues import VENUES
from exchanges.venues.base import (
    FillReport,
    Held,
    Kind,
    Liquidity,
    Page,
    Retracted,
    Side,
    Skipped,
    Stream,
    Window,
    subtract,
)
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


def steps_again(account: ExchangeCredential, since: datetime, now: datetime) -> list[sync.Step]:
    """The steps that are handed out of what is wanted once more, each done as if it had been read."""
    steps = []
    while step := sync.next_step(account, Window(since, now), now=now):
        assert step.is_again
        steps.append(step)
        sync.note_reread(account, step.stream, step.window)
        assert len(steps) < 1000
    return steps


def test_reading_again_keeps_to_the_memory_and_leaves_nothing_out(account: ExchangeCredential) -> None:
    since = NOW - YEARS - DAY
    Ledger(account, "fills").cover(Window(since, NOW))
    sync.ask_again(account, Window(since, NOW), now=NOW)
    steps = steps_again(account, since, NOW)
    assert steps[0].window.until == NOW
    assert steps[-1].window.since == NOW - YEARS
    assert all(later.window.until == earlier.window.since for earlier, later in pairwise(steps))
    assert not account.rereads.exists()


def test_what_is_wanted_once_more_waits_for_what_is_missing_and_takes_nothing_from_the_ledger(
    account: ExchangeCredential,
) -> None:
    Ledger(account, "fills").cover(Window(account.history_from + DAY, NOW))
    sync.ask_again(account, Window(NOW - 20 * DAY, NOW - 10 * DAY), now=NOW)
    first = sync.next_step(account, Window(account.history_from, NOW), now=NOW)
    assert first
    assert not first.is_again
    Ledger(account, "fills").cover(first.window)
    assert [step.window for step in steps_again(account, account.history_from, NOW)] == [
        Window(NOW - 17 * DAY, NOW - 10 * DAY),
        Window(NOW - 20 * DAY, NOW - 17 * DAY),
    ]
    assert covered(account) == [Window(account.history_from, NOW)]


def test_what_is_wanted_twice_is_read_once_and_what_failed_is_tried_an_hour_later(account: ExchangeCredential) -> None:
    Ledger(account, "fills").cover(Window(account.history_from, NOW))
    sync.ask_again(account, Window(NOW - 4 * DAY, NOW - DAY), now=NOW)
    sync.ask_again(account, Window(NOW - 5 * DAY, NOW - 2 * DAY), now=NOW)
    asked = [Window(row.from_at, row.until_at) for row in account.rereads.all()]
    assert asked == [Window(NOW - 5 * DAY, NOW - DAY)]
    step = sync.next_step(account, Window(account.history_from, NOW), now=NOW)
    assert step
    sync.postpone_reread(account, step, now=NOW)
    following = sync.next_step(account, Window(account.history_from, NOW), now=NOW)
    assert following is None
    sync.ask_again(account, Window(NOW - 20 * DAY, NOW - 19 * DAY), now=NOW)
    following = sync.next_step(account, Window(account.history_from, NOW), now=NOW)
    assert following
    assert following.window == Window(NOW - 20 * DAY, NOW - 19 * DAY)
    account.is_backfilling = False
    assert sync.next_step(account, Window(account.history_from, NOW), now=NOW) is None
    account.is_backfilling = True
    later = NOW + sync.GAP_RETRY
    again = sync.next_step(account, Window(account.history_from, NOW), now=later)
    assert again
    assert again.window == step.window


def test_what_a_fetch_left_unsaid_becomes_a_gap(account: ExchangeCredential) -> None:
    step = sync.next_step(account, Window(account.history_from, NOW), now=NOW)
    assert step
    Ledger(account, "fills").cover(Window(step.window.since, step.window.since + DAY))
    sync.settle(account, step, now=NOW)
    gap = account.coverage.get(state=Coverage.State.GAP)
    assert (gap.from_at, gap.until_at, gap.retry_at) == (step.window.since + DAY, NOW, NOW + sync.GAP_RETRY)


# --- Several steps at a time -----------------------------------------------------------------------------------------


def test_steps_under_way_are_not_handed_out_again_and_those_beside_them_are(account: ExchangeCredential) -> None:
    window, under_way = Window(account.history_from, NOW), list[sync.Step]()
    while step := sync.next_step(account, window, now=NOW, under_way=under_way):
        under_way.append(step)
        assert len(under_way) < 100
    windows = [step.window for step in under_way]
    assert len(windows) == 15
    assert not subtract(window, windows)  # together they are all
    for step in under_way:
        others = [other.window for other in under_way if other != step]
        assert subtract(step.window, others)  # and each brings something of its own


def test_a_settled_step_is_not_handed_out_again_while_another_is_under_way(account: ExchangeCredential) -> None:
    window, seen, under_way = Window(account.history_from, NOW), list[Window](), list[sync.Step]()
    while True:
        while len(under_way) < 4 and (step := sync.next_step(account, window, now=NOW, under_way=under_way)):
            under_way.append(step)
            seen.append(step.window)
        if not under_way:
            break
        done = under_way.pop(-1 if len(seen) % 2 else 0)  # they end in any order
        Ledger(account, "fills").cover(done.window)
    assert len(seen) == len(set(seen)) == 15
    assert covered(account) == [window]


def test_what_a_step_under_way_leaves_unread_is_handed_out_once_it_is_settled(account: ExchangeCredential) -> None:
    window = Window(NOW - 3 * DAY, NOW)
    step = sync.next_step(account, window, now=NOW)
    assert step
    assert sync.next_step(account, window, now=NOW, under_way=[step]) is None
    Ledger(account, "fills").cover(Window(NOW - DAY, NOW))
    rest = sync.next_step(account, window, now=NOW)
    assert rest and rest.window == Window(NOW - 3 * DAY, NOW - DAY)


def test_of_two_lists_what_is_under_way_of_one_hides_nothing_of_the_other(paradex: ExchangeCredential) -> None:
    window = Window(paradex.history_from, NOW)
    first = sync.next_step(paradex, window, now=NOW)
    assert first
    second = sync.next_step(paradex, window, now=NOW, under_way=[first])
    assert second
    assert {first.stream.name, second.stream.name} == {"fills", "trade busts"}
    assert first.window == second.window == window
    assert sync.next_step(paradex, window, now=NOW, under_way=[first, second]) is None


# --- Which lists an account has --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "read"),
    [
        ([], ["fills", "trade busts"]),
        (["fills"], ["fills"]),
        (["trade busts", "fills"], ["fills", "trade busts"]),
        (["fills", "of a list that is gone"], ["fills"]),
        (["of a list that is gone"], ["fills", "trade busts"]),
    ],
)
def test_the_lists_the_venue_named_are_read_or_else_all(
    paradex: ExchangeCredential, names: list[str], read: list[str]
) -> None:
    paradex.stream_names = names
    paradex.save()
    paradex.refresh_from_db()
    assert [stream.name for stream in paradex.streams] == read
    steps: list[sync.Step] = []
    while step := sync.next_step(paradex, Window(paradex.history_from, NOW), now=NOW, under_way=steps):
        steps.append(step)
    assert sorted({step.stream.name for step in steps}) == sorted(read)
    sync.ask_again(paradex, Window(paradex.history_from, NOW), now=NOW)
    assert set(paradex.rereads.values_list("stream", flat=True)) == set(read)


# --- Fills taken back ------------------------------------------------------------------------------------------------


@pytest.fixture
def paradex(db: Any, clock: Any) -> ExchangeCredential:
    return factories.credential("paradex", secrets={"token": DEMO_TOKEN}, history_from=NOW - 10 * DAY)


def fill(name: str = "FILL:7", **changes: Any) -> FillReport:
    known = FillReport(
        fill_id=name, symbol="BTC-USD-PERP", base="BTC", quote="USD", side=Side.BUY, liquidity=Liquidity.TAKER,
        kind=Kind.TRADE, price=Decimal(50_000), qty=Decimal(2), notional=Decimal(100_000), fee=Decimal(45),
        fee_asset="USDC", realized_pnl=None, executed_at=NOW - DAY,
    )  # fmt: skip
    return msgspec.structs.replace(known, **changes)


BUST = Retracted("trade bust", ("FILL:7", "RPI:7", "BLOCK_TRADE:7"), "It failed on the chain.")
SYMBOL_DAY = ((NOW - DAY).date(), "BTC-USD-PERP")


def put(account: ExchangeCredential, *rows: Any, stream: int = 0, **page: Any) -> sync.Stored:
    with transaction.atomic():
        return sync.store(account, account.streams[stream], Page(rows=rows, **page), now=NOW)


def names(account: ExchangeCredential) -> list[str]:
    return sorted(account.fills.values_list("fill_id", flat=True))


def test_a_fill_taken_back_later_goes_and_its_day_is_said_to_have_changed(paradex: ExchangeCredential) -> None:
    assert put(paradex, fill(), fill("FILL:8")).new == 2
    stored = put(paradex, BUST, stream=1)
    assert names(paradex) == ["FILL:8"]
    assert (stored.retracted, stored.new, stored.touched) == (1, 0, {SYMBOL_DAY})
    assert stored.skipped == {"trade bust": 1}


def test_a_fill_taken_back_before_it_comes_never_comes(paradex: ExchangeCredential) -> None:
    stored = put(paradex, BUST, stream=1)
    assert (stored.retracted, stored.touched) == (0, set())
    stored = put(paradex, fill(), fill("FILL:8"))
    assert names(paradex) == ["FILL:8"]
    assert (stored.new, stored.skipped) == (1, {"taken back": 1})


@pytest.mark.parametrize("is_first", [True, False])
def test_a_fill_and_its_bust_on_one_page_come_to_nothing(paradex: ExchangeCredential, is_first: bool) -> None:
    stored = put(paradex, *([BUST, fill()] if is_first else [fill(), BUST]), fill("FILL:8"))
    assert names(paradex) == ["FILL:8"]
    assert (stored.new, stored.rows) == (1, 3)


def test_a_bust_told_twice_is_one(paradex: ExchangeCredential) -> None:
    put(paradex, fill())
    stored = [put(paradex, BUST, BUST, stream=1), put(paradex, BUST, stream=1)]
    assert [(one.retracted, one.touched) for one in stored] == [(1, {SYMBOL_DAY}), (0, set())]
    assert Retraction.objects.filter(credential=paradex).count() == 3  # by each of its possible names


def test_a_busted_fill_read_again_stays_out(paradex: ExchangeCredential) -> None:
    put(paradex, fill())
    put(paradex, BUST, stream=1)
    for _ in range(2):
        stored = put(paradex, fill(), fill("RPI:7"), fill())
        assert (names(paradex), stored.new, stored.touched) == ([], 0, set())
        assert stored.skipped == {"taken back": 3}


def test_all_kinds_of_a_bust_with_one_id_go(paradex: ExchangeCredential) -> None:
    put(paradex, fill(), fill("RPI:7", symbol="ETH-USD-PERP"), fill("LIQUIDATION:7"))
    stored = put(paradex, BUST, stream=1)
    assert names(paradex) == ["LIQUIDATION:7"]
    assert (stored.retracted, stored.touched) == (2, {SYMBOL_DAY, (SYMBOL_DAY[0], "ETH-USD-PERP")})


def test_a_bust_of_one_account_leaves_the_others_alone(paradex: ExchangeCredential) -> None:
    other = factories.credential("paradex", label="Sub", secrets={"token": DEMO_SUB_TOKEN})
    put(paradex, fill())
    put(other, fill())
    put(paradex, BUST, stream=1)
    assert (names(paradex), names(other)) == ([], ["FILL:7"])
    assert put(other, fill()).seen == 1


def test_rows_of_every_sort_on_one_page_add_up(paradex: ExchangeCredential) -> None:
    put(paradex, fill())
    page = (fill(), fill("FILL:8"), fill("FILL:8"), BUST, Skipped("spot"), Held("{}", "unknown"), fill("RPI:7"))
    stored = put(paradex, *page, stream=0)
    assert names(paradex) == ["FILL:8"]
    assert stored.rows == stored.new + stored.seen + stored.held + stored.skipped.total() == 7
    assert (stored.new, stored.retracted, stored.held) == (1, 1, 1)


def test_taking_a_fill_back_says_nothing_of_what_was_read(paradex: ExchangeCredential) -> None:
    window = Window(NOW - DAY, NOW)
    put(paradex, BUST, stream=1, covered=window)
    assert [(row.stream, row.from_at, row.until_at) for row in paradex.coverage.all()] == [
        ("trade busts", window.since, window.until)
    ]


# --- What changes after it had been called read ----------------------------------------------------------------------


def changes(stored: sync.Stored) -> list[tuple[Any, ...]]:
    return [(change.day, change.symbol, str(change.cause), change.fills, change.notional) for change in stored.changes]


def test_a_fill_that_is_new_in_a_time_called_read_is_late_and_one_of_a_moment_ago_is_not(
    paradex: ExchangeCredential,
) -> None:
    day = (NOW - DAY).date()
    just_now = fill("FILL:1", executed_at=NOW - timedelta(seconds=20))
    assert changes(put(paradex, fill(), covered=Window(NOW - 2 * DAY, NOW))) == []
    assert changes(put(paradex, just_now, covered=Window(NOW - 2 * DAY, NOW))) == []
    late = put(paradex, fill(), fill("FILL:8"), fill("FILL:9"), covered=Window(NOW - 2 * DAY, NOW))
    assert changes(late) == [(day, "BTC-USD-PERP", "late", 2, Decimal(200_000))]
    assert late.changes[0].why == "2 fills: not in the venue's list when that time was first read."
    assert changes(put(paradex, fill("FILL:8"), covered=Window(NOW - 2 * DAY, NOW))) == []


def test_what_the_venue_says_last_of_a_fill_counts(paradex: ExchangeCredential) -> None:
    put(paradex, fill(), covered=Window(NOW - 2 * DAY, NOW))
    stored = put(paradex, fill(price=Decimal("49999.50"), notional=Decimal(99_999), fee=Decimal("44.5")))
    assert changes(stored) == [(*SYMBOL_DAY, "changed", 0, Decimal(-1))]
    assert stored.touched == {SYMBOL_DAY}
    kept = paradex.fills.get()
    assert (kept.price, kept.notional, kept.fee) == (Decimal("49999.5"), Decimal(99_999), Decimal("44.5"))
    assert "price 50000 is now 49999.5, notional 100000 is now 99999, fee 45 is now 44.5" in stored.changes[0].why
    again = put(paradex, fill(price=Decimal("49999.5"), notional=Decimal("99999.0"), fee=Decimal("44.50")))
    assert (changes(again), again.seen) == ([], 1)


def test_a_renamed_market_moves_its_fills_and_the_rest_is_looked_for(paradex: ExchangeCredential) -> None:
    old = fill("FILL:8", executed_at=NOW - 3 * DAY)
    put(paradex, fill(), old, covered=Window(NOW - 4 * DAY, NOW))
    stored = put(paradex, fill(symbol="XBT-USD-PERP", base="XBT"))
    day = (NOW - DAY).date()
    assert changes(stored) == [
        (day, "BTC-USD-PERP", "renamed", -1, Decimal(-100_000)),
        (day, "XBT-USD-PERP", "renamed", 1, Decimal(100_000)),
    ]
    assert stored.touched == {(day, "BTC-USD-PERP"), (day, "XBT-USD-PERP")}
    assert {row.from_at for row in paradex.rereads.all()} == {old.executed_at}


def test_the_kind_of_a_fill_stays_what_it_was_when_another_list_tells_it_differently(
    paradex: ExchangeCredential,
) -> None:
    put(paradex, fill())
    assert changes(put(paradex, fill(kind=Kind.TWAP))) == []
    assert paradex.fills.get().kind == Kind.TRADE


def test_a_change_of_a_time_that_was_never_called_read_is_followed_and_no_news(paradex: ExchangeCredential) -> None:
    put(paradex, fill())
    stored = put(paradex, fill(fee=Decimal(44), liquidity=Liquidity.MAKER))
    assert (changes(stored), stored.touched) == ([], {SYMBOL_DAY})
    assert (paradex.fills.get().fee, paradex.fills.get().liquidity) == (Decimal(44), Liquidity.MAKER)


def test_asking_again_and_again_leaves_one_range(account: ExchangeCredential) -> None:
    for hours in range(20):
        now = NOW + timedelta(hours=hours)
        sync.ask_again(account, Window(now - 3 * DAY, now), now=now, is_daily=True)
        sync.ask_again(account, Window(now - DAY, now), now=now)
    daily, wanted = (account.rereads.filter(is_daily=flag) for flag in (True, False))
    assert (daily.count(), wanted.count()) <= (2, 1)
    windows = sorted(Window(row.from_at, row.until_at) for row in account.rereads.all())
    assert (windows[0].since, windows[-1].until) == (NOW - 3 * DAY, NOW + timedelta(hours=19))
    assert all(first.until <= second.since for first, second in pairwise(windows))


# --- Pages in bulk ---------------------------------------------------------------------------------------------------

ODD_TEXTS = ["tab\there", "back\\slash \\N", "two\nlines\r", "quote \" and '", "percent %s {}", "Ünï, ✓", ""]


def test_whatever_a_name_is_written_with_it_is_stored_and_known_again(paradex: ExchangeCredential) -> None:
    reports = [fill(f"{number} {text}", symbol=text, base=text, quote=text[:20], fee_asset=text[:20])
               for number, text in enumerate(ODD_TEXTS)]  # fmt: skip
    assert put(paradex, *reports).new == len(reports)
    for report in reports:
        there = paradex.fills.get(fill_id=report.fill_id)
        assert (there.symbol, there.base, there.quote, there.fee_asset) == (
            report.symbol, report.base, report.quote, report.fee_asset,
        )  # fmt: skip
    again = put(paradex, *reports, covered=Window(NOW - 2 * DAY, NOW))
    assert (again.new, again.seen, again.touched, again.changes) == (0, len(reports), set(), [])


def test_numbers_and_moments_are_stored_exactly_and_known_again(paradex: ExchangeCredential) -> None:
    numbers = [Decimal(text) for text in ("1E+20", "0.10", "1E-30", "7", "123456789.123456789012345678901234567890")]
    moments = [NOW - DAY, NOW - DAY + timedelta(microseconds=1), NOW - DAY + timedelta(milliseconds=120)]
    reports = [
        fill(f"{number} {moment}", price=number, qty=number, fee=-number, realized_pnl=number, executed_at=moment)
        for number in numbers
        for moment in moments
    ]
    assert put(paradex, *reports).new == len(reports)
    for report in reports:
        there = paradex.fills.get(fill_id=report.fill_id)
        assert (there.price, there.qty, there.fee, there.realized_pnl, there.executed_at, there.day) == (
            report.price, report.qty, report.fee, report.realized_pnl, report.executed_at, report.executed_at.date(),
        )  # fmt: skip
    again = put(paradex, *reports)
    assert (again.new, again.seen, again.touched) == (0, len(reports), set())


def test_a_notional_of_many_digits_is_rounded_once_and_known_again(paradex: ExchangeCredential) -> None:
    report = fill(notional=Decimal("0.123456785"))
    assert put(paradex, report).new == 1
    assert paradex.fills.get().notional == Decimal("0.12345678")  # half to even
    assert put(paradex, report).touched == set()


def test_a_page_longer_than_one_question_is_stored_whole_and_once(paradex: ExchangeCredential) -> None:
    reports = [fill(f"FILL:{number}") for number in range(1201)]
    assert put(paradex, *reports[::2]).new == 601
    mixed = put(paradex, *reports)
    assert (mixed.new, mixed.seen, paradex.fills.count()) == (600, 601, 1201)
    changed = msgspec.structs.replace(reports[1200], fee=Decimal(46))
    assert put(paradex, *reports[:1200], changed).touched == {SYMBOL_DAY}
    assert paradex.fills.get(fill_id="FILL:1200").fee == 46


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no statistics to be misled by")
def test_a_fill_is_looked_up_by_its_key_where_statistics_know_nothing_of_its_account(
    paradex: ExchangeCredential,
) -> None:
    other = factories.credential("paradex", label="Sub", secrets={"token": DEMO_SUB_TOKEN})
    put(other, *(fill(f"FILL:{number}") for number in range(3000)))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE exchanges_fill")
    put(paradex, *(fill(f"FILL:{number}") for number in range(1000)))
    with CaptureQueriesContext(connection) as queries:
        put(paradex, *(fill(f"FILL:{number}") for number in range(1000)))
    (asked,) = [query["sql"] for query in queries if "json_array_elements_text" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {asked}".replace("%", "%%"), [])
        plan = [line for (line,) in cursor.fetchall()]
    (condition,) = [line for line in plan if "Index Cond" in line]
    assert "credential_id" in condition and "fill_id" in condition
    assert not [line for line in plan if "Seq Scan" in line or "Filter" in line]


def test_a_fill_that_is_here_at_another_time_is_followed_and_not_stored_twice(paradex: ExchangeCredential) -> None:
    put(paradex, fill("FILL:1", executed_at=NOW - 3 * DAY))
    stored = put(paradex, fill("FILL:1"), fill("FILL:2"))
    assert (stored.new, stored.seen) == (1, 1)
    assert dict(paradex.fills.values_list("fill_id", "executed_at")) == {"FILL:1": NOW - DAY, "FILL:2": NOW - DAY}
