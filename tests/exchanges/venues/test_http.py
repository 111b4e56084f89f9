"""The HTTP door: what it tries again, what it tells, how it keeps a budget."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest
from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import MemoryStorage

from exchanges.venues.base import (
    BudgetSpent,
    CredentialsRejected,
    PayloadError,
    Reason,
    VenueError,
    VenueUnavailable,
)
from exchanges.venues.http import Budget, Door, Refused, SlowDown, Toll, TryAgain

TOLL = Toll(RateLimitItemPerMinute(100, namespace="test"), "test/ip", entry=10)
Answer = Callable[[httpx.Request], httpx.Response]


class Script:
    """A venue that answers what it is told, one after the other, the last one for ever."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.asked = list(answers), 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


def door(script: Answer, *, patience: float = 65, budget: Budget | None = None, sleep: Any = None) -> Door:
    return Door(
        "Venue", "https://venue.test", budget=budget or Budget(), patience=patience,
        transport=httpx.MockTransport(script), sleep=sleep or (lambda seconds: None),
    )  # fmt: skip


def ask(opened: Door, answer: Any = list[int]) -> Any:
    return opened.post("/", answer, tolls=[TOLL], json={})


GOOD = httpx.Response(200, json=[1])


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(500, text="<html>"), httpx.Response(502), httpx.Response(503), httpx.Response(504),
        httpx.ConnectError("no"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut"),
        httpx.Response(200, text="<!doctype html><title>wait</title>"), httpx.Response(200, text="[1"),
    ],
)  # fmt: skip
def test_trouble_that_passes_is_tried_again(trouble: Any) -> None:
    script = Script(trouble, trouble, GOOD)
    opened = door(script)
    assert ask(opened) == [1]
    assert (opened.traffic.requests, opened.traffic.retries) == (3, 2)
    assert opened.traffic.waited_seconds > 0


def test_trouble_that_stays_is_told_after_some_attempts() -> None:
    script = Script(httpx.Response(502, text="<html>secret</html>"))
    with pytest.raises(VenueUnavailable, match=r"Venue has trouble of its own \(HTTP 502\)\.") as told:
        ask(door(script))
    assert script.asked == 5
    assert "secret" not in str(told.value)


def test_half_a_body_that_stays_is_told() -> None:
    with pytest.raises(VenueUnavailable, match="broken or cut off"):
        ask(door(Script(httpx.Response(200, text="[1, 2"))))


def test_an_answer_of_another_form_is_not_tried_again() -> None:
    script = Script(httpx.Response(200, json={"rows": []}))
    with pytest.raises(PayloadError, match="form perpdash does not know"):
        ask(door(script))
    assert script.asked == 1


def test_a_refusal_is_not_tried_again_and_its_body_is_not_shown() -> None:
    script = Script(httpx.Response(422, text="you sent 0xsecret"))
    with pytest.raises(PayloadError) as told:
        ask(door(script))
    assert script.asked == 1
    assert "secret" not in str(told.value)


def test_a_429_that_says_how_long_is_obeyed(clock: Any) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.move(seconds)

    assert ask(door(Script(httpx.Response(429, headers={"Retry-After": "7"}), GOOD), sleep=sleep)) == [1]
    assert sum(waits) >= 7


def test_a_429_without_retry_after_waits_ten_seconds(clock: Any) -> None:
    started = datetime.now(UTC)
    assert ask(door(Script(httpx.Response(429, text="null"), GOOD), sleep=clock.move)) == [1]
    assert (datetime.now(UTC) - started).total_seconds() >= 10


def test_retry_after_may_be_a_date(clock: Any) -> None:
    started = datetime.now(UTC)
    refusal = httpx.Response(429, headers={"Retry-After": "Sat, 21 Nov 2026 12:00:20 GMT"})
    assert ask(door(Script(refusal, GOOD), sleep=clock.move)) == [1]
    assert (datetime.now(UTC) - started).total_seconds() >= 20


def test_while_one_was_told_to_wait_no_other_asks(clock: Any) -> None:
    budget = Budget()
    script = Script(httpx.Response(429, headers={"Retry-After": "30"}), GOOD)
    with pytest.raises(VenueUnavailable) as told:
        ask(door(script, budget=budget, patience=5))
    assert told.value.retry_in == 30
    with pytest.raises(VenueUnavailable):
        ask(door(script, budget=budget, patience=5))
    assert script.asked == 1
    clock.move(31)
    assert ask(door(script, budget=budget, patience=5)) == [1]


def test_a_budget_is_never_exceeded_and_shared_by_all_doors(clock: Any) -> None:
    budget, sent = Budget(), []

    def note(request: httpx.Request) -> httpx.Response:
        sent.append(datetime.now(UTC))
        return GOOD

    doors = [door(note, budget=budget, sleep=clock.move) for _ in range(3)]
    for turn in range(45):
        ask(doors[turn % 3])
    for index in range(len(sent) - 10):
        assert (sent[index + 10] - sent[index]).total_seconds() >= 59.9  # ten requests of 10 a minute


def test_a_share_of_the_budget_leaves_the_rest_to_others(clock: Any) -> None:
    opened = door(Script(GOOD), budget=Budget(share=0.2), sleep=clock.move)
    started = datetime.now(UTC)
    for _ in range(3):
        ask(opened)
    assert (datetime.now(UTC) - started).total_seconds() >= 59


def test_a_wait_beyond_ones_patience_is_told_instead_of_slept(clock: Any) -> None:
    opened = door(Script(GOOD), budget=Budget(share=0.1), patience=5, sleep=clock.move)
    ask(opened)
    with pytest.raises(VenueUnavailable, match="lets us ask again in") as told:
        ask(opened)
    assert told.value.retry_in is not None
    assert 5 < told.value.retry_in <= 61


def test_rows_are_paid_for_once_they_are_counted(clock: Any) -> None:
    budget = Budget()
    opened = door(Script(httpx.Response(200, json=list(range(80)))), budget=budget, sleep=clock.move)
    opened.post("/", list[int], tolls=[Toll(TOLL.limit, TOLL.scope, entry=10, rows=90)], json={}, rows_cost=len)
    assert budget.seconds_until(TOLL.limit, TOLL.scope, 10) == 0
    assert budget.seconds_until(TOLL.limit, TOLL.scope, 11) > 0


# --- Several tolls, several askers -----------------------------------------------------------------------------------


class Log:
    """A venue that says yes and notes when it was asked what."""

    def __init__(self, answer: Answer = lambda request: httpx.Response(200, json=[1])) -> None:
        self.answer = answer
        self.requests: list[tuple[float, httpx.Request]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        # As it is now: the next attempt is the same object with other headers.
        self.requests.append((time.time(), httpx.Request(request.method, request.url, headers=request.headers)))
        return self.answer(request)

    def most_within(self, seconds: float, account: str = "") -> int:
        """The most requests that arrived in any span of so many seconds."""
        times = [at for at, request in self.requests if request.url.path.startswith(f"/{account}")]
        return max(sum(start <= at < start + seconds for at in times) for start in times)


def tolls_of(account: str, *, per_second: int, per_minute: int, per_ip: int) -> list[Toll]:
    return [
        Toll(RateLimitItemPerSecond(per_second, namespace="test"), f"test/{account}"),
        Toll(RateLimitItemPerMinute(per_minute, namespace="test"), f"test/{account}"),
        Toll(RateLimitItemPerMinute(per_ip, namespace="test"), "test/ip"),
    ]


def test_every_toll_of_a_request_is_paid(clock: Any) -> None:
    budget, tolls = Budget(), tolls_of("a", per_second=2, per_minute=3, per_ip=4)
    opened = door(Script(GOOD), budget=budget)
    for left in (True, False):
        assert all((budget.seconds_until(toll.limit, toll.scope, toll.limit.amount) == 0) == left for toll in tolls)
        opened.get("/a", list[int], tolls=tolls)


def test_no_limit_is_exceeded_where_several_hold_at_once(clock: Any) -> None:
    log, budget, limits = Log(), Budget(), {"per_second": 3, "per_minute": 20, "per_ip": 30}
    doors = {account: door(log, budget=budget, sleep=clock.move) for account in "abc"}
    started = time.time()
    for turn in range(120):
        account = "aabac"[turn % 5]
        doors[account].get(f"/{account}", list[int], tolls=tolls_of(account, **limits))
        clock.move(0.07)
    assert len(log.requests) == 120
    assert log.most_within(60) <= 30
    for account in "abc":
        assert log.most_within(1, account) <= 3
        assert log.most_within(60, account) <= 20
    assert time.time() - started < 260  # and not much is left unused: four minutes are needed


def test_a_toll_is_of_the_instant_a_request_is_sent_not_of_when_it_began_to_wait(clock: Any) -> None:
    """The first toll was free at once, the last one only in a minute: by then the first is due anew."""
    log, budget, limits = Log(), Budget(), {"per_second": 1, "per_minute": 100, "per_ip": 4}
    for account in ("b", "c", "d", "a", "a", "a", "a"):
        opened = door(log, budget=budget, sleep=clock.move)
        opened.get(f"/{account}", list[int], tolls=tolls_of(account, **limits))
    assert log.most_within(1, "a") == 1


def test_no_limit_is_exceeded_by_eight_threads() -> None:
    log, budget = Log(), Budget()
    limits = {"per_second": 10, "per_minute": 25, "per_ip": 1000}

    def ask_some(number: int) -> int:
        opened, done = door(log, budget=budget, sleep=time.sleep, patience=1.5), 0
        for _ in range(5):
            try:
                opened.get("/a", list[int], tolls=tolls_of("a", **limits))
            except BudgetSpent:  # the minute's are used up
                break
            done += 1
        return done

    with ThreadPoolExecutor(8) as pool:
        done = sum(pool.map(ask_some, range(8)))
    assert done == len(log.requests) <= 25
    assert log.most_within(0.99) <= 10
    assert done >= 20  # those who came too late for one toll lost little


def paused() -> Log:
    """A venue that asks for quiet once."""

    def opener(request: httpx.Request) -> httpx.Response:
        return httpx.Response(429, headers={"Retry-After": "7"}) if len(log.requests) == 1 else GOOD

    log = Log(opener)
    return log


def opening(
    log: Log, budget: Budget, *, scope: str = "", sleep: Any = None, patience: float = 65, pause: float = 7
) -> Door:
    """A door whose venue says within which scope it wants quiet."""

    def opener(response: httpx.Response, content: bytes) -> bytes:
        if response.status_code == 429:
            raise SlowDown(pause=pause, scope=scope)
        return content

    return Door(
        "Venue", "https://venue.test", budget=budget, patience=patience, transport=httpx.MockTransport(log),
        sleep=sleep or (lambda seconds: None), opener=opener,
    )  # fmt: skip


LIMITS = {"per_second": 1000, "per_minute": 1000, "per_ip": 1000}


@pytest.mark.parametrize(("scope", "others_wait"), [("", False), ("test/a", False), ("test/ip", True)])
def test_a_venue_that_asks_for_quiet_is_obeyed_by_all_it_means_and_by_no_others(
    clock: Any, scope: str, others_wait: bool
) -> None:
    log, budget = paused(), Budget()
    with pytest.raises(VenueUnavailable) as told:
        opening(log, budget, scope=scope, patience=5).get("/a", list[int], tolls=tolls_of("a", **LIMITS))
    assert told.value.retry_in == 7
    for account, must_wait in (("a", True), ("b", others_wait)):
        before = len(log.requests)
        if must_wait:
            with pytest.raises(BudgetSpent):
                opening(log, budget, patience=5).get(f"/{account}", list[int], tolls=tolls_of(account, **LIMITS))
        else:
            opening(log, budget, patience=5).get(f"/{account}", list[int], tolls=tolls_of(account, **LIMITS))
        assert len(log.requests) == before + (not must_wait)
    clock.move(8)
    assert opening(log, budget, patience=5).get("/a", list[int], tolls=tolls_of("a", **LIMITS)) == [1]


def test_eight_threads_ask_nothing_while_they_are_told_to_wait() -> None:
    log, budget = paused(), Budget()
    with pytest.raises(VenueUnavailable):
        opening(log, budget, scope="test/ip", pause=2, patience=1).get("/a", list[int], tolls=tolls_of("a", **LIMITS))
    told_at = time.time()

    def ask_one(number: int) -> list[int]:
        account = f"account{number}"
        opened = opening(log, budget, sleep=time.sleep, patience=5)
        return opened.get(f"/{account}", list[int], tolls=tolls_of(account, **LIMITS))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask_one, range(8))) == [[1]] * 8
    assert min(at for at, _ in log.requests[1:]) - told_at >= 1.9


def test_a_pause_that_begins_while_others_wait_for_their_turn_holds_for_them_too(clock: Any) -> None:
    """Told to wait in the very moment the toll came free: neither asked nor, afterwards, too many at once."""
    log, budget = Log(), Budget()
    tolls = tolls_of("a", per_second=1000, per_minute=1, per_ip=1000)

    def sleep(seconds: float) -> None:
        clock.move(seconds)
        if len(naps) < 1:
            naps.append(seconds)
            budget.pause("test/a", 100)

    naps: list[float] = []
    opened = door(log, budget=budget, sleep=sleep, patience=200)
    opened.get("/a", list[int], tolls=tolls)
    started = time.time()
    opened.get("/a", list[int], tolls=tolls)
    assert time.time() - started >= 160
    opened.get("/a", list[int], tolls=tolls)
    assert log.most_within(60) == 1


# --- Get, the opener, and who asks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", ["cursor=a%3Ab%2Cc%3D%3D&limit=1", "b=2&a=1&a=3", "empty=&x=1,2:3;4", "plus=a+b&tilde=~", "c=%25%32%42"]
)
def test_the_query_is_sent_as_it_stands(query: str) -> None:
    log = Log()
    door(log).get("/list", list[int], tolls=[TOLL], query=query)
    assert log.requests[0][1].url.raw_path.decode() == f"/list?{query}"


def test_without_a_query_there_is_no_question_mark_and_another_host_may_be_asked() -> None:
    log = Log()
    door(log).get("/list", list[int], tolls=[TOLL], host="https://elsewhere.test")
    request = log.requests[0][1]
    assert (request.method, str(request.url)) == ("GET", "https://elsewhere.test/list")


def with_opener(script: Script, opener: Any, **options: Any) -> Door:
    return Door(
        "Venue", "https://venue.test", budget=Budget(), patience=65, transport=httpx.MockTransport(script),
        sleep=lambda seconds: None, opener=opener, **options,
    )  # fmt: skip


def test_what_the_opener_takes_out_of_the_envelope_is_decoded() -> None:
    opened = with_opener(Script(GOOD), lambda response, content: b"[7]")
    assert opened.get("/", list[int], tolls=[TOLL]) == [7]


@pytest.mark.parametrize(
    "fault",
    [
        CredentialsRejected(Reason.EXPIRED, "Too old."), PayloadError("What is this?"),
        VenueUnavailable("Not now.", reason=Reason.CLOCK), Refused("No.", status=400),
    ],
)  # fmt: skip
def test_what_the_opener_raises_goes_up_as_it_is_after_one_attempt(fault: VenueError) -> None:
    def opener(response: httpx.Response, content: bytes) -> bytes:
        raise fault

    script = Script(GOOD)
    with pytest.raises(type(fault)) as told:
        with_opener(script, opener).get("/", list[int], tolls=[TOLL])
    assert told.value is fault
    assert script.asked == 1


def test_what_the_opener_wants_tried_again_is_tried_again_and_told_in_the_end() -> None:
    def opener(response: httpx.Response, content: bytes) -> bytes:
        if len(content) < 4:
            raise TryAgain("is not in the mood", pause=0.0)
        return content

    assert with_opener(Script(GOOD, httpx.Response(200, json=[1, 2])), opener).get("/", list[int], tolls=[TOLL]) == [
        1,
        2,
    ]
    script = Script(GOOD)
    with pytest.raises(VenueUnavailable, match=r"^Venue is not in the mood\.$") as told:
        with_opener(script, opener).get("/", list[int], tolls=[TOLL])
    assert (script.asked, told.value.retry_in) == (5, 0.0)


def test_half_an_envelope_is_tried_again() -> None:
    script = Script(httpx.Response(200, text='{"result": [1'), httpx.Response(200, text='{"result": [1]}'))

    def opener(response: httpx.Response, content: bytes) -> bytes:
        return bytes(msgspec.json.decode(content, type=dict[str, msgspec.Raw])["result"])

    assert with_opener(script, opener).get("/", list[int], tolls=[TOLL]) == [1]
    assert script.asked == 2


class Counting(httpx.Auth):
    """Signs with a number that is never used twice."""

    def __init__(self, *faults: Exception) -> None:
        self.faults, self.used = list(faults), 0

    def auth_flow(self, request: httpx.Request) -> Any:
        self.used += 1
        if self.faults:
            raise self.faults.pop(0)
        request.headers["X-Sign"] = str(self.used)
        yield request


@pytest.mark.parametrize("way", ["get", "post"])
def test_each_attempt_is_signed_anew(way: str) -> None:
    log = Log(lambda request: httpx.Response(502) if len(log.requests) < 3 else GOOD)
    getattr(door(log), way)("/", list[int], tolls=[TOLL], auth=Counting())
    assert [request.headers.get_list("X-Sign") for _, request in log.requests] == [["1"], ["2"], ["3"]]


def test_what_signing_raises_goes_up_and_nothing_is_sent() -> None:
    log, fault = Log(), CredentialsRejected(Reason.WRONG_KEY, "No such key.")
    with pytest.raises(CredentialsRejected) as told:
        door(log).get("/", list[int], tolls=[TOLL], auth=Counting(fault))
    assert told.value is fault
    assert not log.requests


def test_threads_spend_a_budget_one_after_the_other() -> None:
    """The storage in memory starts a thread that clears up, and fails where two start it at once."""
    inside, met = [], []

    class Watched(MemoryStorage):
        def acquire_entry(self, *args: Any, **kwargs: Any) -> bool:
            inside.append(args)
            time.sleep(0.001)
            met.append(len(inside))
            inside.pop()
            return super().acquire_entry(*args, **kwargs)

    budget = Budget(Watched())
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: budget.spend(TOLL.limit, TOLL.scope, 1), range(120)))
    assert taken.count(True) == 100
    assert set(met) == {1}
