"""One list of rows of an account at a sandbox venue: drawn from a trader day by day, and those put in by hand."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from exchanges.sandbox.base import EPOCH
from exchanges.sandbox.trader import DAY_MS, Execution, Trader

Row = dict[str, Any]  # as the venue's API gives it
EPOCH_ORDINAL = EPOCH.toordinal()
ZERO = Decimal(0)


class Truth(NamedTuple):
    """What a UTC day in a perpetual market comes to; liquidations and auto-deleveraging stand apart."""

    fills: int = 0
    notional: Decimal = ZERO  # USD
    forced_fills: int = 0
    forced_notional: Decimal = ZERO

    def plus(self, notional: Decimal, *, is_forced: bool) -> "Truth":
        if is_forced:
            return self._replace(forced_fills=self.forced_fills + 1, forced_notional=self.forced_notional + notional)
        return self._replace(fills=self.fills + 1, notional=self.notional + notional)


Truths = dict[tuple[date, str], Truth]  # by UTC day and symbol


class History:
    """Rows by time. `spell` makes the row of an execution, or None where the list has none for it.

    `extra` gives rows of a day (`date.toordinal()`) that are no executions: funding, settlements. About `kept` rows
    are held in memory; the others are made again when asked for, and must then be the same.
    """

    def __init__(
        self,
        time_of: Callable[[Row], int],
        *,
        trader: Trader | None = None,
        opened_at: datetime = EPOCH,
        spell: Callable[[Execution], Row | None] = lambda execution: {},
        extra: Callable[[int], Iterable[Row]] = lambda ordinal: (),
        kept: int = 5_000,
    ) -> None:
        self.time_of = time_of
        self._trader = trader
        self._opened = opened_at.toordinal()
        self._spell = spell
        self._extra = extra
        self._kept = kept
        self._held = 0
        self._days: OrderedDict[int, list[Row]] = OrderedDict()
        self._counts: dict[int, int] = {}
        self._put: dict[int, list[Row]] = {}

    def put(self, *rows: Row) -> None:
        """Adds rows by hand, anywhere in time."""
        for row in rows:
            ordinal = EPOCH_ORDINAL + self.time_of(row) // DAY_MS
            self._put.setdefault(ordinal, []).append(row)
            self._held -= len(self._days.pop(ordinal, ()))
            self._counts.pop(ordinal, None)

    def day(self, ordinal: int) -> list[Row]:
        """All rows of a UTC day, oldest first; those still to come are among them."""
        if ordinal in self._days:
            self._days.move_to_end(ordinal)
            return self._days[ordinal]
        rows = list(self._put.get(ordinal, ()))
        if self._trader and ordinal >= self._opened:
            spelled = (self._spell(execution) for execution in self._trader.day(ordinal))
            rows += [row for row in spelled if row is not None]
            rows += self._extra(ordinal)
        rows.sort(key=self.time_of)
        self._days[ordinal] = rows
        self._counts[ordinal] = len(rows)
        self._held += len(rows)
        while self._held > self._kept and len(self._days) > 1:
            self._held -= len(self._days.popitem(last=False)[1])
        return rows

    def between(self, first_ms: int, last_ms: int, *, newest_first: bool = False) -> Iterator[Row]:
        """The rows whose time is in [first_ms, last_ms]."""
        days = self._ordinals(first_ms, last_ms)
        for ordinal in reversed(days) if newest_first else days:
            rows = [row for row in self.day(ordinal) if first_ms <= self.time_of(row) <= last_ms]
            yield from reversed(rows) if newest_first else rows

    def count(self, first_ms: int, last_ms: int) -> int:
        """How many rows `between` would give."""
        total = 0
        for ordinal in self._ordinals(first_ms, last_ms):
            midnight = (ordinal - EPOCH_ORDINAL) * DAY_MS
            if first_ms <= midnight and midnight + DAY_MS - 1 <= last_ms:
                if ordinal not in self._counts:
                    self.day(ordinal)
                total += self._counts[ordinal]
            else:
                total += sum(1 for row in self.day(ordinal) if first_ms <= self.time_of(row) <= last_ms)
        return total

    def _ordinals(self, first_ms: int, last_ms: int) -> list[int]:
        """The days on which there may be rows, oldest first."""
        first, last = EPOCH_ORDINAL + first_ms // DAY_MS, EPOCH_ORDINAL + last_ms // DAY_MS
        days = {day for day in self._put if first <= day <= last}
        if self._trader:
            days |= set(range(max(first, self._opened), last + 1))
        return sorted(days)
