"""Days added up to periods, and how many days are read by way of them: exactly what the days come to, only sooner.

What adds up here are the days, never the fills. A day that changes is noted in the same transaction; until it is added
up again it is read itself, as are the days at the ends of a range and those of an account that was never added up.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.db.models import Count, Max, Min, Q, QuerySet
from django.db.models.functions import TruncHour

from exchanges.fields import UsdSum, plain
from exchanges.models import ExchangeCredential, Fill
from exchanges.venues.base import EXACT, FORCED, Window
from volume.models import AddedUp, DailyVolume, HourVolume, PeriodVolume, Preferences

Step = PeriodVolume.Step
DAY = timedelta(days=1)
ROWS_AT_ONCE = 4000  # days and markets added up in one transaction, and no less than a month of them
HOURS_KEPT = timedelta(days=95)  # a month or 90 days back, a part of a day is looked at
EXACTLY = ("base_qty", "forced_qty")  # of any precision
SUMMED = (
    "fills", "notional_usd", "maker_usd", "taker_usd", "buy_usd", "sell_usd", "forced_fills", "forced_usd",
    "forced_maker_usd", "forced_buy_usd", "fees_usd", "fills_not_priced", "fees_not_priced_fills",
)  # fmt: skip
COLUMNS = (*SUMMED, *EXACTLY, "kinds", "fees_not_priced")


def start_of(day: date) -> datetime:
    """The first moment of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def first_of(day: date, step: str) -> date:
    """The first day of the period a day is in."""
    if step == Step.MONTH:
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if step == Step.WEEK else day


def following(first: date, step: str) -> date:
    """The first day of the next period."""
    if step == Step.MONTH:
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if step == Step.WEEK else 1)


# --- Adding up -------------------------------------------------------------------------------------------------------


def note_changed(credential: ExchangeCredential, days: Iterable[date]) -> None:
    """These days are not what was added up any more. Within the transaction that changes them."""
    known = AddedUp.objects.select_for_update().filter(credential=credential).first()
    if known and (new := {day.isoformat() for day in days}.difference(known.changed)):
        known.changed = sorted([*known.changed, *new])
        known.save(update_fields=["changed"])


def forget(credential: ExchangeCredential) -> None:
    """Nothing that was added up of the account is looked at, until it is added up anew."""
    AddedUp.objects.filter(credential=credential).delete()


def waiting(today: date) -> list[ExchangeCredential]:
    """The accounts with days before today that are not added up."""
    known = dict(AddedUp.objects.values_list("credential_id", "changed"))
    return [
        credential
        for credential in ExchangeCredential.objects.all()
        if any(day < today.isoformat() for day in known.get(credential.pk, [""]))
    ]


def add_up(credential: ExchangeCredential, *, today: date) -> int:
    """Adds up what changed on days before today, some months in each transaction. Returns how many days that were.

    Of today, which changes all the time, the next day's call takes care.
    """
    with transaction.atomic():
        credential.lock()
        if not AddedUp.objects.filter(credential=credential).exists():
            rows = DailyVolume.objects.filter(credential=credential), PeriodVolume.objects.filter(credential=credential)
            days = {day for found in rows for day in found.order_by().values_list("day", flat=True).distinct()}
            changed = sorted(day.isoformat() for day in days)
            AddedUp.objects.create(credential=credential, changed=changed, hours_from=today - HOURS_KEPT)
    added = 0
    while month := _next_month(credential, today):
        with transaction.atomic():
            credential.lock()
            added += _add_up_from(credential, month, today)
    return added


def _next_month(credential: ExchangeCredential, today: date) -> date | None:
    changed = AddedUp.objects.filter(credential=credential).values_list("changed", flat=True).first() or ()
    days = [day for day in map(date.fromisoformat, changed) if day < today]
    return first_of(min(days), Step.MONTH) if days else None


def _add_up_from(credential: ExchangeCredential, month: date, today: date) -> int:
    """The periods that begin or end in a month, whole, and in those after it if they are small."""
    known = AddedUp.objects.select_for_update().get(credential=credential)
    days = (
        DailyVolume.objects.filter(credential=credential, day__gte=month).order_by("day").values_list("day", flat=True)
    )
    beyond = days[ROWS_AT_ONCE : ROWS_AT_ONCE + 1].first() or max(map(date.fromisoformat, known.changed)) + 31 * DAY
    last = max(first_of(beyond, Step.MONTH), following(month, Step.MONTH)) - DAY
    found = _computed(credential, month, last)
    PeriodVolume.objects.filter(_within(month, last), credential=credential).delete()
    PeriodVolume.objects.bulk_create(
        PeriodVolume(credential=credential, step=step, day=first, symbol=symbol, **figures)
        for (step, first, symbol), figures in found.items()
    )
    known.hours_from = max(known.hours_from, today - HOURS_KEPT)
    HourVolume.objects.filter(credential=credential, hour_at__lt=start_of(known.hours_from)).delete()
    done = [day for day in known.changed if month.isoformat() <= day <= last.isoformat()]
    if done:
        first = max(known.hours_from, date.fromisoformat(min(done)))
        _add_up_hours(credential, Window(start_of(first), start_of(last + DAY)))
    known.changed = [day for day in known.changed if day not in done]
    known.version = uuid4()
    known.save(update_fields=["changed", "hours_from", "version"])
    return len(done)


def _add_up_hours(credential: ExchangeCredential, window: Window) -> None:
    if window:
        HourVolume.objects.filter(credential=credential, hour_at__gte=window.since, hour_at__lt=window.until).delete()
        HourVolume.objects.bulk_create(HourVolume(credential=credential, **row) for row in _hours(credential, window))


def _hours(credential: ExchangeCredential, window: Window) -> Iterator[dict[str, Any]]:
    """What the fills of each hour come to, by quote."""
    fills = Fill.objects.filter(credential=credential, executed_at__gte=window.since, executed_at__lt=window.until)
    is_forced, hour = Q(kind__in=FORCED), TruncHour("executed_at", tzinfo=UTC)
    rows: Any = fills.order_by().values_list(hour, "quote").annotate(
        ordinary=Count("pk", filter=~is_forced), usual=UsdSum("notional", filter=~is_forced),
        forced=Count("pk", filter=is_forced), unusual=UsdSum("notional", filter=is_forced),
    )  # fmt: skip
    columns = ("hour_at", "quote", "fills", "notional", "forced_fills", "forced_notional")
    return (dict(zip(columns, row, strict=True)) for row in rows)


def _within(first: date, last: date) -> Q:
    """The periods that have a day from first to last."""
    return Q(*(Q(step=step, day__gte=first_of(first, step), day__lte=last) for step in Step), _connector=Q.OR)


Key = tuple[str, date, str]


def _computed(credential: ExchangeCredential, first: date, last: date) -> dict[Key, dict[str, Any]]:
    """By (step, first day, symbol), what the days come to in each period with a day from first to last."""
    since = min(first_of(first, step) for step in Step)
    until = max(following(first_of(last, step), step) for step in Step)
    days = DailyVolume.objects.filter(credential=credential, day__gte=since, day__lt=until).order_by()
    found: dict[Key, dict[str, Any]] = {}
    for day, symbol, *values in days.values_list("day", "symbol", *COLUMNS).iterator():
        for step in Step:
            start = first_of(day, step)
            if following(start, step) <= first or start > last:
                continue
            for of in ("",) if step == Step.DAY else ("", symbol):
                _add(found.setdefault((step, start, of), {}), dict(zip(COLUMNS, values, strict=True)))
    return found


def _add(total: dict[str, Any], figures: dict[str, Any]) -> None:
    if not total:
        total |= figures | {"kinds": {}, "fees_not_priced": {}}
    else:
        for column in SUMMED:
            total[column] += figures[column]
        for column in EXACTLY:
            total[column] = EXACT.add(total[column], figures[column])
    add_kinds(total["kinds"], figures["kinds"])
    add_amounts(total["fees_not_priced"], figures["fees_not_priced"])


def add_kinds(total: dict[str, dict[str, Any]], more: dict[str, dict[str, Any]]) -> None:
    """Adds figures by kind of fill, as days keep them, to others."""
    for kind, part in more.items():
        known = total.get(kind, {"fills": 0, "usd": "0", "not_priced": 0})
        total[kind] = {
            "fills": known["fills"] + part["fills"],
            "usd": plain(Decimal(known["usd"]) + Decimal(part["usd"])),
            "not_priced": known["not_priced"] + part["not_priced"],
        }


def add_amounts(total: dict[str, str], more: dict[str, str]) -> None:
    """Adds amounts by asset, as days keep them, to others."""
    for asset, amount in more.items():
        total[asset] = plain(EXACT.add(Decimal(total.get(asset, "0")), Decimal(amount)))


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of a period that is not what its days come to."""

    step: str
    day: date
    symbol: str
    column: str
    stored: Any
    computed: Any


def differences(credential: ExchangeCredential) -> Iterator[Difference]:
    """Every figure of the periods that is not what the days come to, of those periods that are looked at."""
    known = AddedUp.objects.filter(credential=credential).first()
    ends = credential.days.aggregate(first=Min("day"), last=Max("day"))
    kept = credential.periods.aggregate(first=Min("day"), last=Max("day"))
    found = [day for day in (*ends.values(), *kept.values()) if day]
    if known is None or not found:
        return
    changed = [date.fromisoformat(day) for day in known.changed]
    stale = {(step, first_of(day, step)) for day in changed for step in Step}
    month = first_of(min(found), Step.MONTH)
    while month <= max(found):
        last = following(month, Step.MONTH) - DAY
        computed = _computed(credential, month, last)
        for row in credential.periods.filter(_within(month, last)).order_by().iterator():
            should_be = computed.pop((row.step, row.day, row.symbol), None)
            if (row.step, row.day) in stale:
                continue
            if should_be is None:
                yield Difference(row.step, row.day, row.symbol, "fills", row.fills, None)
                continue
            for column, value in should_be.items():
                if getattr(row, column) != value:
                    yield Difference(row.step, row.day, row.symbol, column, getattr(row, column), value)
        for (step, first, symbol), figures in computed.items():
            if (step, first) not in stale:
                yield Difference(step, first, symbol, "fills", None, figures["fills"])
        month = following(month, Step.MONTH)
    yield from _differing_hours(credential, known.hours_from, set(changed))


def _differing_hours(credential: ExchangeCredential, hours_from: date, changed: set[date]) -> Iterator[Difference]:
    kept = {(row.hour_at, row.quote): row for row in credential.hours.all()}
    for row in _hours(credential, Window(start_of(hours_from), start_of(EVER[1]))):
        hour_at, quote = row["hour_at"], row["quote"]
        stored = kept.pop((hour_at, quote), None)
        for column in ("fills", "notional", "forced_fills", "forced_notional"):
            if hour_at.date() not in changed and getattr(stored, column, None) != row[column]:
                yield Difference(
                    f"{hour_at:%H:%M}", hour_at.date(), quote, column, getattr(stored, column, None), row[column]
                )
    for hour_at, quote in kept:
        if hour_at.date() not in changed:
            yield Difference(f"{hour_at:%H:%M}", hour_at.date(), quote, "fills", kept[hour_at, quote].fills, None)


# --- Looking at many days --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Books:
    """Accounts, and how they are counted: read once, however much is looked up in them."""

    accounts: Sequence[ExchangeCredential]
    counting_forced: frozenset[int]  # those whose owners count liquidations and auto-deleveraging
    added_up: Mapping[int, Sequence[date]]  # of those with periods, the days that changed since
    hours_from: date | None  # since when all have hours; None where one has none
    state: str  # another one whenever something was added up, or changed since

    @classmethod
    def of(
        cls, accounts: Sequence[ExchangeCredential], preferences: Mapping[int, Preferences] | None = None
    ) -> "Books":
        """`preferences` are their owners', where these were read already."""
        if preferences is None:
            preferences = Preferences.of_all({account.owner_id for account in accounts})
        counting = [account.pk for account in accounts if preferences[account.owner_id].counts_forced]
        known = list(AddedUp.objects.filter(credential__in=[account.pk for account in accounts]))
        return cls(
            accounts=accounts,
            counting_forced=frozenset(counting),
            added_up={row.credential_id: [date.fromisoformat(day) for day in row.changed] for row in known},
            hours_from=max((row.hours_from for row in known), default=None) if len(known) == len(accounts) else None,
            state=_state(known),
        )

    @property
    def is_current(self) -> bool:
        """Whether no day changed since these were read, and nothing was added up."""
        return _state(AddedUp.objects.filter(credential__in=[account.pk for account in self.accounts])) == self.state

    @property
    def changed(self) -> list[date]:
        """The days of which no period is looked at."""
        return sorted({day for days in self.added_up.values() for day in days})

    def has_hours(self, day: date) -> bool:
        """Whether all fills of the day are added up by the hour."""
        is_known = self.hours_from is not None and self.hours_from <= day
        return is_known and not any(day in days for days in self.added_up.values())


def _state(added_up: Iterable[AddedUp]) -> str:
    known = sorted((row.credential_id, row.version.hex, row.changed) for row in added_up)
    return sha256(repr(known).encode()).hexdigest()


Stretch = tuple[date, date]  # [from, until)
EVER = (date.min, date(9999, 12, 1))  # without bounds
Rows = QuerySet[Any, Any]


@dataclass(frozen=True, slots=True)
class Sources:
    """Rows of days and of periods that together are just the days from `since` until `until` of the accounts.

    Of these markets, if any are named. Each row is of one market where they are told apart or named, and of one day,
    week or month where `by_day` names it; its `day` is the first of what it is of.
    """

    books: Books
    since: date | None
    until: date | None
    markets: Sequence[str] = ()
    by_market: bool = False
    by_day: str = ""

    @property
    def whole(self) -> Stretch:
        return self.since or EVER[0], self.until or EVER[1]

    @property
    def changed(self) -> list[date]:
        since, until = self.whole
        return [day for day in self.books.changed if since <= day < until]

    def lasting(self) -> list[Rows]:
        """Of what is added up: for one state of the books always the same."""
        if not self.books.added_up:
            return []
        days = DailyVolume.objects.filter(credential__in=self.books.added_up)
        apart = self.by_market or bool(self.markets)
        steps = [step for step in STEPS_BY[self.by_day] if step != Step.DAY or not apart]
        if not steps:
            return self._of_markets(days.filter(_in(self.whole)).exclude(day__in=self.changed))
        rest, chosen = [self.whole], []
        found: list[Rows] = []
        for step in steps:
            taken, rest = _whole_periods(rest, step, self.books.changed)
            chosen += [Q(_in(stretch), step=step) for stretch in taken]
        if ends := sorted(set(_days(rest)).difference(self.changed)):
            found.append(days.filter(day__in=ends))
        if chosen:
            of_these = Q(*chosen, _connector=Q.OR)
            periods = PeriodVolume.objects.filter(of_these, credential__in=self.books.added_up)
            found.append(periods.exclude(symbol="") if apart else periods.filter(symbol=""))
        return self._of_markets(*found)

    def passing(self) -> list[Rows]:
        """Of days that changed since, and of accounts that were never added up."""
        found = []
        if others := [account.pk for account in self.books.accounts if account.pk not in self.books.added_up]:
            found.append(DailyVolume.objects.filter(_in(self.whole), credential__in=others))
        if self.books.added_up and self.changed:
            found.append(DailyVolume.objects.filter(day__in=self.changed, credential__in=self.books.added_up))
        return self._of_markets(*found)

    def _of_markets(self, *found: Rows) -> list[Rows]:
        return [(rows.filter(symbol__in=self.markets) if self.markets else rows).order_by() for rows in found]


STEPS_BY = {
    "": (Step.MONTH, Step.WEEK, Step.DAY),
    "month": (Step.MONTH, Step.DAY),
    "week": (Step.WEEK, Step.DAY),
    "day": (Step.DAY,),
}


def _in(stretch: Stretch) -> Q:
    """Whose day is in it."""
    since, until = stretch
    found = Q(day__gte=since) if since > EVER[0] else Q()
    return found & Q(day__lt=until) if until < EVER[1] else found


def _days(stretches: Iterable[Stretch]) -> list[date]:
    """One by one: what lies at the ends, and what changed."""
    return [since + timedelta(days=place) for since, until in stretches for place in range((until - since).days)]


def _whole_periods(
    stretches: Iterable[Stretch], step: str, changed: Sequence[date]
) -> tuple[list[Stretch], list[Stretch]]:
    """The whole periods within the stretches in which no day changed, as stretches, and what is left."""
    taken: list[Stretch] = []
    left: list[Stretch] = []
    for since, until in stretches:
        first = first_of(since, step)
        at = since if first == since else following(first, step)
        end = first_of(until, step)
        if at >= end:
            left.append((since, until))
            continue
        left += [(since, at)] if since < at else []
        for hole in sorted({first_of(day, step) for day in changed if at <= day < end}):
            taken += [(at, hole)] if at < hole else []
            at = following(hole, step)
            left.append((hole, at))
        taken += [(at, end)] if at < end else []
        left += [(end, until)] if end < until else []
    return taken, left
