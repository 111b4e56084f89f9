"""The one HTTP door to every venue: time-outs, budgets, retries with back-off, and our errors."""

import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from hashlib import sha256
from math import ceil, isfinite
from threading import Lock
from typing import Any, ClassVar, TypeVar

import httpx
import msgspec
from limits import RateLimitItem
from limits.storage import MemoryStorage, Storage
from limits.strategies import MovingWindowRateLimiter
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from exchanges.venues.base import (
    BudgetSpent,
    CredentialsRejected,
    PayloadError,
    Reason,
    Traffic,
    Venue,
    VenueUnavailable,
)

TIMEOUT = httpx.Timeout(15.0, connect=5.0)
ATTEMPTS = 5
FIRST_PAUSE = 1.0  # seconds; doubles with each attempt
LONGEST_PAUSE = 60.0
LONGEST_TOLD_PAUSE = 86_400.0
LONGEST_ANSWER = 45.0
CLOCK_TOLERANCE = 90.0
RATE_LIMIT_PAUSE = 10.0  # at most, after a first 429 that does not say how long; doubles with each attempt
SLACK = 0.15  # seconds by which two requests may differ in how long they travel
T = TypeVar("T")
TRANSIENT = frozenset({500, 502, 503, 504, 520, 521, 522, 523, 524})


class Budget:
    """What venues let all of us ask, shared by every worker that shares the storage.

    A scope is whatever the venue meters: an IP address, an account, an endpoint. `on_use` is told, of each request that
    may go, the namespace of a limit and which share of what is documented is used then.
    """

    def __init__(
        self,
        storage: Storage | None = None,
        *,
        share: float = 1.0,
        on_use: Callable[[str, float], None] = lambda namespace, share: None,
    ) -> None:
        self._storage = storage or MemoryStorage()
        self._limiter = MovingWindowRateLimiter(self._storage)
        # What the storage in memory does to clear up after itself fails where two threads begin with it at once.
        self._writing = Lock()
        self._share = share
        self._on_use = on_use

    def allowed(self, documented: RateLimitItem) -> int:
        """How much of what a venue allows we take."""
        return max(1, int(documented.amount * self._share))

    def _limit(self, documented: RateLimitItem) -> RateLimitItem:
        return type(documented)(self.allowed(documented), documented.multiples, namespace=documented.namespace)

    def seconds_until(self, documented: RateLimitItem, scope: str, cost: int) -> float:
        """How long until `cost` may be asked; 0 is now."""
        if pause := self.pause_left(scope):
            return pause
        limit = self._limit(documented)
        window = self._limiter.get_window_stats(limit, scope)
        cost = min(cost, limit.amount)
        if window.remaining >= cost:
            self._on_use(documented.namespace, (limit.amount - window.remaining + cost) / documented.amount)
            return 0.0
        # A request may have been on its way longer than the next one will be: the venue counts arrivals.
        return max(0.0, window.reset_time - time.time()) + SLACK

    def spend(self, documented: RateLimitItem, scope: str, cost: int) -> bool:
        """Take `cost`, or answer False and take nothing."""
        limit = self._limit(documented)
        with self._writing:
            return self._limiter.hit(limit, scope, cost=min(cost, limit.amount))

    def pause_left(self, scope: str) -> float:
        """How long nobody may ask within `scope`, in seconds; 0 is not at all."""
        return max(0.0, self._storage.get(f"pause/{scope}") / 1000 - time.time())

    def pause(self, scope: str, seconds: float) -> None:
        """Nobody asks within `scope` for so long: the venue told one of us to wait. A longer pause stays."""
        # The end itself is what is kept: how long a key still lives, Redis tells in whole seconds only.
        with self._writing:
            if self.pause_left(scope) >= seconds:
                return
            self._storage.clear(f"pause/{scope}")
            self._storage.incr(f"pause/{scope}", ceil(seconds) + 1, amount=ceil((time.time() + seconds) * 1000))


@dataclass(frozen=True, slots=True)
class Toll:
    """What a request costs: `entry` before it is sent, up to `rows` more when the answer turns out to be long."""

    limit: RateLimitItem
    scope: str
    entry: int = 1
    rows: int = 0


class TryAgain(Exception):
    """Worth another attempt; the text goes on after the venue's name.

    `pause` is the venue's own word on when, in seconds: until then nobody of us asks within `scope` (if not said, that
    of the request's first toll). `kind` is a word for whoever counts.
    """

    def __init__(self, what: str, *, pause: float | None = None, scope: str = "", kind: str = "trouble") -> None:
        super().__init__(what)
        self.pause = pause
        self.scope = scope
        self.kind = kind


class SlowDown(TryAgain):
    """We ask too much. Where the venue does not say until when, longer with each attempt."""

    def __init__(self, what: str = "asks us to slow down", *, pause: float | None = None, scope: str = "") -> None:
        super().__init__(what, pause=pause, scope=scope, kind="rate_limit")


class Refused(PayloadError):
    """The venue did not accept a request for a reason of which we know no better."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@cache
def trusted() -> ssl.SSLContext:
    """Whose certificates are believed. Read once in a process: that takes longer than most questions to a venue."""
    return httpx.create_ssl_context()


class Door:
    """Asks one venue, politely and as often as it takes. Several threads may.

    `patience` is the longest single wait, in seconds, that is slept through here; what needs longer is raised with
    `retry_in`, so that a worker can do something else meanwhile. `opener` takes an answer out of the venue's envelope,
    or raises what the answer says went wrong. `on_answer` is told how many seconds each request took, and the kind of
    what went wrong, if anything did.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        budget: Budget,
        patience: float,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        opener: Callable[[httpx.Response, bytes], bytes] | None = None,
        on_answer: Callable[[float, str], None] = lambda seconds, trouble: None,
    ) -> None:
        self.name = name
        self.traffic = Traffic()
        self.patience = patience
        self._budget = budget
        self._sleep = sleep
        self._opener = opener or self.plain
        self._on_answer = on_answer
        self._counting = Lock()
        self._turns: dict[str, float] = {}  # by scope: when the next request may be sent
        self._client = httpx.Client(
            base_url=base_url, transport=transport, timeout=TIMEOUT, headers={"User-Agent": "perpdash"},
            verify=trusted(),
        )  # fmt: skip

    def get(
        self,
        path: str,
        answer: type[T],
        *,
        tolls: Sequence[Toll],
        query: str = "",
        auth: httpx.Auth | None = None,
        host: str = "",
    ) -> T:
        """The decoded answer; `query` is sent as it stands, `auth` applied anew to each attempt.

        Raises VenueUnavailable after the last attempt, PayloadError for what is not `answer`, and what the opener does.
        """
        request = self._client.build_request("GET", f"{host}{path}?{query}" if query else f"{host}{path}")
        return self._ask(request, answer, tolls, auth=auth)

    def post(
        self,
        path: str,
        answer: type[T],
        *,
        tolls: Sequence[Toll],
        json: Any = None,
        auth: httpx.Auth | None = None,
        rows_cost: Callable[[T], int] | None = None,
    ) -> T:
        """The decoded answer; `auth` and failures as with `get`. `rows_cost` says what a long answer costs on top."""
        request = self._client.build_request("POST", path, json=json)
        return self._ask(request, answer, tolls, auth=auth, rows_cost=rows_cost)

    def close(self) -> None:
        self._client.close()

    def plain(self, response: httpx.Response, content: bytes) -> bytes:
        """What the HTTP status says, for answers without an envelope."""
        status = response.status_code
        if status == httpx.codes.TOO_MANY_REQUESTS:
            raise SlowDown(pause=retry_after(response))
        if status in TRANSIENT:
            raise TryAgain(f"has trouble of its own (HTTP {status})", pause=retry_after(response))
        if not response.is_success:
            # The body may echo what we sent, so it is not shown.
            raise Refused(
                f"{self.name} did not accept our request (HTTP {status}). Nothing is lost; look for an update.",
                status=status,
            )
        return content

    def check_clock(self, theirs: datetime) -> None:
        """With a wrong clock we would claim time as read that has not come yet: better to read nothing."""
        off = time.time() - theirs.timestamp()
        if abs(off) > CLOCK_TOLERANCE:
            way = "ahead" if off > 0 else "behind"
            by = f"{abs(off) / 60:.0f} minutes" if abs(off) >= 120 else f"{abs(off):.0f} seconds"
            raise VenueUnavailable(
                f"This machine's clock is {by} {way} of {self.name}'s. Set it right.", reason=Reason.CLOCK
            )

    def _ask(
        self,
        request: httpx.Request,
        answer: type[T],
        tolls: Sequence[Toll],
        *,
        auth: httpx.Auth | None = None,
        rows_cost: Callable[[T], int] | None = None,
    ) -> T:
        trouble = ""

        def note_trouble(state: RetryCallState) -> None:
            nonlocal trouble
            trouble = str(state.outcome.exception()) if state.outcome else ""
            with self._counting:
                self.traffic.retries += 1

        attempts = Retrying(
            stop=self._is_enough,
            retry=retry_if_exception_type(TryAgain),
            wait=self._pause_after,
            sleep=lambda seconds: self._wait(seconds, f"{self.name} {trouble}"),
            before_sleep=note_trouble,
            reraise=True,
        )
        try:
            for attempt in attempts:
                with attempt:
                    decoded = self._once(request, answer, tolls, auth, attempt.retry_state.attempt_number)
        except TryAgain as fault:
            raise VenueUnavailable(f"{self.name} {fault}.", retry_in=fault.pause) from None
        if rows_cost and (extra := rows_cost(decoded)):
            while not self._budget.spend(tolls[0].limit, tolls[0].scope, extra):
                self._wait(0.05, self._limit_words)
        return decoded

    def _once(
        self, request: httpx.Request, answer: type[T], tolls: Sequence[Toll], auth: httpx.Auth | None, number: int
    ) -> T:
        self._pay(tolls)
        with self._counting:
            self.traffic.requests += 1
        trouble, started = "", time.monotonic()
        try:
            return self._answered(request, answer, tolls, auth, number)
        except Exception as fault:
            trouble = kind_of(fault)
            raise
        finally:
            self._on_answer(time.monotonic() - started, trouble)

    def _answered(
        self, request: httpx.Request, answer: type[T], tolls: Sequence[Toll], auth: httpx.Auth | None, number: int
    ) -> T:
        try:
            response, content = self._send(request, auth)
            content.decode()
            if date := response.headers.get("Date"):
                with suppress(ValueError):
                    self.check_clock(parsedate_to_datetime(date))
            decoded = msgspec.json.decode(self._opener(response, content), type=answer)
        except httpx.TimeoutException:
            raise TryAgain("does not answer", kind="timeout") from None
        except httpx.RequestError:
            raise TryAgain("cannot be reached", kind="unreachable") from None
        except TryAgain as fault:
            if isinstance(fault, SlowDown) and fault.pause is None:
                fault.pause = min(RATE_LIMIT_PAUSE, tolls[0].limit.get_expiry()) * 2.0 ** (number - 1)
            if fault.pause:
                self._budget.pause(fault.scope or tolls[0].scope, fault.pause)
            raise
        except msgspec.ValidationError as fault:
            raise PayloadError(
                f"{self.name} answered in a form perpdash does not know ({fault}). Nothing is lost; look for an update."
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise TryAgain("sent something that is not its API's answer (broken or cut off)", kind="broken") from None
        return decoded

    def _pay(self, tolls: Sequence[Toll]) -> None:
        """Waits until every toll can be paid and nobody was told to keep quiet, then pays them all.

        One paid while another is waited for would be of an instant that is past when the request is sent. What was
        taken by one that came too late for the rest is lost: better to ask too little than too much.
        """
        while True:
            waits = [self._budget.seconds_until(toll.limit, toll.scope, toll.entry + toll.rows) for toll in tolls]
            if wait := max(waits):
                was_told = any(self._budget.pause_left(toll.scope) for toll in tolls)
                self._wait(wait, f"{self.name} said so" if was_told else self._limit_words)
            elif all(self._budget.spend(toll.limit, toll.scope, toll.entry) for toll in tolls):
                for toll in tolls:
                    self._keep_pace(toll)
                if not any(self._budget.pause_left(toll.scope) for toll in tolls):
                    return

    def _keep_pace(self, toll: Toll) -> None:
        """Spreads what may be asked in a second over that second, and a little more.

        A burst is drawn out on its way, and the venue, which counts arrivals, would find the next one too early.
        """
        if toll.limit.get_expiry() > 1:
            return
        gap = (1 + SLACK) / self._budget.allowed(toll.limit)
        with self._counting:
            now = time.time()
            turn = max(now, self._turns.get(toll.scope, 0.0))
            self._turns[toll.scope] = turn + gap
        if turn > now:
            self._sleep(turn - now)

    def _send(self, request: httpx.Request, auth: httpx.Auth | None) -> tuple[httpx.Response, bytes]:
        """The whole answer. A venue that sends it drop by drop must not hold a worker for ever."""
        deadline = time.monotonic() + LONGEST_ANSWER
        response = self._client.send(request, stream=True, auth=auth)
        try:
            chunks = []
            for chunk in response.iter_bytes():
                chunks.append(chunk)
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the answer takes too long", request=request)
        finally:
            response.close()
        return response, b"".join(chunks)

    def _pause_after(self, state: RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        if isinstance(fault, TryAgain) and fault.pause is not None:
            return fault.pause
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (state.attempt_number - 1))

    def _is_enough(self, state: RetryCallState) -> bool:
        return state.attempt_number >= ATTEMPTS or state.upcoming_sleep > self.patience

    def _wait(self, seconds: float, why: str) -> None:
        if seconds > self.patience:
            raise BudgetSpent(f"{self.name} lets us ask again in {ceil(seconds)} s.", retry_in=seconds)
        with self._counting:
            self.traffic.waited_seconds += seconds
            self.traffic.waits[why] = self.traffic.waits.get(why, 0.0) + seconds
        self._sleep(seconds)

    @property
    def _limit_words(self) -> str:
        return f"{self.name}'s rate limit"


class HttpVenue(Venue):
    """A venue behind a Door."""

    origin: ClassVar[str]  # scheme and host of the venue's API

    def __init__(
        self,
        credentials: Any,  # of credentials_type
        *,
        account_ref: str = "",
        base_url: str = "",
        budget: Budget | None = None,
        patience: float = 5.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        on_answer: Callable[[float, str], None] = lambda seconds, trouble: None,
    ) -> None:
        self.credentials = credentials
        # What is metered by account is shared under its name; before that is known, under one only this key has.
        self.account = account_ref or sha256(repr(astuple(credentials)).encode()).hexdigest()[:16]
        self.is_at_home = not base_url  # and not at a proxy or a sandbox, of whose environment we know nothing
        self.door = Door(
            self.name,
            base_url or self.home(),
            budget=budget or Budget(),
            patience=patience,
            transport=transport,
            sleep=sleep,
            opener=self.open_answer,
            on_answer=on_answer,
        )
        self.traffic = self.door.traffic

    def home(self) -> str:
        """The origin of this credential's own environment."""
        return self.origin

    def open_answer(self, response: httpx.Response, content: bytes) -> bytes:
        """What of an answer is to be decoded. Raises TryAgain, SlowDown or a VenueError for what it says went wrong."""
        return self.door.plain(response, content)

    def close(self) -> None:
        self.door.close()


def kind_of(fault: Exception) -> str:
    """A word for what went wrong with a request, of which there are few."""
    match fault:
        case TryAgain():
            return fault.kind
        case Refused():
            return "refused"
        case PayloadError():
            return "not_understood"
        case CredentialsRejected():
            return "rejected"
        case VenueUnavailable():
            return fault.reason or "trouble"
    return "fault"  # of ours


def retry_after(response: httpx.Response) -> float | None:
    """The Retry-After header in seconds, given as a number or as a date."""
    value = response.headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(LONGEST_TOLD_PAUSE, max(0.0, seconds)) if isfinite(seconds) else None
