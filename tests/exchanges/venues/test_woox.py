"""The WOO X connector: rows to reports, a walk right whatever the venue leaves open, and what it says of keys."""

import json
import logging
import traceback
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import time_machine

from exchanges import doctor
from exchanges.connect import PATIENT
from exchanges.models import Health
from exchanges.sandbox import woox as sandbox_venue
from exchanges.sandbox.history import Truth, Truths
from exchanges.sandbox.woox import (
    DEMO_MAIN,
    DEMO_STAGING,
    DEMO_SUB,
    KEY_MAIN,
    KEY_OTHER_IP,
    KEY_STAGING,
    KEY_SUB,
    KEY_TRADE,
    KEY_TRADE_ONLY,
    KEY_WITHDRAWAL,
    Key,
)
from exchanges.venues.base import (
    BudgetSpent,
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
    VenueError,
    VenueUnavailable,
    Window,
    from_ms,
    subtract,
    to_ms,
)
from exchanges.venues.http import Budget
from exchanges.venues.woox import EDGE, MEMORY, AuthV1, AuthV3, Woox, WooxCredentials, ms_of
from tests import factories

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DAY, WEEK, MS = timedelta(days=1), timedelta(days=7), timedelta(milliseconds=1)
PAYLOADS = Path(__file__).resolve().parents[2] / "payloads/woox"
(STREAM,) = Woox.streams
FILLS, OLD_FILLS = "/v3/trade/transactionHistory", "/v1/client/hist_trades"
INFO, KEYS, SUBS, SYSTEM = (
    "/v3/account/info", "/v3/account/credentials", "/v3/account/subAccounts/all", "/v3/public/systemInfo",
)  # fmt: skip
ME = "00000000-0000-4000-8000-000000000009"
MINE = Key(api_key="wooxHandMadeKey0000009A==", secret="WOOXHANDMADESECRET0000000009")


def row(**changes: Any) -> dict[str, Any]:
    """A taker's buy of 0.02 BTC a minute ago, as v3 sends it."""
    return {
        "id": 2114380551, "symbol": "PERP_BTC_USDT", "orderId": 71544001822, "orderTag": "default",
        "executedPrice": "91250.5", "executedQuantity": "0.02", "isMaker": 0, "isMatchRpi": False, "side": "BUY",
        "fee": 0.912505, "feeAsset": "USDT", "realizedPnl": None, "executedTimestamp": to_ms(NOW) - 60_000,
    } | changes  # fmt: skip


def rows_at(*times: int, first_id: int = 1) -> list[dict[str, Any]]:
    return [row(id=number, executedTimestamp=ms) for number, ms in enumerate(times, start=first_id)]


@dataclass
class Bench:
    """The connector beside the sandbox it talks to."""

    sandbox: sandbox_venue.Woox
    venue: Woox
    sent: list[httpx.Request] = field(default_factory=list)

    def read(self, since: datetime = NOW - DAY, until: datetime = NOW) -> list[Page]:
        return list(self.venue.fetch_fills(STREAM, Window(since, until)))

    def one(self, **changes: Any) -> Any:
        self.sandbox.put(ME, "transactionHistory", row(**changes))
        (outcome,) = outcomes(self.read())
        return outcome

    def asked(self, path: str = FILLS) -> list[dict[str, str]]:
        """The parameters of the requests for a path, in their order."""
        return [dict(request.url.params) for request in self.sent if request.url.path == path]


Make = Callable[..., Bench]


def secrets_of(key: Key) -> dict[str, str]:
    return {"api_key": key.api_key, "api_secret": key.secret}


def bench_of(
    sandbox: sandbox_venue.Woox, clock: SimpleNamespace, key: Key = MINE, *, budget: Budget | None = None,
    patience: float = PATIENT, base_url: str = "", application_id: str = "",
) -> Bench:  # fmt: skip
    sent: list[httpx.Request] = []

    def note(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return sandbox(request)

    venue = Woox(
        WooxCredentials(**secrets_of(key), application_id=application_id), base_url=base_url,
        transport=httpx.MockTransport(note), budget=budget or Budget(), sleep=clock.move, patience=patience,
    )  # fmt: skip
    return Bench(sandbox, venue, sent)


@pytest.fixture
def make(clock: SimpleNamespace) -> Iterator[Make]:
    """Makes benches: of one key, with options of the sandbox."""
    made: list[Bench] = []
    of_the_bench = ("budget", "patience", "base_url", "application_id")

    def bench(key: Key = MINE, **options: Any) -> Bench:
        mine = {name: options.pop(name) for name in of_the_bench if name in options}
        sandbox = sandbox_venue.Woox(clock.now, **options)
        sandbox.add(ME, MINE)
        made.append(bench_of(sandbox, clock, key, **mine))
        return made[-1]

    yield bench
    for one in made:
        one.venue.close()


@pytest.fixture
def woox(make: Make) -> Bench:
    return make()


def script(clock: SimpleNamespace, *answers: Any, key: Key = MINE) -> tuple[Woox, list[httpx.Request]]:
    """The connector at a venue that gives these answers, one after the other."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        told = answers[len(asked) - 1]
        return told if isinstance(told, httpx.Response) else httpx.Response(200, text=told)

    venue = Woox(
        WooxCredentials(**secrets_of(key)), transport=httpx.MockTransport(answer), budget=Budget(), sleep=clock.move,
        patience=PATIENT,
    )  # fmt: skip
    return venue, asked


def payload(name: str) -> str:
    return (PAYLOADS / f"{name}.json").read_text()


def examples(name: str, *path: str) -> list[str]:
    """The rows of a payload, as text with the digits they have there."""
    found = json.loads(payload(name), parse_float=Decimal)
    for step in path:
        found = found[step]
    return [sandbox_venue.exact_json(one) for one in found]


def parsed(venue: Woox, raw: dict[str, Any] | str) -> Any:
    return venue.parse_held(STREAM.name, raw if isinstance(raw, str) else sandbox_venue.exact_json(raw))


def outcomes(pages: list[Page]) -> list[Any]:
    return [item for page in pages for item in page.rows]


def fills(pages: list[Page]) -> dict[str, FillReport]:
    return {item.fill_id: item for item in outcomes(pages) if isinstance(item, FillReport)}


def totals(pages: list[Page]) -> Truths:
    result: Truths = {}
    for report in fills(pages).values():
        day: tuple[date, str] = report.executed_at.date(), report.symbol
        result[day] = result.get(day, Truth()).plus(report.notional, is_forced=False)
    return result


def covered(pages: list[Page]) -> list[Window]:
    return [page.covered for page in pages if page.covered]


def gaps(pages: list[Page]) -> list[Window]:
    return [page.gap.window for page in pages if page.gap]


def refused(venue: Woox) -> CredentialsRejected:
    with pytest.raises(CredentialsRejected) as fault:
        venue.identify()
    return fault.value


# --- Signatures ------------------------------------------------------------------------------------------------------

DOCS = ("AbmyVJGUpN064ks5ELjLfA==", "QHKRXHPAW1MC9YGZMAT8YDJG2HPR")
RANGE = "symbol=PERP_BTC_USDT"


def signature(auth: httpx.Auth, target: str) -> str:
    request = httpx.Request("GET", f"https://api.woox.io{target}")
    with time_machine.travel(from_ms(1578565539808), tick=False):
        next(auth.auth_flow(request))
    assert request.headers["x-api-timestamp"] == "1578565539808"
    assert request.headers["x-api-key"] == DOCS[0]
    return request.headers["x-api-signature"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (
            f"{FILLS}?endTime=1760000000000&fromId=217714629&limit=500&startTime=1752192000000&{RANGE}",
            "e66f11c81bf29195cd91b8393165eca60f84c8725a80e3f601ab69822b891e02",
        ),
        (INFO, "4d1a0b826f2c6099f919eac99968b5de7700abf410e663ab4afc4b18bb917037"),
    ],
)
def test_the_worked_signatures_of_v3_come_out(target: str, expected: str) -> None:
    assert signature(AuthV3(*DOCS), target) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (
            "/v1/order?order_price=9000&order_quantity=0.11&order_type=LIMIT&side=BUY&symbol=SPOT_BTC_USDT",
            "20da0852f73b20da0208c7e627975a59ff072379883d8457d03104651032033d",
        ),
        (
            f"/v1/client/trades?end_t=1760000000000&page=1&size=500&start_t=1752192000000&{RANGE}",
            "96adf87397fbf6bcddd3eedaf758f77e0326df7335d7b5f1179273e9724fc21e",
        ),
        (
            f"{OLD_FILLS}?end_t=1760000000000&fromId=1&limit=1000&start_t=1752192000000",
            "c1503adc2a98d57db291fce8e4f49811419805ed78ac4a8579a3b36a3a3a6b55",
        ),
        ("/v1/nothing", "68f50830e2ff5cee44cfd44844322870c0bc9693c0c9c87b8b72e76e0154d73e"),  # as the WebSocket's
    ],
)
def test_the_worked_signatures_of_v1_come_out(target: str, expected: str) -> None:
    assert signature(AuthV1(*DOCS), target) == expected


def test_only_v1_names_a_content_type(woox: Bench) -> None:
    woox.read(NOW - MEMORY - WEEK, NOW - MEMORY + WEEK)
    types = {request.url.path: request.headers.get("content-type") for request in woox.sent}
    assert types == {FILLS: None, OLD_FILLS: "application/x-www-form-urlencoded"}


# --- Rows ------------------------------------------------------------------------------------------------------------


def test_the_venues_own_example_with_numbers_and_seconds_is_read_exactly(woox: Bench) -> None:
    perp, spot = (parsed(woox.venue, one) for one in examples("transaction_history", "data", "rows"))
    assert perp == FillReport(
        fill_id="2114380551", symbol="PERP_BTC_USDT", base="BTC", quote="USDT", side=Side.BUY,
        liquidity=Liquidity.TAKER, kind=Kind.TRADE, price=Decimal("91250.5"), qty=Decimal("0.02"),
        notional=Decimal("1825.01"), fee=Decimal("0.912505"), fee_asset="USDT", realized_pnl=None,
        executed_at=from_ms(1763599200114),
    )  # fmt: skip
    assert spot == Skipped("spot")


def test_the_venues_own_example_with_text_and_milliseconds_is_read_exactly(woox: Bench) -> None:
    (report,) = (parsed(woox.venue, one) for one in examples("transaction_history_hedge", "data", "rows"))
    assert (report.symbol, report.base) == ("PERP_1000PEPE_USDT", "1000PEPE")
    assert (report.side, report.liquidity, report.kind) == (Side.BUY, Liquidity.MAKER, Kind.RPI)
    assert report.notional == Decimal("1281.75")  # nothing multiplied by 1000 again
    assert (report.realized_pnl, report.executed_at) == (Decimal("4.1275"), from_ms(1763599801450))


def test_a_single_fill_and_the_list_of_v1_are_read_alike(woox: Bench) -> None:
    single = parsed(
        woox.venue, sandbox_venue.exact_json(json.loads(payload("transaction"), parse_float=Decimal)["data"])
    )
    (listed,) = (parsed(woox.venue, one) for one in examples("client_trades", "rows"))
    assert single == listed
    (old,) = (parsed(woox.venue, one) for one in examples("hist_trades", "data"))
    assert (old.fill_id, old.notional, old.liquidity) == ("217714629", Decimal("806.20"), Liquidity.MAKER)
    assert (old.side, old.executed_at) == (Side.SELL, from_ms(1683022290250))


@pytest.mark.parametrize(
    "told", ["1752055173.630", "1752055173630", "1752055173630.0", "1752055173.6300001"]
)  # fmt: skip
def test_a_time_is_told_by_its_size_whatever_its_spelling(woox: Bench, told: str) -> None:
    assert ms_of(Decimal(told)) == 1752055173630
    for spelled in (told, Decimal(told)):
        assert parsed(woox.venue, row(executedTimestamp=spelled)).executed_at == from_ms(1752055173630)


def test_whole_seconds_are_seconds(woox: Bench) -> None:
    assert parsed(woox.venue, row(executedTimestamp="1752055173")).executed_at == from_ms(1752055173000)


@pytest.mark.parametrize("told", ["", "soon", None, 0, -5, "NaN", "Infinity", "1E+30"])
def test_a_fill_without_a_time_is_held_and_stops_nothing(woox: Bench, told: Any) -> None:
    held = parsed(woox.venue, row(executedTimestamp=told))
    assert isinstance(held, Held)
    assert held.why.startswith("without an id or a time")


@pytest.mark.parametrize(
    ("told", "side"),
    [
        ("BUY", Side.BUY), ("OPEN LONG", Side.BUY), ("CLOSE SHORT", Side.BUY),
        ("SELL", Side.SELL), ("OPEN SHORT", Side.SELL), ("CLOSE LONG", Side.SELL),
    ],
)  # fmt: skip
def test_sides_of_both_modes_are_buys_and_sales(woox: Bench, told: str, side: Side) -> None:
    assert parsed(woox.venue, row(side=told)).side == side


@pytest.mark.parametrize("maker", [1, True])
def test_a_maker_is_told_by_number_or_truth(woox: Bench, maker: Any) -> None:
    assert parsed(woox.venue, row(isMaker=maker)).liquidity == Liquidity.MAKER
    assert parsed(woox.venue, row(isMaker=not maker)).liquidity == Liquidity.TAKER


@pytest.mark.parametrize(("told", "pnl"), [(None, None), ("null", None), ("", None), ("-4.5", "-4.5"), (2.5, "2.5")])
def test_a_realized_pnl_is_nothing_or_a_number(woox: Bench, told: Any, pnl: str | None) -> None:
    assert parsed(woox.venue, row(realizedPnl=told)).realized_pnl == (pnl and Decimal(pnl))


def test_a_fee_is_in_its_asset_and_a_rebate_stays_negative(woox: Bench) -> None:
    report = parsed(woox.venue, row(fee="-0.25", feeAsset="WOO"))
    assert (report.fee, report.fee_asset) == (Decimal("-0.25"), "WOO")


def test_the_quote_is_the_third_part_of_the_name(woox: Bench) -> None:
    assert parsed(woox.venue, row(symbol="PERP_ETH_USDC")).quote == "USDC"


def test_digits_of_numbers_are_kept_as_they_were_sent(woox: Bench) -> None:
    raw = sandbox_venue.exact_json(row(executedPrice=Decimal("0.10000000000000000555"), executedQuantity=Decimal(3)))
    assert parsed(woox.venue, raw).notional == Decimal("0.30000000000000001665")


def test_an_id_beyond_32_bits_stays_whole(woox: Bench) -> None:
    assert parsed(woox.venue, row(id=2**53 + 1)).fill_id == "9007199254740993"


@pytest.mark.parametrize(
    "changes",
    [
        {"symbol": "OPTION_BTC_USDT"}, {"symbol": "PERP_BTC"}, {"symbol": "PERP__USDT"}, {"symbol": "PERP_BTC_USDT_X"},
        {"symbol": ""}, {"symbol": "PERP_" + "X" * 70 + "_USDT"}, {"side": "HOLD"}, {"side": ""}, {"side": None},
        {"isMaker": 2}, {"isMaker": "1"}, {"isMaker": None}, {"executedPrice": ""}, {"executedPrice": "0"},
        {"executedPrice": None}, {"executedPrice": "-1"}, {"executedPrice": "NaN"}, {"executedPrice": "1E+300"},
        {"executedQuantity": "0"}, {"executedQuantity": "much"}, {"fee": ""}, {"fee": None}, {"realizedPnl": "abc"},
        {"realizedPnl": True}, {"realizedPnl": {}}, {"feeAsset": None}, {"feeAsset": "A" * 30}, {"symbol": None},
        {"executedPrice": "1E+20", "executedQuantity": "1E+20"},
    ],
    ids=str,
)  # fmt: skip
def test_a_row_that_is_not_understood_is_held_raw_with_its_time(woox: Bench, changes: dict[str, Any]) -> None:
    held = woox.one(**changes, aFieldNobodyKnows=1)
    assert isinstance(held, Held)
    assert json.loads(held.row)["aFieldNobodyKnows"] == 1
    assert held.why
    assert held.executed_at == from_ms(row()["executedTimestamp"])


@pytest.mark.parametrize("name", ["symbol", "side", "isMaker", "fee", "feeAsset", "executedPrice", "executedQuantity"])
def test_a_row_without_a_field_we_need_is_held(woox: Bench, name: str) -> None:
    less = row()
    del less[name]
    assert isinstance(parsed(woox.venue, less), Held)


@pytest.mark.parametrize("name", ["isMatchRpi", "realizedPnl", "orderTag", "orderId"])
def test_a_row_without_a_field_we_do_not_need_is_a_fill(woox: Bench, name: str) -> None:
    less = row()
    del less[name]
    assert isinstance(parsed(woox.venue, less), FillReport)


def test_what_is_held_of_v1_is_read_again_as_v1(woox: Bench) -> None:
    old = sandbox_venue._v1_row(row()) | {"side": "OPEN LONG"}
    assert parsed(woox.venue, old).side == Side.BUY
    assert isinstance(parsed(woox.venue, old | {"side": "HOLD"}), Held)


# --- The walk, whatever the venue leaves open ------------------------------------------------------------------------

ORDERS = ("ascending", "descending", "shuffled")
CAPS = (25, 100, 123, 500, 1000)
TOTALS = ("true", "page", "absent", "wrong")
# Whether fromId is exclusive, rows are repeated, the page is told: each pair of these together at least once.
SWITCHES = ((False, False, True), (True, False, False), (False, True, False), (True, True, True))
SPELLINGS = tuple(product((True, False), repeat=3))


@cache
def demo(seconds_text: bool, as_numbers: bool, hedge: bool) -> sandbox_venue.Woox:
    """The venue with one spelling; what else it leaves open is set by each test."""
    spelling = {"seconds_text": seconds_text, "as_numbers": as_numbers, "hedge": hedge}
    return sandbox_venue.Woox(lambda: NOW, fills_per_day=60, **sandbox_venue.Woox.unmetered, **spelling)


@cache
def known(since: datetime) -> tuple[tuple[int, str], ...]:
    """Time and id of every perpetual fill there is to read, oldest first."""
    rows = demo(*SPELLINGS[0]).accounts[DEMO_MAIN].rows(to_ms(since), to_ms(NOW))
    return tuple((sandbox_venue.time_of(one), str(one["id"])) for one in rows if one["symbol"].startswith("PERP_"))


def check_claims(pages: list[Page], there: tuple[tuple[int, str], ...]) -> None:
    """No page may claim a range of which a fill was not given by then."""
    given: set[str] = set()
    for page in pages:
        given |= {item.fill_id for item in page.rows if isinstance(item, FillReport)}
        if page.covered:
            first = bisect_left(there, (to_ms(page.covered.since), ""))
            last = bisect_left(there, (to_ms(page.covered.until), ""))
            assert {fill_id for _, fill_id in there[first:last]} <= given


@pytest.mark.parametrize(("cap", "exclusive", "tells_page", "drawn"), [(100, False, False, 19), (25, True, True, 36)])
def test_a_row_told_twice_does_not_stand_for_one_that_was_left_out(
    clock: SimpleNamespace, cap: int, exclusive: bool, tells_page: bool, drawn: int
) -> None:
    """A whole page may hold as many rows as there are, some of them twice, and so lack others."""
    since = NOW - {25: 2}.get(cap, 5) * DAY
    sandbox = demo(*SPELLINGS[0])
    sandbox.order, sandbox.total, sandbox.cap, sandbox.tells_page = "shuffled", "true", cap, tells_page
    sandbox.from_id_exclusive, sandbox.duplicates = exclusive, True
    sandbox._ends.clear()
    sandbox.calls.clear()
    sandbox.calls["drawn"] = drawn * 1000
    made = bench_of(sandbox, SimpleNamespace(move=lambda seconds: None), KEY_MAIN, budget=Budget(share=1e6))
    pages = made.read(since)
    made.venue.close()
    check_claims(pages, known(since))


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("order", ORDERS)
def test_every_fill_is_read_whatever_order_cap_ids_and_counts_are(
    clock: SimpleNamespace, order: Any, total: Any
) -> None:
    chosen = {25: SWITCHES[1::2], 500: SWITCHES[1:2], 1000: SWITCHES[2:3]}
    walks = [(cap, *one) for cap in CAPS for one in chosen.get(cap, SWITCHES)]
    for number, (cap, exclusive, duplicates, tells_page) in enumerate(walks):
        since = NOW - {25: 2, 500: 12, 1000: 12}.get(cap, 5) * DAY  # two pages at least
        sandbox = demo(*SPELLINGS[number % len(SPELLINGS)])
        sandbox.order, sandbox.total, sandbox.cap, sandbox.tells_page = order, total, cap, tells_page
        sandbox.from_id_exclusive, sandbox.duplicates = exclusive, duplicates
        sandbox._ends.clear()
        sandbox.calls.clear()  # what is drawn must not depend on the tests before
        still = SimpleNamespace(move=lambda seconds: None)
        made = bench_of(sandbox, still, KEY_MAIN, budget=Budget(share=1e6))
        pages = made.read(since)
        made.venue.close()
        there = known(since)
        check_claims(pages, there)
        assert not subtract(Window(since, NOW), [*covered(pages), *gaps(pages)])
        if order == "ascending" or cap > 60:  # a sweep of 60 fills in a millisecond is beyond the smallest page
            assert not gaps(pages)
        inside = [ms for ms, _ in there if not any(gap.since <= from_ms(ms) < gap.until for gap in gaps(pages))]
        read = [report for report in fills(pages).values() if not any(
            gap.since <= report.executed_at < gap.until for gap in gaps(pages))]  # fmt: skip
        assert len(read) == len(inside)
        if not gaps(pages):
            assert totals(pages) == sandbox.truth(DEMO_MAIN, since, NOW)
        if total == "true" and order != "shuffled" and cap > 60:
            everything = sandbox.accounts[DEMO_MAIN].count(to_ms(since), to_ms(NOW))
            assert len(made.sent) <= 1.1 * everything / min(cap, 500) + 4


def test_counts_that_hold_save_nearly_all_requests(clock: SimpleNamespace) -> None:
    sandbox = sandbox_venue.Woox(clock.now, fills_per_day=60, total="true", **sandbox_venue.Woox.unmetered)
    made = bench_of(sandbox, clock, KEY_MAIN)
    since = NOW - timedelta(days=91)
    assert totals(made.read(since)) == sandbox.truth(DEMO_MAIN, since, NOW)
    everything = sandbox.accounts[DEMO_MAIN].count(to_ms(since), to_ms(NOW))
    assert everything > 3000
    assert len(made.sent) <= everything / 500 + 2


def test_a_quiet_poll_is_one_request(woox: Bench) -> None:
    woox.sandbox.put(ME, "transactionHistory", row())
    assert covered(woox.read(NOW - timedelta(minutes=10))) == [Window(NOW - timedelta(minutes=10), NOW)]
    assert len(woox.sent) == 1


def test_a_request_names_both_ends_and_asks_for_much(woox: Bench) -> None:
    woox.read(NOW - DAY)
    assert woox.asked() == [{"startTime": str(to_ms(NOW - DAY)), "endTime": str(to_ms(NOW) - 1), "limit": "500"}]


def test_both_ends_of_a_window_are_read_and_belong_to_one_window_each(woox: Bench) -> None:
    first, last = to_ms(NOW - WEEK), to_ms(NOW - DAY)
    woox.sandbox.put(ME, "transactionHistory", *rows_at(first - 1, first, last - 1, last))
    assert set(fills(woox.read(NOW - WEEK, NOW - DAY))) == {"2", "3"}


def test_a_fill_of_the_millisecond_in_which_a_window_ends_is_not_claimed_and_left_out(woox: Bench) -> None:
    woox.sandbox.put(ME, "transactionHistory", *rows_at(to_ms(NOW - DAY)))
    until = NOW - DAY + timedelta(microseconds=456)
    pages = woox.read(NOW - WEEK, until)
    assert not subtract(Window(NOW - WEEK, until), covered(pages)) and len(fills(pages)) == 1
    assert max(window.until for window in covered(pages)) == until


@pytest.mark.parametrize("duplicates", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("total", TOTALS)
def test_more_fills_in_one_millisecond_than_a_page_are_read_by_their_ids(
    make: Make, total: str, exclusive: bool, duplicates: bool
) -> None:
    made = make(total=total, from_id_exclusive=exclusive, duplicates=duplicates, cap=100, budget=Budget(share=1e6),
                **sandbox_venue.Woox.unmetered)  # fmt: skip
    at = to_ms(NOW) - 5_000
    made.sandbox.put(ME, "transactionHistory", *rows_at(*[at - 1] * 3, *[at] * 731, at + 7, first_id=10))
    pages = made.read(NOW - timedelta(minutes=1))
    assert len(fills(pages)) == 735
    check_claims(pages, tuple((at - 1 + (n > 12) + 7 * (n == 744), str(n)) for n in range(10, 745)))
    assert not subtract(Window(NOW - timedelta(minutes=1), NOW), [*covered(pages), *gaps(pages)])
    if total != "wrong":
        assert not gaps(pages)


@pytest.mark.parametrize("order", ["descending", "shuffled"])
@pytest.mark.parametrize("total", TOTALS)
def test_a_millisecond_that_cannot_be_read_to_its_end_is_a_gap_and_nothing_else_is(
    make: Make, total: str, order: str
) -> None:
    made = make(total=total, order=order, cap=100, budget=Budget(share=1e6), **sandbox_venue.Woox.unmetered)
    at = to_ms(NOW) - 5_000
    made.sandbox.put(ME, "transactionHistory", *rows_at(at - 9, *[at] * 731, at + 7))
    pages = made.read(NOW - timedelta(minutes=1))
    assert gaps(pages) == [Window(from_ms(at), from_ms(at + 1))]
    assert not [window for window in covered(pages) if window.since <= from_ms(at) < window.until]
    assert {from_ms(at - 9), from_ms(at + 7)} <= {report.executed_at for report in fills(pages).values()}


def test_a_count_for_no_rows_at_all_is_survived(make: Make) -> None:
    made = make(total="wrong")
    pages = made.read(NOW - WEEK)
    assert not subtract(Window(NOW - WEEK, NOW), covered(pages))
    assert len(made.sent) < 12


@pytest.mark.parametrize("days", [30, 7, 1])
@pytest.mark.parametrize("total", ["true", "page"])
def test_ranges_longer_than_woox_takes_are_shortened_until_it_does(make: Make, days: int, total: str) -> None:
    made = make(KEY_MAIN, fills_per_day=20, longest_span=timedelta(days=days), total=total)
    since = NOW - timedelta(days=91)
    pages = made.read(since)
    assert totals(pages) == made.sandbox.truth(DEMO_MAIN, since, NOW)
    assert not subtract(Window(since, NOW), covered(pages))
    asked = len(made.sent)
    made.read(since)
    assert len(made.sent) - asked < asked  # it is not tried in vain again


def test_a_parameter_that_is_refused_however_short_the_range_is_told(woox: Bench) -> None:
    woox.sandbox.fail(status=400, body=b'{"success": false, "code": -1005, "message": "limit"}')
    with pytest.raises(PayloadError, match="its code -1005"):
        woox.read(NOW - WEEK)
    assert len(woox.sent) < 12


# --- The end of the memory, and what is older ------------------------------------------------------------------------

OLD = to_ms(NOW - MEMORY) - 5 * 86_400_000
EDGE_AT = NOW - MEMORY + EDGE


def with_old_fills(made: Bench) -> Window:
    recent = to_ms(NOW - MEMORY + DAY)
    made.sandbox.put(ME, "transactionHistory", *rows_at(OLD, OLD, OLD + 1, recent))
    return Window(NOW - MEMORY - WEEK, NOW - MEMORY + WEEK)


@pytest.mark.parametrize("old", ["empty", "error"])
def test_what_v3_has_forgotten_is_read_from_v1_and_v3_is_not_asked_for_it(make: Make, old: str) -> None:
    made = make(old=old)
    window = with_old_fills(made)
    pages = made.read(window.since, window.until)
    assert set(fills(pages)) == {"1", "2", "3", "4"}
    assert not subtract(window, covered(pages))
    assert {int(asked["startTime"]) for asked in made.asked()} == {to_ms(EDGE_AT)}
    assert {(asked["start_t"], asked["end_t"]) for asked in made.asked(OLD_FILLS)} == {
        (str(to_ms(window.since)), str(to_ms(EDGE_AT) - 1))
    }


def test_more_old_fills_than_a_page_are_read_by_their_ids(make: Make) -> None:
    made = make(duplicates=True)
    made.sandbox.put(ME, "transactionHistory", *rows_at(*[OLD + number // 3 for number in range(2500)]))
    for _ in range(2):  # what ended the first reading stands at the beginning of the second
        pages = made.read(NOW - MEMORY - WEEK, NOW - MEMORY)
        assert len(fills(pages)) == 2500
        assert covered(pages) == [Window(NOW - MEMORY - WEEK, NOW - MEMORY)]


@pytest.mark.parametrize("status", [404, 410])
def test_a_v1_that_is_gone_leaves_what_is_older_out_of_reach(make: Make, status: int) -> None:
    made = make(v1_gone=status)
    window = with_old_fills(made)
    pages = made.read(window.since, window.until)
    assert set(fills(pages)) == {"4"}
    assert covered(pages) == [Window(EDGE_AT, window.until)]
    (gone,) = [page.out_of_reach for page in pages if page.out_of_reach]
    assert gone.window == Window(window.since, EDGE_AT)
    assert "no longer offers its list of older ones" in gone.why


@pytest.mark.parametrize(
    ("answer", "is_for_good"),
    [
        (httpx.Response(500), False), (httpx.Response(200, text="<!doctype html>"), False),
        (httpx.Response(400, text=payload("maintenance")), False), (httpx.Response(429), False),
        (httpx.Response(401, text='{"success": false, "code": -1002, "message": "no"}'), False),
        (httpx.Response(401), False), (httpx.Response(403, text="<html>"), False), (httpx.Response(405), True),
        (httpx.Response(400, text='{"success": false, "code": -1005, "message": "end_t"}'), False),
        (httpx.Response(401, text='{"success": false, "code": -1001, "message": "signature"}'), False),
    ],
)  # fmt: skip
def test_a_v1_in_trouble_never_stops_v3_nor_rejects_the_key(
    make: Make, clock: SimpleNamespace, answer: httpx.Response, is_for_good: bool
) -> None:
    made = make()
    window = with_old_fills(made)

    def only_v3(request: httpx.Request) -> httpx.Response:
        return answer if request.url.path.startswith("/v1/") else made.sandbox(request)

    venue = Woox(made.venue.credentials, transport=httpx.MockTransport(only_v3), sleep=clock.move, patience=PATIENT)
    pages = list(venue.fetch_fills(STREAM, window))
    assert set(fills(pages)) == {"4"}
    assert covered(pages) == [Window(EDGE_AT, window.until)]
    missing = [page.out_of_reach if is_for_good else page.gap for page in pages if page.out_of_reach or page.gap]
    assert [one and one.window for one in missing] == [Window(window.since, EDGE_AT)]


def test_a_v1_of_which_no_more_may_be_asked_now_is_asked_later(make: Make) -> None:
    budget = Budget()
    made = make(patience=0.5, budget=budget)
    window = with_old_fills(made)
    pages: list[Page] = []
    with pytest.raises(BudgetSpent):
        pages.extend(made.venue.fetch_fills(STREAM, window))
    assert covered(pages) == [Window(EDGE_AT, window.until)]
    assert not [page for page in pages if page.out_of_reach]


# --- Clocks, limits and weather --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [20, -20, 80, -80])
def test_a_clock_some_seconds_off_is_no_hindrance(make: Make, seconds: int) -> None:
    made = make(skew=timedelta(seconds=seconds))
    made.sandbox.put(ME, "transactionHistory", row(executedTimestamp=to_ms(NOW) - 200_000))
    assert len(fills(made.read())) == 1
    assert made.venue.identify().account_ref == ME


@pytest.mark.parametrize(("minutes", "way"), [(6, "6 minutes behind"), (-6, "6 minutes ahead of")])
def test_a_clock_far_off_is_told_as_such_and_not_as_a_wrong_key(make: Make, minutes: int, way: str) -> None:
    made = make(skew=timedelta(minutes=minutes))
    for act in (made.venue.identify, made.read):
        with pytest.raises(VenueUnavailable, match=way) as told:
            act()
        assert told.value.reason == Reason.CLOCK


def test_a_429_that_says_nothing_is_given_a_second_and_then_more(make: Make, clock: SimpleNamespace) -> None:
    made = make()
    made.sandbox.rate_limit(times=3)
    made.read()
    assert clock.now() - NOW >= timedelta(seconds=1 + 2 + 4)
    assert len(made.sent) == 4


def test_a_429_that_says_how_long_is_obeyed(make: Make, clock: SimpleNamespace) -> None:
    made = make()
    made.sandbox.rate_limit(retry_after=9)
    made.read()
    assert clock.now() - NOW >= timedelta(seconds=9)
    assert made.sandbox.too_early == 0


def test_two_requests_a_second_are_never_exceeded(make: Make, clock: SimpleNamespace) -> None:
    made = make(KEY_MAIN, fills_per_day=60, cap=100)
    made.read(NOW - 12 * DAY)
    assert set(made.sandbox.statuses) == {200} and len(made.sent) > 5
    assert made.venue.traffic.retries == 0


@pytest.mark.parametrize(
    ("fault", "arguments", "says"),
    [
        ("maintain", {}, "is under maintenance"), ("fail", {"status": 500}, "trouble of its own"),
        ("fail", {"status": 502}, "trouble of its own"), ("html", {}, "broken or cut off"),
        ("truncate", {}, "broken or cut off"), ("hang_up", {}, "cannot be reached"), ("time_out", {}, "not answer"),
        ("fail", {"status": 500, "body": b'{"success": false, "code": -1000, "message": "?"}'}, "trouble"),
        ("fail", {"status": 200, "body": b'{"success": false, "code": "302159", "message": "late"}'}, "trouble"),
        ("rate_limit", {}, "slow down"),
    ],
)  # fmt: skip
def test_bad_weather_passes_and_if_it_does_not_is_told(
    make: Make, fault: str, arguments: dict[str, Any], says: str
) -> None:
    made = make()
    made.sandbox.put(ME, "transactionHistory", row())
    getattr(made.sandbox, fault)(times=2, **arguments)
    assert len(fills(made.read())) == 1
    getattr(made.sandbox, fault)(times=None, **arguments)
    with pytest.raises(VenueUnavailable, match=says):
        made.read()


@pytest.mark.parametrize("name", ["not_found"])
def test_nothing_found_is_nothing(clock: SimpleNamespace, name: str) -> None:
    venue, _ = script(clock, httpx.Response(400, text=payload(name)))
    (page,) = venue.fetch_fills(STREAM, Window(NOW - DAY, NOW))
    assert (page.rows, page.covered) == ([], Window(NOW - DAY, NOW))


def test_maintenance_of_everything_is_told(make: Make) -> None:
    with pytest.raises(VenueUnavailable, match="under maintenance"):
        make(system_status=2).read()


def test_an_unknown_code_is_told_by_its_number_alone(clock: SimpleNamespace) -> None:
    venue, asked = script(clock, f'{{"success": false, "code": "317999", "message": "{MINE.secret}"}}')
    with pytest.raises(PayloadError, match="its code 317999") as told:
        list(venue.fetch_fills(STREAM, Window(NOW - DAY, NOW)))
    assert MINE.secret not in str(told.value)
    assert len(asked) == 1


# --- Who is this -----------------------------------------------------------------------------------------------------


def test_a_read_only_key_is_described_and_the_sub_accounts_are_offered(make: Make) -> None:
    identity = make(KEY_MAIN).venue.identify()
    assert identity.account_ref == DEMO_MAIN
    assert identity.description == "Read-only key of the main account main@example.com."
    assert (identity.may_trade, identity.may_withdraw, identity.expires_at) == (False, False, None)
    assert [(one.label, one.values) for one in identity.related] == [("grid", {})]


def test_a_sub_account_says_so_and_is_not_asked_for_others(make: Make) -> None:
    made = make(KEY_SUB)
    identity = made.venue.identify()
    assert (identity.account_ref, identity.related) == (DEMO_SUB, ())
    assert "the sub-account" in identity.description
    assert not made.asked(SUBS)


@pytest.mark.parametrize(("key", "powers"), [(KEY_TRADE, (True, False)), (KEY_WITHDRAWAL, (False, True))])
def test_a_key_that_can_do_more_says_what(make: Make, key: Key, powers: tuple[bool, bool]) -> None:
    identity = make(key).venue.identify()
    assert (identity.may_trade, identity.may_withdraw) == powers
    assert "can do more than read" in identity.description


@pytest.mark.parametrize(
    ("key", "reason", "says"),
    [
        (replace(MINE, api_key="wooxNobodysKey0000000A=="), Reason.WRONG_KEY, "does not accept this key"),
        (replace(MINE, secret="ANOTHERSECRET"), Reason.WRONG_KEY, "secret does not belong"),
        (KEY_OTHER_IP, Reason.IP_NOT_ALLOWED, "other IP addresses"),
        (KEY_TRADE_ONLY, Reason.WRONG_KEY, "without the READ permission"),
        (KEY_STAGING, Reason.WRONG_ENVIRONMENT, "staging"),
        (replace(MINE, api_key="5f2b8c01d7e94a6f"), Reason.WRONG_VENUE, "WOO X Pro"),
    ],
)
def test_a_key_that_does_not_do_says_why(make: Make, key: Key, reason: Reason, says: str) -> None:
    fault = refused(make(key).venue)
    assert fault.reason == reason
    assert says in str(fault)


def test_an_expired_key_is_refused_with_the_causes_there_are(make: Make) -> None:
    made = make()
    made.sandbox.add(ME, replace(MINE, expires_at=NOW - DAY))
    assert "expired" in str(refused(made.venue))


def test_a_key_that_the_venue_lists_without_read_lacks_it(clock: SimpleNamespace) -> None:
    info = '{"success": true, "data": {"applicationId": "app", "accountType": "Main"}}'
    keys = payload("credentials").replace("+Pxxxxxxxxxxxxxxxxxxxx==", MINE.api_key).replace('"READ"', '"TRADE"')
    assert refused(script(clock, info, keys)[0]).reason == Reason.MISSING_PERMISSION


def test_the_venues_own_example_of_keys_is_understood(clock: SimpleNamespace) -> None:
    info = '{"success": true, "data": {"applicationId": "app", "accountType": "Subaccount", "account": "me"}}'
    identity = script(clock, info, payload("credentials"), key=replace(MINE, api_key="+Pxxxxxxxxxxxxxxxxxxxx=="))[
        0
    ].identify()
    assert identity.description == "Read-only key of the sub-account me, bound to 203.0.113.7."


def test_an_account_that_is_suspended_is_closed(clock: SimpleNamespace) -> None:
    answer = '{"success": false, "code": 302307, "message": "suspended"}'
    assert refused(script(clock, answer)[0]).reason == Reason.CLOSED


def test_an_application_id_that_is_another_accounts_is_told(make: Make) -> None:
    assert refused(make(KEY_MAIN, application_id=DEMO_SUB).venue).reason == Reason.WRONG_ACCOUNT
    assert make(KEY_MAIN, application_id=DEMO_MAIN).venue.identify().account_ref == DEMO_MAIN


def test_staging_is_not_asked_where_the_host_is_not_woox(make: Make) -> None:
    made = make(KEY_STAGING, base_url="http://127.0.0.1:9")
    assert refused(made.venue).reason == Reason.WRONG_KEY
    assert {request.url.host for request in made.sent} == {"127.0.0.1"}


def test_a_staging_key_is_good_at_staging(make: Make) -> None:
    made = make(KEY_STAGING, base_url="https://api.staging.woox.io")
    assert made.venue.identify().account_ref == DEMO_STAGING


@pytest.mark.parametrize(
    "values", [{"api_key": "with space=="}, {"api_secret": "two\nlines"}, {"api_key": "schlüssel"}]
)
def test_what_cannot_be_a_key_is_refused_and_not_repeated(values: dict[str, str]) -> None:
    with pytest.raises(CredentialsRejected) as fault:
        WooxCredentials.parse(secrets_of(MINE) | values)
    assert fault.value.reason == Reason.MALFORMED
    assert not [text for text in values.values() if text in str(fault.value)]


# --- Secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [-1000, -1001, -1002, -1003, -1004, -1005, -1011, 302307, 999999])
@pytest.mark.parametrize("status", [200, 401])
def test_no_secret_gets_into_an_error_a_log_or_a_repr(
    make: Make, caplog: pytest.LogCaptureFixture, code: int, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    made = make()
    echo = {"success": False, "code": code, "message": f"{MINE.api_key} {MINE.secret}"}
    made.sandbox.fail(status=status, body=json.dumps(echo).encode())
    texts = [repr(made.venue), repr(made.venue.credentials), str(made.venue.credentials), repr(made.venue.auth)]
    for act in (made.venue.identify, made.read):
        with pytest.raises(VenueError) as fault:
            act()
        texts += [str(fault.value), repr(fault.value), *traceback.format_exception(fault.value)]
    texts += [record.getMessage() for record in caplog.records] + [caplog.text]
    signatures = {request.headers["x-api-signature"] for request in made.sent if "x-api-signature" in request.headers}
    assert signatures
    for secret in (MINE.api_key, MINE.secret, *signatures):
        assert not [text for text in texts if secret in text]


# --- The doctor ------------------------------------------------------------------------------------------------------


def verified(key: Key, clock: SimpleNamespace) -> Any:
    credential = factories.credential("woox", secrets=secrets_of(key))
    doctor.verify(credential, now=clock.now(), patience=PATIENT)
    return credential


@pytest.mark.django_db
def test_a_deleted_key_was_revoked_and_works_again_once_it_is_back(sandbox: Any, clock: SimpleNamespace) -> None:
    credential = verified(KEY_MAIN, clock)
    assert (credential.health.state, credential.account_ref) == (Health.WORKS, DEMO_MAIN)
    assert credential.related == [{"label": "grid", "values": {}}]
    sandbox.woox.revoke(DEMO_MAIN)
    assert not doctor.verify(credential, now=clock.now(), patience=PATIENT)
    assert (credential.health.state, credential.health.reason) == (Health.REJECTED, Reason.REVOKED)
    assert credential.health.text.startswith("This key worked on 2026-11-21 and no longer does.")
    sandbox.woox.restore(DEMO_MAIN)
    assert doctor.verify(credential, now=clock.now(), patience=PATIENT)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (replace(KEY_MAIN, secret="WRONG"), Reason.WRONG_KEY),
        (KEY_TRADE, Reason.CAN_TRADE),
        (KEY_WITHDRAWAL, Reason.CAN_TRADE),
        (KEY_OTHER_IP, Reason.IP_NOT_ALLOWED),
        (KEY_STAGING, Reason.WRONG_ENVIRONMENT),
        (replace(KEY_MAIN, api_key="5f2b8c01d7e94a6f"), Reason.WRONG_VENUE),
    ],
)
def test_a_stored_key_that_does_not_do_needs_the_user(
    sandbox: Any, clock: SimpleNamespace, key: Key, reason: Reason
) -> None:
    credential = verified(key, clock)
    assert (credential.health.state, credential.health.reason) == (Health.REJECTED, reason)
    assert key.secret not in credential.health.text and key.api_key not in credential.health.text


@pytest.mark.django_db
def test_a_clock_that_is_off_is_no_fault_of_the_key(sandbox: Any, clock: SimpleNamespace) -> None:
    sandbox.woox.now = lambda: clock.now() + timedelta(minutes=6)
    credential = verified(KEY_MAIN, clock)
    assert (credential.health.state, credential.health.reason) == (Health.UNAVAILABLE, Reason.CLOCK)


@pytest.mark.parametrize(("cap", "total"), [(300, "page"), (400, "absent"), (300, "true")])
def test_a_page_length_told_after_us_proves_nothing(make: Make, clock: SimpleNamespace, cap: int, total: str) -> None:
    made = make(KEY_MAIN, fills_per_day=40, cap=cap, total=total)

    def echo(request: httpx.Request) -> httpx.Response:
        """The venue, telling the limit that was asked for as its page length."""
        response = made.sandbox(request)
        body = response.json()
        if "meta" in (body.get("data") or {}):
            body["data"]["meta"]["recordsPerPage"] = int(request.url.params["limit"])
        return httpx.Response(response.status_code, json=body)

    venue = Woox(made.venue.credentials, transport=httpx.MockTransport(echo), sleep=clock.move, patience=PATIENT)
    window = Window(NOW - timedelta(days=20), NOW)
    pages = list(venue.fetch_fills(STREAM, window))
    assert not subtract(window, covered(pages))
    should_be = sum(one.fills for one in made.sandbox.truth(DEMO_MAIN, window.since, window.until).values())
    assert len(fills(pages)) == should_be > cap


def test_a_key_that_is_not_listed_may_do_what_any_of_the_account_may(make: Make) -> None:
    made = make(KEY_MAIN)

    def masked(request: httpx.Request) -> httpx.Response:
        response = made.sandbox(request)
        if request.url.path != "/v3/account/credentials":
            return response
        return httpx.Response(200, text=response.text.replace(made.venue.credentials.api_key, "wooxxxxxxxxxxx=="))

    venue = Woox(made.venue.credentials, transport=httpx.MockTransport(masked), sleep=lambda _: None)
    identity = venue.identify()
    assert identity.may_trade and identity.may_withdraw


def test_an_old_list_that_repeats_its_first_page_is_not_taken_for_the_whole(make: Make, clock: SimpleNamespace) -> None:
    made = make()
    rows = [
        {
            "id": number, "symbol": "PERP_BTC_USDT", "order_id": 1, "executed_price": 1, "executed_quantity": 1,
            "is_maker": 0, "side": "BUY", "fee": 0, "fee_asset": "USDT",
            "executed_timestamp": f"{to_ms(NOW - MEMORY - DAY) // 1000}.000",
        }
        for number in range(1, 1001)
    ]  # fmt: skip

    def stuck(request: httpx.Request) -> httpx.Response:
        is_old = request.url.path.startswith("/v1/")
        return httpx.Response(200, json={"success": True, "data": rows}) if is_old else made.sandbox(request)

    venue = Woox(made.venue.credentials, transport=httpx.MockTransport(stuck), sleep=clock.move, patience=PATIENT)
    pages = list(venue.fetch_fills(STREAM, Window(NOW - MEMORY - WEEK, NOW - MEMORY)))
    assert len(fills(pages)) == 1000
    assert not covered(pages)
