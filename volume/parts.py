"""What was traded in parts of days: by whole hours where they are added up, and by the fills at their ends."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from django.db.models import Case, Count, IntegerField, Q, QuerySet, Sum, Value, When

from exchanges.fields import UsdSum
from exchanges.models import Fill
from exchanges.venues.base import FORCED, ZERO, Window
from volume.kept import kept
from volume.models import HourVolume
from volume.periods import DAY, Books, start_of

HOUR = timedelta(hours=1)


@dataclass(slots=True)
class Quoted:
    """What fills come to in the quote of their market."""

    fills: int = 0
    notional: Decimal = Decimal(0)
    forced_fills: int = 0
    forced_notional: Decimal = Decimal(0)

    def add(self, fills: int, notional: Decimal, forced_fills: int, forced_notional: Decimal) -> None:
        self.fills += fills
        self.notional += notional
        self.forced_fills += forced_fills
        self.forced_notional += forced_notional


Sums = dict[tuple[int, date, str], Quoted]  # by (account, UTC day, quote)


def quoted(books: Books, windows: Sequence[Window]) -> list[Sums]:
    """What the fills of each window come to. The windows may overlap."""
    sums: list[Sums] = [{} for _ in windows]
    hours, rest = zip(*(_cut(window, books) for window in windows), strict=True) if windows else ((), ())
    pks = [account.pk for account in books.accounts]
    hours_of = HourVolume.objects.filter(credential__in=pks)
    fills = Fill.objects.filter(credential__in=pks)
    whole = frozenset(part for of in hours for part in of)  # whose days have not changed since they were added up
    by_hour = kept(books, ("hours", whole), lambda: _added(hours_of, "hour_at", ("quote",), KEPT, whole))
    by_kind = _added(fills, "executed_at", ("quote", "kind"), COUNTED, {part for of in rest for part in of})
    for found, parts in ((by_hour, hours), (_by_quote(by_kind), rest)):
        within = {
            atom: [
                own
                for own, of in zip(sums, parts, strict=True)
                if any(part.since <= atom.since < part.until for part in of)
            ]
            for atom, _, _ in found
        }
        for (atom, pk, quote), figures in found.items():
            for own in within[atom]:
                own.setdefault((pk, atom.since.date(), quote), Quoted()).add(*figures)
    return sums


KEPT: dict[str, Any] = {
    "count": Sum("fills"), "usual": UsdSum("notional"), "forced": Sum("forced_fills"),
    "unusual": UsdSum("forced_notional"),
}  # fmt: skip
COUNTED: dict[str, Any] = {"count": Count("pk"), "sum": UsdSum("notional")}


def _by_quote(by_kind: Mapping[tuple[Any, ...], Sequence[Any]]) -> dict[tuple[Any, ...], list[Any]]:
    """What is counted by kind as hours are kept. To have the database tell the forced ones apart takes longer."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for (*at, kind), (count, notional) in by_kind.items():
        figures = found.setdefault(tuple(at), [0, ZERO, 0, ZERO])
        place = 2 if kind in FORCED else 0
        figures[place] += count
        figures[place + 1] += notional
    return found


def _cut(window: Window, books: Books) -> tuple[list[Window], list[Window]]:
    """The hours of a window that are added up, and the rest of it; each part is of one day."""
    hours: list[Window] = []
    rest: list[Window] = []
    at = window.since
    while at < window.until:
        until = min(window.until, start_of(at.date() + DAY))
        first, last = _hour(at + HOUR - timedelta.resolution), _hour(until)
        if books.has_hours(at.date()) and first < last:
            hours.append(Window(first, last))
            rest += filter(None, (Window(at, first), Window(last, until)))
        else:
            rest.append(Window(at, until))
        at = until
    return hours, rest


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _added(
    rows: QuerySet[Any], at: str, by: Sequence[str], figures: dict[str, Any], parts: Set[Window]
) -> dict[tuple[Any, ...], list[Any]]:
    """By (atom, account, `by`): the parts, cut where any of them begins or ends, are made of these atoms."""
    ends = sorted({end for part in parts for end in (part.since, part.until)})
    atoms = [
        Window(since, until)
        for since, until in pairwise(ends)
        if any(part.since <= since < part.until for part in parts)
    ]
    if not atoms:
        return {}
    within = Q(*(Q((f"{at}__gte", atom.since), (f"{at}__lt", atom.until)) for atom in atoms), _connector=Q.OR)
    places = [When(Q((f"{at}__lt", atom.until)), then=Value(place)) for place, atom in enumerate(atoms)]
    found = rows.filter(within).order_by().annotate(place=Case(*places, output_field=IntegerField()))
    rows_of = found.values_list("place", "credential_id", *by).annotate(**figures)
    return {(atoms[row[0]], *row[1 : 2 + len(by)]): list(row[2 + len(by) :]) for row in rows_of}
