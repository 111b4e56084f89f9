"""The fills themselves, newest first, as page and API list them. Every query starts from the owner."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from django.db import connection
from django.db.models import QuerySet, Sum

from exchanges.models import ExchangeCredential, Fill
from exchanges.venues.base import Window
from volume.periods import Books, start_of
from volume.queries import Filter, added

NEWEST_FIRST = "ORDER BY executed_at DESC, id DESC"
MOST_AT_ONCE = 200  # accounts, each with its part of a statement; SQLite takes 500 parts


def fills_of(wanted: Filter, *, window: Window | None = None) -> QuerySet[Fill]:
    """The fills themselves, newest first; of the wanted UTC days, or of a window that is cut otherwise."""
    found = Fill.objects.filter(credential__in=[account.pk for account in wanted.accounts()])
    since = window.since if window else wanted.since and start_of(wanted.since)
    until = window.until if window else wanted.until and start_of(wanted.until)
    if since:
        found = found.filter(executed_at__gte=since)
    if until:
        found = found.filter(executed_at__lt=until)
    if wanted.markets:
        found = found.filter(symbol__in=wanted.markets)
    return found.order_by("-executed_at", "-pk")


class FillList:
    """The fills of the wanted days, newest first, for who looks at some of them: neither all of them nor all before
    those are touched. What each day has of them is known."""

    def __init__(self, wanted: Filter, books: Books | None = None) -> None:
        """`books` are those of the wanted accounts, where they are known."""
        self.wanted, self.books = wanted, books or Books.of(wanted.accounts())
        figures = {"usual": Sum("fills"), "forced": Sum("forced_fills")}
        found = added(wanted, self.books, ("day",), "day", figures)
        self.by_day = {day: sum(found[day,]) for (day,) in sorted(found, reverse=True)}

    def count(self) -> int:
        return sum(self.by_day.values())

    def __len__(self) -> int:
        return self.count()

    def __getitem__(self, part: slice) -> list[Fill]:
        start, stop = part.start or 0, self.count() if part.stop is None else part.stop
        before, days = 0, []
        for day, count in self.by_day.items():
            if start < stop and before < stop and before + count > start:
                days.append(day)
            elif not days:
                start, stop = start - count, stop - count  # they are passed over
                continue
            before += count
        if not days:
            return []
        since, until = days[-1], days[0] + timedelta(days=1)
        if len(self.books.accounts) > MOST_AT_ONCE:
            return list(
                fills_of(replace(self.wanted, since=since, until=until)).select_related("credential")[start:stop]
            )
        window = Window(start_of(since), start_of(until))
        return _newest(self.books.accounts, window, self.wanted.markets, start, stop)


def _newest(
    accounts: Sequence[ExchangeCredential], window: Window, markets: Sequence[str], start: int, stop: int
) -> list[Fill]:
    """Some of the fills of a window, newest first. Of each account no more is read, by its index, than could be among
    them: to sort the day of all together takes as long as all else of a page."""
    of_market = f"AND symbol IN ({', '.join(['%s'] * len(markets))}) " if markets else ""
    own = (
        f"SELECT * FROM (SELECT * FROM {Fill._meta.db_table} WHERE credential_id = %s AND executed_at >= %s "
        f"AND executed_at < %s {of_market}{NEWEST_FIRST} LIMIT %s) AS own"
    )
    ends = [connection.ops.adapt_datetimefield_value(end) for end in (window.since, window.until)]
    values = [value for account in accounts for value in (account.pk, *ends, *markets, stop)]
    all_own = " UNION ALL ".join([own] * len(accounts))
    found = Fill.objects.raw(
        f"SELECT * FROM ({all_own}) AS fills {NEWEST_FIRST} LIMIT %s OFFSET %s", [*values, stop - start, start]
    )
    by_key = {account.pk: account for account in accounts}
    for fill in found:
        fill.credential = by_key[fill.credential_id]
    return list(found)
