"""Bybit from the other side: the part of V5 that tells a key what it is and what its account has traded.

https://bybit-exchange.github.io/docs/v5/intro
Fills stand in one list per category, newest first, by windows of at most seven days and pages behind a cursor. What an
account made before it became a unified one stands in a second list. Errors come with HTTP 200 and a `retCode`.
"""

import hmac
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from hashlib import blake2b, md5, sha256
from itertools import groupby, islice
from operator import itemgetter
from random import Random
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote

import httpx

from exchanges.sandbox.base import EPOCH, MILLISECOND, SandboxVenue, client_of, to_ms, utc_now
from exchanges.sandbox.history import EPOCH_ORDINAL, History, Row, Truth, Truths
from exchanges.sandbox.trader import DAY_MS, Execution, Market, Trader, price_of

Environment = Literal["mainnet", "testnet", "demo"]
Permissions = Mapping[str, Sequence[str]]

MAIN_UID = "24617003"
SUB_UID = "24617999"  # a sub-account of MAIN_UID
UPGRADED_UID = "31550412"  # classic, then UTA 1.0, then UTA 2.0
TESTNET_UID = "101440127"

MAIN = {"api_key": "EXAMPLEKEY0000000A", "api_secret": "example-secret-not-real-0123456789ab"}
TRADING = {"api_key": "EXAMPLEKEY0000000B", "api_secret": "example-secret-not-real-trading-0002"}
WITHDRAWING = {"api_key": "EXAMPLEKEY0000000C", "api_secret": "example-secret-not-real-withdraw-003"}
EXPIRED = {"api_key": "EXAMPLEKEY0000000D", "api_secret": "example-secret-not-real-expired-0004"}
EXPIRING = {"api_key": "EXAMPLEKEY0000000E", "api_secret": "example-secret-not-real-expiring-005"}
OTHER_IP = {"api_key": "EXAMPLEKEY0000000F", "api_secret": "example-secret-not-real-other-ip-006"}
SPOT_ONLY = {"api_key": "EXAMPLEKEY0000000G", "api_secret": "example-secret-not-real-spot-only-07"}
UPGRADED = {"api_key": "EXAMPLEKEY0000000H", "api_secret": "example-secret-not-real-upgraded-008"}
SUB = {"api_key": "EXAMPLEKEY0000000I", "api_secret": "example-secret-not-real-sub-account9"}
TESTNET = {"api_key": "EXAMPLEKEY0000000J", "api_secret": "example-secret-not-real-testnet-0010"}

CONTRACTS: Permissions = {"ContractTrade": ("Order", "Position"), "Derivatives": ("DerivativesTrade",)}
WITHDRAWALS: Permissions = {"Wallet": ("AccountTransfer", "Withdraw")}
PERMISSIONS = (
    "ContractTrade",
    "Spot",
    "Wallet",
    "Options",
    "Derivatives",
    "Exchange",
    "Earn",
    "CopyTrading",
    "NFT",
    "BlockTrade",
)
LOCAL = "127.0.0.1"

TIME = "/v5/market/time"
INSTRUMENTS = "/v5/market/instruments-info"
KEY = "/v5/user/query-api"
SUBS = "/v5/user/query-sub-members"
ACCOUNT = "/v5/account/info"
FILLS = "/v5/execution/list"
OLD_FILLS = "/v5/pre-upgrade/execution/list"

CATEGORIES = ("linear", "inverse", "spot", "option")
NEEDED = {"spot": ("Spot",), "option": ("Options",)}  # permissions, one of them; others as in CONTRACTS
VOLUME = ("Trade", "BlockTrade", "FutureSpread")
FORCED = ("AdlTrade", "BustTrade")
EXEC_TYPES = (*VOLUME, *FORCED, "Funding", "Settle", "Delivery", "MovePosition", "CorporateAction", "UNKNOWN")
UNHEARD = "PortfolioRebalance"  # a kind that comes only with `odd`
ONLY_UNIFIED = ("seq", "feeCurrency", "createType", "extraFees")  # fields missing in the list of before the upgrade
SIGNED = ("X-BAPI-API-KEY", "X-BAPI-TIMESTAMP", "X-BAPI-SIGN")
CURSOR = re.compile(r"(\d+):(\d+),(\d+):(\d+)")
INVERSE_DATED = re.compile(r".+USD[HMUZ]\d\d")

SECOND_MS = 1000
WINDOW_MS = 7 * DAY_MS
RETENTION_MS = 730 * DAY_MS
KEY_LIFE = timedelta(days=90)  # of a key that is bound to no address
BAN = 600.0  # seconds
BAN_WINDOW_MS = 5 * SECOND_MS
FEE_CURRENCY_FROM_MS = to_ms(datetime(2025, 9, 1, tzinfo=UTC))
CORPORATE_ACTIONS_FROM = date(2026, 7, 23).toordinal()
FUNDING_HOURS = (0, 8, 16)
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
FORBIDDEN = b"<html><head><title>403 Forbidden</title></head><body><h1>403 Forbidden</h1></body></html>"
TOO_OLD = "Can't query order earlier than 2 years, please check your params: startTime or endTime!"
TOO_LONG = "The time range between startTime and endTime cannot exceed 7 days!"


def _market(symbol: str, base: str, quote: str, tick: str, lot: str, weight: float) -> Market:
    return Market(symbol, base, quote, Decimal(tick), Decimal(lot), weight=weight)


# The quote is what a linear contract settles in; USD stands for an inverse one. A symbol with "-" at its end is dated.
MARKETS = (
    _market("BTCUSDT", "BTC", "USDT", "0.10", "0.001", 30),
    _market("ETHUSDT", "ETH", "USDT", "0.01", "0.01", 20),
    _market("SOLUSDT", "SOL", "USDT", "0.01", "0.1", 12),
    _market("HYPEUSDT", "HYPE", "USDT", "0.001", "0.01", 6),
    _market("XRPUSDT", "XRP", "USDT", "0.0001", "0.1", 5),
    _market("DOGEUSDT", "DOGE", "USDT", "0.00001", "1", 4),
    _market("1000PEPEUSDT", "kPEPE", "USDT", "0.0000001", "100", 3),
    _market("NVDAUSDT", "NVDA", "USDT", "0.01", "0.01", 3),
    _market("BTCPERP", "BTC", "USDC", "0.1", "0.001", 5),
    _market("ETHPERP", "ETH", "USDC", "0.01", "0.01", 3),
    _market("BTC-", "BTC", "USDC", "0.5", "0.001", 3),
    _market("BTCUSD", "BTC", "USD", "0.10", "0.001", 7),
    _market("ETHUSD", "ETH", "USD", "0.01", "0.01", 4),
    _market("BTCUSD-", "BTC", "USD", "0.50", "0.001", 2),
)
HIDDEN = ("DOGEUSDT", "ETHPERP", "ETHUSD")  # with `odd` not among the instruments
STOCK = MARKETS[7]


class Refused(Exception):
    """The venue answers with this `retCode`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Key:
    """An API key. One that is bound to no address (`ips`) dies 90 days after its creation."""

    secrets: Mapping[str, str]  # api_key, api_secret
    _: KW_ONLY
    read_only: bool = True
    permissions: Permissions = field(default_factory=lambda: CONTRACTS)
    ips: tuple[str, ...] = ()
    created_at: datetime | None = None  # None: when it is added
    environment: Environment = "mainnet"
    note: str = "perpdash"

    @property
    def api_key(self) -> str:
        return self.secrets["api_key"]

    @property
    def expires_at(self) -> datetime | None:
        return None if self.ips or self.created_at is None else self.created_at + KEY_LIFE

    def may(self, *permissions: str) -> bool:
        return any(self.permissions.get(permission) for permission in permissions)


@dataclass(kw_only=True)
class Account:
    """A UID, its keys and its fills by category. Nothing was made before an upgrade where its moment is None."""

    uid: str
    keys: tuple[Key, ...]
    histories: dict[str, History]
    unified_status: int
    upgraded_at: datetime | None  # to UTA 2.0
    upgraded_at_uta1: datetime | None
    parent_uid: str
    vip_level: str
    is_revoked: bool = False

    @property
    def is_master(self) -> bool:
        return self.parent_uid == "0"

    def upgraded_ms(self, category: str) -> int:
        """What is older stands in the list of before the upgrade. Inverse contracts were the last to be unified."""
        if self.unified_status == 1:
            return 0
        at = self.upgraded_at if category == "inverse" else self.upgraded_at_uta1 or self.upgraded_at
        return to_ms(at) if at else 0


class Bybit(SandboxVenue):
    """The venue, with the demo accounts.

    `requests_per_second` holds for each UID at the lists of fills and the account's info, a fifth of it for the other
    private paths; `requests_per_ip` for five seconds, more than that bans an address for ten minutes. `other_markets`
    nobody trades fill the list of instruments. With `empty_last_page` every walk ends on an empty page; else only those
    whose last page is exactly full. With `repeat_cursor` the second page of a walk has the cursor of the first; with
    `duplicates` a page begins with the end of the one before. `odd` mixes in fields and kinds of rows nobody has heard
    of and hides some markets. Traders opened their accounts at `opened_at`.
    """

    demo_accounts = (("Main", MAIN),)
    unmetered = {"requests_per_second": 10**9, "requests_per_ip": 10**9}
    rate_limited = (200, b'{"retCode":10006,"retMsg":"Too many visits!","result":{},"retExtInfo":{}}')
    maintenance = (200, b'{"retCode":10016,"retMsg":"Server error.","result":{},"retExtInfo":{}}')

    def __init__(
        self,
        now: Callable[[], datetime] = utc_now,
        *,
        fills_per_day: float = 12,
        opened_at: datetime | None = None,
        odd: bool = False,
        duplicates: bool = False,
        empty_last_page: bool = False,
        repeat_cursor: bool = False,
        requests_per_second: int = 50,
        requests_per_ip: int = 600,
        other_markets: int = 540,
        latency: float = 0.0,
        skew: timedelta = timedelta(),
    ) -> None:
        super().__init__(now, latency=latency, skew=skew)
        self.opened_at = opened_at or _first_of_month(now() - timedelta(days=730))
        self.odd = odd
        self.duplicates = duplicates
        self.empty_last_page = empty_last_page
        self.repeat_cursor = repeat_cursor
        self.requests_per_second = requests_per_second
        self.requests_per_ip = requests_per_ip
        self.other_markets = other_markets
        self.accounts: dict[str, Account] = {}
        self._spent: dict[tuple[str, str], deque[int]] = {}  # ms, by UID and path
        self._visits: dict[str, deque[int]] = {}  # ms, by address
        self._banned: dict[str, datetime] = {}
        self._public: dict[str, Callable[[Row], Row]] = {TIME: self._time, INSTRUMENTS: self._instruments}
        self._private: dict[str, Callable[[Account, Key, Row], Row]] = {
            KEY: self._query_api,
            SUBS: self._query_sub_members,
            ACCOUNT: self._account_info,
            FILLS: lambda account, key, params: self._fills(account, key, params, is_old=False),
            OLD_FILLS: self._old_fills,
        }
        self._add_demo(fills_per_day)

    def _add_demo(self, fills_per_day: float) -> None:
        bound, now = (LOCAL,), self.now()
        self.add(
            MAIN_UID,
            Key(MAIN, ips=bound, created_at=self.opened_at, note="volume-board"),
            Key(TRADING, ips=bound, read_only=False, note="bot"),
            Key(WITHDRAWING, ips=bound, read_only=False, permissions={**CONTRACTS, **WITHDRAWALS}),
            Key(EXPIRED, created_at=now - KEY_LIFE - timedelta(days=1)),
            Key(EXPIRING, created_at=now - KEY_LIFE + timedelta(days=10)),
            Key(OTHER_IP, ips=("203.0.113.7",)),
            Key(SPOT_ONLY, ips=bound, permissions={"Spot": ("SpotTrade",)}),
            trader=Trader("bybit main", fills_per_day, MARKETS, notional=9_000, kept=200_000),
            vip_level="VIP-1",
        )
        self.add(
            UPGRADED_UID,
            Key(UPGRADED, ips=bound),
            trader=Trader("bybit upgraded", 8, MARKETS),
            upgraded_at=_first_of_month(now - timedelta(days=365)),
            upgraded_at_uta1=_first_of_month(now - timedelta(days=500)),
        )
        sub = Trader("bybit sub", 3, MARKETS)
        self.add(SUB_UID, Key(SUB, ips=bound), trader=sub, parent_uid=MAIN_UID)
        testnet = Key(TESTNET, ips=bound, environment="testnet")
        self.add(TESTNET_UID, testnet, trader=Trader("bybit testnet", 2, MARKETS))

    # What tests and the demo use.

    def add(
        self,
        account_ref: str,
        *keys: Key,
        trader: Trader | None = None,
        rows: Mapping[str, Iterable[Row]] | None = None,
        unified_status: int = 6,
        upgraded_at: datetime | None = None,
        upgraded_at_uta1: datetime | None = None,
        parent_uid: str = "0",
        vip_level: str = "No VIP",
    ) -> Account:
        """An account with a trader, or with these rows by category, or both. It takes the place of one with this UID.

        `unified_status` is 1 (classic), 3 or 4 (UTA 1.0), 5 or 6 (UTA 2.0).
        """
        keys = tuple(key if key.created_at else replace(key, created_at=self.now()) for key in keys)
        histories = {}
        for category in CATEGORIES:
            if trader and category in ("linear", "inverse"):
                lacks_create_type = category == "inverse" and unified_status in (3, 4)
                usdc_from = upgraded_at_uta1 or upgraded_at if unified_status != 1 else None
                scribe = Scribe(
                    account_ref,
                    category,
                    trader,
                    odd=self.odd,
                    has_create_type=not lacks_create_type,
                    usdc_from=usdc_from or EPOCH,
                )
                histories[category] = History(
                    time_of,
                    trader=trader,
                    opened_at=self.opened_at,
                    spell=scribe.fill,
                    extra=scribe.other_rows,
                    kept=200_000,
                )
            else:
                histories[category] = History(time_of)
        account = Account(
            uid=account_ref,
            keys=keys,
            histories=histories,
            unified_status=unified_status,
            upgraded_at=upgraded_at,
            upgraded_at_uta1=upgraded_at_uta1,
            parent_uid=parent_uid,
            vip_level=vip_level,
        )
        with self._lock:
            self.accounts[account_ref] = account
        for category, some in (rows or {}).items():
            self.put(account_ref, category, *some)
        return account

    def put(self, account_ref: str, list_name: str, *rows: Row) -> None:
        """More rows of a category. Those of before an upgrade appear in the list of before the upgrade."""
        with self._lock:
            self.accounts[account_ref].histories[list_name].put(*rows)

    def revoke(self, account_ref: str) -> None:
        """All keys of the account are deleted."""
        self.accounts[account_ref].is_revoked = True

    def restore(self, account_ref: str) -> None:
        self.accounts[account_ref].is_revoked = False

    def ban_ip(self, seconds: float = BAN, client: str = LOCAL) -> None:
        """Whatever this address asks is refused with 403, as after too many requests."""
        self._banned[client] = self.now() + timedelta(seconds=seconds)

    def rate_limit(self, times: int | None = 1, *, retry_after: float | None = None) -> None:
        """As in the base class; when to come again stands in the header of this venue."""

        def act(request: httpx.Request, answer: Callable[[httpx.Request], httpx.Response]) -> httpx.Response:
            self.hush(request, retry_after or 0)
            headers = {}
            if retry_after is not None:
                reset_at = self.now() + timedelta(seconds=retry_after)
                headers = _limit_headers(self.requests_per_second, 0, to_ms(reset_at))
            return self._reply(10006, "Too many visits!", {}, headers)

        self._order(act, times)

    def rows(self, account_ref: str, list_name: str) -> list[Row]:
        """All rows of a category up to now, whichever list they stand in, oldest first."""
        with self._lock:
            return list(self.accounts[account_ref].histories[list_name].between(0, to_ms(self.now())))

    def truth(self, account_ref: str, since: datetime | None = None, until: datetime | None = None) -> Truths:
        """What a complete reading of [since, until) comes to, for each UTC day and perpetual market; never beyond now.

        Also of what is older than the venue's memory. Funding, settlements, transfers, dated futures and rows of a
        kind nobody has heard of are left out.
        """
        with self._lock:
            first, last = to_ms(since) if since else 0, to_ms(self.now())
            if until:
                last = min(last, to_ms(until) - 1)
            result: Truths = {}
            for category in ("linear", "inverse"):
                seen = set()
                for row in self.accounts[account_ref].histories[category].between(first, last):
                    kind, symbol = row["execType"], row["symbol"]
                    if kind not in VOLUME + FORCED or is_dated(symbol) or row["execId"] in seen:
                        continue
                    seen.add(row["execId"])
                    day = date.fromordinal(EPOCH_ORDINAL + time_of(row) // DAY_MS), symbol
                    old = result.get(day, Truth())
                    result[day] = old.plus(notional_of(category, row), is_forced=kind in FORCED)
            return result

    # The venue.

    def sender(self, request: httpx.Request) -> str:
        """Limits hold for an account at a path, bans for an address."""
        client = client_of(request)
        found = self._find(request)
        if found is None or self.now() < self._banned.get(client, EPOCH):
            return client
        return f"{found[0].uid} {request.url.path}"

    def decode(self, request: httpx.Request) -> Any:
        return request.content.decode(errors="replace") or request.url.raw_path.decode()

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if self._is_banned(client_of(request)):
            self.hush(request, (self._banned[client_of(request)] - self.now()).total_seconds())
            return httpx.Response(403, text="access too frequent")
        if request.method == "GET" and request.content:
            return httpx.Response(403, html=FORBIDDEN.decode())
        if path not in self._public and path not in self._private:
            return httpx.Response(404)
        if request.method != "GET":
            return httpx.Response(400)
        params = dict(parse_qsl(request.url.query.decode()))
        if path in self._public:
            try:
                return self._reply(0, "OK", self._public[path](params))
            except Refused as refused:
                return self._reply(refused.code, refused.message, {})
        return self._answer_privately(request, path, params)

    def _answer_privately(self, request: httpx.Request, path: str, params: Row) -> httpx.Response:
        if not any(name in request.headers for name in SIGNED):
            return httpx.Response(401)
        found = self._find(request)
        result: Row = {}
        code, message = 0, "" if path in (KEY, SUBS) else "OK"
        try:
            account, key = self._authenticate(request)
            self._spend(account, path)
            result = self._private[path](account, key, params)
        except Refused as refused:
            code, message = refused.code, refused.message
        headers = {}
        if found:
            limit, spent, now_ms = self._limit(path), self._spent_lately(found[0], path), to_ms(self.now())
            reset_ms = spent[0] + SECOND_MS if code == 10006 else now_ms
            headers = _limit_headers(limit, limit - len(spent), reset_ms)
            if code == 10006:
                reset_at = EPOCH + reset_ms * MILLISECOND
                self.hush(request, (reset_at - self.now()).total_seconds())
        return self._reply(code, message, result, headers)

    def _reply(self, code: int, message: str, result: Row, headers: Mapping[str, str] | None = None) -> httpx.Response:
        body = {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": to_ms(self.now())}
        content = json.dumps(body, separators=(",", ":")).encode()
        return httpx.Response(200, headers={"content-type": "application/json"} | dict(headers or {}), content=content)

    def _find(self, request: httpx.Request) -> tuple[Account, Key] | None:
        """Whose key a request names; a key is known in its own environment only."""
        name = request.headers.get("X-BAPI-API-KEY", "")
        environment = environment_of(request.url.host)
        for account in self.accounts.values():
            for key in account.keys:
                if key.api_key == name and key.environment == environment and not account.is_revoked:
                    return account, key
        return None

    def _authenticate(self, request: httpx.Request) -> tuple[Account, Key]:
        name, stamp, signature = (request.headers.get(header, "") for header in SIGNED)
        window = request.headers.get("X-BAPI-RECV-WINDOW", "")
        if not (name and stamp.isdecimal() and signature and (window.isdecimal() or not window)):
            text = f"empty value: apiTimestamp[{stamp}] apiKey[{name}] apiSignature[{signature}]"
            raise Refused(10001, f"{text}openapi sign params error!")
        found = self._find(request)
        if found is None:
            raise Refused(10003, "API key is invalid.")
        key = found[1]
        now_ms, sent_ms, window_ms = to_ms(self.now()), int(stamp), int(window or 5000)
        if not now_ms - window_ms <= sent_ms < now_ms + SECOND_MS:
            raise Refused(
                10002,
                "invalid request, please check your server timestamp or recv_window param. "
                f"req_timestamp[{sent_ms}],server_timestamp[{now_ms}],recv_window[{window_ms}]",
            )
        origin = stamp + name + window + request.url.query.decode()
        if not hmac.compare_digest(sign(key.secrets["api_secret"], origin).encode(), signature.encode()):
            raise Refused(10004, f"error sign! origin_string[{origin}]")
        if key.ips and client_of(request) not in key.ips:
            raise Refused(10010, "Unmatched IP, please check your API key's bound IP addresses.")
        if key.expires_at and key.expires_at <= self.now():
            raise Refused(33004, "Your api key has expired.")
        return found

    # Limits.

    def _limit(self, path: str) -> int:
        return max(1, self.requests_per_second // (5 if path in (KEY, SUBS) else 1))

    def _spent_lately(self, account: Account, path: str) -> deque[int]:
        spent = self._spent.setdefault((account.uid, path), deque())
        while spent and spent[0] <= to_ms(self.now()) - SECOND_MS:
            spent.popleft()
        return spent

    def _spend(self, account: Account, path: str) -> None:
        spent = self._spent_lately(account, path)
        if len(spent) >= self._limit(path):
            raise Refused(10006, "Too many visits!")
        spent.append(to_ms(self.now()))

    def _is_banned(self, client: str) -> bool:
        """Counts the visit, too."""
        if self.now() < self._banned.get(client, EPOCH):
            return True
        visits = self._visits.setdefault(client, deque())
        while visits and visits[0] <= to_ms(self.now()) - BAN_WINDOW_MS:
            visits.popleft()
        if len(visits) >= self.requests_per_ip:
            visits.clear()
            self.ban_ip(client=client)
            return True
        visits.append(to_ms(self.now()))
        return False

    # Public answers.

    def _time(self, params: Row) -> Row:
        now = self.now()
        return {
            "timeSecond": str(to_ms(now) // 1000),
            "timeNano": str((now - EPOCH) // timedelta(microseconds=1) * 1000),
        }

    def _instruments(self, params: Row) -> Row:
        category = params.get("category")
        if category not in CATEGORIES:
            raise Refused(10001, "params error: category invalid")
        limit = _whole(params, "limit", 500, most=1000)
        status, base = params.get("status", "Trading"), params.get("baseCoin")
        kinds = ("linear", "inverse") if base and category in ("linear", "inverse") else (category,)
        found = [
            one
            for one in instruments(self.now(), self.other_markets)
            if category_of(one) in kinds
            and one["status"] == status
            and one["symbol"] == params.get("symbol", one["symbol"])
            and one["baseCoin"] == (base or one["baseCoin"])
            and one["symbolType"] == params.get("symbolType", one["symbolType"])
            and not (self.odd and one["symbol"] in HIDDEN)
        ]
        if "cursor" in params:
            last = re.fullmatch("first=.*&last=(.+)", unquote(params["cursor"]))
            if last is None:
                raise Refused(10001, "params error: cursor invalid")
            found = [one for one in found if one["symbol"] > last[1]]
        page = found[:limit]
        cursor = f"first={page[0]['symbol']}&last={page[-1]['symbol']}" if len(found) > limit else ""
        return {"category": category, "list": page, "nextPageCursor": quote(cursor, safe="")}

    # Private answers.

    def _query_api(self, account: Account, key: Key, params: Row) -> Row:
        expires_at = key.expires_at
        return {
            "id": str(31_000_000 + _number(key.api_key) % 1_000_000),
            "note": key.note,
            "apiKey": key.api_key,
            "readOnly": int(key.read_only),
            "secret": "",
            "permissions": {
                name: list(key.permissions.get(name, ())) for name in dict.fromkeys([*PERMISSIONS, *key.permissions])
            },
            "ips": list(key.ips) or ["*"],
            "type": 1,
            "deadlineDay": (expires_at - self.now()).days if expires_at else -2,
            "expiredAt": _iso(expires_at or EPOCH),
            "createdAt": _iso(key.created_at or EPOCH),
            "unified": 0,
            "uta": int(account.unified_status != 1),
            "userID": int(account.uid),
            "inviterID": 0,
            "vipLevel": account.vip_level,
            "mktMakerLevel": "0",
            "affiliateID": 0,
            "rsaPublicKey": "",
            "isMaster": account.is_master,
            "parentUid": account.parent_uid,
            "kycLevel": "LEVEL_1",
            "kycRegion": "PRT",
        }

    def _query_sub_members(self, account: Account, key: Key, params: Row) -> Row:
        if not (key.may("Wallet") and account.is_master):
            raise Refused(10005, "Permission denied, please check your API key permissions.")
        subs = [one for one in self.accounts.values() if one.parent_uid == account.uid]
        return {
            "subMembers": [
                {
                    "uid": one.uid,
                    "username": f"sub{one.uid}",
                    "memberType": 1,
                    "status": 1,
                    "remark": "",
                    "accountMode": one.unified_status,
                }
                for one in subs
            ]
        }

    def _account_info(self, account: Account, key: Key, params: Row) -> Row:
        return {
            "marginMode": "REGULAR_MARGIN",
            "updatedTime": str(to_ms(account.upgraded_at or account.upgraded_at_uta1 or self.opened_at)),
            "unifiedMarginStatus": account.unified_status,
            "dcpStatus": "OFF",
            "timeWindow": 0,
            "smpGroup": 0,
            "isMasterTrader": False,
            "spotHedgingStatus": "OFF",
        }

    def _old_fills(self, account: Account, key: Key, params: Row) -> Row:
        if account.unified_status == 1:
            raise Refused(10028, "The API can only be accessed by unified account users.")
        answer = self._fills(account, key, {**params, "settleCoin": ""}, is_old=True)
        answer["list"] = [
            {name: value for name, value in row.items() if name not in ONLY_UNIFIED} for row in answer["list"]
        ]
        return answer

    def _fills(self, account: Account, key: Key, params: Row, *, is_old: bool) -> Row:
        category = params.get("category")
        if not key.may(*NEEDED.get(category or "", CONTRACTS)):
            raise Refused(10005, "Permission denied, please check your API key permissions.")
        if category not in CATEGORIES:
            raise Refused(10001, "params error: category invalid")
        limit = _whole(params, "limit", 50, most=100)
        matches = _filter(category, params)
        first, last = self._window(params)
        upgraded_ms, now_ms = account.upgraded_ms(category), to_ms(self.now())
        first, last = (first, min(last, upgraded_ms - 1)) if is_old else (max(first, upgraded_ms), last)
        if key.environment == "demo":
            first = max(first, now_ms - WINDOW_MS)

        filters = sorted((name, value) for name, value in params.items() if name not in ("cursor", "limit"))
        walk, digest = self.calls.total(), _number(f"{account.uid}/{is_old}/{filters}") % 2**24
        after = None
        if params.get("cursor"):
            cursor = CURSOR.fullmatch(unquote(params["cursor"]))
            if cursor is None or int(cursor[4]) != digest:
                raise Refused(10001, "params error: cursor invalid")
            walk, after = int(cursor[3]), (int(cursor[1]), int(cursor[2]))
            last = min(last, after[0])

        rows = account.histories[category].between(first, min(last, now_ms), newest_first=True)
        page = list(islice(_walk(filter(matches, rows), walk, after), limit))
        next_cursor = ""
        if len(page) == limit or (page and self.empty_last_page):
            again = min(3, limit // 2) if self.duplicates and len(page) == limit else 0
            mark = page[-1 - again]
            next_cursor = f"{time_of(mark)}:{_rank(mark, walk)},{walk}:{digest}"
            if after and self.repeat_cursor:
                next_cursor = unquote(params["cursor"])
        return {"nextPageCursor": quote(next_cursor, safe=""), "category": category, "list": page}

    def _window(self, params: Row) -> tuple[int, int]:
        """The first and the last millisecond asked for, by the venue's rules where one is missing."""
        now_ms = to_ms(self.now())
        if params.get("orderId") or params.get("orderLinkId"):
            return now_ms - RETENTION_MS, now_ms
        first, last = _whole(params, "startTime", -1), _whole(params, "endTime", -1)
        if last < 0:
            last = now_ms if first < 0 else first + WINDOW_MS
        if first < 0:
            first = last - WINDOW_MS
        if first < now_ms - RETENTION_MS:
            raise Refused(10001, TOO_OLD)
        if last < first:
            raise Refused(10001, "params error: startTime is after endTime")
        if last - first > WINDOW_MS:
            raise Refused(10001, TOO_LONG)
        return first, last


class Scribe:
    """Writes what a trader did in one category as the API shows it, and the rows around it that are no fills.

    Before `usdc_from` there is nothing in USDC: the venue forgets those of a classic account.
    """

    def __init__(
        self, uid: str, category: str, trader: Trader, *, odd: bool, has_create_type: bool, usdc_from: datetime
    ) -> None:
        self.uid = uid
        self.category = category
        self.trader = trader
        self.odd = odd
        self.has_create_type = has_create_type
        self.usdc_from = usdc_from.toordinal()
        self._day = 0
        self._totals: dict[int, Decimal] = {}  # by order
        self._leaves: dict[int, Decimal] = {}  # by execution

    def fill(self, execution: Execution) -> Row | None:
        market, ordinal = execution.market, execution.executed_at.toordinal()
        if not self._lists(market, ordinal):
            return None
        if ordinal != self._day:
            self._measure_orders(ordinal)
        draw = execution.number * 0x9E3779B97F4A7C15 % 2**50 >> 20  # decides which fills are odd ones
        ms = to_ms(execution.executed_at)
        rates = self.trader.rates(ordinal)
        is_forced = execution.kind in ("liquidation", "adl")
        rate = Decimal(0) if is_forced else rates.maker if execution.is_maker else rates.taker
        row = self._row(
            symbol_of(market, ordinal),
            market,
            ms,
            f"{execution.number}",
            price=execution.price,
            qty=execution.qty,
            rate=rate,
            order=f"{execution.order}",
        )
        total, leaves = self._totals[execution.order], self._leaves[execution.number]
        if self.category == "inverse":
            total, leaves = round(total * execution.price, 0), round(leaves * execution.price, 0)
        row |= {
            "side": "Buy" if execution.side == "buy" else "Sell",
            "orderQty": f"{total:f}",
            "leavesQty": f"{leaves:f}",
            "orderType": "Limit" if execution.is_maker else "Market",
            "isMaker": execution.is_maker,
            "seq": ms * 64 + execution.order % 64,  # one for all that an order fills at once
        }
        if not execution.is_maker:
            worst = Decimal("1.05") if execution.side == "buy" else Decimal("0.95")
            row["orderPrice"] = f"{(execution.price * worst).quantize(market.tick):f}"
        if execution.start_position * (1 if execution.side == "sell" else -1) > 0:
            row["closedSize"] = row["execQty"]
        if execution.order % 3 == 0:
            row["orderLinkId"] = f"mm-{execution.order % 10_000}"
        self._dress(row, execution, draw)
        return row

    def other_rows(self, ordinal: int) -> Iterator[Row]:
        """Funding at its hours, the delivery of dated futures, and what is rare: transfers, delistings, splits."""
        random = Random(f"{self.trader.seed}/{self.category}/{ordinal}")
        markets = [market for market in self.trader.markets if self._lists(market, ordinal)]
        perps = [market for market in markets if not market.symbol.endswith("-")]
        for hour in FUNDING_HOURS:
            if perps and random.random() < 0.6:
                row = self._event("Funding", random.choice(perps), ordinal, hour, Decimal("0.0001"), random)
                yield row | {"orderId": f"{time_of(row) // 1000}-{row['symbol']}-{self.uid}-{row['side']}"}
        dated = [market for market in markets if market not in perps]
        if dated and expiry_after(ordinal - 1) == ordinal:
            yield self._event("Delivery", dated[0], ordinal, 8, Decimal("0.0005"), random, of_day=ordinal - 1)
        if perps and ordinal % 181 == 0:
            yield self._event("Settle", perps[-1], ordinal, 9, Decimal("0.0005"), random)
        if perps and ordinal % 61 == 0:
            yield self._event("MovePosition", perps[0], ordinal, 11, Decimal(0), random)
        if STOCK in markets and ordinal >= CORPORATE_ACTIONS_FROM and ordinal % 30 == 0:
            yield self._event("CorporateAction", STOCK, ordinal, 13, Decimal(0), random)

    def _dress(self, row: Row, execution: Execution, draw: int) -> None:
        """What kind of fill it is, and the details not every row has."""
        if execution.kind == "liquidation":
            row |= {"execType": "BustTrade", "createType": "CreateByTakeOver_PassThrough", "orderLinkId": ""}
        elif execution.kind == "adl":
            row |= {"execType": "AdlTrade", "createType": "CreateByAdl_PassThrough", "orderLinkId": ""}
        elif self.odd and draw % 300 == 1:
            row["execType"] = UNHEARD if draw % 600 == 1 else "UNKNOWN"
        elif draw % 199 == 7:
            row |= {"execType": "BlockTrade", "blockTradeId": _uuid(f"block {execution.order}")}
        elif draw % 149 == 3 and self.category == "linear":
            row |= {"execType": "FutureSpread", "execFeeV2": "0"}
        elif execution.kind == "twap":
            row["createType"] = "CreateByFGridBot"
        if not self.has_create_type:
            row["createType"] = ""
        if draw % 173 == 5:
            row["execValue"] = ""
        if draw % 11 == 2:
            row["closedSize"] = ""
        if draw % 13 == 4:
            row["markPrice"] = ""
        if draw % 97 == 8:
            coin = row["feeCurrency"] or _settles_in(execution.market)
            row["extraFees"] = [{"feeCoin": coin, "feeType": "GST", "feeRate": "0.18", "subFeeType": "IND_GST"}]
        if self.odd:
            row |= {"auditTrail": {"version": 3}, "brokerTag": None}

    def _event(
        self,
        kind: str,
        market: Market,
        ordinal: int,
        hour: int,
        rate: Decimal,
        random: Random,
        of_day: int | None = None,
    ) -> Row:
        """A row that is no fill: it moves or prices a whole position, many times what was traded."""
        price = Decimal(price_of(market.base, ordinal + hour / 24)).quantize(market.tick)
        qty = (Decimal(random.randint(20_000, 200_000)) / price).quantize(market.lot)
        symbol = symbol_of(market, ordinal if of_day is None else of_day)
        ms = (ordinal - EPOCH_ORDINAL) * DAY_MS + hour * 3_600_000
        rate *= random.choice((1, 1, -1)) if kind == "Funding" else 1
        row = self._row(symbol, market, ms, f"{kind} {symbol} {ms}", price=price, qty=qty, rate=rate, order=kind)
        return row | {
            "execType": kind,
            "side": random.choice(("Buy", "Sell")),
            "createType": "",
            "orderId": "" if kind == "CorporateAction" else row["orderId"],
            "orderPrice": "0",
            "orderQty": "0",
        }

    def _row(
        self,
        symbol: str,
        market: Market,
        ms: int,
        number: str,
        *,
        price: Decimal,
        qty: Decimal,
        rate: Decimal,
        order: str,
    ) -> Row:
        """A plain trade. Inverse contracts are one dollar each and worth coins."""
        value = price * qty
        if self.category == "inverse":
            qty = Decimal(max(1, round(value)))
            value = round(qty / price, 8)
        return {
            "symbol": symbol,
            "orderId": _uuid(f"{self.uid} order {order} {ms if not order.isdecimal() else ''}"),
            "orderLinkId": "",
            "side": "Buy",
            "orderPrice": f"{price:f}",
            "orderQty": f"{qty:f}",
            "leavesQty": "0",
            "createType": "CreateByUser",
            "orderType": "UNKNOWN",
            "stopOrderType": "UNKNOWN",
            "execFee": plain(round(value * rate, 8)),
            "execId": _uuid(f"{self.uid} {self.category} {number}"),
            "execPrice": f"{price:f}",
            "execQty": f"{qty:f}",
            "execType": "Trade",
            "execValue": plain(value),
            "execTime": str(ms),
            "feeCurrency": _settles_in(market) if ms >= FEE_CURRENCY_FROM_MS else "",
            "isMaker": False,
            "feeRate": plain(rate),
            "tradeIv": "",
            "markIv": "",
            "markPrice": f"{price:f}",
            "indexPrice": "",
            "underlyingPrice": "",
            "blockTradeId": "",
            "closedSize": "0",
            "seq": ms * 64,
            "extraFees": "",
        }

    def _lists(self, market: Market, ordinal: int) -> bool:
        if (market.quote == "USD") != (self.category == "inverse"):
            return False
        return market.quote != "USDC" or ordinal >= self.usdc_from

    def _measure_orders(self, ordinal: int) -> None:
        """What the orders of a day come to, and what is left of each after every fill."""
        executions = self.trader.day(ordinal)
        self._day, self._totals, self._leaves = ordinal, {}, {}
        for execution in reversed(executions):
            left = self._totals.get(execution.order, 0 * execution.qty)
            self._leaves[execution.number] = left
            self._totals[execution.order] = left + execution.qty


def sign(secret: str, text: str) -> str:
    """HMAC-SHA256 in lower-case hex."""
    return hmac.new(secret.encode(), text.encode(), sha256).hexdigest()


def environment_of(host: str) -> Environment:
    if host.startswith("api-testnet."):
        return "testnet"
    return "demo" if host.startswith("api-demo.") else "mainnet"


def time_of(row: Row) -> int:
    return int(row["execTime"])


def is_dated(symbol: str) -> bool:
    return "-" in symbol or INVERSE_DATED.fullmatch(symbol) is not None


def notional_of(category: str, row: Row) -> Decimal:
    """In dollars; USDT and USDC are taken for such."""
    if category == "inverse":
        return Decimal(row["execQty"])
    return Decimal(row["execValue"]) if row["execValue"] else Decimal(row["execPrice"]) * Decimal(row["execQty"])


@cache
def expiry_after(ordinal: int) -> int:
    """The first last Friday of a quarter after this day."""
    day = date.fromordinal(ordinal)
    for months in range(7):
        year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
        if month % 3 == 2:
            last = date(year + month // 11, (month + 1) % 12 + 1, 1).toordinal() - 1
            friday = last - (date.fromordinal(last).weekday() - 4) % 7
            if friday > ordinal:
                return friday
    raise AssertionError("every half year holds two of them")


def symbol_of(market: Market, ordinal: int) -> str:
    """The symbol on a day: a dated one is that of the contract which expires next."""
    if not market.symbol.endswith("-"):
        return market.symbol
    expiry = date.fromordinal(expiry_after(ordinal))
    if market.quote == "USD":
        return f"{market.symbol[:-1]}{'HMUZ'[expiry.month // 3 - 1]}{expiry:%y}"
    return f"{market.symbol}{expiry.day:02}{MONTHS[expiry.month - 1]}{expiry:%y}"


def category_of(instrument: Row) -> str:
    return "inverse" if instrument["quoteCoin"] == "USD" else "linear"


def instruments(now: datetime, others: int) -> list[Row]:
    """All there are and were, by symbol: of dated futures the contracts of three years."""
    found = {}
    today = now.toordinal()
    for market in MARKETS:
        if not market.symbol.endswith("-"):
            found[market.symbol] = _instrument(market, market.symbol, None, today)
            continue
        expiry = expiry_after(today - 3 * 365)
        while expiry <= expiry_after(expiry_after(today)):
            symbol = symbol_of(market, expiry - 1)
            found[symbol] = _instrument(market, symbol, expiry, today)
            expiry = expiry_after(expiry)
    for number in range(others):
        symbol = f"COIN{number:03}USDT"
        found[symbol] = _instrument(_market(symbol, f"COIN{number:03}", "USDT", "0.0001", "1", 0), symbol, None, today)
    return [found[symbol] for symbol in sorted(found)]


def _instrument(market: Market, symbol: str, expiry: int | None, today: int) -> Row:
    is_inverse, is_closed = market.quote == "USD", expiry is not None and expiry <= today
    kind = ("Inverse" if is_inverse else "Linear") + ("Futures" if expiry else "Perpetual")
    types = {"NVDAUSDT": "stock", "HYPEUSDT": "innovation"}
    launched = datetime(2020, 3, 30, 16, tzinfo=UTC) if expiry is None else _at_eight(expiry - 182)
    return {
        "symbol": symbol,
        "symbolId": _number(symbol) % 10_000,
        "contractType": kind,
        "status": "Closed" if is_closed else "Trading",
        "baseCoin": _coin(market),
        "quoteCoin": market.quote,
        "launchTime": str(to_ms(launched)),
        "deliveryTime": str(to_ms(_at_eight(expiry))) if expiry else "0",
        "deliveryFeeRate": "0.0005" if expiry else "",
        "priceScale": str(-int(market.tick.as_tuple().exponent)),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "priceFilter": {"minPrice": f"{market.tick:f}", "maxPrice": "1999999.80", "tickSize": f"{market.tick:f}"},
        "lotSizeFilter": {
            "maxOrderQty": "1000000",
            "minOrderQty": "1" if is_inverse else f"{market.lot:f}",
            "qtyStep": "1" if is_inverse else f"{market.lot:f}",
            "maxMktOrderQty": "500000",
            "minNotionalValue": "5",
        },
        "unifiedMarginTrade": True,
        "fundingInterval": 0 if expiry else 480,
        "settleCoin": _settles_in(market),
        "copyTrading": "none" if is_inverse else "both",
        "isPreListing": False,
        "preListingInfo": None,
        "symbolType": types.get(symbol, ""),
    }


def _filter(category: str, params: Row) -> Callable[[Row], bool]:
    """Whether a row is asked for. An order's id is stronger than everything, a symbol than a coin."""
    for name in ("orderId", "orderLinkId"):
        if wanted := params.get(name):
            return lambda row: bool(row[name] == wanted)
    symbol, base, settle, kind = (params.get(name, "") for name in ("symbol", "baseCoin", "settleCoin", "execType"))
    for text in (symbol, base, settle):
        if text != text.upper():
            raise Refused(10001, "params error: symbol invalid")
    if kind and kind not in EXEC_TYPES:
        raise Refused(10001, "params error: execType invalid")

    def matches(row: Row) -> bool:
        if kind and row["execType"] != kind:
            return False
        if symbol:
            return bool(row["symbol"] == symbol)
        coins = _coins(category, row["symbol"])
        return coins[0] == (base or coins[0]) and coins[1] == (settle or coins[1])

    return matches


@cache
def _coins(category: str, symbol: str) -> tuple[str, str]:
    """Base and settle coin, by the name of a contract."""
    if category == "inverse":
        base = re.sub(r"USD([HMUZ]\d\d)?$", "", symbol)
        return base, base
    if "-" in symbol or symbol.endswith("PERP"):
        return symbol.partition("-")[0].removesuffix("PERP"), "USDC"
    return symbol.removesuffix("USDT"), "USDT"


def _walk(rows: Iterable[Row], walk: int, after: tuple[int, int] | None) -> Iterator[Row]:
    """The rows behind a mark. Within a millisecond each walk has an order of its own, the same on all its pages."""
    for ms, same in groupby(rows, key=time_of):
        ranked = sorted(((_rank(row, walk), row) for row in same), key=itemgetter(0))
        yield from (row for rank, row in ranked if after is None or ms != after[0] or rank > after[1])


def _rank(row: Row, walk: int) -> int:
    return _number(f"{walk} {row['execId']}") % 2**48


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _uuid(text: str) -> str:
    digits = md5(text.encode(), usedforsecurity=False).hexdigest()  # quicker than the class
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _whole(params: Row, name: str, default: int, *, most: int | None = None) -> int:
    """A number, from 1 where it has an upper end."""
    text = params.get(name)
    if not text:
        return default
    if not text.isdecimal() or (most is not None and not 1 <= int(text) <= most):
        raise Refused(10001, f"params error: {name} invalid")
    return int(text)


def plain(number: Decimal) -> str:
    """No exponent, no idle zeros."""
    digits = f"{number:f}"
    return (digits.rstrip("0").rstrip(".") if "." in digits else digits) or "0"


def _coin(market: Market) -> str:
    return "1000PEPE" if market.base == "kPEPE" else market.base


def _settles_in(market: Market) -> str:
    return market.base if market.quote == "USD" else market.quote


def _limit_headers(limit: int, left: int, reset_ms: int) -> dict[str, str]:
    return {
        "X-Bapi-Limit": str(limit),
        "X-Bapi-Limit-Status": str(left),
        "X-Bapi-Limit-Reset-Timestamp": str(reset_ms),
    }


def _at_eight(ordinal: int) -> datetime:
    return datetime.combine(date.fromordinal(ordinal), time(8), UTC)


def _iso(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _first_of_month(at: datetime) -> datetime:
    return datetime(at.year, at.month, 1, tzinfo=UTC)
