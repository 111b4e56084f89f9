import base64
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from exchanges.sandbox.base import to_ms
from exchanges.sandbox.history import Row, Truth, Truths
from exchanges.sandbox.server import serve
from exchanges.sandbox.woox import (
    DEMO_MAIN,
    DEMO_STAGING,
    DEMO_SUB,
    FORM,
    KEY_MAIN,
    KEY_OTHER_IP,
    KEY_STAGING,
    KEY_SUB,
    KEY_TRADE,
    KEY_TRADE_ONLY,
    KEY_WITHDRAWAL,
    ODD_MISSING,
    TWO_YEARS,
    UNAUTHORIZED,
    UNKNOWN_TYPE,
    Key,
    Woox,
    digest,
    exact_json,
    sign_v1,
    sign_v3,
    time_of,
)

PAYLOADS = Path(__file__).parents[2] / "payloads" / "woox"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FILLS = "/v3/trade/transactionHistory"
FILL = "/v3/trade/transaction"
HIST = "/v1/client/hist_trades"
TRADES = "/v1/client/trades"
INFO = "/v3/account/info"
SUBS = "/v3/account/subAccounts/all"
SYSTEM = "/v3/public/systemInfo"
HOST = "https://api.woox.io"
STAGING = "https://api.staging.woox.io"
APP = "00000000-0000-4000-8000-000000000001"
KEY = Key(api_key="wooxHandMadeKey0000000A==", secret="WOOXHANDMADESECRET0000000001")
ALL_TIME = {"start_t": 10**12, "end_t": to_ms(NOW + timedelta(days=365))}


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
def venue(clock: Clock) -> Woox:
    return unmetered(clock)


@pytest.fixture(scope="module")
def demo() -> Woox:
    """The venue at one instant, to be read only."""
    return unmetered(Clock())


def unmetered(clock: Clock, **options: Any) -> Woox:
    return Woox(clock, **{**Woox.unmetered, **options})


def ask(
    venue: Woox,
    path: str,
    key: Key = KEY_MAIN,
    *,
    at: datetime | None = None,
    host: str = HOST,
    client: str = "127.0.0.1",
    headers: dict[str, str | None] | None = None,
    method: str = "GET",
    **params: Any,
) -> httpx.Response:
    """Signed as documented; `headers` replace or, with None, remove some."""
    timestamp, query = str(to_ms(at or venue.now())), urlencode(params)
    target = f"{path}?{query}" if query else path
    signed: dict[str, str | None] = {"x-api-key": key.api_key, "x-api-timestamp": timestamp}
    if path.startswith("/v1/"):
        signed["x-api-signature"] = sign_v1(key.secret, timestamp, [(name, str(params[name])) for name in params])
        signed["content-type"] = FORM
    else:
        signed["x-api-signature"] = sign_v3(key.secret, timestamp, method, target)
    sent = {name: value for name, value in {**signed, **(headers or {})}.items() if value is not None}
    return venue(httpx.Request(method, host + target, headers=sent, extensions={"client": client}))


def answer(venue: Woox, path: str, key: Key = KEY_MAIN, **params: Any) -> Any:
    response = ask(venue, path, key, **params)
    assert response.status_code == 200, response.text
    body = json.loads(response.text, parse_float=Decimal)
    assert body["success"] is True
    return body if path.startswith("/v1/") else body["data"]


def code(response: httpx.Response) -> tuple[int, int]:
    """HTTP status and the venue's own code of a refusal."""
    body = response.json()
    assert set(body) == {"success", "code", "message"} and body["success"] is False
    return response.status_code, int(body["code"])


def ids(rows: list[Row]) -> list[int]:
    return [row["id"] for row in rows]


def read(venue: Woox, first: int, last: int, key: Key = KEY_MAIN) -> dict[int, Row]:
    """All fills of v3 in [first, last], by halving the time until they fit."""
    rows = answer(venue, FILLS, key, startTime=first, endTime=last, limit=500)["rows"]
    if len(rows) < 500:
        return {row["id"]: row for row in rows}
    middle = (first + last) // 2
    return read(venue, first, middle, key) | read(venue, middle + 1, last, key)


def fill(at: datetime, fill_id: int, **changes: Any) -> Row:
    row: Row = {
        "id": fill_id,
        "symbol": "PERP_BTC_USDT",
        "orderId": 71544001822,
        "orderTag": "default",
        "executedPrice": Decimal("91250.5"),
        "executedQuantity": Decimal("0.02"),
        "isMaker": 0,
        "isMatchRpi": False,
        "side": "BUY",
        "fee": Decimal("0.912505"),
        "feeAsset": "USDT",
        "realizedPnl": None,
        "executedTimestamp": f"{to_ms(at) // 1000}.{to_ms(at) % 1000:03}",
    }
    return row | changes


# Signatures.

SECRET, AT = "QHKRXHPAW1MC9YGZMAT8YDJG2HPR", "1578565539808"


@pytest.mark.parametrize(
    ("method", "target", "body", "signature"),
    [
        (
            "GET",
            f"{FILLS}?endTime=1760000000000&fromId=217714629&limit=500&startTime=1752192000000&symbol=PERP_BTC_USDT",
            "",
            "e66f11c81bf29195cd91b8393165eca60f84c8725a80e3f601ab69822b891e02",
        ),
        ("GET", INFO, "", "4d1a0b826f2c6099f919eac99968b5de7700abf410e663ab4afc4b18bb917037"),
        (
            "POST",
            "/v3/account/listenKey",
            '{"type":"WEBSOCKET"}',
            "228a2c6bb9e2e77cd796e3c500cdbc29cabbccc379d3854c387930103f055649",
        ),
    ],
)
def test_v3_signatures_are_the_documented_ones(method: str, target: str, body: str, signature: str) -> None:
    assert sign_v3(SECRET, AT, method, target, body) == signature


@pytest.mark.parametrize(
    ("params", "signature"),
    [
        (
            {"symbol": "SPOT_BTC_USDT", "order_type": "LIMIT", "side": "BUY"}
            | {"order_price": "9000", "order_quantity": "0.11"},
            "20da0852f73b20da0208c7e627975a59ff072379883d8457d03104651032033d",
        ),
        (
            {"symbol": "PERP_BTC_USDT", "size": "500", "page": "1"}
            | {"start_t": "1752192000000", "end_t": "1760000000000"},
            "96adf87397fbf6bcddd3eedaf758f77e0326df7335d7b5f1179273e9724fc21e",
        ),
        (
            {"limit": "1000", "fromId": "1", "start_t": "1752192000000", "end_t": "1760000000000"},
            "c1503adc2a98d57db291fce8e4f49811419805ed78ac4a8579a3b36a3a3a6b55",
        ),
        ({}, "68f50830e2ff5cee44cfd44844322870c0bc9693c0c9c87b8b72e76e0154d73e"),
    ],
)
def test_v1_signatures_are_the_documented_ones(params: dict[str, str], signature: str) -> None:
    assert sign_v1(SECRET, AT, list(params.items())) == signature


def test_v3_signs_the_query_as_it_is_sent(demo: Woox) -> None:
    target, timestamp = f"{FILLS}?symbol=PERP%5FBTC_USDT&limit=3", str(to_ms(NOW))
    for signed, status in (
        (target, 200),
        (target.replace("%5F", "_"), 401),
        (f"{FILLS}?limit=3&symbol=PERP%5FBTC_USDT", 401),
        (FILLS, 401),
        (target.replace("?", ""), 401),
    ):
        signature = sign_v3(KEY_MAIN.secret, timestamp, "GET", signed)
        headers = {"X-API-KEY": KEY_MAIN.api_key, "X-Api-Timestamp": timestamp, "x-api-signature": signature}
        response = demo(httpx.Request("GET", HOST + target, headers=headers))
        assert response.status_code == status
        assert status == 200 or code(response) == (401, -1001)


def test_a_wrong_signature_is_refused(demo: Woox) -> None:
    forged = replace(KEY_MAIN, secret=KEY_SUB.secret)
    assert code(ask(demo, INFO, forged)) == (401, -1001)
    assert code(ask(demo, HIST, forged, **ALL_TIME)) == (401, -1001)
    assert code(ask(demo, INFO, headers={"x-api-signature": None})) == (401, -1001)
    right = sign_v3(KEY_MAIN.secret, str(to_ms(NOW)), "GET", INFO)
    assert ask(demo, INFO, headers={"x-api-signature": right}).status_code == 200
    assert code(ask(demo, INFO, headers={"x-api-signature": right.upper()})) == (401, -1001)


def test_v1_sorts_its_parameters_and_is_a_form(demo: Woox) -> None:
    assert ask(demo, HIST, **ALL_TIME).status_code == 200
    unsorted = digest(KEY_MAIN.secret, f"start_t=1752192000000&end_t=1760000000000|{to_ms(NOW)}")
    params = {"start_t": 1752192000000, "end_t": 1760000000000}
    assert code(ask(demo, HIST, headers={"x-api-signature": unsorted}, **params)) == (401, -1002)
    for wrong in (None, "application/json"):
        assert code(ask(demo, HIST, headers={"content-type": wrong}, **params)) == (401, -1002)


# Keys.


@pytest.mark.parametrize("key", [KEY_MAIN, KEY_TRADE, KEY_WITHDRAWAL, KEY_TRADE_ONLY, KEY_OTHER_IP, KEY_SUB])
def test_keys_look_like_those_of_the_venue(key: Key) -> None:
    assert len(base64.b64decode(key.api_key, validate=True)) == 16 and key.api_key.endswith("==")
    assert re.fullmatch("[A-Z0-9]{28}", key.secret)
    assert key.secret not in repr(key)


def refused(response: httpx.Response) -> bool:
    return code(response) == (401, -1002) and response.json()["message"] == UNAUTHORIZED


def test_what_is_wrong_with_a_key_is_not_said(venue: Woox, clock: Clock) -> None:
    venue.add(APP, replace(KEY, expires_at=NOW + MINUTE))
    assert ask(venue, INFO, KEY).status_code == 200
    assert refused(ask(venue, INFO, Key(api_key="nobody", secret="")))
    assert refused(ask(venue, INFO, headers={"x-api-key": None}))
    assert refused(ask(venue, INFO, KEY_TRADE_ONLY))
    clock.advance(minutes=1)
    assert refused(ask(venue, INFO, KEY))


def test_a_timestamp_may_be_five_minutes_off(venue: Woox) -> None:
    for ms, is_refused in ((300_000, False), (-300_000, False), (300_001, True), (-300_001, True)):
        response = ask(venue, INFO, at=NOW + timedelta(milliseconds=ms))
        assert refused(response) if is_refused else response.status_code == 200
    for timestamp in (None, "", "now", str(to_ms(NOW) // 1000)):
        assert refused(ask(venue, INFO, headers={"x-api-timestamp": timestamp}))


def test_the_clock_of_the_venue_may_differ_from_ours(clock: Clock) -> None:
    venue = unmetered(clock, skew=timedelta(minutes=6))
    assert refused(ask(venue, INFO, at=NOW))
    ahead = ask(venue, SYSTEM).json()["timestamp"]
    assert ahead == to_ms(NOW + timedelta(minutes=6))
    assert ask(venue, INFO, at=NOW + timedelta(minutes=6)).status_code == 200


def test_a_key_bound_to_an_address_works_only_there(demo: Woox) -> None:
    response = ask(demo, INFO, KEY_OTHER_IP)
    assert code(response) == (401, -1002)
    assert response.json()["message"] == "The IP is not in the whitelist."
    assert ask(demo, INFO, KEY_OTHER_IP, client="203.0.113.7").status_code == 200


def test_a_key_works_in_its_environment(demo: Woox) -> None:
    assert answer(demo, INFO, KEY_STAGING, host=STAGING)["applicationId"] == DEMO_STAGING
    assert refused(ask(demo, INFO, KEY_STAGING))
    assert refused(ask(demo, INFO, KEY_MAIN, host=STAGING))
    for host in ("http://127.0.0.1:9101", "https://api-pub.woox.io"):
        assert answer(demo, INFO, host=host)["applicationId"] == DEMO_MAIN


def test_keys_can_be_revoked_and_restored(venue: Woox) -> None:
    venue.revoke(DEMO_MAIN)
    assert refused(ask(venue, FILLS)) and refused(ask(venue, INFO, KEY_TRADE))
    assert ask(venue, FILLS, KEY_SUB).status_code == 200
    venue.restore(DEMO_MAIN)
    assert ask(venue, FILLS).status_code == 200


def test_the_credentials_of_an_account_are_all_its_keys(demo: Woox) -> None:
    rows = {row["apiKey"]: row for row in answer(demo, "/v3/account/credentials")["rows"]}
    assert {key: rows[key]["permissions"] for key in rows} == {
        KEY_MAIN.api_key: ["READ"],
        KEY_TRADE.api_key: ["READ", "TRADE"],
        KEY_WITHDRAWAL.api_key: ["READ", "WITHDRAWAL"],
        KEY_TRADE_ONLY.api_key: ["TRADE"],
        KEY_OTHER_IP.api_key: ["READ"],
    }
    assert rows[KEY_OTHER_IP.api_key]["allowedIPs"] == ["203.0.113.7"]
    assert [row["apiKey"] for row in answer(demo, "/v3/account/credentials", KEY_SUB)["rows"]] == [KEY_SUB.api_key]


def test_only_the_main_account_knows_its_subs(demo: Woox) -> None:
    assert answer(demo, INFO)["accountType"] == "Main"
    assert answer(demo, INFO, KEY_SUB)["accountType"] == "Subaccount"
    (sub,) = answer(demo, SUBS)["rows"]
    assert (sub["applicationId"], sub["account"]) == (DEMO_SUB, "grid")
    assert refused(ask(demo, SUBS, KEY_SUB))


def test_fee_rates_are_basis_points_and_sometimes_missing(venue: Woox) -> None:
    fee = answer(venue, "/v3/trade/tradingFee", symbol="PERP_BTC_USDT")
    infos = [answer(venue, INFO) for _ in range(2)]
    assert sorted("takerFeeRate" in info for info in infos) == [False, True]
    info = next(info for info in infos if "takerFeeRate" in info)
    assert (str(info["takerFeeRate"]), str(info["makerFeeRate"])) == (fee["takerFee"], fee["makerFee"])
    assert Decimal("2.5") < Decimal(fee["takerFee"]) < 5
    assert code(ask(venue, "/v3/trade/tradingFee")) == (400, 317148)
    assert code(ask(venue, "/v3/trade/tradingFee", symbol="PERP_NONE_USDT")) == (400, 317155)


# Fills of v3.


def test_fills_come_by_growing_id_and_time(demo: Woox) -> None:
    data = answer(demo, FILLS, limit=500)
    assert ids(data["rows"]) == sorted(set(ids(data["rows"])))
    assert [time_of(row) for row in data["rows"]] == sorted(time_of(row) for row in data["rows"])
    assert min(ids(data["rows"])) > 2**31
    assert data["meta"] == {"total": data["meta"]["total"], "recordsPerPage": 500, "currentPage": 1}
    assert data["meta"]["total"] == sum(
        time_of(row) >= to_ms(NOW - TWO_YEARS) for row in demo.rows(DEMO_MAIN)
    )  # before limiting


def test_the_limit_is_25_and_lowered_to_the_cap(demo: Woox, clock: Clock) -> None:
    assert len(answer(demo, FILLS)["rows"]) == 25
    for asked in (501, 100_000):
        data = answer(demo, FILLS, limit=asked)
        assert len(data["rows"]) == data["meta"]["recordsPerPage"] == 500
    small = unmetered(clock, cap=100)
    data = answer(small, FILLS, limit=500)
    assert len(data["rows"]) == data["meta"]["recordsPerPage"] == 100


def test_both_ends_of_a_time_range_are_included(venue: Woox) -> None:
    first, second, third = (NOW - timedelta(milliseconds=ms) for ms in (3, 2, 1))
    venue.add(APP, KEY, rows=[fill(third, 3), fill(first, 1), fill(second, 2)])
    assert ids(answer(venue, FILLS, KEY)["rows"]) == [1, 2, 3]
    assert ids(answer(venue, FILLS, KEY, startTime=to_ms(first), endTime=to_ms(second))["rows"]) == [1, 2]
    assert ids(answer(venue, FILLS, KEY, startTime=to_ms(second))["rows"]) == [2, 3]
    assert ids(answer(venue, FILLS, KEY, endTime=to_ms(first))["rows"]) == [1]
    data = answer(venue, FILLS, KEY, startTime=to_ms(NOW))
    assert (data["rows"], data["meta"]["total"]) == ([], 0)


def test_an_id_to_begin_with_is_included_or_not(clock: Clock) -> None:
    for exclusive, first in ((False, 2), (True, 3)):
        venue = unmetered(clock, from_id_exclusive=exclusive)
        venue.add(APP, KEY, rows=[fill(NOW, number) for number in range(1, 6)])
        data = answer(venue, FILLS, KEY, fromId=2)
        assert ids(data["rows"]) == list(range(first, 6))
        assert data["meta"]["total"] == 6 - first
    rows = answer(venue, FILLS, limit=10)["rows"]
    data = answer(venue, FILLS, fromId=rows[4]["id"], limit=5)
    assert ids(data["rows"]) == ids(rows)[5:]
    assert data["meta"]["total"] == answer(venue, FILLS)["meta"]["total"] - 5


def test_a_market_can_be_chosen(demo: Woox) -> None:
    data = answer(demo, FILLS, symbol="PERP_1000PEPE_USDT", limit=500)
    assert {row["symbol"] for row in data["rows"]} == {"PERP_1000PEPE_USDT"}
    everything = Counter(row["symbol"] for row in read(demo, to_ms(NOW - TWO_YEARS), to_ms(NOW)).values())
    assert data["meta"]["total"] == everything["PERP_1000PEPE_USDT"]
    assert answer(demo, FILLS, symbol="PERP_NONE_USDT")["rows"] == []


def test_more_than_a_page_in_one_millisecond_is_walked_by_id(venue: Woox) -> None:
    venue.add(APP, KEY)
    venue.put(APP, "transactionHistory", *(fill(NOW, number) for number in range(1200, 0, -1)))
    seen: list[int] = []
    while True:
        span = {"startTime": to_ms(NOW), "endTime": to_ms(NOW)}
        data = answer(venue, FILLS, KEY, **span, fromId=seen[-1] if seen else 0, limit=500)
        new = [number for number in ids(data["rows"]) if number not in seen]
        seen += new
        if not new:
            break
    assert seen == list(range(1, 1201))


def test_the_order_says_which_rows_are_left_out(clock: Clock) -> None:
    rows = [fill(NOW - timedelta(seconds=number), 100 - number) for number in range(10)]
    for order, expected in (("ascending", [91, 92, 93]), ("descending", [100, 99, 98])):
        venue = unmetered(clock, order=order)
        venue.add(APP, KEY, rows=rows)
        assert ids(answer(venue, FILLS, KEY, limit=3)["rows"]) == expected
    venue = unmetered(clock, order="shuffled")
    venue.add(APP, KEY, rows=rows)
    answers = {tuple(ids(answer(venue, FILLS, KEY, limit=3)["rows"])) for _ in range(5)}
    assert len(answers) > 1 and all(len(set(one)) == 3 for one in answers)
    assert sorted(ids(answer(venue, FILLS, KEY)["rows"])) == list(range(91, 101))


def test_the_total_is_a_hint(clock: Clock) -> None:
    def meta(**options: Any) -> Row:
        result: Row = answer(unmetered(clock, **options), FILLS, limit=40)["meta"]
        return result

    true = meta()["total"]
    assert true > 1000
    assert meta(total="page")["total"] == 40
    assert meta(total="absent")["total"] == 0
    assert meta(total="wrong")["total"] not in (0, 40, true)
    assert meta(tells_page=False)["recordsPerPage"] == 25
    assert meta()["recordsPerPage"] == 40


def test_v3_forgets_after_two_years_and_v1_does_not(clock: Clock) -> None:
    venue = unmetered(clock, opened_at=NOW - timedelta(days=3 * 365))
    early = answer(venue, FILLS, startTime=to_ms(NOW - timedelta(days=1000)), limit=500)["rows"]
    assert to_ms(NOW - TWO_YEARS) <= time_of(early[0]) < to_ms(NOW - TWO_YEARS + timedelta(days=7))
    span = {"startTime": to_ms(NOW - timedelta(days=1000)), "endTime": to_ms(NOW - timedelta(days=800))}
    assert answer(venue, FILLS, **span)["rows"] == []
    old = answer(venue, HIST, start_t=span["startTime"], end_t=span["endTime"], limit=1000)["data"]
    assert len(old) == 1000
    assert venue.truth(DEMO_MAIN, until=NOW - TWO_YEARS)


def test_older_than_two_years_may_be_an_error(clock: Clock) -> None:
    venue = unmetered(clock, old="error")
    edge = to_ms(NOW - TWO_YEARS)
    assert answer(venue, FILLS, startTime=edge)["rows"]
    assert code(ask(venue, FILLS, startTime=edge - 1)) == (400, -1005)


def test_a_time_range_may_have_to_be_short(clock: Clock) -> None:
    venue = unmetered(clock, longest_span=timedelta(days=7))
    start, week = to_ms(NOW - timedelta(days=30)), 7 * 86_400_000
    assert answer(venue, FILLS, startTime=start, endTime=start + week)["rows"]
    assert code(ask(venue, FILLS, startTime=start, endTime=start + week + 1)) == (400, -1005)
    assert code(ask(venue, FILLS, startTime=start)) == (400, -1005)
    assert all(time_of(row) >= to_ms(NOW) - week for row in answer(venue, FILLS)["rows"])


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"startTime": "yesterday"}, -1005),
        ({"startTime": "1.5"}, -1005),
        ({"endTime": "-1"}, -1005),
        ({"limit": "0"}, -1005),
        ({"limit": ""}, -1005),
        ({"fromId": "x"}, -1005),
        ({"startTime": 2, "endTime": 1}, -1005),
        ({"page": "2"}, -1004),
        ({"start_t": "1752192000000"}, -1004),
    ],
)
def test_wrong_parameters_are_refused(demo: Woox, params: dict[str, Any], expected: int) -> None:
    assert code(ask(demo, FILLS, **params)) == (400, expected)


def test_the_code_of_an_error_is_a_number_or_text(venue: Woox) -> None:
    bodies = [ask(venue, FILLS, limit=0).json() for _ in range(4)]
    assert {type(body["code"]) for body in bodies} == {int, str}
    assert len({tuple(body) for body in bodies}) == 2  # nor is the order of keys fixed


def test_the_future_is_not_shown(venue: Woox, clock: Clock) -> None:
    venue.add(APP, KEY, rows=[fill(NOW, 1), fill(NOW + timedelta(seconds=1), 2)])
    later = to_ms(NOW + timedelta(days=1))
    assert ids(answer(venue, FILLS, KEY, endTime=later)["rows"]) == [1]
    assert answer(venue, FILLS, KEY, endTime=later)["meta"]["total"] == 1
    assert ids(answer(venue, HIST, KEY, **ALL_TIME)["data"]) == [1]
    assert venue.truth(APP) == {(NOW.date(), "PERP_BTC_USDT"): Truth(1, Decimal("1825.01"))}
    clock.advance(seconds=1)
    assert ids(answer(venue, FILLS, KEY, endTime=later)["rows"]) == [1, 2]


def test_a_single_fill_is_found_by_its_id_for_three_months(venue: Woox) -> None:
    old, new = fill(NOW - timedelta(days=91), 1), fill(NOW - timedelta(days=89), 2)
    venue.add(APP, KEY, rows=[old, new])
    found = answer(venue, FILL, KEY, tradeId=2, clientOrderId=9)
    assert (found["id"], found["executedPrice"]) == (2, Decimal("91250.5"))
    for params in ({"tradeId": 1}, {"tradeId": 3}, {"clientOrderId": 9}):
        assert code(ask(venue, FILL, KEY, **params)) == (400, -1006)
    assert code(ask(venue, FILL, KEY)) == (400, -1005)
    recent = venue.rows(DEMO_MAIN)[-1]
    assert answer(venue, FILL, tradeId=recent["id"])["executedTimestamp"] == recent["executedTimestamp"]


# Spelling.


def test_numbers_are_exact(venue: Woox) -> None:
    digits = ["0.1", "91250.50", "0.000000000000000000012345", "12345678901234567890.123456789"]
    assert exact_json([Decimal(one) for one in digits]) == f"[{','.join(digits)}]"
    for number in re.findall(r'"(?:executedPrice|executedQuantity|fee)":([^,]+)', ask(venue, FILLS, limit=500).text):
        assert re.fullmatch(r"-?\d+(\.\d{1,8})?", number)


@pytest.mark.parametrize("as_numbers", [True, False])
@pytest.mark.parametrize("seconds_text", [True, False])
def test_spellings_say_the_same(clock: Clock, demo: Woox, as_numbers: bool, seconds_text: bool) -> None:
    venue = unmetered(clock, as_numbers=as_numbers, seconds_text=seconds_text)
    rows, usual = (answer(one, FILLS, limit=500)["rows"] for one in (venue, demo))
    for row, other in zip(rows, usual, strict=True):
        assert isinstance(row["executedPrice"], str) != as_numbers
        assert isinstance(row["executedTimestamp"], str) == seconds_text
        assert not seconds_text or re.fullmatch(r"\d{10}\.\d{3}", row["executedTimestamp"])
        assert Decimal(row["executedPrice"]) == Decimal(other["executedPrice"])
        assert time_of(row) == time_of(other)
        assert isinstance(row["fee"], Decimal | int) and row["isMaker"] in (0, 1)
    assert venue.truth(DEMO_MAIN) == demo.truth(DEMO_MAIN)
    assert answer(venue, HIST, **ALL_TIME) == answer(demo, HIST, **ALL_TIME)  # v1 has one spelling


def test_hedge_mode_has_sides_of_two_words(clock: Clock, demo: Woox) -> None:
    venue = unmetered(clock, hedge=True)
    buys = {"OPEN LONG", "CLOSE SHORT"}
    seen = set()
    for row, usual in zip(venue.rows(DEMO_MAIN), demo.rows(DEMO_MAIN), strict=True):
        if row["symbol"].startswith("PERP_"):
            seen.add(row["side"])
            assert (row["side"] in buys) == (usual["side"] == "BUY")
        else:
            assert row["side"] == usual["side"]
    assert seen == buys | {"OPEN SHORT", "CLOSE LONG"}
    assert answer(venue, INFO)["positionMode"] == "HEDGE_MODE"
    assert answer(demo, INFO)["positionMode"] == "ONE_WAY"


def test_the_demo_shows_all_a_connector_must_cope_with(demo: Woox) -> None:
    rows = demo.rows(DEMO_MAIN)
    assert time_of(rows[0]) < to_ms(NOW - TWO_YEARS)
    assert {row["symbol"] for row in rows} >= {"PERP_BTC_USDT", "PERP_1000PEPE_USDT", "SPOT_BTC_USDT"}
    assert Counter(time_of(row) for row in rows).most_common(1)[0][1] >= 60
    assert any(row["fee"] < 0 and row["isMaker"] for row in rows)
    assert any("isMatchRpi" not in row for row in rows) and any(row.get("isMatchRpi") for row in rows)
    assert {row["realizedPnl"] for row in rows} > {None, "null"}
    assert {row["feeAsset"] for row in rows if row["side"] == "BUY"} == {"USDT", "BTC", "HYPE"}
    assert {row["feeAsset"] for row in rows if row["side"] == "SELL"} == {"USDT"}
    assert {row["realizedPnl"] for row in rows if row["symbol"].startswith("SPOT_")} <= {None, "null"}
    assert demo.rows(DEMO_SUB) and demo.rows(DEMO_STAGING)


def test_odd_things_change_no_other_fill(clock: Clock, demo: Woox) -> None:
    venue = unmetered(clock, odd=True)
    rows, usual = venue.rows(DEMO_MAIN), demo.rows(DEMO_MAIN)
    assert ids(rows) == ids(usual)
    assert all(row.keys() - other.keys() for row, other in zip(rows, usual, strict=True))
    unknown = [row for row in rows if row["symbol"].startswith(UNKNOWN_TYPE)]
    assert 0 < len(unknown) < 100
    held = sum(row["executedPrice"] * row["executedQuantity"] for row in unknown)
    total = sum(truth.notional for truth in demo.truth(DEMO_MAIN).values())
    assert sum(truth.notional for truth in venue.truth(DEMO_MAIN).values()) == total - held
    instruments = {row["symbol"]: row for row in answer(venue, "/v3/public/instruments")["rows"]}
    assert ODD_MISSING not in instruments and ODD_MISSING in {row["symbol"] for row in rows}
    assert {row["status"] for row in instruments.values()} > {"TRADING"}


def test_rows_at_the_end_of_a_page_may_come_again(clock: Clock) -> None:
    venue = unmetered(clock, duplicates=True)
    venue.add(APP, KEY, rows=[fill(NOW, number) for number in range(1, 24)])
    seen: list[int] = []
    while page := ids(answer(venue, FILLS, KEY, fromId=max(seen, default=0) + 1, limit=10)["rows"]):
        assert len(page) <= 10
        assert not seen or page[:2] == seen[-2:]
        seen += page
    assert sorted(set(seen)) == list(range(1, 24)) and len(seen) == 23 + 4
    assert ids(answer(venue, FILLS, KEY, limit=1)["rows"]) == [1]  # no page consists of repetitions
    everything = read(venue, to_ms(NOW - timedelta(days=90)), to_ms(NOW))
    recent = [row for row in venue.rows(DEMO_MAIN) if time_of(row) >= to_ms(NOW - timedelta(days=90))]
    assert sorted(everything) == ids(recent)


# Fills of v1.


def hist(venue: Woox, key: Key = KEY_MAIN) -> list[Row]:
    rows: list[Row] = []
    while True:
        start = rows[-1]["id"] + 1 if rows else 1
        page = answer(venue, HIST, key, **ALL_TIME, fromId=start, limit=1000)["data"]
        rows += page
        if len(page) < 1000:
            return rows


@pytest.mark.parametrize(("key", "ref"), [(KEY_MAIN, DEMO_MAIN), (KEY_SUB, DEMO_SUB)])
def test_hist_trades_walk_through_all_time(demo: Woox, key: Key, ref: str) -> None:
    rows = demo.rows(ref)
    assert ids(hist(demo, key)) == ids(rows)
    assert len(answer(demo, HIST, key, **ALL_TIME)["data"]) == 25
    assert len(answer(demo, HIST, key, **ALL_TIME, limit=5000)["data"]) == 1000
    perps = answer(demo, HIST, key, **ALL_TIME, symbol="PERP_ETH_USDT", fromId=rows[50]["id"])["data"]
    assert ids(perps) == [row["id"] for row in rows[50:] if row["symbol"] == "PERP_ETH_USDT"][:25]


def test_hist_trades_need_both_ends_as_milliseconds(demo: Woox) -> None:
    for params in ({}, {"start_t": 10**12}, {"end_t": 10**12}, {"start_t": 10**12 - 1, "end_t": 10**12}):
        assert code(ask(demo, HIST, **params)) == (400, -1005)
    assert code(ask(demo, HIST, start_t=2 * 10**12, end_t=10**12)) == (400, -1005)
    assert code(ask(demo, HIST, **ALL_TIME, page=1)) == (400, -1004)


def test_trades_are_pages_of_three_months(demo: Woox) -> None:
    recent = [row for row in demo.rows(DEMO_MAIN) if time_of(row) >= to_ms(NOW - timedelta(days=90))][::-1]
    first, second = (answer(demo, TRADES, size=20, page=page) for page in (1, 2))
    assert first["meta"] == {"total": len(recent), "records_per_page": 20, "current_page": 1}
    assert ids(first["rows"] + second["rows"]) == ids(recent)[:40]
    assert len(answer(demo, TRADES)["rows"]) == 25
    assert answer(demo, TRADES, size=1001)["meta"]["records_per_page"] == 1000
    assert {row["order_tag"] for row in answer(demo, TRADES, order_tag="grid-7")["rows"]} == {"grid-7"}
    span = {"start_t": time_of(recent[9]), "end_t": time_of(recent[3])}
    assert {row["id"] for row in answer(demo, TRADES, **span)["rows"]} >= set(ids(recent[3:10]))


@pytest.mark.parametrize("status", [404, 410])
def test_v1_may_be_gone(clock: Clock, status: Any) -> None:
    venue = unmetered(clock, v1_gone=status)
    assert ask(venue, HIST, **ALL_TIME).status_code == ask(venue, TRADES).status_code == status
    assert ask(venue, FILLS).status_code == 200


# Truth.


def naive(rows: list[Row], price: str, qty: str) -> Truths:
    result: Truths = {}
    for row in rows:
        if row["symbol"].startswith("PERP_"):
            moment = row.get("executedTimestamp") or row["executed_timestamp"]
            key = datetime.fromtimestamp(float(moment), UTC).date(), row["symbol"]
            old = result.get(key, Truth())
            result[key] = Truth(old.fills + 1, old.notional + row[price] * row[qty])
    return result


@pytest.mark.parametrize(("key", "ref"), [(KEY_MAIN, DEMO_MAIN), (KEY_SUB, DEMO_SUB)])
def test_truth_is_the_sum_of_what_can_be_read(demo: Woox, key: Key, ref: str) -> None:
    assert demo.truth(ref) == naive(hist(demo, key), "executed_price", "executed_quantity")
    since = NOW - TWO_YEARS
    rows = list(read(demo, to_ms(since), to_ms(NOW), key).values())
    assert demo.truth(ref, since) == naive(rows, "executedPrice", "executedQuantity")


def test_truth_of_given_rows(venue: Woox) -> None:
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    payloads = [json.loads((PAYLOADS / f"{name}.json").read_text()) for name in ("transaction_history", "hist_trades")]
    venue.add(APP, KEY, rows=[fill(noon, 1), fill(noon, 2, symbol="SPOT_BTC_USDT"), fill(noon, 1)])
    venue.put(APP, "transactionHistory", *payloads[0]["data"]["rows"], fill(noon + timedelta(hours=12), 3))
    venue.put(APP, "hist_trades", *payloads[1]["data"])
    one = Decimal("1825.01")
    assert venue.truth(APP) == {
        (datetime(2023, 5, 2, tzinfo=UTC).date(), "PERP_ETH_USDT"): Truth(1, Decimal("806.2")),
        (datetime(2025, 11, 20, tzinfo=UTC).date(), "PERP_BTC_USDT"): Truth(1, one),
        (noon.date(), "PERP_BTC_USDT"): Truth(1, one),
        (NOW.date(), "PERP_BTC_USDT"): Truth(1, one),
    }
    assert list(venue.truth(APP, noon + timedelta(microseconds=1))) == [(NOW.date(), "PERP_BTC_USDT")]
    assert len(venue.truth(APP, until=noon)) == 2
    assert answer(venue, HIST, KEY, **ALL_TIME, fromId=217714629)["data"][0] == payloads_exact("hist_trades")
    with pytest.raises(ValueError):
        venue.put(APP, "funding", fill(noon, 4))


def test_rows_without_sense_are_shown_and_left_out_of_truth(venue: Woox) -> None:
    nameless = {name: value for name, value in fill(NOW, 1).items() if name != "symbol"}
    priceless = fill(NOW, 2, executedPrice="n/a", newField={"deep": [None]})
    venue.add(APP, KEY, rows=[nameless, priceless])
    assert answer(venue, FILLS, KEY)["rows"] == [nameless, priceless]
    assert venue.truth(APP) == {}


def payloads_exact(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text(), parse_float=Decimal)["data"][0]


def test_history_does_not_change_when_the_venue_starts_anew(clock: Clock, demo: Woox) -> None:
    clock.advance(days=5)
    after = unmetered(clock)
    some = NOW - timedelta(days=300)
    answer(after, FILLS, startTime=to_ms(some))  # whatever was asked before
    before = demo.rows(DEMO_MAIN)
    rows = after.rows(DEMO_MAIN)
    assert rows[: len(before)] == before and len(rows) > len(before)


def test_the_same_request_gets_the_same_rows(venue: Woox) -> None:
    assert answer(venue, FILLS, limit=500)["rows"] == answer(venue, FILLS, limit=500)["rows"]


# The public side, limits and faults.


def test_markets_are_listed_without_a_key(demo: Woox) -> None:
    response = demo(httpx.Request("GET", f"{HOST}/v3/public/instruments"))
    rows = {row["symbol"]: row for row in response.json()["data"]["rows"]}
    assert rows["PERP_1000PEPE_USDT"]["baseAssetMultiplier"] == 1000
    assert rows["PERP_BTC_USDT"]["baseAssetMultiplier"] == 1
    assert {row["symbol"] for row in demo.rows(DEMO_MAIN)} == set(rows)
    assert [row["symbol"] for row in answer(demo, "/v3/public/instruments", symbol="PERP_SOL_USDT")["rows"]] == [
        "PERP_SOL_USDT"
    ]


def test_the_system_tells_time_and_maintenance(clock: Clock) -> None:
    venue = unmetered(clock)
    body = ask(venue, SYSTEM).json()
    assert (body["timestamp"], body["data"]["status"]) == (to_ms(NOW), 0)
    venue.system_status = 1
    assert ask(venue, SYSTEM).json()["data"]["status"] == 1
    assert ask(venue, FILLS).status_code == 200
    venue.system_status = 2
    assert ask(venue, SYSTEM).json()["data"]["status"] == 2
    assert code(ask(venue, FILLS)) == (400, -1011)


def test_maintenance_and_limits_read_as_documented(venue: Woox) -> None:
    venue.maintain()
    venue.rate_limit()
    for name, status in (("maintenance", 400), ("rate_limited", 429)):
        response = ask(venue, FILLS)
        assert response.status_code == status
        assert response.json() == json.loads((PAYLOADS / f"{name}.json").read_text())
        assert "retry-after" not in response.headers
    assert ask(venue, FILLS).status_code == 200


@pytest.mark.parametrize(
    ("path", "requests", "seconds", "params"),
    [
        (FILLS, 2, 1, {}),
        ("/v3/trade/tradingFee", 2, 1, {"symbol": "PERP_BTC_USDT"}),
        (FILL, 10, 1, {"tradeId": 1}),
        (TRADES, 10, 1, {}),
        (HIST, 1, 1, ALL_TIME),
        (INFO, 10, 60, {}),
        (SUBS, 10, 60, {}),
        (SYSTEM, 10, 1, {}),
    ],
)
def test_each_path_has_its_limit(path: str, requests: int, seconds: int, params: Row, clock: Clock) -> None:
    venue = Woox(clock)
    for _ in range(requests):
        assert ask(venue, path, **params).status_code != 429
    clock.advance(seconds=seconds - 0.001)
    response = ask(venue, path, **params)
    assert code(response) == (429, -1003)
    assert response.json()["message"] == "Rate limit exceed." and "retry-after" not in response.headers
    clock.advance(seconds=0.001)
    assert ask(venue, path, **params).status_code != 429


def test_all_keys_of_an_account_share_its_limit_wherever_they_are_used(clock: Clock) -> None:
    venue = Woox(clock)
    assert ask(venue, FILLS).status_code == ask(venue, FILLS, KEY_TRADE, client="10.0.0.9").status_code == 200
    assert code(ask(venue, FILLS, KEY_WITHDRAWAL)) == (429, -1003)
    assert ask(venue, FILLS, KEY_SUB).status_code == 200  # an account of its own
    assert ask(venue, INFO).status_code == 200  # a limit of its own


def test_public_limits_are_those_of_an_address(clock: Clock) -> None:
    venue = Woox(clock)
    assert [ask(venue, SYSTEM).status_code for _ in range(11)] == [200] * 10 + [429]
    assert ask(venue, SYSTEM, client="10.0.0.9").status_code == 200
    assert ask(venue, "/v3/public/instruments").status_code == 200


def test_there_are_no_other_routes(demo: Woox) -> None:
    assert ask(demo, "/v3/trade/orders").status_code == 404
    assert ask(demo, FILLS, method="POST").status_code == 405


# The documented payloads.

OPTIONAL = {"isMatchRpi", "orderTag"}


def has_form_of(given: Any, documented: Any) -> bool:
    """The same keys and JSON types all the way down; the first item of a list speaks for all; null has any type."""
    if isinstance(given, dict) and isinstance(documented, dict):
        keys = given.keys() - OPTIONAL
        return keys == documented.keys() - OPTIONAL and all(has_form_of(given[key], documented[key]) for key in keys)
    if isinstance(given, list) and isinstance(documented, list):
        return not given or not documented or has_form_of(given[0], documented[0])
    is_number = isinstance(given, int | float) and isinstance(documented, int | float)
    is_null = given is None or documented is None
    return is_null or (is_number and not isinstance(given, bool)) or type(given) is type(documented)


DOCS = {"as_numbers": False, "seconds_text": False}


@pytest.mark.parametrize(
    ("name", "path", "params", "options"),
    [
        ("transaction_history", FILLS, {}, {}),
        ("transaction_history_hedge", FILLS, {"symbol": "PERP_1000PEPE_USDT"}, {**DOCS, "hedge": True}),
        ("transaction", FILL, {"tradeId": "last"}, DOCS),
        ("not_found", FILL, {"tradeId": 1}, {}),
        ("client_trades", TRADES, {}, {}),
        ("hist_trades", HIST, ALL_TIME, {}),
        ("instruments", "/v3/public/instruments", {"symbol": "PERP_BTC_USDT"}, {}),
        ("instruments_1000pepe", "/v3/public/instruments", {"symbol": "PERP_1000PEPE_USDT"}, {}),
        ("system_info", SYSTEM, {}, {}),
        ("system_info_maintenance", SYSTEM, {}, {"system_status": 2}),
        ("trading_fee", "/v3/trade/tradingFee", {"symbol": "PERP_BTC_USDT"}, {}),
        ("credentials", "/v3/account/credentials", {}, {}),
    ],
)
def test_answers_have_the_form_of_the_documented_ones(
    clock: Clock, name: str, path: str, params: Row, options: Row
) -> None:
    venue = unmetered(clock, **options)
    if params.get("tradeId") == "last":
        params = {"tradeId": venue.rows(DEMO_MAIN)[-1]["id"]}
    if name == "not_found":
        ask(venue, SYSTEM)  # every second error has its code as a number
    documented = json.loads((PAYLOADS / f"{name}.json").read_text())
    assert has_form_of(ask(venue, path, **params).json(), documented)


def test_every_payload_is_named_in_the_readme() -> None:
    readme = (PAYLOADS / "README.md").read_text()
    assert all(f"`{path.name}`" in readme for path in PAYLOADS.glob("*.json"))


@pytest.fixture
def url(venue: Woox) -> Iterator[str]:
    with serve(venue) as server:
        yield server.url


def test_loopback_says_what_the_venue_says(venue: Woox, url: str) -> None:
    target, timestamp = f"{FILLS}?symbol=PERP_BTC_USDT&limit=3", str(to_ms(NOW))
    signature = sign_v3(KEY_MAIN.secret, timestamp, "GET", target)
    headers = {"x-api-key": KEY_MAIN.api_key, "x-api-timestamp": timestamp, "x-api-signature": signature}
    response = httpx.get(url + target, headers=headers)
    assert response.json() == ask(venue, FILLS, symbol="PERP_BTC_USDT", limit=3).json()
