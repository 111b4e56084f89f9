"""What page, API, socket and command line show, already shaped. Every query starts from the owner."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, F, Max, Q, Sum, Value
from django.db.models.functions import Trunc

from exchanges.fields import DecimalSum, UsdSum, plain, to_usd_places
from exchanges.models import ExchangeCredential, Fill
from exchanges.venues.base import EXACT, FORCED, Window
from volume.completeness import Completeness, as_json
from volume.models import DailyVolume
from volume.rollup import start_of, usd_prices

KEYS = ("day", "venue", "market", "credential")
GRANULARITIES = ("day", "week", "month")
USD_COLUMNS = ("notional_usd", "maker_usd", "taker_usd", "buy_usd", "sell_usd", "forced_usd", "fees_usd")
COLUMNS = (
    "fills", "base_qty", "notional_usd", "maker_usd", "taker_usd", "buy_usd", "sell_usd", "forced_fills", "forced_usd",
    "fees_usd", "complete",
)  # fmt: skip
SPANS = {"24h": timedelta(hours=24), "7d": 7, "14d": 14, "30d": 30, "all": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which of an owner's volume is meant. Days are UTC; `until` is exclusive; None is no bound."""

    owner_id: int | None = None  # None means everybody's: for the command line alone
    since: date | None = None
    until: date | None = None
    venues: tuple[str, ...] = ()
    markets: tuple[str, ...] = ()
    credentials: tuple[int, ...] = field(default=())

    def accounts(self) -> list[ExchangeCredential]:
        found = ExchangeCredential.objects.all()
        if self.owner_id is not None:
            found = found.filter(owner_id=self.owner_id)
        if self.venues:
            found = found.filter(venue__in=self.venues)
        if self.credentials:
            found = found.filter(pk__in=self.credentials)
        return list(found)


def volume(
    wanted: Filter, *, by: Sequence[str] = ("day",), granularity: str = "day", fees_apart: bool = False, now: datetime
) -> list[dict[str, Any]]:
    """One row per combination of the keys `by`, in their order: the keys, then COLUMNS. Amounts are Decimals.

    `base_qty` is None unless rows are per market: sizes of different coins do not add up. `why` says what an
    incomplete row lacks. With `fees_apart` that is said of the volume alone, and `fees_complete` of the fees.
    """
    accounts = wanted.accounts()
    days = DailyVolume.objects.filter(credential__in=[account.pk for account in accounts])
    if wanted.since:
        days = days.filter(day__gte=wanted.since)
    if wanted.until:
        days = days.filter(day__lt=wanted.until)
    if wanted.markets:
        days = days.filter(symbol__in=wanted.markets)
    names = {
        "day": Trunc("day", granularity) if granularity != "day" else F("day"),
        "venue": F("credential__venue"),
        "market": F("symbol"),
        "credential": F("credential_id"),
    }
    keys = {f"by_{key}": names[key] for key in by}
    sums: dict[str, Any] = {column: UsdSum(column) for column in USD_COLUMNS}
    if "market" in by:
        sums["base_qty"] = DecimalSum("base_qty")
    found: Any = days.order_by()
    found = found.values(**keys) if keys else found.annotate(everything=Value(1)).values("everything")
    rows = list(
        found.annotate(
            fill_count=Sum("fills"), forced_count=Sum("forced_fills"), not_priced=Sum("fills_not_priced"),
            fees_lost=Sum("fees_not_priced_fills"),
            **{f"sum_{column}": expression for column, expression in sums.items()},
        ).order_by(*keys)
    )  # fmt: skip
    completeness = Completeness(accounts, now=now)
    shaped = []
    for row in rows:
        key_values = {key: row[f"by_{key}"] for key in by}
        window = _window_of(key_values.get("day"), granularity, wanted, accounts, now)
        verdict = completeness.of(
            window, _accounts_of(key_values, accounts), not_priced=row["not_priced"] or 0,
            fees_not_priced=0 if fees_apart else row["fees_lost"] or 0,
            is_all="day" not in by and wanted.since is None,
        )  # fmt: skip
        shaped.append(
            key_values
            | {
                "fills": row["fill_count"] or 0,
                "base_qty": row.get("sum_base_qty"),
                "forced_fills": row["forced_count"] or 0,
            }
            | {column: row[f"sum_{column}"] for column in USD_COLUMNS}
            | {"complete": verdict.complete, "why": list(verdict.why)}
            | ({"fees_complete": not row["fees_lost"]} if fees_apart else {})
        )
    return shaped


def as_strings(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `volume` for JSON: amounts as plain decimal text, days as ISO text."""
    shown = {}
    for key, value in row.items():
        if isinstance(value, Decimal):
            value = plain(value)
        elif isinstance(value, date):
            value = value.isoformat()
        shown[key] = value
    return shown


def summary(owner_id: int, *, now: datetime) -> dict[str, Any]:
    """The owner's volume at a glance: totals per span, per venue, and how every account fares. Amounts are text.

    "24h" slides; "7d" and longer are whole UTC days, today included. "all" goes back as far as was asked for.
    """
    accounts = Filter(owner_id=owner_id).accounts()
    completeness = Completeness(accounts, now=now)
    today = now.astimezone(UTC).date()
    venues = list(dict.fromkeys(account.venue for account in accounts))
    totals: dict[str, Any] = {}
    per_venue: dict[str, dict[str, Any]] = {venue: {} for venue in venues}
    for span in SPANS:
        since = _since(span, today, accounts, now)
        figures = _rolling(accounts, since) if span == "24h" else _days(accounts, since.date())
        window = Window(since, now)
        totals[span] = _total(
            figures.values(), window, completeness, [account.pk for account in accounts], is_all=span == "all"
        )
        for venue in venues:
            own = [account.pk for account in accounts if account.venue == venue]
            per_venue[venue][span] = _total(
                (figures[pk] for pk in own if pk in figures), window, completeness, own, is_all=span == "all"
            )
    changed = DailyVolume.objects.filter(credential__in=[account.pk for account in accounts]).aggregate(day=Max("day"))
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
        "accounts": [account_json(account, completeness) for account in accounts],
        "last_changed_day": changed["day"].isoformat() if changed["day"] else None,
    }


def account_json(account: ExchangeCredential, completeness: Completeness) -> dict[str, Any]:
    """How one account fares: its key, health, freshness, completeness and the progress of its backfill."""
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
        "related": account.related,
    }


def markets(wanted: Filter, *, now: datetime) -> list[dict[str, Any]]:
    """Volume by venue and market, largest first."""
    rows = volume(wanted, by=("venue", "market"), fees_apart=True, now=now)
    return sorted(rows, key=lambda row: row["notional_usd"], reverse=True)


def _since(span: str, today: date, accounts: list[ExchangeCredential], now: datetime) -> datetime:
    length = SPANS[span]
    if isinstance(length, timedelta):
        return now - length
    if isinstance(length, int):
        return start_of(today - timedelta(days=length - 1))
    return min((account.history_from for account in accounts), default=now)


@dataclass(slots=True)
class _Figures:
    fills: int = 0
    notional_usd: Decimal = Decimal(0)
    forced_usd: Decimal = Decimal(0)
    not_priced: int = 0


def _days(accounts: list[ExchangeCredential], since: date) -> dict[int, _Figures]:
    rows = (
        DailyVolume.objects.filter(credential__in=[account.pk for account in accounts], day__gte=since)
        .order_by().values("credential_id")
        .annotate(
            count=Sum("fills"), usd=UsdSum("notional_usd"), forced=UsdSum("forced_usd"), lost=Sum("fills_not_priced")
        )
    )  # fmt: skip
    return {row["credential_id"]: _Figures(row["count"], row["usd"], row["forced"], row["lost"]) for row in rows}


def _rolling(accounts: list[ExchangeCredential], since: datetime) -> dict[int, _Figures]:
    """From the fills themselves: the span begins in the middle of a day."""
    parts = list(
        Fill.objects.filter(credential__in=[account.pk for account in accounts], executed_at__gte=since)
        .order_by().values("credential_id", "day", "quote")
        .annotate(
            count=Count("pk", filter=~Q(kind__in=FORCED)), all=Count("pk"),
            ordinary=UsdSum("notional", filter=~Q(kind__in=FORCED)),
            forced=UsdSum("notional", filter=Q(kind__in=FORCED)),
        )
    )  # fmt: skip
    prices = usd_prices({(part["day"], part["quote"]) for part in parts})
    figures: dict[int, _Figures] = {}
    for part in parts:
        total = figures.setdefault(part["credential_id"], _Figures())
        total.fills += part["count"]
        usd = prices.get((part["day"], part["quote"]))
        if usd is None:
            total.not_priced += part["all"]
        else:
            total.notional_usd += to_usd_places(EXACT.multiply(part["ordinary"], usd))
            total.forced_usd += to_usd_places(EXACT.multiply(part["forced"], usd))
    return figures


def _total(
    figures: Iterable[_Figures], window: Window, completeness: Completeness, accounts: list[int], *, is_all: bool
) -> dict[str, Any]:
    found = list(figures)
    not_priced = sum(item.not_priced for item in found)
    verdict = completeness.of(window, accounts, not_priced=not_priced, is_all=is_all)
    return {
        "since": window.since.isoformat(),
        "notional_usd": plain(sum((item.notional_usd for item in found), Decimal(0))),
        "forced_usd": plain(sum((item.forced_usd for item in found), Decimal(0))),
        "fills": sum(item.fills for item in found),
        "complete": verdict.complete,
        "why": list(verdict.why),
    }


def _window_of(
    day: date | None, granularity: str, wanted: Filter, accounts: list[ExchangeCredential], now: datetime
) -> Window:
    if day is not None:
        return Window(start_of(day), min(now, start_of(_next(day, granularity))))
    since = start_of(wanted.since) if wanted.since else min((item.history_from for item in accounts), default=now)
    return Window(since, min(now, start_of(wanted.until)) if wanted.until else now)


def _next(day: date, granularity: str) -> date:
    if granularity == "month":
        return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return day + timedelta(days=7 if granularity == "week" else 1)


def _accounts_of(keys: dict[str, Any], accounts: list[ExchangeCredential]) -> list[int]:
    return [
        account.pk
        for account in accounts
        if keys.get("venue", account.venue) == account.venue and keys.get("credential", account.pk) == account.pk
    ]


RANGES = {"7d": 7, "30d": 30, "90d": 90, "1y": 365, "2y": 731}
WEEKLY_FROM = 181  # days; more bars than pixels help nobody


def first_day(range_name: str, *, now: datetime) -> date:
    """The first UTC day of a range; ranges shown by week begin on a Monday."""
    first = now.astimezone(UTC).date() - timedelta(days=RANGES[range_name] - 1)
    return first - timedelta(days=first.weekday()) if RANGES[range_name] >= WEEKLY_FROM else first


def series(owner_id: int, *, range_name: str, now: datetime) -> dict[str, Any]:
    """Volume by venue for the chart: one label per UTC day, or per week (from Monday) in long ranges.

    Every period of the range is there; `complete` says of each whether it can be trusted, `why` what it lacks.
    """
    today, first = now.astimezone(UTC).date(), first_day(range_name, now=now)
    granularity = "week" if RANGES[range_name] >= WEEKLY_FROM else "day"
    periods = [first]
    while (following := _next(periods[-1], granularity)) <= today:
        periods.append(following)
    wanted = Filter(owner_id=owner_id, since=first)
    accounts = wanted.accounts()
    completeness = Completeness(accounts, now=now)
    rows = volume(wanted, by=("day", "venue"), granularity=granularity, fees_apart=True, now=now)
    amounts = {(row["day"], row["venue"]): row["notional_usd"] for row in rows}
    said: dict[date, list[str]] = {}  # what the rows of a period lack beyond what was not read
    for row in rows:
        said.setdefault(row["day"], []).extend(row["why"])
    verdicts = [completeness.of(_window_of(day, granularity, wanted, accounts, now)) for day in periods]
    why = [
        list(dict.fromkeys([*verdict.why, *said.get(day, [])])) for day, verdict in zip(periods, verdicts, strict=True)
    ]
    return {
        "range": range_name,
        "granularity": granularity,
        "days": [day.isoformat() for day in periods],
        "venues": [
            {
                "venue": venue,
                "name": name,
                "notional_usd": [plain(amounts.get((day, venue), Decimal(0))) for day in periods],
            }
            for venue, name in {account.venue: account.venue_name for account in accounts}.items()
        ],
        "complete": [not reasons for reasons in why],
        "why": why,
    }
