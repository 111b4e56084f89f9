"""What every sandbox venue has: a clock, a log of what it was asked, and the faults a test can order."""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import RLock
from typing import Any, ClassVar

import httpx

Handler = Callable[[httpx.Request], httpx.Response]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
LOG = 10_000  # requests remembered
BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


def utc_now() -> datetime:
    return datetime.now(UTC)


def to_ms(at: datetime) -> int:
    return (at - EPOCH) // MILLISECOND


def client_of(request: httpx.Request) -> str:
    """The address a request comes from."""
    return str(request.extensions.get("client", "127.0.0.1"))


@dataclass(slots=True)
class Fault:
    """What happens to requests instead of an answer; `left` is how often still, None = until healed."""

    act: Callable[[httpx.Request, Handler], httpx.Response]
    left: int | None


class SandboxVenue(ABC):
    """A venue as a function from request to response, in process or on loopback. Requests are answered one at a time.

    `latency` is what each answer takes on loopback, in seconds. A request may name its sender in
    `extensions["client"]`.
    """

    demo_accounts: ClassVar[tuple[tuple[str, dict[str, str]], ...]] = ()  # (label, secrets) the demo's owner holds
    unmetered: ClassVar[dict[str, Any]] = {}  # the options that lift the rate limits
    rate_limited: ClassVar[tuple[int, bytes]] = (429, b"")
    maintenance: ClassVar[tuple[int, bytes]] = (503, BAD_GATEWAY)

    def __init__(
        self, now: Callable[[], datetime] = utc_now, *, latency: float = 0.0, skew: timedelta = timedelta()
    ) -> None:
        self.now: Callable[[], datetime] = lambda: now() + skew  # `skew`: how far the venue's clock is ahead of ours
        self.latency = latency
        self.too_early = 0  # requests that came while their sender had been told to wait
        self._quiet_until: dict[str, datetime] = {}  # by sender
        self.requests: list[Any] = []
        self.calls: Counter[str] = Counter()  # by kind of request
        self.statuses: Counter[int] = Counter()  # of the answers; a request that got none is not counted
        self._faults: list[Fault] = []
        self._lock = RLock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """The answer, or the fault that is due: the first ordered comes first."""
        # What has arrived while another is being answered can't have known what that one will be told.
        is_early = self.now() < self._quiet_until.get(self.sender(request), EPOCH)
        with self._lock:
            self.too_early += is_early
            asked = self.decode(request)
            self.requests.append(asked)
            del self.requests[:-LOG]
            self.calls[self.kind(request, asked)] += 1
            fault = self._due()
            response = fault.act(request, self.answer) if fault else self.answer(request)
            self.statuses[response.status_code] += 1
            return response

    @abstractmethod
    def answer(self, request: httpx.Request) -> httpx.Response:
        """What the healthy venue says."""

    def decode(self, request: httpx.Request) -> Any:
        """What the log remembers of a request: its JSON body, else its body as text, else its target."""
        body = request.content.decode(errors="replace")
        try:
            return json.loads(body)
        except ValueError:
            return body or request.url.raw_path.decode()

    def kind(self, request: httpx.Request, asked: Any) -> str:
        return request.url.path

    def sender(self, request: httpx.Request) -> str:
        """Who is meant when a request is told to wait: its client, or an account where the venue counts by account."""
        return client_of(request)

    # Faults: each holds for `times` requests, None = until `heal`.

    def fail(
        self,
        status: int = 502,
        body: bytes = BAD_GATEWAY,
        headers: Mapping[str, str] | None = None,
        times: int | None = None,
    ) -> None:
        self._order(lambda request, answer: httpx.Response(status, headers=headers, content=body), times)

    def rate_limit(self, times: int | None = 1, *, retry_after: float | None = None) -> None:
        """Refuse as the venue refuses a client that asks too much, with or without saying for how long."""

        def act(request: httpx.Request, answer: Handler) -> httpx.Response:
            self.hush(request, retry_after or 0)
            status, body = self.rate_limited
            headers = {"content-type": "application/json"}
            if retry_after is not None:
                headers["retry-after"] = f"{retry_after:g}"
            return httpx.Response(status, headers=headers, content=body)

        self._order(act, times)

    def hush(self, request: httpx.Request, seconds: float) -> None:
        """The sender is told to wait: what it asks sooner is counted in `too_early`."""
        self._quiet_until[self.sender(request)] = self.now() + timedelta(seconds=seconds)

    def maintain(self, times: int | None = 1) -> None:
        """Answer as during maintenance."""
        status, body = self.maintenance
        self.fail(status, body, {"content-type": "application/json"}, times)

    def after(self, requests: int, act: Callable[[], None]) -> None:
        """Answer so many requests as usual, then do this before the next: revoke a key, end a token."""
        self._order(lambda request, answer: answer(request), requests)

        def then(request: httpx.Request, answer: Handler) -> httpx.Response:
            act()
            return answer(request)

        self._order(then, 1)

    def html(self, times: int | None = 1, status: int = 200) -> None:
        """A web page where JSON is expected."""
        self.fail(status, b"<!doctype html><title>Just a moment...</title>", {"content-type": "text/html"}, times)

    def truncate(self, times: int | None = 1) -> None:
        """Announce the whole answer and send half of it."""

        def half(request: httpx.Request, answer: Handler) -> httpx.Response:
            whole = answer(request)
            content = whole.content[: len(whole.content) // 2]
            return httpx.Response(whole.status_code, headers=whole.headers, content=content)

        self._order(half, times)

    def hang_up(self, times: int | None = 1) -> None:
        def act(request: httpx.Request, answer: Handler) -> httpx.Response:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)

        self._order(act, times)

    def time_out(self, times: int | None = 1) -> None:
        def act(request: httpx.Request, answer: Handler) -> httpx.Response:
            raise httpx.ReadTimeout("The read operation timed out", request=request)

        self._order(act, times)

    def heal(self) -> None:
        with self._lock:
            self._faults.clear()

    def _order(self, act: Callable[[httpx.Request, Handler], httpx.Response], times: int | None) -> None:
        with self._lock:
            self._faults.append(Fault(act, times))

    def _due(self) -> Fault | None:
        while self._faults:
            fault = self._faults[0]
            if fault.left is None:
                return fault
            fault.left -= 1
            if fault.left >= 0:
                return fault
            self._faults.pop(0)
        return None
