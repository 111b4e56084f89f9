"""What assets cost: the prices days rest on, asked of CoinGecko, kept, and the days they touch computed anew.

https://docs.coingecko.com/reference/coins-id-market-chart-range
The price of a UTC day is the one at its end: the reading nearest to midnight, no farther than 90 minutes from it. While
the day is not over, the latest reading serves and is replaced later. A range of up to 90 days is answered hourly, a
longer one with one reading a day, the last of which may be half a day old. Free plans tell the last 365 days.
"""

import logging
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any, Self, cast
from urllib.parse import quote

import httpx
import msgspec
from django.apps import apps
from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.db.models import Q
from limits import RateLimitItemPerMinute

from exchanges.apps import ExchangesConfig
from exchanges.connect import BRIEF, budget
from exchanges.models import ExchangeCredential
from exchanges.venues.base import BudgetSpent, PayloadError, VenueError, VenueUnavailable, from_ms, to_ms
from exchanges.venues.http import Door, Toll
from volume import live
from volume.models import AssetPrice, DailyVolume, Preferences
from volume.periods import start_of
from volume.rollup import at_par, rebuild_days

logger = logging.getLogger("perpdash.prices")

Days = dict[str, set[date]]  # by asset
Key = tuple[str, date]  # an asset and a day

DAY = timedelta(days=1)
NEAR = timedelta(minutes=90)
HOURLY = timedelta(days=89)  # how far back one request still gets hourly readings, and some room
AGE = timedelta(minutes=45)  # a price of today is asked for again after
FREE_REACH = timedelta(days=365) - timedelta(minutes=5)  # our clock and theirs may differ a little
LARGEST, SMALLEST = Decimal(10_000_000), Decimal("1e-18")  # what is beyond is no price of anything traded
CHUNK = 200  # prices stored in one transaction
TROUBLE, TROUBLE_KEPT = "prices/trouble", 7200  # why CoinGecko told us nothing, and for how many seconds that is said
# Where several coins share a symbol: what the name or id of the one that venues mean contains.
HINTS = {"DIME": "paradex"}
ERROR_CODE = re.compile(rb'"error_code"\s*:\s*(\d+)')
TOO_FAR_BACK = b"10012"


# --- What is needed --------------------------------------------------------------------------------------------------


def needed() -> Days:
    """The days that rest on the price of an asset, as their owners count, where that price is not final yet."""
    found: Days = defaultdict(set)
    for _, day, asset in _rests_on(DailyVolume.objects.all()):
        found[asset].add(day)
    final = AssetPrice.objects.filter(is_final=True, asset__in=found)
    for asset, day in final.values_list("asset", "day"):
        found[asset].discard(day)
    return {asset: days for asset, days in found.items() if days}


def not_priced(credentials: Iterable[ExchangeCredential] | None = None) -> dict[int, Days]:
    """By account (all, if not said), the assets that lack a price, and the days left out of dollars for it."""
    rows = DailyVolume.objects.filter(Q(fills_not_priced__gt=0) | Q(fees_not_priced_fills__gt=0))
    if credentials is not None:
        rows = rows.filter(credential__in=[credential.pk for credential in credentials])
    rests_on = list(_rests_on(rows))
    assets, days = {asset for _, _, asset in rests_on}, {day for _, day, _ in rests_on}
    priced = set(AssetPrice.objects.filter(asset__in=assets, day__in=days).values_list("asset", "day"))
    found: dict[int, Days] = defaultdict(lambda: defaultdict(set))
    for credential_id, day, asset in rests_on:
        if (asset, day) not in priced:
            found[credential_id][asset].add(day)
    return found


def waiting(credentials: Iterable[ExchangeCredential] | None = None, *, now: datetime) -> bool:
    """Whether asking CoinGecko now may price what has no price yet."""
    if cache.get(TROUBLE):
        return False  # the hourly round tries again
    return any(
        not why_not(day, memory, now=now)
        for missing in not_priced(credentials).values()
        for asset, days in missing.items()
        for memory in [Memory.of(asset)]
        for day in days
    )


def _rests_on(rows: Any) -> Iterator[tuple[int, date, str]]:
    """(credential, day, asset) for each asset of the rows that is not a dollar each for the account's owner."""
    at_market = set(Preferences.objects.filter(stablecoins_at_market=True).values_list("owner_id", flat=True))
    free = {choice: at_par(at_market=choice) for choice in (False, True)}
    found = rows.order_by().values_list("credential_id", "credential__owner_id", "day", "assets").distinct()
    for credential_id, owner_id, day, assets in found:
        for asset in assets:
            if asset not in free[owner_id in at_market]:
                yield credential_id, day, asset


# --- Why there is no price -------------------------------------------------------------------------------------------


class NotPriced(Exception):
    """CoinGecko can't price an asset; the text says why and what to do."""


@dataclass(slots=True)
class Memory:
    """What CoinGecko last said of an asset, so that it is not asked the same again within a day."""

    asset: str
    coin: str = ""
    why: str = ""  # there is no such coin, or several
    asked: dict[date, datetime] = field(default_factory=dict)  # days without a reading, and when that was learnt

    @classmethod
    def of(cls, asset: str) -> Self:
        known = cache.get(cls._key(asset))
        return cls(asset, *known) if known else cls(asset)

    def keep(self, *, now: datetime) -> None:
        self.asked = {day: at for day, at in self.asked.items() if now - at < DAY}
        cache.set(self._key(self.asset), (self.coin, self.why, self.asked), DAY.total_seconds())

    @staticmethod
    def _key(asset: str) -> str:
        # Under another id in the settings nothing is known yet.
        return f"prices/{quote(asset, safe='')}/{settings.COINGECKO_IDS.get(asset, '')}"


def why_not(day: date, memory: Memory, *, now: datetime) -> str:
    """Why CoinGecko is not asked now for the price of a day; empty where it is."""
    if memory.why:
        return memory.why
    reach = plan().reach
    if reach and _end(day) < now - reach:
        return (
            "CoinGecko's free plans tell the last 365 days; “manage.py import_prices” takes older prices from a file."
        )
    asked_at = memory.asked.get(day)
    if asked_at and now - asked_at < (DAY if asked_at >= _end(day) + NEAR else AGE):
        return "CoinGecko has no price of it at that time; it is asked again later."
    return ""


def missing_words(credentials: Sequence[ExchangeCredential], *, now: datetime) -> dict[int, list[str]]:
    """By account, which assets lack a price on which days and why: sentences. Accounts that lack none are absent."""
    said: dict[int, list[str]] = {}
    for pk, lacking in not_priced(credentials).items():
        for asset, days in sorted(lacking.items()):
            memory = Memory.of(asset)
            whys = {day: why_not(day, memory, now=now) for day in days}
            not_asked = cache.get(TROUBLE) or "CoinGecko is asked for it within the hour."
            by_why = sorted(days, key=lambda day: (whys[day], day))
            for why, group in groupby(by_why, key=whys.__getitem__):
                said.setdefault(pk, []).append(f"{asset} has no price {_on(list(group))}. {why or not_asked}")
    return said


def _on(days: Sequence[date]) -> str:
    return f"on {days[0]}" if len(days) == 1 else f"on {len(days)} days from {days[0]} to {days[-1]}"


# --- CoinGecko -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What a key, or none, is good for."""

    origin: str
    header: str
    per_minute: int
    reach: timedelta | None


PLANS = {
    "public": Plan("https://api.coingecko.com", "", 5, FREE_REACH),
    "demo": Plan("https://api.coingecko.com", "x-cg-demo-api-key", 30, FREE_REACH),
    "pro": Plan("https://pro-api.coingecko.com", "x-cg-pro-api-key", 500, None),
}


def plan() -> Plan:
    """The plan this installation is on."""
    return PLANS[settings.COINGECKO_PLAN if settings.COINGECKO_API_KEY else "public"]


class _Key(httpx.Auth):
    def __init__(self, header: str) -> None:
        self.header = header

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers[self.header] = settings.COINGECKO_API_KEY
        yield request


class _Chart(msgspec.Struct):
    prices: list[tuple[int, Decimal | None]]  # Unix time in ms, USD


class _Coin(msgspec.Struct):
    id: str
    symbol: str | None = None
    name: str | None = None


class _Unknown(PayloadError):
    """There is no such coin."""


class _TooFarBack(PayloadError):
    """The plan does not reach back so far."""


class _Refused(PayloadError):
    """The key is not accepted, or we are not."""


class CoinGecko:
    """CoinGecko, through the one door. Its errors are those of a venue. Close it after use."""

    def __init__(self, *, patience: float) -> None:
        app, self.plan = cast(ExchangesConfig, apps.get_app_config("exchanges")), plan()
        self.door = Door(
            "CoinGecko",
            settings.COINGECKO_API_URL or self.plan.origin,
            budget=budget(app.sandbox),
            patience=patience,
            transport=app.sandbox.transport("coingecko") if app.sandbox else None,
            sleep=app.sleep,
            opener=self._open,
        )
        self._auth = _Key(self.plan.header) if self.plan.header else None
        self._tolls = [Toll(RateLimitItemPerMinute(self.plan.per_minute, namespace="coingecko"), "coingecko")]
        self._coins: list[_Coin] | None = None

    def close(self) -> None:
        self.door.close()

    def coin_of(self, asset: str) -> str:
        """CoinGecko's id of an asset. Raises NotPriced where that is not certain."""
        if asset in settings.COINGECKO_IDS:
            return str(settings.COINGECKO_IDS[asset])
        if self._coins is None:
            self._coins = self.door.get("/api/v3/coins/list", list[_Coin], tolls=self._tolls, auth=self._auth)
        same = [coin for coin in self._coins if (coin.symbol or "").casefold() == asset.casefold()]
        hint = HINTS.get(asset, "")
        meant = [coin for coin in same if hint in coin.id.casefold() or hint in (coin.name or "").casefold()]
        if len(meant) == 1:
            return meant[0].id
        if not same:
            raise NotPriced(f"CoinGecko lists no coin of that symbol; COINGECKO_IDS={asset}=... names the right one.")
        ids = ", ".join(sorted(coin.id for coin in same)[:10])
        raise NotPriced(
            f"CoinGecko's coins of that symbol leave open which is meant ({ids}); COINGECKO_IDS={asset}=... says it."
        )

    def readings(self, coin: str, since: datetime, until: datetime) -> list[tuple[int, Decimal]]:
        """(Unix time in ms, USD) within the range, oldest first. What can't be a price is left out.

        Raises NotPriced where CoinGecko knows no such coin.
        """
        path = f"/api/v3/coins/{quote(coin, safe='')}/market_chart/range"
        query = f"vs_currency=usd&from={to_ms(since) // 1000}&to={to_ms(until) // 1000}"
        try:
            chart = self.door.get(path, _Chart, tolls=self._tolls, query=query, auth=self._auth)
        except _Unknown:
            raise NotPriced(f"CoinGecko knows no coin {coin!r}; COINGECKO_IDS names another.") from None
        return sorted((ms, usd) for ms, usd in chart.prices if usd is not None and is_price(usd))

    def _open(self, response: httpx.Response, content: bytes) -> bytes:
        code = ERROR_CODE.search(content) if response.is_client_error else None
        if code and code[1] == TOO_FAR_BACK:
            raise _TooFarBack("CoinGecko's plan does not reach back so far.")
        if response.status_code == httpx.codes.NOT_FOUND:
            raise _Unknown("CoinGecko does not know what was asked for.")
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            what = "the key in COINGECKO_API_KEY" if self._auth else "requests without a key"
            remedy = "Correct it, or COINGECKO_PLAN" if self._auth else "Set COINGECKO_API_KEY"
            raise _Refused(f"CoinGecko does not accept {what} (HTTP {response.status_code}). {remedy}.")
        return self.door.plain(response, content)


def is_price(usd: Decimal) -> bool:
    """Whether something traded can cost so much."""
    return usd.is_finite() and SMALLEST <= usd <= LARGEST


# --- Asking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Price:
    usd: Decimal
    source: str
    observed_at: datetime | None = None
    is_final: bool = True


@dataclass(slots=True)
class Fetched:
    """What a round came to."""

    priced: dict[str, int] = field(default_factory=dict)  # by asset: on how many days
    rebuilt: int = 0  # days and markets
    trouble: str = ""  # why it ended early
    retry_in: float | None = None  # seconds until CoinGecko may be asked again, where that ended it


def fetch(*, now: datetime, patience: float = BRIEF, again: bool = False) -> Fetched:
    """Asks CoinGecko for what is needed, stores it, and computes the touched days anew. Its trouble is in the result.

    `again` asks also what was answered with nothing within the last day.
    """
    found = Fetched()
    todo = _to_ask(needed(), now, again=again)
    if not todo:
        return found
    with closing(CoinGecko(patience=patience)) as gecko:
        for asset, days in sorted(todo.items()):
            memory = Memory.of(asset)
            try:
                memory.why = ""
                memory.coin = memory.coin or gecko.coin_of(asset)
                prices = _ask(gecko, memory.coin, days, now)
            except NotPriced as fault:
                memory.coin, memory.why = "", str(fault)
                memory.keep(now=now)
                continue
            except VenueError as fault:
                _note(found, fault)
                if isinstance(fault, VenueUnavailable | _Refused):
                    break
                continue  # the next one may be understood
            memory.asked |= dict.fromkeys(days - prices.keys(), now)
            memory.keep(now=now)
            if prices:
                found.priced[asset] = len(prices)
                found.rebuilt += store({(asset, day): price for day, price in prices.items()})
    if not found.trouble:
        cache.delete(TROUBLE)
    return found


def _note(found: Fetched, fault: VenueError) -> None:
    """Says a trouble once, however many rounds it lasts. Having asked enough for now is none."""
    found.trouble = str(fault)
    if isinstance(fault, BudgetSpent) or (isinstance(fault, VenueUnavailable) and fault.retry_in and found.priced):
        found.retry_in = fault.retry_in
        return
    if cache.get(TROUBLE) != found.trouble:
        logger.warning("No prices: %s Tried again within the hour.", found.trouble)
    cache.set(TROUBLE, found.trouble, TROUBLE_KEPT)


def _to_ask(wanted: Days, now: datetime, *, again: bool) -> Days:
    """What of it CoinGecko may know, and is not known well enough for now."""
    recent = AssetPrice.objects.filter(is_final=False, asset__in=wanted, observed_at__gt=now - AGE)
    fresh = set(recent.values_list("asset", "day"))
    todo: Days = {}
    for asset, days in wanted.items():
        memory = Memory(asset) if again else Memory.of(asset)
        todo[asset] = {day for day in days if (asset, day) not in fresh and not why_not(day, memory, now=now)}
    return {asset: days for asset, days in todo.items() if days}


def _ask(gecko: CoinGecko, coin: str, days: Collection[date], now: datetime) -> dict[date, Price]:
    """The prices of these days as far as CoinGecko has them, in at most two requests."""
    old = {day for day in days if _end(day) < now - HOURLY}
    prices: dict[date, Price] = {}
    for group in (set(days) - old, old):
        if not group:
            continue
        since, until = _end(min(group)) - NEAR, min(_end(max(group)) + NEAR, now)
        since = min(since, now - NEAR)  # of a day that is not over
        if gecko.plan.reach:
            since = max(since, now - gecko.plan.reach)
        try:
            readings = gecko.readings(coin, since, until)
        except _TooFarBack:
            # A key may reach back less far than the best of its kind: at least what every plan tells.
            since = now - FREE_REACH
            readings = gecko.readings(coin, since, until) if until > since else []
        for day in group:
            if (price := _nearest(readings, day, coin, now)) is not None:
                prices[day] = price
    return prices


def _nearest(readings: Sequence[tuple[int, Decimal]], day: date, coin: str, now: datetime) -> Price | None:
    """The reading at the day's end, or the latest while it is not over; None where there is none near enough."""
    wanted = to_ms(min(_end(day), now))
    at = bisect_left(readings, (wanted, Decimal(0)))
    ms, usd = min(readings[max(0, at - 1) : at + 1], key=lambda item: abs(item[0] - wanted), default=(0, Decimal(0)))
    if abs(ms - wanted) > NEAR / timedelta(milliseconds=1):
        return None
    # A nearer reading may come until then.
    return Price(usd, f"CoinGecko {coin}"[:120], from_ms(ms), is_final=now >= _end(day) + NEAR)


def _end(day: date) -> datetime:
    return start_of(day + DAY)


# --- Keeping ---------------------------------------------------------------------------------------------------------


def store(prices: Mapping[Key, Price], *, by_hand: bool = False) -> int:
    """Keeps prices and computes the days that rest on them anew. Returns how many days and markets. Idempotent.

    A final price stays as it is, unless the new one comes `by_hand`.
    """
    rebuilt = 0
    keys = sorted(prices, key=lambda key: (key[1], key[0]))
    for start in range(0, len(keys), CHUNK):
        # One transaction for both: a price that is here while its days are not computed would never be asked for again.
        with transaction.atomic():
            changed = _keep({key: prices[key] for key in keys[start : start + CHUNK]}, by_hand=by_hand)
            owners, count = _rebuild(changed)
        rebuilt += count
        for owner_id in owners:
            live.push(owner_id)
    return rebuilt


def _keep(prices: Mapping[Key, Price], *, by_hand: bool) -> set[Key]:
    """Returns those of which the dollars are new."""
    assets, days = {asset for asset, _ in prices}, {day for _, day in prices}
    rows = AssetPrice.objects.select_for_update().filter(asset__in=assets, day__in=days)
    known = {(row.asset, row.day): row for row in rows}
    kept = {key: price for key, price in prices.items() if by_hand or key not in known or not known[key].is_final}
    AssetPrice.objects.bulk_create(
        [
            AssetPrice(
                asset=asset, day=day, usd=price.usd, source=price.source, observed_at=price.observed_at,
                is_final=price.is_final,
            )
            for (asset, day), price in kept.items()
        ],
        update_conflicts=True,
        unique_fields=["asset", "day"],
        update_fields=["usd", "source", "observed_at", "is_final"],
    )  # fmt: skip
    return {key for key, price in kept.items() if key not in known or known[key].usd != price.usd}


def _rebuild(changed: set[Key]) -> tuple[set[int], int]:
    """Computes what rests on these prices anew. Returns whose it is, and how many days and markets."""
    owners: set[int] = set()
    count = 0
    if not changed:
        return owners, count
    days = [day for _, day in changed]
    for credential in ExchangeCredential.objects.order_by("pk"):
        credential.lock()  # before looking: what another transaction is about to store knows the old price
        rows = DailyVolume.objects.filter(credential=credential, day__range=(min(days), max(days)))
        free = at_par(at_market=Preferences.of(credential.owner_id).stablecoins_at_market)
        touched = {
            (day, symbol)
            for day, symbol, assets in rows.values_list("day", "symbol", "assets")
            if any((asset, day) in changed for asset in assets if asset not in free)
        }
        if touched:
            rebuild_days(credential, touched)
            owners.add(credential.owner_id)
            count += len(touched)
    return owners, count
