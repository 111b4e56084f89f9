"""What page, API, socket and command line show, already shaped. Every query starts from the owner."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, F, Max, Q, QuerySet, Sum, Value
from django.db.models.functions import Trunc

from exchanges.doctor import in_words
from exchanges.fields import DecimalSum, UsdSum, plain, to_usd_places
from exchanges.models import ExchangeCredential, Fill, SyncRun
from exchanges.venues.base import EXACT, FORCED, Kind, Window
from volume.completeness import Completeness, as_json
from volume.models import DailyVolume, Preferences
from volume.rollup import start_of, usd_prices

KEYS = ("day", "venue", "market", "credential")
GRANULARITIES = ("day", "week", "month")
USD_COLUMNS = ("notional_usd", "maker_usd", "taker_usd", "buy_usd", "sell_usd", "forced_usd", "fees_usd")
COLUMNS = (
    "fills", "base_qty", "notional_usd", "maker_usd", "taker_usd", "buy_usd", "sell_usd", "forced_fills", "forced_usd",
    "fees_usd", "complete",
)  # fmt: skip
SPANS = ("24h", "today", "7d", "14d", "30d", "90d", "month", "all")
SPAN_DAYS = {"today": 1, "7d": 7, "14d": 14, "30d": 30, "90d": 90}
MOST_REASONS = 12  # of one total; the accounts name them all


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

    `base_qty` is None unless rows are per market: sizes of different coins do not add up. Forced fills are in the
    volume of the accounts whose owners count them. `why` says what an incomplete row lacks. With `fees_apart` that is
    said of the volume alone, and `fees_complete` of the fees.
    """
    accounts = wanted.accounts()
    rows = sums(wanted, accounts, by=by, granularity=granularity)
    completeness = Completeness(accounts, now=now)
    lost = any(row["not_priced"] or row["fees_lost"] for row in rows)
    unpriced = _unpriced(wanted, accounts, by, granularity, fees_apart=fees_apart) if lost else {}
    shaped = []
    for row in rows:
        keys = {key: row[key] for key in by}
        window = _window_of(keys.get("day"), granularity, wanted, accounts, now)
        verdict = completeness.of(
            window, _accounts_of(keys, accounts), unpriced=unpriced.get(tuple(keys.values()), ()),
            is_all="day" not in by and wanted.since is None,
        )  # fmt: skip
        fees_lost = row.pop("fees_lost")
        row["fills_not_priced"] = row.pop("not_priced")
        row |= {"complete": verdict.complete, "stale": verdict.stale, "why": list(verdict.why)}
        shaped.append(row | {"fees_complete": not fees_lost} if fees_apart else row)
    return shaped


def sums(
    wanted: Filter, accounts: Sequence[ExchangeCredential], *, by: Sequence[str], granularity: str = "day"
) -> list[dict[str, Any]]:
    """The rows of `volume` without a word on what they lack, but with how many fills (`not_priced`, `fees_lost`) are
    not priced."""
    columns: dict[str, Any] = {f"sum_{column}": UsdSum(column) for column in USD_COLUMNS}
    if "market" in by:
        columns["sum_base_qty"] = DecimalSum("base_qty")
    if counting := counting_forced(accounts):
        counted = Q(credential__in=counting)
        columns |= {
            "in_fills": Sum("forced_fills", filter=counted),
            "in_qty": DecimalSum("forced_qty", filter=counted),
            "in_usd": UsdSum("forced_usd", filter=counted),
            "in_maker": UsdSum("forced_maker_usd", filter=counted),
            "in_buy": UsdSum("forced_buy_usd", filter=counted),
        }
    keys = _keys(by, granularity)
    found: Any = _days_of(wanted, accounts).order_by()
    found = found.values(**keys) if keys else found.annotate(everything=Value(1)).values("everything")
    found = found.annotate(
        sum_fills=Sum("fills"), sum_forced_fills=Sum("forced_fills"), not_priced=Sum("fills_not_priced"),
        fees_lost=Sum("fees_not_priced_fills"), **columns,
    ).order_by(*keys)  # fmt: skip
    rows = []
    for row in found:
        if counting:
            _count_forced_in(row)
        rows.append(
            {key: row[f"by_{key}"] for key in by}
            | {"base_qty": row.get("sum_base_qty")}
            | {column: row[f"sum_{column}"] or 0 for column in ("fills", "forced_fills")}
            | {column: row[f"sum_{column}"] for column in USD_COLUMNS}
            | {column: row[column] or 0 for column in ("not_priced", "fees_lost")}
        )
    return rows


def amounts(
    wanted: Filter, accounts: Sequence[ExchangeCredential], *, by: Sequence[str]
) -> dict[tuple[Any, ...], Decimal]:
    """The volume alone, by the values of the keys: where many rows are wanted and nothing else of them."""
    keys = _keys(by, "day")
    figures: dict[str, Any] = {"usd": UsdSum("notional_usd")}
    if counting := counting_forced(accounts):
        figures["forced"] = UsdSum("forced_usd", filter=Q(credential__in=counting))
    found: Any = _days_of(wanted, accounts).order_by().values_list(*keys.values()).annotate(**figures)
    return {tuple(row[: len(keys)]): sum(row[len(keys) :], Decimal(0)) for row in found}


def days_not_priced(wanted: Filter, accounts: Sequence[ExchangeCredential]) -> set[date]:
    """The days with a fill that is in no dollar figure."""
    return set(_days_of(wanted, accounts).filter(fills_not_priced__gt=0).order_by().values_list("day", flat=True))


def _keys(by: Sequence[str], granularity: str) -> dict[str, Any]:
    names = {
        "day": Trunc("day", granularity) if granularity != "day" else F("day"),
        "venue": F("credential__venue"),
        "market": F("symbol"),
        "credential": F("credential_id"),
    }
    return {f"by_{key}": names[key] for key in by}


def counting_forced(accounts: Iterable[ExchangeCredential]) -> list[int]:
    """Those of the accounts whose owners count liquidations and auto-deleveraging."""
    owners = {account.owner_id for account in accounts}
    chosen = Preferences.objects.filter(owner__in=owners, counts_forced=True).values_list("owner_id", flat=True)
    counting = set(chosen)
    return [account.pk for account in accounts if account.owner_id in counting]


def _count_forced_in(row: dict[str, Any]) -> None:
    usd, maker, buy = row["in_usd"], row["in_maker"], row["in_buy"]
    row["sum_fills"] = (row["sum_fills"] or 0) + (row["in_fills"] or 0)
    more = {"notional": usd, "maker": maker, "taker": usd - maker, "buy": buy, "sell": usd - buy}
    for name, amount in more.items():
        row[f"sum_{name}_usd"] += amount
    if "sum_base_qty" in row:
        row["sum_base_qty"] = EXACT.add(row["sum_base_qty"], row["in_qty"])


def _days_of(wanted: Filter, accounts: Iterable[ExchangeCredential]) -> QuerySet[DailyVolume]:
    days = DailyVolume.objects.filter(credential__in=[account.pk for account in accounts])
    if wanted.since:
        days = days.filter(day__gte=wanted.since)
    if wanted.until:
        days = days.filter(day__lt=wanted.until)
    if wanted.markets:
        days = days.filter(symbol__in=wanted.markets)
    return days


def _unpriced(
    wanted: Filter, accounts: Sequence[ExchangeCredential], by: Sequence[str], granularity: str, *, fees_apart: bool
) -> dict[tuple[Any, ...], list[str]]:
    """By the values of the keys, sentences on what has no price in dollars, an account at a time."""
    fills: dict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
    fees: dict[tuple[Any, ...], dict[int, _Fees]] = defaultdict(lambda: defaultdict(_Fees))
    keys = _keys(by, granularity)
    lost = Q(fills_not_priced__gt=0) | Q(fees_not_priced_fills__gt=0)
    rows: Any = _days_of(wanted, accounts).filter(lost).order_by()
    rows = rows.annotate(**keys).values(
        *keys, "credential_id", "fills_not_priced", "fees_not_priced_fills", "fees_not_priced"
    )
    for row in rows:
        at, pk = tuple(row[key] for key in keys), row["credential_id"]
        fills[at][pk] += row["fills_not_priced"]
        if not fees_apart and row["fees_not_priced_fills"]:
            fees[at][pk].add(row["fees_not_priced_fills"], row["fees_not_priced"])
    names = {account.pk: str(account) for account in accounts}
    said: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for at, counts in fills.items():
        said[at] += [fills_without_price(names[pk], count) for pk, count in counts.items() if count]
    for at, by_account in fees.items():
        said[at] += [part.words(names[pk]) for pk, part in by_account.items()]
    return said


def fills_without_price(account: str, count: int) -> str:
    return f"{account}: {'1 fill is' if count == 1 else f'{count:,} fills are'} not priced in dollars and not counted."


@dataclass(slots=True)
class _Fees:
    """Fees of an account that have no price in dollars."""

    fills: int = 0
    amounts: dict[str, Decimal] = field(default_factory=dict)

    def add(self, fills: int, amounts: dict[str, str]) -> None:
        self.fills += fills
        for asset, amount in amounts.items():
            self.amounts[asset] = EXACT.add(self.amounts.get(asset, Decimal(0)), Decimal(amount))

    def words(self, account: str) -> str:
        amounts = ", ".join(f"{plain(amount)} {asset}" for asset, amount in sorted(self.amounts.items()))
        fills = "1 fill" if self.fills == 1 else f"{self.fills:,} fills"
        return f"{account}: the fees of {fills} ({amounts}) are not priced in dollars and not in the fees."


def fills(wanted: Filter, *, window: Window | None = None) -> QuerySet[Fill]:
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


def kinds(wanted: Filter) -> list[dict[str, Any]]:
    """Fills and dollars by kind, plain trades first; `counts` says whether they are in the volume."""
    accounts = wanted.accounts()
    days, counting = _days_of(wanted, accounts), set(counting_forced(accounts))
    rows = days.exclude(kinds={}).values_list("credential_id", "kinds")
    found: dict[str, _Kind] = {kind: _Kind() for kind in Kind}
    for pk, parts in rows:
        for kind, part in parts.items():
            is_counted = kind not in FORCED or pk in counting
            found[kind].add(part["fills"], Decimal(part["usd"]), part.get("not_priced", 0), is_counted=is_counted)
    whole: Any = days.aggregate(fills=Sum("fills"), usd=UsdSum("notional_usd"), lost=Sum("fills_not_priced"))
    others = [item for kind, item in found.items() if kind not in FORCED]
    found[Kind.TRADE].add(
        (whole["fills"] or 0) - sum(item.fills for item in others),
        whole["usd"] - sum((item.usd for item in others), Decimal(0)),
        (whole["lost"] or 0) - sum(item.not_priced for item in found.values()),
        is_counted=True,
    )
    return [
        {
            "kind": kind,
            "label": KIND_WORDS[Kind(kind)],
            "fills": item.fills,
            "usd": plain(item.usd),
            "fills_not_priced": item.not_priced,
            "counts": item.counts,
        }
        for kind, item in found.items()
        if item.fills
    ]


KIND_WORDS = {
    Kind.TRADE: "order book",
    Kind.BLOCK: "block trades",
    Kind.SPREAD: "legs of spreads",
    Kind.RPI: "retail price improvement",
    Kind.TWAP: "TWAP orders",
    Kind.LIQUIDATION: "liquidations",
    Kind.ADL: "auto-deleveraging",
}


@dataclass(slots=True)
class _Kind:
    fills: int = 0
    usd: Decimal = Decimal(0)
    not_priced: int = 0
    counts: bool = True

    def add(self, fills: int, usd: Decimal, not_priced: int, *, is_counted: bool) -> None:
        self.fills += fills
        self.usd += usd
        self.not_priced += not_priced
        self.counts = is_counted


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

    "24h" slides; "today", "7d" and longer are whole UTC days, today included; "month" is the UTC month so far. "all"
    goes back as far as was asked for. `before` is the same stretch of the period before, up to the same time of day.
    """
    accounts = Filter(owner_id=owner_id).accounts()
    completeness, chosen = Completeness(accounts, now=now), Preferences.of(owner_id)
    today = now.astimezone(UTC).date()
    venues = list(dict.fromkeys(account.venue for account in accounts))
    totals: dict[str, Any] = {}
    per_venue: dict[str, dict[str, Any]] = {venue: {} for venue in venues}
    for span in SPANS:
        shown = _Span.of(span, accounts, chosen, today=today, now=now)
        totals[span] = _total(shown, completeness, accounts, chosen)
        for venue in venues:
            own = [account for account in accounts if account.venue == venue]
            per_venue[venue][span] = _total(shown, completeness, own, chosen)
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
        "accounts": accounts_json(accounts, completeness),
        "preferences": {
            "counts_forced": chosen.counts_forced,
            "stablecoins_at_market": chosen.stablecoins_at_market,
        },
        "last_changed_day": changed["day"].isoformat() if changed["day"] else None,
    }


def accounts_json(accounts: Sequence[ExchangeCredential], completeness: Completeness) -> list[dict[str, Any]]:
    """How accounts fare: key, health, freshness, completeness and the progress of the backfill, each."""
    paces = _paces(accounts, completeness.now)
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


def markets(wanted: Filter, *, now: datetime) -> list[dict[str, Any]]:
    """Volume by venue and market, largest first."""
    rows = volume(wanted, by=("venue", "market"), fees_apart=True, now=now)
    return sorted(rows, key=lambda row: row["notional_usd"], reverse=True)


@dataclass(slots=True)
class _Figures:
    fills: int = 0
    notional_usd: Decimal = Decimal(0)
    forced_fills: int = 0
    forced_usd: Decimal = Decimal(0)
    not_priced: int = 0

    def plus(self, other: "_Figures") -> "_Figures":
        return _Figures(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class _Span:
    """The figures of a stretch of time up to now by account, and of the same stretch before it."""

    window: Window
    figures: dict[int, _Figures]
    before: Window | None
    figures_before: dict[int, _Figures]

    @classmethod
    def of(
        cls, span: str, accounts: list[ExchangeCredential], chosen: Preferences, *, today: date, now: datetime
    ) -> "_Span":
        if span == "24h":
            window = Window(now - timedelta(hours=24), now)
            before = Window(window.since - timedelta(hours=24), window.since)
            return cls(window, _rolling(accounts, window, chosen), before, _rolling(accounts, before, chosen))
        if span == "all":
            since = min((account.history_from for account in accounts), default=now)
            return cls(Window(since, now), _days(accounts, since.date()), None, {})
        if span == "month":
            since = start_of(today.replace(day=1))
            earlier = start_of((today.replace(day=1) - timedelta(days=1)).replace(day=1))
        else:
            since = start_of(today - timedelta(days=SPAN_DAYS[span] - 1))
            earlier = since - timedelta(days=SPAN_DAYS[span])
        before = Window(earlier, min(since, earlier + (now - since)))  # a short February has no 30th
        last = before.until.date()
        figures = _days(accounts, before.since.date(), last)
        for pk, part in _rolling(accounts, Window(start_of(last), before.until), chosen).items():
            figures[pk] = figures.get(pk, _Figures()).plus(part)
        return cls(Window(since, now), _days(accounts, since.date()), before, figures)


def _days(accounts: list[ExchangeCredential], since: date, until: date = date.max) -> dict[int, _Figures]:
    rows: Any = (
        DailyVolume.objects.filter(
            credential__in=[account.pk for account in accounts], day__gte=since, day__lt=until
        )
        .order_by().values("credential_id")
        .annotate(
            count=Sum("fills"), usd=UsdSum("notional_usd"), forced_count=Sum("forced_fills"),
            forced=UsdSum("forced_usd"), lost=Sum("fills_not_priced"),
        )
    )  # fmt: skip
    columns = ("count", "usd", "forced_count", "forced", "lost")
    return {row["credential_id"]: _Figures(*(row[column] for column in columns)) for row in rows}


def _rolling(accounts: list[ExchangeCredential], window: Window, chosen: Preferences) -> dict[int, _Figures]:
    """From the fills themselves: the window begins or ends in the middle of a day."""
    if not window:
        return {}
    parts = list(
        Fill.objects.filter(
            credential__in=[account.pk for account in accounts], executed_at__gte=window.since,
            executed_at__lt=window.until,
        )
        .order_by().values("credential_id", "day", "quote")
        .annotate(
            count=Count("pk", filter=~Q(kind__in=FORCED)), all=Count("pk"),
            ordinary=UsdSum("notional", filter=~Q(kind__in=FORCED)),
            forced=UsdSum("notional", filter=Q(kind__in=FORCED)),
        )
    )  # fmt: skip
    prices = usd_prices({(part["day"], part["quote"]) for part in parts}, at_market=chosen.stablecoins_at_market)
    figures: dict[int, _Figures] = {}
    for part in parts:
        total = figures.setdefault(part["credential_id"], _Figures())
        total.fills += part["count"]
        total.forced_fills += part["all"] - part["count"]
        usd = prices.get((part["day"], part["quote"]))
        if usd is None:
            total.not_priced += part["all"]
        else:
            total.notional_usd += to_usd_places(EXACT.multiply(part["ordinary"], usd))
            total.forced_usd += to_usd_places(EXACT.multiply(part["forced"], usd))
    return figures


def _total(
    span: _Span, completeness: Completeness, accounts: Sequence[ExchangeCredential], chosen: Preferences
) -> dict[str, Any]:
    pks = [account.pk for account in accounts]
    figures = {pk: span.figures[pk] for pk in pks if pk in span.figures}
    unpriced = [
        fills_without_price(str(account), figures[account.pk].not_priced)
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


def shortened(why: Sequence[str]) -> list[str]:
    """What is missing, without the tail of a long list: every open page gets it with every change."""
    if len(why) <= MOST_REASONS:
        return list(why)
    return [*why[:MOST_REASONS], f"And {len(why) - MOST_REASONS:,} more; the pages of the accounts name them all."]


def _window_of(
    day: date | None, granularity: str, wanted: Filter, accounts: list[ExchangeCredential], now: datetime
) -> Window:
    if day is not None:
        return Window(start_of(day), min(now, start_of(next_period(day, granularity))))
    since = start_of(wanted.since) if wanted.since else min((item.history_from for item in accounts), default=now)
    return Window(since, min(now, start_of(wanted.until)) if wanted.until else now)


def next_period(day: date, granularity: str) -> date:
    if granularity == "month":
        return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return day + timedelta(days=7 if granularity == "week" else 1)


def _accounts_of(keys: dict[str, Any], accounts: list[ExchangeCredential]) -> list[int]:
    return [
        account.pk
        for account in accounts
        if keys.get("venue", account.venue) == account.venue and keys.get("credential", account.pk) == account.pk
    ]
