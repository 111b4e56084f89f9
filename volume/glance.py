"""An owner's volume at a glance: totals per span, each against the time before, and how every account fares."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from operator import itemgetter
from typing import Any

from django.db.models import Max, OuterRef, Q, Subquery, Sum

from exchanges.doctor import in_words
from exchanges.fields import UsdSum, plain, to_usd_places
from exchanges.models import ExchangeCredential, SyncRun
from exchanges.venues.base import EXACT, Window
from volume import trouble
from volume.completeness import Completeness, as_json, shortened
from volume.models import DailyVolume, Preferences
from volume.parts import quoted
from volume.periods import Books, start_of
from volume.queries import Filter, Standing, added, without_price
from volume.rollup import usd_prices

SPANS = ("24h", "today", "7d", "14d", "30d", "90d", "month", "all")
SPAN_DAYS = {"today": 1, "7d": 7, "14d": 14, "30d": 30, "90d": 90}


def summary(owner_id: int, *, now: datetime, standing: Standing | None = None) -> dict[str, Any]:
    """The owner's volume at a glance: totals per span, per venue, and how every account fares. Amounts are text.

    "24h" slides; "today", "7d" and longer are whole UTC days, today included; "month" is the UTC month so far. "all"
    goes back as far as was asked for. `before` is the same stretch of the period before, up to the same time of day.
    """
    standing = standing or Standing(Filter(owner_id=owner_id), now=now)
    accounts, completeness = standing.accounts, standing.completeness
    chosen = standing.preferences[owner_id]
    today = now.astimezone(UTC).date()
    venues = list(dict.fromkeys(account.venue for account in accounts))
    totals: dict[str, Any] = {}
    per_venue: dict[str, dict[str, Any]] = {venue: {} for venue in venues}
    spans, last_day = _spans(standing.books, chosen, today=today, now=now)
    for span, shown in spans.items():
        totals[span] = _total(shown, completeness, accounts, chosen)
        for venue in venues:
            own = [account for account in accounts if account.venue == venue]
            per_venue[venue][span] = _total(shown, completeness, own, chosen)
    last_day = last_day or _last_day(owner_id)
    return {
        "type": "summary",
        "as_of": now.isoformat(),
        "day": today.isoformat(),
        "next_day_at": start_of(today + timedelta(days=1)).isoformat(),
        "totals": totals,
        "venues": [
            {"venue": account.venue, "name": account.venue_name, "totals": per_venue[account.venue]}
            for account in {account.venue: account for account in accounts}.values()
        ],
        "accounts": accounts_json(accounts, completeness),
        "preferences": {
            "counts_forced": chosen.counts_forced,
            "stablecoins_at_market": chosen.stablecoins_at_market,
        },
        "trouble": trouble.now(),
        "last_changed_day": last_day.isoformat() if last_day else None,
    }


def _last_day(owner_id: int) -> date | None:
    """With volume. Of each account by the end of an index, and not by all of its days."""
    newest = DailyVolume.objects.filter(credential=OuterRef("pk")).order_by("-day").values("day")[:1]
    found = ExchangeCredential.objects.filter(owner_id=owner_id).annotate(last=Subquery(newest))
    day: date | None = found.aggregate(day=Max("last"))["day"]
    return day


def accounts_json(accounts: Sequence[ExchangeCredential], completeness: Completeness) -> list[dict[str, Any]]:
    """How accounts fare: key, health, freshness, completeness and the progress of the backfill, each."""
    reading = [account for account in accounts if account.is_backfilling and completeness.unread(account.pk)]
    paces = _paces(reading, completeness.now) if reading else {}
    return [_account_json(account, completeness, paces.get(account.pk)) for account in accounts]


@dataclass(slots=True)
class _Pace:
    """How fast an account's past was read lately."""

    seconds: float = 0.0  # that were spent
    settled: float = 0.0  # seconds of history that were settled
    new: int = 0
    reached_at: datetime | None = None


PACE_OVER = timedelta(minutes=5)


def _paces(accounts: Sequence[ExchangeCredential], now: datetime) -> dict[int, _Pace]:
    paces: dict[int, _Pace] = {}
    lately = Q(ended_at=None, outcome=SyncRun.Outcome.RUNNING) | Q(ended_at__gt=now - PACE_OVER)
    runs = SyncRun.objects.filter(lately, credential__in=accounts, reached_at__isnull=False).order_by("started_at")
    for run in runs:
        pace = paces.setdefault(run.credential_id, _Pace())
        pace.seconds += ((run.ended_at or now) - run.started_at).total_seconds()
        pace.settled += run.settled_seconds
        pace.new += run.new
        pace.reached_at = run.reached_at
    return paces


def _backfill_json(unread: timedelta, pace: _Pace | None) -> dict[str, Any] | None:
    """Where a running backfill is and how fast; None where nothing older is being read. The time left is a guess."""
    if not unread or not pace or not pace.reached_at:
        return None
    speed = pace.settled / pace.seconds if pace.seconds > 1 else 0
    left = unread / speed if speed else None
    return {
        "reached_at": pace.reached_at.isoformat(),
        "fills_per_second": round(pace.new / pace.seconds, 1) if pace.seconds > 1 else None,
        "days_per_second": round(speed / 86_400, 2) if speed else None,
        "seconds_left": round(left.total_seconds()) if left else None,
        "left": f"about {in_words(left)} left" if left else "",
    }


def _account_json(account: ExchangeCredential, completeness: Completeness, pace: _Pace | None) -> dict[str, Any]:
    complete_from = completeness.complete_from(account.pk)
    progress = completeness.progress(account.pk)
    lacks = completeness.lacks[account.pk]
    return {
        "id": account.pk,
        "venue": account.venue,
        "venue_name": account.venue_name,
        "label": account.label,
        "account_ref": account.account_ref,
        "description": account.description,
        "is_enabled": account.is_enabled,
        "is_backfilling": account.is_backfilling,
        "is_reading": bool(account.leased_until and account.leased_until > completeness.now),
        "health": {
            "state": account.health_state,
            "reason": account.health_reason,
            "text": account.health_text,
            "at": account.health_at.isoformat() if account.health_at else None,
        },
        "verified_at": account.verified_at.isoformat() if account.verified_at else None,
        "may_trade": account.may_trade,
        "may_withdraw": account.may_withdraw,
        "expires_at": account.expires_at.isoformat() if account.expires_at else None,
        "fresh_at": account.fresh_at.isoformat() if account.fresh_at else None,
        "is_stale": any(lack.state == "stale" for lack in lacks),
        "history_from": account.history_from.isoformat(),
        "complete_from": complete_from.isoformat() if complete_from else None,
        "complete": not lacks and not completeness.held[account.pk],
        "lacks": [as_json(lack) for lack in lacks],
        "held": len(completeness.held[account.pk]),
        "progress": round(progress, 4),
        "backfill": _backfill_json(completeness.unread(account.pk), pace) if account.is_backfilling else None,
        "retired_at": account.retired_at.isoformat() if account.retired_at else None,
        "related": account.related,
    }


@dataclass(slots=True)
class _Figures:
    fills: int = 0
    notional_usd: Decimal = Decimal(0)
    forced_fills: int = 0
    forced_usd: Decimal = Decimal(0)
    not_priced: int = 0

    def plus(self, other: "_Figures") -> "_Figures":
        return _Figures(
            self.fills + other.fills,
            self.notional_usd + other.notional_usd,
            self.forced_fills + other.forced_fills,
            self.forced_usd + other.forced_usd,
            self.not_priced + other.not_priced,
        )


@dataclass(frozen=True, slots=True)
class _Span:
    """The figures of a stretch of time up to now by account, and of the same stretch before it."""

    window: Window
    figures: dict[int, _Figures]
    before: Window | None
    figures_before: dict[int, _Figures]


def _spans(books: Books, chosen: Preferences, *, today: date, now: datetime) -> tuple[dict[str, _Span], date | None]:
    """By name; and the last day with volume, if it is within what is compared."""
    windows = {span: _windows(span, books.accounts, today=today, now=now) for span in SPANS}
    # What begins or ends in the middle of a day: the last 24 hours, those before, and where each earlier stretch ends.
    parts = [window for window in windows["24h"] if window]
    parts += [Window(start_of(before.until.date()), before.until) for _, before in windows.values() if before]
    rolling = dict(zip(parts, rolled(books, parts, chosen), strict=True))
    first = min(before.since for span, (_, before) in windows.items() if before and span != "24h").date()
    days = _days(books, first)
    found = {}
    for span, (window, before) in windows.items():
        if before is None:
            found[span] = _Span(window, _all(books, window.since.date()), None, {})
        elif span == "24h":
            found[span] = _Span(window, rolling[window], before, rolling[before])
        else:
            last = before.until.date()
            figures = _between(days, before.since.date(), last)
            for pk, part in rolling[Window(start_of(last), before.until)].items():
                figures[pk] = figures.get(pk, _Figures()).plus(part)
            found[span] = _Span(window, _between(days, window.since.date(), date.max), before, figures)
    return found, max((known[-1] for known, _ in days.values()), default=None)


def _windows(
    span: str, accounts: Sequence[ExchangeCredential], *, today: date, now: datetime
) -> tuple[Window, Window | None]:
    """The stretch of time, and the one before it."""
    if span == "24h":
        window = Window(now - timedelta(hours=24), now)
        return window, Window(window.since - timedelta(hours=24), window.since)
    if span == "all":
        return Window(min((account.history_from for account in accounts), default=now), now), None
    if span == "month":
        since = start_of(today.replace(day=1))
        earlier = start_of((today.replace(day=1) - timedelta(days=1)).replace(day=1))
    else:
        since = start_of(today - timedelta(days=SPAN_DAYS[span] - 1))
        earlier = since - timedelta(days=SPAN_DAYS[span])
    return Window(since, now), Window(earlier, min(since, earlier + (now - since)))  # a short February has no 30th


SUMS: dict[str, Any] = {
    "count": Sum("fills"), "usd": UsdSum("notional_usd"), "forced_count": Sum("forced_fills"),
    "forced": UsdSum("forced_usd"), "lost": Sum("fills_not_priced"),
}  # fmt: skip


def _all(books: Books, since: date) -> dict[int, _Figures]:
    rows = added(Filter(since=since), books, ("credential",), "day", SUMS)
    return {pk: _Figures(*figures) for (pk,), figures in rows.items()}


Days = dict[int, tuple[list[date], list[list[Any]]]]


def _days(books: Books, since: date) -> Days:
    """Of each account the days with fills, in order, and of each figure what all before each of them, and all, come
    to."""
    rows: dict[int, list[tuple[date, list[Any]]]] = defaultdict(list)
    for (day, pk), figures in added(Filter(since=since), books, ("day", "credential"), "day", SUMS).items():
        rows[pk].append((day, figures))
    found: Days = {}
    for pk, of_days in rows.items():
        of_days.sort(key=itemgetter(0))
        columns = zip(*(figures for _, figures in of_days), strict=True)
        found[pk] = [day for day, _ in of_days], [list(accumulate(column, initial=0)) for column in columns]
    return found


def _between(days: Days, since: date, until: date) -> dict[int, _Figures]:
    """What the days from `since` until `until` come to, of the accounts that have some."""
    found = {}
    for pk, (known, sums) in days.items():
        first, end = bisect_left(known, since), bisect_left(known, until)
        if first < end:
            found[pk] = _Figures(*(column[end] - column[first] for column in sums))
    return found


def rolled(books: Books, windows: Sequence[Window], chosen: Preferences) -> list[dict[int, _Figures]]:
    """By account, what was traded in each window. They begin and end in the middle of a day."""
    sums = quoted(books, windows)
    needed = {(day, quote) for parts in sums for _, day, quote in parts}
    prices = usd_prices(needed, at_market=chosen.stablecoins_at_market)
    found = []
    for parts in sums:
        figures: dict[int, _Figures] = {}
        for (pk, day, quote), part in parts.items():
            total = figures.setdefault(pk, _Figures())
            total.fills += part.fills
            total.forced_fills += part.forced_fills
            usd = prices.get((day, quote))
            if usd is None:
                total.not_priced += part.fills + part.forced_fills
            else:
                total.notional_usd += to_usd_places(EXACT.multiply(part.notional, usd))
                total.forced_usd += to_usd_places(EXACT.multiply(part.forced_notional, usd))
        found.append(figures)
    return found


def _total(
    span: _Span, completeness: Completeness, accounts: Sequence[ExchangeCredential], chosen: Preferences
) -> dict[str, Any]:
    pks = [account.pk for account in accounts]
    figures = {pk: span.figures[pk] for pk in pks if pk in span.figures}
    unpriced = [
        f"{account}: {without_price(figures[account.pk].not_priced)}"
        for account in accounts
        if account.pk in figures and figures[account.pk].not_priced
    ]
    verdict = completeness.of(span.window, pks, unpriced=unpriced, is_all=span.before is None)
    usd, forced = _usd_of(figures.values(), chosen)
    forced_fills = sum(item.forced_fills for item in figures.values())
    complete_from = completeness.complete_since(pks)
    return {
        "since": span.window.since.isoformat(),
        "notional_usd": plain(usd),
        "forced_usd": plain(forced),
        "forced_fills": forced_fills,
        "fills": sum(item.fills for item in figures.values()) + (forced_fills if chosen.counts_forced else 0),
        "fills_not_priced": sum(item.not_priced for item in figures.values()),
        "complete": verdict.complete,
        "stale": verdict.stale,
        "complete_from": complete_from.isoformat() if complete_from else None,
        "why": shortened(verdict.why),
        "before": _before(span, completeness, pks, chosen, usd),
    }


def _before(
    span: _Span, completeness: Completeness, pks: list[int], chosen: Preferences, usd: Decimal
) -> dict[str, Any] | None:
    if span.before is None:
        return None
    found = [span.figures_before[pk] for pk in pks if pk in span.figures_before]
    before, _ = _usd_of(found, chosen)
    verdict = completeness.of(span.before, pks)
    return {
        "since": span.before.since.isoformat(),
        "until": span.before.until.isoformat(),
        "notional_usd": plain(before),
        "complete": verdict.complete and not any(item.not_priced for item in found),
        "change": change(usd, before),
    }


def _usd_of(figures: Iterable[_Figures], chosen: Preferences) -> tuple[Decimal, Decimal]:
    """The volume as its owner counts, and the forced part."""
    usd = forced = Decimal(0)
    for item in figures:
        usd += item.notional_usd
        forced += item.forced_usd
    return (usd + forced if chosen.counts_forced else usd), forced


def change(now_usd: Decimal, before_usd: Decimal) -> str:
    """ "+12.3%", "−4.0%", "0.0%"; empty where there is nothing to compare with."""
    if not before_usd:
        return ""
    ratio = EXACT.divide(EXACT.subtract(now_usd, before_usd) * 100, before_usd)
    percent = ratio.quantize(Decimal("0.1"), context=EXACT)
    sign = "" if not percent else "−" if percent < 0 else "+"
    return f"{sign}{abs(percent):,}%"
