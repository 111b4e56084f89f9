"""WOO X (woox.io, not WOO X Pro): fills of perpetuals by a read-only key.

Docs: https://developer.woox.io/api-reference/endpoint/trading/get_transactions
v3 remembers two years, for any span of time; v1, on its way out, everything. Neither the order of rows nor the longest
page is documented, so both are taken as they come and nothing is built on them. A main account and each sub-account
has keys and fills of its own. Two requests a second, shared with whatever else uses the account.
"""

import hmac
import re
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar
from urllib.parse import urlencode

import httpx
import msgspec
from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond

from exchanges.venues.base import (
    EXACT,
    ZERO,
    BudgetSpent,
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
    check,
    credential_field,
    from_ms,
    moment,
    number,
    to_ms,
)
from exchanges.venues.http import HttpVenue, Refused, SlowDown, Toll, TryAgain, retry_after

STAGING = "https://api.staging.woox.io"
MEMORY = timedelta(days=730)
EDGE = timedelta(minutes=5)  # what is so close to the end of v3's memory is asked of v1
PAGE = 500  # the longest known to work
V1_PAGE = 1000
ROUND = frozenset({25, 50, 100, 200, 250, 500, 1000})  # an answer of so many rows may have been cut at a limit not told
SHORTEST_PAGE = 25  # as far as is known
GONE = {404, 405, 410}
HOUR_MS = 3_600_000
WEEK_MS = 7 * 24 * HOUR_MS

PER_SECOND: RateLimitItem = RateLimitItemPerSecond(2, namespace="woox")
V1_PER_SECOND: RateLimitItem = RateLimitItemPerSecond(1, namespace="woox")
ACCOUNT_PER_MINUTE: RateLimitItem = RateLimitItemPerMinute(10, namespace="woox")
PUBLIC_PER_SECOND: RateLimitItem = RateLimitItemPerSecond(10, namespace="woox")

SIDES = {
    "BUY": Side.BUY, "OPEN LONG": Side.BUY, "CLOSE SHORT": Side.BUY,
    "SELL": Side.SELL, "OPEN SHORT": Side.SELL, "CLOSE LONG": Side.SELL,
}  # fmt: skip
LIQUIDITY = {1: Liquidity.MAKER, 0: Liquidity.TAKER}
FIRST_MS = Decimal(10**11)  # a time below this is in seconds
FIRST_V1_MS = 10**12  # the smallest time v1 takes
MISCOUNTS = 2  # after so many the venue's counts are not used any more

FILLS, OLD_FILLS, SYSTEM_INFO = "/v3/trade/transactionHistory", "/v1/client/hist_trades", "/v3/public/systemInfo"

# Codes of the API; all others are a fault of ours or of their documentation.
UNAUTHORIZED, BAD_SIGNATURE, TOO_MANY, SUSPENDED = -1002, -1001, -1003, 302307
NOTHING_FOUND = {-1006, 302002}
BAD_PARAMETER = {-1005, 302003, 302004}
RETRY = {-1000, -1011, -1012, 302005, 302159}

NOT_ACCEPTED = (
    "WOO X does not accept this key. It does not say why; the causes are: mistyped, deleted or expired, without the "
    "READ permission, or bound to other IP addresses than the one perpdash runs at. Look at it under API management "
    "on woox.io."
)
NO_READ = "This key lacks the READ permission. Give it READ, and nothing else, under API management on woox.io."
OTHER_IP = "This key is bound to other IP addresses. Add the one perpdash runs at under API management on woox.io."
OTHER_EXCHANGE = (
    "WOO X does not know this key, and it does not look like one of its keys, which end in ==. Keys of WOO X Pro "
    "(wooxpro.com), a different exchange, do not work here: make one on woox.io."
)
OLD_LIST_GONE = "WOO X keeps fills for two years, and no longer offers its list of older ones."
WRONG_SECRET = "The API secret does not belong to this API key. Copy both again, or make a new key."  # noqa: S105


@dataclass(frozen=True, slots=True)
class WooxCredentials(Credentials):
    api_key: str = credential_field("API key", "Ends in ==, as shown under API management on woox.io.", secret=True)
    api_secret: str = credential_field("API secret", "Shown once, when the key is made.", secret=True)
    application_id: str = credential_field(
        "Application ID", "If you give it, the key is checked to be of this account.", optional=True
    )

    def __post_init__(self) -> None:
        if not (self.api_key.isascii() and self.api_secret.isascii()) or re.search(
            r"\s", self.api_key + self.api_secret
        ):
            raise CredentialsRejected(Reason.MALFORMED, "A WOO X key has no spaces or other signs: copy it again.")


class AuthV3(httpx.Auth):
    """Signs method, path and query as they will be sent."""

    def __init__(self, key: str, secret: str) -> None:
        self._key = key
        self._secret = secret.encode()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        timestamp = str(time.time_ns() // 1_000_000)
        request.headers["x-api-key"] = self._key
        request.headers["x-api-timestamp"] = timestamp
        request.headers["x-api-signature"] = hmac.new(
            self._secret, self.message(request, timestamp), "sha256"
        ).hexdigest()
        yield request

    def message(self, request: httpx.Request, timestamp: str) -> bytes:
        return f"{timestamp}{request.method}".encode() + request.url.raw_path


class AuthV1(AuthV3):
    """Signs the parameters, which are sent sorted by name."""

    def message(self, request: httpx.Request, timestamp: str) -> bytes:
        request.headers["Content-Type"] = "application/x-www-form-urlencoded"
        return request.url.query + f"|{timestamp}".encode()


class NotTaken(Refused):
    """WOO X does not take a parameter of ours; of a range of time, maybe a shorter one."""


class Envelope(msgspec.Struct):
    """`success` is what counts, whatever the HTTP status; `code` has been seen as a number and as text."""

    success: bool
    code: int | str = 0
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")


class ServerTime(msgspec.Struct):
    timestamp: int


class AccountInfo(msgspec.Struct, rename="camel"):
    application_id: str
    account: str = ""
    account_type: str = ""


class Key(msgspec.Struct, rename="camel"):
    api_key: str
    permissions: list[str]
    allowed_ips: list[str] = msgspec.field(name="allowedIPs", default_factory=list)


class Keys(msgspec.Struct):
    rows: list[Key]


class SubAccount(msgspec.Struct, rename="camel"):
    application_id: str = ""
    account: str = ""


class SubAccounts(msgspec.Struct):
    rows: list[SubAccount]


class Meta(msgspec.Struct, rename="camel"):
    total: int = 0
    records_per_page: int = 0


class Fills(msgspec.Struct):
    rows: list[msgspec.Raw]
    meta: Meta = msgspec.field(default_factory=Meta)


class Place(msgspec.Struct, rename="camel"):
    """The least a row must say to have a place in the walk."""

    id: int
    executed_timestamp: Decimal


class FillRow(Place, rename="camel"):
    """A fill as v3 sends it: the fields we use. Numbers come as numbers or as text, times in s or ms."""

    symbol: str
    executed_price: Decimal
    executed_quantity: Decimal
    side: str
    is_maker: int | bool
    fee: Decimal
    fee_asset: str
    realized_pnl: msgspec.Raw = msgspec.Raw(b"null")
    is_match_rpi: bool | None = None


class OldPlace(msgspec.Struct):
    id: int
    executed_timestamp: Decimal


class OldFillRow(OldPlace):
    """The same as v1 sends it."""

    symbol: str
    executed_price: Decimal
    executed_quantity: Decimal
    side: str
    is_maker: int | bool
    fee: Decimal
    fee_asset: str
    realized_pnl: msgspec.Raw = msgspec.Raw(b"null")
    is_match_rpi: bool | None = None


_FILL, _OLD_FILL = msgspec.json.Decoder(FillRow), msgspec.json.Decoder(OldFillRow)
_PLACE, _OLD_PLACE = msgspec.json.Decoder(Place), msgspec.json.Decoder(OldPlace)


class Entry(msgspec.Struct, frozen=True):
    """A row, and its place in the walk."""

    id: int
    ms: int
    row: Row


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of [first, last] in ms that came; `total` is how many there are, if the venue's count is right."""

    first: int
    last: int
    entries: list[Entry]
    placeless: list[Held]  # rows without an id or a time
    total: int
    is_whole: bool


class Woox(HttpVenue):
    slug = "woox"
    name = "WOO X"
    origin = "https://api.woox.io"
    credentials_type: ClassVar[type[Credentials]] = WooxCredentials
    # Longer windows would do; these let a backfill begin with what is newest, and be stopped.
    streams = (Stream(name="fills", longest_window=timedelta(days=91)),)
    key_steps = (
        "On woox.io, open your account, then API management, and create a key.",
        "Give it the READ permission only. Binding it to the IP address perpdash runs at makes it safer.",
        "A sub-account has keys of its own: make one there, and add it as a second account.",
        "Keys of WOO X Pro (wooxpro.com) are of a different exchange and do not work here.",
    )
    figures_note = "WOO X publishes no volume of an account that could be compared."
    memory_note = "WOO X keeps fills for two years; older ones are read as long as it still offers its old list."

    def __init__(self, credentials: WooxCredentials, **options: Any) -> None:
        super().__init__(credentials, **options)
        self.auth = AuthV3(credentials.api_key, credentials.api_secret)
        self.old_auth = AuthV1(credentials.api_key, credentials.api_secret)
        self._miscounts = 0
        self._is_count_proven: bool | None = None
        self._longest = 0  # rows of the longest answer so far,
        self._longest_came = 0  # and how often there were so many
        self._longest_span = 1 << 60  # ms; less, once WOO X did not take that much

    # --- The door ----------------------------------------------------------------------------------------------------

    def open_answer(self, response: httpx.Response, content: bytes) -> bytes:
        try:
            envelope = msgspec.json.decode(content, type=Envelope)
        except msgspec.DecodeError:
            return self.door.plain(response, content)
        if envelope.success:
            return content if response.request.url.path == SYSTEM_INFO else bytes(envelope.data)
        try:
            code = int(envelope.code)
        except ValueError:
            code = 0
        if code in NOTHING_FOUND:
            return b"[]" if response.request.url.path.startswith("/v1/") else b'{"rows": []}'
        raise self._fault(code, envelope.message, response)

    def _fault(self, code: int, message: str, response: httpx.Response) -> Exception:
        if code == TOO_MANY or response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            return SlowDown(pause=retry_after(response))
        if code in RETRY or response.status_code >= 500:
            is_closed = "maintenance" in message.lower()
            return TryAgain(
                "is under maintenance" if is_closed else "has trouble of its own", pause=retry_after(response)
            )
        if code == BAD_SIGNATURE:
            return CredentialsRejected(Reason.WRONG_KEY, WRONG_SECRET)
        if code == UNAUTHORIZED or response.status_code == httpx.codes.UNAUTHORIZED:
            if re.search(r"\bip\b", message, re.IGNORECASE):
                return CredentialsRejected(Reason.IP_NOT_ALLOWED, OTHER_IP)
            return CredentialsRejected(Reason.WRONG_KEY, NOT_ACCEPTED)
        if code == SUSPENDED:
            return CredentialsRejected(Reason.CLOSED, "WOO X has suspended this account. Ask its support why.")
        kind = NotTaken if code in BAD_PARAMETER else Refused
        why = f"WOO X did not accept our request (its code {code}). Nothing is lost; look for an update."
        return kind(why, status=response.status_code)

    def _account_toll(self, path: str) -> Toll:
        return Toll(ACCOUNT_PER_MINUTE, f"woox/{self.account}{path}")

    # --- Who is this -------------------------------------------------------------------------------------------------

    def identify(self) -> Identity:
        try:
            info = self._info()
        except CredentialsRejected as fault:
            raise self._diagnosed(fault) from None
        if self.credentials.application_id not in ("", info.application_id):
            raise CredentialsRejected(
                Reason.WRONG_ACCOUNT,
                f"This key is of the application {info.application_id}, not the one given. Copy both from one account.",
            )
        self.account = info.application_id
        path = "/v3/account/credentials"
        keys = self.door.get(path, Keys, tolls=[self._account_toll(path)], auth=self.auth).rows
        mine = next((key for key in keys if key.api_key == self.credentials.api_key), None)
        if mine and "READ" not in mine.permissions:
            raise CredentialsRejected(Reason.MISSING_PERMISSION, NO_READ)
        # Which of the account's keys is ours may not be told; then it may do what any of them may.
        permissions = {power for key in ([mine] if mine else keys) for power in key.permissions}
        may_trade, may_withdraw = "TRADE" in permissions or not keys, "WITHDRAWAL" in permissions
        is_powerful = may_trade or may_withdraw
        kind, powers = ("Key", ", can do more than read") if is_powerful else ("Read-only key", "")
        if mine is None and is_powerful:
            powers = ", may be able to do more than read: WOO X does not tell which of its keys it is"
        whose = "the sub-account" if info.account_type.lower().startswith("sub") else "the main account"
        bound = f", bound to {', '.join(mine.allowed_ips)}" if mine and mine.allowed_ips else ""
        return Identity(
            account_ref=info.application_id,
            description=(f"{kind} of {whose} {info.account[:60]}".rstrip() + f"{powers}{bound}.")[:300],
            may_trade=may_trade,
            may_withdraw=may_withdraw,
            related=() if whose == "the sub-account" else self._sub_accounts(),
        )

    def _info(self, host: str = "") -> AccountInfo:
        path = "/v3/account/info"
        return self.door.get(path, AccountInfo, tolls=[self._account_toll(path)], auth=self.auth, host=host)

    def _sub_accounts(self) -> tuple[Related, ...]:
        path = "/v3/account/subAccounts/all"
        with suppress(CredentialsRejected, PayloadError):  # only a main account may ask
            found = self.door.get(path, SubAccounts, tolls=[self._account_toll(path)], auth=self.auth).rows
            return tuple(Related(label=sub.account or sub.application_id, values={}) for sub in found)
        return ()

    def _diagnosed(self, fault: CredentialsRejected) -> CredentialsRejected:
        """WOO X gives one answer for many causes: what can be found out beside it."""
        if fault.reason != Reason.WRONG_KEY:
            return fault
        self._check_clock()
        if self.is_at_home:
            with suppress(VenueError):
                self._info(STAGING)
                return CredentialsRejected(
                    Reason.WRONG_ENVIRONMENT,
                    "This is a key of WOO X's staging, a test environment. Make one on woox.io.",
                )
        if not self.credentials.api_key.endswith("=="):
            return CredentialsRejected(Reason.WRONG_VENUE, OTHER_EXCHANGE)
        return fault

    def _check_clock(self) -> None:
        """Requests from too far off are refused like wrong keys."""
        with suppress(PayloadError):
            told = self.door.get(SYSTEM_INFO, ServerTime, tolls=[Toll(PUBLIC_PER_SECOND, f"woox/ip{SYSTEM_INFO}")])
            self.door.check_clock(from_ms(told.timestamp))

    # --- Fills -------------------------------------------------------------------------------------------------------

    def fetch_fills(self, stream: Stream, window: Window) -> Iterator[Page]:
        edge = from_ms(time.time_ns() // 1_000_000) - MEMORY + EDGE
        if edge < window.until:
            first, last = to_ms(max(edge, window.since)), to_ms(window.until - timedelta.resolution)
            for page in self._recent(first, last):
                # The last millisecond may reach beyond the window.
                claim = page.covered and Window(page.covered.since, min(page.covered.until, window.until))
                yield replace(page, covered=claim)
        if window.since < edge:
            yield from self._older(Window(window.since, min(edge, window.until)))

    def parse_held(self, stream: str, row: str) -> Row:
        found = _entry(msgspec.Raw(row), is_old='"executed_timestamp"' in row)
        return found.row if isinstance(found, Entry) else found

    def _recent(self, first: int, last: int) -> Iterator[Page]:
        """The pages of v3 for [first, last] in ms, in pieces as long as WOO X takes them."""
        while first <= last:
            start = max(first, last - self._longest_span + 1)
            try:
                left: tuple[int, int] | None = (start, last)
                if self._miscounts < MISCOUNTS:
                    left = yield from self._counted(start, last)
                if left:
                    yield from self._halved(*left)
            except NotTaken:
                if last - start < HOUR_MS:
                    raise
                self._longest_span = (last - start + 1) // 2
            else:
                last = start - 1

    def _counted(self, first: int, last: int) -> Generator[Page, None, tuple[int, int] | None]:
        """Walks from one end to the other as long as the venue's counts prove each step; gives what is left, if any.

        What is too long for one answer is asked again from where the answer stops. If there are now fewer rows, by just
        as many as the first answer holds beside the new range, then it holds all of them: whatever its order is.
        """
        answer = self._ask(first, last)
        while not answer.is_whole:
            times = [entry.ms for entry in answer.entries]
            if not times or len(times) >= answer.total or first == last:
                return first, last
            came_oldest = last - max(times) >= min(times) - first
            rest = (max(times), last) if came_oldest else (first, min(times))
            beside = [entry for entry in answer.entries if not rest[0] <= entry.ms <= rest[1]]
            if rest == (first, last):  # a millisecond that fills the answer: read on its own
                ms = first if came_oldest else last
                yield from self._instant(ms)
                first, last = (first + 1, last) if came_oldest else (first, last - 1)
                answer = self._ask(first, last)
                continue
            following = self._ask(*rest)
            if answer.total - following.total != len(beside):
                self._miscounts += 1
                return first, last
            done = (first, rest[0] - 1) if rest[0] > first else (rest[1] + 1, last)
            yield _page(beside, *done)
            (first, last), answer = rest, following
        yield _page(answer.entries, first, last, answer.placeless)
        return None

    def _halved(self, first: int, last: int) -> Iterator[Page]:
        """Takes only answers that cannot have been cut, newest first: too long a span is halved until it fits."""
        span = min(last - first + 1, WEEK_MS)
        while first <= last:
            start = max(first, last - span + 1)
            answer = self._ask(start, last)
            if answer.is_whole:
                yield _page(answer.entries, start, last, answer.placeless)
                page = self._longest if self._longest_came > 1 else PAGE  # so many, and again: most likely a limit
                room = max(page, SHORTEST_PAGE) * 0.7 / max(1, len(answer.entries))
                span, last = int(span * min(8.0, max(0.5, room))) + 1, start - 1
            elif start == last:
                yield from self._moment(last, answer)
                last -= 1
            else:
                span = last - _later_start(start, last, answer) + 1

    def _instant(self, ms: int) -> Iterator[Page]:
        answer = self._ask(ms, ms)
        if answer.is_whole:
            yield _page(answer.entries, ms, ms, answer.placeless)
        else:
            yield from self._moment(ms, answer)

    def _moment(self, ms: int, answer: Answer) -> Iterator[Page]:
        """A millisecond with more rows than an answer holds, by their ids."""
        seen: dict[int, Entry] = {}
        goes_up, fresh, total = True, answer.entries, answer.total
        while fresh:
            goes_up = goes_up and _goes_up(answer.entries)
            seen |= {entry.id: entry for entry in fresh}
            # Not from the highest id: rows of the answer before may stand at the beginning of this one.
            answer = self._ask(ms, ms, from_id=answer.entries[-1].id)
            fresh = [entry for entry in answer.entries if entry.id not in seen]
        # A walk up is right if it began with the lowest id of all.
        lowest = self._ask(ms, ms, limit=1).entries
        if goes_up and lowest and lowest[0].id == min(seen) and len(seen) >= (total if self._counts_hold else 0):
            yield _page(list(seen.values()), ms, ms)
            return
        window = Window(from_ms(ms), from_ms(ms + 1))
        rows = [entry.row for entry in seen.values()]
        yield Page(rows=rows, gap=Missing(window, "More fills in one millisecond than WOO X returns."))

    @property
    def _counts_hold(self) -> bool:
        return self._miscounts < MISCOUNTS

    def _ask(self, first: int, last: int, *, from_id: int | None = None, limit: int = PAGE) -> Answer:
        asked = {"endTime": last, "limit": limit, "startTime": first} | ({"fromId": from_id} if from_id else {})
        tolls = [Toll(PER_SECOND, f"woox/{self.account}{FILLS}")]
        try:
            answer = self.door.get(FILLS, Fills, tolls=tolls, query=urlencode(asked), auth=self.auth)
        except CredentialsRejected as fault:
            if fault.reason == Reason.WRONG_KEY:
                self._check_clock()
            raise
        entries, placeless = entries_of(answer.rows, is_old=False)
        answered = Answer(first, last, entries, placeless, answer.meta.total, is_whole=False)
        return replace(answered, is_whole=limit == PAGE and self._is_whole(answered, len(answer.rows), answer.meta))

    def _is_whole(self, answer: Answer, count: int, meta: Meta) -> bool:
        """Whether an answer of so many rows cannot have been cut.

        No answer shorter than another one was. Beyond that it takes a page length that WOO X told of itself, and not
        after us, or a count of all rows that proved to be one. A count that proves wrong twice is not looked at again.
        """
        is_page_told = SHORTEST_PAGE < meta.records_per_page < PAGE  # the shortest is told whatever was used
        is_uncut = count < max(SHORTEST_PAGE, self._longest)
        is_uncut = is_uncut or (is_page_told and count < meta.records_per_page and count not in ROUND)
        if count >= self._longest:
            self._longest_came = 1 + (count == self._longest) * self._longest_came
            self._longest = count
        if (count < SHORTEST_PAGE and meta.total > count) or 0 < meta.total < len(answer.entries):
            self._miscounts += 1
        if not self._counts_hold:
            return is_uncut
        # Of a page that is full, a row that came twice may have taken the place of another.
        distinct = len(answer.entries) + len({held.row for held in answer.placeless})
        if not is_uncut and meta.total == distinct < PAGE:
            if self._is_count_proven is None:
                # One that only counts the rows of its answer is 1 now.
                self._is_count_proven = self._ask(answer.first, answer.last, limit=1).total == meta.total
            is_uncut = self._is_count_proven
        return is_uncut and count >= meta.total

    def _older(self, window: Window) -> Iterator[Page]:
        """What v3 no longer has, from v1. That it may be gone one day must not stop the rest."""
        given: dict[int, Entry] = {}
        from_id, is_rising, longest = 1, True, 0
        try:
            while True:
                entries, placeless = self._ask_v1(window, from_id)
                fresh = [entry for entry in entries if entry.id not in given]
                is_rising = is_rising and _goes_up(entries)
                yield Page(rows=[*placeless, *(entry.row for entry in fresh)])
                if not fresh:
                    break
                longest = max(longest, len(entries))
                given |= {entry.id: entry for entry in fresh}
                from_id = entries[-1].id
        except BudgetSpent:
            raise
        except Refused as fault:
            missing = Missing(window, OLD_LIST_GONE, "An export from woox.io holds older fills.")
            is_gone = fault.status in GONE
            yield (
                Page(rows=[], out_of_reach=missing) if is_gone else Page(rows=[], gap=replace(missing, why=str(fault)))
            )
        except VenueError as fault:
            if isinstance(fault, CredentialsRejected):
                self._info()  # raises if it is the key, and not the old list
            yield Page(rows=[], gap=Missing(window, f"{fault} It is about fills older than two years."))
        else:
            # Nothing new after a whole page may also be the same page again.
            if is_rising and (longest < SHORTEST_PAGE or len(entries) < longest):
                yield Page(rows=[], covered=window)

    def _ask_v1(self, window: Window, from_id: int) -> tuple[list[Entry], list[Held]]:
        first = max(to_ms(window.since), FIRST_V1_MS)
        asked = {
            "end_t": to_ms(window.until - timedelta.resolution),
            "fromId": from_id,
            "limit": V1_PAGE,
            "start_t": first,
        }
        tolls = [Toll(V1_PER_SECOND, f"woox/{self.account}{OLD_FILLS}")]
        raws = self.door.get(OLD_FILLS, list[msgspec.Raw], tolls=tolls, query=urlencode(asked), auth=self.old_auth)
        return entries_of(raws, is_old=True)


def _page(entries: list[Entry], first: int, last: int, placeless: Sequence[Held] = ()) -> Page:
    """Rows of v3, and that they are all of [first, last] in ms."""
    rows = [*placeless, *(entry.row for entry in entries)]
    return Page(rows=rows, covered=Window(from_ms(first), from_ms(last + 1)))


def _later_start(start: int, last: int, answer: Answer) -> int:
    """Where the newer part of a span begins that gave too long an answer: its half or less, or at a crowded moment."""
    times = sorted(entry.ms for entry in answer.entries)
    if times and times[0] == times[-1]:
        return min(last, max(start + 1, times[0]))
    return min(last, max((start + last + 1) // 2, times[len(times) // 2] if times else 0))


def _goes_up(entries: list[Entry]) -> bool:
    """Whether these came by rising id; some of the answer before may stand at the beginning."""
    return sum(first.id > second.id for first, second in pairwise(entries)) <= 1


def entries_of(raws: Iterable[msgspec.Raw], *, is_old: bool) -> tuple[list[Entry], list[Held]]:
    """The rows, each once, and those that have no place among them."""
    placed: dict[int, Entry] = {}
    placeless = []
    for raw in raws:
        entry = _entry(raw, is_old=is_old)
        if isinstance(entry, Entry):
            placed[entry.id] = entry
        else:
            placeless.append(entry)
    return list(placed.values()), placeless


def _entry(raw: msgspec.Raw, *, is_old: bool) -> Entry | Held:
    row, why = None, ""
    place: Place | OldPlace
    try:
        try:
            place = row = (_OLD_FILL if is_old else _FILL).decode(raw)
        except msgspec.ValidationError as fault:
            why = str(fault)
            place = (_OLD_PLACE if is_old else _PLACE).decode(raw)
        ms = ms_of(place.executed_timestamp)
        at = moment(ms)
    except (msgspec.ValidationError, ValueError) as fault:
        return Held(_text(raw), f"without an id or a time: {fault}")
    if row is None:
        return Entry(place.id, ms, Held(_text(raw), why, at))
    try:
        return Entry(place.id, ms, outcome_of(row, at))
    except ValueError as fault:
        return Entry(place.id, ms, Held(_text(raw), str(fault), at))


def _text(raw: msgspec.Raw) -> str:
    return str(raw, "utf-8")


def ms_of(told: Decimal) -> int:
    """The docs say milliseconds, answers say seconds with decimals: the size tells. Raises ValueError."""
    check(told)
    return int(told.scaleb(3, EXACT) if told < FIRST_MS else told)


@lru_cache(1024)
def market_of(symbol: str) -> tuple[str, str] | Skipped:
    """Base and quote of a perpetual. Raises ValueError where the name does not tell."""
    market_type, _, rest = symbol.partition("_")
    base, _, quote = rest.partition("_")
    if market_type == "SPOT":
        return Skipped("spot")
    if market_type != "PERP" or not base or not quote or "_" in quote:
        raise ValueError(f"unknown market {symbol!r}")
    return base, quote


def outcome_of(row: FillRow | OldFillRow, at: datetime) -> FillReport | Skipped:
    """Raises ValueError for what is not understood."""
    market = market_of(row.symbol)
    if isinstance(market, Skipped):
        return market
    base, quote = market
    if row.side not in SIDES:
        raise ValueError(f"unknown side {row.side!r}")
    if row.is_maker not in LIQUIDITY:
        raise ValueError(f"isMaker is {row.is_maker!r}")
    price, qty = row.executed_price, row.executed_quantity
    check(price, qty, row.fee)
    if price <= ZERO or qty <= ZERO:
        raise ValueError("price or quantity is not above 0")
    pnl = _text(row.realized_pnl).strip('"')
    report = FillReport(
        fill_id=str(row.id),
        symbol=row.symbol,
        base=base,
        quote=quote,
        side=SIDES[row.side],
        liquidity=LIQUIDITY[row.is_maker],
        kind=Kind.RPI if row.is_match_rpi else Kind.TRADE,
        price=price,
        qty=qty,
        notional=EXACT.multiply(price, qty),
        fee=row.fee,
        fee_asset=row.fee_asset,
        realized_pnl=None if pnl in ("", "null") else number(pnl),
        executed_at=at,
    )
    if why := report.unfit():
        raise ValueError(why)
    return report
