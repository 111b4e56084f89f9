"""From fills to days: recomputes, never adds up."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Case, Count, IntegerField, Max, Min, Q, QuerySet, Value, When

from exchanges.fields import DecimalSum, UsdField, UsdSum, as_units, plain, to_usd_places
from exchanges.models import ExchangeCredential, Fill
from exchanges.sync import Touched
from exchanges.venues.base import EXACT, FORCED, Kind, Liquidity, Side, Window
from volume import periods
from volume.models import AssetPrice, DailyVolume, Preferences
from volume.periods import start_of

ZERO = Decimal(0)
CHUNK = 200  # days rebuilt in one statement
STRETCH = 31  # days compared at once: of an account of a million fills, 200 take ten times the memory
OUTDATED_CHUNK = 500  # days and markets rebuilt in one transaction


@dataclass(slots=True)
class Totals:
    """The figures of one day and market, as DailyVolume holds them."""

    fills: int = 0
    base_qty: Decimal = ZERO
    notional_usd: Decimal = ZERO
    maker_usd: Decimal = ZERO
    taker_usd: Decimal = ZERO
    buy_usd: Decimal = ZERO
    sell_usd: Decimal = ZERO
    forced_fills: int = 0
    forced_usd: Decimal = ZERO
    forced_qty: Decimal = ZERO
    forced_maker_usd: Decimal = ZERO
    forced_buy_usd: Decimal = ZERO
    fees_usd: Decimal = ZERO
    realized_pnl_usd: Decimal | None = None
    fills_not_priced: int = 0
    fees_not_priced_fills: int = 0
    fees_not_priced: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)
    assets: list[str] = field(default_factory=list)
    is_at_market: bool = False


FIGURES = [DailyVolume._meta.get_field(name) for name in Totals.__dataclass_fields__]


def compute_days(credential: ExchangeCredential, days: Sequence[date] | None = None) -> dict[tuple[date, str], Totals]:
    """What the fills of these days (of all days) come to, by (day, symbol). Reads fills and prices, writes nothing."""
    fills = Fill.objects.filter(credential=credential)
    if days is not None:
        first, last = start_of(min(days)), start_of(max(days) + timedelta(days=1))  # what the index is sorted by
        fills = fills.filter(executed_at__gte=first, executed_at__lt=last, day__in=days)
    return _totals(credential, fills, key="day")


def totals_of_periods(credential: ExchangeCredential, periods: Sequence[Window]) -> dict[tuple[int, str], Totals]:
    """What the fills of each period come to, by (place among the periods, symbol), at the prices of their UTC days.

    The periods follow one another without a break.
    """
    first, last = periods[0].since, periods[-1].until
    fills = Fill.objects.filter(credential=credential, executed_at__gte=first, executed_at__lt=last)
    place = _place([period.until for period in periods], 0)
    return _totals(credential, fills.annotate(place=place), key="place")


def _place(ends: Sequence[datetime], first: int) -> Any:
    """Before which of the ends, numbered from `first` on, a fill is: by halves, as there may be ninety of them."""
    if len(ends) == 1:
        return Value(first, output_field=IntegerField())
    half = len(ends) // 2
    earlier, later = _place(ends[:half], first), _place(ends[half:], first + half)
    return Case(When(executed_at__lt=ends[half - 1], then=earlier), default=later, output_field=IntegerField())


def _totals(credential: ExchangeCredential, fills: QuerySet[Fill], *, key: str) -> dict[tuple[Any, str], Totals]:
    """By (`key`, symbol)."""
    parts: list[Any] = list(
        fills.order_by()
        .values(*dict.fromkeys((key, "day", "symbol", "quote", "fee_asset", "kind")))
        .annotate(
            count=Count("pk"),
            sum_qty=DecimalSum("qty"),
            sum_notional=UsdSum("notional"),
            maker=UsdSum("notional", filter=Q(liquidity=Liquidity.MAKER)),
            buy=UsdSum("notional", filter=Q(side=Side.BUY)),
            fees=DecimalSum("fee"),
            with_pnl=Count("realized_pnl"),
            pnl=DecimalSum("realized_pnl"),
        )
    )
    at_market = Preferences.of(credential.owner_id).stablecoins_at_market
    needed = {(part["day"], part[column]) for part in parts for column in ("quote", "fee_asset")}
    price = usd_prices(needed, at_market=at_market)
    totals: dict[tuple[Any, str], Totals] = defaultdict(lambda: Totals(is_at_market=at_market))
    for part in parts:
        _add(totals[part[key], part["symbol"]], part, price)
    return dict(totals)


def rebuild_days(credential: ExchangeCredential, touched: Touched) -> None:
    """Brings the days and markets up to date with the fills, inside the caller's transaction. Idempotent."""
    if not touched:
        return
    days = sorted({day for day, _ in touched})
    for start in range(0, len(days), CHUNK):
        chunk = days[start : start + CHUNK]
        computed = compute_days(credential, chunk)
        for day, symbol in touched - computed.keys():
            if day in chunk:  # its fills are gone
                DailyVolume.objects.filter(credential=credential, day=day, symbol=symbol).delete()
        _write(credential, {key: totals for key, totals in computed.items() if key in touched})
    periods.note_changed(credential, days)


def _write(credential: ExchangeCredential, computed: Mapping[tuple[date, str], Totals]) -> None:
    """By one statement of the driver's: through the ORM it took as long as all the rest of a page."""
    names = ["credential_id", "day", "symbol", *(column.name for column in FIGURES)]
    changed = ", ".join(f"{column.name} = excluded.{column.name}" for column in FIGURES)
    into = f"INSERT INTO {DailyVolume._meta.db_table} ({', '.join(names)})"
    otherwise = f"ON CONFLICT (credential_id, day, symbol) DO UPDATE SET {changed}"
    rows = [
        [credential.pk, str(day), symbol, *(_as_stored(column, getattr(totals, column.name)) for column in FIGURES)]
        for (day, symbol), totals in computed.items()
    ]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            kinds = ["bigint", "date", "text", *(column.db_type(connection) for column in FIGURES)]
            record = ", ".join(f"{name} {kind}" for name, kind in zip(names, kinds, strict=True))
            cursor.execute(
                f"{into} SELECT * FROM json_to_recordset(%s) AS row ({record}) {otherwise}",
                [json.dumps([dict(zip(names, row, strict=True)) for row in rows])],
            )
        else:
            cursor.executemany(f"{into} VALUES ({', '.join(['%s'] * len(names))}) {otherwise}", rows)


def _as_stored(column: Any, value: Any) -> Any:
    if isinstance(value, Decimal):
        return as_units(value) if isinstance(column, UsdField) else plain(value)
    return json.dumps(value) if isinstance(value, dict | list) and connection.vendor == "sqlite" else value


def rebuild_all(credential: ExchangeCredential) -> int:
    """Drops and recomputes every day of a credential. Returns how many (day, market) rows there are."""
    with transaction.atomic():
        credential.lock()
        periods.forget(credential)
        DailyVolume.objects.filter(credential=credential).delete()
        days = Fill.objects.filter(credential=credential).order_by("day").values_list("day", "symbol").distinct()
        touched = set(days)
        rebuild_days(credential, touched)
    return len(touched)


@dataclass(frozen=True, slots=True)
class Difference:
    """A stored figure that is not what the fills come to; None is a day that is not there."""

    day: date
    symbol: str
    column: str
    stored: Any
    computed: Any


def differences(credential: ExchangeCredential) -> list[Difference]:
    """Every stored figure that is not what the fills come to. Holds no more than some days of them at once."""
    found = []
    for days in stretches(credential):
        computed = compute_days(credential, days)
        for row in DailyVolume.objects.filter(credential=credential, day__gte=days[0], day__lte=days[-1]).iterator():
            should_be = computed.pop((row.day, row.symbol), None)
            if should_be is None:
                found.append(Difference(row.day, row.symbol, "notional_usd", row.notional_usd, None))
                continue
            for column, value in asdict(should_be).items():
                if getattr(row, column) != value:
                    found.append(Difference(row.day, row.symbol, column, getattr(row, column), value))
        for (day, symbol), totals in computed.items():
            found.append(Difference(day, symbol, "notional_usd", None, totals.notional_usd))
    return sorted(found, key=lambda item: (item.day, item.symbol, item.column))


def stretches(credential: ExchangeCredential) -> Iterator[list[date]]:
    """All days from the first to the last of which there is a fill or a stored figure, STRETCH at a time."""
    read = Fill.objects.filter(credential=credential).aggregate(first=Min("executed_at"), last=Max("executed_at"))
    kept = DailyVolume.objects.filter(credential=credential).aggregate(first=Min("day"), last=Max("day"))
    ends = [moment.date() for moment in read.values() if moment] + [day for day in kept.values() if day]
    if not ends:
        return
    first, length = min(ends), (max(ends) - min(ends)).days + 1
    for start in range(0, length, STRETCH):
        yield [first + timedelta(days=offset) for offset in range(start, min(start + STRETCH, length))]


def _add(totals: Totals, part: dict[str, Any], price: dict[tuple[date, str], Decimal]) -> None:
    count, is_forced = part["count"], part["kind"] in FORCED
    if is_forced:
        totals.forced_fills += count
        totals.forced_qty = EXACT.add(totals.forced_qty, part["sum_qty"])
    else:
        totals.fills += count
        totals.base_qty = EXACT.add(totals.base_qty, part["sum_qty"])
    quote_usd = price.get((part["day"], part["quote"]))
    notional = ZERO
    if quote_usd is None:
        totals.fills_not_priced += count
    else:
        notional, maker, buy = (_usd(part[name], quote_usd) for name in ("sum_notional", "maker", "buy"))
        if is_forced:
            totals.forced_usd += notional
            totals.forced_maker_usd += maker
            totals.forced_buy_usd += buy
        else:
            totals.notional_usd += notional
            totals.maker_usd += maker
            totals.taker_usd += notional - maker
            totals.buy_usd += buy
            totals.sell_usd += notional - buy
        if part["with_pnl"]:
            totals.realized_pnl_usd = (totals.realized_pnl_usd or ZERO) + _usd(part["pnl"], quote_usd)
    if part["kind"] != Kind.TRADE:
        known = totals.kinds.get(part["kind"], {"fills": 0, "usd": "0", "not_priced": 0})
        totals.kinds[part["kind"]] = {
            "fills": known["fills"] + count,
            "usd": plain(Decimal(known["usd"]) + notional),
            "not_priced": known["not_priced"] + (count if quote_usd is None else 0),
        }
    fee_usd = price.get((part["day"], part["fee_asset"]))
    if fee_usd is not None:
        totals.fees_usd += _usd(part["fees"], fee_usd)
    elif part["fees"]:
        known_fees = Decimal(totals.fees_not_priced.get(part["fee_asset"], "0"))
        totals.fees_not_priced_fills += count
        totals.fees_not_priced[part["fee_asset"]] = plain(EXACT.add(known_fees, part["fees"]))
    totals.assets = sorted({*totals.assets, part["quote"], part["fee_asset"]})


def _usd(amount: Decimal, usd: Decimal) -> Decimal:
    return to_usd_places(EXACT.multiply(amount, usd))


def at_par(*, at_market: bool) -> frozenset[str]:
    """The assets that are a dollar each and need no price."""
    return frozenset({"USD"} if at_market else {"USD", *settings.DOLLARS})


def usd_prices(needed: set[tuple[date, str]], *, at_market: bool = False) -> dict[tuple[date, str], Decimal]:
    """USD per unit by (day, asset); what has no price is absent.

    Dollar stablecoins are a dollar each, or, `at_market`, priced by day like everything else but USD itself.
    """
    a_dollar_each = at_par(at_market=at_market)
    prices = {key: Decimal(1) for key in needed if key[1] in a_dollar_each}
    if others := needed - set(prices):
        known = AssetPrice.objects.filter(asset__in={asset for _, asset in others}, day__in={day for day, _ in others})
        prices |= {(row.day, row.asset): row.usd for row in known if (row.day, row.asset) in others}
    return prices


def outdated(credential: ExchangeCredential) -> QuerySet[DailyVolume]:
    """Days computed before their owner chose otherwise, or by an older perpdash."""
    at_market = Preferences.of(credential.owner_id).stablecoins_at_market
    return DailyVolume.objects.filter(Q(is_at_market=None) | Q(is_at_market=not at_market), credential=credential)


def rebuild_outdated(credential: ExchangeCredential) -> int:
    """Computes the outdated days anew, a few in each transaction, so that nobody waits. Returns how many rows."""
    rebuilt = 0
    while touched := set(outdated(credential).order_by("day").values_list("day", "symbol")[:OUTDATED_CHUNK]):
        with transaction.atomic():
            credential.lock()
            rebuild_days(credential, touched)
        rebuilt += len(touched)
    return rebuilt
