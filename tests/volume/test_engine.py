"""Engine and ledger against a model, through whatever may happen to an account, one random life after the other.

The real engine reads a real sandbox venue, while fills come, come late, are taken back, changed, renamed or not
understood, while the venue fails, the worker dies and the owner changes their mind. Beside it stands a model in plain
Python, and after every step all must agree. `HYPOTHESIS_PROFILE=long` lives many more and longer lives;
`ENGINE_LIVES=2000` says how many.
"""

import json
import os
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import partial
from itertools import count, pairwise
from typing import Any, ClassVar

import httpx
import pytest
import time_machine
from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from exchanges import sync
from exchanges.connect import budget
from exchanges.models import STOPPED, Coverage, ExchangeCredential, Fill, HeldRow, SyncRun
from exchanges.sandbox import Sandbox
from exchanges.sandbox.base import SandboxVenue, to_ms
from exchanges.sandbox.bybit import MAIN, Bybit, Key
from exchanges.sandbox.paradex import FOREVER, Paradex
from exchanges.venues.base import Window, subtract
from tests import factories
from tests.conftest import NOW
from volume import glance, holding, queries
from volume.completeness import STALE_AFTER, Completeness
from volume.models import Amendment, DailyVolume, Preferences
from volume.refresh import NotOurs, Wanted, refresh, reparse
from volume.rollup import differences, rebuild_all

pytestmark = pytest.mark.django_db(transaction=True)  # what a killed worker did not commit is undone for real
State, Outcome = Coverage.State, SyncRun.Outcome
MS, MINUTE, DAY = timedelta(milliseconds=1), timedelta(minutes=1), timedelta(days=1)
OVERLAP, LOOK_BACK = timedelta(minutes=10), timedelta(days=3)
HISTORY = timedelta(days=9)  # two windows, the older of them short
PAGE = 3  # rows: whoever puts some fills is past the edge of a page
CELL = (
    "fills", "base_qty", "notional_usd", "maker_usd", "taker_usd", "buy_usd", "sell_usd", "forced_fills", "forced_qty",
    "forced_usd", "forced_maker_usd", "forced_buy_usd",
)  # fmt: skip

is_long = os.environ.get("HYPOTHESIS_PROFILE") == "long"
LIVES = settings(
    max_examples=int(os.environ.get("ENGINE_LIVES", "500" if is_long else "8")),
    stateful_step_count=50 if is_long else 20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Killed(BaseException):
    """kill -9, as far as a process can do it to itself."""


@dataclass(eq=False)
class Item:
    """A row the venue lists, and what the model knows of our having had to see it."""

    stream: str
    at: datetime
    is_late: bool = False  # it came after its time was read, and was not looked for since
    is_in_the_middle: bool = False  # it came while a reading was under way: of that one nothing is expected


@dataclass(eq=False)
class Trade(Item):
    """An execution. `facts` are all the venue ever said of it, the newest last."""

    id: str = ""  # the venue's
    fill_id: str = ""  # ours
    sort: str = "plain"  # plain, forced, unknown or skipped
    row: dict[str, Any] = field(default_factory=dict)
    facts: list[dict[str, Any]] = field(default_factory=list)
    is_outdated: bool = False  # it was changed after its time was read, and was not looked at since
    is_held: bool = False  # an older perpdash did not understand it

    @property
    def counts(self) -> bool:
        return self.sort in ("plain", "forced")


@dataclass(eq=False)
class Bust(Item):
    """The venue takes every trade with this id back that was matched."""

    id: str = ""


# --- The venues: how a trade is spelled, and pages so small that there are edges -------------------------------------


class SmallParadex(Paradex):
    def _page(self, request: httpx.Request, *args: Any, **filters: Any) -> dict[str, Any]:
        small = httpx.Request("GET", request.url.copy_set_param("page_size", PAGE), headers=request.headers)
        return super()._page(small, *args, **filters)


class SmallBybit(Bybit):
    def _fills(self, account: Any, key: Any, params: dict[str, Any], *, is_old: bool) -> dict[str, Any]:
        return super()._fills(account, key, params | {"limit": str(PAGE)}, is_old=is_old)


class AtParadex:
    slug = "paradex"
    account = "0x5a11"
    symbols = ("BTC-USD-PERP", "ETH-USD-PERP")
    streams = ("fills", "trade busts")
    kinds: ClassVar = {"plain": ("FILL", "RPI", "BLOCK_TRADE"), "forced": ("LIQUIDATION",), "unknown": ("AUCTION",)}
    may_bust = True

    def __init__(self, now: Callable[[], datetime], options: int) -> None:
        self.venue = SmallParadex(
            now, fills_per_day=0, duplicates=bool(options & 1), exclusive_bounds=bool(options & 2),
            oldest_first=bool(options & 4), busted_stay=bool(options & 8), **Paradex.unmetered,
        )  # fmt: skip
        self.has_twins = self.venue.busted_stay  # where it hides what was taken back, it hides all of the name
        self.secrets = {"token": self.venue.add(self.account, expires_at=FOREVER)}

    def spell(self, trade: Trade, facts: dict[str, Any], kind: str) -> dict[str, Any]:
        trade.stream, trade.fill_id = "fills", f"{kind}:{trade.id}"
        return {
            "id": trade.id, "account": self.account, "market": facts["symbol"], "side": facts["side"].upper(),
            "liquidity": facts["liquidity"].upper(), "order_id": "1", "client_id": "", "price": str(facts["price"]),
            "size": str(facts["qty"]), "fee": str(facts["fee"]), "fee_currency": "USDC", "realized_pnl": "",
            "created_at": to_ms(trade.at), "fill_type": kind, "flags": [],
        }  # fmt: skip

    def put(self, trade: Trade) -> None:
        self.venue.put(self.account, "fills", trade.row)

    def bust(self, bust: Bust) -> None:
        self.venue.bust(self.account, bust.id, bust.at)

    skipped = ("SETTLE_MARKET", "UNWIND_TRANSFER")


class AtBybit:
    slug = "bybit"
    account = "77001"
    symbols = ("BTCUSDT", "ETHPERP", "ETHUSD")
    streams = ("linear", "inverse", "linear before upgrade", "inverse before upgrade")
    kinds: ClassVar = {
        "plain": ("Trade", "BlockTrade", "FutureSpread"), "forced": ("AdlTrade", "BustTrade"), "unknown": ("Auction",),
    }  # fmt: skip
    skipped = ("Funding", "Settle")
    may_bust = has_twins = False

    def __init__(self, now: Callable[[], datetime], options: int) -> None:
        self.venue = SmallBybit(
            now, fills_per_day=0, duplicates=bool(options & 1), empty_last_page=bool(options & 2), other_markets=0,
            **Bybit.unmetered,
        )  # fmt: skip
        self.venue.accounts.clear()
        self.venue.add(self.account, Key(MAIN, ips=("127.0.0.1",)), unified_status=6 if options & 4 else 1)
        self.secrets = MAIN
        if not options & 4:
            self.streams = self.streams[:2]

    def spell(self, trade: Trade, facts: dict[str, Any], kind: str) -> dict[str, Any]:
        trade.stream = "inverse" if facts["symbol"].endswith("USD") else "linear"
        trade.fill_id = f"{trade.stream}:{trade.id}"
        qty, value = facts["qty"], facts["notional"]
        if trade.stream == "inverse":
            qty, value = value, qty  # its quantity is in dollars
        return {
            "symbol": facts["symbol"], "side": facts["side"].capitalize(), "execId": trade.id, "execType": kind,
            "execPrice": str(facts["price"]), "execQty": str(qty), "execValue": f"{value:f}",
            "execFee": str(facts["fee"]), "execTime": str(to_ms(trade.at)), "isMaker": facts["liquidity"] == "maker",
            "feeCurrency": "", "orderId": "1", "orderLinkId": "", "createType": "", "seq": 1, "extraFees": "",
        }  # fmt: skip

    def put(self, trade: Trade) -> None:
        self.venue.put(self.account, trade.stream, trade.row)


# --- What time may be meant ------------------------------------------------------------------------------------------

moments = st.one_of(
    st.tuples(st.just("ago"), st.integers(0, 20 * 60)),  # seconds: what the next poll looks back over
    st.tuples(st.just("ago"), st.integers(0, 12 * 86_400)),
    st.tuples(st.just("hours"), st.integers(-2, 12 * 24)),  # whole ones: midnights are among them
    st.tuples(st.just("same"), st.integers(0, 50)),  # as another trade
    st.tuples(st.just("edge"), st.integers(0, 150)),  # of a range in the ledger, or a millisecond beside it
)
# Price and size in 1e-5, so that what they come to has to be rounded; the fee in 1e-4.
amounts = st.tuples(st.integers(1, 10**7), st.integers(1_000, 10**6), st.integers(-99, 99))


class Life(RuleBasedStateMachine):
    """One account from its adding on."""

    place: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(nothing_stays())
        clock = self.stack.enter_context(time_machine.travel(NOW, tick=False))
        self.move = clock.shift
        self.skew = timedelta()
        self.trades: list[Trade] = []
        self.busts: list[Bust] = []
        self.numbers = count(1)
        self.is_reading = self.is_same = False

    @initialize(options=st.integers(0, 15), since=st.integers(-90, 90))
    def add(self, options: int, since: int) -> None:
        app = apps.get_app_config("exchanges")
        self.stack.callback(partial(vars(app).update, sandbox=None, sleep=app.__class__.sleep))
        app.sandbox, app.sleep = Sandbox(self.now, metered=False), self.move
        self.at = self.place(lambda: self.now() + self.skew, options)
        self.venue: SandboxVenue = self.at.venue
        app.sandbox.venues[self.at.slug] = self.venue
        budget.cache_clear()
        self.pk = factories.credential(
            self.at.slug, secrets=self.at.secrets, history_from=NOW - HISTORY + timedelta(seconds=since)
        ).pk

    def teardown(self) -> None:
        try:
            if hasattr(self, "pk"):
                self.heal_and_end()
        finally:
            self.stack.close()

    # --- What we see --------------------------------------------------------------------------------------------------

    @staticmethod
    def now() -> datetime:
        return datetime.now(UTC)

    @property
    def credential(self) -> ExchangeCredential:
        return ExchangeCredential.objects.get(pk=self.pk)

    def ledger(self) -> dict[str, list[Window]]:
        """What is covered, by stream."""
        found: dict[str, list[Window]] = defaultdict(list)
        for row in Coverage.objects.filter(state=State.COVERED).order_by("from_at"):
            found[row.stream].append(Window(row.from_at, row.until_at))
        return found

    def rereads(self) -> dict[str, list[Window]]:
        found: dict[str, list[Window]] = defaultdict(list)
        for row in self.credential.rereads.all():
            found[row.stream].append(Window(row.from_at, row.until_at))
        return found

    def when(self, moment: tuple[str, int]) -> datetime:
        kind, number = moment
        at = self.now() - timedelta(seconds=number)
        if kind == "hours":
            at = self.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=number)
        elif kind == "same" and self.trades:
            at = self.trades[number % len(self.trades)].at
        elif kind == "edge":
            rows = Coverage.objects.order_by("stream", "from_at").values_list("from_at", "until_at")
            if edges := [edge for row in rows for edge in row]:
                at = edges[number // 3 % len(edges)] + (number % 3 - 1) * MS
        at = min(at, self.now() + self.skew)
        return at.replace(microsecond=at.microsecond // 1000 * 1000)

    # --- What happens at the venue ------------------------------------------------------------------------------------

    def trade(self, at: datetime, sort: str, amount: tuple[int, int, int], choice: int, twin: int = 0) -> Trade:
        price, qty, fee = Decimal(amount[0]).scaleb(-5), Decimal(amount[1]).scaleb(-5), Decimal(amount[2]).scaleb(-4)
        symbol = self.at.symbols[choice % len(self.at.symbols)]
        kinds = self.at.skipped if sort == "skipped" else self.at.kinds[sort]
        trade = Trade("", at, id=f"{next(self.numbers)}", sort=sort)
        kind = kinds[choice % len(kinds)]
        if twin and self.trades and self.at.has_twins:
            other = self.trades[twin % len(self.trades)]
            if f"{kind}:{other.id}" not in {one.fill_id for one in self.trades}:
                trade.id = other.id  # it is unique within its type only
        facts = {
            "executed_at": at, "symbol": symbol, "price": price, "qty": qty, "fee": fee,
            "side": ("buy", "sell")[choice // 2 % 2], "liquidity": ("maker", "taker")[choice // 4 % 2],
        }  # fmt: skip
        facts["notional"] = self.worth(facts)
        trade.row = self.at.spell(trade, facts, kind)
        trade.facts.append(facts)
        return trade

    # No rule has a precondition: with several requests in flight no two lives are quite the same, and what is drawn
    # must not depend on that.
    def one_of(self, *sorts: str, number: int | None) -> Trade | None:
        known = [trade for trade in self.trades if trade.sort in sorts]
        return known[number % len(known)] if known and number is not None else None

    def worth(self, facts: dict[str, Any]) -> Decimal:
        """To 8 decimals, half to even."""
        with localcontext() as context:
            context.prec = 60
            worth: Decimal = facts["price"] * facts["qty"]
            return worth.quantize(Decimal("1e-8"), ROUND_HALF_EVEN)

    def comes(self, item: Item) -> None:
        """At the venue from now on."""
        self.is_same = True
        item.is_in_the_middle = self.is_reading  # perhaps in a thread, which must not ask the database
        item.is_late = self.is_reading or is_within(self.ledger()[item.stream], item.at)
        if isinstance(item, Trade):
            self.trades.append(item)
            self.at.put(item)
        elif isinstance(item, Bust):
            self.busts.append(item)
            self.at.bust(item)

    @rule(
        moment=moments, sort=st.sampled_from(["plain"] * 5 + ["forced", "unknown", "skipped"]), amount=amounts,
        choice=st.integers(0, 23), more=st.sampled_from([0, 0, 1, 3, 6]), apart=st.sampled_from([0, 0, 1, 60_000]),
        twin=st.integers(0, 9),
    )  # fmt: skip
    def fills_come(self, moment: Any, sort: str, amount: Any, choice: int, more: int, apart: int, twin: int) -> None:
        at = self.when(moment)
        for number in range(more + 1):
            self.comes(self.trade(at - number * apart * MS, sort, amount, choice + number, twin))

    @rule(number=st.integers(0, 50), moment=moments)
    def a_fill_is_taken_back(self, number: int, moment: Any) -> None:
        if trade := self.one_of("plain", number=number if self.at.may_bust else None):
            self.comes(Bust("trade busts", max(self.when(moment), trade.at), id=trade.id))

    @rule(number=st.integers(0, 50), amount=amounts)
    def a_fill_is_changed(self, number: int, amount: Any) -> None:
        if not (trade := self.one_of("plain", "forced", number=number)):
            return
        facts = trade.facts[-1] | {"price": Decimal(amount[0]).scaleb(-5), "fee": Decimal(amount[2]).scaleb(-4)}
        self.is_same = True
        self.change(trade, facts | {"notional": self.worth(facts)})

    @rule()
    def a_market_is_renamed(self) -> None:
        self.is_same = True
        old = self.trades[0].facts[-1]["symbol"] if self.trades else ""
        for trade in self.trades:
            if trade.facts[-1]["symbol"] == old:
                self.change(trade, trade.facts[-1] | {"symbol": f"X{old}"})

    def change(self, trade: Trade, facts: dict[str, Any]) -> None:
        if trade.sort == "unknown":
            return  # it would be another row to hold
        trade.is_outdated |= is_within(self.ledger()[trade.stream], trade.at)
        kind = trade.row.get("fill_type") or trade.row["execType"]
        trade.facts.append(facts)
        trade.row.update(self.at.spell(trade, facts, kind))

    @rule(
        kind=st.sampled_from(["html", "truncate", "hang_up", "time_out", "maintain", "fail", "slow", "slow for"]),
        after=st.integers(0, 12), times=st.integers(1, 7),
    )  # fmt: skip
    def bad_weather(self, kind: str, after: int, times: int) -> None:
        self.is_same = True
        if after:
            self.venue.after(after, lambda: None)
        if kind == "fail":
            self.venue.fail(500, times=times)
        elif kind.startswith("slow"):
            self.venue.rate_limit(times, retry_after=3.0 * times if kind == "slow for" else None)
        else:
            getattr(self.venue, kind)(times)

    @rule(seconds=st.sampled_from([0.0004, 1, 20, 59.999, 61, 240, 301, 600, 3_700, 30_000, 86_400, 90_000, 400_000]))
    def time_passes(self, seconds: float) -> None:
        self.move(timedelta(seconds=seconds))

    @rule(seconds=st.sampled_from([-75, -2, 0, 0.5, 30, 75]))
    def a_clock_drifts(self, seconds: float) -> None:
        """The venue's is ahead of ours by so much."""
        self.skew, self.is_same = timedelta(seconds=seconds), True
        for item in [*self.trades, *self.busts]:
            item.is_late |= item.at > self.now() + self.skew  # still to come, now that it goes back

    # --- What the owner does ------------------------------------------------------------------------------------------

    @rule(first=st.integers(0, 300), hours=st.integers(1, 200))
    def a_range_is_wanted_again(self, first: int, hours: int) -> None:
        until = self.now() - timedelta(hours=first)
        sync.ask_again(self.credential, Window(until - timedelta(hours=hours), until), now=self.now())

    @rule()
    def the_backfill_is_stopped(self) -> None:
        holding.stop_backfill(self.credential)

    @rule()
    def the_backfill_goes_on(self) -> None:
        holding.ask_for_reading(self.credential, now=self.now(), backfill=True)

    @rule()
    def it_is_paused(self) -> None:
        holding.pause(self.credential)

    @rule()
    def it_is_resumed(self) -> None:
        holding.resume(self.credential, now=self.now())

    @rule(days=st.integers(1, 9))
    def more_history_is_wanted(self, days: int) -> None:
        credential = self.credential
        if self.now() - credential.history_from < timedelta(days=25):
            holding.want_from(credential, credential.history_from - timedelta(days=days))

    @rule(is_on=st.booleans())
    def forced_ones_are_switched(self, is_on: bool) -> None:
        Preferences.objects.update_or_create(owner_id=self.credential.owner_id, defaults={"counts_forced": is_on})

    @rule()
    def all_days_are_rebuilt(self) -> None:
        rebuild_all(self.credential)

    @rule(number=st.integers(0, 50))
    def an_older_perpdash_had_not_understood_a_row(self, number: int) -> None:
        trade = self.one_of("plain", "forced", number=number)
        fill = trade and Fill.objects.filter(fill_id=trade.fill_id).first()
        if not trade or not fill or trade.is_held:
            return
        with transaction.atomic():
            fill.delete()
            rebuild_all(self.credential)
            raw = json.dumps(trade.row)
            HeldRow.objects.create(
                credential_id=self.pk, stream=trade.stream, digest=uuid.uuid4().hex, raw=raw, why="unknown kind",
                executed_at=trade.at, seen_at=self.now(),
            )  # fmt: skip
        trade.is_held = True
        trade.is_late |= is_within(self.ledger()[trade.stream], trade.at)

    @rule()
    def held_rows_are_parsed_again(self) -> None:
        with self.amendments_tell_all():
            reparse(self.credential, now=self.now())
        for trade in self.trades:
            if trade.is_held:
                trade.is_held = trade.is_late = False

    # --- What reads ---------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([None, None, 0]))
    def a_poll(self, seconds: float | None) -> None:
        self.read(seconds=seconds)

    @rule(
        first=st.integers(0, 300), hours=st.integers(1, 200), again=st.booleans(), gaps_too=st.booleans(),
        is_to_now=st.booleans(), seconds=st.sampled_from([None, 0]),
    )  # fmt: skip
    def a_window_is_read(
        self, first: int, hours: int, again: bool, gaps_too: bool, is_to_now: bool, seconds: float | None
    ) -> None:
        until = self.now() - timedelta(hours=first)
        since = max(until - timedelta(hours=hours), self.now() - timedelta(days=25))
        self.read(
            trigger=SyncRun.Trigger.COMMAND, since=since, until=None if is_to_now else until, again=again,
            gaps_too=gaps_too, seconds=seconds,
        )  # fmt: skip

    @rule(again=st.booleans(), statements=st.integers(1, 150))
    def the_worker_is_killed(self, again: bool, statements: int) -> None:
        self.read(again=again, dies_after=statements)
        self.move(timedelta(seconds=100))

    @rule(again=st.booleans(), requests=st.integers(1, 10), moment=moments, amount=amounts, choice=st.integers(0, 23))
    def a_fill_comes_in_the_middle(self, again: bool, requests: int, moment: Any, amount: Any, choice: int) -> None:
        trade = self.trade(self.when(moment), "plain", amount, choice)
        done = []

        def come() -> None:
            done.append(True)
            self.comes(trade)

        self.venue.after(requests, come)
        self.read(again=again)
        if not done:
            self.venue.heal()

    @rule(
        deed=st.sampled_from(["ctrl-c", "stop", "pause", "second", "thief"]),
        page=st.integers(1, 9),
        again=st.booleans(),
    )
    def in_the_middle(self, deed: str, page: int, again: bool) -> None:
        left = [page]

        def on_page(*_: Any) -> None:
            left[0] -= 1
            if left[0]:
                return
            if deed == "ctrl-c":
                raise KeyboardInterrupt
            if deed == "stop":
                holding.stop_backfill(self.credential)
            if deed == "pause":
                holding.pause(self.credential)
            if deed == "second":
                with pytest.raises(NotOurs):
                    refresh(self.credential, now=self.now())
            if deed == "thief":
                self.credential.release()
                ExchangeCredential.objects.update(lease=None, leased_until=None)
                assert self.credential.claim(now=self.now())

        with suppress(KeyboardInterrupt):
            self.read(again=again, on_page=on_page)
        if deed == "thief":
            ExchangeCredential.objects.update(lease=None, leased_until=None)

    @rule()
    def what_is_missing_is_read_in_good_weather(self) -> None:
        self.venue.heal()
        self.the_backfill_goes_on()
        self.it_is_resumed()
        self.move(timedelta(days=1))  # no pause a venue asked for is longer
        credential = self.credential
        run = self.read(gaps_too=True)
        assert run is not None
        held = HeldRow.objects.filter(executed_at__gte=run.since, executed_at__lt=run.until).exists()
        assert run.outcome == (Outcome.INCOMPLETE if held else Outcome.COMPLETE), run.message
        covered = self.ledger()
        wanted = Window(credential.history_from, run.until)
        assert not [stream for stream in self.at.streams if subtract(wanted, covered[stream])]
        again = self.rereads()
        overlapping = [
            Window(max(one.since, wanted.since), one.until) for name in self.at.streams for one in again[name]
        ]
        assert not any(one and one.since < wanted.until for one in overlapping)

    def read(
        self, *, dies_after: int = 0, on_page: Callable[..., None] = lambda run, page: None, **wanted: Any
    ) -> SyncRun | None:
        """Has the engine read, and then lets the model know what it must have seen."""
        credential, now = self.credential, self.now()
        ends = {
            stream: max((row.until_at for row in credential.coverage.filter(stream=stream)), default=None)
            for stream in self.at.streams
        }
        again, verified_at, run = self.rereads(), credential.verified_at, None
        was_enabled, stored = credential.is_enabled, set(Fill.objects.values_list("fill_id", flat=True))
        others = set(threading.enumerate())
        self.is_reading = True
        try:
            with self.amendments_tell_all(), dying(dies_after):
                run = refresh(credential, now=now, wanted=Wanted(patience=70, **wanted), on_page=on_page)
        finally:
            for thread in [one for one in threading.enumerate() if one not in others and "fetch" in one.name]:
                thread.join(20)
            self.is_reading = self.is_same = False
            ended_well = run is not None and run.outcome in (Outcome.COMPLETE, Outcome.INCOMPLETE)
            examined = self.credential.verified_at != verified_at
            # What was wanted once more, and no longer is, was looked at.
            for stream in self.at.streams:
                if examined and verified_at:
                    again[stream].append(Window(max(now - LOOK_BACK, credential.history_from), now))
                if wanted.get("again") and ended_well:
                    again[stream].append(Window(run.since, run.until))
            left = self.rereads()
            is_plain = not {name for name in wanted if wanted[name] is not None} - {"gaps_too", "again"}
            for item in [*self.trades, *self.busts]:
                end = ends.get(item.stream)
                is_polled = (
                    is_plain
                    and ended_well
                    and end is not None
                    and end < now
                    and max(end, credential.created_at) - OVERLAP <= item.at < now
                )
                was_again = is_within(again[item.stream], item.at) and not is_within(left[item.stream], item.at)
                is_listed = item.at <= now + self.skew and not item.is_in_the_middle
                if is_listed and (is_polled or was_again):
                    item.is_late = False
                    if isinstance(item, Trade):
                        item.is_outdated = False
                item.is_in_the_middle = False
        if run is not None and not was_enabled:
            assert run.outcome == Outcome.STOPPED
            assert set(Fill.objects.values_list("fill_id", flat=True)) == stored
        return run

    @contextmanager
    def amendments_tell_all(self) -> Iterator[None]:
        """By how much a day that was wholly read changes is written down to the last cent."""
        covered = self.ledger()
        before, told = cells(), Amendment.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        try:
            yield
        finally:
            changes: dict[tuple[date, str], list[Any]] = defaultdict(lambda: [0, Decimal(0)])
            for row in Amendment.objects.filter(pk__gt=told):
                changes[row.day, row.symbol][0] += row.fills
                changes[row.day, row.symbol][1] += row.notional_usd
            after = cells()
            for day, symbol in before.keys() | after.keys() | changes.keys():
                start = datetime(day.year, day.month, day.day, tzinfo=UTC)
                whole = Window(start, start + DAY + MINUTE)
                streams = {
                    trade.stream for trade in self.trades if trade.facts[-1]["symbol"].lstrip("X") == symbol.lstrip("X")
                } | {stream for stream in self.at.streams if stream == "trade busts"}
                if streams and all(not subtract(whole, covered[stream]) for stream in streams):
                    grown = [of(after, (day, symbol)), of(before, (day, symbol))]
                    difference = [now_ - then for now_, then in zip(*grown, strict=True)]
                    assert changes[day, symbol] == difference, (day, symbol)

    # --- What must be true after every step ---------------------------------------------------------------------------

    @invariant()
    def all_agrees(self) -> None:
        if hasattr(self, "pk"):
            self.the_ledger_is_sound()
            self.what_was_read_is_stored_and_nothing_else()
            if not self.is_same:  # with no time gone by and nothing done on our side, the rest is as it was
                self.days_are_the_sums_of_their_fills()
                self.summaries_are_the_sums_of_the_fills()
                self.what_is_called_complete_is()
            self.is_same = False

    def the_ledger_is_sound(self) -> None:
        by_stream: dict[str, list[Coverage]] = defaultdict(list)
        for row in Coverage.objects.order_by("stream", "from_at"):
            by_stream[row.stream].append(row)
            assert row.state != State.COVERED or row.until_at <= self.now()
        for rows in by_stream.values():
            for one, other in pairwise(rows):
                assert one.until_at <= other.from_at, "ranges overlap"
                assert not (one.until_at == other.from_at and one.state == other.state == State.COVERED), "not merged"

    def what_was_read_is_stored_and_nothing_else(self) -> None:
        stored = {fill.fill_id: fill for fill in Fill.objects.all()}
        assert len(stored) == Fill.objects.count()
        held = {name_of(json.loads(raw)) for raw in HeldRow.objects.values_list("raw", flat=True)}
        assert len(held) == HeldRow.objects.count()
        covered, known = self.ledger(), {trade.fill_id: trade for trade in self.trades}
        taken_back = {bust.id for bust in self.busts}
        surely = {bust.id for bust in self.busts if is_within(covered[bust.stream], bust.at) and not bust.is_late}
        for fill_id, fill in stored.items():
            trade = known[fill_id]
            assert trade.counts
            said = {name: getattr(fill, name) for name in trade.facts[0]}
            assert said in trade.facts, (said, trade.facts)
            assert fill.is_forced == (trade.sort == "forced")
            assert fill.day == trade.at.date()
        for trade in self.trades:
            is_due = is_within(covered[trade.stream], trade.at) and not trade.is_late
            may_go = trade.sort == "plain" and self.at.may_bust
            if trade.counts and is_due and not (may_go and trade.id in taken_back):
                assert trade.fill_id in stored, f"{trade.at} was read and is not here"
                if not trade.is_outdated:
                    fill = stored[trade.fill_id]
                    assert {name: getattr(fill, name) for name in trade.facts[-1]} == trade.facts[-1]
            if may_go and trade.id in surely:
                assert trade.fill_id not in stored, f"{trade.at} was taken back and is here"
            if trade.sort == "unknown" and is_due:
                assert name_of(trade.row) in held
        may_be = {name_of(trade.row) for trade in self.trades if trade.is_held or trade.sort == "unknown"}
        assert {name_of(trade.row) for trade in self.trades if trade.is_held} <= held <= may_be

    def days_are_the_sums_of_their_fills(self) -> None:
        sums: dict[tuple[date, str], dict[str, Any]] = defaultdict(lambda: dict.fromkeys(CELL, 0))
        for fill in Fill.objects.all():
            cell, usd = sums[fill.executed_at.date(), fill.symbol], fill.notional
            is_maker, is_buy = fill.liquidity == "maker", fill.side == "buy"
            if fill.is_forced:
                parts = {
                    "forced_fills": 1,
                    "forced_qty": fill.qty,
                    "forced_usd": usd,
                    "forced_maker_usd": usd * is_maker,
                    "forced_buy_usd": usd * is_buy,
                }
            else:
                parts = {
                    "fills": 1,
                    "base_qty": fill.qty,
                    "notional_usd": usd,
                    "maker_usd": usd * is_maker,
                    "taker_usd": usd * (not is_maker),
                    "buy_usd": usd * is_buy,
                    "sell_usd": usd * (not is_buy),
                }
            for name, part in parts.items():
                cell[name] += part
        stored = {
            (row.day, row.symbol): {name: getattr(row, name) for name in CELL} for row in DailyVolume.objects.all()
        }
        assert stored == sums
        assert not differences(self.credential)

    def summaries_are_the_sums_of_the_fills(self) -> None:
        credential, now = self.credential, self.now()
        with_forced = Preferences.of(credential.owner_id).counts_forced
        said = glance.summary(credential.owner_id, now=now)
        today = datetime(now.year, now.month, now.day, tzinfo=UTC)
        first = credential.history_from.replace(hour=0, minute=0, second=0, microsecond=0)
        since = {"24h": now - DAY, "today": today, "month": today.replace(day=1), "all": first} | {
            f"{days}d": today - (days - 1) * DAY for days in (7, 14, 30, 90)
        }
        fills = list(Fill.objects.all())
        for span, total in said["totals"].items():
            until = now if span == "24h" else now + DAY  # days are whole; a fill may be of this very moment
            inside = [fill for fill in fills if since[span] <= fill.executed_at < until]
            counted = [fill for fill in inside if with_forced or not fill.is_forced]
            assert Decimal(total["notional_usd"]) == sum(fill.notional for fill in counted)
            assert Decimal(total["forced_usd"]) == sum(fill.notional for fill in inside if fill.is_forced)
            assert total["fills"] == len(counted)
            assert [venue["totals"][span] for venue in said["venues"]] == [total]
        by_day = queries.volume(queries.Filter(owner_id=credential.owner_id), by=("day",), now=now)
        days: dict[date, list[Any]] = defaultdict(lambda: [0, Decimal(0)])
        for fill in fills:
            counts = with_forced or not fill.is_forced
            days[fill.day][0] += counts
            days[fill.day][1] += fill.notional * counts
        assert {row["day"]: [row["fills"], row["notional_usd"]] for row in by_day} == days

    def what_is_called_complete_is(self) -> None:
        credential, now = self.credential, self.now()
        completeness, covered = Completeness([credential], now=now), self.ledger()
        edges = sorted({edge for windows in covered.values() for one in windows for edge in (one.since, one.until)})
        fresh = credential.fresh_at
        marks = sorted({credential.history_from - MS, credential.history_from, now - DAY, now, *edges[:3], *edges[-3:]})
        held = [row.executed_at for row in HeldRow.objects.all()]
        taken_back = {bust.id for bust in self.busts}
        stored = set(Fill.objects.values_list("fill_id", flat=True))

        # Of an account that nobody reads everything after its last reading is lacking at once.
        is_left_alone = not credential.is_enabled or credential.health_state in STOPPED
        limit = timedelta() if is_left_alone else STALE_AFTER

        def is_read(window: Window, stream: str) -> bool:
            # What is newer than the last reading, if that was just now, is no lack.
            is_fresh = fresh is not None and now - fresh <= limit
            asked = Window(window.since, min(window.until, fresh)) if fresh and is_fresh else window
            return not (asked and subtract(asked, covered[stream]))

        for window in (Window(since, until) for since in marks for until in marks if since < until):
            is_complete = (
                window.since >= credential.history_from
                and all(is_read(window, stream.name) for stream in credential.streams)
                and not any(at is None or window.since <= at < window.until for at in held)
                and not (fresh and now - fresh > limit and window.until > fresh)
            )
            verdict = completeness.of(window)
            assert verdict.complete == is_complete == (not verdict.why), (window, verdict)
            for trade in self.trades if verdict.complete else ():
                if (
                    trade.counts
                    and window.since <= trade.at < window.until
                    and is_within(covered[trade.stream], trade.at)
                    and not (trade.is_late or trade.id in taken_back)
                ):
                    assert trade.fill_id in stored

    # --- The end ------------------------------------------------------------------------------------------------------

    def heal_and_end(self) -> None:
        """All is well again: everything is read, then once more, and then there is nothing left to find."""
        self.venue.heal()
        self.skew = timedelta()
        ExchangeCredential.objects.update(lease=None, leased_until=None)
        oldest = min((trade.at for trade in self.trades), default=self.now())
        holding.want_from(self.credential, oldest - MS)
        self.what_is_missing_is_read_in_good_weather()
        for _ in range(2):  # the first may learn that a market was renamed, and look for the rest
            self.move(timedelta(seconds=1))
            self.read(again=True, gaps_too=True)
        self.held_rows_are_parsed_again()
        taken_back = {bust.id for bust in self.busts}
        truth = {
            trade.fill_id: trade.facts[-1]
            for trade in self.trades
            if trade.counts and not (self.at.may_bust and trade.sort == "plain" and trade.id in taken_back)
        }

        def stored() -> dict[str, Any]:
            return {fill.fill_id: {name: getattr(fill, name) for name in FACTS} for fill in Fill.objects.all()}

        assert stored() == truth
        self.move(timedelta(seconds=1))
        run = self.read(again=True)
        assert run is not None
        assert (run.new, run.retracted, run.amended, run.held) == (0, 0, 0, 0)
        assert stored() == truth
        self.all_agrees()


FACTS = ("executed_at", "symbol", "price", "qty", "fee", "side", "liquidity", "notional")


def name_of(row: dict[str, Any]) -> tuple[str, str]:
    """Unique at either venue."""
    return (row["id"], row["fill_type"]) if "id" in row else (row["execId"], row["execType"])


def is_within(windows: list[Window], at: datetime) -> bool:
    return any(window.since <= at < window.until for window in windows)


def cells() -> dict[tuple[date, str], list[Any]]:
    """Fills and dollars of every day and market, forced ones included."""
    return {
        (row.day, row.symbol): [row.fills + row.forced_fills, row.notional_usd + row.forced_usd]
        for row in DailyVolume.objects.all()
    }


def of(found: dict[tuple[date, str], list[Any]], key: tuple[date, str]) -> list[Any]:
    return found.get(key, [0, Decimal(0)])


@contextmanager
def nothing_stays() -> Iterator[None]:
    """Each life begins in an empty database."""
    try:
        yield
    finally:
        get_user_model().objects.all().delete()


@contextmanager
def dying(after: int) -> Iterator[None]:
    """The process ends before its nth statement: nothing it would have said after that reaches the database."""
    left = after

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal left
        left -= 1
        if left <= 0 and "ROLLBACK" not in sql:  # what was not committed is undone by the database itself
            raise Killed
        return execute(sql, params, many, context)

    if not after:
        yield
        return
    with suppress(Killed), connection.execute_wrapper(wrapper):
        yield


class ParadexLife(Life):
    place = AtParadex


class BybitLife(Life):
    place = AtBybit


@pytest.mark.parametrize("life", [ParadexLife, BybitLife])
def test_whatever_happens_totals_ledger_and_summary_agree_with_the_model(life: type[Life]) -> None:
    run_state_machine_as_test(life, settings=LIVES)


# --- What such lives have found, kept ---------------------------------------------------------------------------------


@pytest.fixture
def life() -> Iterator[ParadexLife]:
    life = ParadexLife()
    life.add(options=8, since=0)
    yield life
    life.teardown()


def test_a_row_held_by_an_older_perpdash_does_not_undo_what_the_venue_said_later(life: ParadexLife) -> None:
    life.fills_come(moment=("ago", 3600), sort="plain", amount=(100, 1_000, 0), choice=0, more=0, apart=0, twin=0)
    life.a_poll(seconds=None)
    life.an_older_perpdash_had_not_understood_a_row(number=0)
    life.a_fill_is_changed(number=0, amount=(200, 1_000, 0))
    life.time_passes(seconds=1)
    life.read(again=True)
    life.held_rows_are_parsed_again()
    life.all_agrees()


def test_an_account_whose_first_reading_was_broken_off_is_not_complete_a_day_later(life: ParadexLife) -> None:
    life.in_the_middle(deed="ctrl-c", page=2, again=False)
    life.time_passes(seconds=86_400)
    life.all_agrees()
