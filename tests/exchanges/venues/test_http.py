"""The HTTP door: what it tries again, what it tells, how it keeps a budget."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from limits import RateLimitItemPerMinute

from exchanges.venues.base import PayloadError, VenueUnavailable
from exchanges.venues.http import Budget, Door, Toll

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


def door(script: Script, *, patience: float = 65, budget: Budget | None = None, sleep: Any = None) -> Door:
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

    doors = [door(note, budget=budget, sleep=clock.move) for _ in range(3)]  # type: ignore[arg-type]
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
