"""Hyperliquid from the other side: `POST /info`.

https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint
An address has two lists of fills: the regular one (perps of all dexes, spot and outcomes together) and the slices of
its TWAP orders. Of both only the newest are kept. Answers hold at most a page; by time they begin with the oldest.
Within a millisecond the order is random.
"""

import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from itertools import groupby
from math import ceil
from operator import itemgetter
from random import Random
from typing import Any, Literal, NamedTuple

import httpx

from exchanges.sandbox.base import EPOCH, SandboxVenue, client_of, to_ms, utc_now
from exchanges.sandbox.history import Row, Truth, Truths
from exchanges.sandbox.trader import DAY_MS, FORCED, Execution, Market, Trader

Role = Literal["user", "agent", "subAccount", "vault", "missing"]

DEMO_TRADER = "0xde3000000000000000000000000000000000a001"  # two years fit into the venue's memory
DEMO_BOT = "0xde3000000000000000000000000000000000a002"  # they do not
DEMO_SUB = "0xde3000000000000000000000000000000000a003"  # a sub-account of DEMO_TRADER
DEMO_AGENT = "0xde3000000000000000000000000000000000a004"  # an API wallet of DEMO_TRADER
DEMO_EMPTY = "0xde3000000000000000000000000000000000a005"  # never traded

ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
MALFORMED = b"Failed to deserialize the JSON body into the target type"
MINUTE = timedelta(minutes=1)
EPOCH_ORDINAL = EPOCH.toordinal()
ZERO_HASH = "0x" + "0" * 64
STRANGER = "0x57a4000000000000000000000000000000000001"  # somebody else who was liquidated
WEIGHTS = {"userRole": 60}
USUAL_WEIGHT = 20
ROWS_PER_WEIGHT = 20
PERP_DIRS = ("Open Long", "Close Long", "Open Short", "Close Short", "Long > Short", "Short > Long")
UNKNOWN_DIR = "Portfolio Rebalancing"
ZERO = Decimal(0)


def _market(symbol: str, base: str, size_decimals: int, weight: float, quote: str = "USDC") -> Market:
    tick, lot = Decimal(1).scaleb(size_decimals - 6), Decimal(1).scaleb(-size_decimals)
    kind: Literal["perp", "spot", "outcome"] = "perp"
    if symbol[0] in "@#" or "/" in symbol:
        kind = "outcome" if symbol[0] == "#" else "spot"
    return Market(symbol, base, quote, tick, lot, kind, significant=5, weight=weight)


SHARED = "kPEPE"  # what DEMO_TRADER does here, DEMO_SUB is the other side of
MARKETS = (
    _market("BTC", "BTC", 5, 30),
    _market("ETH", "ETH", 4, 22),
    _market("SOL", "SOL", 2, 14),
    _market("HYPE", "HYPE", 2, 12),
    _market("DOGE", "DOGE", 0, 4),
    _market("xyz:XYZ100", "XYZ100", 4, 5),
    _market("xyz:NVDA", "NVDA", 3, 3),
    _market("hyna:BTC", "BTC", 5, 3, "USDE"),
    _market("@107", "HYPE", 2, 4),
    _market("PURR/USDC", "PURR", 0, 2),
    _market("#123", "ODDS", 0, 1),
)
TRADER_MARKETS = (*MARKETS, _market(SHARED, "kPEPE", 0, 4))
TOKENS = {"USDC": 0, "PURR": 1, "HYPE": 150, "USDE": 235}
SIZE_DECIMALS = {"USDC": 8, "PURR": 0, "HYPE": 2, "USDE": 2}
DEXES = {"xyz": "XYZ", "hyna": "HyENA"}


class Tally(NamedTuple):
    """What some fills come to, in dollars."""

    maker: Decimal = ZERO  # perps
    taker: Decimal = ZERO
    other_maker: Decimal = ZERO  # spot
    other_taker: Decimal = ZERO
    outcomes: Decimal = ZERO
    gain: Decimal = ZERO  # realised, less fees

    @property
    def perps(self) -> Decimal:
        return self.maker + self.taker

    @property
    def all(self) -> Decimal:
        return self.perps + self.other_maker + self.other_taker + self.outcomes


class Horizon(NamedTuple):
    """Where the venue's memory of a list begins: its oldest day, and how many rows of that day are forgotten."""

    oldest: int = 0
    forgotten: int = 0


EVERYTHING = Horizon()


class Malformed(Exception):
    """The venue answers 422."""


def fill_of(row: Row) -> Row:
    """The fill in a row of either list."""
    fill: Row = row.get("fill", row)
    return fill


def time_of(row: Row) -> int:
    return int(fill_of(row)["time"])


def is_perp(coin: str) -> bool:
    return coin[0] not in "@#" and "/" not in coin


class Account:
    """An address: who it is, and its two lists of fills by UTC day. This kind holds the rows it was given."""

    def __init__(
        self,
        address: str,
        role: Role = "user",
        *,
        of: str = "",
        name: str = "",
        rows: Sequence[Row] = (),
        twap: Sequence[Row] = (),
    ) -> None:
        self.address = address.lower()
        self.role = role
        self.of = of.lower()  # the user behind an agent, the master of a sub-account
        self.name = name
        self._days: tuple[dict[int, list[Row]], dict[int, list[Row]]] = (_by_day(rows), _by_day(twap))
        self._counts: dict[tuple[int, bool], int] = {}
        self._tallies: dict[int, Tally] = {}

    def ordinals(self, today: int) -> Sequence[int]:
        """The days (`date.toordinal()`) on which there may be rows, oldest first, up to and with today."""
        return [day for day in sorted({*self._days[False], *self._days[True]}) if day <= today]

    def day(self, ordinal: int, twap: bool) -> list[Row]:
        """The rows of a day, oldest first; those still to come are among them."""
        return self._days[twap].get(ordinal, [])

    def count(self, ordinal: int, twap: bool) -> int:
        """How many rows that day has."""
        if (ordinal, twap) not in self._counts:
            self._counts[ordinal, twap] = self._count(ordinal, twap)
        return self._counts[ordinal, twap]

    def tally(self, ordinal: int) -> Tally:
        """What both lists of a whole day come to."""
        if ordinal not in self._tallies:
            self._tallies[ordinal] = tally(self.day(ordinal, False) + self.day(ordinal, True))
        return self._tallies[ordinal]

    def rates(self, ordinal: int) -> tuple[Decimal, Decimal]:
        """Maker and taker."""
        return Decimal("0.00015"), Decimal("0.00045")

    def _count(self, ordinal: int, twap: bool) -> int:
        return len(self.day(ordinal, twap))


class TraderAccount(Account):
    """The account of a trader, from its opening on; also the other side of all that `partner` does in SHARED."""

    def __init__(
        self,
        address: str,
        role: Role = "user",
        *,
        trader: Trader,
        opened_at: datetime,
        of: str = "",
        name: str = "",
        partner: Trader | None = None,
        unknown_dir: bool = False,
    ) -> None:
        super().__init__(address, role, of=of, name=name)
        self.trader = trader
        self.partner = partner
        self.opened = opened_at.toordinal()
        self.unknown_dir = unknown_dir

    def ordinals(self, today: int) -> Sequence[int]:
        return range(self.opened, today + 1)

    def day(self, ordinal: int, twap: bool) -> list[Row]:
        rows = [self._row(execution) for execution in self._executions(ordinal, twap)]
        return [{"fill": row, "twapId": twap_id} for row, twap_id in rows] if twap else [row for row, _ in rows]

    def rates(self, ordinal: int) -> tuple[Decimal, Decimal]:
        return self.trader.rates(ordinal)

    def _count(self, ordinal: int, twap: bool) -> int:
        return len(self._executions(ordinal, twap))

    def _executions(self, ordinal: int, twap: bool) -> list[Execution]:
        book = [execution for execution in self.trader.day(ordinal) if (execution.kind == "twap") == twap]
        if self.partner and not twap:
            theirs = (execution for execution in self.partner.day(ordinal) if execution.market.symbol == SHARED)
            book += [self.trader.other_side(execution) for execution in theirs]
            book.sort(key=lambda execution: execution.executed_at)
        return book

    def _row(self, execution: Execution) -> tuple[Row, int]:
        """The fill as the API shows it, and the number of the TWAP order it would belong to."""
        market, is_forced = execution.market, execution.kind in FORCED
        tid = execution.number * 0x9E3779B97F4A7C15 % 2**50  # an odd factor: no two fills of an account share it
        draw = tid >> 20  # decides which fills are odd ones
        row: Row = {
            "coin": market.symbol,
            "px": text(execution.price),
            "sz": text(execution.qty),
            "side": "B" if execution.side == "buy" else "A",
            "time": to_ms(execution.executed_at),
            "startPosition": text(execution.start_position),
            "dir": _dir(execution),
            "closedPnl": text(execution.realized_pnl),
            "hash": "0x" + sha256(b"%d" % execution.order).hexdigest(),
            "oid": execution.order % 2**44,
            "crossed": not execution.is_maker,
            "fee": text(execution.fee),
            "tid": tid,
            "feeToken": market.quote,
            "twapId": None,
        }
        if market.kind == "spot" and execution.side == "buy":
            row |= {"fee": text(round(execution.fee / execution.price, 8)), "feeToken": market.base}
        elif market.kind == "outcome":
            row["fee"] = "0.0"
        elif is_forced or execution.kind == "twap" or (execution.is_maker and draw % 7 == 0):
            row["hash"] = ZERO_HASH  # no transaction of a user made this fill
        elif not execution.is_maker and execution.order % 5 == 0:
            row["builderFee"] = text(round(execution.fee / 10, 6))
        elif execution.order % 3 == 0:
            row["cloid"] = "0x" + sha256(b"cloid %d" % execution.order).hexdigest()[:32]

        if execution.kind == "liquidation":
            method = "backstop" if execution.parent % 3 == 0 else "market"
            row["liquidation"] = {"liquidatedUser": self.address, "markPx": row["px"], "method": method}
        elif market.kind == "perp" and not is_forced and execution.is_maker and draw % 61 == 0:
            row["liquidation"] = {"liquidatedUser": STRANGER, "markPx": row["px"], "method": "market"}
        elif market.kind == "perp" and market.quote == "USDC" and draw % 97 == 0:
            del row["feeToken"]
        elif self.unknown_dir and market.kind == "perp" and execution.kind == "trade" and draw % 300 == 1:
            row["dir"] = UNKNOWN_DIR
        return row, execution.parent % 2**40


class Hyperliquid(SandboxVenue):
    """The venue, with the demo accounts.

    `page`, `memory` and `twap_memory` are in rows, `weight_per_minute` holds for each client. Traders opened their
    accounts at `opened_at`: by default two years ago and up to a month more, so that not every restart moves it.
    `unknown_dir` mixes a few perp fills of a kind nobody has heard of into the traders' lists.
    """

    demo_accounts = (("Main", {"address": DEMO_TRADER}), ("Market maker", {"address": DEMO_BOT}))
    unmetered = {"weight_per_minute": 10**9}
    rate_limited = (429, b"null")

    def __init__(
        self,
        now: Callable[[], datetime] = utc_now,
        *,
        page: int = 2000,
        memory: int = 10_000,
        twap_memory: int = 2000,
        weight_per_minute: int = 1200,
        opened_at: datetime | None = None,
        unknown_dir: bool = False,
        latency: float = 0.0,
    ) -> None:
        super().__init__(now, latency=latency)
        self.page = page
        self.memory = memory
        self.twap_memory = twap_memory
        self.weight_per_minute = weight_per_minute
        self.opened_at = opened_at or _first_of_month(now() - timedelta(days=730))
        self.unknown_dir = unknown_dir
        self.accounts: dict[str, Account] = {}
        self._spent: dict[str, deque[tuple[datetime, int]]] = {}
        self._shuffle = Random()
        self._answers: dict[str, Callable[[Row], Any]] = {
            "userFills": self._user_fills,
            "userFillsByTime": self._user_fills_by_time,
            "userTwapSliceFills": self._user_fills,
            "userTwapSliceFillsByTime": self._user_fills_by_time,
            "userRole": self._user_role,
            "subAccounts": self._sub_accounts,
            "userRateLimit": self._user_rate_limit,
            "userFees": self._user_fees,
            "portfolio": self._portfolio,
            "meta": self._meta,
            "perpDexs": self._perp_dexs,
            "spotMeta": self._spot_meta,
        }
        master = Trader("hyperliquid trader", 11, TRADER_MARKETS, notional=8_000)
        self.add(DEMO_TRADER, trader=master)
        self.add(DEMO_BOT, trader=Trader("hyperliquid bot", 60, MARKETS, notional=20_000))
        sub = Trader("hyperliquid sub", 3, MARKETS)
        self.add(DEMO_SUB, trader=sub, partner=master, role="subAccount", of=DEMO_TRADER, name="grid")
        self.add(DEMO_AGENT, role="agent", of=DEMO_TRADER)
        self.add(DEMO_EMPTY)

    # What tests and the demo use.

    def add(
        self,
        address: str,
        *,
        rows: Sequence[Row] = (),
        twap: Sequence[Row] = (),
        trader: Trader | None = None,
        partner: Trader | None = None,
        role: Role = "user",
        of: str = "",
        name: str = "",
    ) -> Account:
        """An account with these rows in API form, or with a trader. It takes the place of one with the same address."""
        account = (
            TraderAccount(
                address,
                role,
                of=of,
                name=name,
                trader=trader,
                partner=partner,
                opened_at=self.opened_at,
                unknown_dir=self.unknown_dir,
            )
            if trader
            else Account(address, role, of=of, name=name, rows=rows, twap=twap)
        )
        with self._lock:
            self.accounts[account.address] = account
        return account

    def rows(self, address: str) -> list[Row]:
        """The whole regular list up to now, oldest first, as if the venue forgot nothing."""
        return self._all_rows(address, twap=False)

    def twap_rows(self, address: str) -> list[Row]:
        return self._all_rows(address, twap=True)

    def truth(
        self, address: str, since: datetime | None = None, until: datetime | None = None, *, within_memory: bool = False
    ) -> Truths:
        """What a complete reading of both lists in [since, until) comes to, for each UTC day and perpetual market.

        Never beyond now. Spot, outcomes, settlements and fills of an unknown kind are left out. `within_memory`: only
        what the venue still gives.
        """
        with self._lock:
            account, now_ms = self._account(address), to_ms(self.now())
            first = to_ms(since) if since else 0
            last = min(now_ms, to_ms(until) - 1) if until else now_ms
            horizons = [self._horizon(account, twap, now_ms) if within_memory else EVERYTHING for twap in (False, True)]
            result: Truths = {}
            for ordinal in account.ordinals(_ordinal(last)):
                rows = self._day(account, False, ordinal, horizons[False], first, last)
                rows += self._day(account, True, ordinal, horizons[True], first, last)
                seen: set[tuple[int, str, int]] = set()
                for fill in map(fill_of, rows):
                    if not is_perp(fill["coin"]):
                        continue
                    if "tid" in fill:  # a slice may stand in both lists; rows of 2023 have no identity and stand in one
                        key = (fill["time"], fill["coin"], fill["tid"])
                        if key in seen:
                            continue
                        seen.add(key)
                    day = date.fromordinal(ordinal), fill["coin"]
                    old = result.get(day, Truth())
                    notional = Decimal(fill["px"]) * Decimal(fill["sz"])
                    is_forced = _is_forced(account, fill)
                    if is_forced or fill["dir"] in PERP_DIRS:
                        result[day] = old.plus(notional, is_forced=is_forced)
            return result

    # The venue.

    def kind(self, request: httpx.Request, asked: Any) -> str:
        return str(asked.get("type")) if isinstance(asked, dict) else super().kind(request, asked)

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/info":
            return httpx.Response(404)
        if request.method != "POST":
            return httpx.Response(405, headers={"allow": "POST"})
        try:
            body = self.decode(request)
            if not isinstance(body, dict) or body.get("type") not in list(self._answers):
                raise Malformed
            if not self._pay(request, WEIGHTS.get(body["type"], USUAL_WEIGHT)):
                status, content = self.rate_limited
                return httpx.Response(status, headers={"content-type": "application/json"}, content=content)
            result = self._answers[body["type"]](body)
        except Malformed:
            return httpx.Response(422, headers={"content-type": "text/plain; charset=utf-8"}, content=MALFORMED)
        if "Fills" in body["type"]:
            self._bill(request, ceil(len(result) / ROWS_PER_WEIGHT))
        spelled = json.dumps(result, separators=(",", ":"))  # httpx takes json=None for no body
        return httpx.Response(200, headers={"content-type": "application/json"}, content=spelled)

    def weight_used(self, client: str = "127.0.0.1") -> int:
        """What a client has spent in the last minute."""
        spent = self._spent.setdefault(client, deque())
        while spent and spent[0][0] <= self.now() - MINUTE:
            spent.popleft()
        return sum(weight for _, weight in spent)

    def _pay(self, request: httpx.Request, weight: int) -> bool:
        if self.weight_used(client_of(request)) + weight > self.weight_per_minute:
            return False
        self._bill(request, weight)
        return True

    def _bill(self, request: httpx.Request, weight: int) -> None:
        self._spent[client_of(request)].append((self.now(), weight))

    def _user_fills(self, body: Row) -> list[Row]:
        return self._fills(body, 0, None, newest_first=True)

    def _user_fills_by_time(self, body: Row) -> list[Row]:
        start = _whole(body, "startTime")
        if start is None:
            raise Malformed
        return self._fills(body, start, _whole(body, "endTime"), newest_first=_flag(body, "reversed"))

    def _fills(self, body: Row, start: int, end: int | None, *, newest_first: bool) -> list[Row]:
        account, now_ms, twap = self._account(_user(body)), to_ms(self.now()), "Twap" in body["type"]
        is_merged = _flag(body, "aggregateByTime")
        end = now_ms if end is None else min(end, now_ms)
        horizon = self._horizon(account, twap, now_ms)
        days = [day for day in account.ordinals(_ordinal(end)) if day >= max(_ordinal(start), horizon.oldest)]
        found: list[Row] = []
        for ordinal in reversed(days) if newest_first else days:
            rows = self._day(account, twap, ordinal, horizon, start, end)
            rows = merged(rows) if is_merged and not twap else rows
            found += reversed(rows) if newest_first else rows
            if len(found) >= self.page:  # whole days, so no millisecond is torn before it is shuffled
                break
        self._shuffle.seed(self.calls.total())
        return list(self._shuffled(found))[: self.page]

    def _horizon(self, account: Account, twap: bool, now_ms: int) -> Horizon:
        today, left = _ordinal(now_ms), self.twap_memory if twap else self.memory
        oldest = today
        for ordinal in reversed(account.ordinals(today)):
            oldest = ordinal
            if ordinal == today:
                left -= len(self._day(account, twap, today, EVERYTHING, 0, now_ms))
            else:
                left -= account.count(ordinal, twap)
            if left <= 0:
                break
        return Horizon(oldest, max(0, -left))

    def _day(self, account: Account, twap: bool, ordinal: int, horizon: Horizon, start: int, end: int) -> list[Row]:
        """The rows of a day in [start, end] (ms) that the venue still has, oldest first."""
        if ordinal < horizon.oldest:
            return []
        rows = account.day(ordinal, twap)[horizon.forgotten if ordinal == horizon.oldest else 0 :]
        return [row for row in rows if start <= time_of(row) <= end]

    def _all_rows(self, address: str, *, twap: bool) -> list[Row]:
        with self._lock:
            account, now_ms = self._account(address), to_ms(self.now())
            days = account.ordinals(_ordinal(now_ms))
            return [row for day in days for row in self._day(account, twap, day, EVERYTHING, 0, now_ms)]

    def _shuffled(self, rows: list[Row]) -> Iterator[Row]:
        for _, same in groupby(rows, key=time_of):
            together = list(same)
            self._shuffle.shuffle(together)
            yield from together

    def _account(self, address: str) -> Account:
        return self.accounts.get(address.lower()) or Account(address, "missing")

    def _subs(self, master: Account) -> list[Account]:
        return [one for one in self.accounts.values() if one.role == "subAccount" and one.of == master.address]

    def _tally(self, account: Account, since_ms: int, now_ms: int) -> Tally:
        """What the fills of [since, now] come to, also those the venue no longer gives."""
        total = Tally()
        for ordinal in account.ordinals(_ordinal(now_ms)):
            midnight = (ordinal - EPOCH_ORDINAL) * DAY_MS
            if midnight + DAY_MS <= since_ms:
                continue
            if since_ms <= midnight and midnight + DAY_MS - 1 <= now_ms:
                part = account.tally(ordinal)
            else:
                rows = self._day(account, False, ordinal, EVERYTHING, since_ms, now_ms)
                part = tally(rows + self._day(account, True, ordinal, EVERYTHING, since_ms, now_ms))
            total = Tally(*(one + other for one, other in zip(total, part, strict=True)))
        return total

    def _user_role(self, body: Row) -> Row:
        account = self._account(_user(body))
        if account.role == "agent":
            return {"role": "agent", "data": {"user": account.of}}
        if account.role == "subAccount":
            return {"role": "subAccount", "data": {"master": account.of}}
        return {"role": account.role}

    def _sub_accounts(self, body: Row) -> list[Row] | None:
        worth = {"accountValue": "1200.5", "totalNtlPos": "0.0", "totalRawUsd": "1200.5", "totalMarginUsed": "0.0"}
        state = {"marginSummary": worth, "withdrawable": "1200.5", "assetPositions": [], "time": to_ms(self.now())}
        subs = self._subs(self._account(_user(body)))
        return [
            {
                "name": sub.name,
                "subAccountUser": sub.address,
                "master": sub.of,
                "clearinghouseState": state,
                "spotState": {"balances": []},
            }
            for sub in subs
        ] or None

    def _user_rate_limit(self, body: Row) -> Row:
        account = self._account(_user(body))
        volume = self._tally(account, 0, to_ms(self.now())).all
        return {"cumVlm": text(volume), "nRequestsUsed": 0, "nRequestsCap": 10_000 + int(volume), "nRequestsSurplus": 0}

    def _user_fees(self, body: Row) -> Row:
        """The days are those of the address with its subs: perps and spot, each dollar once; outcomes pay no fee."""
        account, now_ms = self._account(_user(body)), to_ms(self.now())
        today = _ordinal(now_ms)
        days = []
        for ordinal in range(today - 14, today + 1):
            midnight = (ordinal - EPOCH_ORDINAL) * DAY_MS
            until = min(now_ms, midnight + DAY_MS - 1)
            parts = [self._tally(one, midnight, until) for one in (account, *self._subs(account))]
            days.append(
                {
                    "date": date.fromordinal(ordinal).isoformat(),
                    "userCross": text(sum((part.taker + part.other_taker for part in parts), ZERO)),
                    "userAdd": text(sum((part.maker + part.other_maker for part in parts), ZERO)),
                    "exchange": text(_exchange_volume(ordinal) * (until + 1 - midnight) / DAY_MS),
                }
            )
        maker, taker = account.rates(today)
        return {
            "dailyUserVlm": days,
            "feeSchedule": {
                "cross": "0.00045",
                "add": "0.00015",
                "spotCross": "0.0007",
                "spotAdd": "0.0004",
                "tiers": {
                    "vip": [
                        {
                            "ntlCutoff": "5000000.0",
                            "cross": "0.0004",
                            "add": "0.00012",
                            "spotCross": "0.0006",
                            "spotAdd": "0.0003",
                        }
                    ],
                    "mm": [{"makerFractionCutoff": "0.005", "add": "-0.00001"}],
                },
                "referralDiscount": "0.04",
                "stakingDiscountTiers": [{"bpsOfMaxSupply": "0.0", "discount": "0.0"}],
            },
            "userCrossRate": text(taker),
            "userAddRate": text(maker),
            "userSpotCrossRate": "0.0007",
            "userSpotAddRate": "0.0004",
            "activeReferralDiscount": "0.0",
            "trial": None,
            "feeTrialEscrow": "0.0",
            "nextTrialAvailableTimestamp": None,
            "stakingLink": None,
            "activeStakingDiscount": {"bpsOfMaxSupply": "0.0", "discount": "0.0"},
        }

    def _portfolio(self, body: Row) -> list[tuple[str, Row]]:
        account, now_ms = self._account(_user(body)), to_ms(self.now())
        spans = {"day": 1, "week": 7, "month": 30, "allTime": None}
        plain: list[tuple[str, Row]] = []
        perps: list[tuple[str, Row]] = []
        for name, days in spans.items():
            since_ms = now_ms - days * DAY_MS if days else 0
            total = self._tally(account, since_ms, now_ms)
            from_ms = since_ms or now_ms - 730 * DAY_MS
            samples: Row = {"accountValueHistory": [], "pnlHistory": []}
            if total.all:
                worth = Decimal(10_000)
                samples = {
                    "accountValueHistory": [[from_ms, text(worth)], [now_ms, text(worth + total.gain)]],
                    "pnlHistory": [[from_ms, "0.0"], [now_ms, text(total.gain)]],
                }
            plain.append((name, samples | {"vlm": text(total.all)}))
            perps.append((f"perp{name[0].upper()}{name[1:]}", samples | {"vlm": text(total.perps)}))
        return plain + perps

    def _meta(self, body: Row) -> Row | None:
        dex = body.get("dex") or ""
        if not isinstance(dex, str):
            raise Malformed
        markets = [market for market in TRADER_MARKETS if is_perp(market.symbol) and _dex(market) == dex]
        if not markets:
            return None
        extra = {"onlyIsolated": True, "marginMode": "strictIsolated", "growthMode": "enabled"} if dex == "xyz" else {}
        universe = [
            {"name": market.symbol, "szDecimals": _decimals(market), "maxLeverage": 20, "marginTableId": 20} | extra
            for market in markets
        ]
        return {"universe": universe, "marginTables": [], "collateralToken": TOKENS[markets[0].quote]}

    def _perp_dexs(self, body: Row) -> list[Row | None]:
        return [None] + [
            {
                "name": name,
                "fullName": full_name,
                "deployer": "0x00000000000000000000000000000000000000cc",
                "oracleUpdater": None,
                "feeRecipient": None,
                "assetToStreamingOiCap": [[market.symbol, "100000000.0"] for market in MARKETS if _dex(market) == name],
            }
            for name, full_name in DEXES.items()
        ]

    def _spot_meta(self, body: Row) -> Row:
        return {
            "tokens": [
                {
                    "name": name,
                    "szDecimals": SIZE_DECIMALS[name],
                    "weiDecimals": 8,
                    "index": index,
                    "tokenId": "0x" + sha256(name.encode()).hexdigest()[:32],
                    "isCanonical": name in ("USDC", "PURR"),
                }
                for name, index in TOKENS.items()
            ],
            "universe": [
                {"tokens": [TOKENS["PURR"], TOKENS["USDC"]], "name": "PURR/USDC", "index": 0, "isCanonical": True},
                {"tokens": [TOKENS["HYPE"], TOKENS["USDC"]], "name": "@107", "index": 107, "isCanonical": False},
            ],
        }


def text(number: Decimal) -> str:
    """The venue's spelling: no exponent, no idle zeros, always a point."""
    digits = f"{number:f}"
    if "." not in digits:
        return digits + ".0"
    digits = digits.rstrip("0")
    return digits + "0" if digits.endswith(".") else digits


def tally(rows: Sequence[Row]) -> Tally:
    """What rows of either list come to."""
    sums = dict.fromkeys(Tally._fields, ZERO)
    for row in rows:
        fill = fill_of(row)
        coin, liquidity = fill["coin"], "taker" if fill["crossed"] else "maker"
        key = liquidity if is_perp(coin) else "outcomes" if coin[0] == "#" else f"other_{liquidity}"
        price = Decimal(fill["px"])
        sums[key] += price * Decimal(fill["sz"])
        fee = Decimal(fill["fee"])
        is_spot_buy = key.startswith("other") and fill["side"] == "B"
        sums["gain"] += Decimal(fill["closedPnl"]) - (round(fee * price, 6) if is_spot_buy else fee)
    return Tally(**sums)


def merged(rows: list[Row]) -> list[Row]:
    """`aggregateByTime`: what a crossing order filled in one block as one row, at its mean price."""
    result: list[Row] = []
    for _, same in groupby(rows, key=itemgetter("time", "coin", "oid", "crossed")):
        fills = list(same)
        if not fills[0]["crossed"] or len(fills) == 1:
            result += fills
            continue
        size = sum((Decimal(fill["sz"]) for fill in fills), ZERO)
        notional = sum((Decimal(fill["px"]) * Decimal(fill["sz"]) for fill in fills), ZERO)
        sums = {name: text(sum((Decimal(fill[name]) for fill in fills), ZERO)) for name in ("closedPnl", "fee")}
        result.append(fills[0] | sums | {"px": text(round(notional / size, 8)), "sz": text(size)})
    return result


def _dir(execution: Execution) -> str:
    start, is_buy = execution.start_position, execution.side == "buy"
    if execution.market.kind != "perp":
        return "Buy" if is_buy else "Sell"
    if execution.kind == "adl":
        return "Auto-Deleveraging"
    held = "Long" if start > 0 else "Short"
    if execution.kind == "liquidation":
        return f"Liquidated {'Isolated' if ':' in execution.market.symbol else 'Cross'} {held}"
    if start == 0 or is_buy == (start > 0):
        return "Open Long" if is_buy else "Open Short"
    if execution.qty > abs(start):
        return "Short > Long" if is_buy else "Long > Short"
    return f"Close {held}"


def _is_forced(account: Account, fill: Row) -> bool:
    liquidated = fill.get("liquidation", {}).get("liquidatedUser", "")
    is_ours = str(liquidated).lower() == account.address
    return is_ours or fill["dir"].startswith("Liquidated") or fill["dir"] == "Auto-Deleveraging"


def _by_day(rows: Sequence[Row]) -> dict[int, list[Row]]:
    """Oldest first. Rows given newest first are turned, so that they keep their order within a millisecond."""
    if rows and time_of(rows[0]) > time_of(rows[-1]):
        rows = rows[::-1]
    days: dict[int, list[Row]] = {}
    for row in sorted(rows, key=time_of):
        days.setdefault(_ordinal(time_of(row)), []).append(row)
    return days


def _user(body: Row) -> str:
    user = body.get("user")
    if not isinstance(user, str) or not ADDRESS.fullmatch(user):
        raise Malformed
    return user


def _whole(body: Row, name: str) -> int | None:
    """A number of milliseconds."""
    value = body.get(name)
    if value is not None and (type(value) is not int or value < 0):
        raise Malformed
    return value


def _flag(body: Row, name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Malformed
    return bool(value)


def _ordinal(ms: int) -> int:
    return EPOCH_ORDINAL + ms // DAY_MS


def _first_of_month(at: datetime) -> datetime:
    return datetime(at.year, at.month, 1, tzinfo=UTC)


def _dex(market: Market) -> str:
    dex, colon, _ = market.symbol.partition(":")
    return dex if colon else ""


def _decimals(market: Market) -> int:
    return -int(market.lot.as_tuple().exponent)


def _exchange_volume(ordinal: int) -> Decimal:
    """What the whole venue traded on a day."""
    return Decimal(4_500_000_000 + Random(ordinal).randrange(10**9))
