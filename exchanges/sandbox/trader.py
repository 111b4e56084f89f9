"""The deterministic trader behind all sandbox venues: what it did is a pure function of (seed, time).

A UTC day is drawn from the seed and its date alone. It consists of sessions, one after the other: a position is opened
in one market and closed again, so every day begins and ends flat, and the position before a fill needs no earlier day.
Prices depend on asset and time only: all traders at all venues see the same market.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import accumulate
from math import exp, log, pi, sin
from operator import attrgetter
from random import Random
from typing import Literal, NamedTuple
from zlib import crc32

Side = Literal["buy", "sell"]
Kind = Literal["trade", "twap", "liquidation", "adl"]
Style = Literal["trade", "sweep", "twap", "liquidation", "adl"]
Legs = list[tuple[Style, int]]  # how to trade, and in how many fills

FORCED = ("liquidation", "adl")
DAY_MS = 86_400_000
SWEEP = 60  # fills of one order within one millisecond

PRICE_RANGES = {
    "BTC": (60_000, 120_000),
    "ETH": (2_000, 4_000),
    "SOL": (120, 250),
    "HYPE": (15, 50),
    "XRP": (1.4, 3.4),
    "DOGE": (0.11, 0.42),
    "kPEPE": (0.006, 0.02),
    "PURR": (0.08, 0.25),
    "XYZ100": (19_000, 26_000),
    "NVDA": (110, 210),
    "ODDS": (0.08, 0.92),
}
PERIODS = (700, 260, 97, 36, 13, 5, 1.9, 0.7, 0.26, 0.1, 0.03)  # days
SHARE = 0.4  # a wave's height grows with this power of its period, much as in a random walk


@cache
def _waves(asset: str) -> tuple[float, tuple[tuple[float, float, float], ...]]:
    low, high = PRICE_RANGES[asset]
    phases = Random(asset)
    scale = log(high / low) / 2 / sum(period**SHARE for period in PERIODS)
    waves = ((scale * period**SHARE, 2 * pi / period, phases.random() * 2 * pi) for period in PERIODS)
    return log(low * high) / 2, tuple(waves)


def price_of(asset: str, day: float) -> float:
    """The price of an asset in dollars, within its range; `day` is `date.toordinal()` and the part of the day gone."""
    middle, waves = _waves(asset)
    for height, speed, phase in waves:
        middle += height * sin(speed * day + phase)
    return exp(middle)


@dataclass(frozen=True, slots=True)
class Market:
    """A market as the venue spells and rounds it."""

    symbol: str
    base: str  # its price is looked up by this
    quote: str
    tick: Decimal
    lot: Decimal  # base units
    kind: Literal["perp", "spot", "outcome"] = "perp"  # all but perps are bought before they are sold
    significant: int | None = None  # most digits of a price that is not an integer
    weight: float = 1.0  # how often it is chosen

    def step(self, ticks: int) -> int:
        """The distance between two prices the venue allows near this one, in ticks."""
        if self.significant is None:
            return 1
        digits = len(str(ticks * 102 // 100))  # a little above: a sweep may climb into the next power of ten
        return min(int(10 ** max(0, digits - self.significant)), max(1, int(1 / self.tick)))


class Rates(NamedTuple):
    """Fee rates of a month; below 0 is a rebate."""

    maker: Decimal
    taker: Decimal


TIERS = (
    Rates(Decimal("0.00015"), Decimal("0.00045")),
    Rates(Decimal("0.00012"), Decimal("0.0004")),
    Rates(Decimal("0.00008"), Decimal("0.00035")),
    Rates(Decimal("-0.00001"), Decimal("0.00028")),
)


class Execution(NamedTuple):  # a tuple: made a million times
    """One fill of the trader's order. The numbers differ from trader to trader and grow with time."""

    executed_at: datetime  # UTC, whole milliseconds
    market: Market
    side: Side
    is_maker: bool
    price: Decimal
    qty: Decimal
    start_position: Decimal  # signed, before the fill
    fee: Decimal  # quote units, > 0 paid, < 0 rebate, 0 when forced
    realized_pnl: Decimal  # without fees
    kind: Kind
    parent: int  # number of the session: what a venue calls the TWAP or algo order
    order: int
    number: int

    @property
    def notional(self) -> Decimal:
        return self.price * self.qty


_executed_at = attrgetter("executed_at")


class Trader:
    """Trades about `fills_per_day` in the mean: busy and quiet days, slow weekends, in bursts.

    `notional` is the middle size of a position in dollars. The shares say what part of the fills are slices of a TWAP
    order and fills of sweeps. About `kept` executions are held in memory; the others are drawn again when asked for.
    """

    def __init__(
        self,
        seed: str,
        fills_per_day: float,
        markets: Sequence[Market],
        *,
        tiers: Sequence[Rates] = TIERS,
        notional: float = 5_000,
        twap_share: float = 0.08,
        sweep_share: float = 0.1,
        kept: int = 25_000,
    ) -> None:
        self.seed = seed
        self.fills_per_day = fills_per_day
        self.markets = tuple(markets)
        self.tiers = tuple(tiers)
        self.notional = notional
        self.twap_share = twap_share
        self.sweep_share = sweep_share
        self.kept = kept
        self.perps = tuple(market for market in self.markets if market.kind == "perp")
        self._held = 0
        self._days: dict[int, tuple[Execution, ...]] = {}

    def executions(self, since: datetime, until: datetime) -> Iterator[Execution]:
        """All executions in [since, until), oldest first."""
        since, until = since.astimezone(UTC), until.astimezone(UTC)
        for ordinal in range(since.toordinal(), (until - timedelta.resolution).toordinal() + 1):
            day = self.day(ordinal)
            first = bisect_left(day, since, key=_executed_at)
            yield from day[first : bisect_left(day, until, lo=first, key=_executed_at)]

    def day(self, ordinal: int) -> tuple[Execution, ...]:
        """All executions of the UTC day with this `date.toordinal()`, oldest first."""
        if ordinal in self._days:
            return self._days[ordinal]
        day = self._days[ordinal] = tuple(_Day(self, ordinal).draw())
        self._held += len(day)
        while self._held > self.kept and len(self._days) > 1:
            self._held -= len(self._days.pop(next(iter(self._days))))
        return day

    def rates(self, ordinal: int) -> Rates:
        """The fee rates on a day."""
        return self.tiers[ordinal // 30 % len(self.tiers)]

    def other_side(self, execution: Execution) -> Execution:
        """The same match as seen by its counterparty, at this trader's rates."""
        is_maker = not execution.is_maker
        rates = self.rates(execution.executed_at.toordinal())
        rate = rates.maker if is_maker else rates.taker
        return execution._replace(
            side="buy" if execution.side == "sell" else "sell",
            is_maker=is_maker,
            start_position=-execution.start_position,
            fee=round(execution.notional * rate, 6),
            realized_pnl=-execution.realized_pnl,
            kind="trade",
            order=execution.order + 2**19,  # one of its own; a day never comes so far
        )


class _Day:
    """The drawing of one day."""

    def __init__(self, trader: Trader, ordinal: int) -> None:
        self.trader = trader
        self.ordinal = ordinal
        self.random = Random(f"{trader.seed}/{ordinal}")
        self.book: list[Execution] = []
        self.first_number = crc32(trader.seed.encode()) % 2**20 << 40 | ordinal << 20
        self.order = self.first_number  # the next free one

    def draw(self) -> list[Execution]:
        sessions = self._sessions()
        starts = [*sorted(self._moment() for _ in sessions), DAY_MS]
        for index, legs in enumerate(sessions):
            room = starts[index + 1] - starts[index]
            length = min(room, int(self.random.lognormvariate(14.4, 1)))  # in the middle half an hour
            self._trade(legs, starts[index], length, self.first_number + index)
        return self.book

    def _moment(self) -> int:
        """A start of a session, in ms: mostly while Europe and America are awake."""
        hour = self.random.random() * 23.8 if self.random.random() < 0.25 else self.random.triangular(7, 23.5, 15)
        return int(hour * 3_600_000)

    def _few(self, most: int) -> int:
        return 1 + int(self.random.random() * most)

    def _sessions(self) -> list[Legs]:
        trader, random, few = self.trader, self.random, self._few
        is_weekend = date.fromordinal(self.ordinal).weekday() >= 5
        fills = trader.fills_per_day * random.lognormvariate(-0.245, 0.7) * (0.4 if is_weekend else 1.24)

        def times(expected: float) -> range:
            return range(int(expected + random.random()))

        sessions: list[Legs] = []
        sessions += [[("sweep", SWEEP), ("trade", few(5))] for _ in times(fills * trader.sweep_share / (SWEEP + 3))]
        sessions += [[("twap", 14 + few(30)), ("trade", few(5))] for _ in times(fills * trader.twap_share / 30)]
        sessions += [[("trade", few(4)), ("liquidation", few(3))] for _ in times(fills * 0.0006)]
        sessions += [[("trade", few(4)), ("adl", few(2))] for _ in times(fills * 0.0004)]
        left = len(times(fills * (1 - trader.twap_share - trader.sweep_share)))
        usual = log(4 + trader.fills_per_day**0.7)
        while left > 0:
            size = max(2, min(left, int(random.lognormvariate(usual, 0.6))))
            left -= size
            opening = max(1, int(size * (0.3 + 0.4 * random.random())))
            if size > 4 and random.random() < 0.15:  # turns from long to short, or back, on the way
                turning = (size - opening) // 2
                sessions.append([("trade", opening), ("trade", turning), ("trade", size - opening - turning)])
            else:
                sessions.append([("trade", opening), ("trade", size - opening)])
        random.shuffle(sessions)
        return sessions

    def _trade(self, legs: Legs, start: int, length: int, parent: int) -> None:
        """Write the fills of one way from flat to flat in one market into the book."""
        trader, random, book, append = self.trader, self.random, self.book, self.book.append
        is_plain = len(legs) == 2 and legs[0][0] == legs[1][0] == "trade"
        markets = trader.markets if is_plain else trader.perps
        market = random.choices(markets, cum_weights=_cumulative(markets))[0]
        tick, lot = float(market.tick), float(market.lot)
        maker_rate, taker_rate = (float(rate) * 1e6 for rate in trader.rates(self.ordinal))
        midnight = datetime.fromordinal(self.ordinal).replace(tzinfo=UTC)

        direction = -1 if market.kind == "perp" and random.random() < 0.5 else 1
        dollars = trader.notional * random.lognormvariate(0, 0.9)
        most = max(fills for _, fills in legs)
        total = max(most, int(dollars / lot / price_of(market.base, self.ordinal + start / DAY_MS)))
        targets = [total, 0] if len(legs) == 2 else [total, -max(most, int(total * random.random())), 0]

        position, entry = 0, 0.0  # lots, ticks
        span = length / len(legs)
        for index, (style, fills) in enumerate(legs):
            change = direction * targets[index] - position
            sign = 1 if change > 0 else -1
            side: Side = "buy" if change > 0 else "sell"
            kind: Kind = "trade" if style == "sweep" else style
            sizes = iter(_split(random, abs(change), fills))
            events = _events(random, style, fills)
            from_ms = start + span * index
            if style == "twap":
                moments = [int(from_ms + span * i / fills) for i in range(fills)]
            else:
                moments = sorted([int(from_ms + span * random.random()) for _ in events])
            for (offset, is_maker, count), ms in zip(events, moments, strict=True):
                price = price_of(market.base, self.ordinal + ms / DAY_MS) * (0.9998 + 0.0004 * random.random())
                if style == "liquidation":
                    price *= 1 + 0.04 * sign  # the market had run against the position
                ticks = max(1, round(price / tick))
                step = market.step(ticks)
                ticks = max(1, ticks // step) * step
                walk = sign * step if style == "sweep" else 0
                rate = 0.0 if style in FORCED else maker_rate if is_maker else taker_rate
                executed_at = midnight + timedelta(milliseconds=ms)
                for _ in range(count):
                    lots = next(sizes)
                    gain = 0.0
                    if position * sign >= 0:
                        entry = (entry * abs(position) + ticks * lots) / (abs(position) + lots)
                    else:
                        gain = (entry - ticks) * sign * min(lots, abs(position)) * tick * lot
                        if lots > abs(position):
                            entry = ticks
                    append(
                        Execution(
                            executed_at,
                            market,
                            side,
                            is_maker,
                            market.tick * ticks,
                            market.lot * lots,
                            market.lot * position,
                            Decimal(round(ticks * lots * tick * lot * rate)).scaleb(-6),
                            Decimal(round(gain * 1e6)).scaleb(-6),
                            kind,
                            parent,
                            self.order + offset,
                            self.first_number + len(book),
                        )
                    )
                    position += sign * lots
                    ticks = max(step, ticks + walk)
            self.order += events[-1][0] + 1


def _events(random: Random, style: Style, fills: int) -> list[tuple[int, bool, int]]:
    """What happens at a moment each: (order, is_maker, fills). A taker's order fills at once, a maker's bit by bit."""
    if style == "twap":
        return [(order, False, 1) for order in range(fills)]
    if style != "trade":
        return [(0, False, fills)]
    events: list[tuple[int, bool, int]] = []
    order = 0
    while fills > 0:
        count = min(fills, 1 + int(random.expovariate(0.5)))
        if random.random() < 0.55:
            events += [(order, True, 1)] * count
        else:
            events.append((order, False, count))
        fills -= count
        order += 1
    return events


def _split(random: Random, total: int, parts: int) -> list[int]:
    """`parts` numbers of at least 1 with this total."""
    weights = [0.2 + random.random() for _ in range(parts)]
    scale = (total - parts) / sum(weights)
    sizes = [1 + int(weight * scale) for weight in weights]
    sizes[0] += total - sum(sizes)
    return sizes


@cache
def _cumulative(markets: tuple[Market, ...]) -> tuple[float, ...]:
    return tuple(accumulate(market.weight for market in markets))
