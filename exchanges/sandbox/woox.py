"""WOO X from the other side: its v3 REST API as far as fills and keys go, and the fills of v1, which it retires.

https://developer.woox.io/api-reference
An account is an application: a main account or a sub-account, each with its own id, keys, limits and fills. Perpetuals
and spot stand in one list of fills, by growing id. There is no page token: who wants more asks for a shorter time, or
from an id on. v3 remembers two years, v1 `hist_trades` everything.
"""

import hmac
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from heapq import merge
from itertools import islice
from operator import itemgetter
from random import Random
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, urlencode

import httpx

from exchanges.sandbox.base import EPOCH, MILLISECOND, SandboxVenue, client_of, to_ms, utc_now
from exchanges.sandbox.history import EPOCH_ORDINAL, History, Row, Truth, Truths
from exchanges.sandbox.trader import DAY_MS, Execution, Market, Trader

Environment = Literal["mainnet", "staging"]
Order = Literal["ascending", "descending", "shuffled"]
Total = Literal["true", "page", "absent", "wrong"]

KEPT = 200_000  # rows in memory, of each account
TWO_YEARS = timedelta(days=730)
THREE_MONTHS = timedelta(days=90)
PATIENCE_MS = 300_000  # how far a timestamp may be off
DEFAULT_LIMIT = 25
V1_CAP = 1000
SLOTS = 12  # bits of an id that tell apart what happened in a millisecond
FIRST_MS = 1_000_000_000_000  # the smallest time v1 takes: 13 digits
REPEATED = 2  # rows of a page that come again with `duplicates`

STATUSES = {-1000: 500, -1001: 401, -1002: 401, -1003: 429, -1007: 409}  # of the codes that are not 400
WRONG_SIGNATURE = "The api signature is invalid."
UNAUTHORIZED = "The api key or secret is in wrong format or expired or without permission."
WRONG_IP = "The IP is not in the whitelist."
TOO_MANY = "Rate limit exceed."
NOT_FOUND = "The data is not found in the server."
UNDER_MAINTENANCE = "The system is under maintenance."
SYSTEM = ("System is functioning properly.", "Under trading maintenance.", "Under system maintenance.")
FORM = "application/x-www-form-urlencoded"
EXACT = re.compile(r'"\\u0000([^"]*)\\u0000"')

UNKNOWN_TYPE = "OPTION"
V1_NAMES = {
    "id": "id",
    "symbol": "symbol",
    "orderId": "order_id",
    "orderTag": "order_tag",
    "executedPrice": "executed_price",
    "executedQuantity": "executed_quantity",
    "isMaker": "is_maker",
    "side": "side",
    "fee": "fee",
    "feeAsset": "fee_asset",
    "executedTimestamp": "executed_timestamp",
}
V3_NAMES = {old: new for new, old in V1_NAMES.items()}


def _market(symbol: str, base: str, tick: str, lot: str, weight: float) -> Market:
    kind: Literal["perp", "spot"] = "perp" if symbol.startswith("PERP_") else "spot"
    return Market(symbol, base, symbol.split("_")[2], Decimal(tick), Decimal(lot), kind, weight=weight)


MARKETS = (
    _market("PERP_BTC_USDT", "BTC", "0.1", "0.0001", 30),
    _market("PERP_ETH_USDT", "ETH", "0.01", "0.001", 22),
    _market("PERP_SOL_USDT", "SOL", "0.001", "0.01", 14),
    _market("PERP_HYPE_USDT", "HYPE", "0.001", "0.01", 8),
    _market("PERP_XRP_USDT", "XRP", "0.0001", "1", 6),
    _market("PERP_DOGE_USDT", "DOGE", "0.00001", "1", 5),
    _market("PERP_1000PEPE_USDT", "kPEPE", "0.000001", "1", 5),
    _market("SPOT_BTC_USDT", "BTC", "0.01", "0.00001", 4),
    _market("SPOT_HYPE_USDT", "HYPE", "0.0001", "0.01", 2),
)
ODD_MISSING = "PERP_XRP_USDT"  # not among the instruments, although it is traded
ODD_HALTED = "PERP_DOGE_USDT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key of an account. Without `allowed_ips` it may be used from everywhere."""

    api_key: str
    secret: str = field(repr=False)
    permissions: tuple[str, ...] = ("READ",)
    allowed_ips: tuple[str, ...] = ()
    expires_at: datetime | None = None


def _demo_key(api_key: str, secret: str, *permissions: str, allowed_ips: tuple[str, ...] = ()) -> Key:
    return Key(api_key=api_key, secret=secret, permissions=permissions or ("READ",), allowed_ips=allowed_ips)


DEMO_MAIN = "3f0c7a52-6d1e-4b8a-9c41-a0d3e0000001"  # application ids
DEMO_SUB = "3f0c7a52-6d1e-4b8a-9c41-a0d3e0000002"  # a sub-account of DEMO_MAIN
DEMO_STAGING = "3f0c7a52-6d1e-4b8a-9c41-a0d3e0000003"

KEY_MAIN = _demo_key("wooxDemoReadKey000000A==", "WOOXDEMOREADSECRET0000000001")
KEY_TRADE = _demo_key("wooxDemoTradeKey00000A==", "WOOXDEMOTRADESECRET000000001", "READ", "TRADE")
KEY_WITHDRAWAL = _demo_key("wooxDemoWithdrawKey00A==", "WOOXDEMOWITHDRAWSECRET000001", "READ", "WITHDRAWAL")
KEY_TRADE_ONLY = _demo_key("wooxDemoTradeOnlyKey0A==", "WOOXDEMOTRADEONLYSECRET00001", "TRADE")
KEY_OTHER_IP = _demo_key("wooxDemoOtherIpKey000A==", "WOOXDEMOOTHERIPSECRET0000001", allowed_ips=("203.0.113.7",))
KEY_SUB = _demo_key("wooxDemoSubKey0000000A==", "WOOXDEMOSUBSECRET00000000001")
KEY_STAGING = _demo_key("wooxDemoStagingKey000A==", "WOOXDEMOSTAGINGSECRET0000001")


id_of: Callable[[Row], int] = itemgetter("id")


def time_of(row: Row) -> int:
    """In ms, from either spelling."""
    value = row["executedTimestamp"]
    if isinstance(value, int):
        return value
    whole, point, part = str(value).partition(".")
    return int(whole) * 1000 + int(part[:3].ljust(3, "0")) if point else int(whole)


class Account:
    """An application: its keys and its fills. `of` is the application id of its main account, if it is a sub."""

    def __init__(
        self,
        ref: str,
        keys: tuple[Key, ...] = (),
        *,
        drawn: History,
        trader: Trader | None = None,
        name: str = "",
        of: str = "",
        environment: Environment = "mainnet",
    ) -> None:
        self.ref = ref
        self.keys = keys
        self.name = name
        self.of = of
        self.environment = environment
        self.is_revoked = False
        self.trader = trader
        self.drawn = drawn  # in these, ids grow with time
        self.written = History(time_of)  # in those put in by hand, they need not

    def rows(
        self, first: int, last: int, *, symbol: str | None = None, from_id: int = 0, newest_first: bool = False
    ) -> Iterator[Row]:
        """By id: what was executed in [first, last] (ms)."""
        drawn = self.drawn.between(max(first, from_id >> SLOTS), last, newest_first=newest_first)
        written = sorted(self.written.between(first, last), key=id_of, reverse=newest_first)
        for row in merge(drawn, written, key=id_of, reverse=newest_first):
            if id_of(row) >= from_id and symbol in (None, row.get("symbol")):
                yield row

    def count(self, first: int, last: int, *, symbol: str | None = None, from_id: int = 0) -> int:
        """How many rows `rows` would give."""
        edge = max(first, from_id >> SLOTS)
        if symbol or edge >= last:
            return sum(1 for _ in self.rows(first, last, symbol=symbol, from_id=from_id))
        torn = (*self.drawn.between(edge, edge), *self.written.between(first, last))
        return self.drawn.count(edge + 1, last) + sum(1 for row in torn if id_of(row) >= from_id)


NOBODY = Account("", drawn=History(lambda row: 0))


class Refused(Exception):
    """The venue says no, with this code."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message


class Call(NamedTuple):
    """A request as its route sees it."""

    path: str
    params: Mapping[str, str]
    account: Account

    def whole(self, name: str, *, least: int = 0) -> int | None:
        value = self.params.get(name)
        if value is None:
            return None
        if not re.fullmatch("[0-9]{1,18}", value) or int(value) < least:
            raise _invalid(name)
        return int(value)


class Route(NamedTuple):
    """`requests` in `seconds` are allowed: to an account, or if the route is public, to an address."""

    run: Callable[[Call], Row]
    requests: int
    seconds: int
    params: tuple[str, ...] = ()
    is_public: bool = False


class Woox(SandboxVenue):
    """The venue, with the demo accounts.

    The Main account trades `fills_per_day`, all of them since `opened_at`: by default two years ago and up to a month
    more, so that not every restart moves it; v3 never shows what is older than two years, v1 `hist_trades` does.

    Limits: `per_second` transactionHistory and tradingFee, `hist_per_second` hist_trades, `per_minute` each of the
    account routes, `others_per_second` each other route.

    What the venue leaves open about transactionHistory can be chosen. `cap`: the most rows of an answer. `order`: of
    the rows, and which are left out when there are more. `from_id_exclusive`: the row with this id is not among them.
    `total`: what meta.total says. `tells_page=False`: recordsPerPage is 25 whatever was used. `old`: what a
    startTime beyond the two years does. `longest_span`: of startTime to endTime.

    Spelling: `seconds_text` (text in seconds, or integer ms), `as_numbers` (price and quantity), `hedge` (sides such
    as CLOSE SHORT). Rows put in by hand are shown as they are. `v1_gone` is the status of all of v1; `system_status`
    1 is trading maintenance, 2 maintenance of everything.

    `odd` mixes in fields and types of markets nobody has heard of, a market missing from the instruments and a halted
    one. `duplicates`: the last rows of an answer come again at the start of the next one that has rows of their time.
    """

    demo_accounts = (("Main", {"api_key": KEY_MAIN.api_key, "api_secret": KEY_MAIN.secret}),)
    unmetered = {"per_second": 10**9, "hist_per_second": 10**9, "per_minute": 10**9, "others_per_second": 10**9}
    rate_limited = (429, b'{"success": false, "code": -1003, "message": "Rate limit exceed."}')
    maintenance = (400, b'{"code": "-1011", "message": "The system is under maintenance.", "success": false}')

    def __init__(
        self,
        now: Callable[[], datetime] = utc_now,
        *,
        fills_per_day: float = 12,
        opened_at: datetime | None = None,
        odd: bool = False,
        duplicates: bool = False,
        latency: float = 0.0,
        skew: timedelta = timedelta(),
        per_second: int = 2,
        hist_per_second: int = 1,
        per_minute: int = 10,
        others_per_second: int = 10,
        cap: int = 500,
        order: Order = "ascending",
        from_id_exclusive: bool = False,
        total: Total = "true",
        tells_page: bool = True,
        old: Literal["empty", "error"] = "empty",
        longest_span: timedelta | None = None,
        seconds_text: bool = True,
        as_numbers: bool = True,
        hedge: bool = False,
        v1_gone: Literal[404, 410] | None = None,
        system_status: Literal[0, 1, 2] = 0,
    ) -> None:
        super().__init__(now, latency=latency, skew=skew)
        self.opened_at = opened_at or _first_of_month(now() - TWO_YEARS)
        self.odd = odd
        self.duplicates = duplicates
        self.cap = cap
        self.order = order
        self.from_id_exclusive = from_id_exclusive
        self.total = total
        self.tells_page = tells_page
        self.old = old
        self.longest_span = longest_span
        self.seconds_text = seconds_text
        self.as_numbers = as_numbers
        self.hedge = hedge
        self.v1_gone = v1_gone
        self.system_status = system_status
        self.accounts: dict[str, Account] = {}
        self._spent: dict[tuple[str, str], deque[datetime]] = {}
        self._ends: dict[tuple[str, str], list[Row]] = {}  # the last rows of the last answer, by account and path
        self._random = Random()
        span, v1_span = ("startTime", "endTime"), ("start_t", "end_t")
        self._routes = {
            "/v3/trade/transactionHistory": Route(
                self._transaction_history, per_second, 1, ("symbol", *span, "fromId", "limit")
            ),
            "/v3/trade/transaction": Route(self._transaction, others_per_second, 1, ("tradeId", "clientOrderId")),
            "/v3/trade/tradingFee": Route(self._trading_fee, per_second, 1, ("symbol",)),
            "/v3/account/info": Route(self._info, per_minute, 60),
            "/v3/account/credentials": Route(self._credentials, per_minute, 60),
            "/v3/account/subAccounts/all": Route(self._sub_accounts, per_minute, 60),
            "/v1/client/hist_trades": Route(
                self._hist_trades, hist_per_second, 1, ("symbol", *v1_span, "fromId", "limit")
            ),
            "/v1/client/trades": Route(
                self._trades, others_per_second, 1, ("symbol", "order_tag", *v1_span, "page", "size")
            ),
            "/v3/public/instruments": Route(self._instruments, others_per_second, 1, ("symbol",), is_public=True),
            "/v3/public/systemInfo": Route(self._system_info, others_per_second, 1, is_public=True),
        }
        keys = (KEY_TRADE_ONLY, KEY_WITHDRAWAL, KEY_TRADE, KEY_OTHER_IP, KEY_MAIN)
        main = Trader("woox main", fills_per_day, MARKETS, notional=8_000, kept=KEPT)
        self.add(DEMO_MAIN, *keys, trader=main, name="Main")
        self.add(DEMO_SUB, KEY_SUB, trader=Trader("woox sub", 3, MARKETS), name="grid", of=DEMO_MAIN)
        testing = Trader("woox staging", 2, MARKETS)
        self.add(DEMO_STAGING, KEY_STAGING, trader=testing, name="Main", environment="staging")

    # What tests and the demo use.

    def add(
        self,
        account_ref: str,
        *keys: Key,
        rows: Sequence[Row] = (),
        trader: Trader | None = None,
        name: str = "Main",
        of: str = "",
        environment: Environment = "mainnet",
    ) -> Account:
        """An account with these rows in API form, or with a trader. It takes the place of one with the same id."""
        drawn = History(time_of, trader=trader, opened_at=self.opened_at, spell=self._row, kept=KEPT)
        account = Account(account_ref, keys, drawn=drawn, trader=trader, name=name, of=of, environment=environment)
        with self._lock:
            self.accounts[account_ref] = account
        self.put(account_ref, "transactionHistory", *rows)
        return account

    def put(self, account_ref: str, list_name: str, *rows: Row) -> None:
        """Adds rows in the form of v3 (`transactionHistory`) or of v1 (`hist_trades`) to the one list both show."""
        if list_name not in ("transactionHistory", "hist_trades"):
            raise ValueError(f"no list is called {list_name}")
        with self._lock:
            written = self.accounts[account_ref].written
            written.put(*({V3_NAMES.get(name, name): row[name] for name in row} for row in rows))

    def revoke(self, account_ref: str) -> None:
        """The keys of the account are deleted."""
        self.accounts[account_ref].is_revoked = True

    def restore(self, account_ref: str) -> None:
        self.accounts[account_ref].is_revoked = False

    def rows(self, account_ref: str) -> list[Row]:
        """The whole list up to now, oldest first, as if the venue forgot nothing."""
        with self._lock:
            return list(self.accounts[account_ref].rows(0, to_ms(self.now())))

    def truth(self, account_ref: str, since: datetime | None = None, until: datetime | None = None) -> Truths:
        """What a complete reading of [since, until) comes to, for each UTC day and perpetual market; never beyond now.

        The venue does not mark liquidations, so none stand apart. An id counts once; USDT is taken for dollars.
        """
        with self._lock:
            first = _first_ms(since) if since else 0
            last = min(to_ms(self.now()), _first_ms(until) - 1 if until else FIRST_MS * 100)
            result: Truths = {}
            seen: set[int] = set()
            for row in self.accounts[account_ref].rows(first, last):
                notional = _perp_notional(row)
                if notional is not None and id_of(row) not in seen:
                    seen.add(id_of(row))
                    day = date.fromordinal(EPOCH_ORDINAL + time_of(row) // DAY_MS), row["symbol"]
                    result[day] = result.get(day, Truth()).plus(notional, is_forced=False)
            return result

    # The venue.

    def decode(self, request: httpx.Request) -> str:
        return request.url.raw_path.decode()

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if self.v1_gone and path.startswith("/v1/"):
            return httpx.Response(self.v1_gone)
        if path not in self._routes:
            return httpx.Response(404)
        if request.method != "GET":
            return httpx.Response(405, headers={"allow": "GET"})
        try:
            return self._json(200, self._result(request, self._routes[path]))
        except Refused as refusal:
            status, code, message = STATUSES.get(refusal.code, 400), refusal.code, refusal.message
            if self.calls.total() % 2:
                return self._json(status, {"code": str(code), "message": message, "success": False})
            return self._json(status, {"success": False, "code": code, "message": message})

    def _result(self, request: httpx.Request, route: Route) -> Row:
        path = request.url.path
        if self.system_status == 2 and path != "/v3/public/systemInfo":
            raise Refused(-1011, UNDER_MAINTENANCE)
        account = NOBODY if route.is_public else self._caller(request)
        self._pay(client_of(request) if route.is_public else account.ref, path, route)
        params = dict(_params(request) if path.startswith("/v1/") else parse_qsl(request.url.query.decode(), True))
        for name in params:
            if name not in route.params:
                raise Refused(-1004, f"An unknown parameter was sent: {name}.")
        result = route.run(Call(path, params, account))
        return result if path.startswith("/v1/") else {"success": True, "timestamp": to_ms(self.now()), "data": result}

    def _json(self, status: int, body: Row) -> httpx.Response:
        return httpx.Response(status, headers={"content-type": "application/json"}, content=exact_json(body))

    def _caller(self, request: httpx.Request) -> Account:
        """The account whose key signed the request."""
        headers, now = request.headers, self.now()
        holders = {key.api_key: (one, key) for one in self.accounts.values() for key in one.keys if not one.is_revoked}
        account, key = holders.get(headers.get("x-api-key", ""), (None, None))
        if not account or not key or account.environment != _environment(request):
            raise Refused(-1002, UNAUTHORIZED)
        timestamp, given = headers.get("x-api-timestamp", ""), headers.get("x-api-signature", "")
        is_timely = re.fullmatch("[0-9]{13}", timestamp) and abs(int(timestamp) - to_ms(now)) <= PATIENCE_MS
        if not is_timely or (key.expires_at and key.expires_at <= now):
            raise Refused(-1002, UNAUTHORIZED)
        if request.url.path.startswith("/v1/"):
            is_form = headers.get("content-type", "").partition(";")[0].strip().lower() == FORM
            unsorted = digest(key.secret, f"{urlencode(_params(request))}|{timestamp}")
            expected = sign_v1(key.secret, timestamp, _params(request))
            if not is_form or given == unsorted != expected:
                raise Refused(-1002, UNAUTHORIZED)
        else:
            target, body = request.url.raw_path.decode(), request.content.decode(errors="replace")
            expected = sign_v3(key.secret, timestamp, request.method, target, body)
        if given != expected:
            raise Refused(-1001, WRONG_SIGNATURE)
        if key.allowed_ips and client_of(request) not in key.allowed_ips:
            raise Refused(-1002, WRONG_IP)
        if "READ" not in key.permissions:
            raise Refused(-1002, UNAUTHORIZED)
        return account

    def _pay(self, who: str, path: str, route: Route) -> None:
        """Who is refused has not spent anything."""
        spent = self._spent.setdefault((who, path), deque())
        while spent and spent[0] <= self.now() - timedelta(seconds=route.seconds):
            spent.popleft()
        if len(spent) >= route.requests:
            raise Refused(-1003, TOO_MANY)
        spent.append(self.now())

    # Fills.

    def _transaction_history(self, call: Call) -> Row:
        now_ms, oldest = to_ms(self.now()), to_ms(self.now() - TWO_YEARS)
        start, end = call.whole("startTime"), call.whole("endTime")
        symbol, from_id = call.params.get("symbol"), call.whole("fromId") or 0
        limit = min(call.whole("limit", least=1) or DEFAULT_LIMIT, self.cap)
        if start is not None and end is not None and start > end:
            raise _invalid("startTime")
        if start is not None and start < oldest and self.old == "error":
            raise _invalid("startTime")
        last = now_ms if end is None else end
        if self.longest_span:
            span = self.longest_span // MILLISECOND
            start = last - span if start is None else start
            if last - start > span:
                raise _invalid("endTime")
        first, last = max(start or 0, oldest), min(last, now_ms)
        from_id += self.from_id_exclusive and "fromId" in call.params

        matches = call.account.rows(
            first, last, symbol=symbol, from_id=from_id, newest_first=self.order == "descending"
        )
        self._random.seed(self.calls.total())
        if self.order == "shuffled":
            everything = list(matches)
            rows = self._random.sample(everything, min(limit, len(everything)))
        else:
            rows = list(islice(matches, limit))
        rows = self._repeated(call, rows, limit, first, last)
        totals: dict[Total, Callable[[], int]] = {
            "true": lambda: call.account.count(first, last, symbol=symbol, from_id=from_id),
            "page": lambda: len(rows),
            "absent": lambda: 0,
            "wrong": lambda: self._random.randrange(10_000),
        }
        page = limit if self.tells_page else DEFAULT_LIMIT
        return {"meta": {"total": totals[self.total](), "recordsPerPage": page, "currentPage": 1}, "rows": rows}

    def _transaction(self, call: Call) -> Row:
        trade_id = call.whole("tradeId")
        if trade_id is None and "clientOrderId" not in call.params:
            raise _invalid("tradeId")
        now = self.now()
        if trade_id is not None:  # no order of ours has a client's id
            row = next(call.account.rows(to_ms(now - THREE_MONTHS), to_ms(now), from_id=trade_id), None)
            if row and id_of(row) == trade_id:
                return row
        raise Refused(-1006, NOT_FOUND)

    def _trades(self, call: Call) -> Row:
        """Newest first."""
        now = self.now()
        first, last = to_ms(now - THREE_MONTHS), to_ms(now)
        if (start := call.whole("start_t", least=FIRST_MS)) is not None:
            first = max(first, start)
        if (end := call.whole("end_t", least=FIRST_MS)) is not None:
            last = min(last, end)
        page = call.whole("page", least=1) or 1
        size = min(call.whole("size", least=1) or DEFAULT_LIMIT, V1_CAP)
        tag = call.params.get("order_tag")
        matches = [
            row
            for row in call.account.rows(first, last, symbol=call.params.get("symbol"), newest_first=True)
            if tag in (None, row.get("orderTag"))
        ]
        rows = self._repeated(call, matches[(page - 1) * size : page * size], size, first, last)
        meta = {"total": len(matches), "records_per_page": size, "current_page": page}
        return {"success": True, "meta": meta, "rows": [_v1_row(row) for row in rows]}

    def _hist_trades(self, call: Call) -> Row:
        start, end = call.whole("start_t", least=FIRST_MS), call.whole("end_t", least=FIRST_MS)
        if start is None or end is None or start > end:
            raise _invalid("end_t" if end is None else "start_t")
        limit = min(call.whole("limit", least=1) or DEFAULT_LIMIT, V1_CAP)
        last, from_id = min(end, to_ms(self.now())), call.whole("fromId") or 1
        matches = call.account.rows(start, last, symbol=call.params.get("symbol"), from_id=from_id)
        rows = self._repeated(call, list(islice(matches, limit)), limit, start, last)
        return {"success": True, "data": [_v1_row(row) for row in rows]}

    def _repeated(self, call: Call, rows: list[Row], limit: int, first: int, last: int) -> list[Row]:
        """These rows, with `duplicates` after the last ones of the answer before; never more than the limit."""
        if not self.duplicates or not rows:
            return rows
        symbol, key = call.params.get("symbol"), (call.account.ref, call.path)
        again = [
            row
            for row in self._ends.get(key, ())
            if first <= time_of(row) <= last and symbol in (None, row.get("symbol"))
        ][: limit // 2]
        rows = again + rows[: limit - len(again)]
        self._ends[key] = rows[-REPEATED:]
        return rows

    def _row(self, execution: Execution) -> Row:
        """The fill as v3 shows it. Forced ones look like all others."""
        market, ms = execution.market, to_ms(execution.executed_at)
        kind, base, quote = market.symbol.split("_")
        fill_id = ms << SLOTS | execution.number % 2**SLOTS
        draw = fill_id * 0x9E3779B97F4A7C15 >> 24 & 0xFFFF  # decides which fills are special ones
        is_spot_buy = kind == "SPOT" and execution.side == "buy"
        pnl: str | None = None if draw % 2 else "null"
        if execution.realized_pnl and kind == "PERP":
            pnl = plain(execution.realized_pnl)
        price, qty = Decimal(plain(execution.price)), Decimal(plain(execution.qty))
        row: Row = {
            "id": fill_id,
            "symbol": market.symbol,
            "orderId": execution.order % 2**40,
            "orderTag": "default" if execution.order % 5 else "grid-7",
            "executedPrice": price if self.as_numbers else str(price),
            "executedQuantity": qty if self.as_numbers else str(qty),
            "isMaker": int(execution.is_maker),
            "isMatchRpi": draw % 11 == 1,
            "side": self._side(execution),
            "fee": round(execution.fee / execution.price, 8) if is_spot_buy else execution.fee,
            "feeAsset": base if is_spot_buy else quote,
            "realizedPnl": pnl,
            "executedTimestamp": seconds(ms) if self.seconds_text else ms,
        }
        if draw % 4 == 0:
            del row["isMatchRpi"]
        if self.odd:
            row |= {"venueFlags": ["CLOB"], "settlement": {"batch": draw}}
            if kind == "PERP" and draw % 300 == 7:
                row["symbol"] = f"{UNKNOWN_TYPE}_{base}_{quote}"
        return row

    def _side(self, execution: Execution) -> str:
        start, is_buy = execution.start_position, execution.side == "buy"
        if not self.hedge or execution.market.kind != "perp":
            return execution.side.upper()
        if is_buy:
            return "CLOSE SHORT" if start < 0 else "OPEN LONG"
        return "CLOSE LONG" if start > 0 else "OPEN SHORT"

    # Accounts.

    def _info(self, call: Call) -> Row:
        """Every second answer does not tell the rates."""
        account = call.account
        maker, taker = self._rates(account)
        rates = {"makerFeeRate": Decimal(maker), "takerFeeRate": Decimal(taker)}
        return {
            "applicationId": account.ref,
            "account": f"{account.name.lower()}@example.com",
            "alias": account.name,
            "otpauth": True,
            "accountMode": "FUTURES",
            "positionMode": "HEDGE_MODE" if self.hedge else "ONE_WAY",
            "leverage": 10,
            **(rates if self.calls.total() % 2 else {}),
            "marginRatio": "10",
            "openMarginRatio": "10",
            "initialMarginRatio": "0.1",
            "maintenanceMarginRatio": "0.03",
            "totalCollateral": "1200.5",
            "freeCollateral": "1200.5",
            "totalAccountValue": "1200.5",
            "referrerID": None,
            "accountType": "Subaccount" if account.of else "Main",
        }

    def _credentials(self, call: Call) -> Row:
        """All keys of the account, not only the one that asks."""
        rows = [
            {
                "accountName": call.account.name,
                "userId": 12523,
                "apiKey": key.api_key,
                "permissions": list(key.permissions),
                "allowedIPs": list(key.allowed_ips),
            }
            for key in call.account.keys
        ]
        return {"rows": rows, "meta": {"total": len(rows), "recordsPerPage": DEFAULT_LIMIT, "currentPage": 1}}

    def _sub_accounts(self, call: Call) -> Row:
        if call.account.of:
            raise Refused(-1002, UNAUTHORIZED)
        created = seconds(to_ms(self.opened_at))
        subs = (one for one in self.accounts.values() if one.of == call.account.ref)
        return {"rows": [{"applicationId": sub.ref, "account": sub.name, "createdTime": created} for sub in subs]}

    def _trading_fee(self, call: Call) -> Row:
        symbol = self._listed(call.params.get("symbol", ""))["symbol"]
        maker, taker = self._rates(call.account)
        return {"symbol": symbol, "takerFee": taker, "makerFee": maker}

    def _rates(self, account: Account) -> tuple[str, str]:
        """Maker and taker, in basis points."""
        if not account.trader:
            return "2", "5"
        maker, taker = account.trader.rates(self.now().toordinal())
        return plain(maker * 10_000), plain(taker * 10_000)

    # Markets.

    def _instruments(self, call: Call) -> Row:
        if "symbol" in call.params:
            return {"rows": [self._listed(call.params["symbol"])]}
        return {"rows": [self._instrument(market) for market in self._markets()]}

    def _listed(self, symbol: str) -> Row:
        """The instrument, if the venue knows it."""
        if not symbol:
            raise Refused(317148, "The symbol is empty.")
        for market in self._markets():
            if market.symbol == symbol:
                return self._instrument(market)
        raise Refused(317155, "The symbol is unknown.")

    def _markets(self) -> list[Market]:
        return [market for market in MARKETS if not (self.odd and market.symbol == ODD_MISSING)]

    def _instrument(self, market: Market) -> Row:
        _, base, quote = market.symbol.split("_")
        return {
            "symbol": market.symbol,
            "status": "SUSPENDED" if self.odd and market.symbol == ODD_HALTED else "TRADING",
            "baseAsset": base,
            "baseAssetMultiplier": int(re.match("[0-9]*", base)[0] or 1),  # type: ignore[index]
            "quoteAsset": quote,
            "quoteMin": "0",
            "quoteMax": "1000000",
            "quoteTick": plain(market.tick),
            "baseMin": plain(market.lot),
            "baseMax": "50000000",
            "baseTick": plain(market.lot),
            "minNotional": "10",
            "bidCapRatio": "1.05",
            "bidFloorRatio": None,
            "askCapRatio": None,
            "askFloorRatio": "0.95",
            "orderMode": "NORMAL",
            "impactNotional": "5000" if market.kind == "perp" else None,
            "isAllowedRpi": market.kind == "perp",
            "tickGranularity": None,
        }

    def _system_info(self, call: Call) -> Row:
        end = to_ms(self.now()) + 3_600_000
        return {"status": self.system_status, "msg": SYSTEM[self.system_status], "estimatedEndTime": end}


def digest(secret: str, message: str) -> str:
    return hmac.digest(secret.encode(), message.encode(), "sha256").hex()


def sign_v3(secret: str, timestamp: str, method: str, target: str, body: str = "") -> str:
    """`target` is the path with its query, exactly as sent."""
    return digest(secret, timestamp + method + target + body)


def sign_v1(secret: str, timestamp: str, params: list[tuple[str, str]]) -> str:
    return digest(secret, f"{urlencode(sorted(params))}|{timestamp}")


def exact_json(value: Any) -> str:
    """Decimals become JSON numbers with exactly these digits."""
    return EXACT.sub(r"\1", json.dumps(value, default=lambda number: f"\0{number:f}\0", separators=(",", ":")))


def plain(number: Decimal) -> str:
    """No exponent, no idle zeros."""
    digits = f"{number:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def seconds(ms: int) -> str:
    return f"{ms // 1000}.{ms % 1000:03}"


def _v1_row(row: Row) -> Row:
    """v1 gives numbers and seconds as text, whatever v3 does."""
    numbers = {name: Decimal(str(row[name])) for name in ("executedPrice", "executedQuantity", "fee") if name in row}
    spelled = row | numbers | {"executedTimestamp": seconds(time_of(row))}
    return {old: spelled[name] for name, old in V1_NAMES.items() if name in spelled}


def _perp_notional(row: Row) -> Decimal | None:
    """In USDT; None for other markets, and for rows put in by hand that make no sense."""
    try:
        notional = Decimal(str(row["executedPrice"])) * Decimal(str(row["executedQuantity"]))
        return notional if row["symbol"].startswith("PERP_") else None
    except (KeyError, ArithmeticError):
        return None


def _params(request: httpx.Request) -> list[tuple[str, str]]:
    """Of query and body together, as v1 takes them."""
    sources = (request.url.query, request.content)
    return [pair for source in sources for pair in parse_qsl(source.decode(errors="replace"), keep_blank_values=True)]


def _environment(request: httpx.Request) -> Environment:
    return "staging" if request.url.host.endswith(".staging.woox.io") else "mainnet"


def _invalid(name: str) -> Refused:
    return Refused(-1005, f"The parameter {name} is missing or invalid.")


def _first_ms(at: datetime) -> int:
    """The first whole millisecond that is not before."""
    return -((EPOCH - at) // MILLISECOND)


def _first_of_month(at: datetime) -> datetime:
    return datetime(at.year, at.month, 1, tzinfo=UTC)
