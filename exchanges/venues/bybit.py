"""Bybit (V5 API): fills of linear and inverse perpetuals by a read-only key.

Docs: https://bybit-exchange.github.io/docs/v5/order/execution
Longest window: 7 days. Page: 100 rows, newest first, no order within a millisecond. Memory: two years, to the second.
What was traded before an account became unified stands in lists of its own.
"""

import hmac
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from threading import Lock
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec
from limits import RateLimitItem, RateLimitItemPerSecond

from exchanges.venues.base import (
    EPOCH,
    EXACT,
    ZERO,
    Credentials,
    CredentialsRejected,
    FillReport,
    Held,
    Identity,
    Kind,
    Liquidity,
    Missing,
    Page,
    PayloadError,
    Reason,
    Related,
    Row,
    Side,
    Skipped,
    Stream,
    VenueError,
    Window,
    credential_field,
    from_ms,
    moment,
    number,
    to_ms,
)
from exchanges.venues.http import HttpVenue, SlowDown, Toll, TryAgain

# The fixed list of hosts a key may be of: none other is ever asked.
HOSTS = {
    "": "bybit.com",
    "api-testnet.bybit.com": "Testnet",
    "api-demo.bybit.com": "Demo trading (keeps 7 days)",
    "api.bytick.com": "bytick.com (the same service)",
    "api.bybit.eu": "bybit.eu",
    "api.bybit.nl": "bybit.nl",
    "api.bybit.tr": "bybit.tr",
    "api.bybit.kz": "bybit.kz",
    "api.bybitgeorgia.ge": "bybitgeorgia.ge",
    "api.bybit.id": "bybit.id",
    "api.bybit.ae": "bybit.ae",
    "api.manepa.jp": "manepa.jp (Japan)",
}
MAIN = "api.bybit.com"
MAIN_ALIASES = ("", "api.bytick.com")
# Environments that know nothing of each other's keys: where one is refused, the others are asked whose it is.
ENVIRONMENTS = {
    MAIN: "bybit.com",
    "api-testnet.bybit.com": "Bybit's testnet",
    "api-demo.bybit.com": "Bybit's demo trading",
}

MEMORY = timedelta(days=730)
DEMO_MEMORY = timedelta(days=7)
OLD_USDC_MEMORY = timedelta(days=180)
OLD_USDC_WHY = (
    "Bybit keeps USDC perpetuals from before an account became unified for six months: of this time only the USDT "
    "perpetuals were read."
)
EDGE = timedelta(minutes=5)  # what is so close to the end of the memory may be gone before the question arrives
WEEK = timedelta(days=7)
PAGE = 100
AT_ONCE = 1000  # rows stored together: each time costs about as much as storing these
RECV_WINDOW = 5000  # ms
IP_PAUSE = 600.0  # what the docs ask for after a 403

PER_UID: RateLimitItem = RateLimitItemPerSecond(50, namespace="bybit")
PER_KEY: RateLimitItem = RateLimitItemPerSecond(10, namespace="bybit")
PER_IP: RateLimitItem = RateLimitItemPerSecond(600, 5, namespace="bybit")
IP_SCOPE = "bybit/ip"
IP_TOLL = Toll(PER_IP, IP_SCOPE)
T = TypeVar("T")

TRADES = {
    "Trade": Kind.TRADE,
    "BlockTrade": Kind.BLOCK,
    "FutureSpread": Kind.SPREAD,
    "AdlTrade": Kind.ADL,
    "BustTrade": Kind.LIQUIDATION,
}
NOT_TRADES = {
    "Funding": "funding",
    "Delivery": "settlement",
    "Settle": "settlement",
    "MovePosition": "position transfer",
    "CorporateAction": "corporate action",
}
SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
LIQUIDITY = {True: Liquidity.MAKER, False: Liquidity.TAKER}
DATED_INVERSE = re.compile(r"(\w+)USD[HMUZ]\d\d")
CLASSIC = {1}  # unifiedMarginStatus; all others are unified, of one generation or another
TIME = "/v5/market/time"
BEFORE = "before upgrade"
JUST_NOW = timedelta(minutes=15)
PROBES = 4  # weeks in which the beginning of the new list is looked for
SATOSHI = Decimal(1).scaleb(-8)
MOST_COINS = Decimal(10) ** 18

# What a retCode means for us; all others are a fault of ours or of their documentation.
RETRY = {10000, 10016, 429}
CLOCK = {10002, -1}
CLOSED = {10007, 10008, 10009, 10024, 10027}
EXPIRED = {33004, -2015}
OTHER_KIND = {10028, 100028}


class NotOfThisAccount(PayloadError):
    """What was asked for is only for unified accounts, or only for others."""


@dataclass(frozen=True, slots=True)
class BybitCredentials(Credentials):
    api_key: str = credential_field("API key", "As shown on Bybit's API management page.", secret=True)
    api_secret: str = credential_field("API secret", "Shown once, when the key is made.", secret=True)
    host: str = credential_field(
        "Bybit site",
        "Where the account lives. Keys of one site are unknown to the others.",
        optional=True,
        choices=HOSTS,
    )

    def __post_init__(self) -> None:
        if self.api_secret.startswith("-----"):
            raise CredentialsRejected(
                Reason.MALFORMED,
                "This is an RSA key. perpdash takes Bybit's system-generated keys: make one of those, read-only.",
            )
        both = self.api_key + self.api_secret
        if not both.isascii() or any(sign.isspace() for sign in both):
            raise CredentialsRejected(Reason.MALFORMED, "A Bybit key is letters and digits only: copy it again.")
        if self.host not in HOSTS:
            if self.host != MAIN:
                raise CredentialsRejected(
                    Reason.MALFORMED,
                    f"Not a host of Bybit that perpdash knows. It knows: {', '.join(filter(None, HOSTS))}.",
                )
            object.__setattr__(self, "host", "")


class Auth(httpx.Auth):
    """Signs the query as it will be sent."""

    def __init__(self, key: str, secret: str) -> None:
        self._key = key
        self._secret = secret.encode()
        self.ahead = 0  # ms by which Bybit's clock is ahead of ours, as measured

    def auth_flow(self, request: httpx.Request) -> Any:
        timestamp = str(time.time_ns() // 1_000_000 + self.ahead)
        message = f"{timestamp}{self._key}{RECV_WINDOW}".encode() + request.url.query
        request.headers["X-BAPI-API-KEY"] = self._key
        request.headers["X-BAPI-TIMESTAMP"] = timestamp
        request.headers["X-BAPI-RECV-WINDOW"] = str(RECV_WINDOW)
        request.headers["X-BAPI-SIGN"] = hmac.new(self._secret, message, "sha256").hexdigest()
        yield request


class Envelope(msgspec.Struct, rename="camel"):
    """Errors come with HTTP 200, too."""

    ret_code: int
    result: msgspec.Raw = msgspec.Raw(b"{}")


class ServerTime(msgspec.Struct, rename="camel"):
    time_nano: str


class KeyInfo(msgspec.Struct, rename="camel"):
    read_only: int
    permissions: dict[str, list[str]]
    user_id: int = msgspec.field(name="userID")
    ips: list[str] = []
    expired_at: str = ""
    is_master: bool = True
    parent_uid: str = "0"
    note: str = ""


class AccountInfo(msgspec.Struct, rename="camel"):
    unified_margin_status: int


class SubMember(msgspec.Struct):
    uid: str
    username: str = ""


class SubMembers(msgspec.Struct, rename="camel"):
    sub_members: list[SubMember] = []


class Instrument(msgspec.Struct, rename="camel"):
    symbol: str
    contract_type: str
    base_coin: str
    quote_coin: str


class Instruments(msgspec.Struct):
    list: list[Instrument]


class Fills(msgspec.Struct, rename="camel"):
    list: list[msgspec.Raw]
    next_page_cursor: str = ""


class FillRow(msgspec.Struct, rename="camel"):
    """An execution as Bybit sends it: the fields we use. Numbers are text, and empty where there is none."""

    symbol: str
    side: str
    exec_id: str
    exec_type: str
    exec_price: str
    exec_qty: str
    exec_value: str
    exec_fee: str
    exec_time: str
    is_maker: bool
    fee_currency: str = ""


@dataclass(frozen=True, slots=True)
class Contract:
    base: str
    quote: str
    is_perpetual: bool = True


_ROW = msgspec.json.Decoder(FillRow)


class Bybit(HttpVenue):
    slug = "bybit"
    name = "Bybit"
    origin = f"https://{MAIN}"
    credentials_type: ClassVar[type[Credentials]] = BybitCredentials
    streams = (
        Stream(name="linear", longest_window=WEEK, memory=MEMORY),
        Stream(name="inverse", longest_window=WEEK, memory=MEMORY),
        # Most accounts have nothing in these, which one look settles for all the time at once.
        Stream(name=f"linear {BEFORE}", memory=MEMORY),
        Stream(name=f"inverse {BEFORE}", memory=MEMORY),
    )
    key_steps = (
        "On Bybit, open Account, then API, and create a new key: system-generated, for API transactions.",
        "Choose read-only, and tick Contract: Orders and Positions. Nothing under Wallet is needed.",
        "Bind the key to the IP address perpdash runs at: a key without one dies after 90 days.",
        "A sub-account needs a key of its own: sign in to it, and add it as a second account.",
    )
    figures_note = "Bybit publishes no volume of an account that could be compared."
    memory_note = "Bybit keeps fills for two years, and those of demo trading for 7 days."
    in_flight = 8

    def __init__(self, credentials: BybitCredentials, **options: Any) -> None:
        super().__init__(credentials, **options)
        self.auth = Auth(credentials.api_key, credentials.api_secret)
        is_demo = "demo" in credentials.host
        self.memory = DEMO_MEMORY if is_demo else MEMORY
        kept = "Bybit's demo trading keeps fills for 7 days" if is_demo else "Bybit keeps fills for two years"
        self.memory_why = f"{kept}; these are older."
        self._contracts: dict[str, Contract | None] = {}
        self._unified_since: dict[str, datetime | None] = {}
        self._looking = Lock()

    def home(self) -> str:
        return f"https://{self.credentials.host or MAIN}"

    # --- The door ----------------------------------------------------------------------------------------------------

    def open_answer(self, response: httpx.Response, content: bytes) -> bytes:
        if response.status_code == httpx.codes.FORBIDDEN:
            if self.is_at_home and str(response.request.url.copy_with(raw_path=b"")) != self.home():
                raise PayloadError("Another site of Bybit does not say whether the key is its own.")
            raise SlowDown(
                "refuses this machine's address: too many requests came from it, or it is in a country that Bybit "
                "does not serve",
                pause=IP_PAUSE,
                scope=IP_SCOPE,
            )
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise CredentialsRejected(Reason.WRONG_KEY, UNKNOWN_KEY)
        content = self.door.plain(response, content)
        envelope = msgspec.json.decode(content, type=Envelope)
        if envelope.ret_code == 0:
            return bytes(envelope.result)
        raise self._fault(envelope.ret_code, response)

    def _fault(self, code: int, response: httpx.Response) -> Exception:
        """What an error of the API comes to. Its text is never shown: with 10004 it repeats the key."""
        if code in RETRY:
            return TryAgain("has trouble of its own")
        if code == 10006:
            return SlowDown(pause=seconds_until_reset(response, self._now()))
        if code in CLOCK:
            if response.request.url.path != TIME:
                self._measure_clock()
            return TryAgain("does not accept the time of our requests", pause=0.0)
        if code == 10003:
            return CredentialsRejected(Reason.WRONG_KEY, UNKNOWN_KEY)
        if code == 10004:
            return CredentialsRejected(
                Reason.WRONG_KEY, "The API secret does not belong to this API key. Copy both again, or make a new key."
            )
        if code == 10005:
            return CredentialsRejected(Reason.MISSING_PERMISSION, NO_PERMISSION)
        if code == 10010:
            return CredentialsRejected(
                Reason.IP_NOT_ALLOWED,
                "This key is bound to other IP addresses. Add the one perpdash runs at, on Bybit's API page.",
            )
        if code in EXPIRED:
            return CredentialsRejected(
                Reason.EXPIRED,
                "This key has expired. Extend it on Bybit's API page (bound to an IP address it does not expire), or "
                "make a new one.",
            )
        if code in CLOSED:
            return CredentialsRejected(
                Reason.CLOSED, f"Bybit does not serve this account (its code {code}). Ask Bybit's support why."
            )
        kind = NotOfThisAccount if code in OTHER_KIND else PayloadError
        return kind(f"Bybit did not accept our request (its code {code}). Nothing is lost; look for an update.")

    def _ask(self, path: str, answer: type[T], *, query: str = "", limit: RateLimitItem = PER_UID, host: str = "") -> T:
        tolls = [Toll(limit, f"bybit/{self.account}{path}"), IP_TOLL]
        return self.door.get(path, answer, tolls=tolls, query=query, auth=self.auth, host=host)

    def _measure_clock(self) -> None:
        """Bybit takes nothing from more than a second ahead of its own clock."""
        before = time.time()
        told = self.door.get(TIME, ServerTime, tolls=[IP_TOLL])
        theirs = from_ms(int(told.time_nano) // 1_000_000)
        self.door.check_clock(theirs)
        self.auth.ahead = to_ms(theirs) - int((before + time.time()) * 500)

    def _now(self) -> datetime:
        return from_ms(time.time_ns() // 1_000_000 + self.auth.ahead)

    # --- Who is this -------------------------------------------------------------------------------------------------

    def identify(self) -> Identity:
        try:
            key = self._ask("/v5/user/query-api", KeyInfo, limit=PER_KEY)
        except CredentialsRejected as fault:
            if str(fault) == UNKNOWN_KEY and (elsewhere := self._elsewhere()):
                raise CredentialsRejected(
                    Reason.WRONG_ENVIRONMENT,
                    f"This is a key of {elsewhere}. Choose that as the site, or bring a key of the site you chose.",
                ) from None
            raise
        if not (key.permissions.get("ContractTrade") or key.permissions.get("Derivatives")):
            raise CredentialsRejected(Reason.MISSING_PERMISSION, NO_PERMISSION)
        self.account = str(key.user_id)
        status = self._ask("/v5/account/info", AccountInfo).unified_margin_status
        is_read_only = key.read_only == 1
        is_bound = bool(key.ips) and key.ips != ["*"]
        return Identity(
            account_ref=str(key.user_id),
            description=_described(key, is_read_only=is_read_only, is_bound=is_bound),
            may_trade=not is_read_only,
            may_withdraw=not is_read_only and "Withdraw" in key.permissions.get("Wallet", []),
            expires_at=None if is_bound else expiry(key.expired_at),
            related=self._sub_accounts(key),
            streams=("linear", "inverse") if status in CLASSIC else tuple(stream.name for stream in self.streams),
        )

    def _elsewhere(self) -> str:
        """The name of the environment that does know the key, if one does."""
        if not self.is_at_home:
            return ""
        here = MAIN if self.credentials.host in MAIN_ALIASES else self.credentials.host
        for host, name in ENVIRONMENTS.items():
            if host != here:
                try:
                    self._ask("/v5/user/query-api", KeyInfo, limit=PER_KEY, host=f"https://{host}")
                except CredentialsRejected as fault:
                    if str(fault) == UNKNOWN_KEY:
                        continue
                except VenueError:
                    continue
                return name
        return ""

    def _sub_accounts(self, key: KeyInfo) -> tuple[Related, ...]:
        if not key.is_master or not key.permissions.get("Wallet"):
            return ()  # only a key that sees the wallet may list them
        with suppress(CredentialsRejected, PayloadError):
            found = self._ask("/v5/user/query-sub-members", SubMembers, limit=PER_KEY).sub_members
            return tuple(Related(label=sub.username or sub.uid, values={}) for sub in found)
        return ()

    # --- Fills -------------------------------------------------------------------------------------------------------

    def fetch_fills(self, stream: Stream, window: Window) -> Iterator[Page]:
        edge = self._now() - self.memory + EDGE
        if window.since < edge:
            gone = Window(window.since, min(edge, window.until))
            yield Page(rows=[], out_of_reach=Missing(gone, self.memory_why))
            window = Window(gone.until, window.until)
        if not window:
            return
        if not stream.name.endswith(BEFORE):
            yield from self._fetch_week(stream, window)
            return
        start, end = window.since, min(window.until, self._unified_by(stream.name.split()[0], window))
        if end < window.until:
            yield Page(rows=[], covered=Window(max(start, end), window.until))
        while start < end:
            week = Window(start, min(start + WEEK, end))
            yield from self._fetch_week(stream, week)
            start = week.until

    def _fetch_week(self, stream: Stream, window: Window) -> Iterator[Page]:
        category, is_before = stream.name.split()[0], stream.name.endswith(BEFORE)
        cursor, given, rows, count = "", set[str](), list[Row](), 0
        while True:
            try:
                answer = self._fills(category, window, is_before=is_before, cursor=cursor)
            except NotOfThisAccount:
                if not is_before:
                    raise
                answer = Fills(list=[])  # an account that never was anything else has no such list
            cursor = answer.next_page_cursor if answer.list else ""
            if cursor in given:
                raise PayloadError("Bybit's pages go in circles. Nothing is lost; it is tried again later.")
            given.add(cursor)
            count += len(answer.list)
            rows += self.parse_rows(stream.name, answer.list)
            if not cursor:
                break
            if len(rows) >= AT_ONCE:
                yield Page(rows=rows)
                rows = []
        forgotten = Window(window.since, min(window.until, self._now() - OLD_USDC_MEMORY))
        if stream.name == f"linear {BEFORE}" and count and forgotten:
            yield Page(rows=rows, out_of_reach=Missing(forgotten, OLD_USDC_WHY))
            rows, window = [], Window(forgotten.until, window.until)
        if window:
            yield Page(rows=rows, covered=window)

    def parse_rows(self, stream: str, raws: Iterable[msgspec.Raw]) -> list[Row]:
        category = stream.split()[0]
        return [self._outcome(category, raw) for raw in raws]

    def parse_held(self, stream: str, row: str) -> Row:
        return self.parse_rows(stream, [msgspec.Raw(row)])[0]

    def _fills(
        self, category: str, window: Window, *, is_before: bool = False, cursor: str = "", limit: int = PAGE
    ) -> Fills:
        start, end = to_ms(window.since), to_ms(window.until - timedelta.resolution)  # the venue includes both
        query = urlencode({"category": category, "endTime": end, "limit": limit, "startTime": start})
        if cursor:
            query += f"&cursor={cursor}"  # as it came: it is percent-encoded already
        return self._ask("/v5/pre-upgrade/execution/list" if is_before else "/v5/execution/list", Fills, query=query)

    def _unified_by(self, category: str, window: Window) -> datetime:
        """From when on the account was certainly unified, so that the old list has nothing: it is now, and it was
        when its oldest fill of the new list was made."""
        lately = self._now() - JUST_NOW
        if window.since >= lately:
            return window.since
        with self._looking:
            if category not in self._unified_since:
                self._unified_since[category] = self._oldest_known(category)
        return self._unified_since[category] or lately

    def _oldest_known(self, category: str) -> datetime | None:
        """When a fill of about the oldest in the new list was made, if that is found with few requests."""
        start = self._now() - self.memory + EDGE
        for week in range(PROBES):
            window = Window(start + week * WEEK, min(start + (week + 1) * WEEK, self._now()))
            if window and (rows := self._fills(category, window, limit=1).list):
                with suppress(msgspec.ValidationError, ValueError):
                    return moment(_ROW.decode(rows[0]).exec_time)
        return None

    # --- Rows --------------------------------------------------------------------------------------------------------

    def _outcome(self, category: str, raw: msgspec.Raw) -> Row:
        executed_at = None
        try:
            row = _ROW.decode(raw)
            executed_at = moment(row.exec_time)
            if row.exec_type in NOT_TRADES:
                return Skipped(NOT_TRADES[row.exec_type])
            if row.exec_type not in TRADES:
                raise ValueError(f"unknown execType {row.exec_type!r}")
            contract = self._contract(category, row)
            if not contract.is_perpetual:
                return Skipped("dated future")
            return report_of(category, row, contract, executed_at)
        except (msgspec.ValidationError, ValueError) as fault:
            return Held(bytes(raw).decode(), str(fault), executed_at)

    def _contract(self, category: str, row: FillRow) -> Contract:
        """What the symbol is. Its name tells, also of markets that are gone; else the list of markets, else the fee.

        Raises ValueError where none does.
        """
        symbol = row.symbol
        if symbol not in self._contracts:
            self._contracts[symbol] = contract_of(category, symbol) or self._listed(category, symbol)
        if contract := self._contracts[symbol]:
            return contract
        if row.fee_currency and symbol.endswith(row.fee_currency) and category == "linear":
            return Contract(symbol.removesuffix(row.fee_currency), row.fee_currency)
        raise ValueError(f"unknown market {symbol!r}")

    def _listed(self, category: str, symbol: str) -> Contract | None:
        query = urlencode({"category": category, "symbol": symbol})
        try:
            found = self.door.get("/v5/market/instruments-info", Instruments, tolls=[IP_TOLL], query=query).list
        except PayloadError:
            return None
        mine = (one for one in found if one.symbol == symbol)
        return next((Contract(one.base_coin, one.quote_coin, "Perpetual" in one.contract_type) for one in mine), None)


UNKNOWN_KEY = (
    "Bybit does not know this key: it is mistyped, deleted, or of another Bybit site (testnet, demo, a regional one). "
    "Copy it again, or choose the site it was made on."
)
NO_PERMISSION = (
    "This key may not read contract fills. Tick Contract: Orders and Positions (read-only) for it on Bybit's API page, "
    "or make a new key with these."
)


def _described(key: KeyInfo, *, is_read_only: bool, is_bound: bool) -> str:
    kind, powers = ("Read-only key", "") if is_read_only else ("Key", ", can trade")
    whose = f"account {key.user_id}" if key.is_master else f"sub-account {key.user_id} of {key.parent_uid}"
    bound = f"bound to {', '.join(key.ips)}" if is_bound else "bound to no IP address, so it dies after 90 days"
    return f"{kind} of {whose}{powers}, {bound}."[:300]


def contract_of(category: str, symbol: str) -> Contract | None:
    """What a symbol is by its name, or None where that does not tell."""
    if category == "inverse":
        if dated := DATED_INVERSE.fullmatch(symbol):
            return Contract(dated[1], "USD", is_perpetual=False)
        return Contract(symbol.removesuffix("USD"), "USD") if symbol.endswith("USD") else None
    if "-" in symbol:
        return Contract(symbol.partition("-")[0], "USDT", is_perpetual=False)
    if symbol.endswith("PERP"):
        return Contract(symbol.removesuffix("PERP"), "USDC")
    return Contract(symbol.removesuffix("USDT"), "USDT") if symbol.endswith("USDT") else None


def coins_of(dollars: Decimal, price: Decimal) -> Decimal:
    """Rounded as Bybit does. Raises ValueError for more than there are."""
    coins = EXACT.divide(dollars, price)
    if coins >= MOST_COINS:
        raise ValueError("price or quantity beyond all reason")
    return coins.quantize(SATOSHI, ROUND_HALF_EVEN)


def expiry(told: str) -> datetime | None:
    """When a key dies; for one that does not, Bybit says 1970 or nothing."""
    try:
        at = datetime.fromisoformat(told)
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except ValueError:
        return None
    return at if at > EPOCH else None


def report_of(category: str, row: FillRow, contract: Contract, executed_at: datetime) -> FillReport:
    """The fill of a row. Of inverse contracts the quantity is in dollars and the value in coins: turned round here.

    Raises ValueError for what cannot be one.
    """
    if not row.exec_id:
        raise ValueError("it has no id")
    if row.side not in SIDES:
        raise ValueError(f"unknown side {row.side!r}")
    price, qty, fee = number(row.exec_price), number(row.exec_qty), number(row.exec_fee)
    if price <= ZERO or qty <= ZERO:
        raise ValueError("price or quantity is not above 0")
    if category == "inverse":
        coins = number(row.exec_value) if row.exec_value else coins_of(qty, price)
        notional, qty, settle = qty, coins, contract.base
    else:
        notional = number(row.exec_value) if row.exec_value else EXACT.multiply(price, qty)
        settle = contract.quote
    if notional <= ZERO or qty <= ZERO:
        raise ValueError("its value is not above 0")
    report = FillReport(
        fill_id=f"{category}:{row.exec_id}",
        symbol=row.symbol,
        base=contract.base,
        quote=contract.quote,
        side=SIDES[row.side],
        liquidity=LIQUIDITY[row.is_maker],
        kind=TRADES[row.exec_type],
        price=price,
        qty=qty,
        notional=notional,
        fee=fee,
        fee_asset=row.fee_currency or settle,  # derivatives name it only since 2025-09
        realized_pnl=None,
        executed_at=executed_at,
    )
    if why := report.unfit():
        raise ValueError(why)
    return report


def seconds_until_reset(response: httpx.Response, now: datetime) -> float | None:
    """What the headers of a refused request say of when to ask again; None where they say nothing useful.

    `now` is Bybit's.
    """
    try:
        reset = int(response.headers["X-Bapi-Limit-Reset-Timestamp"])
    except (KeyError, ValueError):
        return None
    left = (reset - to_ms(now)) / 1000
    return left if 0 < left < IP_PAUSE else None
