"""Rows of volume, kinds and fills, as page, API and command line show them. Every query starts from the owner."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import F, Q, QuerySet, Sum, Value
from django.db.models.functions import Trunc

from exchanges.fields import DecimalSum, UsdSum, plain
from exchanges.models import ExchangeCredential, Fill
from exchanges.venues.base import EXACT, FORCED, Kind, Window
from volume.completeness import Completeness
from volume.models import DailyVolume, Preferences
from volume.rollup import start_of

KEYS = ("day", "venue", "market", "credential")
GRANULARITIES = ("day", "week", "month")
USD_COLUMNS = ("notional_usd", "maker_usd", "taker_usd", "buy_usd", "sell_usd", "forced_usd", "fees_usd")
COLUMNS = (
    "fills", "base_qty", "notional_usd", "maker_usd", "taker_usd", "buy_usd", "sell_usd", "forced_fills", "forced_usd",
    "fees_usd", "complete",
)  # fmt: skip


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
        said[at] += [f"{names[pk]}: {without_price(count)}" for pk, count in counts.items() if count]
    for at, by_account in fees.items():
        said[at] += [part.words(names[pk]) for pk, part in by_account.items()]
    return said


def without_price(fills: int) -> str:
    """The sentence on so many fills without a price."""
    return f"{'1 fill is' if fills == 1 else f'{fills:,} fills are'} not priced in dollars and not counted."


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
            found[kind].add(part["fills"], Decimal(part["usd"]), part["not_priced"], is_counted=is_counted)
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


def markets(wanted: Filter, *, now: datetime) -> list[dict[str, Any]]:
    """Volume by venue and market, largest first."""
    rows = volume(wanted, by=("venue", "market"), fees_apart=True, now=now)
    return sorted(rows, key=lambda row: row["notional_usd"], reverse=True)


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
