"""The one HTTP door to every venue: time-outs, budgets, retries with back-off, and our errors."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import ceil, isfinite
from typing import Any, Self, TypeVar

import httpx
import msgspec
from limits import RateLimitItem
from limits.storage import MemoryStorage, Storage
from limits.strategies import MovingWindowRateLimiter
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from exchanges.venues.base import BudgetSpent, PayloadError, Traffic, VenueUnavailable

TIMEOUT = httpx.Timeout(15.0, connect=5.0)
ATTEMPTS = 5
FIRST_PAUSE = 1.0  # seconds; doubles with each attempt
LONGEST_PAUSE = 60.0
LONGEST_TOLD_PAUSE = 86_400.0
LONGEST_ANSWER = 45.0
CLOCK_TOLERANCE = 90.0
RATE_LIMIT_PAUSE = 10.0  # after a 429 that does not say how long
T = TypeVar("T")
TRANSIENT = frozenset({500, 502, 503, 504, 520, 521, 522, 523, 524})


class Budget:
    """What venues let all of us ask, shared by every worker that shares the storage.

    A scope is whatever the venue meters: an IP address, an account, an endpoint.
    """

    def __init__(self, storage: Storage | None = None, *, share: float = 1.0) -> None:
        self._storage = storage or MemoryStorage()
        self._limiter = MovingWindowRateLimiter(self._storage)
        self._share = share

    def _limit(self, documented: RateLimitItem) -> RateLimitItem:
        amount = max(1, int(documented.amount * self._share))
        return type(documented)(amount, documented.multiples, namespace=documented.namespace)

    def seconds_until(self, documented: RateLimitItem, scope: str, cost: int) -> float:
        """How long until `cost` may be asked; 0 is now."""
        paused_until = self._storage.get_expiry(f"pause/{scope}") if self._storage.get(f"pause/{scope}") else 0.0
        if (pause := paused_until - time.time()) > 0:
            return pause
        limit = self._limit(documented)
        if self._limiter.test(limit, scope, cost=min(cost, limit.amount)):
            return 0.0
        return max(0.05, self._limiter.get_window_stats(limit, scope).reset_time - time.time())

    def spend(self, documented: RateLimitItem, scope: str, cost: int) -> bool:
        """Take `cost`, or answer False and take nothing."""
        limit = self._limit(documented)
        return self._limiter.hit(limit, scope, cost=min(cost, limit.amount))

    def pause(self, scope: str, seconds: float) -> None:
        """Nobody asks within `scope` for so long: the venue told one of us to wait. A longer pause stays."""
        if self._storage.get(f"pause/{scope}") and self._storage.get_expiry(f"pause/{scope}") >= time.time() + seconds:
            return
        self._storage.clear(f"pause/{scope}")
        self._storage.incr(f"pause/{scope}", max(1, ceil(seconds)))


@dataclass(frozen=True, slots=True)
class Toll:
    """What a request costs: `entry` before it is sent, up to `rows` more when the answer turns out to be long."""

    limit: RateLimitItem
    scope: str
    entry: int
    rows: int = 0


class _Transient(Exception):
    """Worth another attempt. `pause` is the venue's own word on when, in seconds."""

    def __init__(self, what: str, pause: float | None = None) -> None:
        super().__init__(what)
        self.pause = pause


class Door:
    """Asks one venue, politely and as often as it takes.

    `patience` is the longest single wait, in seconds, that is slept through here; what needs longer is raised with
    `retry_in`, so that a worker can do something else meanwhile.
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
    ) -> None:
        self.name = name
        self.traffic = Traffic()
        self._budget = budget
        self.patience = patience
        self._sleep = sleep
        self._client = httpx.Client(
            base_url=base_url, transport=transport, timeout=TIMEOUT, headers={"User-Agent": "perpdash"}
        )

    def post(
        self, path: str, json: Any, answer: type[T], *, toll: Toll, rows_cost: Callable[[T], int] | None = None
    ) -> T:
        """The decoded answer. Raises VenueUnavailable after the last attempt, PayloadError for what is not `answer`."""
        request = self._client.build_request("POST", path, json=json)
        return self._ask(request, answer, toll, rows_cost)

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: httpx.Request, answer: type[T], toll: Toll, rows_cost: Callable[[T], int] | None) -> T:
        attempts = Retrying(
            stop=self._is_enough,
            retry=retry_if_exception_type(_Transient),
            wait=self._pause_after,
            sleep=self._wait,
            before_sleep=self._count_retry,
            reraise=True,
        )
        try:
            decoded: T = attempts(self._once, request, answer, toll, rows_cost)
        except _Transient as fault:
            raise VenueUnavailable(f"{self.name} {fault}.", retry_in=fault.pause) from None
        return decoded

    def _once(self, request: httpx.Request, answer: type[T], toll: Toll, rows_cost: Callable[[T], int] | None) -> T:
        while (wait := self._budget.seconds_until(toll.limit, toll.scope, toll.entry + toll.rows)) > 0:
            self._wait(wait)
        while not self._budget.spend(toll.limit, toll.scope, toll.entry):
            self._wait(0.05)
        self.traffic.requests += 1
        try:
            response, content = self._send(request)
        except httpx.TimeoutException:
            raise _Transient("does not answer") from None
        except httpx.RequestError:
            raise _Transient("cannot be reached") from None
        self._check_clock(response)
        self._check(response, toll)
        try:
            decoded = msgspec.json.decode(content, type=answer)
        except msgspec.ValidationError as fault:
            raise PayloadError(
                f"{self.name} answered in a form perpdash does not know ({fault}). Nothing is lost; look for an update."
            ) from None
        except msgspec.DecodeError:
            raise _Transient("sent something that is not its API's answer (broken or cut off)") from None
        if rows_cost and (extra := rows_cost(decoded)):
            while not self._budget.spend(toll.limit, toll.scope, extra):
                self._wait(0.05)
        return decoded

    def _send(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        """The whole answer. A venue that sends it drop by drop must not hold a worker for ever."""
        deadline = time.monotonic() + LONGEST_ANSWER
        response = self._client.send(request, stream=True)
        try:
            chunks = []
            for chunk in response.iter_bytes():
                chunks.append(chunk)
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the answer takes too long", request=request)
        finally:
            response.close()
        return response, b"".join(chunks)

    def _check_clock(self, response: httpx.Response) -> None:
        """With a wrong clock we would claim time as read that has not come yet: better to read nothing."""
        try:
            theirs = parsedate_to_datetime(response.headers["Date"]).timestamp()
        except (KeyError, ValueError):
            return
        if abs(off := time.time() - theirs) > CLOCK_TOLERANCE:
            way = "ahead" if off > 0 else "behind"
            raise VenueUnavailable(
                f"This machine's clock is {abs(off) / 60:.0f} minutes {way} of {self.name}'s. Set it right."
            )

    def _check(self, response: httpx.Response, toll: Toll) -> None:
        status = response.status_code
        if status == httpx.codes.TOO_MANY_REQUESTS:
            pause = retry_after(response) or RATE_LIMIT_PAUSE
            self._budget.pause(toll.scope, pause)
            raise _Transient("asks us to slow down", pause)
        if status in TRANSIENT:
            raise _Transient(f"has trouble of its own (HTTP {status})", retry_after(response))
        if not response.is_success:
            # The body may echo what we sent, so it is not shown.
            raise PayloadError(
                f"{self.name} did not accept our request (HTTP {status}). Nothing is lost; look for an update."
            )

    def _pause_after(self, state: RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        if isinstance(fault, _Transient) and fault.pause is not None:
            return fault.pause
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (state.attempt_number - 1))

    def _is_enough(self, state: RetryCallState) -> bool:
        return state.attempt_number >= ATTEMPTS or state.upcoming_sleep > self.patience

    def _wait(self, seconds: float) -> None:
        if seconds > self.patience:
            raise BudgetSpent(f"{self.name} lets us ask again in {ceil(seconds)} s.", retry_in=seconds)
        self.traffic.waited_seconds += seconds
        self._sleep(seconds)

    def _count_retry(self, _: RetryCallState) -> None:
        self.traffic.retries += 1


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
