"""What a venue is to us, in plain Python: fills reported, pages read, errors told, and the class a venue fills in."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache
from typing import Any, ClassVar, Self

import msgspec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
# The default context rounds at 28 digits without a word; a price times a size may have more. Contexts are per thread,
# so the exact one is named wherever digits could be lost.
EXACT = Context(prec=80)
ZERO = Decimal(0)


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"


class Liquidity(StrEnum):
    MAKER = "maker"
    TAKER = "taker"


class Kind(StrEnum):
    """How a fill came about. All are volume; the forced ones are counted apart."""

    TRADE = "trade"
    BLOCK = "block"
    SPREAD = "spread"
    RPI = "rpi"
    TWAP = "twap"
    LIQUIDATION = "liquidation"
    ADL = "adl"


FORCED = frozenset({Kind.LIQUIDATION, Kind.ADL})
LARGEST_NOTIONAL = Decimal(92_000_000_000)  # what 64 bits hold with 8 decimals


class FillReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):  # a Struct: made by the million
    """One execution of our order in a perpetual market, as reported by the venue."""

    fill_id: str  # unique within the account, the same on every read
    symbol: str  # the venue's spelling of the market
    base: str
    quote: str  # what price and notional are counted in
    side: Side
    liquidity: Liquidity
    kind: Kind
    price: Decimal  # quote per base
    qty: Decimal  # base units, > 0
    notional: Decimal  # quote units, > 0; the venue's own figure where it gives one
    fee: Decimal  # in fee_asset; > 0 paid, < 0 rebate
    fee_asset: str
    realized_pnl: Decimal | None  # quote units, fees not deducted; None where the venue does not say
    executed_at: datetime  # UTC

    def unfit(self) -> str:
        """Why no database of ours could hold it, else empty. Such a report is held instead."""
        is_named = are_fit(self.symbol, self.base, self.quote, self.fee_asset)
        if not is_named or len(self.fill_id) > 200 or "\0" in self.fill_id:
            return "a name that is too long or not printable"
        if self.notional > LARGEST_NOTIONAL:
            return "price times size beyond all reason"
        return ""


@lru_cache(1024)  # markets are few, fills are many
def are_fit(symbol: str, base: str, quote: str, fee_asset: str) -> bool:
    """Whether databases hold these names."""
    names = (symbol, base, quote, fee_asset)
    return all(len(name) <= longest and "\0" not in name for name, longest in zip(names, (64, 40, 20, 20), strict=True))


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that is understood and is not perpetual volume: spot, funding, settlement ..."""

    kind: str


@dataclass(frozen=True, slots=True)
class Held:
    """A row that is not understood. It is kept raw and shown, and the sync goes on."""

    row: str  # JSON text as the venue sent it
    why: str
    executed_at: datetime | None = None  # where the row at least says when


@dataclass(frozen=True, slots=True)
class Retracted:
    """The venue took a fill back. It is taken out, also when it only comes (or comes again) later."""

    kind: str  # the venue's word for it
    fill_ids: tuple[str, ...]  # what it may be called here, where the venue does not say of which kind it was
    why: str


Row = FillReport | Skipped | Held | Retracted


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open range of time [since, until)."""

    since: datetime
    until: datetime

    def __bool__(self) -> bool:
        return self.since < self.until


def subtract(window: Window, taken: Iterable[Window]) -> list[Window]:
    """What of `window` is in none of `taken`, oldest first."""
    left, at = [], window.since
    for other in sorted(taken):
        if other.until <= at or other.since >= window.until:
            continue
        if at < other.since:
            left.append(Window(at, other.since))
        at = max(at, other.until)
    if at < window.until:
        left.append(Window(at, window.until))
    return left


@dataclass(frozen=True, slots=True)
class Missing:
    """A window of which the venue gave no (complete) answer, why, and what would fill it."""

    window: Window
    why: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer of the venue, in our words.

    `covered` is the part of the fetched window of which nothing is missing once this page is stored; None while
    that can't be said yet. What is neither covered nor named here when the fetch ends, is a gap.
    """

    rows: Sequence[Row]
    covered: Window | None = None
    gap: Missing | None = None  # could not be read this time
    out_of_reach: Missing | None = None  # the venue no longer has it

    @property
    def settled(self) -> tuple[Window, ...]:
        """What need not be asked again: it is read, or gone."""
        gone = self.out_of_reach.window if self.out_of_reach else None
        return tuple(window for window in (self.covered, gone) if window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One list of fills of an account that is read, and is complete, on its own."""

    name: str
    longest_window: timedelta | None = None  # the venue refuses longer ones
    memory: timedelta | None = None  # the venue forgets what is older
    # The venue keeps only its newest rows. What is missing is then read in one window that reaches up to now, oldest
    # first: the oldest rows are the next to go, and only such a walk can tell "forgotten" from "never was".
    forgets_by_count: bool = False


class Reason(StrEnum):
    """Why a key does not do. Each has one thing to do, which the message says."""

    MALFORMED = "malformed"
    UNKNOWN_ACCOUNT = "unknown_account"
    AGENT = "agent"  # the address of an agent wallet, not of the account behind it
    WRONG_KEY = "wrong_key"
    WRONG_VENUE = "wrong_venue"  # a key of another exchange of much the same name
    WRONG_ENVIRONMENT = "wrong_environment"  # a testnet's or a demo's key, or the other way round
    WRONG_ACCOUNT = "wrong_account"  # a good key, of another account than the one it is given for
    EXPIRED = "expired"
    REVOKED = "revoked"  # it worked before
    MISSING_PERMISSION = "missing_permission"
    IP_NOT_ALLOWED = "ip_not_allowed"
    CLOCK = "clock"
    CAN_TRADE = "can_trade"  # or withdraw
    MAIN_KEY = "main_key"  # the one that can do everything: never taken
    CLOSED = "closed"  # the venue does not serve the account: suspended, a region it left


class VenueError(Exception):
    """Something between us and a venue went wrong. The text is for the user and holds no secret."""

    reason: Reason | None = None


class VenueUnavailable(VenueError):
    """Time heals. `retry_in` is what the venue, or our budget with it, asks us to wait, in seconds."""

    def __init__(self, message: str, *, retry_in: float | None = None, reason: Reason | None = None) -> None:
        super().__init__(message)
        self.retry_in = retry_in
        self.reason = reason


class BudgetSpent(VenueUnavailable):
    """Nothing is wrong: what the venue lets us ask is used up, by accounts of ours or because it said so."""


class CredentialsRejected(VenueError):
    """The user heals."""

    reason: Reason

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class PayloadError(VenueError):
    """A developer heals: the venue's answer, or its view of our question, is not what we know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """Another account of the same person that this one knows of and that must be added on its own."""

    label: str
    values: Mapping[str, str]  # what the add form is filled with; empty where the user must bring a key


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a venue says of a credential: whose it is, what it may do, when it dies."""

    account_ref: str  # the venue's own name of the account
    description: str  # one sentence for the user
    may_trade: bool = False
    may_withdraw: bool = False
    expires_at: datetime | None = None
    related: tuple[Related, ...] = ()
    streams: tuple[str, ...] = ()  # the names of those the account has; empty is all of the venue's


class Inclusion(StrEnum):
    """What a venue's own figure holds, or does, that our sum of perpetual fills does not."""

    SPOT = "spot"  # and whatever else is traded beside perpetuals
    RELATED = "related"  # the volume of sub-accounts
    WEIGHTED = "weighted"  # some markets count more, or less, than their dollars
    APPROXIMATE = "approximate"  # the venue does not say where the window begins or ends exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What the venue itself says was traded within a window: both sides, maker and taker, forced fills included."""

    name: str  # the venue's own name of it
    window: Window  # since EPOCH: as long as the account exists
    usd: Decimal
    includes: tuple[Inclusion, ...] = ()


@dataclass(frozen=True, slots=True)
class Credentials:
    """Base of each venue's frozen dataclass of secrets. A field with repr=False is a secret.

    `__post_init__` raises CredentialsRejected(MALFORMED) for a value that cannot be one.
    """

    @property
    def account_ref(self) -> str:
        """The venue's name of the account where the credentials themselves say it, else empty until verified."""
        return ""

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """From a form or a JSON object. Raises CredentialsRejected for missing, unknown or malformed fields."""
        known = {item.name: item for item in fields(cls)}
        if unknown := sorted(set(values) - set(known)):
            raise CredentialsRejected(
                Reason.MALFORMED,
                f"Not known here: {', '.join(unknown)}. This venue takes: {', '.join(known)}.",
            )
        for name, value in values.items():
            if not isinstance(value, str):
                raise CredentialsRejected(Reason.MALFORMED, f"{name} must be text.")
        texts = {name: value.strip() for name, value in values.items() if value.strip()}
        needed = [name for name, item in known.items() if "optional" not in item.metadata]
        if missing := [name for name in needed if name not in texts]:
            raise CredentialsRejected(Reason.MALFORMED, f"Missing: {', '.join(missing)}.")
        return cls(**texts)


def credential_field(
    label: str,
    help_text: str,
    *,
    secret: bool = False,
    optional: bool = False,
    choices: Mapping[str, str] | None = None,
) -> Any:
    """A field of a venue's Credentials, with the words its form shows. `choices` are {value: label}."""
    metadata: dict[str, Any] = {"label": label, "help": help_text}
    metadata |= ({"optional": "yes"} if optional else {}) | ({"choices": choices} if choices else {})
    if optional:
        return field(repr=not secret, metadata=metadata, default="")
    return field(repr=not secret, metadata=metadata)


@dataclass(slots=True)
class Traffic:
    """What was asked of a venue so far."""

    requests: int = 0
    retries: int = 0
    waited_seconds: float = 0.0
    waits: dict[str, float] = field(default_factory=dict)  # {why: seconds}


class Venue(ABC):
    """One account at one venue, open for reading. Close it after use (it is a context manager)."""

    do_not_call_in_templates: ClassVar[bool] = True  # pages name the class; Django would try to make one
    slug: ClassVar[str]
    name: ClassVar[str]
    credentials_type: ClassVar[type[Credentials]]
    streams: ClassVar[tuple[Stream, ...]]
    key_steps: ClassVar[tuple[str, ...]]  # how a user gets what the form asks for
    memory_note: ClassVar[str]  # how far back the venue remembers, for the user
    figures_note: ClassVar[str]  # what the venue itself publishes of an account's volume, for the user
    may_hold_powers: ClassVar[bool] = True  # False where what is added can never trade or withdraw
    in_flight: ClassVar[int] = 1  # how many windows may be fetched at once, from as many threads
    poll_every: ClassVar[timedelta] = timedelta(seconds=20)
    overlap: ClassVar[timedelta] = timedelta(minutes=10)  # re-read at each poll: rows appear late at every venue
    traffic: Traffic

    @abstractmethod
    def identify(self) -> Identity:
        """What the venue says of this credential. Raises any VenueError."""

    @abstractmethod
    def fetch_fills(self, stream: Stream, window: Window) -> Iterator[Page]:
        """The fills of `stream` in `window`, page by page; reading again is harmless. Raises any VenueError."""

    def fetch_figures(self, *, now: datetime) -> Sequence[Figure]:
        """The account's volume by the venue's own count; none where it publishes none. Raises any VenueError."""
        return ()

    @classmethod
    def dollars(cls, amount: Decimal) -> Decimal:
        """A sum of the venue's own. Raises PayloadError for what is none."""
        try:
            usd = number(amount)
        except ValueError:
            usd = Decimal(-1)
        if usd < 0:
            raise PayloadError(
                f"{cls.name} sent a volume that is none. Nothing is compared with it; look for an update."
            )
        return usd

    @classmethod
    def publishes_figures(cls) -> bool:
        return cls.fetch_figures is not Venue.fetch_figures

    @abstractmethod
    def parse_held(self, stream: str, row: str) -> Row:
        """A row of a stream that was held, read again with today's knowledge (and the list of markets, if needed)."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def from_ms(ms: int) -> datetime:
    """Milliseconds since 1970 as UTC, exactly: fromtimestamp() would go through a binary float."""
    return EPOCH + ms * MILLISECOND


def to_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970, rounded down."""
    return (moment - EPOCH) // MILLISECOND


LATEST = 4_102_444_800_000  # ms: the year 2100
NOT_A_NUMBER = Decimal("NaN")
BEYOND_REASON = "a number that is none, or beyond all reason"


def moment(ms: str | int) -> datetime:
    """A venue's own time of a row. Raises ValueError for what is none of this century."""
    value = int(ms)
    if not 0 < value < LATEST:
        raise ValueError(f"a time that is none: {ms}")
    return EPOCH + value * MILLISECOND


def number(text: str | Decimal) -> Decimal:
    """A venue's number, exactly. Raises ValueError for what is none, or beyond all reason."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = NOT_A_NUMBER
    if not (value.is_finite() and -40 < value.adjusted() < 40):
        raise ValueError(BEYOND_REASON)
    return value


def check(*numbers: Decimal) -> None:
    """The same of numbers that came as such. Raises ValueError."""
    for value in numbers:
        if not (value.is_finite() and -40 < value.adjusted() < 40):
            raise ValueError(BEYOND_REASON)
