import base64
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from exchanges.sandbox.base import to_ms
from exchanges.sandbox.history import Truth
from exchanges.sandbox.paradex import (
    CHAINS,
    DEMO_MAIN,
    DEMO_MAIN_KEY,
    DEMO_MAIN_PUBLIC,
    DEMO_SUB,
    DEMO_SUB_TOKEN,
    DEMO_SUBKEY,
    DEMO_SUBKEY_PUBLIC,
    DEMO_TOKEN,
    UNLISTED,
    Paradex,
    asset_kind_of,
)
from exchanges.stark import auth_hash, public_key, sign

PAYLOADS = Path(__file__).parents[2] / "payloads" / "paradex"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
AA = "0xaa"
MAINNET, TESTNET = "https://api.prod.paradex.trade", "https://api.testnet.paradex.trade"


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
def venue(clock: Clock) -> Paradex:
    return Paradex(clock, **Paradex.unmetered)


@pytest.fixture(scope="module")
def demo() -> Paradex:
    """The venue at one instant, to be read only."""
    return Paradex(Clock(), **Paradex.unmetered)


def send(
    venue: Paradex,
    path: str,
    token: str | None = DEMO_TOKEN,
    *,
    method: str = "GET",
    host: str = MAINNET,
    headers: dict[str, str] | None = None,
    client: str | None = None,
    **params: Any,
) -> httpx.Response:
    headers = ({"Authorization": f"Bearer {token}"} if token else {}) | (headers or {})
    request = httpx.Request(method, f"{host}/v1{path}", params=params, headers=headers)
    if client:
        request.extensions["client"] = client
    return venue(request)


def get(venue: Paradex, path: str, token: str | None = DEMO_TOKEN, **params: Any) -> Any:
    response = send(venue, path, token, **params)
    assert response.status_code == 200, response.text
    return response.json()


def read(venue: Paradex, token: str = DEMO_TOKEN, path: str = "/fills", **params: Any) -> list[dict[str, Any]]:
    """The whole list, page by page."""
    page = get(venue, path, token, **params)
    rows = page["results"]
    while page["next"]:
        page = get(venue, path, token, cursor=page["next"], **params)
        assert page["results"]
        rows += page["results"]
    return rows


def fill(at: datetime, number: int, **changes: Any) -> dict[str, Any]:
    row = json.loads((PAYLOADS / "fills.json").read_text())["response"]["results"][0]
    return row | {"account": AA, "id": f"{to_ms(at)}{number:015}", "created_at": to_ms(at)} | changes


def naive(rows: list[dict[str, Any]], busted: set[str]) -> dict[tuple[date, str], Truth]:
    """The sheet's rule, row by row."""
    sums: dict[tuple[date, str], Truth] = defaultdict(Truth)
    for row in rows:
        if not row["market"].endswith("-PERP") or row["id"] in busted:
            continue
        key = datetime.fromtimestamp(row["created_at"] / 1000, UTC).date(), row["market"]
        fills, notional, forced, forced_notional = sums[key]
        worth = Decimal(row["price"]) * Decimal(row["size"])
        if row["fill_type"] in ("FILL", "RPI", "BLOCK_TRADE"):
            sums[key] = Truth(fills + 1, notional + worth, forced, forced_notional)
        elif row["fill_type"] == "LIQUIDATION":
            sums[key] = Truth(fills, notional, forced + 1, forced_notional + worth)
    return {key: truth for key, truth in sums.items() if truth != Truth()}


def is_refused(response: httpx.Response, status: int, error: str) -> bool:
    return (response.status_code, response.json().get("error")) == (status, error)


def claims_of(token: str) -> dict[str, Any]:
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


# The form of answers.

OPTIONAL = {"orderbook_seq_no", "market_kind", "strike_price", "option_type"}
OPTIONAL |= {"max_order_size", "position_limit", "max_open_orders", "funding_period_hours", "trading_mode"}
NUMBERS = (int, float)


def has_form_of(answer: Any, documented: Any) -> bool:
    """The same keys and types all the way down; the first item of a documented list speaks for all."""
    if isinstance(answer, dict) and isinstance(documented, dict):
        keys = answer.keys() - OPTIONAL
        return keys == documented.keys() - OPTIONAL and all(has_form_of(answer[key], documented[key]) for key in keys)
    if isinstance(answer, list) and isinstance(documented, list):
        return not documented or all(has_form_of(item, documented[0]) for item in answer)
    return type(answer) is type(documented) or (isinstance(answer, NUMBERS) and isinstance(documented, NUMBERS))


def documented(name: str) -> Any:
    payload = json.loads((PAYLOADS / f"{name}.json").read_text())
    assert set(payload) == {"source", "date", "request", "response"}
    return payload["response"]


def test_every_payload_is_named_in_the_readme() -> None:
    readme = (PAYLOADS / "README.md").read_text()
    assert all(path.stem in readme for path in PAYLOADS.glob("*.json"))


@pytest.mark.parametrize("name", ["fills", "fills_last_page"])
def test_fills_have_the_form_of_the_documented_ones(demo: Paradex, name: str) -> None:
    first = get(demo, "/fills", page_size=5000)
    last = get(demo, "/fills", page_size=5000, cursor=first["next"])
    answer, expected = first if name == "fills" else last, documented(name)
    assert all("orderbook_seq_no" in row for row in first["results"])
    assert has_form_of(answer["results"], expected["results"])
    assert bool(answer["next"]) == (name == "fills")
    assert isinstance(answer["prev"], str) == (name == "fills_last_page")


@pytest.mark.parametrize(
    ("name", "path", "params"),
    [
        ("tradebusts", "/tradebusts", {}),
        ("account_history_volume", "/account/history", {"type": "volume"}),
        ("volume_tiers_pro", "/system/volume-tiers", {}),
    ],
)
def test_answers_have_the_form_of_the_documented_ones(
    demo: Paradex, name: str, path: str, params: dict[str, str]
) -> None:
    answer, expected = get(demo, path, **params), documented(name)
    if name.startswith("volume_tiers"):
        answer["results"] = [row for row in answer["results"] if row["kind"] == "pro"]
    if name == "tradebusts":
        del answer["next"], expected["next"]  # null, or text
    assert has_form_of(answer, expected)


def test_accounts_have_the_form_of_the_documented_ones(demo: Paradex) -> None:
    answers = {row["account"]: row for row in get(demo, "/account/info")["results"]}
    assert has_form_of(answers[DEMO_MAIN], documented("account_info")["results"][0])
    assert has_form_of(answers[DEMO_SUB], documented("account_subaccounts")["results"][0])
    assert get(demo, "/account/subaccounts")["results"] == [answers[DEMO_SUB]]
    assert answers[DEMO_MAIN]["public_key"] == documented("account_info")["results"][0]["public_key"]
    assert (answers[DEMO_SUB]["kind"], answers[DEMO_SUB]["parent_account"]) == ("subaccount", DEMO_MAIN)
    assert [row["account"] for row in get(demo, "/account/info", DEMO_SUB_TOKEN)["results"]] == [DEMO_SUB]
    assert get(demo, "/account/subaccounts", DEMO_SUB_TOKEN) == {"results": []}


def test_markets_have_the_form_of_the_documented_ones(demo: Paradex) -> None:
    rows = get(demo, "/markets", None)["results"]
    assert {row["asset_kind"] for row in rows} == {"PERP", "SPOT", "OPTION", "PERP_OPTION"}
    for row in documented("markets")["results"] + documented("markets_option_and_spot")["results"]:
        assert asset_kind_of(row["symbol"]) == row["asset_kind"]
        assert all(has_form_of(ours, row) for ours in rows if ours["asset_kind"] == row["asset_kind"])
    assert get(demo, "/markets", None, market="ETH-USD")["results"] == [
        row for row in rows if row["symbol"] == "ETH-USD"
    ]
    assert is_refused(send(demo, "/markets", None, market="GONE-USD-PERP"), 404, "MARKET_NOT_FOUND")


def schema_of(document: Any, schema: Any) -> Any:
    """With references followed and `allOf` merged."""
    if "$ref" in schema:
        return schema_of(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    merged = dict(schema)
    for part in merged.pop("allOf", []):
        part = schema_of(document, part)
        merged |= part | {"properties": merged.get("properties", {}) | part.get("properties", {})}
    return merged


def complaints(document: Any, schema: Any, value: Any, where: str = "") -> list[str]:
    schema = schema_of(document, schema)
    types = {"string": str, "integer": int, "number": NUMBERS, "boolean": bool, "array": list, "object": dict}
    if "type" in schema and not isinstance(value, types[schema["type"]]):
        return [f"{where}: {value!r} is no {schema['type']}"]
    result = [f"{where}: {value!r} is not in the enum"] if "enum" in schema and value not in schema["enum"] else []
    if isinstance(value, list):
        for item in value:
            result += complaints(document, schema.get("items", {}), item, where + "[]")
    if isinstance(value, dict) and "properties" in schema:
        for name, item in value.items():
            if name not in schema["properties"]:
                result.append(f"{where}.{name} is not documented")
            elif item is not None:
                result += complaints(document, schema["properties"][name], item, f"{where}.{name}")
    return result


@pytest.mark.parametrize(
    "path",
    [
        "/fills?page_size=5000&start_at=1784800000000",
        "/tradebusts",
        "/account/info",
        "/account/subaccounts",
        "/account/history?type=volume",
        "/account/history?type=pnl",
        "/markets",
        "/markets/summary?market=ALL",
        "/system/config",
        "/system/time",
        "/system/state",
        "/system/volume-tiers",
    ],
)
def test_answers_are_what_the_venues_own_document_says(demo: Paradex, shared_data: Path, path: str) -> None:
    file = shared_data / "openapi" / "paradex_rest_prod_openapi.json"
    if not file.is_file():
        pytest.skip("needs the venue's OpenAPI document")
    document = json.loads(file.read_text())
    bare, _, query = path.partition("?")
    schema = document["paths"][bare]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    answer = get(demo, bare, **dict(httpx.QueryParams(query)))
    said = complaints(document, schema, answer)
    if bare == "/markets":  # the sheet knows options with a date, the document's list of kinds does not
        said = [text for text in said if "'OPTION'" not in text]
    assert said == []


# Lists.


def test_reading_all_pages_gives_every_fill_once(demo: Paradex) -> None:
    rows = read(demo, page_size=700)
    key: Callable[[dict[str, Any]], Any] = lambda row: (row["created_at"], row["id"], row["fill_type"])  # noqa: E731
    assert sorted(rows, key=key) == sorted(demo.rows(DEMO_MAIN), key=key)
    times = [row["created_at"] for row in rows]
    assert times == sorted(times, reverse=True)
    assert len(rows) > 7000


def test_a_sub_account_has_its_own_fills(demo: Paradex) -> None:
    rows = read(demo, DEMO_SUB_TOKEN, page_size=5000)
    assert {row["account"] for row in rows} == {DEMO_SUB}


@pytest.mark.parametrize("page_size", [1, 2, 3, 7])
def test_pages_may_end_within_a_millisecond(venue: Paradex, page_size: int) -> None:
    rows = [fill(NOW - index // 5 * SECOND, index) for index in range(20)]
    rows += [row | {"fill_type": "LIQUIDATION"} for row in rows[:3]]
    token = venue.add(AA, rows=rows)
    seen = read(venue, token, page_size=page_size)
    assert Counter((row["id"], row["fill_type"]) for row in seen) == Counter(
        (row["id"], row["fill_type"]) for row in rows
    )


def test_rows_of_one_millisecond_come_in_any_order(venue: Paradex) -> None:
    token = venue.add(AA, rows=[fill(NOW, index) for index in range(10)])
    orders = {tuple(row["id"] for row in get(venue, "/fills", token)["results"]) for _ in range(5)}
    assert len(orders) > 1


def test_a_page_leads_back_to_the_one_before(venue: Paradex) -> None:
    token = venue.add(AA, rows=[fill(NOW - index * SECOND, index) for index in range(7)])
    first = get(venue, "/fills", token, page_size=3)
    second = get(venue, "/fills", token, page_size=3, cursor=first["next"])
    third = get(venue, "/fills", token, page_size=3, cursor=second["next"])
    assert first["prev"] is None and not third["next"]
    again = get(venue, "/fills", token, page_size=3, cursor=third["prev"])
    assert again["results"] == second["results"]
    assert get(venue, "/fills", token, page_size=3, cursor=again["prev"])["results"] == first["results"]


def test_lists_can_be_turned_round(clock: Clock) -> None:
    venue = Paradex(clock, oldest_first=True, **Paradex.unmetered)
    rows = read(venue, page_size=1000)
    assert [row["created_at"] for row in rows] == [row["created_at"] for row in venue.rows(DEMO_MAIN)]


def test_the_end_is_null_or_empty_text(venue: Paradex) -> None:
    token = venue.add(AA)
    pages = [get(venue, "/fills", token) for _ in range(4)]
    assert [page["next"] for page in pages] in ([None, "", None, ""], ["", None, "", None])


def test_a_page_has_100_rows_or_as_many_as_asked_up_to_5000(demo: Paradex) -> None:
    assert len(get(demo, "/fills")["results"]) == 100
    assert len(get(demo, "/fills", page_size=5000)["results"]) == 5000
    for wrong in ("0", "5001", "-1", "many"):
        assert is_refused(send(demo, "/fills", page_size=wrong), 400, "VALIDATION_ERROR")
        assert is_refused(send(demo, "/tradebusts", page_size=wrong), 400, "VALIDATION_ERROR")
    assert is_refused(send(demo, "/fills", start_at="2026-01-01"), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(("exclusive", "seen"), [(False, [2, 3, 4]), (True, [3])])
def test_both_ends_of_a_range_are_included_or_both_are_not(clock: Clock, exclusive: bool, seen: list[int]) -> None:
    venue = Paradex(clock, exclusive_bounds=exclusive)
    moments = [NOW - timedelta(milliseconds=10 - index) for index in range(6)]
    token = venue.add(AA, rows=[fill(at, index) for index, at in enumerate(moments)])
    answer = get(venue, "/fills", token, start_at=to_ms(moments[2]), end_at=to_ms(moments[4]))
    assert [int(row["id"][-3:]) for row in reversed(answer["results"])] == seen


def test_fills_can_be_asked_by_market_and_by_kind(demo: Paradex) -> None:
    rows = demo.rows(DEMO_MAIN)
    assert len(read(demo, market="kPEPE-USD-PERP", page_size=50)) == sum(
        row["market"] == "kPEPE-USD-PERP" for row in rows
    )
    for kind in ("PERP", "SPOT", "OPTION", "PERP_OPTION"):
        found = read(demo, asset_kind=kind, page_size=5000)
        assert len(found) == sum(asset_kind_of(row["market"]) == kind for row in rows) > 0
    assert is_refused(send(demo, "/fills", asset_kind="FUTURE"), 400, "VALIDATION_ERROR")


def test_testnet_does_not_know_the_filter_by_kind(venue: Paradex) -> None:
    token = venue.add(AA, rows=[fill(NOW, 1)], environment="testnet")
    response = send(venue, "/fills", token, host=TESTNET, asset_kind="SPOT")
    assert len(response.json()["results"]) == 1


def test_a_cursor_is_good_for_the_same_question_only(venue: Paradex, clock: Clock) -> None:
    token = venue.add(AA, rows=[fill(NOW - index * SECOND, index) for index in range(9)])
    cursor = get(venue, "/fills", token, page_size=2, end_at=to_ms(NOW))["next"]
    same = {"page_size": 2, "end_at": to_ms(NOW), "cursor": cursor}
    assert len(get(venue, "/fills", token, **same)["results"]) == 2
    content, _, signature = cursor.partition(".")
    forged = base64.urlsafe_b64encode(b'{"filter":{"Limit":2}}').decode()
    wrong: list[tuple[str, str, dict[str, Any]]] = [
        ("/fills", token, {"page_size": 3}),
        ("/fills", token, {"end_at": to_ms(NOW) - 1}),
        ("/fills", token, {"start_at": 0}),
        ("/fills", token, {"market": "BTC-USD-PERP"}),
        ("/fills", token, {"cursor": "x" + cursor}),
        ("/fills", token, {"cursor": content}),
        ("/fills", token, {"cursor": f"{forged}.{signature}"}),
        ("/fills", token, {"cursor": "é.ü"}),
        ("/tradebusts", token, {}),
        ("/fills", DEMO_TOKEN, {}),
    ]
    for path, who, changes in wrong:
        assert is_refused(send(venue, path, who, **same | changes), 400, "INVALID_REQUEST_PARAMETER"), changes
    clock.advance(seconds=600)
    assert send(venue, "/fills", token, **same).status_code == 200
    clock.advance(seconds=1)
    assert is_refused(send(venue, "/fills", token, **same), 400, "INVALID_REQUEST_PARAMETER")


def test_rows_may_come_twice(clock: Clock) -> None:
    venue = Paradex(clock, duplicates=True, **Paradex.unmetered)
    rows = read(venue, page_size=500)
    once = {(row["id"], row["fill_type"]) for row in rows}
    assert len(rows) > len(once) == len(venue.rows(DEMO_MAIN))
    assert len(read(venue, venue.add(AA, rows=[fill(NOW, n) for n in range(3)]), page_size=1)) == 3


def test_nothing_is_told_of_the_future(venue: Paradex, clock: Clock) -> None:
    before = venue.rows(DEMO_MAIN)
    assert max(row["created_at"] for row in before) <= to_ms(NOW)
    clock.advance(days=2)
    assert len(venue.rows(DEMO_MAIN)) > len(before)
    assert venue.rows(DEMO_MAIN)[: len(before)] == before


def test_whatever_was_asked_before_the_rows_are_the_same(demo: Paradex) -> None:
    other = Paradex(Clock(), **Paradex.unmetered)
    since = to_ms(NOW - timedelta(days=40))
    newest = get(other, "/fills", start_at=since, page_size=5000)["results"]
    key: Callable[[dict[str, Any]], Any] = lambda row: (row["created_at"], row["id"], row["fill_type"])  # noqa: E731
    expected = [row for row in demo.rows(DEMO_MAIN) if row["created_at"] >= since]
    assert sorted(newest, key=key) == sorted(expected, key=key)


def test_two_years_of_a_busy_account_are_quick() -> None:
    venue = Paradex(Clock(), fills_per_day=68.5, **Paradex.unmetered)
    assert len(read(venue, page_size=5000)) > 45_000


# Rows.


def test_every_kind_of_row_is_there(demo: Paradex) -> None:
    rows = demo.rows(DEMO_MAIN)
    types = {"FILL", "RPI", "BLOCK_TRADE", "LIQUIDATION", "SETTLE_MARKET", "TRANSFER", "UNWIND_TRANSFER"}
    assert {row["fill_type"] for row in rows} == types
    assert {row["fee_currency"] for row in rows} == {"USDC", "DIME"}
    assert {flag for row in rows for flag in row["flags"]} == {"interactive", "rpi", "fastfill"}
    fees = [Decimal(row["fee"]) for row in rows]
    assert min(fees) < 0 < max(fees) and 0 in fees
    assert max(Counter(row["created_at"] for row in rows).values()) >= 60


def test_an_id_is_unique_within_its_kind_of_fill_only(demo: Paradex) -> None:
    rows = demo.rows(DEMO_MAIN)
    assert all(len(row["id"]) == 28 and row["id"].isdigit() for row in rows)
    assert max(Counter((row["fill_type"], row["id"]) for row in rows).values()) == 1
    twins = {id for id, count in Counter(row["id"] for row in rows).items() if count > 1}
    assert {"LIQUIDATION", "SETTLE_MARKET"} < {row["fill_type"] for row in rows if row["id"] in twins}


def test_rows_are_spelled_as_in_their_time(demo: Paradex) -> None:
    def since(*day: int) -> int:
        return to_ms(datetime(*day, tzinfo=UTC))  # type: ignore[arg-type]

    for row in demo.rows(DEMO_MAIN):
        at = row["created_at"]
        assert ("orderbook_seq_no" in row) == (at >= since(2025, 10, 1))
        assert row["fill_type"] != ("UNWIND_TRANSFER" if at < since(2026, 7, 22) else "TRANSFER")
        assert row["realized_pnl"] in ("", "0") or at >= since(2025, 1, 2)
        if row["fill_type"] not in ("FILL", "RPI", "BLOCK_TRADE"):
            assert row.get("orderbook_seq_no", 0) == 0
    old = {row["realized_pnl"] for row in demo.rows(DEMO_MAIN) if row["created_at"] < since(2025, 1, 1)}
    assert old == {"", "0"}


def test_dated_options_expire_and_leave_the_list_of_markets(demo: Paradex) -> None:
    listed = {row["symbol"] for row in get(demo, "/markets", None)["results"]}
    traded = {row["market"] for row in demo.rows(DEMO_MAIN)}
    assert {asset_kind_of(symbol) for symbol in traded - listed} == {"OPTION"}
    assert "BTC-USD-25DEC26-100000-C" in listed


def test_an_odd_venue_says_things_nobody_has_heard_of(clock: Clock, demo: Paradex) -> None:
    odd = Paradex(clock, odd=True, **Paradex.unmetered)
    rows = odd.rows(DEMO_MAIN)
    unknown = [row for row in rows if row["fill_type"] == "AUCTION"]
    assert 0 < len(unknown) < len(rows) / 100
    assert all("venue_fee_share" in row for row in rows)
    assert odd.truth(DEMO_MAIN) == naive(rows, {row["busted_fill_id"] for row in odd.rows(DEMO_MAIN, "tradebusts")})
    assert odd.truth(DEMO_MAIN) != demo.truth(DEMO_MAIN)
    markets = get(odd, "/markets", None)["results"]
    assert not {row["symbol"] for row in markets} & set(UNLISTED)
    assert isinstance(markets[0]["open_at"], str)
    assert get(odd, "/system/time", None) == {"server_time": to_ms(NOW)}


# Truth and busts.


@pytest.mark.parametrize("account", [DEMO_MAIN, DEMO_SUB])
def test_the_truth_is_what_the_rows_come_to(demo: Paradex, account: str) -> None:
    busted = {row["busted_fill_id"] for row in demo.rows(account, "tradebusts")}
    rows = demo.rows(account)
    assert demo.truth(account) == naive(rows, busted)
    since, until = NOW - timedelta(days=90, hours=5), NOW - timedelta(days=3, minutes=7)
    part = [row for row in rows if to_ms(since) <= row["created_at"] < to_ms(until)]
    assert demo.truth(account, since, until) == naive(part, busted) != {}
    assert demo.truth(account, until=NOW + timedelta(days=9)) == demo.truth(account)


def test_rows_put_in_by_hand_count_by_the_same_rule(venue: Paradex) -> None:
    before, at = venue.truth(DEMO_MAIN), NOW - timedelta(days=1)
    key = (at.date(), "BTC-USD-PERP")
    rows = [
        fill(at, 1),
        fill(at, 1, fill_type="LIQUIDATION"),
        fill(at, 3, fill_type="SETTLE_MARKET"),
        fill(at, 4, fill_type="TRANSFER"),
        fill(at, 5, fill_type="NEWS"),
        fill(at, 6, market="ETH-USD"),
        fill(at, 7, market="BTC-USD-96000-C"),
        fill(NOW + SECOND, 8),
    ]
    venue.put(DEMO_MAIN, "fills", *rows)
    worth = Decimal("91250.5") * Decimal("0.02")
    expected = before.get(key, Truth()).plus(worth, is_forced=False).plus(worth, is_forced=True)
    assert venue.truth(DEMO_MAIN) == before | {key: expected}


def test_the_demo_has_busts_seconds_to_a_day_after_their_fills(demo: Paradex) -> None:
    fills = {row["id"]: row for row in demo.rows(DEMO_MAIN)}
    busts = demo.rows(DEMO_MAIN, "tradebusts")
    assert read(demo, path="/tradebusts", page_size=2) == busts[::-1]
    assert 1 < len(busts) < 20
    delays = [row["created_at"] - fills[row["busted_fill_id"]]["created_at"] for row in busts]
    assert all(3_000 <= delay < 86_400_000 for delay in delays)
    assert all(row["account"] == DEMO_MAIN for row in busts)


@pytest.mark.parametrize("stays", [True, False])
def test_a_busted_fill_is_listed_among_the_busts_and_counts_no_more(clock: Clock, stays: bool) -> None:
    venue = Paradex(clock, busted_stay=stays)
    rows = [fill(NOW - 2 * SECOND, 1), fill(NOW - SECOND, 2)]
    token = venue.add(AA, rows=rows)
    [(key, truth)] = venue.truth(AA).items()
    venue.bust(AA, rows[0]["id"])
    venue.bust(AA, rows[1]["id"], at=NOW + SECOND)
    assert get(venue, "/tradebusts", token)["results"] == [
        {"account": AA, "busted_fill_id": rows[0]["id"], "created_at": to_ms(NOW)}
    ]
    assert venue.truth(AA) == {key: Truth(1, truth.notional / 2)}
    assert len(get(venue, "/fills", token)["results"]) == 1 + stays
    clock.advance(seconds=1)
    assert venue.truth(AA) == {}
    assert len(get(venue, "/fills", token)["results"]) == 2 * stays


def test_busts_are_found_by_when_they_were_made(venue: Paradex) -> None:
    token = venue.add(AA, rows=[fill(NOW - timedelta(days=3), 1)])
    venue.bust(AA, venue.rows(AA)[0]["id"])
    assert get(venue, "/tradebusts", token, end_at=to_ms(NOW) - 1)["results"] == []
    assert len(get(venue, "/tradebusts", token, start_at=to_ms(NOW))["results"]) == 1


def test_the_venue_knows_the_volume_of_14_days_of_all_sub_accounts(demo: Paradex) -> None:
    since = NOW - timedelta(days=14)
    truths = [*demo.truth(DEMO_MAIN, since).values(), *demo.truth(DEMO_SUB, since).values()]
    expected = sum(truth.notional for truth in truths)
    info = {row["account"]: row for row in get(demo, "/account/info")["results"]}[DEMO_MAIN]
    assert abs(Decimal(info["volume_tiers"]["pro"]["volume"]) - expected) < Decimal("0.01")


def test_the_history_has_a_point_for_each_day(demo: Paradex) -> None:
    history = get(demo, "/account/history", type="volume")
    truths = demo.truth(DEMO_MAIN)
    daily: dict[int, Decimal] = defaultdict(Decimal)
    for (day, _), truth in truths.items():
        daily[to_ms(datetime(day.year, day.month, day.day, tzinfo=UTC))] += truth.notional
    assert history["timestamps"] == list(range(min(daily), to_ms(NOW), 86_400_000))
    assert history["data"] == [round(float(daily[ms]), 2) for ms in history["timestamps"]]
    assert is_refused(send(demo, "/account/history"), 400, "VALIDATION_ERROR")
    assert is_refused(send(demo, "/account/history", type="fees"), 400, "VALIDATION_ERROR")


def test_an_account_without_fills_has_no_history(venue: Paradex) -> None:
    token = venue.add(AA)
    assert get(venue, "/account/history", token, type="volume") == documented("account_history_none")
    answer = get(venue, "/tradebusts", token)
    assert answer | {"next": None} == documented("tradebusts_none")


# Tokens.


def test_a_token_tells_whose_it_is_and_until_when() -> None:
    claims = claims_of(DEMO_TOKEN)
    assert claims["sub"] == DEMO_MAIN
    assert (claims["typ"], claims["iss"]) == ("at+JWT", "Paradex prod")
    assert claims["exp"] == datetime(2035, 1, 1, tzinfo=UTC).timestamp()
    assert Paradex.demo_accounts == (("Main", {"token": DEMO_TOKEN}),)


def test_without_a_token_nothing_private_is_told(demo: Paradex) -> None:
    for path in ("/fills", "/tradebusts", "/account/info", "/account/subaccounts", "/account/history"):
        response = send(demo, path, None)
        assert response.status_code == 401
        assert response.json() == documented("token_missing")
    assert is_refused(send(demo, "/fills", None, headers={"Authorization": DEMO_TOKEN}), 401, "INVALID_TOKEN")


def test_an_expired_token_is_refused_without_a_code(venue: Paradex, clock: Clock) -> None:
    token = venue.token(DEMO_MAIN, expires_at=NOW + SECOND)
    assert send(venue, "/fills", token).status_code == 200
    clock.advance(seconds=10.46872137)
    response = send(venue, "/fills", token)
    assert response.status_code == 401
    assert set(response.json()) == set(documented("token_expired"))
    assert response.json()["message"].startswith("missing or malformed jwt: token is expired by 9.4687")
    clock.advance(hours=2)
    assert "expired by 2h0m9.46" in send(venue, "/fills", token).json()["message"]


def test_unknown_and_foreign_tokens_are_refused(venue: Paradex) -> None:
    header, claims, signature = DEMO_TOKEN.split(".")
    for token in ("x", f"{header}.{claims}.{signature[::-1]}", f"{header}.{claims}."):
        assert is_refused(send(venue, "/fills", token), 401, "INVALID_TOKEN")
    assert is_refused(send(venue, "/fills", host=TESTNET), 401, "INVALID_TOKEN")
    foreign = venue.token(DEMO_MAIN, environment="testnet")
    assert claims_of(foreign)["iss"] == "Paradex testnet"
    assert is_refused(send(venue, "/fills", foreign), 401, "INVALID_TOKEN")


def test_an_unknown_host_is_mainnet(demo: Paradex) -> None:
    assert send(demo, "/fills", host="http://127.0.0.1:9101").status_code == 200


def test_a_revoked_account_has_no_tokens_and_no_subkeys_until_it_is_restored(venue: Paradex) -> None:
    venue.revoke(DEMO_MAIN)
    assert is_refused(send(venue, "/fills"), 401, "INVALID_TOKEN")
    assert is_refused(sign_in(venue), 401, "INVALID_SUBKEY")
    assert send(venue, "/fills", DEMO_SUB_TOKEN).status_code == 200
    venue.restore(DEMO_MAIN)
    assert send(venue, "/fills").status_code == 200
    assert sign_in(venue).status_code == 200


def test_a_token_may_hold_for_some_addresses_only(venue: Paradex) -> None:
    token = venue.token(DEMO_MAIN, cidrs=["203.0.113.0/24", "2001:db8::/32"])
    assert send(venue, "/fills", token, client="203.0.113.7").status_code == 200
    assert is_refused(send(venue, "/fills", token, client="198.51.100.7"), 403, "IP_NOT_ALLOWED")
    assert send(venue, "/fills", DEMO_TOKEN, client="198.51.100.7").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_read_only_token_changes_nothing(venue: Paradex, method: str) -> None:
    for path in ("/orders", "/account/tokens", "/fills"):
        assert is_refused(send(venue, path, method=method), 403, "INVALID_TOKEN_SCOPE")
    jwt = sign_in(venue).json()["jwt_token"]
    assert is_refused(send(venue, "/orders", jwt, method=method), 404, "NOT_FOUND")


def test_what_is_not_there_is_not_found(demo: Paradex) -> None:
    assert is_refused(send(demo, "/account/list-fills"), 404, "NOT_FOUND")
    assert is_refused(demo(httpx.Request("GET", f"{MAINNET}/fills")), 404, "NOT_FOUND")


# Signing in.


def sign_in(
    venue: Paradex,
    private: int = DEMO_SUBKEY,
    *,
    account: str = DEMO_MAIN,
    at: int | None = None,
    until: int | None = None,
    signed: dict[str, Any] | None = None,
    key: str | None = "",
    hexadecimal: bool = False,
    host: str = MAINNET,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """`signed` differs from what is sent; `key=None` sends none in the path."""
    at = int(venue.now().timestamp()) if at is None else at
    until = at + 1800 if until is None else until
    chain = CHAINS["testnet" if host == TESTNET else "mainnet"]
    what = {"account": int(account, 16), "chain_id": chain, "timestamp": at, "expiration": until}
    signature = sign(auth_hash(**what | (signed or {})), private)
    path = "/auth" if key is None else f"/auth/{key or hex(public_key(private))}"
    sent = {
        "PARADEX-STARKNET-ACCOUNT": account,
        "PARADEX-STARKNET-SIGNATURE": json.dumps([hex(part) if hexadecimal else str(part) for part in signature]),
        "PARADEX-TIMESTAMP": str(at),
        "PARADEX-SIGNATURE-EXPIRATION": str(until),
    }
    return send(venue, path, None, method="POST", host=host, headers=sent | (headers or {}))


def test_the_demo_keys_are_what_they_say() -> None:
    assert public_key(DEMO_SUBKEY) == DEMO_SUBKEY_PUBLIC
    assert public_key(DEMO_MAIN_KEY) == DEMO_MAIN_PUBLIC


@pytest.mark.parametrize(
    "signature",
    [
        [
            "0x5d7b95bb8934f3e15b9084b27f8e2d4e0690ad3a6b4195c0e5366bca70125d7",
            "0x6d28093bf6b428108f969dccf2dcdfe4e7da3bbf3f95152a484c4b7d3d104c6",
        ],
        [
            "1092497964761747713028516407137599116653888047016496560402195257148165163382",
            "1021109691067043724381714602672624297942620272336865675796354089644778723230",
        ],
    ],
)
def test_the_signatures_of_known_clients_sign_in(signature: list[str]) -> None:
    venue = Paradex(Clock(datetime.fromtimestamp(1760000001, UTC)))
    headers = {
        "PARADEX-STARKNET-ACCOUNT": DEMO_MAIN,
        "PARADEX-STARKNET-SIGNATURE": json.dumps(signature),
        "PARADEX-TIMESTAMP": "1760000000",
        "PARADEX-SIGNATURE-EXPIRATION": "1760001800",
    }
    response = send(venue, "/auth", None, method="POST", headers=headers)
    assert response.status_code == 200
    assert has_form_of(response.json(), documented("auth"))
    del headers["PARADEX-SIGNATURE-EXPIRATION"]  # half an hour is usual
    assert send(venue, "/auth", None, method="POST", headers=headers).status_code == 200


def test_a_subkey_signs_in_for_five_minutes(venue: Paradex, clock: Clock) -> None:
    jwt = sign_in(venue).json()["jwt_token"]
    claims = claims_of(jwt)
    assert (claims["sub"], claims["exp"] - claims["iat"]) == (DEMO_MAIN, 300)
    assert get(venue, "/account/info", jwt)
    clock.advance(seconds=299)
    assert send(venue, "/fills", jwt).status_code == 200
    clock.advance(seconds=1)
    response = send(venue, "/fills", jwt)
    assert response.status_code == 401 and "error" not in response.json()


def test_all_jwts_can_end_at_once(venue: Paradex) -> None:
    jwt = sign_in(venue).json()["jwt_token"]
    venue.expire_jwts()
    assert send(venue, "/fills", jwt).status_code == 401
    assert send(venue, "/fills", sign_in(venue).json()["jwt_token"]).status_code == 200
    assert send(venue, "/fills").status_code == 200


def test_a_subkey_needs_its_public_key_in_the_path(venue: Paradex) -> None:
    assert is_refused(sign_in(venue, key=None), 401, "STARKNET_SIGNATURE_VERIFICATION_FAILED")
    assert sign_in(venue, hexadecimal=True).status_code == 200
    assert sign_in(venue, DEMO_MAIN_KEY, key=None, hexadecimal=True).status_code == 200
    assert sign_in(venue, DEMO_MAIN_KEY).status_code == 200
    assert venue.calls["/v1/auth"] == 4


def test_a_wrong_signature_does_not_sign_in(venue: Paradex) -> None:
    for wrong in (
        {"account": 5},
        {"timestamp": 5},
        {"expiration": 5},
        {"chain_id": CHAINS["testnet"]},
    ):
        response = sign_in(venue, signed=wrong)
        assert response.status_code == 401
        assert response.json() == documented("auth_wrong_signature")
    response = sign_in(venue, 77, key=hex(DEMO_SUBKEY_PUBLIC))
    assert is_refused(response, 401, "STARKNET_SIGNATURE_VERIFICATION_FAILED")


def test_signing_in_is_refused_for_what_is_wrong_with_it(venue: Paradex) -> None:
    now = int(NOW.timestamp())
    assert is_refused(sign_in(venue, 77), 401, "INVALID_SUBKEY")
    assert is_refused(sign_in(venue, account="0xbb"), 400, "NOT_ONBOARDED")
    assert is_refused(sign_in(venue, host=TESTNET), 400, "NOT_ONBOARDED")
    assert is_refused(sign_in(venue, key="xyz"), 400, "PUBLIC_KEY_INVALID")
    for name, value, error in (
        ("PARADEX-STARKNET-ACCOUNT", "me", "INVALID_STARKNET_ADDRESS"),
        ("PARADEX-STARKNET-SIGNATURE", "[1]", "INVALID_STARKNET_SIGNATURE"),
        ("PARADEX-STARKNET-SIGNATURE", "0x1", "INVALID_STARKNET_SIGNATURE"),
        ("PARADEX-STARKNET-SIGNATURE", '["x", "y"]', "INVALID_STARKNET_SIGNATURE"),
        ("PARADEX-TIMESTAMP", "now", "INVALID_TIMESTAMP"),
        ("PARADEX-TIMESTAMP", str(now * 1000), "INVALID_TIMESTAMP"),
    ):
        assert is_refused(sign_in(venue, headers={name: value}), 400, error)
    for at, until in ((now - 1800, now), (now, now + 7 * 86400 + 1), (now + 11, now + 60), (now, now - 1)):
        assert is_refused(sign_in(venue, at=at, until=until), 400, "INVALID_TIMESTAMP")
    assert sign_in(venue, at=now - 86400, until=now + 6 * 86400).status_code == 200
    assert sign_in(venue, at=now + 10).status_code == 200


def test_accounts_of_testnet_sign_in_with_their_chain(venue: Paradex) -> None:
    token = venue.add(AA, environment="testnet", subkeys=[public_key(7)])
    assert get(venue, "/system/config", None, host=TESTNET)["starknet_chain_id"] == CHAINS["testnet"]
    assert get(venue, "/system/config", None)["starknet_chain_id"] == CHAINS["mainnet"]
    jwt = sign_in(venue, 7, account=AA, host=TESTNET).json()["jwt_token"]
    assert send(venue, "/account/info", jwt, host=TESTNET).status_code == 200
    assert send(venue, "/account/info", token, host=TESTNET).status_code == 200
    assert is_refused(send(venue, "/account/info", jwt), 401, "INVALID_TOKEN")


# Time, state, limits.


def test_the_venue_tells_its_time_and_state(clock: Clock) -> None:
    venue = Paradex(clock, skew=timedelta(seconds=90))
    assert get(venue, "/system/time", None) == {"server_time": str(to_ms(NOW) + 90_000)}
    assert get(venue, "/system/state", None) == {"status": "ok"}
    venue.status = "cancel_only"
    assert get(venue, "/system/state", None) == {"status": "cancel_only"}


def test_prices_of_all_markets_and_of_dime_are_public(demo: Paradex) -> None:
    rows = {row["symbol"]: row for row in get(demo, "/markets/summary", None, market="ALL")["results"]}
    assert {"BTC-USD-PERP", "DIME-USD"} < rows.keys()
    assert get(demo, "/markets/summary", None, market="DIME-USD")["results"] == [rows["DIME-USD"]]
    assert is_refused(send(demo, "/markets/summary", None), 400, "VALIDATION_ERROR")


def test_every_answer_says_what_is_left(clock: Clock) -> None:
    venue = Paradex(clock)
    for response in (send(venue, "/fills"), send(venue, "/fills", None), send(venue, "/nothing"), sign_in(venue, 5)):
        for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Ratelimit-Window"):
            assert response.headers[name].isdigit()
    response = send(venue, "/fills", DEMO_SUB_TOKEN)
    assert (response.headers["X-RateLimit-Limit"], response.headers["X-RateLimit-Remaining"]) == ("120", "119")
    assert int(response.headers["X-RateLimit-Reset"]) == NOW.timestamp() + 1


def test_an_account_may_ask_120_times_a_second(clock: Clock) -> None:
    venue = Paradex(clock)
    assert [send(venue, "/account/subaccounts").status_code for _ in range(121)] == [200] * 120 + [429]
    response = send(venue, "/account/subaccounts")
    assert response.headers["Retry-After"] == "1"
    assert venue.too_early == 1
    assert send(venue, "/account/subaccounts", DEMO_SUB_TOKEN).status_code == 200
    clock.advance(seconds=1)
    assert send(venue, "/account/subaccounts").status_code == 200


def test_an_account_may_ask_600_times_a_minute(clock: Clock) -> None:
    venue = Paradex(clock, private_per_second=10**9)
    assert [send(venue, "/account/subaccounts").status_code for _ in range(601)] == [200] * 600 + [429]
    clock.advance(seconds=1)
    assert [send(venue, "/account/subaccounts").status_code for _ in range(11)] == [200] * 10 + [429]


def test_an_address_may_ask_1500_times_a_minute(clock: Clock) -> None:
    venue = Paradex(clock)
    statuses = [send(venue, "/system/time", None).status_code for _ in range(1501)]
    assert statuses == [200] * 1500 + [429]
    assert send(venue, "/fills").status_code == 429
    assert send(venue, "/fills", client="203.0.113.7").status_code == 200


def test_an_address_may_sign_in_600_times_a_minute(clock: Clock) -> None:
    venue = Paradex(clock)
    statuses = Counter(send(venue, "/auth", None, method="POST").status_code for _ in range(601))
    assert statuses == {400: 600, 429: 1}
    assert send(venue, "/fills").status_code == 200


def test_without_limits_all_is_answered(venue: Paradex) -> None:
    assert {send(venue, "/account/subaccounts").status_code for _ in range(2000)} == {200}


def test_maintenance_is_said_as_the_venue_says_it(venue: Paradex) -> None:
    venue.maintain()
    assert is_refused(send(venue, "/fills"), 503, "SERVICE_UNAVAILABLE")
    venue.rate_limit(retry_after=3)
    assert send(venue, "/fills").headers["Retry-After"] == "3"
    assert send(venue, "/fills").status_code == 200
