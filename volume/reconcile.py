"""What a venue itself says an account traded, beside what we counted: fetched, kept, compared.

Nothing here changes a number of ours: neither a difference, nor a venue that answers nonsense.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from itertools import pairwise
from typing import Any

from django.db import transaction
from django.db.models import Count, F, Max, Q

from exchanges.connect import connect
from exchanges.fields import SecretError, UsdSum, plain, to_usd_places
from exchanges.models import STOPPED, ExchangeCredential, Fill
from exchanges.venues import VENUES
from exchanges.venues.base import EPOCH, EXACT, FORCED, Figure, Inclusion, VenueError, Window
from volume.completeness import Completeness
from volume.models import DailyVolume, Preferences, VenueFigure
from volume.periods import start_of
from volume.rollup import usd_prices

logger = logging.getLogger("perpdash.reconcile")

FETCH_EVERY = timedelta(days=1)
PER_ROUND = 5  # accounts of one venue: at Hyperliquid a quarter of what a minute allows
PATIENCE = 2.0  # seconds: readings share the budget and come first
KEPT = timedelta(days=400)
SHOWN = timedelta(days=15)  # how far back is compared, where nothing else is asked for
DAY, LONG = timedelta(days=1), timedelta(days=40)  # a longer window goes through all days we have
EDGE = timedelta(minutes=1)  # a fill so near to the moment of asking may be in one sum and not in the other
CENT = Decimal("0.01")
NOISE = Decimal("1e-9")  # of a figure: what adding up binary floats may cost the venue
LARGEST = 5  # markets named where a figure differs
ZERO = Decimal(0)
ADDRESS = re.compile(r"0x[0-9a-f]+")


class State(StrEnum):
    AGREES = "agrees"
    DIFFERS = "differs"
    NOT_YET = "not_yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSum:
    """What our fills of one market come to within a window."""

    symbol: str
    usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A figure of the venue and our sum of the same window: all perpetual fills, forced ones too, stablecoins at 1:1.

    `theirs` and `difference` are rounded to cents. Where the two can't be compared yet, `ours` is what is read so far.
    """

    credential_id: int
    name: str  # the venue's own name of the figure
    label: str  # its window, in words
    window: Window  # since EPOCH: as long as the account exists
    seen_at: datetime
    theirs: Decimal
    ours: Decimal
    difference: Decimal | None  # theirs - ours; None where they can't be compared yet
    state: State
    accounts: tuple[str, ...]  # whose fills are in our sum
    reasons: tuple[str, ...]  # sentences: why it can't be compared, or what may make the difference
    markets: tuple[MarketSum, ...] = ()  # where to look: the largest of our sum
    held: int = 0  # rows of the window that were not understood

    @property
    def source(self) -> str:
        """The answer of the venue that the figure stands in."""
        return self.name.partition(".")[0]

    @property
    def day(self) -> date | None:
        """The UTC day the window lies in, where it lies in one."""
        first = self.window.since.date()
        return first if self.window.until <= start_of(first) + DAY else None


# --- From the venue --------------------------------------------------------------------------------------------------


def due(*, now: datetime) -> list[int]:
    """The accounts whose figures are to be fetched: a day old, or never fetched. A few of each venue that has any."""
    ready = (
        ExchangeCredential.objects.filter(is_enabled=True, retired_at=None, fresh_at__isnull=False)
        .exclude(health_state__in=STOPPED)
        .annotate(newest=Max("figures__seen_at"))
        .filter(Q(newest=None) | Q(newest__lte=now - FETCH_EVERY))
        # Of those that never had one some never will: chance gives each its turn, and they keep nobody else.
        .order_by(F("newest").asc(nulls_last=True), "?")
    )
    publishing = (slug for slug, venue in VENUES.items() if venue.publishes_figures())
    return [pk for slug in publishing for pk in ready.filter(venue=slug).values_list("pk", flat=True)[:PER_ROUND]]


def fetch(credential: ExchangeCredential, *, now: datetime) -> bool:
    """Fetches and stores the account's figures. A venue's trouble ends in the log; whether it went well."""
    try:
        ask_now(credential, now=now)
    except (VenueError, SecretError) as fault:
        logger.warning("%s: its own figures could not be fetched, tried again next time. %s", credential, fault)
        return False
    return True


def ask_now(credential: ExchangeCredential, *, now: datetime, patience: float = PATIENCE) -> None:
    """Fetches and stores the account's figures. Raises VenueError and SecretError; what is stored stays then."""
    with connect(credential, patience=patience) as venue:
        figures = venue.fetch_figures(now=now)
    with transaction.atomic():
        credential.lock()
        if ExchangeCredential.objects.filter(pk=credential.pk).exists():  # else it was removed meanwhile
            _store(credential, figures, now=now)


def _store(credential: ExchangeCredential, figures: Iterable[Figure], *, now: datetime) -> None:
    """Puts what the venue says in the place of what it said before.

    A series (days) keeps what lies outside the span of the answer; of a window that slides only the newest is kept; of
    a counter of a life every reading, as two of them make a window of their own.
    """
    by_name: dict[str, dict[Window, Figure]] = defaultdict(dict)
    for figure in figures:
        by_name[figure.name][figure.window] = figure
    for name, told in by_name.items():
        known = VenueFigure.objects.filter(credential=credential, name=name)
        since, until = min(window.since for window in told), max(window.until for window in told)
        if since == EPOCH:
            known.filter(until_at=until).delete()
        elif len(told) == 1 and since != start_of(since.date()):
            known.delete()
        else:
            known.filter(from_at__lt=until, until_at__gt=since).delete()
    VenueFigure.objects.bulk_create(
        VenueFigure(
            credential=credential, name=figure.name, from_at=figure.window.since, until_at=figure.window.until,
            usd=figure.usd, includes=list(figure.includes), seen_at=now,
        )
        for told in by_name.values() for figure in told.values()
    )  # fmt: skip
    VenueFigure.objects.filter(credential=credential, until_at__lt=now - KEPT).delete()


# --- Beside our own --------------------------------------------------------------------------------------------------


def compare(credential: ExchangeCredential, *, now: datetime, since: datetime | None = None) -> list[Comparison]:
    """The account's figures beside our sums, of windows that end after `since` (two weeks ago, if not said).

    By the venue's answer, newest first, shorter windows before longer ones. Reads only, and asks nobody.
    """
    since = now - SHOWN if since is None else since
    comparing = _Comparing(credential, now=now)
    shown = [told for told in comparing.told if told.window.until > since]
    comparing.load([told.window for told in shown])
    found = [comparing.compared(told) for told in shown]
    return sorted(
        found, key=lambda one: (one.source, -one.window.until.timestamp(), one.window.until - one.window.since)
    )


def as_json(comparison: Comparison) -> dict[str, Any]:
    """For the API: amounts and instants as they are, ready to be spelled; `since` is None for a whole life."""
    window = comparison.window
    return {
        "credential": comparison.credential_id,
        "name": comparison.name,
        "label": comparison.label,
        "since": None if window.since == EPOCH else window.since,
        "until": window.until,
        "seen_at": comparison.seen_at,
        "theirs_usd": comparison.theirs,
        "ours_usd": comparison.ours,
        "difference_usd": comparison.difference,
        "state": comparison.state.value,
        "reasons": list(comparison.reasons),
        "accounts": list(comparison.accounts),
        "markets": [{"market": one.symbol, "usd": plain(one.usd)} for one in comparison.markets],
        "held": comparison.held,
    }


@dataclass(frozen=True, slots=True)
class _Told:
    """A window and what the venue says of it."""

    name: str
    window: Window
    usd: Decimal
    includes: frozenset[str]
    seen_at: datetime
    is_between: bool = False  # two readings of a counter


@dataclass(frozen=True, slots=True)
class _Beside:
    """What the venue says was traded beside perpetuals within a window."""

    window: Window
    usd: Decimal


@dataclass(slots=True)
class _Sum:
    """Our fills of one market."""

    usd: Decimal = ZERO  # forced ones too
    forced: Decimal = ZERO
    not_priced: int = 0

    def add(self, other: "_Sum") -> None:
        self.usd += other.usd
        self.forced += other.forced
        self.not_priced += other.not_priced


Sums = dict[str, _Sum]  # by market


class _Comparing:
    """One account beside its venue: what was said, whose fills it is about, what they come to."""

    def __init__(self, credential: ExchangeCredential, *, now: datetime) -> None:
        self.credential = credential
        self.venue = credential.venue_name
        related, self.absent = _family(credential)
        self.family = [credential, *related]
        self.completeness = Completeness(self.family, now=now)
        self.at_market = Preferences.of(credential.owner_id).stablecoins_at_market
        self.beside: dict[int, list[_Beside]] = {}
        for account in self.family:
            told, self.beside[account.pk] = _told(account)
            if account is credential:
                self.told = told
        self.ours = _Ours([credential])
        self.ours_together = _Ours(self.family) if related else self.ours

    def load(self, windows: Sequence[Window]) -> None:
        for ours in {id(ours): ours for ours in (self.ours, self.ours_together)}.values():
            ours.load(windows)

    def compared(self, told: _Told) -> Comparison:
        is_together = Inclusion.RELATED in told.includes
        accounts = self.family if is_together else [self.credential]
        ours = self.ours_together if is_together else self.ours
        sums = ours.of(told.window)
        total = sum((one.usd for one in sums.values()), ZERO)
        difference = told.usd - total
        held = sum(self._held(account, told.window) for account in accounts)
        obstacles = [sentence for account in accounts for sentence in self._obstacles(account, told.window)]
        reasons: list[str] = []
        markets: tuple[MarketSum, ...] = ()
        if obstacles:
            state, reasons = State.NOT_YET, obstacles
        elif _is_nothing(difference, told.usd):
            state = State.AGREES
        else:
            state = State.DIFFERS
            reasons = self._reasons(told, accounts, sums, difference, held, ours.near_the_ends(told.window))
            largest = sorted(sums, key=lambda symbol: (-sums[symbol].usd, symbol))[:LARGEST]
            markets = tuple(MarketSum(symbol=symbol, usd=sums[symbol].usd) for symbol in largest)
        if self.at_market:
            reasons.append("Stablecoins are a dollar each here; your other pages count them at market value.")
        if len(accounts) > 1:
            others = ", ".join(account.label for account in accounts[1:])
            reasons.append(f"Counted together with {others}: {self.venue} has sub-accounts inside.")
        return Comparison(
            credential_id=self.credential.pk,
            name=told.name,
            label=_label(told.window, is_between=told.is_between),
            window=told.window,
            seen_at=told.seen_at,
            theirs=_cents(told.usd),
            ours=total,
            difference=None if state == State.NOT_YET else _cents(difference),
            state=state,
            accounts=tuple(account.label for account in accounts),
            reasons=tuple(dict.fromkeys(reasons)),
            markets=markets,
            held=held,
        )

    def _obstacles(self, account: ExchangeCredential, window: Window) -> Iterable[str]:
        """Why our sum is not what will be known of the window before long."""
        lacks = self.completeness.lacks[account.pk]
        if account.fresh_at is None:
            yield f"{account.label} was not read yet."
        elif account.fresh_at < window.until:
            going_on = "Only its history is kept." if account.retired_at else "The next reading brings the rest."
            turn = next((lack.remedy for lack in lacks if lack.state == "stale"), going_on)
            yield (
                f"{account.label} is read up to {_when(account.fresh_at)} UTC, and this reaches to "
                f"{_when(window.until)} UTC. {turn}"
            )
        for lack in lacks:
            if lack.state == "unread" and _overlap(lack.window, window):
                yield f"{account.label}: {lack.why} {lack.remedy}".rstrip()

    def _reasons(
        self, told: _Told, accounts: list[ExchangeCredential], sums: Sums, difference: Decimal, held: int, near: _Sum,
    ) -> list[str]:  # fmt: skip
        reasons = []
        for account in accounts:
            reasons += [
                f"{account.label}: {lack.why} {lack.remedy}".rstrip()
                for lack in self.completeness.lacks[account.pk]
                if lack.state != "stale" and _overlap(lack.window, told.window)
            ]
            if told.window.since < account.history_from:
                reasons.append(f"{account.label} was asked for only from {_when(account.history_from)} UTC on.")
        if held:
            reasons.append(f"{_many(held, 'row')} of this time held, not understood and not in our sum.")
        if not_priced := sum(one.not_priced for one in sums.values()):
            reasons.append(f"{_many(not_priced, 'fill')} without a price in dollars, not in our sum.")
        if Inclusion.RELATED in told.includes and self.absent:
            reasons.append(
                f"{self.venue} has sub-accounts inside. Not here, and so not in our sum: {', '.join(self.absent)}. "
                "Add them to compare."
            )
        if Inclusion.SPOT in told.includes:
            reasons += self._spot(told, accounts, difference)
        if forced := sum((one.forced for one in sums.values()), ZERO):
            reasons.append(
                f"Our sum holds liquidations and auto-deleveraging of {_usd(forced)}; whether {self.venue} counts "
                f"them, it does not say.{_whole(-forced, difference)}"
            )
        if Inclusion.WEIGHTED in told.includes:
            reasons.append(
                f"{self.venue} may count some markets for more or less than their dollars (those of builders in growth "
                "mode, for one)."
            )
        if Inclusion.APPROXIMATE in told.includes:
            reasons.append(f"{self.venue} does not say where exactly this window begins and ends.")
        if near.usd:
            reasons.append(
                f"Fills of {_usd(near.usd)} lie within a minute of its ends, and may be in one sum and not in the "
                "other."
            )
        return reasons

    def _spot(self, told: _Told, accounts: list[ExchangeCredential], difference: Decimal) -> Iterable[str]:
        """How much of a figure is no perpetual volume, as far as the venue's other figures tell."""
        found = [_narrowest(self.beside[account.pk], told.window) for account in accounts]
        known = [item for item in found if item]
        if len(known) < len(found) or (Inclusion.RELATED in told.includes and self.absent):
            yield f"Spot, and what else is no perpetual, may be inside; how much, {self.venue} does not say."
            return
        most = sum((item.usd for item in known), ZERO)
        if abs(most) < CENT:
            return
        if all(item.window == told.window for item in known):
            yield (
                f"Spot, and what else is no perpetual, is inside: {_usd(most)} by {self.venue}'s own count."
                f"{_whole(most, difference)}"
            )
        else:
            enough = " That can be the whole difference." if 0 < difference <= most + CENT else ""
            yield (
                f"Spot, and what else is no perpetual, may be inside: at most {_usd(most)} by {self.venue}'s count of "
                f"a longer time.{enough}"
            )

    def _held(self, account: ExchangeCredential, window: Window) -> int:
        times = self.completeness.held[account.pk]
        return sum(at is None or window.since <= at < window.until for at in times)


@dataclass(slots=True)
class _Ours:
    """Sums of the fills of some accounts, stablecoins at a dollar each: whole UTC days from the days we keep."""

    accounts: Sequence[ExchangeCredential]
    days: dict[date, Sums] = field(default_factory=dict)
    parts: dict[Window, Sums] = field(default_factory=dict)  # of days, as far as they were asked for

    def load(self, windows: Iterable[Window]) -> None:
        """Reads the whole days of all these windows at once."""
        spans = [span for window in windows if (span := _whole_days(window))]
        if not spans:
            return
        first, last = min(span.since for span in spans).date(), max(span.until for span in spans).date()
        self.days = defaultdict(dict)
        stored = DailyVolume.objects.filter(credential__in=self.accounts, day__gte=first, day__lt=last)
        rows = stored.filter(is_at_market=False).order_by()
        columns = ("day", "symbol", "notional_usd", "forced_usd", "fills_not_priced")
        for day, symbol, usd, forced, lost in rows.values_list(*columns).iterator():
            _add(self.days[day], symbol, _Sum(usd + forced, forced, lost))
        # What is kept at market value says nothing of dollars at par: those days are added up anew.
        at_market = set(stored.filter(is_at_market=True).order_by().values_list("credential_id", "day").distinct())
        if at_market:
            begins = start_of(min(day for _, day in at_market))
            ends = start_of(max(day for _, day in at_market)) + DAY
            for pk, day, symbol, part in self._fills(Window(begins, ends)):
                if (pk, day) in at_market:
                    _add(self.days[day], symbol, part)

    def of(self, window: Window) -> Sums:
        """By market, exactly over the window. Its whole days must be loaded."""
        whole = _whole_days(window)
        edges = [Window(window.since, whole.since), Window(whole.until, window.until)] if whole else [window]
        result: Sums = {}
        for part in [self._part(edge) for edge in edges if edge]:
            for symbol, one in part.items():
                _add(result, symbol, one)
        if whole:
            first, last = whole.since.date(), whole.until.date()
            near = (first + number * DAY for number in range((last - first).days))
            for day in near if last - first < LONG else self.days:
                if first <= day < last and day in self.days:
                    for symbol, one in self.days[day].items():
                        _add(result, symbol, one)
        return result

    def near_the_ends(self, window: Window) -> _Sum:
        """The fills around the ends of a window, where these are instants and no midnights."""
        result = _Sum()
        for end in (window.since, window.until):
            if end not in (EPOCH, start_of(end.date())):
                for one in self._part(Window(end - EDGE, end + EDGE)).values():
                    result.add(one)
        return result

    def _part(self, window: Window) -> Sums:
        if window not in self.parts:
            sums: Sums = {}
            for _, _, symbol, part in self._fills(window):
                _add(sums, symbol, part)
            self.parts[window] = sums
        return self.parts[window]

    def _fills(self, window: Window) -> Iterable[tuple[int, date, str, _Sum]]:
        """From the fills themselves: account, day, market and what they come to."""
        fills = Fill.objects.filter(
            credential__in=self.accounts, executed_at__gte=window.since, executed_at__lt=window.until
        )
        rows: list[Any] = list(
            fills.order_by()
            .values("credential_id", "day", "symbol", "quote")
            .annotate(
                count=Count("pk"), all=UsdSum("notional"), forced=UsdSum("notional", filter=Q(kind__in=FORCED))
            )
        )  # fmt: skip
        prices = usd_prices({(row["day"], row["quote"]) for row in rows})
        for row in rows:
            usd = prices.get((row["day"], row["quote"]))
            if usd is None:
                part = _Sum(not_priced=row["count"])
            else:
                everything, forced = (to_usd_places(EXACT.multiply(row[name], usd)) for name in ("all", "forced"))
                part = _Sum(everything, forced)
            yield row["credential_id"], row["day"], row["symbol"], part


def _told(account: ExchangeCredential) -> tuple[list[_Told], list[_Beside]]:
    """What the venue says of an account, and how much of it is traded beside perpetuals.

    A window that one answer gives with and without what is traded beside perpetuals is listed without; the difference
    is what is beside. Of counters of a life the newest reading is listed, and what lies between each two.
    """
    windows: list[_Told] = []
    lives: dict[str, list[_Told]] = defaultdict(list)
    for row in VenueFigure.objects.filter(credential=account).order_by("until_at"):
        told = _Told(row.name, Window(row.from_at, row.until_at), row.usd, frozenset(row.includes), row.seen_at)
        (lives[row.name] if row.from_at == EPOCH else windows).append(told)
    for name, readings in lives.items():
        windows.append(readings[-1])
        for before, after in pairwise(readings):
            between = Window(before.window.until, after.window.until)
            usd = EXACT.subtract(after.usd, before.usd)
            windows.append(_Told(name, between, usd, after.includes, after.seen_at, is_between=True))
    without = {(_source(told), told.window, told.includes): told for told in windows}
    listed, beside = [], []
    for told in windows:
        bare = without.get((_source(told), told.window, told.includes - {Inclusion.SPOT}))
        if bare is None or bare is told:
            listed.append(told)
        else:
            beside.append(_Beside(told.window, EXACT.subtract(told.usd, bare.usd)))
    return listed, beside


def _family(credential: ExchangeCredential) -> tuple[list[ExchangeCredential], list[str]]:
    """The owner's accounts whose volume the venue counts with this one's, and the names of those that are not here."""
    mine = _canonical(credential.account_ref)
    others = ExchangeCredential.objects.filter(owner_id=credential.owner_id, venue=credential.venue)
    here: dict[int, ExchangeCredential] = {}
    subs = []  # those that call this one their main account
    for other in others.exclude(pk=credential.pk):
        if mine in map(_canonical, ADDRESS.findall(other.description.lower())):
            subs.append(other)
            here[other.pk] = other
    absent = []
    for related in credential.related:
        names = {_canonical(name) for name in (related["label"], *related["values"].values())}
        known = [other for other in others.exclude(pk=credential.pk) if _canonical(other.account_ref) in names]
        # A venue that gives no address gives a name, which the account's own description has too.
        known = known or [other for other in subs if f" {related['label'][:60]}" in other.description]
        here |= {other.pk: other for other in known}
        if not known:
            address = next(iter(related["values"].values()), "")
            absent.append(f"{related['label']} ({address})" if address else related["label"])
    return list(here.values()), absent


def _canonical(name: str) -> str:
    """One spelling of an address: venues write it with and without zeros in front, in both cases."""
    lower = name.strip().lower()
    return f"0x{lower[2:].lstrip('0')}" if lower.startswith("0x") else lower


def _source(told: _Told) -> str:
    return told.name.partition(".")[0]


def _narrowest(beside: Iterable[_Beside], window: Window) -> _Beside | None:
    around = [item for item in beside if item.window.since <= window.since and window.until <= item.window.until]
    return min(around, key=lambda item: (item.window != window, item.usd), default=None)


def _is_nothing(difference: Decimal, figure: Decimal) -> bool:
    return abs(difference) < CENT or abs(difference) <= EXACT.multiply(abs(figure), NOISE)


def _whole(part: Decimal, difference: Decimal) -> str:
    return " That is the whole difference." if _is_nothing(difference - part, difference) else ""


def _whole_days(window: Window) -> Window | None:
    """The whole UTC days in a window; None where there are none."""
    since, until = start_of(window.since.date()), start_of(window.until.date())
    span = Window(since if since == window.since else since + DAY, until)
    return span or None


def _overlap(one: Window, other: Window) -> bool:
    return one.since < other.until and one.until > other.since


def _add(sums: Sums, symbol: str, part: _Sum) -> None:
    sums.setdefault(symbol, _Sum()).add(part)


def _label(window: Window, *, is_between: bool) -> str:
    since, until = window.since, window.until
    midnight, days = start_of(since.date()), (until - since) // DAY
    if is_between:
        return f"between two looks, {_when(since)} to {_when(until)} UTC"
    if since == EPOCH:
        return f"as long as the account exists, up to {_when(until)} UTC"
    if since == midnight and until <= midnight + DAY:
        part = "" if until == midnight + DAY else f", up to {until:%H:%M}"
        return f"{since.day} {since:%b %Y} (UTC){part}"
    if until - since == days * DAY and days in (1, 7, 14, 30):
        return f"last {'24 hours' if days == 1 else f'{days} days'}, up to {_when(until)} UTC"
    return f"{_when(since)} to {_when(until)} UTC"


def _when(at: datetime) -> str:
    at = at.astimezone(UTC)
    return f"{at.day} {at:%b %Y %H:%M}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _cents(amount: Decimal) -> Decimal:
    return EXACT.add(amount.quantize(CENT, rounding=ROUND_HALF_EVEN, context=EXACT), ZERO)  # and no "-0.00"


def _usd(amount: Decimal) -> str:
    return f"${_cents(amount):,}"
