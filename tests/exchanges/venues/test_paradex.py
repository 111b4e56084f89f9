"""The Paradex connector: rows to reports, busts, the walk by page tokens, and the two kinds of keys."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from exchanges.models import Fill, Retraction, SyncRun
from exchanges.sandbox import Sandbox
from exchanges.sandbox import paradex as sandbox_venue
from exchanges.sandbox.paradex import DEMO_MAIN, DEMO_MAIN_KEY, DEMO_SUB, DEMO_SUB_TOKEN, DEMO_SUBKEY, DEMO_TOKEN
from exchanges.venues.base import (
    CredentialsRejected,
    FillReport,
    Held,
    Identity,
    Kind,
    Liquidity,
    Page,
    PayloadError,
    Reason,
    Retracted,
    Side,
    Skipped,
    VenueUnavailable,
    Window,
    from_ms,
    to_ms,
)
from exchanges.venues.http import Budget
from exchanges.venues.paradex import Paradex, ParadexCredentials, bust_of, claims_of, fill_of
from tests import factories
from tests.conftest import NOW
from volume.models import DailyVolume
from volume.refresh import Wanted, refresh
from volume.rollup import differences

ME = "0xaa"
PAYLOADS = Path(__file__).resolve().parents[2] / "payloads/paradex"
FILLS, BUSTS = Paradex.streams
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
SUBKEY = {"account": DEMO_MAIN, "subkey": hex(DEMO_SUBKEY)}


def payload(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text())["response"]


def row(number: int = 1, at: datetime = NOW - MINUTE, **changes: Any) -> dict[str, Any]:
    """The first fill of the venue's example, with an id of 28 digits."""
    known = payload("fills")["results"][0]
    return known | {"account": ME, "id": f"{to_ms(at)}{number:015}", "created_at": to_ms(at)} | changes


def rows(count: int, *, every: float = 1.0) -> list[dict[str, Any]]:
    """The newest is a minute old."""
    return [row(number, NOW - MINUTE - timedelta(seconds=number * every)) for number in range(count)]


def read_row(**changes: Any) -> Any:
    return fill_of(msgspec.Raw(json.dumps(row(**changes))))


def token(**changes: Any) -> str:
    """A token as a user might paste it; None leaves a claim out."""
    claims = {"sub": ME, "iss": "Paradex prod", "exp": 2_000_000_000} | changes
    known = json.dumps({name: value for name, value in claims.items() if value is not None})
    return f"eyJh.{base64.urlsafe_b64encode(known.encode()).decode().rstrip('=')}.c2ln"


@dataclass
class Bench:
    """The connector beside the sandbox it talks to. `page` rows at most come at once, as if the venue had so chosen."""

    sandbox: sandbox_venue.Paradex
    clock: Any
    page: int = 5000
    asked: list[httpx.QueryParams] = field(default_factory=list)
    hosts: str = ""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path in ("/v1/fills", "/v1/tradebusts"):
            self.asked.append(request.url.params)
            url = request.url.copy_set_param("page_size", self.page)
            request = httpx.Request(request.method, url, headers=request.headers)
        return self.sandbox(request)

    def venue(self, secrets: dict[str, str]) -> Paradex:
        return Paradex(
            ParadexCredentials.parse(secrets), base_url=self.hosts, transport=httpx.MockTransport(self),
            budget=Budget(share=1000), sleep=self.clock.move,
        )  # fmt: skip

    def walk(
        self, secrets: dict[str, str], stream: Any = FILLS, since: datetime = NOW - 30 * DAY, until: datetime = NOW
    ) -> Iterator[Page]:
        return self.venue(secrets).fetch_fills(stream, Window(since, until))

    def read(self, *filled: dict[str, Any], stream: Any = FILLS, **window: datetime) -> list[Page]:
        """What is read of an account with these fills."""
        return list(self.walk({"token": self.sandbox.add(ME, rows=filled)}, stream, **window))

    def identify(self, secrets: dict[str, str]) -> Identity:
        return self.venue(secrets).identify()

    @property
    def sign_ins(self) -> int:
        return self.sandbox.calls["/v1/auth"]


@pytest.fixture
def bench(clock: Any) -> Callable[..., Bench]:
    def made(*, page: int = 5000, hosts: str = "", **options: Any) -> Bench:
        young = {"opened_at": NOW - 70 * DAY}  # quick to draw
        venue = sandbox_venue.Paradex(clock.now, **sandbox_venue.Paradex.unmetered | young | options)
        return Bench(venue, clock, page, hosts=hosts)

    return made


def outcomes(pages: list[Page]) -> list[Any]:
    return [item for page in pages for item in page.rows]


def covered(pages: list[Page]) -> list[Window]:
    return [page.covered for page in pages if page.covered]


def ids(pages: list[Page]) -> list[str]:
    return [report.fill_id for report in outcomes(pages)]


# --- Rows ------------------------------------------------------------------------------------------------------------


def test_the_venues_own_examples_are_read_exactly() -> None:
    bitcoin, ether = (fill_of(msgspec.Raw(json.dumps(item))) for item in payload("fills")["results"])
    assert bitcoin == FillReport(
        fill_id="FILL:1763599200114201709123450001", symbol="BTC-USD-PERP", base="BTC", quote="USD", side=Side.BUY,
        liquidity=Liquidity.TAKER, kind=Kind.TRADE, price=Decimal("91250.5"), qty=Decimal("0.02"),
        notional=Decimal("1825.010"), fee=Decimal("0.82125450"), fee_asset="USDC", realized_pnl=Decimal(0),
        executed_at=from_ms(1763599200114),
    )  # fmt: skip
    assert isinstance(ether, FillReport)
    assert (ether.kind, ether.side, ether.liquidity) == (Kind.RPI, Side.SELL, Liquidity.MAKER)
    assert (ether.fee, ether.fee_asset, ether.realized_pnl) == (Decimal("0.04610"), "DIME", Decimal("12.55"))
    (option,) = payload("fills_last_page")["results"]
    assert fill_of(msgspec.Raw(json.dumps(option))) == Skipped("option")


def test_the_true_path_is_asked_and_not_the_name_of_the_docs_page(bench: Any) -> None:
    made = bench()
    made.read(row())
    made.read(row(), stream=BUSTS)
    assert dict(made.sandbox.calls) == {"/v1/fills": 1, "/v1/tradebusts": 1}


def test_a_fee_in_the_venues_own_token_keeps_its_currency() -> None:
    report = read_row(fee="0.5", fee_currency="DIME")
    assert (report.fee, report.fee_asset) == (Decimal("0.5"), "DIME")


@pytest.mark.parametrize("fee", ["0", "0.00", "-0.31"])
def test_a_fee_of_nothing_and_a_rebate_are_fees(fee: str) -> None:
    assert read_row(fee=fee).fee == Decimal(fee)


@pytest.mark.parametrize(
    ("fill_type", "kind"),
    [("FILL", Kind.TRADE), ("RPI", Kind.RPI), ("BLOCK_TRADE", Kind.BLOCK), ("LIQUIDATION", Kind.LIQUIDATION)],
)
def test_each_kind_of_trade_is_told_apart(fill_type: str, kind: Kind) -> None:
    assert read_row(fill_type=fill_type).kind == kind


@pytest.mark.parametrize(
    ("fill_type", "kind"),
    [
        ("SETTLE_MARKET", "settlement"), ("UNWIND_TRANSFER", "position transfer"), ("TRANSFER", "position transfer"),
    ],
)  # fmt: skip
def test_what_is_no_trade_is_skipped_by_kind(fill_type: str, kind: str) -> None:
    assert read_row(fill_type=fill_type) == Skipped(kind)


def test_an_id_is_unique_only_within_a_type_and_keeps_its_28_digits(bench: Any) -> None:
    same = "1763599200114201709123450001"
    pages = bench().read(*(row(id=same, fill_type=kind) for kind in ("FILL", "RPI", "LIQUIDATION", "BLOCK_TRADE")))
    assert sorted(ids(pages)) == [f"{kind}:{same}" for kind in ("BLOCK_TRADE", "FILL", "LIQUIDATION", "RPI")]


@pytest.mark.parametrize(
    ("market", "kind"),
    [
        ("ETH-USD", "spot"), ("BTC-USD-26DEC26-100000-C", "option"), ("BTC-USD-96000-P", "option"),
        ("DIME-USD", "spot"),
    ],
)  # fmt: skip
def test_what_is_no_perpetual_is_skipped_by_kind(market: str, kind: str) -> None:
    assert read_row(market=market) == Skipped(kind)


@pytest.mark.parametrize(
    ("market", "base"), [("kPEPE-USD-PERP", "kPEPE"), ("GONE-USD-PERP", "GONE"), ("US-500-USD-PERP", "US-500")]
)
def test_a_perpetual_is_told_by_its_name_also_where_it_is_not_listed_any_more(market: str, base: str) -> None:
    report = read_row(market=market)
    assert (report.symbol, report.base, report.quote) == (market, base, "USD")


@pytest.mark.parametrize("market", ["BTC-USD-26DEC26", "BTC", "", "BTC-PERP", "-PERP", "--PERP", "BTC_USD_PERP"])
def test_a_market_whose_name_does_not_tell_is_held(market: str) -> None:
    assert isinstance(read_row(market=market), Held)


@pytest.mark.parametrize(
    "changes",
    [
        {"fill_type": "AUCTION"}, {"side": "LONG"}, {"side": ""}, {"liquidity": "BOTH"}, {"price": "0"}, {"size": "-1"},
        {"price": "NaN"}, {"size": "Infinity"}, {"price": "1E+999999999"}, {"size": ""}, {"fee": "much"},
        {"id": 1763599200114}, {"id": "9" * 250}, {"market": "X" * 60 + "-USD-PERP"}, {"price": "9" * 12, "size": "9"},
        {"price": None}, {"realized_pnl": "a bit"},
    ],
)  # fmt: skip
def test_a_row_that_is_not_understood_is_held_raw_with_its_time(changes: dict[str, Any]) -> None:
    held = read_row(**changes, aFieldNobodyKnows=1)
    assert isinstance(held, Held)
    assert json.loads(held.row)["aFieldNobodyKnows"] == 1
    if not isinstance(changes.get("id"), int) and changes.get("price", "1") is not None and changes.get("size") != "":
        assert held.executed_at in (NOW - MINUTE, None)


@pytest.mark.parametrize("at", [0, -1, 1_795_262_400, 1_795_262_400_000_000, "soon", None, 2**70])
def test_a_time_in_another_unit_than_milliseconds_is_no_time(at: Any) -> None:
    """Seconds would be 1970, microseconds far beyond 2100: neither may become a day of volume."""
    outcome = read_row(created_at=at)
    assert isinstance(outcome, Held) or (at == 1_795_262_400 and outcome.executed_at.year == 1970)


@pytest.mark.parametrize("pnl", ["", None])
def test_an_older_row_says_nothing_of_its_profit(pnl: str | None) -> None:
    assert read_row(realized_pnl=pnl).realized_pnl is None


def test_rows_of_before_2025_lack_fields_and_are_fills() -> None:
    old = row()
    for name in ("realized_pnl", "realized_funding", "flags", "orderbook_seq_no", "client_id", "remaining_size"):
        del old[name]
    assert isinstance(fill_of(msgspec.Raw(json.dumps(old))), FillReport)


def test_unknown_fields_and_flags_are_nothing() -> None:
    assert isinstance(read_row(flags=["moon"], settlement={"batch": 1}), FillReport)


def test_price_times_size_is_exact_beyond_28_digits() -> None:
    report = read_row(price="91250.12345678901234567", size="0.12345678901234567890")
    assert report.notional == Decimal(f"{9125012345678901234567 * 12345678901234567890}e-37")


# --- Busts -----------------------------------------------------------------------------------------------------------


def test_the_venues_example_of_a_bust_takes_back_the_matched_fill_of_that_id() -> None:
    bust = bust_of(msgspec.Raw(json.dumps(payload("tradebusts")["results"][0])))
    assert isinstance(bust, Retracted)
    assert "FILL:1763599200114201709123450001" in bust.fill_ids
    assert {name.partition(":")[0] for name in bust.fill_ids} == {"FILL", "RPI", "BLOCK_TRADE"}
    assert bust.why == "Paradex took it back on 2025-11-20 00:40 UTC: it failed on the chain."


@pytest.mark.parametrize("changes", [{"busted_fill_id": 7}, {"created_at": 0}, {"busted_fill_id": "9" * 300}])
def test_a_bust_that_is_not_understood_is_held(changes: dict[str, Any]) -> None:
    assert isinstance(bust_of(msgspec.Raw(json.dumps(payload("tradebusts")["results"][0] | changes))), Held)


@pytest.mark.parametrize("stream", [FILLS, BUSTS])
def test_a_held_row_is_read_again_as_what_it_is(bench: Any, stream: Any) -> None:
    name = "fills" if stream == FILLS else "tradebusts"
    raw = json.dumps(payload(name)["results"][0])
    kind = FillReport if stream == FILLS else Retracted
    assert isinstance(bench().venue({"token": DEMO_TOKEN}).parse_held(stream.name, raw), kind)


@pytest.fixture
def account(db: Any, clock: Any, sandbox: Sandbox) -> Any:
    """A stored account with three fills at the venue, not read yet."""
    paste = sandbox.paradex.add(ME, rows=[row(number, NOW - number * DAY) for number in (1, 2, 3)])
    return factories.credential("paradex", secrets={"token": paste}, history_from=NOW - 10 * DAY)


def read(credential: Any, clock: Any, **wanted: Any) -> SyncRun:
    credential.refresh_from_db()
    run = refresh(credential, now=clock.now(), wanted=Wanted(**wanted))
    assert run.outcome == SyncRun.Outcome.COMPLETE, run.message
    assert not differences(credential)
    return run


def numbers(credential: Any) -> list[int]:
    """Which of the three fills are there."""
    return sorted(int(name[-15:]) for name in credential.fills.values_list("fill_id", flat=True))


def test_a_bust_that_comes_later_takes_the_fill_and_its_day_out(account: Any, clock: Any, sandbox: Sandbox) -> None:
    read(account, clock)
    assert numbers(account) == [1, 2, 3]
    sandbox.paradex.bust(ME, row(2, NOW - 2 * DAY)["id"], at=NOW + timedelta(seconds=30))
    clock.move(60)
    run = read(account, clock)
    assert (numbers(account), run.retracted) == ([1, 3], 1)
    days = DailyVolume.objects.filter(credential=account, fills__gt=0).values_list("day", flat=True)
    assert sorted(days) == [(NOW - number * DAY).date() for number in (3, 1)]


def test_a_fill_busted_before_it_was_read_never_counts(account: Any, clock: Any, sandbox: Sandbox) -> None:
    sandbox.paradex.bust(ME, row(2, NOW - 2 * DAY)["id"])
    read(account, clock)
    assert numbers(account) == [1, 3]


def test_a_bust_of_a_fill_never_seen_waits_for_it(account: Any, clock: Any, sandbox: Sandbox) -> None:
    late = row(4, NOW + timedelta(seconds=10))
    sandbox.paradex.bust(ME, late["id"])
    read(account, clock)
    assert Retraction.objects.filter(credential=account).exists()
    sandbox.paradex.put(ME, "fills", late)
    clock.move(60)
    run = read(account, clock)
    assert (numbers(account), run.skipped["taken back"]) == ([1, 2, 3], 1)


def test_a_busted_fill_stays_out_when_everything_is_read_again(account: Any, clock: Any, sandbox: Sandbox) -> None:
    sandbox.paradex.bust(ME, row(1, NOW - DAY)["id"])
    read(account, clock)
    read(account, clock, again=True)
    assert numbers(account) == [2, 3]


def test_a_bust_takes_out_no_other_fill_of_the_same_moment(account: Any, clock: Any, sandbox: Sandbox) -> None:
    sandbox.paradex.put(ME, "fills", row(7, NOW - DAY))
    sandbox.paradex.bust(ME, row(7, NOW - DAY)["id"])
    read(account, clock)
    assert numbers(account) == [1, 2, 3]


@pytest.mark.parametrize(
    "options",
    [{}, {"odd": True, "duplicates": True}, {"exclusive_bounds": True, "oldest_first": True}, {"busted_stay": False}],
)
def test_two_months_of_the_sandboxs_trader_come_to_its_own_truth(
    db: Any, clock: Any, sandbox: Sandbox, options: dict[str, Any]
) -> None:
    for name, value in options.items():
        setattr(sandbox.paradex, name, value)
    sandbox.paradex.accounts[DEMO_MAIN].odd = bool(options.get("odd"))
    since = NOW - 60 * DAY
    some = next(item for item in sandbox.paradex.rows(DEMO_MAIN) if item["created_at"] > to_ms(since))
    sandbox.paradex.bust(DEMO_MAIN, some["id"])
    sandbox.paradex.put(DEMO_MAIN, "fills", row(fill_type="AUCTION"))
    credential = factories.credential("paradex", secrets={"token": DEMO_TOKEN}, history_from=since)
    refresh(credential, now=clock.now())
    days = DailyVolume.objects.filter(credential=credential)
    found = {(day.day, day.symbol): (day.fills, day.notional_usd) for day in days if day.fills}
    truth = sandbox.paradex.truth(DEMO_MAIN, since=since).items()
    assert found == {key: (item.fills, item.notional) for key, item in truth if item.fills}
    assert Fill.objects.filter(credential=credential, fee_asset="DIME").exists()
    assert credential.held_rows.exists()


# --- The walk --------------------------------------------------------------------------------------------------------


def test_an_idle_poll_is_one_request(bench: Any) -> None:
    made = bench()
    pages = made.read(since=NOW - 10 * MINUTE)
    assert len(made.asked) == 1
    assert covered(pages) == [Window(NOW - 10 * MINUTE, NOW)]


@pytest.mark.parametrize("options", [{}, {"oldest_first": True}, {"duplicates": True}, {"exclusive_bounds": True}])
def test_every_fill_is_read_whatever_the_order_of_the_pages(bench: Any, options: dict[str, Any]) -> None:
    filled = rows(40, every=0)[:9] + rows(40)  # nine more of one millisecond, across pages of four
    for number, item in enumerate(filled):
        item["id"] = f"{number:028}"
    made = bench(page=4, **options)
    pages = made.read(*filled)
    assert set(ids(pages)) == {f"FILL:{item['id']}" for item in filled}
    assert len(made.asked) >= 13


def test_nothing_is_claimed_before_the_end(bench: Any) -> None:
    pages = bench(page=4).read(*rows(10))
    assert [page.covered for page in pages] == [None] * (len(pages) - 1) + [Window(NOW - 30 * DAY, NOW)]


def test_a_page_token_goes_back_with_the_same_filters(bench: Any) -> None:
    made = bench(page=4)
    made.read(*rows(10))
    first, *later = made.asked
    assert later
    assert "cursor" not in first
    assert all(query.remove("cursor") == first for query in later)
    assert len({query["cursor"] for query in later}) == len(later)


def test_a_page_token_of_odd_signs_comes_back_as_it_was_given(clock: Any) -> None:
    asked: list[httpx.QueryParams] = []
    told = 'a+b/c==.=%2B&page_size=1 é"'

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params)
        return httpx.Response(200, json={"results": [], "next": None if "cursor" in request.url.params else told})

    venue = Paradex(ParadexCredentials(token=DEMO_TOKEN), transport=httpx.MockTransport(answer))
    assert covered(list(venue.fetch_fills(FILLS, Window(NOW - DAY, NOW))))
    assert asked[1].get_list("cursor") == [told]
    assert asked[1].get_list("page_size") == ["5000"]


@pytest.mark.parametrize("end", [None, "", "left out"])
def test_a_walk_ends_where_no_page_follows(clock: Any, end: Any) -> None:
    body = {"results": [row()]} | ({} if end == "left out" else {"next": end})
    venue = Paradex(
        ParadexCredentials(token=DEMO_TOKEN), transport=httpx.MockTransport(lambda _: httpx.Response(200, json=body))
    )
    pages = list(venue.fetch_fills(FILLS, Window(NOW - DAY, NOW)))
    assert covered(pages) == [Window(NOW - DAY, NOW)]


def test_pages_that_go_in_circles_are_told_and_claim_nothing(clock: Any) -> None:
    body = {"results": [row()], "next": "again"}
    venue = Paradex(
        ParadexCredentials(token=DEMO_TOKEN), transport=httpx.MockTransport(lambda _: httpx.Response(200, json=body))
    )
    pages = venue.fetch_fills(FILLS, Window(NOW - DAY, NOW))
    with pytest.raises(PayloadError, match="circles"):
        [page.covered for page in pages]


def test_a_page_token_that_is_refused_midway_is_asked_anew_later_and_claims_nothing(bench: Any) -> None:
    made = bench(page=4, cursor_seconds=600)
    pages = made.walk({"token": made.sandbox.add(ME, rows=rows(10))})
    first = next(pages)
    assert first.covered is None
    made.clock.move(601)
    with pytest.raises(VenueUnavailable, match="page token"):
        list(pages)
    assert len(covered(list(made.walk({"token": made.sandbox.token(ME)})))) == 1


def test_a_question_that_is_refused_at_once_is_a_puzzle_and_no_page_token_is_blamed(bench: Any) -> None:
    made = bench()
    made.sandbox.fail(400, json.dumps({"error": "VALIDATION_ERROR", "message": "no", "data": None}).encode())
    with pytest.raises(PayloadError, match="HTTP 400"):
        made.read()


@pytest.mark.parametrize("exclusive_bounds", [False, True])
def test_the_ends_of_a_window_are_exact(bench: Any, exclusive_bounds: bool) -> None:
    """Whatever the venue's rule for its bounds: the first millisecond is in, and so is the one `until` lies in."""
    since, until = NOW - DAY, NOW - DAY + MINUTE + timedelta(microseconds=500)
    inside = [since, since + timedelta(milliseconds=1), NOW - DAY + MINUTE]
    beside = [since - DAY, until + DAY / 2]
    filled = [row(number, at) for number, at in enumerate(inside + beside)]
    pages = bench(exclusive_bounds=exclusive_bounds).read(*filled, since=since, until=until)
    assert set(ids(pages)) == {f"FILL:{item['id']}" for item in filled[:3]}
    assert covered(pages) == [Window(since, until)]


def test_a_long_page_is_stored_in_parts(bench: Any) -> None:
    pages = bench().read(*rows(2500))
    assert max(len(page.rows) for page in pages) <= 1000
    assert len(ids(pages)) == 2500


# --- A subkey, and the JWTs made with it -----------------------------------------------------------------------------


def demo_rows(made: Bench, count: int = 10) -> None:
    """The demo's main account with nothing but a few fills, of the same keys."""
    made.sandbox.add(
        DEMO_MAIN, rows=rows(count), subkeys=[sandbox_venue.DEMO_SUBKEY_PUBLIC], main_key=sandbox_venue.DEMO_MAIN_PUBLIC
    )


def test_a_subkey_signs_in_and_reads(bench: Any) -> None:
    made = bench()
    demo_rows(made)
    assert len(ids(list(made.walk(SUBKEY)))) == 10
    assert made.sign_ins == 1


def test_a_subkey_reads_the_testnet_under_its_own_chain(bench: Any) -> None:
    made = bench(hosts="https://api.testnet.paradex.trade")
    made.sandbox.add(ME, rows=rows(3), subkeys=[sandbox_venue.DEMO_SUBKEY_PUBLIC], main_key=5, environment="testnet")
    assert len(ids(list(made.walk(SUBKEY | {"account": ME})))) == 3
    assert made.identify(SUBKEY | {"account": ME}).account_ref == ME


def test_a_jwt_is_renewed_before_it_dies(bench: Any) -> None:
    made = bench(page=4)
    demo_rows(made)
    seen = []
    for page in made.walk(SUBKEY):
        seen += ids([page])
        made.clock.move(240)
    assert len(seen) == 10
    assert made.sandbox.statuses == {200: made.sandbox.calls.total()}  # none was refused first
    assert made.sign_ins == 3


def test_a_jwt_that_ends_in_the_middle_of_a_walk_is_made_anew(bench: Any) -> None:
    made = bench(page=3)
    demo_rows(made)
    made.sandbox.after(4, made.sandbox.expire_jwts)
    pages = list(made.walk(SUBKEY))
    assert len(set(ids(pages))) == 10
    assert covered(pages) == [Window(NOW - 30 * DAY, NOW)]
    assert made.sign_ins == 2
    assert made.sandbox.statuses[401] == 1


def test_each_jwt_that_ends_is_made_anew(bench: Any) -> None:
    made = bench(page=1)
    demo_rows(made, 6)
    seen = []
    for page in made.walk(SUBKEY):
        seen += ids([page])
        made.sandbox.expire_jwts()
    assert len(seen) == 6
    assert made.sign_ins == 6


@pytest.mark.parametrize("skew", [-20, 20])
def test_a_clock_that_is_20_seconds_off_is_made_up_for(bench: Any, skew: int) -> None:
    made = bench(skew=timedelta(seconds=skew))
    demo_rows(made)
    assert len(ids(list(made.walk(SUBKEY)))) == 10
    assert made.sign_ins <= 2


@pytest.mark.parametrize("skew", [-600])
def test_a_clock_that_is_far_off_is_told_and_heals_by_time(bench: Any, skew: int) -> None:
    made = bench(skew=timedelta(seconds=skew))
    with pytest.raises(VenueUnavailable, match="clock is 10 minutes ahead of Paradex's") as told:
        list(made.walk(SUBKEY))
    assert told.value.reason == Reason.CLOCK


def test_a_revoked_subkey_is_rejected_and_not_tried_for_ever(bench: Any) -> None:
    made = bench(page=3)
    demo_rows(made)
    made.sandbox.after(4, lambda: made.sandbox.revoke(DEMO_MAIN))
    with pytest.raises(CredentialsRejected) as told:
        list(made.walk(SUBKEY))
    assert told.value.reason == Reason.WRONG_KEY
    assert made.sign_ins == 2


def test_a_fresh_jwt_that_is_refused_is_a_rejected_key_and_no_loop(bench: Any) -> None:
    made = bench()
    reads = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/v1/fills":
            return made.sandbox(request)
        reads.append(request)
        return httpx.Response(401, json={"error": "INVALID_TOKEN", "message": "invalid bearer jwt: not for you"})

    venue = Paradex(
        ParadexCredentials.parse(SUBKEY), transport=httpx.MockTransport(answer), sleep=made.clock.move,
        budget=Budget(share=1000),
    )  # fmt: skip
    with pytest.raises(CredentialsRejected):
        list(venue.fetch_fills(FILLS, Window(NOW - DAY, NOW)))
    assert (len(reads), made.sign_ins) == (2, 2)


def test_a_sign_in_is_tried_again_when_the_venue_has_trouble(bench: Any) -> None:
    made = bench()
    demo_rows(made)
    made.sandbox.fail(502, times=3)
    assert len(ids(list(made.walk(SUBKEY)))) == 10


@pytest.mark.parametrize(
    ("secrets", "reason"),
    [
        (SUBKEY | {"subkey": "0x1234"}, Reason.WRONG_KEY),
        (SUBKEY | {"account": "0x999"}, Reason.UNKNOWN_ACCOUNT),
        (SUBKEY | {"account": DEMO_SUB}, Reason.WRONG_KEY),
    ],
)
def test_a_subkey_the_account_does_not_know_is_told(bench: Any, secrets: dict[str, str], reason: Reason) -> None:
    with pytest.raises(CredentialsRejected) as told:
        bench().identify(secrets)
    assert told.value.reason == reason


def test_the_main_private_key_is_refused_in_words(bench: Any) -> None:
    with pytest.raises(CredentialsRejected, match="main private key") as told:
        bench().identify({"account": DEMO_MAIN, "subkey": hex(DEMO_MAIN_KEY)})
    assert told.value.reason == Reason.MAIN_KEY
    assert hex(DEMO_MAIN_KEY)[4:] not in str(told.value)


# --- Who is this -----------------------------------------------------------------------------------------------------


def test_a_read_only_token_says_whose_it_is_and_when_it_dies(bench: Any) -> None:
    identity = bench().identify({"token": DEMO_TOKEN})
    assert identity.account_ref == DEMO_MAIN
    assert identity.description == "Read-only token of the main account quietmaker."
    assert (identity.may_trade, identity.may_withdraw) == (False, False)
    assert identity.expires_at == sandbox_venue.FOREVER
    assert [item.label for item in identity.related] == [DEMO_SUB]


def test_a_subkey_is_said_to_be_able_to_trade(bench: Any) -> None:
    identity = bench().identify(SUBKEY)
    assert (identity.may_trade, identity.may_withdraw, identity.expires_at) == (True, False, None)
    assert identity.description == "Subkey of the main account quietmaker, can trade but not withdraw."


def test_a_sub_account_names_its_main_account_and_offers_no_others(bench: Any) -> None:
    identity = bench().identify({"token": DEMO_SUB_TOKEN})
    assert identity.description == f"Read-only token of the sub-account of {DEMO_MAIN}."
    assert identity.related == ()


def test_an_account_info_with_relatives_and_spellings_nobody_knows_is_read(bench: Any) -> None:
    made = bench()
    mine = payload("account_info")["results"][0]
    mine["account"] = "0x0" + mine["account"][2:].upper()
    body = {"results": [{"account": "vault", "kind": "vault_of_vaults"}, {"account": "0x5", "username": ""}, mine]}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=body) if "account/info" in request.url.path else made.sandbox(request)

    venue = Paradex(ParadexCredentials(token=DEMO_TOKEN), transport=httpx.MockTransport(answer))
    assert venue.identify().description == "Read-only token of the main account quietmaker."


def test_a_token_of_the_testnet_is_told_apart_and_the_other_way_round(bench: Any) -> None:
    for made, environment in ((bench(), "testnet"), (bench(hosts="https://api.testnet.paradex.trade"), "mainnet")):
        with pytest.raises(CredentialsRejected, match=f"token of Paradex's {environment}") as told:
            made.identify({"token": made.sandbox.token(DEMO_MAIN, environment=environment)})
        assert told.value.reason == Reason.WRONG_ENVIRONMENT


def test_an_expired_token_is_told_also_where_the_answer_holds_no_code(bench: Any) -> None:
    made = bench()
    paste = made.sandbox.token(DEMO_MAIN, expires_at=NOW + MINUTE)
    made.clock.move(120)
    for ask in (lambda: made.identify({"token": paste}), lambda: list(made.walk({"token": paste}))):
        with pytest.raises(CredentialsRejected, match="has expired") as told:
            ask()
        assert told.value.reason == Reason.EXPIRED


def test_a_token_that_was_deleted_is_not_taken_for_expired(bench: Any) -> None:
    made = bench()
    made.sandbox.revoke(DEMO_MAIN)
    with pytest.raises(CredentialsRejected) as told:
        made.identify({"token": DEMO_TOKEN})
    assert told.value.reason == Reason.WRONG_KEY
    assert made.sandbox.calls["/v1/account/info"] == 1


def test_a_token_bound_to_another_address_is_told(bench: Any) -> None:
    made = bench()
    with pytest.raises(CredentialsRejected) as told:
        made.identify({"token": made.sandbox.token(DEMO_MAIN, cidrs=["203.0.113.0/24"])})
    assert told.value.reason == Reason.IP_NOT_ALLOWED


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (403, "INVALID_TOKEN_SCOPE", Reason.MISSING_PERMISSION), (403, "GEO_IP_BLOCK", Reason.CLOSED),
        (403, "ETHEREUM_ADDRESS_BLOCKED", Reason.CLOSED), (401, "UNAUTHORIZED_ERROR", Reason.WRONG_KEY),
        (401, "ACCOUNT_NOT_FOUND", Reason.WRONG_KEY),
    ],
)  # fmt: skip
def test_each_refusal_of_a_key_has_its_reason(bench: Any, status: int, error: str, reason: Reason) -> None:
    made = bench()
    made.sandbox.fail(status, json.dumps({"error": error, "message": "sent by 0xsecret"}).encode())
    with pytest.raises(CredentialsRejected) as told:
        made.read()
    assert told.value.reason == reason
    assert "0xsecret" not in str(told.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_gateways_web_page_condemns_no_key(bench: Any, status: int) -> None:
    made = bench()
    made.sandbox.html(None, status=status)
    with pytest.raises(PayloadError, match=f"HTTP {status}"):
        made.read()


@pytest.mark.parametrize("error", ["INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "SYSTEM_STATUS_CANCEL_ONLY"])
def test_trouble_of_the_venue_is_tried_again(bench: Any, error: str) -> None:
    made = bench()
    made.sandbox.fail(503, json.dumps({"error": error, "message": "later"}).encode(), times=2)
    assert len(ids(made.read(row()))) == 1


def test_told_to_wait_all_of_us_wait(bench: Any) -> None:
    made = bench()
    paste = made.sandbox.add(ME, rows=rows(3))
    made.sandbox.rate_limit(1, retry_after=4)
    assert len(ids(list(made.walk({"token": paste})))) == 3
    assert made.sandbox.too_early == 0


@pytest.mark.parametrize(("limit", "others_wait"), [("1500", True), ("600", False)])
def test_the_limit_of_the_address_stops_all_accounts_and_an_accounts_own_only_itself(
    clock: Any, limit: str, others_wait: bool
) -> None:
    budget, asked = Budget(), []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) > 1:
            return httpx.Response(200, json={"results": []})
        return httpx.Response(
            429, headers={"X-RateLimit-Limit": limit, "X-Ratelimit-Window": "60", "Retry-After": "20"}
        )

    def poll(paste: str) -> None:
        venue = Paradex(ParadexCredentials(token=paste), transport=httpx.MockTransport(answer), budget=budget)
        list(venue.fetch_fills(FILLS, Window(NOW - DAY, NOW)))

    for paste, waits in ((DEMO_TOKEN, True), (DEMO_TOKEN, True), (DEMO_SUB_TOKEN, others_wait)):
        if waits:
            with pytest.raises(VenueUnavailable):
                poll(paste)
        else:
            poll(paste)
    assert len(asked) == 1 + (not others_wait)


# --- What a user may paste -------------------------------------------------------------------------------------------


def refusal(**secrets: Any) -> str:
    with pytest.raises(CredentialsRejected) as told:
        ParadexCredentials.parse(secrets)
    assert told.value.reason == Reason.MALFORMED
    for value in secrets.values():
        assert len(value) < 8 or value not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("key", [hex(DEMO_SUBKEY), f"{DEMO_SUBKEY:x}", hex(DEMO_SUBKEY).upper(), "0x" + "a1" * 20])
def test_a_private_key_or_an_address_in_place_of_a_token_is_refused_and_not_repeated(key: str) -> None:
    assert refusal(token=key.replace("0X", "0x")).startswith("This looks like a private key or an address")


@pytest.mark.parametrize(
    "paste",
    [
        "hello", "a.b", "a.b.c.d", "..", "eyJh.e30.c2ln", token(sub=None), token(exp=None), token(exp="soon"),
        token(sub=5), token(sub="quietmaker"), token(sub="0x" + "f" * 300), token(exp=float("inf")), token(exp=-1),
        token(exp=10**18), token(sub="-0x5"), f"é{token()}", token().replace(".", ".\n", 1), token() + " x",
        token().replace(".", ". ", 1), "eyJh.W10.c2ln", "eyJh.MTI.c2ln",
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused_in_words(paste: str) -> None:
    assert refusal(token=paste).startswith("Not a token of Paradex")


def test_a_token_is_trimmed() -> None:
    assert ParadexCredentials.parse({"token": f"  {DEMO_TOKEN}\n"}).token == DEMO_TOKEN


def test_nothing_at_all_lacks_a_token() -> None:
    assert refusal() == "A read-only token is missing."
    assert refusal(account=DEMO_MAIN) == "A read-only token is missing."
    assert refusal(subkey=hex(DEMO_SUBKEY)) == "A read-only token is missing."


def test_a_token_and_a_subkey_are_not_taken_together() -> None:
    assert refusal(token=DEMO_TOKEN, **SUBKEY) == "Give either a read-only token, or an account and its subkey."


@pytest.mark.parametrize("account", ["quietmaker", "0x", "0x0", "129f", "0x" + "1" * 65, hex(2**251 + 17 * 2**192 + 1)])
def test_what_is_no_account_is_refused_in_words(account: str) -> None:
    assert refusal(**SUBKEY | {"account": account}).startswith("Not a Paradex account address")


@pytest.mark.parametrize(
    "subkey",
    ["secret-of-mine", "0x0", "0x" + "1" * 65, "0x800000000000010ffffffffffffffffb781126dcae7b2321e66a241adc64d2f"],
)
def test_what_is_no_subkey_is_refused_and_not_repeated(subkey: str) -> None:
    assert refusal(**SUBKEY | {"subkey": subkey}).startswith("Not a Paradex subkey")


def test_an_account_has_one_spelling() -> None:
    spelled = ParadexCredentials.parse({"account": "0x00AA", "subkey": hex(DEMO_SUBKEY)})
    assert spelled.account_ref == "0xaa" == claims_of(token(sub="0x00Aa")).account


def test_no_secret_is_shown() -> None:
    for secrets in ({"token": DEMO_TOKEN}, SUBKEY):
        shown = repr(ParadexCredentials.parse(secrets))
        assert DEMO_TOKEN not in shown
        assert hex(DEMO_SUBKEY) not in shown


def test_a_token_needs_no_address_and_takes_only_its_own() -> None:
    with_address = ParadexCredentials(token=DEMO_TOKEN, account=DEMO_MAIN)
    assert with_address == ParadexCredentials(token=f"Bearer {DEMO_TOKEN}")
    with pytest.raises(CredentialsRejected) as told:
        ParadexCredentials(token=DEMO_TOKEN, account=DEMO_SUB)
    assert told.value.reason == Reason.WRONG_ACCOUNT
