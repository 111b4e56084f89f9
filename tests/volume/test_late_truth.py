"""What venues say late: totals follow, and what changed, by how much and why is written down."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from exchanges.models import ExchangeCredential, HeldRow, SyncRun
from exchanges.sandbox import Sandbox, bybit, paradex
from exchanges.sandbox.base import to_ms
from exchanges.venues.base import Window
from tests import factories
from tests.conftest import NOW
from volume import holding
from volume.models import Amendment, DailyVolume
from volume.refresh import Wanted, refresh, reparse
from volume.rollup import differences

pytestmark = pytest.mark.django_db
ME = "0x00000000000000000000000000000000000000aa"
UID = "77"
DAY = timedelta(days=1)


def read(credential: ExchangeCredential, clock: Any, **wanted: Any) -> SyncRun:
    credential.refresh_from_db()
    return refresh(credential, now=clock.now(), wanted=Wanted(**wanted))


def total(credential: ExchangeCredential) -> Decimal:
    return sum((day.notional_usd for day in DailyVolume.objects.filter(credential=credential)), Decimal(0))


def told(credential: ExchangeCredential) -> list[tuple[str, str, int, Decimal]]:
    """(cause, market, fills, dollars) of what changed, oldest first."""
    rows = credential.amendments.order_by("pk")
    return [(row.cause, row.symbol, row.fills, row.notional_usd) for row in rows]


@pytest.fixture
def mine(clock: Any, sandbox: Sandbox) -> ExchangeCredential:
    """An address with one fill of 100,000 dollars, five days ago, read and examined."""
    sandbox.hyperliquid.add(ME, rows=[factories.hyperliquid_row(NOW - 5 * DAY)])
    made = factories.credential(secrets={"address": ME})
    assert read(made, clock).outcome == SyncRun.Outcome.COMPLETE
    return made


def test_a_fill_that_appears_days_late_is_found_by_the_daily_second_look(
    mine: ExchangeCredential, sandbox: Sandbox, clock: Any
) -> None:
    late = factories.hyperliquid_row(NOW - DAY, tid=2, sz="1")
    sandbox.hyperliquid.add(ME, rows=[factories.hyperliquid_row(NOW - 5 * DAY), late])
    clock.move(3600)
    assert read(mine, clock).new == 0  # a poll asks for the last minutes only
    clock.move(24 * 3600)
    run = read(mine, clock)
    assert (run.new, run.amended, total(mine)) == (1, 1, Decimal(150_000))
    assert told(mine) == [("late", "BTC", 1, Decimal(50_000))]
    assert "wanted once more" in run.asked
    assert not differences(mine)


def test_an_older_one_is_found_when_its_range_is_read_again(
    mine: ExchangeCredential, sandbox: Sandbox, clock: Any
) -> None:
    late = factories.hyperliquid_row(NOW - 40 * DAY, tid=2, sz="1")
    sandbox.hyperliquid.add(ME, rows=[late, factories.hyperliquid_row(NOW - 5 * DAY)])
    holding.read_again(mine, Window(NOW - 41 * DAY, NOW - 39 * DAY), now=clock.now())
    assert read(mine, clock).new == 1
    assert told(mine) == [("late", "BTC", 1, Decimal(50_000))]
    holding.read_again(mine, None, now=clock.now())
    run = read(mine, clock)
    assert (run.new, run.seen, total(mine)) == (0, 2, Decimal(150_000))
    assert not mine.rereads.exists()


def test_a_reading_wanted_once_more_and_cut_off_goes_on_later(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential("bybit", secrets=bybit.Bybit.demo_accounts[0][1], history_from=NOW - 90 * DAY)
    read(credential, clock)
    before = total(credential)
    holding.read_again(credential, None, now=clock.now())
    sandbox.bybit.after(9, lambda: sandbox.bybit.fail(status=500))
    assert read(credential, clock).outcome == SyncRun.Outcome.UNAVAILABLE
    left = sum((row.until_at - row.from_at for row in credential.rereads.all()), timedelta())
    assert timedelta() < left < 2 * 90 * DAY
    sandbox.bybit.heal()
    clock.move(3600)
    assert read(credential, clock).outcome == SyncRun.Outcome.COMPLETE
    assert not credential.rereads.exists()
    assert total(credential) == before
    assert not told(credential)


def test_a_busted_trade_leaves_the_totals_and_is_told_with_its_reason(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential("paradex", secrets={"token": paradex.DEMO_TOKEN}, history_from=NOW - 20 * DAY)
    read(credential, clock)
    fill = credential.fills.filter(kind="trade").order_by("-executed_at")[3]
    before = total(credential)
    sandbox.paradex.bust(credential.account_ref, fill.fill_id.split(":")[1])
    clock.move(3600)
    run = read(credential, clock)
    assert total(credential) == before - fill.notional + sum(
        (new.notional for new in credential.fills.filter(executed_at__gte=NOW).exclude(kind="liquidation")), Decimal(0)
    )
    assert run.retracted == 1
    assert told(credential) == [("taken_back", fill.symbol, -1, -fill.notional)]
    (row,) = Amendment.objects.all()
    assert (row.day, row.seen_at.date()) == (fill.day, NOW.date())
    assert row.why.startswith(f"{fill.side} ")
    assert "chain" in row.why
    assert not differences(credential)


def bybit_row(name: str, at: Any, **changes: Any) -> dict[str, Any]:
    """A purchase of 0.5 BTC at 60,000, as Bybit sends it."""
    return {
        "symbol": "BTCUSDT", "orderId": "o", "side": "Buy", "execFee": "16.5", "execId": name, "execPrice": "60000",
        "execQty": "0.5", "execType": "Trade", "execValue": "30000", "execTime": str(to_ms(at)), "feeCurrency": "USDT",
        "isMaker": False, "feeRate": "0.00055", "closedSize": "0", "leavesQty": "0", "seq": 1, "extraFees": "",
        "createType": "CreateByUser",
    } | changes  # fmt: skip


KEY = {"api_key": "EXAMPLEKEY0000000Z", "api_secret": "example-secret-not-real-late-truth"}


def unified(sandbox: Sandbox, *rows: dict[str, Any], **options: Any) -> ExchangeCredential:
    sandbox.bybit.add(UID, bybit.Key(KEY), rows={"linear": rows}, **options)
    return factories.credential("bybit", secrets=KEY, history_from=NOW - 60 * DAY)


def test_a_renamed_market_takes_its_fills_along_and_the_page_can_say_so(clock: Any, sandbox: Sandbox) -> None:
    recent, old = bybit_row("1", NOW - DAY), bybit_row("2", NOW - 30 * DAY)
    credential = unified(sandbox, recent, old)
    read(credential, clock)
    for row in (recent, old):
        row["symbol"] = "XBTUSDT"
    clock.move(25 * 3600)
    read(credential, clock)  # the daily second look sees the recent one, and asks for the rest
    clock.move(60)
    read(credential, clock)
    assert set(credential.days.values_list("symbol", flat=True)) == {"XBTUSDT"}
    assert total(credential) == Decimal(60_000)
    assert sorted(told(credential)) == sorted(
        [("renamed", "BTCUSDT", -1, Decimal(-30_000)), ("renamed", "XBTUSDT", 1, Decimal(30_000))] * 2
    )
    assert "symbol BTCUSDT is now XBTUSDT" in Amendment.objects.first().why
    assert not differences(credential)


def test_a_delisted_market_keeps_its_fills_and_changes_nothing(clock: Any, sandbox: Sandbox) -> None:
    credential = unified(sandbox, bybit_row("1", NOW - DAY, symbol="DOGEUSDT"), bybit_row("2", NOW - 2 * DAY))
    read(credential, clock)
    sandbox.bybit.odd = True  # DOGEUSDT is no longer among the instruments
    holding.read_again(credential, None, now=clock.now())
    run = read(credential, clock)
    assert (run.new, run.seen, run.held, total(credential)) == (0, 2, 0, Decimal(60_000))
    assert not told(credential)


def test_what_a_venue_changes_of_a_fill_is_followed_and_told(clock: Any, sandbox: Sandbox) -> None:
    row = bybit_row("1", NOW - DAY)
    credential = unified(sandbox, row)
    read(credential, clock)
    row |= {"execPrice": "59000", "execValue": "29500"}
    clock.move(25 * 3600)
    read(credential, clock)
    assert total(credential) == Decimal(29_500)
    assert told(credential) == [("changed", "BTCUSDT", 0, Decimal(-500))]
    assert not differences(credential)


def test_an_account_upgraded_in_the_middle_loses_nothing_and_doubles_nothing(clock: Any, sandbox: Sandbox) -> None:
    rows = [bybit_row("1", NOW - 30 * DAY), bybit_row("2", NOW - DAY)]
    credential = unified(sandbox, *rows, unified_status=1)
    read(credential, clock)
    assert sorted(credential.stream_names) == ["inverse", "linear"]
    # Traded after the last poll, then upgraded: both fills stand in the old list when we ask next.
    between = NOW + timedelta(minutes=30)
    sandbox.bybit.put(UID, "linear", bybit_row("3", between), bybit_row("4", between + timedelta(hours=3)))
    clock.move(3600)
    account = sandbox.bybit.accounts[UID]
    account.unified_status, account.upgraded_at = 6, clock.now()
    clock.move(4 * 3600)
    read(credential, clock)
    assert total(credential) == Decimal(90_000)
    clock.move(20 * 3600)
    read(credential, clock)  # the daily examination learns of the lists of before the upgrade
    credential.refresh_from_db()
    assert "linear before upgrade" in credential.stream_names
    assert set(credential.fills.values_list("fill_id", flat=True)) == {f"linear:{name}" for name in range(1, 5)}
    assert total(credential) == Decimal(120_000)
    assert not differences(credential)


def test_a_row_understood_after_an_upgrade_is_told_as_such(mine: ExchangeCredential, clock: Any) -> None:
    row = factories.hyperliquid_row(NOW - 2 * DAY, tid=9)
    HeldRow.objects.create(
        credential=mine, stream="fills", digest="0" * 64, raw=json.dumps(row), why="unknown", seen_at=NOW,
        executed_at=NOW - 2 * DAY,
    )  # fmt: skip
    assert reparse(mine, now=clock.now()) == (1, 0)
    assert told(mine) == [("understood", "BTC", 1, Decimal(100_000))]


def test_a_second_look_that_fails_is_not_called_complete_and_is_tried_later(
    mine: ExchangeCredential, sandbox: Sandbox, clock: Any
) -> None:
    sandbox.hyperliquid.fail(status=400)
    run = read(mine, clock, again=True)
    assert run.outcome != SyncRun.Outcome.COMPLETE
    sandbox.hyperliquid.heal()
    clock.move(60)
    holding.read_again(mine, Window(NOW - 10 * DAY, NOW - 9 * DAY), now=clock.now())
    sandbox.hyperliquid.after(4, lambda: None)
    clock.move(3600)
    assert read(mine, clock).outcome == SyncRun.Outcome.COMPLETE
    assert not mine.rereads.exists()


def test_a_range_that_cannot_be_read_once_more_is_said_of_the_run(clock: Any, sandbox: Sandbox) -> None:
    credential = unified(sandbox, bybit_row("1", NOW - DAY))
    read(credential, clock)
    clock.move(60)
    holding.read_again(credential, Window(NOW - 40 * DAY, NOW - 39 * DAY), now=clock.now())
    sandbox.bybit.after(3, lambda: sandbox.bybit.fail(status=400))
    run = read(credential, clock)
    assert run.outcome == SyncRun.Outcome.INCOMPLETE
    assert "1 range could not be read once more, tried again within the hour" in run.message
    assert credential.rereads.filter(retry_at__gt=clock.now()).exists()


def test_the_daily_second_look_goes_on_where_the_backfill_is_stopped(
    mine: ExchangeCredential, sandbox: Sandbox, clock: Any
) -> None:
    holding.stop_backfill(mine)
    late = factories.hyperliquid_row(NOW - DAY, tid=2, sz="1")
    sandbox.hyperliquid.add(ME, rows=[factories.hyperliquid_row(NOW - 5 * DAY), late])
    for _ in range(3):
        clock.move(25 * 3600)
        run = read(mine, clock)
        assert not mine.rereads.exists()
    assert (run.outcome, total(mine)) == (SyncRun.Outcome.COMPLETE, Decimal(150_000))


def test_what_lies_before_the_wanted_history_is_not_read_again(mine: ExchangeCredential, clock: Any) -> None:
    began = mine.history_from
    assert holding.read_again(mine, Window(NOW - 4000 * DAY, NOW - 3000 * DAY), now=clock.now()) is None
    read_from = holding.read_again(mine, Window(NOW - 4000 * DAY, NOW - 700 * DAY), now=clock.now())
    assert read_from == Window(began, NOW - 700 * DAY)
    mine.refresh_from_db()
    assert mine.history_from == began
