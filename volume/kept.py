"""Sums over what does not change, kept in this process for whoever asks next: an open page asks for the same with every
fill, and only the days since are other ones.

A sum is found only by the question, the versions of what was added up and the days that changed since. So it is never
older than the database, and where nothing is kept all is the same, only later.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

from volume.periods import Books

Sums = dict[tuple[Any, ...], list[Any]]
MOST_CELLS = 300_000  # of all that is kept together, some 30 MB; what was asked for longest ago goes first
LARGEST = MOST_CELLS // 5  # two years of ten markets by day are within it; larger ones would drive all others out


class _Kept:
    def __init__(self) -> None:
        self._sums: OrderedDict[Hashable, Sums] = OrderedDict()
        self._lock = Lock()
        self.cells = 0

    def __len__(self) -> int:
        return len(self._sums)

    def find(self, name: Hashable) -> Sums | None:
        with self._lock:
            if name in self._sums:
                self._sums.move_to_end(name)
            return self._sums.get(name)

    def put(self, name: Hashable, sums: Sums) -> None:
        with self._lock:
            self.cells += cells_of(sums) - cells_of(self._sums.pop(name, {}))
            self._sums[name] = sums
            while self.cells > MOST_CELLS:
                self.cells -= cells_of(self._sums.popitem(last=False)[1])

    def clear(self) -> None:
        with self._lock:
            self._sums.clear()
            self.cells = 0


_kept = _Kept()
forget = _kept.clear


def kept(books: Books, asked: Hashable, compute: Callable[[], Sums]) -> Sums:
    """What `compute` makes of rows that are added up. Nobody may change what is returned."""
    if not books.added_up:
        return compute()
    name = (asked, books.state)
    sums = _kept.find(name)
    if sums is None:
        sums = compute()
        # Else it may hold a day that changed meanwhile. What is empty was soon found, and weighs nothing.
        if 0 < cells_of(sums) <= LARGEST and books.is_current:
            _kept.put(name, sums)
    return sums


def cells_of(sums: Sums) -> int:
    """Keys and figures: what sums weigh. All rows are alike."""
    at, figures = next(iter(sums.items()), ((), ()))
    return len(sums) * (len(at) + len(figures) + 1)
