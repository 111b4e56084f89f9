"""CoinGecko from the other side: which coins there are and what they cost.

https://docs.coingecko.com/reference/coins-id-market-chart-range
Readings of a range come every 5 minutes for the last day, hourly up to 90 days, else one at 00:00 UTC each day, the
latest then up to half a day old. Without a paid key nothing older than 365 days is told.
"""

import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from math import ceil, sin
from typing import Literal
from zlib import crc32

import httpx

from exchanges.sandbox.base import EPOCH, SandboxVenue, client_of, to_ms, utc_now
from exchanges.sandbox.paradex import DIME_PRICE
from exchanges.sandbox.trader import DAY_MS, price_of

Plan = Literal["public", "demo", "pro"]
Prices = Mapping[str, Mapping[date, Decimal]]  # by symbol and UTC day: the price at the day's end

DEMO_KEY = "CG-sandbox-demo-key"
PRO_KEY = "CG-sandbox-pro-key"
PER_MINUTE: dict[Plan, int] = {"public": 5, "demo": 30, "pro": 500}
FREE_REACH = timedelta(days=365)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
RANGE = re.compile(r"/api/v3/coins/([^/]+)/market_chart/range")
EPOCH_ORDINAL = EPOCH.toordinal()

COINS = (  # id, symbol, name
    ("bitcoin", "btc", "Bitcoin"),
    ("ethereum", "eth", "Ethereum"),
    ("solana", "sol", "Solana"),
    ("hyperliquid", "hype", "Hyperliquid"),
    ("ripple", "xrp", "XRP"),
    ("dogecoin", "doge", "Dogecoin"),
    ("woo-network", "woo", "WOO"),
    ("mantle", "mnt", "Mantle"),
    ("ethena", "ena", "Ethena"),
    ("purr-2", "purr", "Purr"),
    ("usd-coin", "usdc", "USDC"),
    ("tether", "usdt", "Tether"),
    ("ethena-usde", "usde", "Ethena USDe"),
    ("dai", "dai", "Dai"),
    ("dimecoin", "dime", "Dimecoin"),
    ("dime-2", "dime", "Paradex"),
    ("odds-and-ends", "odds", "Odds and Ends"),
    ("against-all-odds", "odds", "Against All Odds"),
)
SYMBOLS = {coin: symbol.upper() for coin, symbol, _ in COINS}
SHARES = {"WOO": ("DOGE", 0.25), "MNT": ("HYPE", 0.03), "ENA": ("XRP", 0.2)}  # these move with another
STABLE = ("USDC", "USDT", "USDE", "DAI")
USDC_IN_MARCH_2023 = (  # (days, dollars): a bank of the issuer failed
    (date(2023, 3, 10).toordinal() + 0.75, 1.0),
    (date(2023, 3, 11).toordinal() + 0.3, 0.88),
    (date(2023, 3, 12).toordinal() + 0.0, 0.9715),
    (date(2023, 3, 13).toordinal() + 0.5, 1.0),
)


def market_price(symbol: str, day: float) -> Decimal:
    """Dollars per unit; `day` is `date.toordinal()` and the part of the day gone."""
    if symbol == "DIME":
        return DIME_PRICE
    if symbol in STABLE:
        return Decimal(f"{_stable_price(symbol, day):.6f}")
    like, share = SHARES.get(symbol, (symbol, 1.0))
    return Decimal(f"{price_of(like, day) * share:.10g}")


def _stable_price(symbol: str, day: float) -> float:
    if symbol == "USDC":
        for (start, before), (end, after) in pairwise(USDC_IN_MARCH_2023):
            if start <= day <= end:
                return before + (after - before) * (day - start) / (end - start)
    return 1 + 0.0004 * sin(2.1 * day + crc32(symbol.encode()))


class CoinGecko(SandboxVenue):
    """No venue: nobody trades here. `prices`, where given, are all there are; a day without one has no reading.

    `per_minute` is what each client, or each key, may ask; None is what its plan has.
    """

    unmetered = {"per_minute": 10**9}
    rate_limited = (
        429,
        b'{"status":{"error_code":429,"error_message":"You\'ve exceeded the Rate Limit. Please visit '
        b'https://www.coingecko.com/en/api/pricing to subscribe to our API plans for higher rate limits."}}',
    )

    def __init__(
        self,
        now: Callable[[], datetime] = utc_now,
        *,
        prices: Prices | None = None,
        per_minute: int | None = None,
        latency: float = 0.0,
        skew: timedelta = timedelta(),
    ) -> None:
        super().__init__(now, latency=latency, skew=skew)
        self.prices = prices
        self.per_minute = per_minute
        self._asked: dict[str, deque[datetime]] = {}

    def sender(self, request: httpx.Request) -> str:
        return _key_of(request) or client_of(request)

    def kind(self, request: httpx.Request, asked: object) -> str:
        return "range" if RANGE.fullmatch(request.url.path) else request.url.path.rpartition("/")[2]

    def answer(self, request: httpx.Request) -> httpx.Response:
        plan = self._plan(request)
        if isinstance(plan, httpx.Response):
            return plan
        if wait := self._wait(request, plan):
            self.hush(request, wait)
            status, body = self.rate_limited
            headers = {"content-type": "application/json", "retry-after": str(ceil(wait))}
            return httpx.Response(status, headers=headers, content=body)
        path = request.url.path
        if path == "/api/v3/coins/list":
            names = ("id", "symbol", "name")
            return httpx.Response(200, json=[dict(zip(names, coin, strict=True)) for coin in COINS])
        if match := RANGE.fullmatch(path):
            return self._range(request, match[1], plan)
        return httpx.Response(404, json={"error": "Incorrect path. Please check https://www.coingecko.com/api/"})

    def _plan(self, request: httpx.Request) -> Plan | httpx.Response:
        """What the key is good for, or why it is good for nothing. A pro key belongs to a host of its own."""
        key, is_pro_host = _key_of(request), request.url.host == "pro-api.coingecko.com"
        plan: Plan = "pro" if "x-cg-pro-api-key" in request.headers else "demo" if key else "public"
        if plan == "public":
            return self._refuse(10002, "API Key Missing") if is_pro_host else plan
        if key != (PRO_KEY if plan == "pro" else DEMO_KEY):
            return self._refuse(10002, "Invalid API Key")
        if plan == "pro" and request.url.host == "api.coingecko.com":
            return self._refuse(10010, "If you are using Pro API key, please change your root URL")
        if plan == "demo" and is_pro_host:
            return self._refuse(10011, "If you are using Demo API key, please change your root URL")
        return plan

    def _refuse(self, code: int, message: str) -> httpx.Response:
        status = {"timestamp": self.now().isoformat(), "error_code": code, "error_message": message}
        return httpx.Response(401, json={"status": status})

    def _wait(self, request: httpx.Request, plan: Plan) -> float:
        """Seconds until this may be asked; 0 is now. What is refused counts as well."""
        asked, now = self._asked.setdefault(self.sender(request), deque()), self.now()
        while asked and asked[0] <= now - MINUTE:
            asked.popleft()
        asked.append(now)
        over = len(asked) - (self.per_minute or PER_MINUTE[plan])
        return (asked[over - 1] + MINUTE - now).total_seconds() if over > 0 else 0.0

    def _range(self, request: httpx.Request, coin: str, plan: Plan) -> httpx.Response:
        query = request.url.params
        if coin not in SYMBOLS:
            return httpx.Response(404, json={"error": "coin not found"})
        if query.get("vs_currency") != "usd":
            return httpx.Response(422, json={"error": "Missing parameter vs_currency"})
        try:
            since, until = (EPOCH + timedelta(seconds=int(query[name])) for name in ("from", "to"))
        except (KeyError, ValueError, OverflowError):
            return httpx.Response(422, json={"error": "Invalid from or to"})
        if plan != "pro" and since < self.now() - FREE_REACH:
            message = (
                "Your request exceeds the allowed time range. Public API users are limited to querying historical "
                "data within the past 365 days. Upgrade to a paid plan to enjoy full historical data access: "
                "https://www.coingecko.com/en/api/pricing. "
            )
            status = {"timestamp": self.now().isoformat(), "error_code": 10012, "error_message": message}
            return httpx.Response(401, json={"error": {"status": status}})
        moments = [at for at in self._moments(coin, since, until) if since <= at <= min(until, self.now())]
        readings = [(to_ms(at), usd) for at in moments if (usd := self._price(SYMBOLS[coin], at)) is not None]
        zeros = [[ms, 0.0] for ms, _ in readings]
        # A price is written digit by digit: through a float it would lose some.
        prices = ",".join(f"[{ms},{usd:f}]" for ms, usd in readings)
        rest = json.dumps({"market_caps": zeros, "total_volumes": zeros})
        content = f'{{"prices":[{prices}],{rest[1:]}'.encode()
        return httpx.Response(200, headers={"content-type": "application/json"}, content=content)

    def _moments(self, coin: str, since: datetime, until: datetime) -> Iterator[datetime]:
        """When readings were taken: on the dot once a day, else some minutes late."""
        now = self.now()
        if until - since > 90 * DAY:
            yield from _every(DAY, since, until)
            if until >= now:
                yield next(_every(DAY / 2, now - DAY / 2, now)) + 7 * MINUTE
            return
        step = 5 * MINUTE if until - since <= DAY and until >= now - 5 * MINUTE else HOUR
        for at in _every(step, since - step, until):
            yield at + step * (crc32(f"{coin} {at}".encode()) % 1000 / 15_000)

    def _price(self, symbol: str, at: datetime) -> Decimal | None:
        if self.prices is None:
            return market_price(symbol, EPOCH_ORDINAL + to_ms(at) / DAY_MS)
        # What was read soon after midnight is still the price of the day before.
        return self.prices.get(symbol, {}).get((at - 90 * MINUTE).date())


def _key_of(request: httpx.Request) -> str:
    return str(request.headers.get("x-cg-pro-api-key") or request.headers.get("x-cg-demo-api-key") or "")


def _every(step: timedelta, since: datetime, until: datetime) -> Iterator[datetime]:
    """Whole multiples of `step` in [since, until]."""
    at = since + (EPOCH - since) % step
    while at <= until:
        yield at
        at += step
