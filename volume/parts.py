"""What was traded in parts of days: by whole hours where they are added up, and by the fills at their ends."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from django.db import connection
from django.db.models import Case, IntegerField, Q, Sum, Value, When

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
    whole = frozenset(part for of in hours for part in of)  # whose days have not changed since they were added up
    by_hour = kept(books, ("hours", whole), lambda: _hours(pks, _atoms(whole)))
    by_fill = _fills(pks, _atoms({part for of in rest for part in of}))
    for found, parts in ((by_hour, hours), (by_fill, rest)):
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


def _atoms(parts: Set[Window]) -> list[Window]:
    """The parts, cut where any of them begins or ends; in order."""
    ends = sorted({end for part in parts for end in (part.since, part.until)})
    return [
        Window(since, until)
        for since, until in pairwise(ends)
        if any(part.since <= since < part.until for part in parts)
    ]


Found = dict[tuple[Any, ...], list[Any]]  # by (atom, account, quote), the figures of Quoted


def _hours(pks: Sequence[int], atoms: Sequence[Window]) -> Found:
    if not atoms:
        return {}
    within = Q(*(Q(hour_at__gte=atom.since, hour_at__lt=atom.until) for atom in atoms), _connector=Q.OR)
    places = [When(hour_at__lt=atom.until, then=Value(place)) for place, atom in enumerate(atoms)]
    rows: Any = (
        HourVolume.objects.filter(within, credential__in=pks)
        .order_by()
        .annotate(place=Case(*places, output_field=IntegerField()))
        .values_list("place", "credential_id", "quote")
        .annotate(
            count=Sum("fills"),
            usual=UsdSum("notional"),
            forced=Sum("forced_fills"),
            unusual=UsdSum("forced_notional"),
        )
    )
    return {(atoms[place], pk, quote): figures for place, pk, quote, *figures in rows}


def _fills(pks: Sequence[int], atoms: Sequence[Window]) -> Found:
    """Every summary asks this, and Django takes as long to write it as a database to answer: so it is written out."""
    if not (pks and atoms):
        return {}
    ends = [[connection.ops.adapt_datetimefield_value(end) for end in (atom.since, atom.until)] for atom in atoms]
    place = " ".join(["WHEN executed_at < %s THEN %s"] * len(atoms))
    within = " OR ".join(["(executed_at >= %s AND executed_at < %s)"] * len(atoms))
    sql = (
        f"SELECT CASE {place} END, credential_id, quote, kind, COUNT(*), {UsdSum.sql('notional', connection)} "
        f"FROM {Fill._meta.db_table} WHERE credential_id IN ({', '.join(['%s'] * len(pks))}) AND ({within}) "
        "GROUP BY 1, 2, 3, 4"
    )
    places = [value for number, (_, until) in enumerate(ends) for value in (until, number)]
    found: Found = {}
    with connection.cursor() as cursor:
        cursor.execute(sql, [*places, *pks, *(end for both in ends for end in both)])
        for number, pk, quote, kind, count, told in cursor.fetchall():
            figures = found.setdefault((atoms[number], pk, quote), [0, ZERO, 0, ZERO])
            of_kind = 2 if kind in FORCED else 0
            figures[of_kind] += count
            figures[of_kind + 1] += UsdSum.read(told)
    return found
