"""The Hyperliquid connector: rows to reports, and every trap of the venue's lists."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from exchanges.sandbox import hyperliquid as sandbox_venue
from exchanges.venues.base import (
    CredentialsRejected,
    FillReport,
    Held,
    Kind,
    Liquidity,
    Page,
    PayloadError,
    Reason,
    Side,
    Skipped,
    Window,
    from_ms,
    to_ms,
)
from exchanges.venues.http import Budget
from exchanges.venues.hyperliquid import Hyperliquid, HyperliquidCredentials
from tests import factories

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ME = "0x00000000000000000000000000000000000000aa"
PAYLOADS = Path(__file__).resolve().parents[2] / "payloads/hyperliquid"
FILLS, TWAP = Hyperliquid.streams


def row(**changes: Any) -> dict[str, Any]:
    return factories.hyperliquid_row(NOW - timedelta(minutes=1), **changes)


def twap(**changes: Any) -> dict[str, Any]:
    return {"fill": row(**changes), "twapId": 5}


@dataclass
class Bench:
    """The connector beside the sandbox it talks to."""

    sandbox: sandbox_venue.Hyperliquid
    venue: Hyperliquid

    def read(
        self, stream: Any = FILLS, since: datetime = NOW - timedelta(days=30), until: datetime = NOW
    ) -> list[Page]:
        return list(self.venue.fetch_fills(stream, Window(since, until)))

    def one(self, **changes: Any) -> Any:
        self.sandbox.add(ME, rows=[row(**changes)])
        (outcome,) = outcomes(self.read())
        return outcome


def outcomes(pages: list[Page]) -> list[Any]:
    return [item for page in pages for item in page.rows]


def bench(address: str = ME, **options: Any) -> Bench:
    sandbox = sandbox_venue.Hyperliquid(lambda: NOW, **{"weight_per_minute": 10**9} | options)
    venue = Hyperliquid(
        HyperliquidCredentials(address=address),
        transport=httpx.MockTransport(sandbox), budget=Budget(share=1000), sleep=lambda seconds: None,
    )  # fmt: skip
    return Bench(sandbox, venue)


@pytest.fixture
def hyperliquid() -> Iterator[Bench]:
    made = bench()
    yield made
    made.venue.close()


# --- Rows ------------------------------------------------------------------------------------------------------------


def payload(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text())["response"]


def test_the_venues_own_examples_are_read_exactly(hyperliquid: Bench) -> None:
    names = [path.stem for path in PAYLOADS.glob("user_fills_by_time*.json")]
    assert names
    rows = [item for name in names for item in payload(name)]
    parsed = [hyperliquid.venue.parse_held("fills", json.dumps(item)) for item in rows]
    assert not [item for item in parsed if isinstance(item, Held)]
    btc = next(item for item in parsed if isinstance(item, FillReport) and item.symbol == "BTC")
    assert btc.notional == Decimal("8803.897980")
    assert btc.fee == Decimal("4.401949")  # the builder's part is inside
    assert (btc.side, btc.liquidity, btc.kind) == (Side.BUY, Liquidity.TAKER, Kind.TRADE)
    assert btc.executed_at == from_ms(1794993322113)


def test_a_market_of_a_builders_dex_counts_in_the_dexs_collateral(hyperliquid: Bench) -> None:
    report = hyperliquid.one(coin="hyna:ETH", feeToken="USDE", fee="0.1")
    assert (report.symbol, report.base, report.quote, report.fee_asset) == ("hyna:ETH", "ETH", "USDE", "USDE")


def test_a_market_of_a_dex_that_is_gone_counts_in_what_its_fee_was_paid_in(hyperliquid: Bench) -> None:
    assert hyperliquid.one(coin="gone:ETH", feeToken=" USDH").quote == "USDH"


def test_a_market_of_a_dex_that_is_gone_and_paid_no_named_fee_is_held(hyperliquid: Bench) -> None:
    assert isinstance(hyperliquid.one(coin="gone:ETH", feeToken=None), Held)


@pytest.mark.parametrize(
    ("coin", "kind"), [("@107", "spot"), ("PURR/USDC", "spot"), ("#123", "outcome"), ("+123", "outcome")]
)
def test_what_is_no_perpetual_is_skipped_by_kind(hyperliquid: Bench, coin: str, kind: str) -> None:
    assert hyperliquid.one(coin=coin, dir="Buy") == Skipped(kind)


def test_settlement_of_a_delisted_market_is_not_volume(hyperliquid: Bench) -> None:
    assert hyperliquid.one(dir="Settlement") == Skipped("settlement")


def test_own_liquidation_is_forced(hyperliquid: Bench) -> None:
    own = {"liquidatedUser": ME.upper().replace("0X", "0x"), "markPx": "1", "method": "market"}
    assert hyperliquid.one(dir="Close Long", liquidation=own).kind == Kind.LIQUIDATION


def test_the_dir_alone_tells_a_liquidation(hyperliquid: Bench) -> None:
    assert hyperliquid.one(dir="Liquidated Isolated Short").kind == Kind.LIQUIDATION


def test_trading_against_a_liquidated_account_is_an_ordinary_fill(hyperliquid: Bench) -> None:
    others = {"liquidatedUser": "0x" + "b" * 40, "markPx": "1", "method": "market"}
    assert hyperliquid.one(liquidation=others, crossed=False).kind == Kind.TRADE


def test_a_liquidation_that_does_not_say_whose_is_held(hyperliquid: Bench) -> None:
    assert isinstance(hyperliquid.one(liquidation={"markPx": "1", "method": "market"}), Held)


def test_auto_deleveraging_is_forced(hyperliquid: Bench) -> None:
    assert hyperliquid.one(dir="Auto-Deleveraging").kind == Kind.ADL


def test_a_zero_hash_makes_a_fill_neither_a_twap_nor_a_liquidation(hyperliquid: Bench) -> None:
    assert hyperliquid.one(hash="0x" + "0" * 64, crossed=False).kind == Kind.TRADE


def test_a_rebate_stays_negative_and_the_builders_fee_is_not_added_again(hyperliquid: Bench) -> None:
    assert hyperliquid.one(fee="-1.5").fee == Decimal("-1.5")
    assert hyperliquid.one(fee="4.401949", builderFee="0.440195").fee == Decimal("4.401949")


def test_a_row_of_2023_without_tid_and_fee_token_is_a_fill(hyperliquid: Bench) -> None:
    old = row(fee="0.0")
    del old["tid"], old["feeToken"], old["twapId"]
    hyperliquid.sandbox.add(ME, rows=[old])
    (report,) = outcomes(hyperliquid.read())
    assert (report.fee_asset, report.notional) == ("USDC", Decimal(100000))


def test_more_fills_in_a_millisecond_than_a_cap_of_500_are_not_taken_for_the_end(hyperliquid: Bench) -> None:
    at = to_ms(NOW) - 5000
    hyperliquid.sandbox.page = 500
    hyperliquid.sandbox.add(ME, rows=[row(tid=i, time=at) for i in range(600)] + [row(tid=999, time=at + 7)])
    pages = hyperliquid.read(since=NOW - timedelta(minutes=10))
    assert any(report.executed_at == from_ms(at + 7) for report in outcomes(pages))


@pytest.mark.parametrize(
    "changes", [{"px": "9" * 12, "sz": "9" * 12}, {"coin": "X" * 70}, {"startPosition": "1E+999999999"}]
)
def test_a_row_beyond_all_reason_is_held(hyperliquid: Bench, changes: dict[str, Any]) -> None:
    assert isinstance(hyperliquid.one(**changes), Held)


@pytest.mark.parametrize(
    "changes", [{"dir": "Teleport Long"}, {"side": "S"}, {"px": "-1"}, {"sz": "0"}, {"px": "NaN"}, {"crossed": None}]
)
def test_a_row_that_is_not_understood_is_held_raw_with_its_time(hyperliquid: Bench, changes: dict[str, Any]) -> None:
    held = hyperliquid.one(**changes, aFieldNobodyKnows=1)
    assert isinstance(held, Held)
    assert json.loads(held.row)["aFieldNobodyKnows"] == 1
    assert held.executed_at == from_ms(row()["time"])


def test_an_unknown_field_is_nothing(hyperliquid: Bench) -> None:
    assert isinstance(hyperliquid.one(deployerFee="0.1"), FillReport)


def test_both_sides_of_a_match_with_oneself_are_two_fills(hyperliquid: Bench) -> None:
    hyperliquid.sandbox.add(ME, rows=[row(side="B"), row(side="A", crossed=False)])
    assert len({report.fill_id for report in outcomes(hyperliquid.read())}) == 2


# --- The walk --------------------------------------------------------------------------------------------------------


def covered(pages: list[Page]) -> list[Window]:
    return [page.covered for page in pages if page.covered]


def test_an_idle_poll_is_one_request_a_list(hyperliquid: Bench) -> None:
    hyperliquid.sandbox.add(ME)
    pages = hyperliquid.read(since=NOW - timedelta(minutes=10))
    assert hyperliquid.venue.traffic.requests == 1
    assert covered(pages) == [Window(NOW - timedelta(minutes=10), NOW)]


def test_no_row_is_lost_where_a_page_ends_inside_a_millisecond(hyperliquid: Bench) -> None:
    at = to_ms(NOW) - 1_000_000
    rows = [row(tid=i, time=at + (0 if i < 1990 else 5 if i < 2050 else i)) for i in range(4100)]
    hyperliquid.sandbox.add(ME, rows=rows)
    reports = outcomes(hyperliquid.read())
    assert len(reports) == len({report.fill_id for report in reports}) == 4100


def test_a_short_page_is_not_taken_for_the_end(hyperliquid: Bench) -> None:
    hyperliquid.sandbox.page = 500  # what the venue's general rule for ranges says
    hyperliquid.sandbox.add(ME, rows=[row(tid=i, time=to_ms(NOW) - 10_000_000 + i) for i in range(1700)])
    assert len(outcomes(hyperliquid.read())) == 1700


def test_a_venue_that_answers_newest_first_is_walked_backwards() -> None:
    rows = [row(tid=i, time=to_ms(NOW) - 10_000_000 + i // 3) for i in range(5000)]
    whole = bench()
    whole.sandbox.add(ME, rows=rows)

    def newest_first(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        if asked["type"] == "userFillsByTime":
            request = httpx.Request(request.method, request.url, json=asked | {"reversed": True})
        return whole.sandbox(request)

    venue = Hyperliquid(
        HyperliquidCredentials(address=ME), transport=httpx.MockTransport(newest_first), budget=Budget(share=1000)
    )
    pages = list(venue.fetch_fills(FILLS, Window(NOW - timedelta(days=1), NOW)))
    assert len({report.fill_id for report in outcomes(pages)}) == 5000
    assert covered(pages) == [Window(NOW - timedelta(days=1), NOW)]


def test_more_fills_in_one_millisecond_than_a_page_holds_are_told_as_a_gap(hyperliquid: Bench) -> None:
    at = to_ms(NOW) - 5000
    hyperliquid.sandbox.add(ME, rows=[row(tid=i, time=at) for i in range(2500)] + [row(tid=9999, time=at + 7)])
    pages = hyperliquid.read(since=NOW - timedelta(minutes=10))
    stuck = [page.gap for page in pages if page.gap]
    seen = {report.fill_id for report in outcomes(pages)}
    assert len(seen) == 2501 or [gap.window for gap in stuck] == [Window(from_ms(at), from_ms(at + 1))]
    assert not [window for window in covered(pages) if stuck and window.since <= from_ms(at) < window.until]
    assert any(report.executed_at == from_ms(at + 7) for report in outcomes(pages))


def test_each_page_claims_only_up_to_the_millisecond_that_may_go_on(hyperliquid: Bench) -> None:
    start = NOW - timedelta(minutes=20)
    hyperliquid.sandbox.add(
        ME, rows=[row(tid=0, time=1)] + [row(tid=i, time=to_ms(start) + i * 100) for i in range(3000)]
    )
    pages = hyperliquid.read(since=start)
    assert covered(pages)[0] == Window(start, from_ms(to_ms(start) + 1999 * 100))
    assert covered(pages)[-1] == Window(start, NOW)


# --- What is gone ----------------------------------------------------------------------------------------------------


def test_the_horizon_of_10000_fills_is_told_with_its_date() -> None:
    made = bench(sandbox_venue.DEMO_BOT)
    since = NOW - timedelta(days=730)
    pages = made.read(since=since)
    gone = next(page.out_of_reach for page in pages if page.out_of_reach)
    oldest = min(report.executed_at for report in outcomes(pages) if isinstance(report, FillReport))
    assert gone.window.since == since
    assert abs(gone.window.until - oldest) < timedelta(days=1)
    assert f"nothing before {gone.window.until:%Y-%m-%d %H:%M} UTC" in gone.why
    assert covered(pages) == [Window(gone.window.until, NOW)]


def test_an_account_that_fits_into_the_memory_is_complete() -> None:
    made = bench(sandbox_venue.DEMO_TRADER)
    since = NOW - timedelta(days=730)
    for stream in Hyperliquid.streams:
        pages = made.read(stream, since=since)
        assert covered(pages)[-1] == Window(since, NOW)
        assert not [page for page in pages if page.out_of_reach]


def test_a_poll_of_a_busy_account_is_not_taken_for_the_horizon(hyperliquid: Bench) -> None:
    rows = [row(tid=i, time=to_ms(NOW) - 3_000_000 + i * 200) for i in range(15_000)]
    hyperliquid.sandbox.add(ME, rows=rows)
    kept_since = from_ms(rows[-9_950]["time"])
    pages = hyperliquid.read(since=kept_since)
    assert covered(pages)[-1] == Window(kept_since, NOW)


def test_fills_lost_during_an_absence_are_told(hyperliquid: Bench) -> None:
    rows = [row(tid=i, time=to_ms(NOW) - 3_000_000 + i * 200) for i in range(15_000)]
    hyperliquid.sandbox.add(ME, rows=rows)
    since = from_ms(rows[100]["time"])
    gone = next(page.out_of_reach for page in hyperliquid.read(since=since) if page.out_of_reach)
    assert gone.window == Window(since, from_ms(rows[5_000]["time"] + 1))


def test_a_first_fill_that_starts_from_an_open_position_shows_that_older_ones_are_gone(hyperliquid: Bench) -> None:
    hyperliquid.sandbox.add(ME, rows=[row(startPosition="1.5", dir="Close Long", side="A", sz="1.5")])
    gone = next(page.out_of_reach for page in hyperliquid.read() if page.out_of_reach)
    assert "starts from an open position of 1.5" in gone.why


def test_a_position_that_twap_slices_opened_hides_nothing(hyperliquid: Bench) -> None:
    slices = [twap(tid=7, time=row()["time"] - 1000, sz="1.5")]
    hyperliquid.sandbox.add(ME, rows=[row(startPosition="1.5", dir="Close Long", side="A", sz="1.5")], twap=slices)
    assert not [page for page in hyperliquid.read() if page.out_of_reach]


def test_slices_of_a_twap_order_are_read_from_their_own_list_and_have_the_id_they_have_elsewhere(
    hyperliquid: Bench,
) -> None:
    hyperliquid.sandbox.add(ME, rows=[row(tid=7)], twap=[twap(tid=7), twap(tid=8)])
    (fill,) = outcomes(hyperliquid.read(FILLS))
    slices = outcomes(hyperliquid.read(TWAP))
    assert [report.kind for report in slices] == [Kind.TWAP, Kind.TWAP]
    assert fill.fill_id in {report.fill_id for report in slices}


# --- Who is this -----------------------------------------------------------------------------------------------------


def test_an_address_is_lowered_and_trimmed() -> None:
    assert HyperliquidCredentials.parse({"address": " 0xAB" + "0" * 38 + " "}).address == "0xab" + "0" * 38


@pytest.mark.parametrize("address", ["", "0x12", "0x" + "g" * 40, "vitalik.eth", "0x" + "1" * 41])
def test_what_is_no_address_is_refused_in_words(address: str) -> None:
    with pytest.raises(CredentialsRejected) as refused:
        HyperliquidCredentials.parse({"address": address})
    assert refused.value.reason == Reason.MALFORMED


@pytest.mark.parametrize("key", ["0x" + "a1" * 32, "a1" * 32])
def test_a_private_key_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(CredentialsRejected, match="private key") as refused:
        HyperliquidCredentials.parse({"address": key})
    assert "a1a1" not in str(refused.value)


def test_an_agent_address_is_told_whose_agent_it_is() -> None:
    with pytest.raises(CredentialsRejected, match=sandbox_venue.DEMO_TRADER) as refused:
        bench(sandbox_venue.DEMO_AGENT).venue.identify()
    assert refused.value.reason == Reason.AGENT


def test_an_address_the_venue_never_saw_is_refused() -> None:
    with pytest.raises(CredentialsRejected) as refused:
        bench("0x" + "9" * 40).venue.identify()
    assert refused.value.reason == Reason.UNKNOWN_ACCOUNT


def test_sub_accounts_are_named_with_their_addresses() -> None:
    identity = bench(sandbox_venue.DEMO_TRADER).venue.identify()
    assert [(item.label, item.values) for item in identity.related] == [("grid", {"address": sandbox_venue.DEMO_SUB})]
    assert not identity.may_trade


def test_a_sub_account_is_told_its_master() -> None:
    assert sandbox_venue.DEMO_TRADER in bench(sandbox_venue.DEMO_SUB).venue.identify().description


def test_a_question_the_venue_does_not_understand_is_a_payload_error(hyperliquid: Bench) -> None:
    hyperliquid.sandbox.fail(status=422, body=b"Failed to deserialize the JSON body into the target type")
    with pytest.raises(PayloadError, match="HTTP 422"):
        hyperliquid.read()
