"""Hyperliquid: fills by public address.

Docs: https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint
Longest window: none. Page: 2000 rows, oldest first. Memory: an address's newest 10,000 fills, whatever their kind;
of TWAP slices, which come in a list of their own, about 2,000. Asking needs no key and no signature.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from limits import RateLimitItem, RateLimitItemPerMinute

from exchanges.venues.base import (
    EPOCH,
    EXACT,
    LATEST,
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
    Missing,
    Page,
    PayloadError,
    Reason,
    Related,
    Side,
    Skipped,
    Stream,
    Window,
    check,
    credential_field,
    from_ms,
    subtract,
    to_ms,
)
from exchanges.venues.http import HttpVenue, Toll

T = TypeVar("T")

PAGE = 2000
MAYBE_CUT = 500  # the cap of the docs is 2000, that of some lists and years 500: an answer this long may have been cut
MID_WALK_PATIENCE = 65.0  # seconds: a walk that is broken off begins anew, so within one it is better to wait
BUDGET: RateLimitItem = RateLimitItemPerMinute(1200, namespace="hyperliquid")
TOLL = Toll(BUDGET, "hyperliquid/ip", entry=20, rows=PAGE // 20)
ROLE_TOLL = Toll(BUDGET, "hyperliquid/ip", entry=60)
INFO_TOLL = Toll(BUDGET, "hyperliquid/ip", entry=20)
# A walk this long that found nothing older has met the edge of what is kept (10,000 and 2,000, with some slack for
# rows that slid out meanwhile).
FULL_MEMORY = {"fills": 9_900, "twap": 1_900}
# After a longer absence than this the first start positions are checked for fills that are gone.
ABSENCE = timedelta(days=1)

# The windows of `portfolio`, by the venue's names: how long each is (None: as long as the address exists), and whether
# what is traded beside perpetuals is inside.
PERIODS = {
    "perpDay": (timedelta(days=1), False),
    "perpWeek": (timedelta(days=7), False),
    "perpMonth": (timedelta(days=30), False),
    "perpAllTime": (None, False),
    "day": (timedelta(days=1), True),
    "week": (timedelta(days=7), True),
    "month": (timedelta(days=30), True),
    "allTime": (None, True),
}
SAME_MOMENT = timedelta(minutes=5)  # by which the venue's word on when it answered may be away from ours

SIDES = {"B": Side.BUY, "A": Side.SELL}
LIQUIDITY = {True: Liquidity.TAKER, False: Liquidity.MAKER}  # by whether it crossed the spread
KINDS = {
    "Open Long": Kind.TRADE,
    "Open Short": Kind.TRADE,
    "Close Long": Kind.TRADE,
    "Close Short": Kind.TRADE,
    "Long > Short": Kind.TRADE,
    "Short > Long": Kind.TRADE,
    "Liquidated Cross Long": Kind.LIQUIDATION,
    "Liquidated Cross Short": Kind.LIQUIDATION,
    "Liquidated Isolated Long": Kind.LIQUIDATION,
    "Liquidated Isolated Short": Kind.LIQUIDATION,
    "Auto-Deleveraging": Kind.ADL,
}
ADDRESS = re.compile(r"0x[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HyperliquidCredentials(Credentials):
    """A public address: nothing here is secret, and no key is ever needed."""

    address: str = credential_field(
        "Account address", "0x and 40 letters or digits, as shown in the app's account menu."
    )

    def __post_init__(self) -> None:
        address = self.address.strip().lower()
        if re.fullmatch(r"(0x)?[0-9a-f]{64}", address):
            raise CredentialsRejected(
                Reason.MALFORMED,
                "This has the length of a private key. perpdash needs only the public address (0x and 40 characters); "
                "nothing was stored. Never paste a private key anywhere.",
            )
        if not ADDRESS.fullmatch(address):
            raise CredentialsRejected(
                Reason.MALFORMED,
                "Not a Hyperliquid address: that is 0x followed by 40 digits or letters from a to f.",
            )
        object.__setattr__(self, "address", address)

    @property
    def account_ref(self) -> str:
        return self.address


class Liquidation(msgspec.Struct, rename="camel"):
    method: str
    liquidated_user: str = ""


class Row(msgspec.Struct, rename="camel"):
    """A fill as Hyperliquid sends it: the fields we use. Rows of 2023 have neither tid nor feeToken."""

    coin: str
    px: Decimal
    sz: Decimal
    side: Literal["A", "B"]
    time: Annotated[int, msgspec.Meta(gt=0, lt=LATEST)]
    start_position: Decimal
    dir: str
    closed_pnl: Decimal
    oid: int
    crossed: bool
    fee: Decimal
    tid: int | None = None
    fee_token: str | None = None
    liquidation: Liquidation | None = None


class TwapRow(msgspec.Struct, rename="camel"):
    fill: Row
    twap_id: int


class Moment(msgspec.Struct):
    """The least a row must say to have a place in the walk."""

    time: Annotated[int, msgspec.Meta(gt=0, lt=LATEST)]


class TwapMoment(msgspec.Struct):
    fill: Moment


class Role(msgspec.Struct):
    role: str
    data: dict[str, str] | None = None


class SubAccount(msgspec.Struct, rename="camel"):
    name: str
    sub_account_user: str


SubAccounts: Any = list[SubAccount] | None  # null where there are none


class Token(msgspec.Struct):
    name: str
    index: int


class SpotMeta(msgspec.Struct):
    tokens: list[Token]


class PerpMeta(msgspec.Struct, rename="camel"):
    collateral_token: int


class DayVolume(msgspec.Struct, rename="camel"):
    """A UTC day of an address with its sub-accounts: what it took, what it made."""

    date: date
    user_cross: Decimal
    user_add: Decimal


class Fees(msgspec.Struct, rename="camel"):
    daily_user_vlm: list[DayVolume]


class Period(msgspec.Struct, rename="camel"):
    vlm: Decimal
    account_value_history: list[tuple[int, str]] = []  # (ms, dollars); the last is of the moment of the answer


class RateLimit(msgspec.Struct, rename="camel"):
    cum_vlm: Decimal


class _Entry(msgspec.Struct, frozen=True, gc=False):
    """One row of an answer; `row` is None where it is not of the form we know."""

    time: int
    key: str
    raw: msgspec.Raw
    row: Row | None
    is_twap: bool
    why: str = ""

    @property
    def text(self) -> str:
        return bytes(self.raw).decode()


@dataclass(frozen=True, slots=True)
class _Step:
    """One page of a walk: entries no earlier page had, oldest first, and what of the walk now lies behind us."""

    entries: list[_Entry]
    done: Window
    stuck: Window | None = None  # a millisecond that holds more rows than a page


class Hyperliquid(HttpVenue):
    slug = "hyperliquid"
    name = "Hyperliquid"
    origin = "https://api.hyperliquid.xyz"
    credentials_type: ClassVar[type[Credentials]] = HyperliquidCredentials
    streams = (Stream(name="fills", forgets_by_count=True), Stream(name="twap", forgets_by_count=True))
    key_steps = (
        "Open the Hyperliquid app and connect your wallet.",
        "Copy the address of the account you trade with (0x ...). No key and no signature is needed.",
        "A sub-account or a vault has an address of its own: add it as a second account.",
    )
    may_hold_powers = False
    figures_note = (
        "Hyperliquid publishes the volume of the last 15 days, of a day, a week, a month, and of an address's life."
    )
    memory_note = "Hyperliquid keeps the last 10,000 fills of an address (spot and outcome fills included)."

    def __init__(self, credentials: HyperliquidCredentials, **options: Any) -> None:
        super().__init__(credentials, **options)
        self.address = credentials.address
        self._collateral: dict[str, str | None] = {}

    # --- Who is this -------------------------------------------------------------------------------------------------

    def identify(self) -> Identity:
        role = self._info({"type": "userRole", "user": self.address}, Role, toll=ROLE_TOLL)
        data = role.data or {}
        match role.role:
            case "agent":
                raise CredentialsRejected(
                    Reason.AGENT,
                    f"This is the address of an agent wallet (an API wallet) of {data.get('user', 'another account')}. "
                    "It has no fills of its own: add that address instead.",
                )
            case "missing":
                raise CredentialsRejected(
                    Reason.UNKNOWN_ACCOUNT,
                    "Hyperliquid has never seen this address. Check that it is complete and is the account you trade "
                    "with; an account appears with its first deposit.",
                )
            case "subAccount":
                return Identity(
                    account_ref=self.address,
                    description=f"Sub-account of {data.get('master', 'another account')}. Reading needs no key.",
                )
            case "vault":
                return Identity(
                    account_ref=self.address,
                    description="Vault: its volume is the vault's, apart from its leader's own. Reading needs no key.",
                )
            case "user":
                return Identity(
                    account_ref=self.address,
                    description="Public address. Reading needs no key, so there is nothing that could trade.",
                    related=self._sub_accounts(),
                )
        raise PayloadError(f"Hyperliquid says this address is a {role.role!r}, which perpdash does not know yet.")

    def _sub_accounts(self) -> tuple[Related, ...]:
        question = {"type": "subAccounts", "user": self.address}
        found = self._info(question, SubAccounts) or []
        return tuple(Related(label=sub.name, values={"address": sub.sub_account_user.lower()}) for sub in found)

    # --- What the venue itself counts --------------------------------------------------------------------------------

    def fetch_figures(self, *, now: datetime) -> Sequence[Figure]:
        """Three requests of weight 20: `portfolio`, `userFees` and `userRateLimit`.

        The days are those of an address with its sub-accounts, spot inside; `portfolio` is of the address alone, with
        and without what is traded beside perpetuals; `cumVlm` is the counter of `allTime`. Whether builder markets in
        growth mode count for less than their dollars is documented for `cumVlm` alone.
        """
        portfolio = self._info({"type": "portfolio", "user": self.address}, list[tuple[str, Period]])
        # The periods end when the venue answered, which it says itself. The other two are asked in the same breath.
        told = [from_ms(ms) for _, period in portfolio for ms, _ in period.account_value_history if 0 < ms < LATEST]
        at = max(told, default=now)
        at = at if abs(at - now) <= SAME_MOMENT else now
        figures = []
        for name, period in portfolio:
            if name not in PERIODS:
                continue
            length, is_all = PERIODS[name]
            # A counter of a life begins with it; of the others the samples begin before the period does.
            inside = [Inclusion.APPROXIMATE if length else Inclusion.WEIGHTED, *([Inclusion.SPOT] if is_all else [])]
            window = Window(at - length if length else EPOCH, at)
            usd = self.dollars(period.vlm)
            figures.append(Figure(name=f"portfolio.{name}", window=window, usd=usd, includes=tuple(inside)))
        fees = self._info({"type": "userFees", "user": self.address}, Fees)
        for day in fees.daily_user_vlm:
            midnight = datetime(day.date.year, day.date.month, day.date.day, tzinfo=UTC)
            if midnight < at:
                window = Window(midnight, min(at, midnight + timedelta(days=1)))
                usd = EXACT.add(Hyperliquid.dollars(day.user_cross), Hyperliquid.dollars(day.user_add))
                includes = (Inclusion.SPOT, Inclusion.RELATED, Inclusion.WEIGHTED)
                figures.append(Figure(name="dailyUserVlm", window=window, usd=usd, includes=includes))
        life = self._info({"type": "userRateLimit", "user": self.address}, RateLimit)
        figures.append(
            Figure(
                name="userRateLimit.cumVlm", window=Window(EPOCH, at), usd=Hyperliquid.dollars(life.cum_vlm),
                includes=(Inclusion.SPOT, Inclusion.WEIGHTED),
            )
        )  # fmt: skip
        return figures

    # --- Fills -------------------------------------------------------------------------------------------------------

    def fetch_fills(self, stream: Stream, window: Window) -> Iterator[Page]:
        """Walks the window once. Where rows may be gone, nothing is claimed until the end of the walk."""
        walked = 0
        stuck: list[Window] = []
        oldest: _Entry | None = None
        starts: dict[str, Row] = {}  # each perp's oldest row
        nothing_before = False
        for step in self._walk(stream.name, window):
            self.door.patience = max(self.door.patience, MID_WALK_PATIENCE)
            walked += len(step.entries)
            if step.entries:
                if oldest is None:
                    # Only after a long first page, or a long absence, can older rows be gone.
                    is_suspect = len(step.entries) >= MAYBE_CUT or window.until - window.since > ABSENCE
                    nothing_before = is_suspect and not self._has_rows_before(stream.name, window)
                oldest = min(oldest or step.entries[0], step.entries[0], key=lambda entry: entry.time)
                _note_starts(starts, step.entries)
            gap = None
            if step.stuck:
                stuck.append(step.stuck)
                gap = Missing(step.stuck, "More fills in one millisecond than Hyperliquid returns.")
            claims = not (nothing_before or stuck) and bool(step.done)
            rows = [self._outcome(entry) for entry in step.entries]
            yield Page(rows=rows, covered=step.done if claims else None, gap=gap)
        gone = self._out_of_reach(stream.name, window, walked, oldest, starts) if nothing_before and oldest else None
        if gone:
            yield Page(rows=[], out_of_reach=gone)
        for part in subtract(window, [*stuck, gone.window] if gone else stuck):
            yield Page(rows=[], covered=part)

    def parse_rows(self, stream: str, raws: Iterable[msgspec.Raw]) -> list[FillReport | Skipped | Held]:
        return [self._outcome(entry) for entry in _entries(stream, raws)]

    def parse_held(self, stream: str, row: str) -> FillReport | Skipped | Held:
        return self.parse_rows(stream, [msgspec.Raw(row)])[0]

    def _out_of_reach(
        self, name: str, window: Window, walked: int, oldest: _Entry, starts: dict[str, Row]
    ) -> Missing | None:
        """What Hyperliquid no longer has of a window before which it has nothing at all."""
        remedy = "A trade export or Hyperliquid's public archive holds older fills."
        if walked >= FULL_MEMORY[name]:
            kept = f"{walked:,} TWAP slices" if name == "twap" else "10,000 fills"
            # Of the oldest millisecond itself a part may be gone.
            edge = from_ms(oldest.time + 1)
            why = f"Hyperliquid keeps an account's last {kept}: nothing before {edge:%Y-%m-%d %H:%M} UTC can be read."
            return Missing(Window(window.since, edge), why, remedy)
        if name == "twap":  # its positions may come from ordinary fills
            return None
        for row in sorted((row for row in starts.values() if row.start_position), key=lambda row: row.time):
            if not self._has_slices(row):
                why = (
                    f"The oldest {row.coin} fill that Hyperliquid returns starts from an open position of "
                    f"{row.start_position.normalize(EXACT):f}: earlier fills exist that can't be read any more."
                )
                return Missing(Window(window.since, from_ms(row.time)), why, remedy)
        return None

    def _has_slices(self, row: Row) -> bool:
        """Whether TWAP slices, which are not among the ordinary fills, may explain a position open before `row`."""
        return any(entry.row and entry.row.coin == row.coin for entry in self._ask("twap", 0, row.time)[0])

    def _has_rows_before(self, name: str, window: Window) -> bool:
        start = to_ms(window.since)
        return start > 0 and bool(self._ask(name, 0, start - 1)[0])

    def _walk(self, name: str, window: Window) -> Iterator[_Step]:
        """Pages of the window until one brings nothing new: a short page is no promise that it was the last.

        The venue cuts at 2000 rows, as a rule the newest off. The next page then starts at the last millisecond seen,
        not after it, because the cut may have gone through that millisecond.
        """
        start, end = to_ms(window.since), to_ms(window.until) - 1
        given: set[str] = set()  # what was already given of the millisecond where the next page begins
        while start <= end:
            entries, is_newest_first = self._ask(name, start, end)
            fresh = [entry for entry in entries if entry.key not in given]
            if not fresh and len(entries) not in (MAYBE_CUT, PAGE):
                return
            backwards = is_newest_first and len(entries) >= MAYBE_CUT  # the old end was cut off instead
            edge = entries[0].time if backwards else entries[-1].time
            is_stuck = not fresh
            has_moved = edge != (end if backwards else start)
            if backwards:
                done, end = Window(from_ms(edge + 1), from_ms(end + 1)), edge - is_stuck
            else:
                done, start = Window(window.since, from_ms(edge)), edge + is_stuck
            given = {entry.key for entry in entries if entry.time == edge} | (set() if has_moved else given)
            yield _Step(fresh, done, Window(from_ms(edge), from_ms(edge + 1)) if is_stuck else None)

    def _ask(self, name: str, start: int, end: int) -> tuple[list[_Entry], bool]:
        """One answer for [start, end] in ms, sorted by time, and whether it came newest first."""
        kind = "userTwapSliceFillsByTime" if name == "twap" else "userFillsByTime"
        question = {"type": kind, "user": self.address, "startTime": start, "endTime": end, "aggregateByTime": False}
        raws = self.door.post(
            "/info", list[msgspec.Raw], tolls=[TOLL], json=question, rows_cost=lambda rows: -(-len(rows) // 20)
        )
        entries = _entries(name, raws)
        is_newest_first = bool(entries) and entries[0].time > entries[-1].time
        return sorted(entries, key=lambda entry: entry.time), is_newest_first

    def _info(self, question: dict[str, str], answer: type[T], *, toll: Toll = INFO_TOLL) -> T:
        return self.door.post("/info", answer, tolls=[toll], json=question)

    # --- Rows --------------------------------------------------------------------------------------------------------

    def _outcome(self, entry: _Entry) -> FillReport | Skipped | Held:
        row, at = entry.row, from_ms(entry.time)
        if row is None:
            return Held(entry.text, entry.why, at)
        if skipped := not_perpetual(row.coin):
            return Skipped(skipped)
        if row.dir == "Settlement":
            return Skipped("settlement")
        kind = KINDS.get(row.dir)
        if kind is None:
            return Held(entry.text, f"unknown dir {row.dir!r}", at)
        if kind is Kind.TRADE:
            # The mark also sits on the fill of whoever traded against the liquidated account.
            if row.liquidation and not row.liquidation.liquidated_user:
                return Held(entry.text, "a liquidation that does not say whose", at)
            if row.liquidation and row.liquidation.liquidated_user.lower() == self.address:
                kind = Kind.LIQUIDATION
            elif entry.is_twap:
                kind = Kind.TWAP
        if row.px <= ZERO or row.sz <= ZERO:
            return Held(entry.text, "price or size is not above 0", at)
        dex, _, base = row.coin.rpartition(":")
        fee_asset = (row.fee_token or "").strip()
        quote = (self._collateral_of(dex) or fee_asset) if dex else "USDC"
        if not quote:
            return Held(entry.text, f"it does not say what {row.coin} is priced in", at)
        report = FillReport(
            fill_id=entry.key,
            symbol=row.coin,
            base=base,
            quote=quote,
            side=SIDES[row.side],
            liquidity=LIQUIDITY[row.crossed],
            kind=kind,
            price=row.px,
            qty=row.sz,
            notional=EXACT.multiply(row.px, row.sz),
            fee=row.fee,  # the builder's fee is inside
            fee_asset=fee_asset or quote,
            realized_pnl=row.closed_pnl,
            executed_at=at,
        )
        why = report.unfit()
        return Held(entry.text, why, at) if why else report

    def _collateral_of(self, dex: str) -> str | None:
        """What the markets of a builder's dex are priced in; None for a dex that is no longer listed."""
        if dex not in self._collateral:
            try:
                meta = self._info({"type": "meta", "dex": dex}, PerpMeta)
                tokens = self._info({"type": "spotMeta"}, SpotMeta).tokens
            except PayloadError:
                self._collateral[dex] = None
            else:
                names = {token.index: token.name for token in tokens}  # by index: the array's order says nothing
                self._collateral[dex] = names.get(meta.collateral_token)
        return self._collateral[dex]


@lru_cache(1024)  # markets are few, fills are many
def not_perpetual(coin: str) -> str:
    """What a market is, where it is not a perpetual; the text alone tells, also for delisted markets."""
    if coin.startswith("@") or "/" in coin:
        return "spot"
    if coin.startswith(("#", "+")):
        return "outcome"
    return ""


def identity(row: Row) -> str:
    """The same on every read, in both lists, and unique within an account.

    A tid is shared by the two sides of a match, which may both be the account's own. Rows of 2023 have none; of them
    the position each started from tells fills of one order apart.
    """
    if row.tid is not None:
        return f"{row.time}:{row.coin}:{row.tid}:{row.side}"
    position = row.start_position.normalize(EXACT)
    return f"{row.time}:{row.coin}:{row.oid}:{row.side}:{position}:{row.px}:{row.sz}"


_ROW = msgspec.json.Decoder(Row)
_TWAP_ROW = msgspec.json.Decoder(TwapRow)
_MOMENT = msgspec.json.Decoder(Moment)
_TWAP_MOMENT = msgspec.json.Decoder(TwapMoment)


def _entries(stream: str, raws: Iterable[msgspec.Raw]) -> list[_Entry]:
    is_twap = stream == "twap"
    return [_entry(raw, is_twap=is_twap) for raw in raws]


def _entry(raw: msgspec.Raw, *, is_twap: bool) -> _Entry:
    try:
        row = _TWAP_ROW.decode(raw).fill if is_twap else _ROW.decode(raw)
        check(row.px, row.sz, row.fee, row.closed_pnl, row.start_position)
        return _Entry(row.time, identity(row), raw, row, is_twap)
    except (msgspec.ValidationError, ValueError) as fault:
        why = str(fault).replace("\0", "")
    try:
        moment = _TWAP_MOMENT.decode(raw).fill if is_twap else _MOMENT.decode(raw)
    except msgspec.ValidationError:
        raise PayloadError(
            "Hyperliquid sent a fill without a time. Nothing was stored of this page; look for an update."
        ) from None
    return _Entry(moment.time, hashlib.sha256(raw).hexdigest(), raw, None, is_twap, why)


def _note_starts(starts: dict[str, Row], entries: list[_Entry]) -> None:
    for row in (entry.row for entry in entries if entry.row):
        if not_perpetual(row.coin):
            continue
        known = starts.get(row.coin)
        # Inside one millisecond the order is not the order of execution: a start from nothing is the first.
        if known is None or (row.time, bool(row.start_position)) < (known.time, bool(known.start_position)):
            starts[row.coin] = row
