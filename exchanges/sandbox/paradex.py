"""Paradex from the other side: REST, `/v1`.

https://docs.paradex.trade/api/general-information/api-quick-start
A token belongs to one account and reads its fills, newest first, page by page: a page names the next by a signed
cursor that is good for a while. A fill the chain did not settle is busted: it is listed a second time among the busts.
Mainnet and testnet differ by host.
"""

import binascii
import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from ipaddress import ip_address, ip_network
from itertools import groupby, islice
from math import ceil
from random import Random
from typing import Any, Literal, NamedTuple

import httpx

from exchanges.sandbox.base import EPOCH, SandboxVenue, client_of, to_ms, utc_now
from exchanges.sandbox.history import EPOCH_ORDINAL, History, Row, Truth, Truths
from exchanges.sandbox.trader import DAY_MS, FORCED, Execution, Market, Rates, Trader, price_of
from exchanges.stark import auth_hash, verify

Environment = Literal["mainnet", "testnet"]
Kind = Literal["api_key", "jwt"]  # a read-only token, a short one
List = Literal["fills", "tradebusts"]

DEMO_MAIN = "0x129f3dc1b8962d8a87abc692424c78fda963ade0e1cd17bf3d1c26f8d41ee7a"
DEMO_SUB = "0x10f2a44d0c1e86b3a9257e0d37c5b1fa8e6c49d2b7f03a1586cd94e27b0a1c5"  # a sub-account of DEMO_MAIN
DEMO_MAIN_KEY = 0x3C1E9550E66958296D11B60F8E8E7A7AD990D07FA65D5F7652C4A6C87D4E3CC  # private
DEMO_MAIN_PUBLIC = 0x77A3B314DB07C45076D11F62B6F9E748A39790441823307743CF00D6597EA43
DEMO_SUBKEY = 0x1B5E1F0C7D24A6930B8C5D7E21F4A38096C3D85B7E0A492F61D8C73B05E94A2  # private; of DEMO_MAIN
DEMO_SUBKEY_PUBLIC = 0x2B28B81938B94087529B11991D46CF8A8663BC4203B874DE0FC695C103F742E

CHAINS: dict[Environment, str] = {
    "mainnet": "PRIVATE_SN_PARACLEAR_MAINNET",
    "testnet": "PRIVATE_SN_POTC_SEPOLIA",
}
ISSUERS: dict[Environment, str] = {"mainnet": "Paradex prod", "testnet": "Paradex testnet"}
SECRET = b"the sandbox signs its tokens and cursors with this"
FOREVER = datetime(2035, 1, 1, tzinfo=UTC)
BIRTHDAY = datetime(2024, 1, 1, tzinfo=UTC)  # of the demo's tokens and accounts
LONGEST_SIGNATURE = 7 * 86_400  # seconds
USUAL_SIGNATURE = 1_800
AHEAD = 10  # seconds a signature may come from the future

TRADES = ("FILL", "RPI", "BLOCK_TRADE")
LIQUIDATION = "LIQUIDATION"
UNKNOWN_TYPE = "AUCTION"
TWINS = (LIQUIDATION, "SETTLE_MARKET", "UNWIND_TRANSFER")
TWIN_EVERY = 23  # days
BUST_EVERY = 2_000  # fills
PNL_SINCE = to_ms(datetime(2025, 1, 2, tzinfo=UTC))
FUNDING_SINCE = to_ms(datetime(2025, 2, 5, tzinfo=UTC))
SEQUENCE_SINCE = to_ms(datetime(2025, 10, 1, tzinfo=UTC))
UNWIND_SINCE = to_ms(datetime(2026, 7, 22, tzinfo=UTC))
RETAIL_SINCE = to_ms(datetime(2026, 6, 15, tzinfo=UTC))  # interactive orders are free
DIME_PRICE = Decimal("0.08")
DIME_DISCOUNT = Decimal("0.6")
SETTLEMENT_FEE = Decimal("0.00015")
CENT = Decimal("0.01")

OPTION = re.compile(r"\w+-USD-(\d\d[A-Z]{3}\d\d-)?\d+-[CP]")
ACCOUNT = re.compile(r"0x[0-9a-fA-F]{1,64}")
ASSET_KINDS = ("PERP", "PERP_OPTION", "OPTION", "SPOT")
HISTORIES = ("pnl", "value", "volume", "fee_savings")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

MAKER = Decimal("0.00003")
PRO_TIERS = (  # 14-day volume, taker fee
    ("0", "0.00045"),
    ("1000000", "0.00042"),
    ("5000000", "0.00039"),
    ("10000000", "0.00037"),
    ("25000000", "0.00035"),
)
RETAIL_TIERS = ("0", "100000", "500000", "1000000", "5000000", "10000000", "50000000")
TIERS = (
    Rates(MAKER, Decimal("0.00045")),
    Rates(MAKER, Decimal("0.00042")),
    Rates(Decimal(0), Decimal(0)),
    Rates(Decimal("-0.00005"), Decimal("0.0003")),
)


@dataclass(slots=True)
class Token:
    """What the venue knows of a token it gave out."""

    account: str
    kind: Kind
    expires_at: datetime
    environment: Environment
    cidrs: tuple[str, ...] = ()
    number: int = 0  # no two tokens are the same
    is_revoked: bool = False


def token_text(token: Token, issued_at: datetime) -> str:
    """The token as a user holds it. The true venue signs with its private key, we with a hash."""
    header = _base64({"alg": "ES384", "typ": "JWT"})
    claims = _base64(
        {
            "typ": "at+JWT",
            "exp": int(token.expires_at.timestamp()),
            "iat": int(issued_at.timestamp()),
            "iss": ISSUERS[token.environment],
            "sub": token.account,
        }
    )
    return f"{header}.{claims}." + _sign(f"{header}.{claims}", f"{token.kind} {token.number} {token.cidrs}")


def _sign(text: str, more: str) -> str:
    digest = hmac.digest(SECRET, f"{text} {more}".encode(), sha256)
    return urlsafe_b64encode(digest).decode().rstrip("=")


def _base64(value: Row) -> str:
    return urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


DEMO_TOKEN, DEMO_SUB_TOKEN = (
    token_text(Token(address, "api_key", FOREVER, "mainnet"), BIRTHDAY) for address in (DEMO_MAIN, DEMO_SUB)
)


def _market(symbol: str, base: str, tick: str, lot: str, weight: float) -> Market:
    kind: Literal["perp", "spot", "outcome"] = "perp" if is_perp(symbol) else "spot"
    return Market(symbol, base, "USD", Decimal(tick), Decimal(lot), kind, weight=weight)


def is_perp(symbol: str) -> bool:
    return symbol.endswith("-PERP")


MARKETS = (
    _market("BTC-USD-PERP", "BTC", "0.1", "0.00001", 30),
    _market("ETH-USD-PERP", "ETH", "0.01", "0.0001", 22),
    _market("SOL-USD-PERP", "SOL", "0.001", "0.01", 12),
    _market("HYPE-USD-PERP", "HYPE", "0.001", "0.01", 10),
    _market("XRP-USD-PERP", "XRP", "0.0001", "1", 5),
    _market("DOGE-USD-PERP", "DOGE", "0.00001", "1", 4),
    _market("kPEPE-USD-PERP", "kPEPE", "0.000001", "1", 5),
    _market("NVDA-USD-PERP", "NVDA", "0.01", "0.001", 2),
    _market("ETH-USD", "ETH", "0.01", "0.0001", 3),
    _market("BTC-USD-{expiry}-100000-C", "NVDA", "1", "0.01", 3),  # of each month another
    _market("BTC-USD-96000-C", "SOL", "1", "0.01", 2),
)
UNLISTED = ("HYPE-USD-PERP", "DOGE-USD-PERP")  # when odd


class Refusal(Exception):
    """The venue answers this instead."""

    def __init__(self, status: int, **body: Any) -> None:
        self.status = status
        self.body = body


class TooMany(Exception):
    """The client has to wait so many seconds."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds


def _error(status: int, error: str, message: str) -> Refusal:
    return Refusal(status, error=error, message=message, data=None)


def _invalid(message: str, error: str = "VALIDATION_ERROR") -> Refusal:
    return _error(400, error, message)


def _no_token(message: str) -> Refusal:
    return Refusal(401, error="INVALID_TOKEN", message=f"invalid bearer jwt: {message}")


class Place(NamedTuple):
    """Where a row stands in its list."""

    created_at: int
    id: str
    fill_type: str  # an id is unique within its type

    @classmethod
    def of(cls, row: Row) -> "Place":
        return cls(row["created_at"], row.get("id") or row["busted_fill_id"], row.get("fill_type", ""))


@dataclass(slots=True)
class Bucket:
    """So many requests at once; it fills again within the window."""

    size: int
    window: int  # seconds
    full_at: datetime = EPOCH

    def take(self, now: datetime) -> float:
        """0, or how many seconds are missing."""
        drop = timedelta(seconds=self.window) / self.size
        full_at = max(self.full_at, now) + drop
        missing = (full_at - now).total_seconds() - self.window
        if missing > 1e-6:
            return missing
        self.full_at = full_at
        return 0

    def left(self, now: datetime) -> int:
        return min(self.size, int(self.size * (1 - (self.full_at - now).total_seconds() / self.window) + 1e-6))

    def headers(self, now: datetime) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": f"{self.size}",
            "X-RateLimit-Remaining": f"{self.left(now)}",
            "X-RateLimit-Reset": f"{ceil(max(self.full_at, now).timestamp())}",
            "X-Ratelimit-Window": f"{self.window}",
        }


class Account:
    """Who an account is, its keys, its fills and busts: those of its trader, and those put in by hand."""

    def __init__(
        self,
        address: str,
        *,
        parent: str,
        username: str,
        environment: Environment,
        main_key: int,
        subkeys: Iterable[int],
        trader: Trader | None,
        opened_at: datetime,
        odd: bool,
    ) -> None:
        self.address = address
        self.parent = parent
        self.username = username
        self.environment = environment
        self.main_key = main_key  # all keys here are public ones
        self.subkeys = set(subkeys)
        self.revoked_subkeys: set[int] = set()
        self.opened_at = opened_at
        self.trader = trader
        self.odd = odd
        self.first_day = opened_at.toordinal() if trader else date.max.toordinal()
        self.lists: dict[List, History] = {
            "fills": History(
                _created_at,
                trader=trader,
                opened_at=opened_at,
                spell=self._fill,
                extra=self._twin,
                kept=20_000,
            ),
            "tradebusts": History(
                _created_at, trader=trader, opened_at=opened_at, spell=lambda execution: None, extra=self._busts
            ),
        }
        self._truths: dict[int, dict[str, Truth]] = {}  # of whole days
        self._busts_then = 0  # how many there were when these were found

    def put(self, name: List, *rows: Row) -> None:
        self.lists[name].put(*rows)
        self.first_day = min([self.first_day, *(_ordinal(row["created_at"]) for row in rows)])
        self._truths.clear()

    def busted(self, now_ms: int) -> set[str]:
        """The ids of all fills busted so far."""
        return {row["busted_fill_id"] for row in self.lists["tradebusts"].between(0, now_ms)}

    def truth(self, first_ms: int, last_ms: int, now_ms: int) -> Truths:
        """What the fills of [first_ms, last_ms] come to, without those busted by now."""
        busted = self.busted(now_ms)
        if len(busted) != self._busts_then:
            self._truths.clear()
            self._busts_then = len(busted)
        result: Truths = {}
        for ordinal in range(max(self.first_day, _ordinal(first_ms)), _ordinal(last_ms) + 1):
            midnight = (ordinal - EPOCH_ORDINAL) * DAY_MS
            if first_ms <= midnight and midnight + DAY_MS - 1 <= last_ms:
                if ordinal not in self._truths:
                    self._truths[ordinal] = _truth_of(self.lists["fills"].day(ordinal), busted)
                day = self._truths[ordinal]
            else:
                rows = self.lists["fills"].day(ordinal)
                day = _truth_of((row for row in rows if first_ms <= row["created_at"] <= last_ms), busted)
            result.update({(date.fromordinal(ordinal), symbol): truth for symbol, truth in day.items()})
        return result

    def _fill(self, execution: Execution) -> Row:
        """An execution as the API shows it."""
        market, at, ms = execution.market, execution.executed_at, to_ms(execution.executed_at)
        draw, order = _draw(execution), execution.order
        symbol, fill_type = market.symbol, _fill_type(execution)
        if "{" in symbol:
            symbol = symbol.format(expiry=_code(_expiry(at.date())))
        underlying = price_of(symbol.partition("-")[0], at.toordinal() + ms % DAY_MS / DAY_MS)
        if self.odd and market.kind == "perp" and fill_type == "FILL" and draw % 300 == 1:
            fill_type = UNKNOWN_TYPE
        is_interactive = not execution.is_maker and order % 4 == 0
        flags = ["rpi"] if fill_type == "RPI" else ["interactive"] if is_interactive else []
        if not execution.is_maker and order % 9 == 1:
            flags.append("fastfill")

        fee, fee_currency = execution.fee, "USDC"
        if fill_type == "SETTLE_MARKET":
            fee = round(execution.notional * SETTLEMENT_FEE, 8)
        elif is_interactive and ms >= RETAIL_SINCE:
            fee = Decimal(0)
        elif order % 7 == 0:
            fee, fee_currency = round(fee * DIME_DISCOUNT / DIME_PRICE, 8), "DIME"
        nothing = "" if draw % 2 else "0"
        row: Row = {
            "id": f"{ms}{_serial(execution.number)}",
            "account": self.address,
            "market": symbol,
            "side": execution.side.upper(),
            "liquidity": "MAKER" if execution.is_maker else "TAKER",
            "order_id": f"{ms - ms % DAY_MS}{_serial(order)}",
            "client_id": f"grid-{order % 40}" if order % 3 == 0 else "",
            "price": text(execution.price),
            "size": text(execution.qty),
            "fee": text(fee),
            "fee_currency": fee_currency,
            "realized_pnl": text(execution.realized_pnl) if ms >= PNL_SINCE else nothing,
            "realized_funding": text(Decimal(draw % 4001 - 2000).scaleb(-4)) if ms >= FUNDING_SINCE else nothing,
            "remaining_size": text(market.lot * (draw % 50)) if execution.is_maker else "0",
            "underlying_price": f"{underlying:.8g}",
            "created_at": ms,
            "fill_type": fill_type,
            "flags": flags,
        }
        if ms >= SEQUENCE_SINCE:
            row["orderbook_seq_no"] = 0 if execution.kind in FORCED else execution.number % 2**40
        if self.odd:
            row |= {"venue_fee_share": "0.1", "settlement": {"batch": order % 1000, "is_final": True}}
        return row

    def _twin(self, ordinal: int) -> Iterator[Row]:
        """Now and then a row that is no trade, with the id of one: a liquidation, a settlement, a transfer."""
        if not self.trader or ordinal % TWIN_EVERY:
            return
        fill_type = TWINS[ordinal // TWIN_EVERY % len(TWINS)]
        for execution in self.trader.day(ordinal):
            if execution.market.kind == "perp" and execution.kind == "trade" and not _is_busted(execution):
                row = self._fill(execution)
                if fill_type == "UNWIND_TRANSFER" and row["created_at"] < UNWIND_SINCE:
                    fill_type = "TRANSFER"
                if "orderbook_seq_no" in row:
                    row["orderbook_seq_no"] = 0
                yield row | {"fill_type": fill_type, "flags": [], "fee": "0", "fee_currency": "USDC", "client_id": ""}
                return

    def _busts(self, ordinal: int) -> Iterator[Row]:
        """The busts of a day, of fills of that day or the one before."""
        for fills_of in (ordinal - 1, ordinal):
            if not self.trader or fills_of < self.opened_at.toordinal():
                continue
            for execution in self.trader.day(fills_of):
                if _is_busted(execution):
                    row = self._fill(execution)
                    created_at = row["created_at"] + (3_000 << _draw(execution) // BUST_EVERY % 15)
                    if _ordinal(created_at) == ordinal:
                        yield bust_of(self.address, row["id"], created_at)


class Paradex(SandboxVenue):
    """The venue, with the demo's account.

    `fills_per_day` is what its owner does. A trader's account was opened at `opened_at`: by default two years ago and
    up to a month more. `odd`: fields and kinds of fills nobody has heard of, markets that are not listed, numbers where
    text is usual and the other way round. `duplicates`: a page begins with the last rows of the one before.
    `exclusive_bounds`: fills at start_at and end_at are left out. `oldest_first`: lists are turned round.
    `busted_stay`: a busted fill is still among the fills. A JWT lives `jwt_seconds`, a cursor `cursor_seconds`.
    The private limits hold for each account, the others for each address. `status` is what /system/state says.
    """

    demo_accounts = (("Main", {"token": DEMO_TOKEN}),)
    unmetered = {
        "private_per_second": 10**9,
        "private_per_minute": 10**9,
        "ip_per_minute": 10**9,
        "auth_per_minute": 10**9,
    }
    maintenance = (
        503,
        b'{"error": "SERVICE_UNAVAILABLE", "message": "service is temporarily unavailable", "data": null}',
    )

    def __init__(
        self,
        now: Callable[[], datetime] = utc_now,
        *,
        fills_per_day: float = 12,
        opened_at: datetime | None = None,
        odd: bool = False,
        duplicates: bool = False,
        jwt_seconds: float = 300,
        cursor_seconds: float = 600,
        exclusive_bounds: bool = False,
        oldest_first: bool = False,
        busted_stay: bool = True,
        private_per_second: int = 120,
        private_per_minute: int = 600,
        ip_per_minute: int = 1500,
        auth_per_minute: int = 600,
        latency: float = 0.0,
        skew: timedelta = timedelta(),
    ) -> None:
        super().__init__(now, latency=latency, skew=skew)
        self.opened_at = opened_at or _first_of_month(now() - timedelta(days=730))
        self.odd = odd
        self.duplicates = duplicates
        self.jwt_seconds = jwt_seconds
        self.cursor_seconds = cursor_seconds
        self.exclusive_bounds = exclusive_bounds
        self.oldest_first = oldest_first
        self.busted_stay = busted_stay
        self.status: Literal["ok", "maintenance", "cancel_only", "post_only"] = "ok"
        self.accounts: dict[str, Account] = {}
        self.tokens: dict[str, Token] = {}
        self._limits = {  # size, window in seconds
            "ip": (ip_per_minute, 60),
            "auth": (auth_per_minute, 60),
            "second": (private_per_second, 1),
            "minute": (private_per_minute, 60),
        }
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._answered = 0
        self._public: dict[str, Callable[[httpx.Request], Row]] = {
            "/markets": self._markets,
            "/markets/summary": self._markets_summary,
            "/system/config": self._system_config,
            "/system/state": lambda request: {"status": self.status},
            "/system/time": self._system_time,
            "/system/volume-tiers": self._volume_tiers,
        }
        self._private: dict[str, Callable[[httpx.Request, Account], Row]] = {
            "/fills": self._fills,
            "/tradebusts": self._tradebusts,
            "/account/info": self._account_info,
            "/account/subaccounts": self._subaccounts,
            "/account/history": self._account_history,
        }
        main = Trader("paradex main", fills_per_day, MARKETS, tiers=TIERS, notional=8_000, kept=200_000)
        sub = Trader("paradex sub", 3, MARKETS, tiers=TIERS)
        self.add(
            DEMO_MAIN,
            trader=main,
            username="quietmaker",
            main_key=DEMO_MAIN_PUBLIC,
            subkeys=[DEMO_SUBKEY_PUBLIC],
            issued_at=BIRTHDAY,
        )
        self.add(DEMO_SUB, trader=sub, parent=DEMO_MAIN, issued_at=BIRTHDAY)

    # What tests and the demo use.

    def add(
        self,
        account_ref: str,
        *,
        trader: Trader | None = None,
        rows: Sequence[Row] = (),
        parent: str = "",
        username: str = "",
        main_key: int = 1,
        subkeys: Iterable[int] = (),
        environment: Environment = "mainnet",
        expires_at: datetime = FOREVER,
        cidrs: Sequence[str] = (),
        issued_at: datetime | None = None,
    ) -> str:
        """An account with a trader or these fills, with these public keys; the answer is a read-only token of it."""
        account = Account(
            address_of(account_ref),
            parent=address_of(parent) if parent else "",
            username=username,
            environment=environment,
            main_key=main_key,
            subkeys=subkeys,
            trader=trader,
            opened_at=self.opened_at,
            odd=self.odd,
        )
        with self._lock:
            self.accounts[account.address] = account
            if rows:
                account.put("fills", *rows)
            return self.token(account.address, expires_at=expires_at, cidrs=cidrs, issued_at=issued_at)

    def token(
        self,
        account_ref: str,
        *,
        expires_at: datetime = FOREVER,
        cidrs: Sequence[str] = (),
        environment: Environment | None = None,
        kind: Kind = "api_key",
        issued_at: datetime | None = None,
    ) -> str:
        """A new token of the account; `environment` is whose venue issued it."""
        account = self._account(account_ref)
        environment = environment or account.environment
        number = 0 if issued_at else len(self.tokens) + 1
        token = Token(account.address, kind, expires_at, environment, tuple(cidrs), number)
        text = token_text(token, issued_at or self.now())
        with self._lock:
            self.tokens[text] = token
        return text

    def revoke(self, account_ref: str) -> None:
        """All tokens and subkeys of the account are deleted."""
        self._set_revoked(account_ref, True)

    def restore(self, account_ref: str) -> None:
        """They are there again."""
        self._set_revoked(account_ref, False)

    def expire_jwts(self) -> None:
        """All JWTs end now; read-only tokens stay."""
        with self._lock:
            for token in self.tokens.values():
                if token.kind == "jwt":
                    token.expires_at = min(token.expires_at, self.now())

    def put(self, account_ref: str, list_name: List, *rows: Row) -> None:
        """Adds rows in API form."""
        with self._lock:
            self._account(account_ref).put(list_name, *rows)

    def bust(self, account_ref: str, fill_id: str, at: datetime | None = None) -> None:
        """The chain did not settle the fill: found out at `at`, or now. All rows with this id are meant."""
        account = self._account(account_ref)
        self.put(account_ref, "tradebusts", bust_of(account.address, fill_id, to_ms(at or self.now())))

    def rows(self, account_ref: str, list_name: List = "fills") -> list[Row]:
        """The whole list up to now, oldest first; busted fills are among the fills."""
        with self._lock:
            return list(self._account(account_ref).lists[list_name].between(0, to_ms(self.now())))

    def truth(self, account_ref: str, since: datetime | None = None, until: datetime | None = None) -> Truths:
        """What the trades of [since, until) in perpetuals come to, up to now, without those busted by now.

        Order-book, retail and block fills count, liquidations stand apart; settlements, transfers and fills of an
        unknown kind do not count.
        """
        with self._lock:
            now_ms = to_ms(self.now())
            first = to_ms(since) if since else 0
            last = min(now_ms, to_ms(until) - 1) if until else now_ms
            return self._account(account_ref).truth(first, last, now_ms)

    def _account(self, account_ref: str) -> Account:
        return self.accounts[address_of(account_ref)]

    def _set_revoked(self, account_ref: str, is_revoked: bool) -> None:
        with self._lock:
            account = self._account(account_ref)
            for token in self.tokens.values():
                if token.account == account.address:
                    token.is_revoked = is_revoked
            account.revoked_subkeys = set(account.subkeys) if is_revoked else set()

    # The door.

    def kind(self, request: httpx.Request, asked: Any) -> str:
        return re.sub(r"^(/v1/auth)/.*", r"\1", request.url.path)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self._answered += 1
        taken: list[Bucket] = []
        now = self.now()
        try:
            status, body = 200, self._body(request, taken)
        except Refusal as refusal:
            status, body = refusal.status, refusal.body
        except TooMany as too_many:
            self.hush(request, too_many.seconds)
            headers = taken[-1].headers(now) | {"Retry-After": f"{too_many.seconds}"}
            code, content = self.rate_limited
            return httpx.Response(code, headers=headers, content=content)
        tightest = min(taken, key=lambda bucket: bucket.left(now) / bucket.size)
        return httpx.Response(status, headers=tightest.headers(now), json=body)

    def _body(self, request: httpx.Request, taken: list[Bucket]) -> Row:
        is_get, path = request.method == "GET", request.url.path.removeprefix("/v1")
        self._take("ip", client_of(request), taken)
        if path == request.url.path:
            raise _error(404, "NOT_FOUND", "no such endpoint")
        if request.method == "POST" and (path == "/auth" or path.startswith("/auth/")):
            self._take("auth", client_of(request), taken)
            return self._auth(request, path.removeprefix("/auth").removeprefix("/"))
        if is_get and path in self._public:
            return self._public[path](request)
        token = self._token_of(request)
        if is_get:
            self._take("second", token.account, taken)
            self._take("minute", token.account, taken)
        elif token.kind == "api_key":
            raise _error(403, "INVALID_TOKEN_SCOPE", "token is read-only")
        if not is_get or path not in self._private:
            raise _error(404, "NOT_FOUND", "no such endpoint")
        return self._private[path](request, self.accounts[token.account])

    def _take(self, scope: str, who: str, taken: list[Bucket]) -> None:
        bucket = self._buckets.setdefault((scope, who), Bucket(*self._limits[scope]))
        taken.append(bucket)
        missing = bucket.take(self.now())
        if missing:
            raise TooMany(ceil(missing))

    def _token_of(self, request: httpx.Request) -> Token:
        """The token in a request's header."""
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise _no_token("missing value in request header")
        token = self.tokens.get(text)
        if not token or token.account not in self.accounts:
            raise _no_token("signature is invalid")
        if token.environment != _environment(request):
            raise _no_token("token has invalid issuer")
        if token.is_revoked:
            raise _no_token("token has been revoked")
        if token.expires_at <= self.now():
            late = _duration((self.now() - token.expires_at).total_seconds())
            raise Refusal(401, message=f"missing or malformed jwt: token is expired by {late}")
        client = ip_address(client_of(request))
        if token.cidrs and not any(client in ip_network(cidr) for cidr in token.cidrs):
            raise _error(403, "IP_NOT_ALLOWED", f"{client} is not in the token's allowed_cidrs")
        return token

    def _auth(self, request: httpx.Request, key: str) -> Row:
        """Signing in with a Stark signature: by the main key, or by the key in the path."""
        address = request.headers.get("PARADEX-STARKNET-ACCOUNT", "")
        if not ACCOUNT.fullmatch(address):
            raise _invalid("PARADEX-STARKNET-ACCOUNT is no address", "INVALID_STARKNET_ADDRESS")
        signature = _signature(request.headers.get("PARADEX-STARKNET-SIGNATURE", ""))
        now = self.now().timestamp()
        timestamp = _seconds(request, "PARADEX-TIMESTAMP")
        expiration = timestamp + USUAL_SIGNATURE
        if "PARADEX-SIGNATURE-EXPIRATION" in request.headers:
            expiration = _seconds(request, "PARADEX-SIGNATURE-EXPIRATION")
        if not timestamp < expiration <= timestamp + LONGEST_SIGNATURE:
            raise _invalid("signature expiration must be within a week after the timestamp", "INVALID_TIMESTAMP")
        if not (timestamp <= now + AHEAD and now < expiration):
            raise _invalid("signature is expired or not valid yet", "INVALID_TIMESTAMP")

        environment = _environment(request)
        account = self.accounts.get(address_of(address))
        if not account or account.environment != environment:
            raise _invalid("User has never called /onboarding endpoint", "NOT_ONBOARDED")
        signer = account.main_key
        if key:
            if not ACCOUNT.fullmatch("0x" + key.lower().removeprefix("0x")):
                raise _invalid("public key is no hex number", "PUBLIC_KEY_INVALID")
            signer = int(key, 16)
        if signer != account.main_key and signer not in account.subkeys - account.revoked_subkeys:
            raise _error(401, "INVALID_SUBKEY", "public key is not registered for this account")
        message = auth_hash(
            account=int(address, 16), chain_id=CHAINS[environment], timestamp=timestamp, expiration=expiration
        )
        if not verify(message, signature, signer):
            raise _error(401, "STARKNET_SIGNATURE_VERIFICATION_FAILED", "signature does not match account")
        expires_at = self.now() + timedelta(seconds=self.jwt_seconds)
        return {"jwt_token": self.token(account.address, expires_at=expires_at, kind="jwt")}

    # Lists.

    def _fills(self, request: httpx.Request, account: Account) -> Row:
        market, asset_kind = request.url.params.get("market"), request.url.params.get("asset_kind")
        if _environment(request) == "testnet":
            asset_kind = None  # not known there
        if asset_kind and asset_kind not in ASSET_KINDS:
            raise _invalid(f"asset_kind must be one of {', '.join(ASSET_KINDS)}")
        hidden = set() if self.busted_stay else account.busted(to_ms(self.now()))

        def is_wanted(row: Row) -> bool:
            return (
                (not market or row["market"] == market)
                and (not asset_kind or asset_kind_of(row["market"]) == asset_kind)
                and row["id"] not in hidden
            )

        return self._page(request, account, "fills", is_wanted, Market=market, AssetKind=asset_kind)

    def _tradebusts(self, request: httpx.Request, account: Account) -> Row:
        return self._page(request, account, "tradebusts", lambda row: True)

    def _page(
        self,
        request: httpx.Request,
        account: Account,
        name: List,
        is_wanted: Callable[[Row], bool],
        **filters: str | None,
    ) -> Row:
        params, now_ms = request.url.params, to_ms(self.now())
        limit = _whole(params, "page_size", 100)
        start_at, end_at = _whole(params, "start_at", 0), _whole(params, "end_at", now_ms)
        if not 1 <= limit <= 5000:
            raise _invalid("page_size must be in 1..5000")
        bounds = {"StartAt": params.get("start_at"), "EndAt": params.get("end_at")}
        asked = json.dumps({"List": name, "Limit": limit, **filters, **bounds})
        if self.exclusive_bounds:
            start_at, end_at = start_at + ("start_at" in params), end_at - ("end_at" in params)
        end_at = min(end_at, now_ms)

        place, is_back = None, False
        if params.get("cursor"):
            place, is_back = self._open(params["cursor"], asked, account)
        newest_first = self.oldest_first == is_back
        rows = self._walk(account.lists[name], start_at, end_at, place, newest_first)
        page = list(islice(filter(is_wanted, rows), limit + 1))
        is_more = len(page) > limit
        del page[limit:]
        if is_back:
            page.reverse()
        following, previous = None if self._answered % 2 else "", None
        if page and (is_more or is_back):
            overlap = min(3, len(page) - 1) if self.duplicates else 0
            following = self._cursor(page[-1 - overlap], False, asked, account)
        if page and place and (is_more or not is_back):
            previous = self._cursor(page[0], True, asked, account)
        return {"results": self._shuffled(page), "next": following, "prev": previous}

    def _walk(
        self, history: History, first_ms: int, last_ms: int, place: Place | None, newest_first: bool
    ) -> Iterator[Row]:
        """The rows beyond a place, in order."""
        if place and newest_first:
            last_ms = min(last_ms, place.created_at)
        elif place:
            first_ms = max(first_ms, place.created_at)
        rows = history.between(first_ms, last_ms, newest_first=newest_first)
        for ms, same in groupby(rows, key=_created_at):
            ordered = sorted(same, key=Place.of, reverse=newest_first)
            if place and ms == place.created_at:
                ordered = [row for row in ordered if (Place.of(row) < place if newest_first else Place.of(row) > place)]
            yield from ordered

    def _shuffled(self, page: list[Row]) -> list[Row]:
        """Rows of one millisecond in any order."""
        random, result = Random(self._answered), []
        for _, same in groupby(page, key=_created_at):
            rows = list(same)
            random.shuffle(rows)
            result += rows
        return result

    def _cursor(self, row: Row, is_back: bool, asked: str, account: Account) -> str:
        state = {"filter": json.loads(asked), "place": Place.of(row), "back": is_back, "time": to_ms(self.now())}
        content = _base64(state)
        return f"{content}.{_sign(content, account.address)}"

    def _open(self, text: str, asked: str, account: Account) -> tuple[Place, bool]:
        """The place, and whether the cursor leads back from it."""
        content, _, signature = text.partition(".")
        refusal = _invalid("cursor is not valid", "INVALID_REQUEST_PARAMETER")
        if not hmac.compare_digest(signature.encode(), _sign(content, account.address).encode()):
            raise refusal
        try:
            state = json.loads(urlsafe_b64decode(content + "=" * (-len(content) % 4)))
        except (ValueError, binascii.Error):
            raise refusal from None
        if state["filter"] != json.loads(asked) or to_ms(self.now()) - state["time"] > self.cursor_seconds * 1000:
            raise refusal
        return Place(*state["place"]), state["back"]

    # Accounts.

    def _account_info(self, request: httpx.Request, account: Account) -> Row:
        relatives = [account, *self._subaccounts_of(account)]
        return {"results": [self._info(one) for one in sorted(relatives, key=lambda one: one.address)]}

    def _subaccounts(self, request: httpx.Request, account: Account) -> Row:
        return {"results": [self._info(sub) for sub in self._subaccounts_of(account)]}

    def _subaccounts_of(self, account: Account) -> list[Account]:
        return [other for other in self.accounts.values() if other.parent == account.address]

    def _info(self, account: Account) -> Row:
        volume = self._volume(account)
        tier = sum(volume >= Decimal(least) for least, _ in PRO_TIERS) - 1
        vip = sum(volume >= Decimal(least) for least in RETAIL_TIERS) - 1
        fees = {"maker_rate": f"{MAKER:f}", "taker_rate": PRO_TIERS[tier][1]}
        if not account.parent:
            fees |= {f"spot_{name}": rate for name, rate in fees.items()}
        siblings = self._subaccounts_of(self.accounts[account.parent]) if account.parent in self.accounts else []
        tiers = {
            "pro": {"tier": f"Pro {tier}", "volume": f"{volume:f}"},
            "retail": {"tier": f"VIP {vip}", "volume": f"{volume:f}"},
        }
        return {
            "account": account.address,
            "kind": "subaccount" if account.parent else "main",
            "parent_account": account.parent,
            "public_key": hex(account.main_key),
            "username": account.username,
            "created_at": to_ms(account.opened_at),
            "derivation_path": f"m/44'/9004'/0'/0/{siblings.index(account) + 1}" if siblings else "",
            "isolated_market": "",
            "has_ecosystem_nft": False,
            "fees": fees,
            "volume_tiers": {} if account.parent else tiers,
        }

    def _volume(self, account: Account) -> Decimal:
        """What the account and its sub-accounts traded in perpetuals within 14 days."""
        since = self.now() - timedelta(days=14)
        family = [account, *self._subaccounts_of(account)]
        truths = (truth for one in family for truth in self.truth(one.address, since).values())
        return sum((truth.notional for truth in truths), Decimal(0)).quantize(CENT)

    def _account_history(self, request: httpx.Request, account: Account) -> Row:
        """One point for each UTC day; only the volume is worked out."""
        kind = request.url.params.get("type")
        if kind not in HISTORIES:
            raise _invalid(f"type must be one of {', '.join(HISTORIES)}")
        truths = self.truth(account.address)
        days = dict.fromkeys(sorted(day for day, _ in truths), 0.0)
        if days:
            first, today = next(iter(days)).toordinal(), self.now().toordinal()
            days = {date.fromordinal(ordinal): 0.0 for ordinal in range(first, today + 1)}
        if kind == "volume":
            for (day, _), truth in truths.items():
                days[day] += float(truth.notional)
        return {
            "data": [round(value, 2) for value in days.values()],
            "timestamps": [(day.toordinal() - EPOCH_ORDINAL) * DAY_MS for day in days],
        }

    # What everybody may read.

    def _markets(self, request: httpx.Request) -> Row:
        rows = [self._market_row(market) for market in MARKETS if not (self.odd and market.symbol in UNLISTED)]
        symbol = request.url.params.get("market")
        if symbol:
            rows = [row for row in rows if row["symbol"] == symbol]
            if not rows:
                raise _error(404, "MARKET_NOT_FOUND", f"market {symbol} not found")
        return {"results": rows}

    def _market_row(self, market: Market) -> Row:
        expiry = _expiry(self.now().date())
        symbol = market.symbol.format(expiry=_code(expiry))
        kind, parts = asset_kind_of(symbol), symbol.split("-")
        row: Row = {
            "symbol": symbol,
            "asset_kind": kind,
            "market_kind": "cross",
            "base_currency": parts[0],
            "quote_currency": "USD",
            "settlement_currency": "USDC",
            "order_size_increment": text(market.lot),
            "price_tick_size": text(market.tick),
            "min_notional": "10",
            "open_at": to_ms(BIRTHDAY),
            "expiry_at": 0,
            "trading_mode": "STANDARD",
            "tags": [],
        }
        if kind in ("OPTION", "PERP_OPTION"):
            row |= {"strike_price": parts[-2], "option_type": "CALL" if parts[-1] == "C" else "PUT"}
        if kind == "OPTION":
            at = datetime(expiry.year, expiry.month, expiry.day, 8, tzinfo=UTC)
            row |= {"expiry_at": to_ms(at), "open_at": to_ms(at - timedelta(days=90))}
        if kind == "PERP":
            row |= {
                "max_order_size": "100",
                "position_limit": "300",
                "max_open_orders": 150,
                "funding_period_hours": 8,
                "tags": ["LAYER-1"],
            }
        if self.odd:
            row |= {"open_at": str(row["open_at"]), "expiry_at": str(row["expiry_at"])}
        return row

    def _markets_summary(self, request: httpx.Request) -> Row:
        """Only prices."""
        wanted = request.url.params.get("market")
        if not wanted:
            raise _invalid("market is required")
        now = self.now()
        day = now.toordinal() + to_ms(now) % DAY_MS / DAY_MS
        prices = {market.symbol: f"{price_of(market.base, day):.8g}" for market in MARKETS if market.kind == "perp"}
        prices["DIME-USD"] = text(DIME_PRICE)
        return {
            "results": [
                {"symbol": symbol, "mark_price": price, "created_at": to_ms(now)}
                for symbol, price in prices.items()
                if wanted in ("ALL", symbol)
            ]
        }

    def _system_config(self, request: httpx.Request) -> Row:
        environment = _environment(request)
        return {
            "starknet_chain_id": CHAINS[environment],
            "environment": "prod" if environment == "mainnet" else "testnet",
            "paraclear_decimals": 8,
        }

    def _system_time(self, request: httpx.Request) -> Row:
        ms = to_ms(self.now())
        return {"server_time": ms if self.odd else str(ms)}

    def _volume_tiers(self, request: httpx.Request) -> Row:
        pro = [("pro", f"Pro {index}", index, *tier) for index, tier in enumerate(PRO_TIERS)]
        vip = [("retail", f"VIP {index}", index, least, "") for index, least in enumerate(RETAIL_TIERS) if index]
        return {
            "results": [
                {
                    "kind": kind,
                    "tier_name": name,
                    "sort_order": index,
                    "min_volume": least,
                    "min_volume_duration": "14d",
                    "nft_min_volume": "0",
                    "fee_rates": {"taker": taker, "maker": f"{MAKER:f}"} if taker else {},
                }
                for kind, name, index, least, taker in [*pro, *vip]
            ]
        }


def address_of(account: str) -> str:
    """The one spelling of an address."""
    return hex(int(account, 16))


def text(number: Decimal) -> str:
    """No exponent, no idle zeros."""
    digits = f"{number:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def asset_kind_of(symbol: str) -> str:
    if is_perp(symbol):
        return "PERP"
    option = OPTION.fullmatch(symbol)
    if not option:
        return "SPOT"
    return "OPTION" if option[1] else "PERP_OPTION"


def bust_of(account: str, fill_id: str, created_at: int) -> Row:
    return {"account": account, "busted_fill_id": fill_id, "created_at": created_at}


def _truth_of(rows: Iterable[Row], busted: set[str]) -> dict[str, Truth]:
    """By symbol."""
    result: dict[str, Truth] = {}
    for row in rows:
        symbol, fill_type = row["market"], row["fill_type"]
        if is_perp(symbol) and fill_type in (*TRADES, LIQUIDATION) and row["id"] not in busted:
            notional = Decimal(row["price"]) * Decimal(row["size"])
            result[symbol] = result.get(symbol, Truth()).plus(notional, is_forced=fill_type == LIQUIDATION)
    return result


def _created_at(row: Row) -> int:
    created_at: int = row["created_at"]
    return created_at


def _draw(execution: Execution) -> int:
    """Decides which fills are odd ones; an odd factor: no two fills of an account share it."""
    return (execution.number * 0x9E3779B97F4A7C15 % 2**50) >> 20


def _serial(number: int) -> str:
    """15 digits; those of neighbours look unlike."""
    return f"{number * 736_338_717_997 % 10**15:015}"


def _fill_type(execution: Execution) -> str:
    if execution.kind == "liquidation":
        return LIQUIDATION
    if execution.kind == "adl":  # the venue has none
        return "SETTLE_MARKET"
    if execution.market.kind == "perp" and execution.order % 29 == 5:
        return "BLOCK_TRADE"
    return "RPI" if execution.is_maker and execution.order % 5 == 0 else "FILL"


def _is_busted(execution: Execution) -> bool:
    is_trade = execution.market.kind == "perp" and execution.kind not in FORCED
    return is_trade and _draw(execution) % BUST_EVERY == 0


def _expiry(day: date) -> date:
    """When the dated option of a day's month ends: on the last Friday of the next month."""
    last = (day.replace(day=1) + timedelta(days=64)).replace(day=1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - 4) % 7)


def _code(day: date) -> str:
    return f"{day.day:02}{MONTHS[day.month - 1]}{day.year % 100}"


def _ordinal(ms: int) -> int:
    return EPOCH_ORDINAL + ms // DAY_MS


def _first_of_month(at: datetime) -> datetime:
    return datetime(at.year, at.month, 1, tzinfo=UTC)


def _environment(request: httpx.Request) -> Environment:
    return "testnet" if request.url.host == "api.testnet.paradex.trade" else "mainnet"


def _whole(params: httpx.QueryParams, name: str, default: int) -> int:
    value = params.get(name, str(default))
    if not re.fullmatch(r"\d{1,15}", value, re.ASCII):
        raise _invalid(f"{name} must be a whole number")
    return int(value)


def _seconds(request: httpx.Request, name: str) -> int:
    value = request.headers.get(name, "")
    if not re.fullmatch(r"\d{1,10}", value, re.ASCII):
        raise _invalid(f"{name} must be in Unix seconds", "INVALID_TIMESTAMP")
    return int(value)


def _signature(value: str) -> tuple[int, int]:
    """From `["r","s"]`, decimal or hex."""
    try:
        r, s = (int(part, 16 if part.startswith("0x") else 10) for part in json.loads(value))
    except (ValueError, TypeError, AttributeError):
        raise _invalid("signature must be [r, s]", "INVALID_STARKNET_SIGNATURE") from None
    return r, s


def _duration(seconds: float) -> str:
    """1h2m3.5s"""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    result = f"{hours:.0f}h" if hours else ""
    result += f"{minutes:.0f}m" if hours or minutes else ""
    return f"{result}{rest:.9g}s"
