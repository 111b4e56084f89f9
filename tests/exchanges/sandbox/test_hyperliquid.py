import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from exchanges.sandbox import SANDBOXES, Sandbox
from exchanges.sandbox.base import to_ms
from exchanges.sandbox.history import Truth
from exchanges.sandbox.hyperliquid import (
    DEMO_AGENT,
    DEMO_BOT,
    DEMO_EMPTY,
    DEMO_SUB,
    DEMO_TRADER,
    PERP_DIRS,
    UNKNOWN_DIR,
    ZERO_HASH,
    Hyperliquid,
    Row,
    is_perp,
    time_of,
)
from exchanges.sandbox.server import serve
from exchanges.sandbox.trader import Trader

PAYLOADS = sorted((Path(__file__).parents[2] / "payloads" / "hyperliquid").glob("*.json"))
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
AA = "0x00000000000000000000000000000000000000aa"


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
def venue(clock: Clock) -> Hyperliquid:
    return Hyperliquid(clock, weight_per_minute=10**9)


@pytest.fixture(scope="module")
def demo() -> Hyperliquid:
    """The venue at one instant, to be read only."""
    return Hyperliquid(Clock(), weight_per_minute=10**9)


def post(venue: Hyperliquid, body: Any) -> httpx.Response:
    with httpx.Client(transport=httpx.MockTransport(venue), base_url="https://api.hyperliquid.xyz") as client:
        return client.post("/info", json=body)


def ask(venue: Hyperliquid, type: str, user: str | None = None, **params: Any) -> Any:
    response = post(venue, {"type": type, **({"user": user} if user else {}), **params})
    assert response.status_code == 200, response.text
    return response.json()


def read(venue: Hyperliquid, user: str, type: str = "userFillsByTime") -> list[Row]:
    """The whole list, as a careful client reads it: on from the last millisecond seen, until nothing new comes."""
    rows: dict[tuple[int, str, int], Row] = {}
    cursor = 0
    while True:
        page = ask(venue, type, user, startTime=cursor)
        fills = [row.get("fill", row) for row in page]
        new = {(fill["time"], fill["coin"], fill["tid"]): fill for fill in fills}
        if new.keys() <= rows.keys():
            return sorted(rows.values(), key=lambda fill: (fill["time"], fill["tid"]))
        rows |= new
        cursor = max(fill["time"] for fill in fills)


def fill(at: datetime, tid: int, **changes: Any) -> Row:
    row: Row = {
        "coin": "BTC",
        "px": "64159.0",
        "sz": "0.5",
        "side": "B",
        "time": to_ms(at),
        "startPosition": "0.0",
        "dir": "Open Long",
        "closedPnl": "0.0",
        "hash": ZERO_HASH,
        "oid": tid,
        "crossed": True,
        "fee": "1.0",
        "tid": tid,
        "feeToken": "USDC",
        "twapId": None,
    }
    return row | changes


def has_form_of(answer: Any, documented: Any) -> bool:
    """The same keys and types all the way down. The first item of a list speaks for all; an empty list has any form."""
    if isinstance(answer, dict) and isinstance(documented, dict):
        keys = answer.keys() - OPTIONAL
        return keys == documented.keys() - OPTIONAL and all(has_form_of(answer[key], documented[key]) for key in keys)
    if isinstance(answer, list) and isinstance(documented, list):
        return not answer or not documented or has_form_of(answer[0], documented[0])
    return type(answer) is type(documented)


OPTIONAL = {
    "builderFee",
    "cloid",
    "isDelisted",
    "lastGrowthModeChangeTime",
    "liquidation",
    "marginMode",
    "onlyIsolated",
    "tokenId",
}


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_answers_have_the_form_of_the_documented_ones(path: Path, demo: Hyperliquid) -> None:
    payload = json.loads(path.read_text())
    assert set(payload) == {"source", "date", "request", "response"}
    request = {name: value for name, value in payload["request"].items() if name != "user"}
    who = DEMO_TRADER
    for part, address in {"none": DEMO_EMPTY, "new": DEMO_EMPTY, "empty": DEMO_EMPTY, "agent": DEMO_AGENT}.items():
        if part in path.stem.split("_"):
            who = address
    if path.stem == "user_role_sub_account":
        who = DEMO_SUB
    if "startTime" in request:
        request["startTime"] = 0
    answer = ask(demo, **request, user=who)
    documented = payload["response"]
    if "Fills" in request["type"] and documented:
        answer = [row for row in answer if "feeToken" in row.get("fill", row)]
    assert has_form_of(answer, documented)


def test_pages_begin_with_the_oldest_and_are_cut_at_the_newest(demo: Hyperliquid) -> None:
    page = ask(demo, "userFillsByTime", DEMO_TRADER, startTime=0)
    times = [row["time"] for row in page]
    assert len(page) == 2000
    assert times == sorted(times)
    assert times == [row["time"] for row in demo.rows(DEMO_TRADER)[:2000]]


def test_newest_first_when_reversed_or_not_by_time(demo: Hyperliquid) -> None:
    newest = sorted((row["time"] for row in demo.rows(DEMO_TRADER)), reverse=True)[:2000]
    assert [row["time"] for row in ask(demo, "userFills", DEMO_TRADER)] == newest
    assert [row["time"] for row in ask(demo, "userFillsByTime", DEMO_TRADER, startTime=0, reversed=True)] == newest


@pytest.mark.parametrize("user", [DEMO_TRADER, DEMO_SUB])
def test_reading_both_lists_gives_every_fill_once(demo: Hyperliquid, user: str) -> None:
    assert read(demo, user) == sorted(demo.rows(user), key=lambda row: (row["time"], row["tid"]))
    slices = [row["fill"] for row in demo.twap_rows(user)]
    assert read(demo, user, "userTwapSliceFillsByTime") == sorted(slices, key=lambda row: (row["time"], row["tid"]))
    assert slices and not {row["tid"] for row in slices} & {row["tid"] for row in demo.rows(user)}


def test_both_ends_of_a_time_range_are_included(venue: Hyperliquid) -> None:
    first, second, third = (NOW - timedelta(milliseconds=ms) for ms in (3, 2, 1))
    venue.add(AA, rows=[fill(first, 1), fill(second, 2), fill(third, 3)])
    answer = ask(venue, "userFillsByTime", AA, startTime=to_ms(first), endTime=to_ms(second))
    assert [row["tid"] for row in answer] == [1, 2]
    assert ask(venue, "userFillsByTime", AA, startTime=to_ms(NOW)) == []


def test_only_the_newest_rows_are_remembered_whatever_their_market(demo: Hyperliquid) -> None:
    everything = demo.rows(DEMO_BOT)
    assert len(everything) > 30_000
    kept = everything[-10_000:]
    assert {row["tid"] for row in read(demo, DEMO_BOT)} == {row["tid"] for row in kept}
    assert any(not is_perp(row["coin"]) for row in kept)
    assert len(demo.twap_rows(DEMO_BOT)) > 2000 == len(read(demo, DEMO_BOT, "userTwapSliceFillsByTime"))


def test_the_memory_slides_as_time_goes_by(clock: Clock) -> None:
    venue = Hyperliquid(clock, memory=100)
    before = ask(venue, "userFillsByTime", DEMO_BOT, startTime=0)[0]["time"]
    clock.advance(days=3)
    rows = venue.rows(DEMO_BOT)
    assert rows[-1]["time"] > to_ms(NOW)
    after = ask(venue, "userFillsByTime", DEMO_BOT, startTime=0)[0]["time"]
    assert before < after == rows[-100]["time"]


def test_history_does_not_change_when_the_venue_starts_anew(clock: Clock) -> None:
    before = Hyperliquid(clock).rows(DEMO_TRADER)
    clock.advance(days=5)
    after = Hyperliquid(clock).rows(DEMO_TRADER)
    assert after[: len(before)] == before
    assert len(after) > len(before)


def test_the_future_is_not_shown(venue: Hyperliquid, clock: Clock) -> None:
    venue.add(AA, rows=[fill(NOW, 1), fill(NOW + timedelta(seconds=1), 2)])
    assert [row["tid"] for row in ask(venue, "userFills", AA)] == [1]
    assert venue.truth(AA) == {(NOW.date(), "BTC"): Truth(1, Decimal("32079.5"))}
    clock.advance(seconds=1)
    assert [row["tid"] for row in ask(venue, "userFills", AA)] == [2, 1]


def test_the_order_within_a_millisecond_changes_from_request_to_request(venue: Hyperliquid) -> None:
    rows = [fill(NOW, tid) for tid in range(60)]
    venue.add(AA, rows=rows)
    orders = {tuple(row["tid"] for row in ask(venue, "userFillsByTime", AA, startTime=0)) for _ in range(3)}
    assert len(orders) == 3
    assert {frozenset(order) for order in orders} == {frozenset(range(60))}


def test_a_page_edge_can_fall_into_a_sweep(clock: Clock) -> None:
    rows = Hyperliquid(clock).rows(DEMO_TRADER)
    at, fills = Counter(row["time"] for row in rows).most_common(1)[0]
    assert fills >= 60
    edge = [row["time"] for row in rows].index(at) + 30
    venue = Hyperliquid(clock, page=edge, weight_per_minute=10**9)
    page = ask(venue, "userFillsByTime", DEMO_TRADER, startTime=0)
    assert [row["time"] for row in page].count(at) == 30
    assert len(read(venue, DEMO_TRADER)) == len(rows)


@pytest.mark.parametrize("user", [DEMO_TRADER, DEMO_BOT, DEMO_SUB])
def test_truth_is_the_sum_of_what_can_be_read(demo: Hyperliquid, user: str) -> None:
    expected: dict[tuple[date, str], Truth] = {}
    for row in read(demo, user) + read(demo, user, "userTwapSliceFillsByTime"):
        if is_perp(row["coin"]):
            key = datetime.fromtimestamp(row["time"] // 1000, UTC).date(), row["coin"]
            notional, old = Decimal(row["px"]) * Decimal(row["sz"]), expected.get(key, Truth())
            is_forced = row["dir"] not in PERP_DIRS
            forced = notional if is_forced else 0
            expected[key] = Truth(
                old.fills + (not is_forced),
                old.notional + notional - forced,
                old.forced_fills + is_forced,
                old.forced_notional + forced,
            )
    assert demo.truth(user, within_memory=True) == expected
    assert (demo.truth(user) == expected) == (user != DEMO_BOT)


def test_truth_of_given_rows(venue: Hyperliquid) -> None:
    day, noon = date(2026, 11, 20), datetime(2026, 11, 20, 12, tzinfo=UTC)
    stranger = {"liquidatedUser": DEMO_BOT, "markPx": "1.0", "method": "market"}
    slice_row = fill(noon, 7)
    venue.add(
        AA,
        rows=[
            fill(noon, 1),
            fill(noon, 2, liquidation=stranger),
            fill(noon, 3, liquidation=stranger | {"liquidatedUser": AA}, dir="Liquidated Cross Long"),
            fill(noon, 4, dir="Auto-Deleveraging"),
            fill(noon, 5, dir="Settlement"),
            fill(noon, 6, coin="@107", dir="Buy"),
            slice_row,
            fill(noon, 8, coin="xyz:NVDA"),
            fill(noon, 9, dir=UNKNOWN_DIR),
            fill(noon + timedelta(days=1) - timedelta(hours=12), 10),
        ],
        twap=[{"fill": slice_row, "twapId": 1}, {"fill": fill(noon, 11), "twapId": 1}],
    )
    one = Decimal("32079.5")
    assert venue.truth(AA) == {
        (day, "BTC"): Truth(4, 4 * one, 2, 2 * one),
        (day, "xyz:NVDA"): Truth(1, one),
        (day + timedelta(days=1), "BTC"): Truth(1, one),
    }
    assert list(venue.truth(AA, since=noon + timedelta(hours=12))) == [(day + timedelta(days=1), "BTC")]
    assert venue.truth(AA, until=noon) == {}


def test_rows_as_of_2023_can_be_served(venue: Hyperliquid) -> None:
    old = [fill(NOW - timedelta(days=1200), 1), fill(NOW - timedelta(days=1201), 2)]
    old = [{name: value for name, value in row.items() if name not in ("tid", "feeToken")} for row in old]
    venue.add(AA.upper().replace("X", "x"), rows=old)
    assert ask(venue, "userFillsByTime", AA, startTime=0) == old[::-1]
    assert sum(truth.fills for truth in venue.truth(AA).values()) == 2


def test_the_demo_shows_all_a_connector_must_cope_with(demo: Hyperliquid) -> None:
    rows = demo.rows(DEMO_TRADER)
    slices = demo.twap_rows(DEMO_TRADER)
    assert len(rows) < 10_000 and len(slices) < 2000
    coins = {row["coin"] for row in rows}
    assert coins >= {"BTC", "ETH", "kPEPE", "xyz:XYZ100", "hyna:BTC", "@107", "PURR/USDC", "#123"}
    assert {row["feeToken"] for row in rows if "feeToken" in row} == {"USDC", "USDE", "HYPE", "PURR"}
    assert any("feeToken" not in row for row in rows)
    assert any(row["hash"] == ZERO_HASH and not row["crossed"] and row["dir"] in PERP_DIRS for row in rows)
    assert any(row["fee"].startswith("-") for row in rows)
    assert all(Decimal(row["builderFee"]) < Decimal(row["fee"]) for row in rows if "builderFee" in row)
    assert any("builderFee" in row for row in rows)
    assert {row["dir"] for row in rows} >= {*PERP_DIRS, "Buy", "Sell", "Auto-Deleveraging", "Liquidated Cross Long"}
    own = [row for row in rows if row.get("liquidation", {}).get("liquidatedUser") == DEMO_TRADER]
    others = [row for row in rows if "liquidation" in row and row not in own]
    assert own and all(row["dir"].startswith("Liquidated") and row["crossed"] for row in own)
    assert others and all(row["dir"] in PERP_DIRS and not row["crossed"] for row in others)
    assert all(row["twapId"] is None for row in rows) and all(row["twapId"] for row in slices)
    assert all(row["fill"]["twapId"] is None for row in slices)
    assert not any(row["dir"] == UNKNOWN_DIR for row in rows)


def test_master_and_sub_are_both_sides_of_some_matches(demo: Hyperliquid) -> None:
    sub = {row["tid"]: row for row in demo.rows(DEMO_SUB)}
    shared = [(row, sub[row["tid"]]) for row in demo.rows(DEMO_TRADER) if row["tid"] in sub]
    assert shared
    for one, other in shared:
        assert [one[name] for name in ("time", "coin", "px", "sz")] == [
            other[name] for name in ("time", "coin", "px", "sz")
        ]
        assert one["side"] != other["side"] and one["crossed"] != other["crossed"]


def test_fills_of_an_unknown_kind_come_only_when_asked_for(clock: Clock) -> None:
    venue = Hyperliquid(clock, unknown_dir=True)
    unknown = [row for row in venue.rows(DEMO_TRADER) if row["dir"] == UNKNOWN_DIR]
    assert unknown
    usual = Hyperliquid(clock)
    notional = sum(truth.notional for truth in usual.truth(DEMO_TRADER).values())
    held = sum(Decimal(row["px"]) * Decimal(row["sz"]) for row in unknown)
    assert sum(truth.notional for truth in venue.truth(DEMO_TRADER).values()) == notional - held


def test_merged_rows_come_to_the_same(venue: Hyperliquid) -> None:
    venue.add(
        AA,
        rows=[
            fill(NOW, 1, oid=5, px="100.0", sz="1.0"),
            fill(NOW, 2, oid=5, px="103.0", sz="2.0", startPosition="1.0"),
            fill(NOW, 3, oid=6, crossed=False),
        ],
    )
    merged = {row["oid"]: row for row in ask(venue, "userFillsByTime", AA, startTime=0, aggregateByTime=True)}
    assert len(merged) == 2
    assert [merged[5][name] for name in ("px", "sz", "fee", "startPosition")] == ["102.0", "3.0", "2.0", "0.0"]


def test_the_venue_says_who_an_address_is(venue: Hyperliquid) -> None:
    venue.add(AA, role="vault")
    assert ask(venue, "userRole", DEMO_TRADER) == {"role": "user"}
    assert ask(venue, "userRole", DEMO_AGENT) == {"role": "agent", "data": {"user": DEMO_TRADER}}
    assert ask(venue, "userRole", DEMO_SUB) == {"role": "subAccount", "data": {"master": DEMO_TRADER}}
    assert ask(venue, "userRole", DEMO_EMPTY) == {"role": "user"}
    assert ask(venue, "userRole", AA) == {"role": "vault"}
    assert ask(venue, "userRole", AA[:-1] + "9") == {"role": "missing"}
    assert [sub["subAccountUser"] for sub in ask(venue, "subAccounts", DEMO_TRADER)] == [DEMO_SUB]
    assert ask(venue, "subAccounts", DEMO_SUB) is None
    for silent in (DEMO_AGENT, DEMO_EMPTY, AA[:-1] + "9"):
        assert ask(venue, "userFillsByTime", silent, startTime=0) == []


def test_daily_volume_is_that_of_the_fills_with_the_subs(demo: Hyperliquid) -> None:
    days = ask(demo, "userFees", DEMO_TRADER)["dailyUserVlm"]
    assert [day["date"] for day in days] == [
        (NOW.date() - timedelta(days=back)).isoformat() for back in range(14, -1, -1)
    ]
    sums: dict[tuple[str, bool], Decimal] = {}
    for user in (DEMO_TRADER, DEMO_SUB):
        for row in demo.rows(user) + [row["fill"] for row in demo.twap_rows(user)]:
            if not row["coin"].startswith("#"):
                key = datetime.fromtimestamp(row["time"] // 1000, UTC).date().isoformat(), row["crossed"]
                sums[key] = sums.get(key, Decimal(0)) + Decimal(row["px"]) * Decimal(row["sz"])
    for day in days:
        assert Decimal(day["userCross"]) == sums.get((day["date"], True), 0)
        assert Decimal(day["userAdd"]) == sums.get((day["date"], False), 0)


def test_totals_hold_also_what_the_venue_forgot(clock: Clock) -> None:
    venue = Hyperliquid(clock, memory=500, weight_per_minute=10**9)
    portfolio = dict(ask(venue, "portfolio", DEMO_TRADER))
    truth = venue.truth(DEMO_TRADER).values()
    assert Decimal(portfolio["perpAllTime"]["vlm"]) == sum(day.notional + day.forced_notional for day in truth)
    assert portfolio["allTime"]["vlm"] == ask(venue, "userRateLimit", DEMO_TRADER)["cumVlm"]
    assert Decimal(portfolio["allTime"]["vlm"]) > Decimal(portfolio["perpAllTime"]["vlm"])
    for name, days in {"perpDay": 1, "perpWeek": 7, "perpMonth": 30}.items():
        part = venue.truth(DEMO_TRADER, since=NOW - timedelta(days=days)).values()
        assert Decimal(portfolio[name]["vlm"]) == sum(day.notional + day.forced_notional for day in part)


def test_markets_of_each_dex(demo: Hyperliquid) -> None:
    assert {market["name"] for market in ask(demo, "meta")["universe"]} >= {"BTC", "kPEPE"}
    tokens = {token["index"]: token["name"] for token in ask(demo, "spotMeta")["tokens"]}
    dexes = [dex["name"] for dex in ask(demo, "perpDexs") if dex]
    assert {dex: tokens[ask(demo, "meta", dex=dex)["collateralToken"]] for dex in dexes} == {
        "xyz": "USDC",
        "hyna": "USDE",
    }
    assert ask(demo, "meta", dex="nobody") is None


@pytest.mark.parametrize(
    "body",
    [
        {"type": "userFils", "user": AA},
        {"user": AA},
        {"type": ["userFills"], "user": AA},
        {"type": "userFills"},
        {"type": "userFills", "user": AA[:-1]},
        {"type": "userFills", "user": "00" + AA[2:]},
        {"type": "userFillsByTime", "user": AA},
        {"type": "userFillsByTime", "user": AA, "startTime": "0"},
        {"type": "userFillsByTime", "user": AA, "startTime": 0.5},
        {"type": "userFillsByTime", "user": AA, "startTime": 0, "endTime": "now"},
        {"type": "userFillsByTime", "user": AA, "startTime": 0, "aggregateByTime": "no"},
        {"type": "meta", "dex": 1},
        [],
        None,
    ],
)
def test_a_malformed_request_is_refused_as_text(demo: Hyperliquid, body: Any) -> None:
    response = post(demo, body)
    assert response.status_code == 422
    assert response.text == "Failed to deserialize the JSON body into the target type"


def test_there_is_one_route(demo: Hyperliquid) -> None:
    with httpx.Client(transport=httpx.MockTransport(demo), base_url="https://api.hyperliquid.xyz") as client:
        assert client.post("/info", content=b"no json").status_code == 422
        assert client.get("/info").status_code == 405
        assert client.post("/exchange", json={}).status_code == 404


def test_a_client_that_asks_too_much_waits_a_minute(clock: Clock) -> None:
    venue = Hyperliquid(clock)
    for _ in range(10):  # full pages: 20 and 1 for every 20 rows
        ask(venue, "userFillsByTime", DEMO_TRADER, startTime=0)
    assert venue.weight_used() == 1200
    refused = post(venue, {"type": "userFillsByTime", "user": DEMO_TRADER, "startTime": 0})
    assert (refused.status_code, refused.json()) == (429, None)
    elsewhere = httpx.Request(
        "POST", "https://api.hyperliquid.xyz/info", json={"type": "meta"}, extensions={"client": "10.0.0.9"}
    )
    assert venue(elsewhere).status_code == 200
    clock.advance(seconds=59)
    assert post(venue, {"type": "meta"}).status_code == 429
    clock.advance(seconds=1)
    ask(venue, "userRole", DEMO_TRADER)
    ask(venue, "userFillsByTime", DEMO_EMPTY, startTime=0)
    assert venue.weight_used() == 60 + 20


def test_requests_are_counted_and_remembered(venue: Hyperliquid) -> None:
    ask(venue, "userRole", DEMO_TRADER)
    post(venue, {"type": "userFills"})
    assert venue.requests == [{"type": "userRole", "user": DEMO_TRADER}, {"type": "userFills"}]
    assert venue.calls == {"userRole": 1, "userFills": 1}
    assert venue.statuses == {200: 1, 422: 1}


def test_faults_come_in_their_order_and_end(venue: Hyperliquid) -> None:
    meta = {"type": "meta"}
    venue.fail(status=503, headers={"retry-after": "7"}, times=2)
    venue.rate_limit()
    venue.html()
    venue.hang_up()
    venue.time_out()
    venue.truncate()
    answers = [post(venue, meta), post(venue, meta), post(venue, meta), post(venue, meta)]
    assert [answer.status_code for answer in answers] == [503, 503, 429, 200]
    assert answers[0].headers["retry-after"] == "7"
    assert answers[2].content == b"null"
    assert answers[3].headers["content-type"] == "text/html"
    with pytest.raises(httpx.RemoteProtocolError):
        post(venue, meta)
    with pytest.raises(httpx.ReadTimeout):
        post(venue, meta)
    half = post(venue, meta)
    with pytest.raises(ValueError):
        half.json()
    assert int(half.headers["content-length"]) > len(half.content)
    assert post(venue, meta).status_code == 200
    assert len(venue.requests) == 8


def test_a_lasting_fault_lasts_until_healed(venue: Hyperliquid) -> None:
    venue.fail()
    assert [post(venue, {"type": "meta"}).status_code for _ in range(3)] == [502, 502, 502]
    venue.heal()
    assert post(venue, {"type": "meta"}).status_code == 200


def test_one_sandbox_holds_all_venues_under_one_clock(clock: Clock) -> None:
    sandbox = Sandbox(clock, hyperliquid={"page": 7})
    assert set(sandbox.venues) == set(SANDBOXES)
    assert sandbox.hyperliquid is sandbox.venues["hyperliquid"]
    with httpx.Client(transport=sandbox.transport("hyperliquid"), base_url="https://api.hyperliquid.xyz") as client:
        answer = client.post("/info", json={"type": "userFills", "user": DEMO_BOT})
    assert len(answer.json()) == 7
    with pytest.raises(TypeError):
        Sandbox(clock, mtgox={})


def test_a_busy_bot_is_paged_without_drawing_its_whole_life(venue: Hyperliquid) -> None:
    drawn: list[int] = []

    class Counting(Trader):
        def day(self, ordinal: int) -> Any:
            drawn.append(ordinal)
            return super().day(ordinal)

    markets = venue.accounts[DEMO_BOT].trader.markets  # type: ignore[attr-defined]
    venue.add(AA, trader=Counting("busy", 1370, markets))
    page = ask(venue, "userFillsByTime", AA, startTime=0)
    assert len(page) == 2000 and time_of(page[0]) > to_ms(NOW) - 60 * 86_400_000
    assert len(set(drawn)) < 60


@pytest.fixture
def url(venue: Hyperliquid) -> Iterator[str]:
    with serve(venue) as server:
        yield server.url


def test_loopback_says_what_the_venue_says(venue: Hyperliquid, url: str) -> None:
    body = {"type": "userRole", "user": DEMO_SUB}
    with httpx.Client(base_url=url) as client:
        answers = [client.post("/info", json=body) for _ in range(3)]
        assert [answer.json() for answer in answers] == [post(venue, body).json()] * 3
        assert len({id(answer.extensions["network_stream"]) for answer in answers}) == 1  # kept alive
        assert client.post("/info", content=b"{").status_code == 422
        assert client.get("/nothing").status_code == 404


def test_loopback_breaks_as_a_network_does(venue: Hyperliquid, url: str) -> None:
    with httpx.Client(base_url=url, timeout=0.2) as client:
        venue.hang_up()
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/info", json={"type": "meta"})
        venue.truncate()
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/info", json={"type": "meta"})
        venue.time_out()
        with pytest.raises(httpx.ReadTimeout):
            client.post("/info", json={"type": "meta"})
        venue.rate_limit()
        assert client.post("/info", json={"type": "meta"}).status_code == 429
        assert client.post("/info", json={"type": "meta"}).status_code == 200


def test_loopback_serves_many_at_once_and_stops(venue: Hyperliquid) -> None:
    venue.latency = 0.05
    server = serve(venue).start()
    with httpx.Client(base_url=server.url) as client, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(client.post, "/info", json={"type": "userFills", "user": DEMO_SUB}) for _ in range(16)]
        assert {len(answer.result().json()) for answer in asked} == {2000}
        server.stop()
        with pytest.raises(httpx.TransportError):
            client.post("/info", json={"type": "meta"})
