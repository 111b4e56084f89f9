"""From fills to days: recomputes, never adds up."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q

from exchanges.fields import DecimalSum, UsdSum, plain, to_usd_places
from exchanges.models import ExchangeCredential, Fill
from exchanges.sync import Touched
from exchanges.venues.base import EXACT, FORCED, Liquidity, Side
from volume.models import AssetPrice, DailyVolume

ZERO = Decimal(0)
ORDINARY = ~Q(kind__in=FORCED)
CHUNK = 200  # days rebuilt in one statement


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
    fees_usd: Decimal = ZERO
    realized_pnl_usd: Decimal | None = None
    fills_not_priced: int = 0
    fees_not_priced_fills: int = 0
    fees_not_priced: dict[str, str] = field(default_factory=dict)


def compute_days(credential: ExchangeCredential, days: Sequence[date] | None = None) -> dict[tuple[date, str], Totals]:
    """What the fills of these days (of all days) come to, by (day, symbol). Reads fills and prices, writes nothing."""
    fills = Fill.objects.filter(credential=credential)
    if days is not None:
        first, last = start_of(min(days)), start_of(max(days) + timedelta(days=1))  # what the index is sorted by
        fills = fills.filter(executed_at__gte=first, executed_at__lt=last, day__in=days)
    parts: list[Any] = list(
        fills.order_by()
        .values("day", "symbol", "quote", "fee_asset")
        .annotate(
            ordinary=Count("pk", filter=ORDINARY),
            forced=Count("pk", filter=~ORDINARY),
            qty=DecimalSum("qty", filter=ORDINARY),
            maker=UsdSum("notional", filter=ORDINARY & Q(liquidity=Liquidity.MAKER)),
            taker=UsdSum("notional", filter=ORDINARY & Q(liquidity=Liquidity.TAKER)),
            buy=UsdSum("notional", filter=ORDINARY & Q(side=Side.BUY)),
            forced_notional=UsdSum("notional", filter=~ORDINARY),
            fees=DecimalSum("fee"),
            with_pnl=Count("realized_pnl"),
            pnl=DecimalSum("realized_pnl"),
        )
    )
    price = usd_prices({(part["day"], part[column]) for part in parts for column in ("quote", "fee_asset")})
    totals: dict[tuple[date, str], Totals] = defaultdict(Totals)
    for part in parts:
        _add(totals[part["day"], part["symbol"]], part, price)
    return dict(totals)


def rebuild_days(credential: ExchangeCredential, touched: Touched) -> None:
    """Brings the days and markets up to date with the fills, inside the caller's transaction. Idempotent."""
    days = sorted({day for day, _ in touched})
    for start in range(0, len(days), CHUNK):
        chunk = days[start : start + CHUNK]
        computed = compute_days(credential, chunk)
        for day, symbol in touched - computed.keys():
            if day in chunk:  # its fills are gone
                DailyVolume.objects.filter(credential=credential, day=day, symbol=symbol).delete()
        DailyVolume.objects.bulk_create(
            [
                DailyVolume(credential=credential, day=day, symbol=symbol, **asdict(totals))
                for (day, symbol), totals in computed.items()
                if (day, symbol) in touched
            ],
            update_conflicts=True,
            unique_fields=["credential", "day", "symbol"],
            update_fields=list(Totals.__dataclass_fields__),
        )


def rebuild_all(credential: ExchangeCredential) -> int:
    """Drops and recomputes every day of a credential. Returns how many (day, market) rows there are."""
    with transaction.atomic():
        credential.lock()
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
    """Every stored figure that is not what the fills come to."""
    computed = compute_days(credential)
    found = []
    for row in DailyVolume.objects.filter(credential=credential).iterator():
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


def _add(totals: Totals, part: dict[str, Any], price: dict[tuple[date, str], Decimal]) -> None:
    quote_usd = price.get((part["day"], part["quote"]))
    if quote_usd is None:
        totals.fills_not_priced += part["ordinary"] + part["forced"]
    else:
        maker, taker, buy = (_usd(part[name], quote_usd) for name in ("maker", "taker", "buy"))
        totals.maker_usd += maker
        totals.taker_usd += taker
        totals.notional_usd += maker + taker
        totals.buy_usd += buy
        totals.sell_usd += maker + taker - buy
        totals.forced_usd += _usd(part["forced_notional"], quote_usd)
        if part["with_pnl"]:
            totals.realized_pnl_usd = (totals.realized_pnl_usd or ZERO) + _usd(part["pnl"], quote_usd)
    totals.fills += part["ordinary"]
    totals.forced_fills += part["forced"]
    totals.base_qty = EXACT.add(totals.base_qty, part["qty"])
    fee_usd = price.get((part["day"], part["fee_asset"]))
    if fee_usd is not None:
        totals.fees_usd += _usd(part["fees"], fee_usd)
    elif part["fees"]:
        known = Decimal(totals.fees_not_priced.get(part["fee_asset"], "0"))
        totals.fees_not_priced_fills += part["ordinary"] + part["forced"]
        totals.fees_not_priced[part["fee_asset"]] = plain(EXACT.add(known, part["fees"]))


def start_of(day: date) -> datetime:
    """The first moment of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _usd(amount: Decimal, usd: Decimal) -> Decimal:
    return to_usd_places(EXACT.multiply(amount, usd))


def usd_prices(needed: set[tuple[date, str]]) -> dict[tuple[date, str], Decimal]:
    """USD per unit by (day, asset); what has no price is absent."""
    prices = {key: Decimal(1) for key in needed if key[1] in settings.DOLLARS}
    if others := needed - set(prices):
        known = AssetPrice.objects.filter(asset__in={asset for _, asset in others}, day__in={day for day, _ in others})
        prices |= {(row.day, row.asset): row.usd for row in known if (row.day, row.asset) in others}
    return prices
