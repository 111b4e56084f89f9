"""The Bybit connector: rows to reports, the walk over windows and pages, and what it says of a key."""

import json
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import time_machine

from exchanges import doctor
from exchanges.connect import PATIENT
from exchanges.models import Health
from exchanges.sandbox import bybit as sandbox_venue
from exchanges.sandbox.bybit import LOCAL, MAIN_UID, SUB_UID, TESTNET_UID, UPGRADED_UID, Key
from exchanges.sandbox.history import Truth, Truths
from exchanges.venues.base import (
    FORCED,
    CredentialsRejected,
    FillReport,
    Held,
    Identity,
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
from exchanges.venues.bybit import DEMO_MEMORY, EDGE, MEMORY, Auth, Bybit, BybitCredentials
from exchanges.venues.http import Budget
from tests import factories

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DAY, WEEK, MS = timedelta(days=1), timedelta(days=7), timedelta(milliseconds=1)
PAYLOADS = Path(__file__).resolve().parents[2] / "payloads/bybit"
LINEAR, INVERSE, OLD_LINEAR, OLD_INVERSE = Bybit.streams
FILLS, OLD_FILLS, TIME = "/v5/execution/list", "/v5/pre-upgrade/execution/list", "/v5/market/time"
INSTRUMENTS, KEY, ACCOUNT = "/v5/market/instruments-info", "/v5/user/query-api", "/v5/account/info"
ME = "777"
MINE = {"api_key": "EXAMPLEKEY0000000Z", "api_secret": "example-secret-not-real-mine-00000099"}


def row(**changes: Any) -> dict[str, Any]:
    """A taker's buy of 0.5 BTC at 60,000 a minute ago, as Bybit sends it."""
    return {
        "symbol": "BTCUSDT", "orderId": "o-1", "orderLinkId": "", "side": "Buy", "orderPrice": "63000",
        "orderQty": "0.5", "leavesQty": "0", "createType": "CreateByUser", "orderType": "Market",
        "stopOrderType": "UNKNOWN", "execFee": "16.5", "execId": "e-1", "execPrice": "60000", "execQty": "0.5",
        "execType": "Trade", "execValue": "30000", "execTime": str(to_ms(NOW) - 60_000), "feeCurrency": "USDT",
        "isMaker": False, "feeRate": "0.00055", "tradeIv": "", "markIv": "", "markPrice": "60000", "indexPrice": "",
        "underlyingPrice": "", "blockTradeId": "", "closedSize": "0", "seq": 1, "extraFees": "",
    } | changes  # fmt: skip


def coin_row(**changes: Any) -> dict[str, Any]:
    """A sale of 5,000 dollars of the inverse BTC contract."""
    inverse = {
        "symbol": "BTCUSD", "side": "Sell", "execPrice": "64250.00", "execQty": "5000", "execValue": "0.07782101",
        "execFee": "0.0000428", "feeCurrency": "BTC",
    }  # fmt: skip
    return row(**inverse | changes)


def rows_at(*times: int, **changes: Any) -> list[dict[str, Any]]:
    return [row(execId=f"e-{number}", execTime=str(ms), **changes) for number, ms in enumerate(times)]


@dataclass
class Bench:
    """The connector beside the sandbox it talks to."""

    sandbox: sandbox_venue.Bybit
    venue: Bybit
    sent: list[httpx.Request] = field(default_factory=list)

    def read(self, stream: Any = LINEAR, since: datetime = NOW - WEEK, until: datetime = NOW) -> list[Page]:
        """The pages of all the windows from `since` to `until`, as the engine would cut them."""
        pages: list[Page] = []
        while since < until:
            window = Window(since, min(since + WEEK, until))
            pages += self.venue.fetch_fills(stream, window)
            since = window.until
        return pages

    def asked(self, path: str) -> list[dict[str, str]]:
        """The parameters of the requests for a path, in their order."""
        found = [request.url for request in self.sent if request.url.path == path]
        return [{name: values[-1] for name, values in parse_qs(url.query.decode()).items()} for url in found]


Make = Callable[..., Bench]


@pytest.fixture
def make(clock: SimpleNamespace) -> Iterator[Make]:
    """Makes benches: of one account and its secrets, with options of the sandbox."""
    made: list[Bench] = []

    def bench(
        secrets: dict[str, str] = MINE, *, patience: float = PATIENT, base_url: str = "", **options: Any
    ) -> Bench:
        sandbox = sandbox_venue.Bybit(clock.now, **options)
        sent: list[httpx.Request] = []

        def note(request: httpx.Request) -> httpx.Response:
            sent.append(request)
            return sandbox(request)

        venue = Bybit(
            BybitCredentials.parse(secrets), base_url=base_url, transport=httpx.MockTransport(note), budget=Budget(),
            sleep=clock.move, patience=patience,
        )  # fmt: skip
        if secrets["api_key"] == MINE["api_key"]:
            sandbox.add(ME, Key(MINE, ips=(LOCAL,)))
        made.append(Bench(sandbox, venue, sent))
        return made[-1]

    yield bench
    for one in made:
        one.venue.close()


@pytest.fixture
def bybit(make: Make) -> Bench:
    return make()


def script(clock: SimpleNamespace, *answers: Any, **options: Any) -> tuple[Bybit, list[httpx.Request]]:
    """The connector at a venue that gives these answers, one after the other."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        told = answers[len(asked) - 1]
        return told if isinstance(told, httpx.Response) else httpx.Response(200, json=told)

    venue = Bybit(
        BybitCredentials.parse(MINE),
        transport=httpx.MockTransport(answer),
        budget=Budget(),
        sleep=clock.move,
        **options,
    )
    return venue, asked


def refusal(code: int) -> dict[str, Any]:
    return {"retCode": code, "retMsg": f"apiKey[{MINE['api_key']}]", "result": {}, "retExtInfo": {}, "time": 1}


def outcomes(pages: list[Page]) -> list[Any]:
    return [item for page in pages for item in page.rows]


def totals(items: list[Any]) -> Truths:
    """What the fills among these come to, by day and market; each counts once."""
    result: Truths = {}
    for report in {item.fill_id: item for item in items if isinstance(item, FillReport)}.values():
        day: tuple[date, str] = report.executed_at.date(), report.symbol
        result[day] = result.get(day, Truth()).plus(report.notional, is_forced=report.kind in FORCED)
    return result


def within(truth: Truths, is_inverse: bool) -> Truths:
    return {day: one for day, one in truth.items() if day[1].endswith("USD") == is_inverse}


def covered(pages: list[Page]) -> list[Window]:
    return [page.covered for page in pages if page.covered]


def refused(venue: Bybit) -> CredentialsRejected:
    with pytest.raises(CredentialsRejected) as fault:
        venue.identify()
    return fault.value


def payload(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text())["response"]


def parsed(venue: Bybit, category: str, raw: dict[str, Any]) -> Any:
    return venue.parse_held(category, json.dumps(raw))


# --- Signatures ------------------------------------------------------------------------------------------------------

SIGNED_AT = from_ms(1767225600000)
QUERY = "category=linear&cursor=132766%3A2%2C132766%3A2&endTime=1767225599999&limit=100&startTime=1766620800000"


def signed(url: str, ahead: int = 0) -> httpx.Headers:
    auth = Auth("EXAMPLEKEY0000000A", "example-secret-not-real-0123456789ab")
    auth.ahead = ahead
    request = httpx.Request("GET", url)
    with time_machine.travel(SIGNED_AT, tick=False):
        next(auth.auth_flow(request))
    return request.headers


@pytest.mark.parametrize(
    ("target", "signature"),
    [
        (f"{FILLS}?{QUERY}", "4b8afc90f4ac1df88da9077782d7adf05b5d853d8176f53e8e0210d89c1f64a9"),
        (KEY, "ad8cb6afc5035bed12fcca0da95be208c30772a20d7cfc3bec5d2a0b49921e3f"),
    ],
)
def test_the_worked_signatures_of_the_sheet_come_out(target: str, signature: str) -> None:
    headers = signed(f"https://api.bybit.com{target}")
    assert headers["X-BAPI-SIGN"] == signature
    assert headers["X-BAPI-TIMESTAMP"] == "1767225600000"
    assert headers["X-BAPI-RECV-WINDOW"] == "5000"
    assert headers["X-BAPI-API-KEY"] == "EXAMPLEKEY0000000A"


def test_the_time_that_is_signed_is_the_venues() -> None:
    assert signed(f"https://api.bybit.com{KEY}", ahead=-20_000)["X-BAPI-TIMESTAMP"] == "1767225580000"


# --- Rows ------------------------------------------------------------------------------------------------------------


def test_the_venues_own_linear_example_is_read_exactly(bybit: Bench) -> None:
    buy, sale, funding = (
        parsed(bybit.venue, "linear", one) for one in payload("execution_list_linear")["result"]["list"]
    )
    assert buy == FillReport(
        fill_id="linear:0c0f6d3a-6a8e-5a0f-9d55-2f6c1b7f0001", symbol="BTCUSDT", base="BTC", quote="USDT",
        side=Side.BUY, liquidity=Liquidity.TAKER, kind=Kind.TRADE, price=Decimal("64231.50"), qty=Decimal("0.250"),
        notional=Decimal("16057.875"), fee=Decimal("8.83183125"), fee_asset="USDT", realized_pnl=None,
        executed_at=from_ms(1794993322601),
    )  # fmt: skip
    assert (sale.side, sale.liquidity, sale.notional) == (Side.SELL, Liquidity.MAKER, Decimal(39018))
    assert funding == Skipped("funding")


def test_the_venues_own_inverse_example_counts_in_dollars(bybit: Bench) -> None:
    report = parsed(bybit.venue, "inverse", payload("execution_list_inverse")["result"]["list"][0])
    assert (report.base, report.quote, report.side) == ("BTC", "USD", Side.SELL)
    assert (report.qty, report.notional) == (Decimal("0.07782101"), Decimal(5000))
    assert (report.fee, report.fee_asset) == (Decimal("0.0000428"), "BTC")


def test_the_venues_own_example_of_before_the_upgrade_lacks_fields_and_is_a_fill(bybit: Bench) -> None:
    report = parsed(bybit.venue, OLD_INVERSE.name, payload("pre_upgrade_inverse")["result"]["list"][0])
    assert (report.symbol, report.notional, report.fee_asset) == ("ETHUSD", Decimal(1200), "ETH")
    assert report.fill_id == "inverse:bb10c2d3-5e4f-5a6b-9c7d-8e9f0a1b0005"  # as it would be in the other list


@pytest.mark.parametrize(
    ("exec_type", "kind"),
    [
        ("Trade", Kind.TRADE),
        ("BlockTrade", Kind.BLOCK),
        ("FutureSpread", Kind.SPREAD),
        ("AdlTrade", Kind.ADL),
        ("BustTrade", Kind.LIQUIDATION),
    ],
)
def test_what_is_volume_says_how_it_came_about(bybit: Bench, exec_type: str, kind: Kind) -> None:
    assert parsed(bybit.venue, "linear", row(execType=exec_type)).kind == kind


@pytest.mark.parametrize(
    ("exec_type", "name"),
    [
        ("Funding", "funding"),
        ("Delivery", "settlement"),
        ("Settle", "settlement"),
        ("MovePosition", "position transfer"),
        ("CorporateAction", "corporate action"),
    ],
)
@pytest.mark.parametrize(
    "oddity", [{}, {"side": "None", "execPrice": "", "execQty": "0", "execValue": "", "execId": ""}]
)
def test_what_is_no_trade_is_skipped_by_name_however_it_looks(
    bybit: Bench, exec_type: str, name: str, oddity: dict[str, str]
) -> None:
    assert parsed(bybit.venue, "linear", row(execType=exec_type) | oddity) == Skipped(name)


@pytest.mark.parametrize("exec_type", ["UNKNOWN", "PortfolioRebalance", "", "trade"])
def test_a_kind_nobody_has_heard_of_is_held_with_its_name(bybit: Bench, exec_type: str) -> None:
    held = parsed(bybit.venue, "linear", row(execType=exec_type))
    assert isinstance(held, Held)
    assert held.why == f"unknown execType {exec_type!r}"
    assert held.executed_at == from_ms(int(row()["execTime"]))


@pytest.mark.parametrize(
    ("category", "symbol"),
    [("linear", "BTC-25DEC26"), ("linear", "BTCUSDT-25DEC26"), ("inverse", "BTCUSDZ26"), ("inverse", "ETHUSDH27")],
)
def test_dated_futures_are_no_perpetuals(bybit: Bench, category: str, symbol: str) -> None:
    assert parsed(bybit.venue, category, row(symbol=symbol)) == Skipped("dated future")
    assert not bybit.sent


@pytest.mark.parametrize(
    ("category", "symbol", "base", "quote"),
    [
        ("linear", "ETHPERP", "ETH", "USDC"),
        ("linear", "PERPUSDT", "PERP", "USDT"),
        ("linear", "1000PEPEUSDT", "1000PEPE", "USDT"),
        ("linear", "GONEUSDT", "GONE", "USDT"),
        ("linear", "NVDAUSDT", "NVDA", "USDT"),
        ("inverse", "MANAUSD", "MANA", "USD"),
    ],
)
def test_a_market_is_known_by_its_name_also_when_it_is_gone(
    bybit: Bench, category: str, symbol: str, base: str, quote: str
) -> None:
    report = parsed(bybit.venue, category, row(symbol=symbol))
    assert (report.symbol, report.base, report.quote) == (symbol, base, quote)
    assert not bybit.sent


def test_a_market_whose_name_says_nothing_is_looked_up_once(clock: SimpleNamespace) -> None:
    listed = payload("instruments_linear")
    listed["result"]["list"] += [listed["result"]["list"][0] | {"symbol": "BTCEUR", "quoteCoin": "EUR"}]
    venue, asked = script(clock, listed)
    for _ in range(3):
        assert (parsed(venue, "linear", row(symbol="BTCEUR")).quote) == "EUR"
    (request,) = asked
    assert request.url.query == b"category=linear&symbol=BTCEUR"


def test_a_dated_future_in_the_list_of_markets_is_told_by_its_type(clock: SimpleNamespace) -> None:
    listed = payload("instruments_inverse_dated")
    listed["result"]["list"][0]["symbol"] = "BTC_USD_DEC"
    venue, _ = script(clock, listed)
    assert parsed(venue, "inverse", row(symbol="BTC_USD_DEC")) == Skipped("dated future")


def test_a_market_missing_from_the_list_counts_in_what_its_fee_was_paid_in(bybit: Bench) -> None:
    report = parsed(bybit.venue, "linear", row(symbol="GONEEURC", feeCurrency="EURC"))
    assert (report.base, report.quote) == ("GONE", "EURC")


@pytest.mark.parametrize("fee_currency", ["", "MNT"])
def test_a_market_nobody_knows_is_held_and_not_dropped(bybit: Bench, fee_currency: str) -> None:
    held = parsed(bybit.venue, "linear", row(symbol="MYSTERY", feeCurrency=fee_currency))
    assert isinstance(held, Held)
    assert held.why == "unknown market 'MYSTERY'"


def test_a_list_of_markets_in_trouble_does_not_turn_a_fill_into_a_puzzle(bybit: Bench) -> None:
    bybit.sandbox.fail(status=502)
    with pytest.raises(VenueUnavailable):
        parsed(bybit.venue, "linear", row(symbol="MYSTERY"))
    bybit.sandbox.heal()
    assert isinstance(parsed(bybit.venue, "linear", row(symbol="MYSTERY")), Held)


@pytest.mark.parametrize(
    ("category", "changes", "asset"),
    [
        ("linear", {}, "USDT"),
        ("linear", {"symbol": "BTCPERP"}, "USDC"),
        ("inverse", {"symbol": "BTCUSD"}, "BTC"),
    ],
)
def test_a_fee_without_a_currency_is_in_what_the_contract_settles_in(
    bybit: Bench, category: str, changes: dict[str, str], asset: str
) -> None:
    assert parsed(bybit.venue, category, row(**changes, feeCurrency="")).fee_asset == asset
    unnamed = row(**changes)
    del unnamed["feeCurrency"]
    assert parsed(bybit.venue, category, unnamed).fee_asset == asset
    assert parsed(bybit.venue, category, row(**changes, feeCurrency="MNT")).fee_asset == "MNT"


def test_a_rebate_stays_negative(bybit: Bench) -> None:
    assert parsed(bybit.venue, "linear", row(execFee="-1.5")).fee == Decimal("-1.5")


def test_an_empty_value_is_computed_in_the_contracts_units(bybit: Bench) -> None:
    assert parsed(bybit.venue, "linear", row(execValue="")).notional == Decimal(30000)
    coins = parsed(bybit.venue, "inverse", coin_row(execValue=""))
    assert (coins.qty, coins.notional) == (Decimal("0.07782101"), Decimal(5000))


def test_the_venues_own_value_is_taken_where_there_is_one(bybit: Bench) -> None:
    assert parsed(bybit.venue, "linear", row(execValue="30000.01")).notional == Decimal("30000.01")


@pytest.mark.parametrize("category", ["linear", "inverse"])
@pytest.mark.parametrize(
    "changes",
    [
        {"execPrice": ""}, {"execPrice": "0"}, {"execPrice": "-1"}, {"execPrice": "NaN"}, {"execPrice": "1E+999999"},
        {"execPrice": 60000}, {"execQty": ""}, {"execQty": "0"}, {"execQty": "-0.5"}, {"execQty": None},
        {"execQty": "9" * 30, "execValue": ""},
        {"execValue": "0"}, {"execValue": "-3"}, {"execFee": ""}, {"execFee": "free"}, {"side": "None"}, {"side": ""},
        {"side": "buy"}, {"isMaker": None}, {"isMaker": "false"}, {"execId": ""}, {"execId": None},
        {"symbol": "X" * 70}, {"feeCurrency": "M" * 30}, {"execId": "\0"}, {"symbol": ""},
    ],
    ids=str,
)  # fmt: skip
def test_a_row_that_makes_no_sense_is_held_raw_with_its_time(
    bybit: Bench, category: str, changes: dict[str, Any]
) -> None:
    whole = row() if category == "linear" else coin_row()
    held = parsed(bybit.venue, category, whole | changes | {"aFieldNobodyKnows": 1})
    assert isinstance(held, Held)
    assert held.why
    assert json.loads(held.row)["aFieldNobodyKnows"] == 1


def test_an_inverse_row_of_more_coins_than_there_are_is_held(bybit: Bench) -> None:
    beyond = coin_row(execQty="1E+39", execPrice="1E-39", execValue="")
    assert isinstance(parsed(bybit.venue, "inverse", beyond), Held)


@pytest.mark.parametrize("time", ["", "0", "-5", "soon", "1794993322.601", "9" * 20, 1794993322601, None])
def test_a_row_without_a_time_of_this_century_in_text_is_held_without_one(bybit: Bench, time: Any) -> None:
    held = parsed(bybit.venue, "linear", row(execTime=time))
    assert isinstance(held, Held)
    assert held.executed_at is None


@pytest.mark.parametrize(
    "name", ["execId", "execType", "execPrice", "execQty", "execValue", "execFee", "side", "isMaker"]
)
def test_a_row_without_a_field_we_need_is_held(bybit: Bench, name: str) -> None:
    less = row()
    del less[name]
    held = parsed(bybit.venue, "linear", less)
    assert isinstance(held, Held)
    assert name in held.why


@pytest.mark.parametrize(
    "changes", [{"auditTrail": {"v": 3}}, {"extraFees": [{"feeCoin": "USDT"}]}, {"closedSize": ""}]
)
def test_what_we_do_not_use_may_be_anything(bybit: Bench, changes: dict[str, Any]) -> None:
    assert isinstance(parsed(bybit.venue, "linear", row(**changes)), FillReport)


def test_both_legs_of_a_match_with_oneself_are_two_fills(bybit: Bench) -> None:
    legs = [row(execType="FutureSpread", execId=f"leg-{leg}", isMaker=bool(leg), seq=5) for leg in range(2)]
    bybit.sandbox.put(ME, "linear", *legs)
    assert {report.fill_id for report in outcomes(bybit.read())} == {"linear:leg-0", "linear:leg-1"}


def test_the_same_id_in_both_categories_is_two_fills(bybit: Bench) -> None:
    assert parsed(bybit.venue, "linear", row()).fill_id != parsed(bybit.venue, "inverse", coin_row()).fill_id


# --- Windows and pages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"duplicates": True}, {"empty_last_page": True}, {"odd": True}])
def test_every_fill_is_read_whatever_the_venue_does_with_its_pages(make: Make, options: dict[str, Any]) -> None:
    made = make(sandbox_venue.MAIN, fills_per_day=60, **options)
    since = NOW - 6 * WEEK
    for stream in (LINEAR, INVERSE):
        pages = made.read(stream, since)
        truth = within(made.sandbox.truth(MAIN_UID, since, NOW), stream is INVERSE)
        assert totals(outcomes(pages)) == truth
        assert not subtract(Window(since, NOW), covered(pages))
        assert not [page for page in pages if page.gap or page.out_of_reach]
    assert set(made.sandbox.statuses) == {200}
    assert made.sandbox.too_early == 0


def test_odd_rows_are_held_and_all_others_are_still_told_apart(make: Make) -> None:
    made = make(sandbox_venue.MAIN, fills_per_day=60, odd=True)
    items = outcomes(made.read(LINEAR, NOW - 26 * WEEK))
    kinds = Counter(item.kind for item in items if isinstance(item, Skipped))
    assert set(kinds) == {"funding", "settlement", "position transfer", "dated future", "corporate action"}
    assert {item.why for item in items if isinstance(item, Held)} <= {
        "unknown execType 'UNKNOWN'", f"unknown execType {sandbox_venue.UNHEARD!r}",
    }  # fmt: skip
    assert any(isinstance(item, Held) for item in items)


def test_a_request_names_category_both_ends_and_the_longest_page(bybit: Bench) -> None:
    bybit.read(INVERSE, NOW - DAY)
    (asked,) = bybit.asked(FILLS)
    assert asked == {
        "category": "inverse", "startTime": str(to_ms(NOW - DAY)), "endTime": str(to_ms(NOW) - 1), "limit": "100",
    }  # fmt: skip
    assert not bybit.sent[0].content  # Bybit answers a GET with a body, even an empty object, with 403


def test_windows_touch_and_do_not_overlap(bybit: Bench) -> None:
    bybit.read(LINEAR, NOW - 3 * WEEK)
    ends = [(int(asked["startTime"]), int(asked["endTime"])) for asked in bybit.asked(FILLS)]
    assert [last + 1 for _, last in ends[:-1]] == [first for first, _ in ends[1:]]
    assert all(last - first == WEEK // MS - 1 for first, last in ends)


def test_both_ends_of_a_window_are_read_and_belong_to_one_window_each(bybit: Bench) -> None:
    first, last = to_ms(NOW - WEEK), to_ms(NOW - DAY)
    bybit.sandbox.put(ME, "linear", *rows_at(first - 1, first, last - 1, last))
    reports = outcomes(list(bybit.venue.fetch_fills(LINEAR, Window(NOW - WEEK, NOW - DAY))))
    assert sorted(to_ms(report.executed_at) for report in reports) == [first, last - 1]


def test_a_fill_of_the_millisecond_in_which_a_window_ends_is_not_claimed_and_left_out(bybit: Bench) -> None:
    until = NOW - DAY + timedelta(microseconds=456)
    bybit.sandbox.put(ME, "linear", *rows_at(to_ms(NOW - DAY)))
    (page,) = bybit.venue.fetch_fills(LINEAR, Window(NOW - WEEK, until))
    assert page.covered == Window(NOW - WEEK, until)
    assert len(page.rows) == 1


@pytest.mark.parametrize("microseconds", [1, 500, 999])
def test_seven_days_to_the_microsecond_are_not_too_long(bybit: Bench, microseconds: int) -> None:
    since = NOW - 2 * WEEK + timedelta(microseconds=microseconds)
    (page,) = bybit.venue.fetch_fills(LINEAR, Window(since, since + WEEK))
    assert page.covered == Window(since, since + WEEK)


def test_the_cursor_goes_back_as_it_came_and_all_else_stays(bybit: Bench) -> None:
    bybit.sandbox.put(ME, "linear", *rows_at(*range(to_ms(NOW) - 10_000, to_ms(NOW) - 9_750)))
    bybit.read()
    queries = [urlsplit(target).query for target in bybit.sandbox.requests]
    assert len(queries) == 3
    assert [query.partition("&cursor=")[0] for query in queries] == [queries[0]] * 3
    for query in queries[1:]:
        assert "%3A" in query and "%2C" in query and "%25" not in query


@pytest.mark.parametrize("cursor", ["132766%3A2%2C132766%3A2", "page%3d1%2fa%20b", "a:b,c", "first%3DA%26last%3DB%2B"])
def test_any_cursor_is_sent_and_signed_as_it_came(clock: SimpleNamespace, cursor: str) -> None:
    page = payload("execution_list_inverse")
    full = {**page, "result": {**page["result"], "nextPageCursor": cursor}}
    venue, asked = script(clock, full, page)
    list(venue.fetch_fills(INVERSE, Window(NOW - DAY, NOW)))
    sent = asked[1].url.query.decode()
    assert sent.endswith(f"&cursor={cursor}")
    text = asked[1].headers["X-BAPI-TIMESTAMP"] + MINE["api_key"] + "5000" + sent
    assert asked[1].headers["X-BAPI-SIGN"] == sandbox_venue.sign(MINE["api_secret"], text)


def test_a_full_last_page_is_followed_by_an_empty_one_and_only_then_claimed(bybit: Bench) -> None:
    bybit.sandbox.put(ME, "linear", *rows_at(*range(to_ms(NOW) - 10_000, to_ms(NOW) - 9_800)))
    pages = bybit.read()
    assert len(bybit.asked(FILLS)) == 3
    assert len(outcomes(pages)) == 200
    assert [page.covered for page in pages][-1] == Window(NOW - WEEK, NOW) and not covered(pages[:-1])


def test_an_empty_page_ends_the_walk_whatever_its_cursor_says(clock: SimpleNamespace) -> None:
    empty = payload("pre_upgrade_linear_empty")
    empty["result"]["nextPageCursor"] = "on%3Aand%3Aon"
    venue, asked = script(clock, empty)
    assert covered(list(venue.fetch_fills(LINEAR, Window(NOW - DAY, NOW)))) == [Window(NOW - DAY, NOW)]
    assert len(asked) == 1


def test_a_cursor_that_comes_again_is_an_error_and_claims_nothing(make: Make) -> None:
    made = make(repeat_cursor=True)
    made.sandbox.put(ME, "linear", *rows_at(*range(to_ms(NOW) - 10_000, to_ms(NOW) - 9_500)))
    pages: list[Page] = []
    with pytest.raises(PayloadError, match="circles"):
        pages.extend(made.venue.fetch_fills(LINEAR, Window(NOW - WEEK, NOW)))
    assert not covered(pages)
    assert len(made.sent) == 2


def test_more_fills_in_one_millisecond_than_a_page_holds_are_all_read(bybit: Bench) -> None:
    at = to_ms(NOW) - 5_000
    bybit.sandbox.put(ME, "linear", *rows_at(*[at] * 250, at + 1))
    assert len({report.fill_id for report in outcomes(bybit.read())}) == 251


# --- The end of the memory -------------------------------------------------------------------------------------------


def test_what_bybit_has_forgotten_is_told_exactly_and_nothing_before_it_is_asked(bybit: Bench) -> None:
    edge = NOW - MEMORY + EDGE
    window = Window(edge - 2 * DAY, edge + DAY)
    gone, page = bybit.venue.fetch_fills(LINEAR, window)
    assert gone.out_of_reach and gone.out_of_reach.window == Window(window.since, edge)
    assert gone.out_of_reach.why == "Bybit keeps fills for two years; these are older."
    assert page.covered == Window(edge, window.until)
    assert [int(asked["startTime"]) for asked in bybit.asked(FILLS)] == [to_ms(edge)]


def test_a_window_before_all_memory_needs_no_request(bybit: Bench) -> None:
    window = Window(NOW - 2 * MEMORY, NOW - 2 * MEMORY + WEEK)
    for stream in Bybit.streams:
        (page,) = bybit.venue.fetch_fills(stream, window)
        assert page.out_of_reach and page.out_of_reach.window == window
    assert not bybit.sent


def test_the_edge_of_the_memory_slides_while_it_is_read(clock: SimpleNamespace, bybit: Bench) -> None:
    since = NOW - MEMORY + EDGE
    (page,) = bybit.venue.fetch_fills(LINEAR, Window(since, since + WEEK))
    assert page.covered
    clock.move(3600)
    gone, page = bybit.venue.fetch_fills(LINEAR, Window(since, since + WEEK))
    assert gone.out_of_reach and gone.out_of_reach.window == Window(since, since + timedelta(hours=1))
    assert page.covered == Window(since + timedelta(hours=1), since + WEEK)


def test_the_oldest_fill_bybit_still_has_is_read(bybit: Bench) -> None:
    edge = NOW - MEMORY + EDGE
    bybit.sandbox.put(ME, "linear", *rows_at(to_ms(edge)))
    assert len(outcomes(list(bybit.venue.fetch_fills(LINEAR, Window(edge - DAY, edge + DAY))))) == 1


@pytest.mark.parametrize("skew", [timedelta(seconds=80), timedelta(seconds=-80)])
def test_a_clock_that_is_a_little_off_does_not_ask_beyond_the_edge(make: Make, skew: timedelta) -> None:
    made = make(skew=skew)
    edge = NOW - MEMORY + EDGE
    assert covered(list(made.venue.fetch_fills(LINEAR, Window(edge - DAY, edge + DAY))))


def test_demo_trading_remembers_seven_days(make: Make) -> None:
    made = make(MINE | {"host": "api-demo.bybit.com"})
    made.sandbox.add(ME, Key(MINE, ips=(LOCAL,), environment="demo"))
    edge = NOW - DEMO_MEMORY + EDGE
    made.sandbox.put(ME, "linear", *rows_at(to_ms(edge)))
    gone, page = made.venue.fetch_fills(LINEAR, Window(NOW - 8 * DAY, NOW - 2 * DAY))
    assert gone.out_of_reach and gone.out_of_reach.window == Window(NOW - 8 * DAY, edge)
    assert "7 days" in gone.out_of_reach.why
    assert page.covered == Window(edge, NOW - 2 * DAY) and len(page.rows) == 1
    assert [request.url.host for request in made.sent] == ["api-demo.bybit.com"]


# --- Before the upgrade ----------------------------------------------------------------------------------------------


def test_a_classic_account_has_no_lists_of_before_the_upgrade(bybit: Bench) -> None:
    bybit.sandbox.add(ME, Key(MINE, ips=(LOCAL,)), unified_status=1)
    assert bybit.venue.identify().streams == ("linear", "inverse")


@pytest.mark.parametrize("status", [3, 4, 5, 6])
def test_a_unified_account_has_all_lists(bybit: Bench, status: int) -> None:
    bybit.sandbox.add(ME, Key(MINE, ips=(LOCAL,)), unified_status=status)
    assert bybit.venue.identify().streams == tuple(stream.name for stream in Bybit.streams)


def test_what_was_traded_before_an_upgrade_is_read_from_its_own_list(make: Make) -> None:
    made = make(sandbox_venue.UPGRADED)
    since = NOW - 84 * WEEK
    for streams in ((LINEAR, OLD_LINEAR), (INVERSE, OLD_INVERSE)):
        items = [item for stream in streams for item in outcomes(made.read(stream, since))]
        assert totals(items) == within(made.sandbox.truth(UPGRADED_UID, since, NOW), streams[0] is INVERSE)
        ids = [item.fill_id for item in items if isinstance(item, FillReport)]
        assert len(ids) == len(set(ids))  # no fill stands in both


def test_an_account_that_always_was_unified_costs_a_request_a_category_for_the_old_lists(make: Make) -> None:
    made = make(sandbox_venue.MAIN, fills_per_day=60)
    since = NOW - MEMORY + EDGE
    for number, stream in enumerate((OLD_LINEAR, OLD_INVERSE), start=1):
        pages = made.read(stream, since + WEEK, NOW)
        assert not subtract(Window(since + WEEK, NOW), covered(pages))
        assert len(made.sent) == number
    assert not made.asked(OLD_FILLS)


def test_an_account_without_fills_is_asked_for_all_of_its_old_list(make: Make) -> None:
    made = make()
    since = NOW - 10 * WEEK
    made.read(OLD_LINEAR, since)
    assert len(made.asked(OLD_FILLS)) == 10
    assert len(made.asked(FILLS)) <= 4  # in vain looked for the beginning of the new list


def test_a_poll_asks_nothing_of_the_old_lists(bybit: Bench) -> None:
    window = Window(NOW - timedelta(minutes=10), NOW)
    (page,) = bybit.venue.fetch_fills(OLD_LINEAR, window)
    assert page.covered == window
    assert not bybit.sent


def test_a_strange_row_at_the_beginning_of_the_new_list_does_not_stop_the_old_one(bybit: Bench) -> None:
    strange = row(execTime=str(to_ms(NOW - MEMORY + DAY)))
    del strange["isMaker"]
    bybit.sandbox.put(ME, "linear", strange)
    window = Window(NOW - 3 * WEEK, NOW - 2 * WEEK)
    assert covered(list(bybit.venue.fetch_fills(OLD_LINEAR, window))) == [window]


# --- Clocks, limits and weather --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [20, -20, 4, -2, -80, 80])
def test_a_clock_some_seconds_off_is_measured_once_and_all_is_read(make: Make, seconds: int) -> None:
    made = make(sandbox_venue.MAIN, fills_per_day=60, skew=timedelta(seconds=seconds))
    until = NOW - DAY
    pages = made.read(LINEAR, until - 2 * WEEK, until)
    assert totals(outcomes(pages)) == within(made.sandbox.truth(MAIN_UID, until - 2 * WEEK, until), is_inverse=False)
    assert len(made.asked(TIME)) == (0 if seconds == 4 else 1)
    assert made.venue.identify().account_ref == MAIN_UID


@pytest.mark.parametrize(("minutes", "way"), [(5, "5 minutes behind"), (-5, "5 minutes ahead of")])
def test_a_clock_five_minutes_off_is_told_and_nothing_is_read(make: Make, minutes: int, way: str) -> None:
    made = make(skew=timedelta(minutes=minutes))
    for act in (made.venue.identify, made.read):
        with pytest.raises(VenueUnavailable, match=way) as told:
            act()
        assert told.value.reason == Reason.CLOCK


def test_the_venues_time_is_taken_to_the_millisecond(clock: SimpleNamespace) -> None:
    told = payload("market_time")
    with time_machine.travel(from_ms(told["time"]) - timedelta(seconds=30), tick=False):
        venue, asked = script(clock, refusal(10002), told, payload("execution_list_inverse"))
        list(venue.fetch_fills(INVERSE, Window(NOW - DAY, NOW)))
        assert asked[2].headers["X-BAPI-TIMESTAMP"] == str(told["time"])


def test_too_many_visits_waits_until_the_moment_the_header_names(make: Make, clock: SimpleNamespace) -> None:
    made = make()
    made.sandbox.rate_limit(retry_after=7)
    made.read()
    assert clock.now() - NOW >= timedelta(seconds=7)
    assert (len(made.sent), made.sandbox.too_early) == (2, 0)


@pytest.mark.parametrize("seconds", [20, -20])
def test_the_moment_the_header_names_is_meant_in_the_venues_time(
    make: Make, clock: SimpleNamespace, seconds: int
) -> None:
    made = make(skew=timedelta(seconds=seconds))
    made.read()
    started = clock.now()
    made.sandbox.rate_limit(retry_after=7)
    made.read()
    assert timedelta(seconds=7) <= clock.now() - started <= timedelta(seconds=9)
    assert made.sandbox.too_early == 0


def test_too_many_visits_without_a_header_waits_a_second_and_then_longer(make: Make, clock: SimpleNamespace) -> None:
    made = make()
    made.sandbox.rate_limit(times=3)
    made.read()
    assert clock.now() - NOW >= timedelta(seconds=1 + 2 + 4)
    assert len(made.sent) == 4


def test_a_wait_longer_than_ones_patience_is_handed_on(make: Make) -> None:
    made = make(patience=5)
    made.sandbox.rate_limit(retry_after=60)
    with pytest.raises(VenueUnavailable, match="slow down") as told:
        made.read()
    assert told.value.retry_in == pytest.approx(60, abs=1)
    with pytest.raises(VenueUnavailable):
        made.read()
    assert (len(made.sent), made.sandbox.too_early) == (1, 0)


def test_the_documented_limits_are_never_exceeded(make: Make) -> None:
    made = make(requests_per_second=50)
    for _ in range(130):
        made.read(LINEAR, NOW - DAY)
    assert set(made.sandbox.statuses) == {200} and len(made.sent) == 130
    assert made.sandbox.too_early == 0


def test_a_banned_address_rests_for_ten_minutes_in_all_accounts(make: Make, clock: SimpleNamespace) -> None:
    made = make(patience=5)
    made.sandbox.ban_ip()
    with pytest.raises(VenueUnavailable, match="refuses this machine's address") as told:
        made.read()
    assert told.value.retry_in == 600
    for act in (made.read, made.venue.identify):
        with pytest.raises(VenueUnavailable):
            act()
    assert (len(made.sent), made.sandbox.too_early) == (1, 0)
    clock.move(601)
    assert covered(made.read())


@pytest.mark.parametrize(
    ("fault", "arguments"),
    [
        ("maintain", {}), ("fail", {"status": 500}), ("fail", {"status": 502}), ("html", {}), ("truncate", {}),
        ("hang_up", {}), ("time_out", {}), ("fail", {"status": 429}),
        ("fail", {"body": b'{"retCode":10000,"retMsg":"Server Timeout"}', "status": 200}),
    ],
)  # fmt: skip
def test_bad_weather_passes_and_if_it_does_not_is_told(make: Make, fault: str, arguments: dict[str, Any]) -> None:
    made = make()
    made.sandbox.put(ME, "linear", row())
    getattr(made.sandbox, fault)(times=2, **arguments)
    assert len(outcomes(made.read())) == 1
    getattr(made.sandbox, fault)(times=None, **arguments)
    with pytest.raises(VenueUnavailable):
        made.read()


def test_a_request_bybit_does_not_take_is_told_by_its_code_alone(clock: SimpleNamespace) -> None:
    venue, asked = script(clock, refusal(10001))
    with pytest.raises(PayloadError, match="its code 10001") as told:
        list(venue.fetch_fills(LINEAR, Window(NOW - DAY, NOW)))
    assert MINE["api_key"] not in str(told.value)
    assert len(asked) == 1


# --- Who is this -----------------------------------------------------------------------------------------------------


def test_a_read_only_key_is_described(make: Make) -> None:
    identity = make(sandbox_venue.MAIN).venue.identify()
    assert identity.account_ref == MAIN_UID
    assert identity.description == f"Read-only key of account {MAIN_UID}, bound to 127.0.0.1."
    assert (identity.may_trade, identity.may_withdraw, identity.expires_at) == (False, False, None)
    assert identity.related == ()  # such a key may not list them


def test_a_trading_key_says_so(make: Make) -> None:
    identity = make(sandbox_venue.TRADING).venue.identify()
    assert (identity.may_trade, identity.may_withdraw) == (True, False)


def test_a_withdrawing_key_says_so_and_sees_the_sub_accounts(make: Make) -> None:
    identity = make(sandbox_venue.WITHDRAWING).venue.identify()
    assert (identity.may_trade, identity.may_withdraw) == (True, True)
    assert [(one.label, one.values) for one in identity.related] == [(f"sub{SUB_UID}", {})]


@pytest.mark.parametrize("answer", [httpx.Response(404), refusal(10005), refusal(10017)])
def test_a_list_of_sub_accounts_that_does_not_come_is_no_hindrance(clock: SimpleNamespace, answer: Any) -> None:
    key = payload("query_api")
    key["result"]["permissions"]["Wallet"] = ["AccountTransfer"]
    venue, asked = script(clock, key, payload("account_info"), answer)
    assert venue.identify().related == ()
    assert len(asked) == 3


def test_a_sub_account_names_its_master(make: Make) -> None:
    identity = make(sandbox_venue.SUB).venue.identify()
    assert identity.account_ref == SUB_UID
    assert f"sub-account {SUB_UID} of {MAIN_UID}" in identity.description


def test_the_day_a_key_dies_is_told(make: Make) -> None:
    identity = make(sandbox_venue.EXPIRING).venue.identify()
    assert identity.expires_at == NOW + 10 * DAY
    assert "dies after 90 days" in identity.description


def identified(clock: SimpleNamespace, name: str, **changes: Any) -> Identity:
    answer = payload(name)
    answer["result"] |= changes
    return script(clock, answer, payload("account_info"))[0].identify()


def test_the_venues_own_examples_of_keys_are_understood(clock: SimpleNamespace) -> None:
    mine = identified(clock, "query_api")
    assert (mine.account_ref, mine.may_trade, mine.expires_at) == ("24617003", False, None)
    bots = identified(clock, "query_api_trading_key")
    assert (bots.account_ref, bots.may_trade, bots.may_withdraw) == ("24617999", True, True)
    assert bots.expires_at == datetime(2027, 1, 20, 9, tzinfo=UTC)


def test_permissions_and_fields_nobody_has_heard_of_are_nothing(clock: SimpleNamespace) -> None:
    permissions = {"Derivatives": ["DerivativesTrade"], "Moon": ["Landing"]}
    assert not identified(clock, "query_api", permissions=permissions, mood="good").may_trade


@pytest.mark.parametrize("told", ["", "1970-01-01T00:00:00Z", "soon"])
def test_an_expiry_that_means_nothing_is_none(clock: SimpleNamespace, told: str) -> None:
    assert identified(clock, "query_api", ips=["*"], expiredAt=told).expires_at is None


@pytest.mark.parametrize("status", ["account_info", "account_info_uta1"])
def test_the_venues_own_examples_of_accounts_are_unified(clock: SimpleNamespace, status: str) -> None:
    venue, _ = script(clock, payload("query_api"), payload(status))
    assert len(venue.identify().streams) == 4


@pytest.mark.parametrize(
    ("secrets", "reason", "says"),
    [
        (MINE | {"api_key": "EXAMPLEKEYNOBODYHAS"}, Reason.WRONG_KEY, "does not know this key"),
        (MINE | {"api_secret": "another-secret-altogether"}, Reason.WRONG_KEY, "secret does not belong"),
        (sandbox_venue.EXPIRED, Reason.EXPIRED, "has expired"),
        (sandbox_venue.OTHER_IP, Reason.IP_NOT_ALLOWED, "other IP addresses"),
        (sandbox_venue.SPOT_ONLY, Reason.MISSING_PERMISSION, "Contract: Orders and Positions"),
        (sandbox_venue.TESTNET, Reason.WRONG_ENVIRONMENT, "Bybit's testnet"),
    ],
)  # fmt: skip
def test_a_key_that_does_not_do_says_why(make: Make, secrets: dict[str, str], reason: Reason, says: str) -> None:
    made = make(secrets)
    fault = refused(made.venue)
    assert fault.reason == reason
    assert says in str(fault)


@pytest.mark.parametrize(
    ("home", "host", "says"),
    [
        ("demo", "", "demo trading"), ("testnet", "", "testnet"), ("mainnet", "api-testnet.bybit.com", "bybit.com"),
        ("mainnet", "api-demo.bybit.com", "bybit.com"), ("testnet", "api-demo.bybit.com", "testnet"),
        ("demo", "api.bybit.eu", "demo trading"), ("testnet", "api.bytick.com", "testnet"),
    ],
)  # fmt: skip
def test_a_key_of_another_environment_is_told_whose_it_is(make: Make, home: Any, host: str, says: str) -> None:
    made = make(MINE | ({"host": host} if host else {}))
    made.sandbox.add(ME, Key(MINE, ips=(LOCAL,), environment=home))
    fault = refused(made.venue)
    assert fault.reason == Reason.WRONG_ENVIRONMENT
    assert says in str(fault)


def test_a_key_of_another_environment_is_told_even_if_it_would_not_work_there(make: Make) -> None:
    made = make()
    made.sandbox.add(ME, Key(MINE, ips=("203.0.113.7",), environment="testnet"))
    assert refused(made.venue).reason == Reason.WRONG_ENVIRONMENT


def test_a_key_of_the_main_site_is_recognised_at_a_regional_one(make: Make) -> None:
    made = make(MINE | {"host": "api.bybit.eu"})

    def only_at_main(request: httpx.Request) -> httpx.Response:
        is_main = request.url.host == "api.bybit.com"
        return made.sandbox(request) if is_main else httpx.Response(200, json=refusal(10003))

    venue = Bybit(made.venue.credentials, transport=httpx.MockTransport(only_at_main))
    fault = refused(venue)
    assert (fault.reason, "a key of bybit.com" in str(fault)) == (Reason.WRONG_ENVIRONMENT, True)


def test_a_key_works_at_the_host_it_was_made_for(make: Make) -> None:
    made = make(sandbox_venue.TESTNET | {"host": "api-testnet.bybit.com"})
    assert made.venue.identify().account_ref == TESTNET_UID
    assert {request.url.host for request in made.sent} == {"api-testnet.bybit.com"}


def test_other_hosts_are_not_asked_where_the_host_is_not_bybits_own(make: Make) -> None:
    made = make(MINE | {"api_key": "NOBODYS"}, base_url="http://127.0.0.1:9")
    assert refused(made.venue).reason == Reason.WRONG_KEY
    assert {request.url.host for request in made.sent} == {"127.0.0.1"}


@pytest.mark.parametrize("code", [10007, 10008, 10009, 10024, 10027])
def test_an_account_bybit_does_not_serve_is_told_with_its_code(clock: SimpleNamespace, code: int) -> None:
    fault = refused(script(clock, refusal(code))[0])
    assert fault.reason == Reason.CLOSED
    assert str(code) in str(fault)


@pytest.mark.parametrize("code", [33004, -2015])
def test_both_codes_of_an_expired_key_are_known(clock: SimpleNamespace, code: int) -> None:
    assert refused(script(clock, refusal(code))[0]).reason == Reason.EXPIRED


def test_a_plain_401_is_a_wrong_key(clock: SimpleNamespace) -> None:
    unauthorized = [httpx.Response(401) for _ in range(3)]
    assert refused(script(clock, *unauthorized)[0]).reason == Reason.WRONG_KEY


@pytest.mark.parametrize(
    "values",
    [
        {"api_key": "with space"}, {"api_key": "tab\there"}, {"api_secret": "líne"}, {"api_secret": "two\nlines"},
        {"api_secret": "-----BEGIN RSA PRIVATE KEY-----"}, {"host": "evil.example"}, {"api_key": ""}, {"token": "x"},
    ],
)  # fmt: skip
def test_what_cannot_be_a_key_is_refused_and_not_repeated(values: dict[str, str]) -> None:
    with pytest.raises(CredentialsRejected) as fault:
        BybitCredentials.parse(MINE | values)
    assert fault.value.reason == Reason.MALFORMED
    assert not [text for name, text in values.items() if name.startswith("api") and text and text in str(fault.value)]


def test_the_main_host_spelled_out_is_the_default_one() -> None:
    assert BybitCredentials.parse(MINE | {"host": "api.bybit.com"}) == BybitCredentials.parse(MINE)


# --- Secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [10001, 10003, 10004, 10005, 10006, 10010, 33004, 10016, 10002, 99999])
def test_no_secret_gets_into_an_error_a_log_or_a_repr(make: Make, caplog: pytest.LogCaptureFixture, code: int) -> None:
    caplog.set_level(logging.DEBUG)
    made = make()
    echo = "error sign! origin_string[{timestamp}EXAMPLEKEY0000000Z5000]" + MINE["api_secret"]
    body = json.dumps(refusal(code) | {"retMsg": echo}).encode()
    made.sandbox.fail(status=200, body=body)
    texts = [repr(made.venue), repr(made.venue.credentials), str(made.venue.credentials), repr(made.venue.auth)]
    for act in (made.venue.identify, made.read):
        with pytest.raises(VenueError) as fault:
            act()
        texts += [str(fault.value), repr(fault.value), *traceback.format_exception(fault.value)]
    texts += [record.getMessage() for record in caplog.records] + [caplog.text]
    signatures = [request.headers[name] for request in made.sent for name in request.headers if name == "x-bapi-sign"]
    assert signatures
    for secret in (MINE["api_key"], MINE["api_secret"], *signatures):
        assert not [text for text in texts if secret in text]


# --- The doctor ------------------------------------------------------------------------------------------------------


def verified(secrets: dict[str, str], clock: SimpleNamespace) -> Any:
    credential = factories.credential("bybit", secrets=secrets)
    doctor.verify(credential, now=clock.now(), patience=PATIENT)
    return credential


@pytest.mark.django_db
def test_a_stored_read_only_key_works(sandbox: Any, clock: SimpleNamespace) -> None:
    credential = verified(sandbox_venue.MAIN, clock)
    assert (credential.health.state, credential.account_ref) == (Health.WORKS, MAIN_UID)
    assert [stream.name for stream in credential.streams] == [stream.name for stream in Bybit.streams]


@pytest.mark.django_db
def test_a_deleted_key_was_revoked_and_works_again_once_it_is_back(sandbox: Any, clock: SimpleNamespace) -> None:
    credential = verified(sandbox_venue.MAIN, clock)
    sandbox.bybit.revoke(MAIN_UID)
    assert not doctor.verify(credential, now=clock.now(), patience=PATIENT)
    assert (credential.health.state, credential.health.reason) == (Health.REJECTED, Reason.REVOKED)
    assert credential.health.text.startswith("This key worked on 2026-11-21 and no longer does.")
    sandbox.bybit.restore(MAIN_UID)
    assert doctor.verify(credential, now=clock.now(), patience=PATIENT)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("secrets", "reason"),
    [
        (sandbox_venue.MAIN | {"api_secret": "wrong"}, Reason.WRONG_KEY),
        (sandbox_venue.TRADING, Reason.CAN_TRADE),
        (sandbox_venue.WITHDRAWING, Reason.CAN_TRADE),
        (sandbox_venue.EXPIRED, Reason.EXPIRED),
        (sandbox_venue.OTHER_IP, Reason.IP_NOT_ALLOWED),
        (sandbox_venue.SPOT_ONLY, Reason.MISSING_PERMISSION),
        (sandbox_venue.TESTNET, Reason.WRONG_ENVIRONMENT),
    ],
)
def test_a_stored_key_that_does_not_do_needs_the_user(
    sandbox: Any, clock: SimpleNamespace, secrets: dict[str, str], reason: Reason
) -> None:
    credential = verified(secrets, clock)
    assert (credential.health.state, credential.health.reason) == (Health.REJECTED, reason)
    for secret in secrets.values():
        assert secret not in credential.health.text


@pytest.mark.django_db
def test_a_key_about_to_die_works_and_is_told_to_be_renewed(sandbox: Any, clock: SimpleNamespace) -> None:
    credential = verified(sandbox_venue.EXPIRING, clock)
    assert credential.health.text == "Works, and expires in 10 days (2026-12-01). Make a new key in time."


@pytest.mark.django_db
def test_a_clock_that_is_off_is_no_fault_of_the_key(sandbox: Any, clock: SimpleNamespace) -> None:
    sandbox.bybit.now = lambda: clock.now() + timedelta(minutes=5)
    credential = verified(sandbox_venue.MAIN, clock)
    assert (credential.health.state, credential.health.reason) == (Health.UNAVAILABLE, Reason.CLOCK)
