import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx
import pytest

from exchanges.sandbox.base import to_ms
from exchanges.sandbox.bybit import (
    ACCOUNT,
    CONTRACTS,
    EXEC_TYPES,
    EXPIRED,
    EXPIRING,
    FILLS,
    HIDDEN,
    INSTRUMENTS,
    KEY,
    MAIN,
    MAIN_UID,
    MARKETS,
    OLD_FILLS,
    ONLY_UNIFIED,
    OTHER_IP,
    SPOT_ONLY,
    SUB,
    SUB_UID,
    SUBS,
    TESTNET,
    TESTNET_UID,
    TIME,
    TOO_OLD,
    TRADING,
    UNHEARD,
    UPGRADED,
    UPGRADED_UID,
    WITHDRAWING,
    Bybit,
    Key,
    Row,
    expiry_after,
    sign,
    time_of,
)
from exchanges.sandbox.history import Truth
from exchanges.sandbox.server import serve
from exchanges.sandbox.trader import Trader

PAYLOADS = sorted((Path(__file__).parents[2] / "payloads" / "bybit").glob("*.json"))
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOST = "https://api.bybit.com"
DAY = timedelta(days=1)
WEEK = 7 * DAY
MS = timedelta(milliseconds=1)
AA = {"api_key": "A" * 18, "api_secret": "secret of aa"}
AA_UID = "11"


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def venue(clock: Clock) -> Bybit:
    return Bybit(clock)


@pytest.fixture(scope="module")
def demo() -> Bybit:
    """The venue at one instant, to be read only."""
    return Bybit(Clock(), **Bybit.unmetered)


def request(
    venue: Bybit,
    path: str,
    query: str = "",
    secrets: dict[str, str] | None = MAIN,
    *,
    host: str = HOST,
    late: int = 0,
    window: str = "5000",
    client: str = "127.0.0.1",
    content: bytes = b"",
    method: str = "GET",
    **headers: str | None,
) -> httpx.Response:
    """What the venue says to a request with this query, sent as it stands; `late` in ms."""
    signed: dict[str, str | None] = {}
    if secrets:
        stamp = str(to_ms(venue.now()) - late)
        origin = stamp + secrets["api_key"] + window + query
        signed = {
            "X-BAPI-API-KEY": secrets["api_key"],
            "X-BAPI-TIMESTAMP": stamp,
            "X-BAPI-RECV-WINDOW": window,
            "X-BAPI-SIGN": sign(secrets["api_secret"], origin),
        }
    signed |= {f"X-BAPI-{name.replace('_', '-').upper()}": value for name, value in headers.items()}
    return venue(
        httpx.Request(
            method,
            f"{host}{path}{'?' * bool(query)}{query}",
            headers={name: value for name, value in signed.items() if value is not None},
            content=content,
            extensions={"client": client},
        )
    )


def ask(venue: Bybit, path: str, query: str = "", secrets: dict[str, str] | None = MAIN, **how: Any) -> Any:
    response = request(venue, path, query, secrets, **how)
    assert response.status_code == 200, response.text
    assert response.json()["retCode"] == 0, response.text
    return response.json()["result"]


def refusal(venue: Bybit, path: str, query: str = "", secrets: dict[str, str] | None = MAIN, **how: Any) -> Any:
    response = request(venue, path, query, secrets, **how)
    assert response.status_code == 200
    assert set(response.json()) == {"retCode", "retMsg", "result", "retExtInfo", "time"}
    assert response.json()["result"] == {}
    return response.json()["retCode"]


def walk(venue: Bybit, query: str, secrets: dict[str, str] = MAIN, path: str = FILLS, **how: Any) -> list[list[Row]]:
    """All pages, the last may be empty."""
    pages, cursor, seen = [], "", set()
    while True:
        answer = ask(venue, path, query + (f"&cursor={cursor}" if cursor else ""), secrets, **how)
        pages.append(answer["list"])
        cursor = answer["nextPageCursor"]
        if not cursor:
            return pages
        assert cursor not in seen and "%3A" in cursor and answer["list"]
        seen.add(cursor)


def read(
    venue: Bybit, category: str, since: datetime, secrets: dict[str, str] = MAIN, path: str = FILLS, **how: Any
) -> list[Row]:
    """Everything since then, as a careful client reads it, in the order in which it came."""
    rows = []
    while since <= venue.now():
        until = since + WEEK
        query = f"category={category}&endTime={to_ms(until) - 1}&limit=100&startTime={to_ms(since)}"
        rows += [row for page in walk(venue, query, secrets, path, **how) for row in page]
        since = until
    return rows


def fill(at: datetime, exec_id: str, **changes: Any) -> Row:
    row: Row = {
        "symbol": "BTCUSDT",
        "orderId": f"order of {exec_id}",
        "orderLinkId": "",
        "side": "Buy",
        "orderPrice": "64000.00",
        "orderQty": "0.500",
        "leavesQty": "0.000",
        "createType": "CreateByUser",
        "orderType": "Market",
        "stopOrderType": "UNKNOWN",
        "execFee": "17.6",
        "execId": exec_id,
        "execPrice": "64000.00",
        "execQty": "0.500",
        "execType": "Trade",
        "execValue": "32000",
        "execTime": str(to_ms(at)),
        "feeCurrency": "USDT",
        "isMaker": False,
        "feeRate": "0.00055",
        "tradeIv": "",
        "markIv": "",
        "markPrice": "64000.00",
        "indexPrice": "",
        "underlyingPrice": "",
        "blockTradeId": "",
        "closedSize": "0",
        "seq": 1,
        "extraFees": "",
    }
    return row | changes


def edges(**ms: int) -> str:
    return "".join(f"&{name}={value}" for name, value in ms.items())


@pytest.fixture
def empty(venue: Bybit) -> Bybit:
    """The venue with an account that has no fills of its own."""
    venue.add(AA_UID, Key(AA))
    return venue


# The documented payloads.


def has_form_of(answer: Any, documented: Any) -> bool:
    """All the documented keys with their types, all the way down. The first item of a list speaks for all."""
    if isinstance(answer, dict) and isinstance(documented, dict):
        return answer.keys() >= documented.keys() and all(
            has_form_of(answer[key], documented[key]) for key in documented
        )
    if isinstance(answer, list) and isinstance(documented, list):
        return not answer or not documented or has_form_of(answer[0], documented[0])
    return type(answer) is type(documented)


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_answers_have_the_form_of_the_documented_ones(path: Path, demo: Bybit) -> None:
    payload = json.loads(path.read_text())
    assert set(payload) == {"source", "date", "request", "response"}
    target = urlsplit(payload["request"].removeprefix("GET "))
    documented, query, secrets = payload["response"], target.query, MAIN
    if "query_api_trading" in path.stem:
        secrets = WITHDRAWING
    if "pre_upgrade" in path.stem:
        start = NOW - 600 * DAY
        secrets, query = UPGRADED, query + edges(startTime=to_ms(start), endTime=to_ms(start + WEEK))
    answer = request(demo, target.path, query, secrets).json()
    assert has_form_of(answer, documented)
    if "/execution/list" in target.path and documented["result"]["list"]:
        found = [set(row) - {"execFeeV2"} for row in answer["result"]["list"]]
        assert found and all(names == set(documented["result"]["list"][0]) for names in found)
    if "query_api" in path.stem:
        ours, theirs = answer["result"], documented["result"]
        assert ours.keys() >= theirs.keys() and ours["permissions"].keys() >= theirs["permissions"].keys()


def test_every_row_has_the_documented_types(demo: Bybit) -> None:
    payload = next(path for path in PAYLOADS if path.stem == "execution_list_linear")
    documented = json.loads(payload.read_text())["response"]["result"]["list"][0]
    for row in demo.rows(MAIN_UID, "linear") + demo.rows(MAIN_UID, "inverse"):
        assert row.keys() - {"execFeeV2"} == documented.keys()
        assert all(type(row[name]) is type(documented[name]) for name in documented if name != "extraFees")
        assert isinstance(row["extraFees"], str | list)
        assert ("execFeeV2" in row) == (row["execType"] == "FutureSpread")


# Keys.

EXAMPLE = "category=linear&cursor=132766%3A2%2C132766%3A2&endTime=1767225599999&limit=100&startTime=1766620800000"
EXAMPLE_ORIGIN = "1767225600000EXAMPLEKEY0000000A5000"


@pytest.mark.parametrize(
    ("text", "signature"),
    [
        (EXAMPLE_ORIGIN + EXAMPLE, "4b8afc90f4ac1df88da9077782d7adf05b5d853d8176f53e8e0210d89c1f64a9"),
        (EXAMPLE_ORIGIN, "ad8cb6afc5035bed12fcca0da95be208c30772a20d7cfc3bec5d2a0b49921e3f"),
        (EXAMPLE_ORIGIN + '{"category":"linear"}', "13fe92ba24e6873f00f6d101793d9818e3bacbac3f8535f53a02e1471fe1d67d"),
        ("GET/realtime1767225610000", "ad5c448e424875c2ea0b74d238d82e792228e21cb4cca6551f4fb906e450490f"),
    ],
)
def test_the_worked_signatures(text: str, signature: str) -> None:
    assert sign(MAIN["api_secret"], text) == signature


@pytest.mark.parametrize(
    ("path", "query", "signature", "code"),
    [
        (KEY, "", "ad8cb6afc5035bed12fcca0da95be208c30772a20d7cfc3bec5d2a0b49921e3f", 0),
        (FILLS, EXAMPLE, "4b8afc90f4ac1df88da9077782d7adf05b5d853d8176f53e8e0210d89c1f64a9", 10001),  # not our cursor
        (FILLS, EXAMPLE, "4b8afc90f4ac1df88da9077782d7adf05b5d853d8176f53e8e0210d89c1f64a8", 10004),
        (FILLS, EXAMPLE.replace("%3A", ":"), "4b8afc90f4ac1df88da9077782d7adf05b5d853d8176f53e8e0210d89c1f64a9", 10004),
    ],
)
def test_the_worked_requests(path: str, query: str, signature: str, code: int) -> None:
    venue = Bybit(Clock(datetime(2026, 1, 1, tzinfo=UTC)))
    answer = request(venue, path, query, sign=signature).json()
    assert answer["retCode"] == code
    if code == 10001:
        assert "cursor" in answer["retMsg"]


def test_the_query_is_signed_as_it_is_sent(demo: Bybit) -> None:
    assert ask(demo, FILLS, "limit=1&category=linear&symbol=BTCUSDT")["category"] == "linear"
    reordered = sign(MAIN["api_secret"], f"{to_ms(NOW)}{MAIN['api_key']}5000limit=1&category=linear")
    answer = request(demo, FILLS, "category=linear&limit=1", sign=reordered).json()
    assert answer["retCode"] == 10004
    origin = f"{to_ms(NOW)}{MAIN['api_key']}5000category=linear&limit=1"
    assert answer["retMsg"] == f"error sign! origin_string[{origin}]"
    assert refusal(demo, KEY, sign=sign(MAIN["api_secret"], f"{to_ms(NOW)}{MAIN['api_key']}5000").upper()) == 10004


def test_the_window_is_part_of_what_is_signed(demo: Bybit) -> None:
    assert refusal(demo, KEY, recv_window="6000") == 10004
    assert refusal(demo, KEY, recv_window=None) == 10004
    bare = sign(MAIN["api_secret"], f"{to_ms(NOW)}{MAIN['api_key']}")
    ask(demo, KEY, recv_window=None, sign=bare)


def test_without_headers_there_is_no_answer(demo: Bybit) -> None:
    assert request(demo, KEY, secrets=None).status_code == 401
    for missing in ("api_key", "timestamp", "sign"):
        answer = request(demo, KEY, **{missing: None}).json()
        assert answer["retCode"] == 10001
        assert answer["retMsg"].endswith("openapi sign params error!")
    assert refusal(demo, KEY, timestamp="yesterday") == 10001
    assert refusal(demo, KEY, recv_window="-1") == 10001


@pytest.mark.parametrize(
    ("late", "window", "is_good"),
    [
        (0, "5000", True),
        (5000, "5000", True),
        (5001, "5000", False),
        (20_000, "20000", True),
        (-999, "5000", True),
        (-1000, "5000", False),
        (-1000, "60000", False),  # being ahead fails whatever the window
    ],
)
def test_the_clock_has_two_sides(demo: Bybit, late: int, window: str, is_good: bool) -> None:
    answer = request(demo, KEY, late=late, window=window).json()
    assert answer["retCode"] == (0 if is_good else 10002)
    if not is_good:
        assert answer["retMsg"] == (
            "invalid request, please check your server timestamp or recv_window param. "
            f"req_timestamp[{to_ms(NOW) - late}],server_timestamp[{to_ms(NOW)}],recv_window[{window}]"
        )


def test_the_venue_has_a_clock_of_its_own(clock: Clock) -> None:
    venue = Bybit(clock, skew=timedelta(seconds=-2))
    assert ask(venue, TIME, secrets=None) == {
        "timeSecond": str(int(NOW.timestamp()) - 2),
        "timeNano": str((to_ms(NOW) - 2000) * 10**6),
    }
    assert refusal(venue, KEY, late=-2000) == 10002
    answer = request(venue, KEY).json()
    assert (answer["retCode"], answer["time"]) == (0, to_ms(NOW) - 2000)


def test_a_key_says_what_it_is(demo: Bybit) -> None:
    main = ask(demo, KEY)
    assert (main["userID"], main["readOnly"], main["isMaster"], main["parentUid"]) == (24617003, 1, True, "0")
    assert (main["ips"], main["deadlineDay"], main["expiredAt"]) == (["127.0.0.1"], -2, "1970-01-01T00:00:00Z")
    assert (main["permissions"]["Wallet"], main["uta"], main["vipLevel"]) == ([], 1, "VIP-1")
    assert main["permissions"]["ContractTrade"] == ["Order", "Position"]
    assert ask(demo, KEY, secrets=TRADING)["readOnly"] == 0
    assert "Withdraw" in ask(demo, KEY, secrets=WITHDRAWING)["permissions"]["Wallet"]
    sub = ask(demo, KEY, secrets=SUB)
    assert (sub["userID"], sub["isMaster"], sub["parentUid"]) == (int(SUB_UID), False, MAIN_UID)
    assert ask(demo, KEY, secrets=SPOT_ONLY)["permissions"]["ContractTrade"] == []


def test_a_key_without_an_address_dies_after_90_days(venue: Bybit, clock: Clock) -> None:
    assert refusal(venue, KEY, secrets=EXPIRED) == 33004
    for days in (10, 9):
        answer = ask(venue, KEY, secrets=EXPIRING)
        assert (answer["ips"], answer["deadlineDay"], answer["expiredAt"]) == (["*"], days, "2026-12-01T12:00:00Z")
        clock.advance(days=1)
    clock.advance(days=8)
    assert refusal(venue, KEY, secrets=EXPIRING) == 33004
    assert refusal(venue, FILLS, "category=linear", EXPIRING) == 33004
    ask(venue, KEY)


def test_a_key_is_bound_to_its_address(demo: Bybit) -> None:
    assert refusal(demo, KEY, secrets=OTHER_IP) == 10010
    ask(demo, KEY, secrets=OTHER_IP, client="203.0.113.7")
    assert refusal(demo, KEY, client="203.0.113.7") == 10010
    ask(demo, KEY, secrets=EXPIRING, client="203.0.113.7")


@pytest.mark.parametrize(
    ("host", "environment"),
    [
        ("https://api.bybit.com", "mainnet"),
        ("https://api.bytick.com", "mainnet"),
        ("https://api.bybit.eu", "mainnet"),
        ("http://127.0.0.1:9101", "mainnet"),
        ("https://api-testnet.bybit.com", "testnet"),
        ("https://api-demo.bybit.com", "demo"),
    ],
)
def test_a_key_works_in_its_own_environment_only(demo: Bybit, host: str, environment: str) -> None:
    for secrets, home in ((MAIN, "mainnet"), (TESTNET, "testnet")):
        code = request(demo, KEY, secrets=secrets, host=host).json()["retCode"]
        assert code == (0 if home == environment else 10003)


def test_checks_come_in_their_order(demo: Bybit) -> None:
    nobody = {"api_key": "nobody", "api_secret": "none"}
    assert refusal(demo, KEY, secrets=nobody, late=99_999) == 10003
    assert refusal(demo, KEY, secrets=OTHER_IP, late=99_999, sign="bad") == 10002
    assert refusal(demo, KEY, secrets=OTHER_IP, sign="bad") == 10004
    assert refusal(demo, FILLS, "category=linear", SPOT_ONLY) == 10005
    assert refusal(demo, FILLS, "category=cubic", SPOT_ONLY) == 10005
    assert refusal(demo, FILLS, "category=spot") == 10005
    assert refusal(demo, FILLS, "category=cubic") == 10001


@pytest.mark.parametrize("permission", CONTRACTS)
def test_one_of_the_contract_permissions_will_do(venue: Bybit, permission: str) -> None:
    venue.add(AA_UID, Key(AA, permissions={permission: CONTRACTS[permission]}))
    assert ask(venue, FILLS, "category=linear", AA)["list"] == []


def test_a_deleted_key_is_unknown(venue: Bybit) -> None:
    venue.revoke(MAIN_UID)
    assert refusal(venue, KEY) == 10003
    assert refusal(venue, FILLS, "category=linear", TRADING) == 10003
    ask(venue, KEY, secrets=SUB)
    venue.restore(MAIN_UID)
    ask(venue, KEY)


def test_a_master_with_a_wallet_permission_lists_its_subs(demo: Bybit) -> None:
    assert [sub["uid"] for sub in ask(demo, SUBS, secrets=WITHDRAWING)["subMembers"]] == [SUB_UID]
    assert refusal(demo, SUBS) == 10005
    assert refusal(demo, SUBS, secrets=SUB) == 10005


def test_there_are_these_routes_and_no_other(demo: Bybit) -> None:
    assert request(demo, "/v5/order/create", method="POST").status_code == 404
    assert request(demo, FILLS + "/", "category=linear").status_code == 404
    assert request(demo, FILLS, "category=linear", method="POST").status_code == 400


@pytest.mark.parametrize("path", [FILLS, KEY, TIME])
def test_a_get_with_a_body_is_forbidden(demo: Bybit, path: str) -> None:
    response = request(demo, path, content=b"{}")
    assert response.status_code == 403
    assert response.headers["content-type"].startswith("text/html")


# Lists of fills.


def test_without_a_window_the_last_seven_days_are_meant(empty: Bybit) -> None:
    for days in (0, 1, 6, 7, 8, 13, 14, 15, 20):
        empty.put(AA_UID, "linear", fill(NOW - days * DAY, f"{days}"))

    def days_of(query: str) -> list[str]:
        return [row["execId"] for row in ask(empty, FILLS, "category=linear" + query, AA)["list"]]

    assert days_of("") == ["0", "1", "6", "7"]
    assert days_of(edges(startTime=to_ms(NOW - 15 * DAY))) == ["8", "13", "14", "15"]
    assert days_of(edges(endTime=to_ms(NOW - 7 * DAY))) == ["7", "8", "13", "14"]
    assert days_of(edges(startTime=to_ms(NOW - 20 * DAY), endTime=to_ms(NOW - 13 * DAY))) == ["13", "14", "15", "20"]
    assert days_of("&startTime=&endTime=") == ["0", "1", "6", "7"]


def test_both_ends_of_a_window_are_included(empty: Bybit) -> None:
    empty.put(AA_UID, "linear", *(fill(NOW - DAY + ms * MS, f"{ms}") for ms in range(4)))
    query = "category=linear" + edges(startTime=to_ms(NOW - DAY) + 1, endTime=to_ms(NOW - DAY) + 2)
    assert [row["execId"] for row in ask(empty, FILLS, query, AA)["list"]] == ["2", "1"]


@pytest.mark.parametrize(
    "query",
    [
        edges(startTime=to_ms(NOW - WEEK) - 1, endTime=to_ms(NOW)),
        edges(startTime=to_ms(NOW), endTime=to_ms(NOW) - 1),
        edges(startTime=to_ms(NOW - 730 * DAY) - 1),
        edges(startTime=to_ms(NOW - 731 * DAY), endTime=to_ms(NOW - 730 * DAY)),
        edges(endTime=to_ms(NOW - 730 * DAY)),
        "&startTime=0",
        "&startTime=now",
        "&startTime=1767225600.5",
        "&limit=0",
        "&limit=101",
        "&limit=many",
        "&symbol=btcusdt",
        "&execType=Trade,Funding",
        "&cursor=nonsense",
        "&cursor=132766%3A2%2C132766%3A2",
    ],
)
@pytest.mark.parametrize("path", [FILLS, OLD_FILLS])
def test_parameters_out_of_their_bounds_are_refused(demo: Bybit, path: str, query: str) -> None:
    assert refusal(demo, path, "category=linear" + query) == 10001


def test_a_category_must_be_named(demo: Bybit) -> None:
    assert refusal(demo, FILLS) == 10001
    assert refusal(demo, INSTRUMENTS, secrets=None) == 10001


def test_nothing_is_older_than_two_years(venue: Bybit, clock: Clock) -> None:
    query = "category=linear" + edges(startTime=to_ms(NOW - 730 * DAY))
    assert ask(venue, FILLS, query)["list"]
    clock.advance(milliseconds=1)
    answer = request(venue, FILLS, query).json()
    assert (answer["retCode"], answer["retMsg"]) == (10001, TOO_OLD)


def test_pages_are_of_fifty_unless_asked_otherwise(empty: Bybit) -> None:
    empty.put(AA_UID, "linear", *(fill(NOW - DAY - ms * MS, f"{ms}") for ms in range(120)))
    assert [len(page) for page in walk(empty, "category=linear", AA)] == [50, 50, 20]
    assert [len(page) for page in walk(empty, "category=linear&limit=100", AA)] == [100, 20]


def test_a_page_that_is_exactly_full_may_be_followed_by_an_empty_one(empty: Bybit) -> None:
    empty.put(AA_UID, "linear", *(fill(NOW - DAY - ms * MS, f"{ms}") for ms in range(100)))
    assert [len(page) for page in walk(empty, "category=linear&limit=100", AA)] == [100, 0]
    assert [len(page) for page in walk(empty, "category=linear&limit=60", AA)] == [60, 40]
    empty.empty_last_page = True
    assert [len(page) for page in walk(empty, "category=linear&limit=60", AA)] == [60, 40, 0]
    assert [len(page) for page in walk(empty, "category=inverse", AA)] == [0]


def test_newest_first_and_ties_in_an_order_of_the_walk(empty: Bybit) -> None:
    empty.put(AA_UID, "linear", *(fill(NOW - DAY + (n // 60) * MS, f"{n}") for n in range(180)))
    walks = []
    for _ in range(3):
        pages = walk(empty, "category=linear&limit=25", AA)
        rows = [row for page in pages for row in page]
        assert sorted(row["execId"] for row in rows) == sorted(f"{n}" for n in range(180))
        assert [time_of(row) for row in rows] == sorted((time_of(row) for row in rows), reverse=True)
        walks.append(tuple(row["execId"] for row in rows))
    assert len(set(walks)) == 3


def test_a_walk_is_not_disturbed_by_new_fills(empty: Bybit, clock: Clock) -> None:
    empty.put(AA_UID, "linear", *(fill(NOW - DAY - ms * MS, f"{ms}") for ms in range(20)))
    empty.put(AA_UID, "linear", fill(NOW + MS, "new"))
    answer = ask(empty, FILLS, "category=linear&limit=10", AA)
    clock.advance(seconds=1)
    second = ask(empty, FILLS, f"category=linear&limit=10&cursor={answer['nextPageCursor']}", AA)
    assert [row["execId"] for row in second["list"]] == [f"{n}" for n in range(10, 20)]


def test_a_cursor_may_be_encoded_once_or_twice(demo: Bybit) -> None:
    query = "category=linear&limit=5"
    cursor = ask(demo, FILLS, query)["nextPageCursor"]
    assert unquote(cursor) != cursor and "," not in cursor
    once = ask(demo, FILLS, f"{query}&cursor={cursor}")
    assert once == ask(demo, FILLS, f"{query}&cursor={quote(cursor)}")


@pytest.mark.parametrize(
    "query", ["category=inverse", "category=linear&symbol=BTCUSDT", "category=linear&endTime=1795262400000"]
)
def test_a_cursor_holds_for_its_filters_only(demo: Bybit, query: str) -> None:
    cursor = ask(demo, FILLS, "category=linear&limit=5")["nextPageCursor"]
    assert refusal(demo, FILLS, f"{query}&limit=5&cursor={cursor}") == 10001
    assert refusal(demo, OLD_FILLS, f"category=linear&limit=5&cursor={cursor}") == 10001
    assert refusal(demo, FILLS, f"category=linear&limit=5&cursor={cursor}", SUB) == 10001


def test_the_end_of_a_page_may_come_again(clock: Clock) -> None:
    venue = Bybit(clock, duplicates=True, **Bybit.unmetered)
    venue.add(AA_UID, Key(AA))
    venue.put(AA_UID, "linear", *(fill(NOW - DAY - n * MS, f"{n}") for n in range(100)))
    pages = walk(venue, "category=linear", AA)
    assert pages[0][-3:] == pages[1][:3]
    assert {row["execId"] for page in pages for row in page} == {f"{n}" for n in range(100)}
    for limit in (1, 2, 3, 5):
        rows = [row for page in walk(venue, f"category=linear&limit={limit}", AA) for row in page]
        assert len({row["execId"] for row in rows}) == 100 and (len(rows) > 100 or limit == 1)


def test_a_cursor_can_be_made_to_repeat(clock: Clock) -> None:
    venue = Bybit(clock, repeat_cursor=True)
    first = ask(venue, FILLS, "category=linear&limit=5")["nextPageCursor"]
    assert ask(venue, FILLS, f"category=linear&limit=5&cursor={first}")["nextPageCursor"] == first


def test_filters(demo: Bybit) -> None:
    week = ask(demo, FILLS, "category=linear&limit=100" + edges(startTime=to_ms(NOW - 100 * DAY)))["list"]
    for query, name, value in (
        ("symbol=BTCUSDT", "symbol", "BTCUSDT"),
        ("execType=Funding", "execType", "Funding"),
        (f"orderId={week[0]['orderId']}", "orderId", week[0]["orderId"]),
    ):
        rows = ask(demo, FILLS, f"category=linear&limit=100&{query}" + edges(startTime=to_ms(NOW - 100 * DAY)))["list"]
        assert rows and {row[name] for row in rows} == {value}
    for coin, ending in (("USDT", ("USDT",)), ("USDC", ("PERP", "6"))):
        rows = [
            row
            for weeks in range(8)
            for row in ask(
                demo, FILLS, f"category=linear&settleCoin={coin}" + edges(endTime=to_ms(NOW - weeks * WEEK))
            )["list"]
        ]
        assert rows and all(row["symbol"].endswith(ending) for row in rows)
    eth = ask(demo, FILLS, "category=inverse&baseCoin=ETH" + edges(startTime=to_ms(NOW - 50 * DAY)))["list"]
    assert {row["symbol"] for row in eth} == {"ETHUSD"}


def test_an_order_is_found_whatever_else_is_asked(empty: Bybit) -> None:
    empty.put(AA_UID, "linear", fill(NOW - 300 * DAY, "old"), fill(NOW, "new"))
    answer = ask(
        empty, FILLS, "category=linear&symbol=ETHUSDT&startTime=5&orderId=order of old".replace(" ", "%20"), AA
    )
    assert [row["execId"] for row in answer["list"]] == ["old"]


def test_the_future_is_not_shown(empty: Bybit, clock: Clock) -> None:
    empty.put(AA_UID, "linear", fill(NOW, "1"), fill(NOW + timedelta(seconds=1), "2"))
    query = "category=linear" + edges(startTime=to_ms(NOW - DAY), endTime=to_ms(NOW + DAY))
    assert [row["execId"] for row in ask(empty, FILLS, query, AA)["list"]] == ["1"]
    assert empty.truth(AA_UID) == {(NOW.date(), "BTCUSDT"): Truth(1, Decimal(32000))}
    clock.advance(seconds=1)
    assert [row["execId"] for row in ask(empty, FILLS, query, AA)["list"]] == ["2", "1"]


def test_a_demo_account_keeps_seven_days(venue: Bybit) -> None:
    venue.add(AA_UID, Key(AA, environment="demo"))
    venue.put(AA_UID, "linear", *(fill(NOW - days * DAY, f"{days}") for days in (1, 6, 8, 30)))
    host = "https://api-demo.bybit.com"
    assert [row["execId"] for row in read(venue, "linear", NOW - 60 * DAY, AA, host=host)] == ["6", "1"]
    old = "category=linear" + edges(startTime=to_ms(NOW - 31 * DAY))
    assert ask(venue, FILLS, old, AA, host=host)["list"] == []


# The history before an upgrade.


def test_what_was_made_before_the_upgrade_is_in_another_list(demo: Bybit) -> None:
    account, since = demo.accounts[UPGRADED_UID], NOW - 729 * DAY
    assert account.upgraded_at and account.upgraded_at_uta1
    assert ask(demo, ACCOUNT, secrets=UPGRADED)["unifiedMarginStatus"] == 6
    for category, at in (("linear", account.upgraded_at_uta1), ("inverse", account.upgraded_at)):
        old = read(demo, category, since, UPGRADED, OLD_FILLS)
        new = read(demo, category, since, UPGRADED)
        assert old and new
        assert max(map(time_of, old)) < to_ms(at) <= min(map(time_of, new))
        assert not any(name in row for row in old for name in ONLY_UNIFIED)
        everything = [row for row in demo.rows(UPGRADED_UID, category) if time_of(row) >= to_ms(since)]
        assert Counter(row["execId"] for row in old + new) == Counter(row["execId"] for row in everything)
        assert not any(row["symbol"].endswith("PERP") for row in old)


def test_who_never_was_classic_has_nothing_there(demo: Bybit) -> None:
    assert read(demo, "linear", NOW - 60 * DAY, path=OLD_FILLS) == []
    assert read(demo, "inverse", NOW - 729 * DAY, path=OLD_FILLS) == []


def test_a_classic_account_has_no_list_of_before_the_upgrade(venue: Bybit) -> None:
    venue.add(AA_UID, Key(AA), unified_status=1, rows={"linear": [fill(NOW, "1")]})
    assert refusal(venue, OLD_FILLS, "category=linear", AA) == 10028
    assert len(ask(venue, FILLS, "category=linear", AA)["list"]) == 1
    assert ask(venue, ACCOUNT, secrets=AA)["unifiedMarginStatus"] == 1
    assert ask(venue, KEY, secrets=AA)["uta"] == 0


@pytest.mark.parametrize("status", [3, 4])
def test_before_uta_2_inverse_rows_do_not_say_who_made_the_order(clock: Clock, status: int) -> None:
    venue, trader = Bybit(clock, **Bybit.unmetered), Trader("uta1", 5, MARKETS)
    venue.add(AA_UID, Key(AA), trader=trader, unified_status=status, upgraded_at_uta1=NOW - 300 * DAY)
    inverse = read(venue, "inverse", NOW - 500 * DAY, AA)
    assert inverse and {row["createType"] for row in inverse} == {""}
    assert read(venue, "linear", NOW - 320 * DAY, AA, OLD_FILLS)


# What happened.


@pytest.mark.parametrize(
    ("uid", "secrets", "host"),
    [(MAIN_UID, MAIN, HOST), (SUB_UID, SUB, HOST), (TESTNET_UID, TESTNET, "https://api-testnet.bybit.com")],
)
def test_reading_gives_every_row_once_and_truth_is_their_sum(
    demo: Bybit, uid: str, secrets: dict[str, str], host: str
) -> None:
    since = NOW - 729 * DAY
    expected: dict[tuple[date, str], Truth] = {}
    for category in ("linear", "inverse"):
        rows = read(demo, category, since, secrets, host=host)
        listed = [row for row in demo.rows(uid, category) if time_of(row) >= to_ms(since)]
        assert sorted(rows, key=lambda row: str(row["execId"])) == sorted(listed, key=lambda row: str(row["execId"]))
        for row in rows:
            kind, symbol = row["execType"], row["symbol"]
            if "-" in symbol or symbol[-2:].isdigit() or kind not in EXEC_TYPES[:5]:
                continue
            amount = Decimal(row["execQty"])
            if category == "linear":
                amount *= Decimal(row["execPrice"])
            key = datetime.fromtimestamp(int(row["execTime"]) // 1000, UTC).date(), symbol
            old, is_forced = expected.get(key, Truth()), kind in ("AdlTrade", "BustTrade")
            expected[key] = Truth(
                old.fills + (not is_forced),
                old.notional + (0 if is_forced else amount),
                old.forced_fills + is_forced,
                old.forced_notional + (amount if is_forced else 0),
            )
    assert expected and demo.truth(uid, since=since) == expected


def test_truth_of_given_rows(empty: Bybit) -> None:
    day, noon = date(2026, 11, 20), datetime(2026, 11, 20, 12, tzinfo=UTC)
    kinds = (*EXEC_TYPES, UNHEARD)
    empty.put(AA_UID, "linear", *(fill(noon, kind, execType=kind) for kind in kinds))
    empty.put(
        AA_UID,
        "linear",
        fill(noon, "no value", execValue=""),
        fill(noon, "own value", execValue="31999.5"),
        fill(noon, "own value", execValue="31999.5"),  # the same one
        fill(noon, "dated", symbol="BTC-25DEC26"),
        fill(noon, "usdc", symbol="BTCPERP"),
        fill(noon + DAY / 2, "tomorrow"),
    )
    contract = {"execQty": "5000", "execPrice": "64250.00", "execValue": "0.07782101"}
    empty.put(AA_UID, "inverse", fill(noon, "perp", symbol="BTCUSD", **contract))
    empty.put(AA_UID, "inverse", fill(noon, "bust", symbol="BTCUSD", execType="BustTrade", **contract))
    empty.put(AA_UID, "inverse", fill(noon, "quarter", symbol="BTCUSDZ26", **contract))
    empty.put(AA_UID, "spot", fill(noon, "1"))
    assert empty.truth(AA_UID) == {
        (day, "BTCUSDT"): Truth(5, 4 * Decimal(32000) + Decimal("31999.5"), 2, 2 * Decimal(32000)),
        (day, "BTCPERP"): Truth(1, Decimal(32000)),
        (day, "BTCUSD"): Truth(1, Decimal(5000), 1, Decimal(5000)),
        (day + DAY, "BTCUSDT"): Truth(1, Decimal(32000)),
    }
    assert list(empty.truth(AA_UID, since=noon + DAY / 2)) == [(day + DAY, "BTCUSDT")]
    assert empty.truth(AA_UID, until=noon) == {}


def test_the_demo_shows_all_a_connector_must_cope_with(demo: Bybit) -> None:
    linear, inverse = demo.rows(MAIN_UID, "linear"), demo.rows(MAIN_UID, "inverse")
    assert {row["execType"] for row in linear} == {*EXEC_TYPES} - {"UNKNOWN"}
    assert {row["execType"] for row in inverse} >= {"Trade", "BlockTrade", "Funding", "Delivery"}
    assert {"BTCUSDT", "BTCPERP", "ETHPERP", "1000PEPEUSDT", "NVDAUSDT", "BTC-25DEC26"} <= {
        row["symbol"] for row in linear
    }
    assert {"BTCUSD", "ETHUSD", "BTCUSDZ25", "BTCUSDH26"} <= {row["symbol"] for row in inverse}
    for rows in (linear, inverse):
        assert any(row["execFee"].startswith("-") and row["execType"] == "Trade" for row in rows)
        assert len({row["execId"] for row in rows}) == len(rows)
        for name in ("execValue", "closedSize", "markPrice", "tradeIv"):
            assert any(row[name] == "" for row in rows)
        switch = to_ms(datetime(2025, 9, 1, tzinfo=UTC))
        assert all((row["feeCurrency"] == "") == (time_of(row) < switch) for row in rows)
    assert any(isinstance(row["extraFees"], list) for row in linear)
    assert Counter((row["execTime"], row["seq"], row["orderId"]) for row in linear).most_common(1)[0][1] >= 60
    assert {row["feeCurrency"] for row in linear + inverse} == {"USDT", "USDC", "BTC", "ETH", ""}
    for row in linear + inverse:
        if row["execType"] == "Funding":
            assert time_of(row) % (8 * 3_600_000) == 0
        if row["execType"] == "BlockTrade":
            assert row["blockTradeId"]


def test_inverse_contracts_are_dollars_worth_coins(demo: Bybit) -> None:
    for row in demo.rows(MAIN_UID, "inverse"):
        assert "." not in row["execQty"]
        if row["execValue"]:
            value = Decimal(row["execQty"]) / Decimal(row["execPrice"])
            assert abs(Decimal(row["execValue"]) - value) <= Decimal("0.00000001")
            fee = Decimal(row["execValue"]) * Decimal(row["feeRate"])
            assert abs(Decimal(row["execFee"]) - fee) <= Decimal("0.00000001")


def test_orders_are_whole(demo: Bybit) -> None:
    orders: dict[str, list[Row]] = {}
    for row in demo.rows(MAIN_UID, "linear"):
        if row["execType"] in EXEC_TYPES[:5]:
            orders.setdefault(row["orderId"], []).append(row)
    for rows in orders.values():
        assert {Decimal(row["orderQty"]) for row in rows} == {sum(Decimal(row["execQty"]) for row in rows)}
        assert min(Decimal(row["leavesQty"]) for row in rows) == 0


def test_there_are_about_as_many_fills_as_asked_for(clock: Clock) -> None:
    counts = {rate: len(Bybit(clock, fills_per_day=rate).rows(MAIN_UID, "linear")) for rate in (4, 12)}
    assert 2 * counts[4] < counts[12] and 6000 < counts[12] < 12_000


def test_history_does_not_change_when_the_venue_starts_anew(clock: Clock) -> None:
    before = Bybit(clock).rows(MAIN_UID, "linear")
    clock.advance(days=5)
    venue = Bybit(clock)
    list(venue.accounts[MAIN_UID].histories["linear"].between(to_ms(NOW - DAY), to_ms(NOW), newest_first=True))
    after = venue.rows(MAIN_UID, "linear")
    assert after[: len(before)] == before
    assert len(after) > len(before)


def test_odd_rows_come_only_when_asked_for(clock: Clock) -> None:
    odd, usual = Bybit(clock, odd=True), Bybit(clock)
    rows = odd.rows(MAIN_UID, "linear")
    assert all("auditTrail" in row for row in rows if row["execType"] == "Trade")
    unknown = [row for row in rows if row["execType"] in ("UNKNOWN", UNHEARD)]
    assert {row["execType"] for row in unknown} == {"UNKNOWN", UNHEARD}
    assert not any(row["execType"] in ("UNKNOWN", UNHEARD) for row in usual.rows(MAIN_UID, "linear"))
    counts = [
        sum(truth.fills for (_, symbol), truth in venue.truth(MAIN_UID).items() if not symbol.endswith("USD"))
        for venue in (odd, usual)
    ]
    dated = sum("-" in row["symbol"] for row in unknown)
    assert counts[0] == counts[1] - len(unknown) + dated
    listed = ask(odd, INSTRUMENTS, "category=linear&limit=1000", None)["list"]
    assert not {row["symbol"] for row in listed} & {*HIDDEN}


# Markets.


def test_markets_come_in_pages(demo: Bybit) -> None:
    first = ask(demo, INSTRUMENTS, "category=linear", None)
    assert len(first["list"]) == 500
    assert first["nextPageCursor"].startswith("first%3D1000PEPEUSDT%26last%3D")
    second = ask(demo, INSTRUMENTS, f"category=linear&cursor={first['nextPageCursor']}", None)
    assert second["nextPageCursor"] == ""
    symbols = [market["symbol"] for market in first["list"] + second["list"]]
    assert len(set(symbols)) == len(symbols) == 540 + 12
    assert symbols == [
        market["symbol"] for market in ask(demo, INSTRUMENTS, "category=linear&limit=1000", None)["list"]
    ]
    assert refusal(demo, INSTRUMENTS, "category=linear&limit=1001", None) == 10001
    assert refusal(demo, INSTRUMENTS, "category=linear&cursor=7", None) == 10001


def test_markets_that_ended_are_listed_when_asked_for(demo: Bybit) -> None:
    trading = {market["symbol"]: market for market in ask(demo, INSTRUMENTS, "category=inverse", None)["list"]}
    assert set(trading) == {"BTCUSD", "ETHUSD", "BTCUSDZ26", "BTCUSDH27"}
    assert trading["BTCUSDZ26"]["deliveryTime"] == "1798185600000"
    assert trading["BTCUSDZ26"]["contractType"] == "InverseFutures"
    assert trading["BTCUSD"]["contractType"] == "InversePerpetual"
    closed = ask(demo, INSTRUMENTS, "category=inverse&status=Closed", None)["list"]
    assert {"BTCUSDZ24", "BTCUSDH25", "BTCUSDU26"} <= {market["symbol"] for market in closed}
    everything = {market["symbol"] for market in closed} | set(trading)
    assert {row["symbol"] for row in demo.rows(MAIN_UID, "inverse")} <= everything


def test_with_a_base_coin_the_categories_mix(demo: Bybit) -> None:
    found = {market["symbol"] for market in ask(demo, INSTRUMENTS, "category=inverse&baseCoin=ETH", None)["list"]}
    assert found == {"ETHUSDT", "ETHPERP", "ETHUSD"}
    one = ask(demo, INSTRUMENTS, "category=linear&symbol=BTC-25DEC26", None)["list"]
    assert [(market["contractType"], market["settleCoin"]) for market in one] == [("LinearFutures", "USDC")]
    assert ask(demo, INSTRUMENTS, "category=spot", None)["list"] == []


def test_quarters_end_on_their_last_friday() -> None:
    ends = [date(2024, 12, 27), date(2025, 3, 28), date(2025, 6, 27), date(2025, 9, 26), date(2025, 12, 26)]
    assert [date.fromordinal(expiry_after(end.toordinal() - 1)) for end in ends] == ends
    assert [date.fromordinal(expiry_after(end.toordinal())) for end in ends[:-1]] == ends[1:]


# Limits.


def test_headers_tell_what_is_left(venue: Bybit) -> None:
    for left in (49, 48):
        headers = request(venue, FILLS, "category=linear").headers
        assert (headers["X-Bapi-Limit"], headers["X-Bapi-Limit-Status"]) == ("50", str(left))
        assert headers["X-Bapi-Limit-Reset-Timestamp"] == str(to_ms(NOW))
    assert request(venue, KEY).headers["X-Bapi-Limit"] == "10"
    assert request(venue, ACCOUNT).headers["X-Bapi-Limit"] == "50"
    assert request(venue, FILLS, "category=cubic").headers["X-Bapi-Limit-Status"] == "47"
    assert "X-Bapi-Limit" in request(venue, KEY, sign="bad").headers
    assert "X-Bapi-Limit" not in request(venue, TIME, secrets=None).headers


def test_who_asks_too_often_waits_for_the_second_to_pass(clock: Clock) -> None:
    venue = Bybit(clock, requests_per_second=5)
    for _ in range(5):
        ask(venue, FILLS, "category=linear")
        clock.advance(milliseconds=100)
    response = request(venue, FILLS, "category=linear")
    assert response.status_code == 200
    assert (response.json()["retCode"], response.json()["retMsg"]) == (10006, "Too many visits!")
    assert response.headers["X-Bapi-Limit-Status"] == "0"
    assert response.headers["X-Bapi-Limit-Reset-Timestamp"] == str(to_ms(NOW) + 1000)
    ask(venue, FILLS, "category=linear", SUB)  # per UID
    ask(venue, ACCOUNT)  # and per path
    assert refusal(venue, FILLS, "category=linear", TRADING) == 10006  # not per key
    assert venue.too_early == 1
    clock.now = NOW + timedelta(seconds=1)
    ask(venue, FILLS, "category=linear")
    assert refusal(venue, FILLS, "category=linear") == 10006
    assert venue.too_early == 1


def test_unmetered_means_that(clock: Clock) -> None:
    venue = Bybit(clock, **Bybit.unmetered)
    for _ in range(700):
        ask(venue, KEY)


def test_an_address_that_asks_much_too_often_is_banned_for_ten_minutes(clock: Clock) -> None:
    venue = Bybit(clock, requests_per_ip=6)
    for _ in range(6):
        ask(venue, TIME, secrets=None)
    assert request(venue, TIME, secrets=None, client="10.0.0.9").status_code == 200
    for count in range(3):
        response = request(venue, TIME if count == 1 else KEY)
        assert (response.status_code, response.text) == (403, "access too frequent")
        assert venue.too_early == count
        clock.advance(minutes=4)
    assert clock.now == NOW + timedelta(minutes=12)
    ask(venue, KEY)


def test_an_address_can_be_banned_by_hand(venue: Bybit, clock: Clock) -> None:
    venue.ban_ip(seconds=60)
    assert request(venue, KEY).status_code == 403
    clock.advance(seconds=60)
    ask(venue, KEY)
    assert venue.too_early == 0


def test_the_five_seconds_of_an_address_slide(clock: Clock) -> None:
    venue = Bybit(clock, requests_per_ip=6)
    for _ in range(20):
        ask(venue, TIME, secrets=None)
        clock.advance(seconds=1)


def test_faults_speak_as_the_venue_does(venue: Bybit, clock: Clock) -> None:
    venue.rate_limit(retry_after=3)
    venue.rate_limit()
    venue.maintain()
    told = request(venue, KEY)
    assert told.json()["retCode"] == 10006 == json.loads(venue.rate_limited[1])["retCode"]
    assert told.headers["X-Bapi-Limit-Reset-Timestamp"] == str(to_ms(NOW) + 3000)
    clock.advance(seconds=3)
    again = request(venue, KEY)
    assert (again.status_code, again.json()["retCode"]) == (200, 10006)
    assert "X-Bapi-Limit-Reset-Timestamp" not in again.headers
    assert request(venue, KEY).json()["retCode"] == 10016
    ask(venue, KEY)
    assert venue.too_early == 0


def test_loopback_says_what_the_venue_says(venue: Bybit) -> None:
    query = "category=linear&limit=5"
    with serve(venue) as server:
        stamp = str(to_ms(NOW))
        cursor = ask(venue, FILLS, query)["nextPageCursor"]
        query += f"&cursor={cursor}"
        headers = {
            "X-BAPI-API-KEY": MAIN["api_key"],
            "X-BAPI-TIMESTAMP": stamp,
            "X-BAPI-RECV-WINDOW": "5000",
            "X-BAPI-SIGN": sign(MAIN["api_secret"], stamp + MAIN["api_key"] + "5000" + query),
        }
        answer = httpx.get(f"{server.url}{FILLS}?{query}", headers=headers)
    assert answer.json() == request(venue, FILLS, query).json()
    assert venue.calls[FILLS] == 3
