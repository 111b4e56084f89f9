"""Paradex: fills of perpetuals by a read-only token, or by a subkey.

Docs: https://docs.paradex.trade/api/prod/account/list-fills (the path is /v1/fills)
Longest window: none known. Page: 5000 rows; the order is not documented. Memory: no limit known. A fill that failed on
the chain is taken back in a list of its own. Each sub-account needs a token of its own.
"""

import base64
import json
import re
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar
from urllib.parse import urlencode

import httpx
import msgspec
from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond

from exchanges import stark
from exchanges.venues.base import (
    EXACT,
    ZERO,
    Credentials,
    CredentialsRejected,
    Figure,
    FillReport,
    Held,
    Identity,
    Inclusion,
    Kind,
    Liquidity,
    Page,
    PayloadError,
    Reason,
    Related,
    Retracted,
    Row,
    Side,
    Skipped,
    Stream,
    VenueUnavailable,
    Window,
    check,
    credential_field,
    moment,
    number,
    to_ms,
)
from exchanges.venues.http import HttpVenue, Refused, SlowDown, Toll, TryAgain, retry_after

PAGE = 5000
AT_ONCE = 1000  # rows stored together: a longer transaction would keep others waiting
LONGEST_ID = 100
JWT_SECONDS = 180  # a JWT lives five minutes; a new one is made after three
SIGNATURE_SECONDS = 1800
TIER_DAYS = timedelta(days=14)
SECONDS_END = 10**11  # a time below is in seconds, one from here on in milliseconds
SURE_RISES = 6  # amounts that only ever rise, so often, are the levels of a counter and not chance

PER_SECOND: RateLimitItem = RateLimitItemPerSecond(120, namespace="paradex")
PER_MINUTE: RateLimitItem = RateLimitItemPerMinute(600, namespace="paradex")
IP_PER_MINUTE: RateLimitItem = RateLimitItemPerMinute(1500, namespace="paradex")
AUTH_PER_MINUTE: RateLimitItem = RateLimitItemPerMinute(600, namespace="paradex")
IP_TOLL = Toll(IP_PER_MINUTE, "paradex/ip")
AUTH_TOLL = Toll(AUTH_PER_MINUTE, "paradex/ip/auth")

TRADES = {
    "FILL": Kind.TRADE,
    "RPI": Kind.RPI,
    "BLOCK_TRADE": Kind.BLOCK,
    "LIQUIDATION": Kind.LIQUIDATION,
}
BUSTABLE = ("FILL", "RPI", "BLOCK_TRADE")  # what is matched, and may fail on the chain
NOT_TRADES = {
    "SETTLE_MARKET": "settlement",
    "UNWIND_TRANSFER": "position transfer",
    "TRANSFER": "position transfer",  # what it was called until July 2026
}
SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
LIQUIDITY = {"MAKER": Liquidity.MAKER, "TAKER": Liquidity.TAKER}
PATHS = {"fills": "/v1/fills", "trade busts": "/v1/tradebusts"}
TESTNET_CHAIN = re.compile("SEPOLIA|POTC")
TESTNET_ISSUER, MAINNET_ISSUER = re.compile("testnet|sepolia|potc", re.IGNORECASE), re.compile("prod", re.IGNORECASE)
NOT_SERVED = {"GEO_IP_BLOCK", "ETHEREUM_ADDRESS_BLOCKED", "REQUEST_NOT_ALLOWED"}
TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
FELT = re.compile(r"0x[0-9a-fA-F]{1,64}")

EXPIRED = "This token has expired. Tokens can't be extended: make a new read-only one under Key Management on Paradex."
NOT_ACCEPTED = (
    "Paradex does not accept this key: it is mistyped or was deleted. Make a new read-only token under Key Management "
    "on Paradex."
)


@dataclass(frozen=True, slots=True)
class ParadexCredentials(Credentials):
    """A read-only token; or, for those who insist, a subkey and the account it belongs to."""

    token: str = credential_field(
        "Read-only token", "A long text in three parts with dots between, shown once when it is made.",
        secret=True, optional=True,
    )  # fmt: skip
    account: str = credential_field("Account address", "Only with a subkey: 0x ... of the main account.", optional=True)
    subkey: str = credential_field(
        "Subkey (advanced)",
        "A private key that can trade. Not needed and not advised: use a token. Never the main private key.",
        secret=True, optional=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.token and self.subkey:
            raise CredentialsRejected(Reason.MALFORMED, "Give either a read-only token, or an account and its subkey.")
        if self.token:
            object.__setattr__(self, "token", self.token.removeprefix("Bearer "))
            claims = claims_of(self.token)
            if self.account and not _same(self.account, int(claims.account, 16)):
                raise CredentialsRejected(
                    Reason.WRONG_ACCOUNT, f"This token is of another account ({claims.account}) than the address given."
                )
            object.__setattr__(self, "account", "")  # the token says it
        elif not (self.account and self.subkey):
            raise CredentialsRejected(Reason.MALFORMED, "A read-only token is missing.")
        else:
            object.__setattr__(self, "account", hex(_felt(self.account, "account address", stark.P)))
            object.__setattr__(self, "subkey", hex(_felt(self.subkey, "subkey", stark.N)))

    @property
    def account_ref(self) -> str:
        return claims_of(self.token).account if self.token else self.account


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says of itself. Nothing here is trusted: the venue is asked."""

    account: str
    issuer: str
    expires_at: datetime


def claims_of(token: str) -> Claims:
    """Raises CredentialsRejected for what is not a token of Paradex."""
    if re.fullmatch(r"(0[xX])?[0-9a-fA-F]{40,66}", token):
        raise CredentialsRejected(
            Reason.MALFORMED,
            "This looks like a private key or an address, not like a read-only token. Nothing was stored. Never paste "
            "a private key where a token is asked for.",
        )
    try:
        if not TOKEN.fullmatch(token):
            raise ValueError("not three parts of letters and digits")
        claims = token.split(".")[1]
        known = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        if not FELT.fullmatch(known["sub"]):
            raise ValueError("not an address")
        return Claims(hex(int(known["sub"], 16)), str(known.get("iss", "")), moment(int(known["exp"]) * 1000))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise CredentialsRejected(
            Reason.MALFORMED,
            "Not a token of Paradex: that is a long text in three parts with dots between. Copy it again.",
        ) from None


def _felt(text: str, what: str, end: int) -> int:
    if not FELT.fullmatch(text) or not 0 < int(text, 16) < end:
        raise CredentialsRejected(
            Reason.MALFORMED, f"Not a Paradex {what}: that is 0x and up to 64 digits and letters."
        )
    return int(text, 16)


class Envelope(msgspec.Struct):
    """Of an error. Some hold only a message."""

    error: str = ""
    message: str = ""


class Config(msgspec.Struct):
    starknet_chain_id: str


class ServerTime(msgspec.Struct):
    server_time: int | str


class Jwt(msgspec.Struct):
    jwt_token: str


class Account(msgspec.Struct):
    account: str
    kind: str = ""
    parent_account: str = ""
    public_key: str = ""
    username: str = ""


class Accounts(msgspec.Struct):
    results: list[Account]


class Tier(msgspec.Struct):
    volume: Decimal


class TieredAccount(msgspec.Struct):
    account: str
    parent_account: str = ""
    volume_tiers: dict[str, Tier] | None = None


class TieredAccounts(msgspec.Struct):
    results: list[TieredAccount]


class History(msgspec.Struct):
    """Two parallel lists. What they mean is not documented."""

    data: list[Decimal]
    timestamps: list[int]


class Results(msgspec.Struct):
    results: list[msgspec.Raw]
    next: str | None = None


class FillRow(msgspec.Struct):
    """A fill as Paradex sends it: the fields we use."""

    id: str
    market: str
    side: str
    liquidity: str
    price: Decimal
    size: Decimal
    fee: Decimal
    fee_currency: str
    created_at: int
    fill_type: str
    realized_pnl: str | None = ""


class BustRow(msgspec.Struct):
    busted_fill_id: str
    created_at: int


_FILL, _BUST = msgspec.json.Decoder(FillRow), msgspec.json.Decoder(BustRow)


class SignIn(httpx.Auth):
    """Signs anew at each attempt, by the clock as it is known then."""

    def __init__(self, venue: "Paradex", chain_id: str) -> None:
        self._venue = venue
        self._chain_id = chain_id

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers.update(self._venue.signature(self._chain_id))
        yield request


class Bearer(httpx.Auth):
    """Carries the token, or a JWT that is renewed before it dies."""

    def __init__(self, venue: "Paradex") -> None:
        self._venue = venue

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._venue.bearer()}"
        yield request


class Paradex(HttpVenue):
    slug = "paradex"
    name = "Paradex"
    origin = "https://api.prod.paradex.trade"
    credentials_type: ClassVar[type[Credentials]] = ParadexCredentials
    streams = (Stream(name="fills"), Stream(name="trade busts"))
    key_steps = (
        "On Paradex, open Account settings, then Key Management, and choose the Read-only tab.",
        "Add a new key: choose a name and the longest expiry (a year), and copy the token, which is shown once.",
        "A sub-account needs a token of its own: switch to it first, and add it as a second account.",
    )
    figures_note = (
        "Paradex publishes a volume per day and one of the last 14 days, of an account with its sub-accounts."
    )
    memory_note = "Paradex names no limit to how far back it remembers."

    def __init__(self, credentials: ParadexCredentials, **options: Any) -> None:
        super().__init__(credentials, **options)
        self.account = credentials.account_ref
        self.auth = Bearer(self)
        self._jwt = ""
        self._jwt_until = 0.0
        self._refused = 0  # times in a row that what we read with was
        self._ahead = 0.0  # seconds by which Paradex's clock is ahead of ours, as measured

    # --- The door ----------------------------------------------------------------------------------------------------

    def open_answer(self, response: httpx.Response, content: bytes) -> bytes:
        if response.is_success:
            if "Authorization" in response.request.headers:
                self._refused = 0
            return content
        is_of_address = response.headers.get("X-RateLimit-Limit") == str(IP_PER_MINUTE.amount)
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS and is_of_address:
            raise SlowDown(pause=retry_after(response), scope=IP_TOLL.scope)
        with suppress(msgspec.DecodeError):  # a gateway answers in HTML, which says nothing of the key
            if fault := self._fault(response.status_code, msgspec.json.decode(content, type=Envelope)):
                raise fault
        return self.door.plain(response, content)

    def _fault(self, status: int, told: Envelope) -> Exception | None:
        """What an error of the API comes to; None where its status says it all."""
        if told.error == "INVALID_TIMESTAMP":
            self._measure_clock()
            return TryAgain("does not accept the time of our requests", pause=0.0)
        if told.error == "NOT_ONBOARDED":
            return CredentialsRejected(
                Reason.UNKNOWN_ACCOUNT,
                "Paradex does not know this account. Copy the address of the main account again.",
            )
        if told.error == "IP_NOT_ALLOWED":
            return CredentialsRejected(
                Reason.IP_NOT_ALLOWED,
                "This token is bound to other IP addresses. Make one that allows the address perpdash runs at.",
            )
        if told.error == "INVALID_TOKEN_SCOPE":
            return CredentialsRejected(
                Reason.MISSING_PERMISSION, "This token may not read fills. Make a read-only token under Key Management."
            )
        if told.error in NOT_SERVED:
            return CredentialsRejected(
                Reason.CLOSED, "Paradex does not serve this account from where perpdash runs. Ask its support why."
            )
        if status == httpx.codes.FORBIDDEN:
            return TryAgain("does not let this machine in")
        if status == httpx.codes.UNAUTHORIZED:
            self._refused += 1
            if self._jwt and self._refused == 1:
                self._jwt = ""
                return TryAgain("let our session end", pause=0.0)
            if "expired" in told.message:
                return CredentialsRejected(Reason.EXPIRED, EXPIRED)
            return CredentialsRejected(Reason.WRONG_KEY, NOT_ACCEPTED)
        return None

    def _get(self, path: str, answer: type[Any], query: str = "") -> Any:
        account = f"paradex/{self.account}"
        tolls = [Toll(PER_SECOND, account), Toll(PER_MINUTE, account), IP_TOLL]
        return self.door.get(path, answer, tolls=tolls, query=query, auth=self.auth)

    def bearer(self) -> str:
        """The token; or a JWT, made anew when the last one is old."""
        if self.credentials.token:
            return str(self.credentials.token)
        if not self._jwt or time.time() >= self._jwt_until:
            self._jwt = self._new_jwt()
            self._jwt_until = time.time() + JWT_SECONDS
        return self._jwt

    def _new_jwt(self) -> str:
        path = f"/v1/auth/{stark.public_key(int(self.credentials.subkey, 16)):x}"
        sign_in = SignIn(self, self._chain_id())
        return self.door.post(path, Jwt, tolls=[AUTH_TOLL, IP_TOLL], auth=sign_in).jwt_token

    def signature(self, chain_id: str) -> dict[str, str]:
        """The headers by which a subkey signs in."""
        key, at = int(self.credentials.subkey, 16), int(time.time() + self._ahead)
        message = stark.auth_hash(
            account=int(self.account, 16), chain_id=chain_id, timestamp=at, expiration=at + SIGNATURE_SECONDS
        )
        return {
            "PARADEX-STARKNET-ACCOUNT": self.account,
            "PARADEX-STARKNET-SIGNATURE": json.dumps([str(part) for part in stark.sign(message, key)]),
            "PARADEX-TIMESTAMP": str(at),
            "PARADEX-SIGNATURE-EXPIRATION": str(at + SIGNATURE_SECONDS),
        }

    def _chain_id(self) -> str:
        return self.door.get("/v1/system/config", Config, tolls=[IP_TOLL]).starknet_chain_id

    def _measure_clock(self) -> None:
        told = self.door.get("/v1/system/time", ServerTime, tolls=[IP_TOLL])
        theirs = moment(told.server_time)
        self.door.check_clock(theirs)
        self._ahead = theirs.timestamp() - time.time()

    # --- Who is this -------------------------------------------------------------------------------------------------

    def identify(self) -> Identity:
        claims = claims_of(self.credentials.token) if self.credentials.token else None
        if claims and claims.expires_at.timestamp() <= time.time():
            raise CredentialsRejected(Reason.EXPIRED, EXPIRED)
        try:
            told = self._get("/v1/account/info", Accounts).results
        except CredentialsRejected as fault:
            raise self._explained(fault, claims) from None
        mine = next((one for one in told if _same(one.account, int(self.account, 16))), None)
        if mine is None:
            raise PayloadError("Paradex tells nothing of the account this key is for. Look for an update of perpdash.")
        if self.credentials.subkey and _same(mine.public_key, stark.public_key(int(self.credentials.subkey, 16))):
            raise CredentialsRejected(
                Reason.MAIN_KEY,
                "This is the account's main private key: whoever has it can withdraw everything. perpdash does not "
                "take it. Make a read-only token instead.",
            )
        what, powers = ("Read-only token", "") if claims else ("Subkey", ", can trade but not withdraw")
        whose = f"the sub-account of {mine.parent_account}" if mine.parent_account else "the main account"
        return Identity(
            account_ref=self.account,
            description=f"{what} of {whose} {mine.username[:60]}".rstrip() + f"{powers}.",
            may_trade=claims is None,
            expires_at=claims.expires_at if claims else None,
            related=() if mine.parent_account else self._sub_accounts(),
        )

    def _explained(self, fault: CredentialsRejected, claims: Claims | None) -> CredentialsRejected:
        """Whether a token that is not accepted is of the other environment, as it says of itself."""
        if fault.reason != Reason.WRONG_KEY or claims is None:
            return fault
        is_testnet = bool(TESTNET_CHAIN.search(self._chain_id()))
        other, ours = ("mainnet", "testnet") if is_testnet else ("testnet", "mainnet")
        if MAINNET_ISSUER.search(claims.issuer) if is_testnet else TESTNET_ISSUER.search(claims.issuer):
            return CredentialsRejected(
                Reason.WRONG_ENVIRONMENT,
                f"This is a token of Paradex's {other}; perpdash reads its {ours} here. Make a token there.",
            )
        return fault

    def _sub_accounts(self) -> tuple[Related, ...]:
        with suppress(Refused, CredentialsRejected):
            found = self._get("/v1/account/subaccounts", Accounts).results
            others = [one for one in found if not _same(one.account, int(self.account, 16))]
            return tuple(Related(label=one.username or one.account, values={}) for one in others)
        return ()

    # --- What the venue itself counts --------------------------------------------------------------------------------

    def fetch_figures(self, *, now: datetime) -> Sequence[Figure]:
        """Two requests: the volume of the tiers (14 days, with sub-accounts), and the history of the volume."""
        told = self._get("/v1/account/info", TieredAccounts).results
        history = self._get("/v1/account/history", History, "type=volume")
        mine = [one for one in told if _same(one.account, int(self.account, 16))]
        return [*tier_figures(mine, now=now), *history_figures(history, now=now)]

    # --- Fills -------------------------------------------------------------------------------------------------------

    def fetch_fills(self, stream: Stream, window: Window) -> Iterator[Page]:
        """Follows the page tokens to the end. As the order is not known, nothing is claimed before."""
        # Whether the ends are included is not documented: asked is a millisecond more on both sides.
        asked = {"end_at": to_ms(window.until) + 1, "page_size": PAGE, "start_at": to_ms(window.since) - 1}
        cursor, given = "", set[str]()
        while True:
            try:
                answer = self._get(
                    PATHS[stream.name], Results, urlencode(asked | ({"cursor": cursor} if cursor else {}))
                )
            except Refused:
                if not cursor:
                    raise
                raise VenueUnavailable(
                    "Paradex no longer takes the page token it gave. What was read is kept; the rest is asked anew."
                ) from None
            for start in range(0, len(answer.results), AT_ONCE):
                raws = answer.results[start : start + AT_ONCE]
                yield Page(rows=self.parse_rows(stream.name, raws))
            cursor = answer.next or ""
            if not cursor:
                break
            if cursor in given:
                raise PayloadError("Paradex's pages go in circles. Nothing is lost; it is tried again later.")
            given.add(cursor)
        yield Page(rows=[], covered=window)

    def parse_rows(self, stream: str, raws: Iterable[msgspec.Raw]) -> list[Row]:
        return [bust_of(raw) for raw in raws] if stream == "trade busts" else [fill_of(raw) for raw in raws]

    def parse_held(self, stream: str, row: str) -> Row:
        return self.parse_rows(stream, [msgspec.Raw(row)])[0]


def tier_figures(told: Sequence[TieredAccount], *, now: datetime) -> list[Figure]:
    """The last 14 days, where the venue gives one volume for them, whichever kind of tier it stands beside.

    Of a sub-account it is not known whose volume that would be.
    """
    volumes = {Paradex.dollars(tier.volume) for one in told for tier in (one.volume_tiers or {}).values()}
    if len(volumes) != 1 or any(one.parent_account for one in told):
        return []
    includes = (Inclusion.SPOT, Inclusion.RELATED, Inclusion.APPROXIMATE)
    return [Figure(name="volume_tiers", window=Window(now - TIER_DAYS, now), usd=volumes.pop(), includes=includes)]


def history_figures(history: History, *, now: datetime) -> list[Figure]:
    """The windows a history of volume speaks of; none where it can't be told what it says.

    Not documented are the unit of the times, the step, and whether amounts are per step or add up. Amounts that fall
    are per step; amounts that rise and rise are levels, of which two make a window. A step is taken to be named by its
    beginning. No filter of markets is documented either: spot may be inside.
    """
    if len(history.data) != len(history.timestamps):
        raise PayloadError("Paradex sent a history with more times than amounts, or fewer. Look for an update.")
    points = sorted(zip(map(_instant, history.timestamps), map(Paradex.dollars, history.data), strict=True))
    if len({at for at, _ in points}) != len(points) or len(points) < 2:
        return []
    gaps = [after - before for (before, _), (after, _) in pairwise(points)]
    changes = [after - before for (_, before), (_, after) in pairwise(points)]
    if min(changes) < 0 or not any(usd for _, usd in points):
        step = min(gaps)
        if any(gap % step for gap in gaps):
            return []
        amounts = [(Window(at, min(at + step, now)), usd) for at, usd in points]
    elif sum(change > 0 for change in changes) >= SURE_RISES:
        ends = [at for at, _ in points[1:]]
        amounts = [
            (Window(at, min(end, now)), change) for (at, _), end, change in zip(points[:-1], ends, changes, strict=True)
        ]
    else:
        return []  # too few to tell one from the other
    return [
        Figure(
            name="account/history", window=window, usd=usd, includes=(Inclusion.SPOT, Inclusion.APPROXIMATE)
        )
        for window, usd in amounts
        if window
    ]  # fmt: skip


def _instant(at: int) -> datetime:
    """A time in seconds or in milliseconds: which, its size tells."""
    try:
        return moment(at * 1000 if at < SECONDS_END else at)
    except ValueError:
        raise PayloadError("Paradex sent a history with a time that is none. Look for an update.") from None


def fill_of(raw: msgspec.Raw) -> FillReport | Skipped | Held:
    at = None
    try:
        row = _FILL.decode(raw)
        at = moment(row.created_at)
        market = market_of(row.market)
        if isinstance(market, Skipped):
            return market
        if row.fill_type in NOT_TRADES:
            return Skipped(NOT_TRADES[row.fill_type])
        return report_of(row, market, at)
    except (msgspec.ValidationError, ValueError) as fault:
        return Held(bytes(raw).decode(), str(fault), at)


def report_of(row: FillRow, market: tuple[str, str], at: datetime) -> FillReport:
    """The fill of a row in a market of this base and quote. Raises ValueError for what cannot be one."""
    if row.fill_type not in TRADES:
        raise ValueError(f"unknown fill_type {row.fill_type!r}")
    if row.side not in SIDES:
        raise ValueError(f"unknown side {row.side!r}")
    if row.liquidity not in LIQUIDITY:
        raise ValueError(f"unknown liquidity {row.liquidity!r}")
    check(row.price, row.size, row.fee)
    if row.price <= ZERO or row.size <= ZERO:
        raise ValueError("price or size is not above 0")
    base, quote = market
    report = FillReport(
        fill_id=f"{row.fill_type}:{row.id}",  # an id is unique only within its type
        symbol=row.market,
        base=base,
        quote=quote,
        side=SIDES[row.side],
        liquidity=LIQUIDITY[row.liquidity],
        kind=TRADES[row.fill_type],
        price=row.price,
        qty=row.size,
        notional=EXACT.multiply(row.price, row.size),
        fee=row.fee,
        fee_asset=row.fee_currency,
        realized_pnl=number(row.realized_pnl) if row.realized_pnl else None,
        executed_at=at,
    )
    if why := report.unfit():
        raise ValueError(why)
    return report


@lru_cache(1024)
def market_of(symbol: str) -> tuple[str, str] | Skipped:
    """Base and quote of a perpetual. Raises ValueError where the name does not tell."""
    parts = symbol.split("-")
    if all(parts):
        if parts[-1] == "PERP" and len(parts) >= 3:
            base, quote, _ = symbol.rsplit("-", 2)
            return base, quote
        if parts[-1] in ("C", "P") and len(parts) >= 4:
            return Skipped("option")
        if parts[-1] != "PERP" and len(parts) == 2:
            return Skipped("spot")
    raise ValueError(f"unknown market {symbol!r}")


def bust_of(raw: msgspec.Raw) -> Retracted | Held:
    try:
        row = _BUST.decode(raw)
        at = moment(row.created_at)
        if len(row.busted_fill_id) > LONGEST_ID or "\0" in row.busted_fill_id:
            raise ValueError("the id of a fill that is none")
    except (msgspec.ValidationError, ValueError) as fault:
        return Held(bytes(raw).decode(), str(fault))
    # Of which type the fill was, a bust does not say.
    names = tuple(f"{kind}:{row.busted_fill_id}" for kind in BUSTABLE)
    return Retracted("trade bust", names, f"Paradex took it back on {at:%Y-%m-%d %H:%M} UTC: it failed on the chain.")


def _same(told: str, number: int) -> bool:
    with suppress(ValueError):
        return int(told, 16) == number
    return False
