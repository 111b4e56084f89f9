"""Windows fetched several at a time: as many as the venue takes, their pages in order, and an end that is quick."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import chain
from threading import Barrier, Event, Lock, current_thread, main_thread
from typing import Any

import pytest

from exchanges import fetching
from exchanges.fetching import fetched
from exchanges.sync import Step
from exchanges.venues.base import (
    Credentials,
    CredentialsRejected,
    Identity,
    Page,
    Reason,
    Row,
    Skipped,
    Stream,
    Venue,
    VenueUnavailable,
    Window,
)

STREAM = Stream(name="fills")
START = datetime(2026, 11, 1, tzinfo=UTC)
SOON = 5.0  # seconds in which what should happen at once has happened
Steps = Callable[[Sequence[Step]], Step | None]


def step(number: int) -> Step:
    since = START + timedelta(days=number)
    return Step(STREAM, Window(since, since + timedelta(days=1)), is_older=True)


def number_of(window: Window) -> int:
    return (window.since - START).days


class Stage(Venue):
    """A venue whose every window plays the same scene, given its number."""

    slug, name, credentials_type, streams = "stage", "Stage", Credentials, (STREAM,)
    key_steps, memory_note = (), ""

    def __init__(self, scene: Callable[[int], Iterator[Page]], *, in_flight: int) -> None:
        self.scene = scene
        self.in_flight = in_flight  # type: ignore[misc]
        self.lock = Lock()
        self.on_stage = self.most_on_stage = 0
        self.begun: list[int] = []
        self.left: list[int] = []
        self.threads: set[Any] = set()

    def fetch_fills(self, stream: Stream, window: Window) -> Iterator[Page]:
        number = number_of(window)
        with self.lock:
            self.threads.add(current_thread())
            self.begun.append(number)
            self.on_stage += 1
            self.most_on_stage = max(self.most_on_stage, self.on_stage)
        try:
            yield from self.scene(number)
        finally:
            with self.lock:
                self.on_stage -= 1
                self.left.append(number)

    def identify(self) -> Identity:
        raise NotImplementedError

    def parse_held(self, stream: str, row: str) -> Row:
        raise NotImplementedError

    def close(self) -> None:
        pass


def handed_out(count: int) -> Steps:
    """Hands out so many steps, one after the other."""
    numbers = iter(range(count))
    return lambda under_way: next((step(number) for number in numbers), None)


def page(number: int) -> Page:
    return Page(rows=[Skipped(str(number))])


def pages(*names: int) -> Callable[[int], Iterator[Page]]:
    return lambda number: iter([page(name) for name in names])


def number_in(found: Page | None) -> int | None:
    if found is None:
        return None
    (row,) = found.rows
    assert isinstance(row, Skipped)
    return int(row.kind)


def played(venue: Venue, next_step: Steps, **options: Any) -> list[tuple[int, int | None]]:
    """(which step, which of its pages or None for its end), as they were handed over."""
    arrivals = chain.from_iterable(fetched(venue, next_step, **options))
    return [(number_of(taken.window), number_in(found)) for taken, found in arrivals]


def until(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SOON
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.005)
    return is_so()


def test_windows_in_flight_are_fetched_at_the_same_time() -> None:
    meeting = Barrier(4)

    def scene(number: int) -> Iterator[Page]:
        meeting.wait(SOON)  # breaks unless all four are here at once
        yield page(number)

    venue = Stage(scene, in_flight=4)
    assert sorted(played(venue, handed_out(8)), key=str) == sorted(
        [item for number in range(8) for item in ((number, number), (number, None))], key=str
    )
    assert venue.most_on_stage == 4


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_there_are_never_more_in_flight_than_the_venue_takes(in_flight: int) -> None:
    def scene(number: int) -> Iterator[Page]:
        for _ in range(3):
            time.sleep(0.002)
            yield page(number)

    venue = Stage(scene, in_flight=in_flight)
    assert len(played(venue, handed_out(25))) == 100
    assert venue.most_on_stage <= in_flight
    assert venue.begun == list(range(25)) or in_flight > 1


def test_when_there_is_no_more_to_hand_out_it_is_asked_for_again_only_once_a_step_has_ended() -> None:
    asked: list[int] = []
    hand_out = handed_out(2)

    def next_step(under_way: Sequence[Step]) -> Step | None:
        asked.append(len(under_way))
        return hand_out(under_way)

    assert len(played(Stage(pages(*range(9)), in_flight=4), next_step)) == 20
    assert asked == [0, 1, 2, 1, 0]


@pytest.mark.parametrize("in_flight", [1, 3])
def test_the_pages_of_a_step_come_in_its_order_and_then_its_end(in_flight: int) -> None:
    found: dict[int, list[int | None]] = defaultdict(list)
    for number, name in played(Stage(pages(*range(20)), in_flight=in_flight), handed_out(9)):
        found[number].append(name)
    assert found == {number: [*range(20), None] for number in range(9)}


def test_a_quick_step_does_not_wait_for_a_slow_one() -> None:
    is_over = Event()

    def scene(number: int) -> Iterator[Page]:
        if number == 0:
            assert is_over.wait(SOON)
        yield page(number)

    seen = []
    for taken, found in chain.from_iterable(fetched(Stage(scene, in_flight=2), handed_out(4))):
        seen.append((number_of(taken.window), number_in(found)))
        if len(seen) == 6:
            is_over.set()
    assert seen == [(1, 1), (1, None), (2, 2), (2, None), (3, 3), (3, None), (0, 0), (0, None)]


@pytest.mark.parametrize(
    "fault", [VenueUnavailable("Down."), CredentialsRejected(Reason.EXPIRED, "Old."), KeyError("x")]
)
@pytest.mark.parametrize("in_flight", [1, 3])
def test_what_a_step_raises_is_raised_to_the_reader_and_the_others_are_left(fault: Exception, in_flight: int) -> None:
    never = Event()

    def scene(number: int) -> Iterator[Page]:
        yield page(number)
        if number == 0:
            raise fault
        never.wait(SOON * 10)  # as long as a venue may take to answer

    venue, seen = Stage(scene, in_flight=in_flight), list[tuple[int, int | None]]()

    def read() -> None:
        for taken, found in chain.from_iterable(fetched(venue, handed_out(9))):
            seen.append((number_of(taken.window), number_in(found)))

    started = time.monotonic()
    with pytest.raises(type(fault)) as told:
        read()
    assert time.monotonic() - started < SOON
    assert told.value is fault
    assert (0, 0) in seen
    assert (0, None) not in seen
    assert len(venue.begun) == in_flight  # and nothing more was begun
    never.set()
    assert until(lambda: venue.on_stage == 0)


def test_an_error_before_the_first_page_is_raised_too() -> None:
    def scene(number: int) -> Iterator[Page]:
        raise VenueUnavailable("Down.")
        yield page(number)

    with pytest.raises(VenueUnavailable, match="Down"):
        played(Stage(scene, in_flight=3), handed_out(9))


def test_what_next_step_raises_ends_the_reading() -> None:
    def next_step(under_way: Sequence[Step]) -> Step | None:
        if under_way:
            raise KeyError("the ledger")
        return step(0)

    venue = Stage(pages(*range(50)), in_flight=3)
    with pytest.raises(KeyError, match="the ledger"):
        played(venue, next_step)
    assert until(lambda: venue.on_stage == 0)


def test_closing_stops_the_threads_soon() -> None:
    """Also those that wait to hand over a page nobody takes any more."""

    def scene(number: int) -> Iterator[Page]:
        while True:
            yield page(number)

    venue = Stage(scene, in_flight=4)
    with closing(fetched(venue, handed_out(9))) as found:
        next(found)
        assert until(lambda: venue.on_stage == 4)
    assert until(lambda: not any(thread.is_alive() for thread in venue.threads))
    assert sorted(venue.begun) == [0, 1, 2, 3]


def test_a_reader_that_is_slow_is_not_run_over() -> None:
    """Pages wait at the venue's door, not in our memory."""
    yielded = [0]

    def scene(number: int) -> Iterator[Page]:
        for name in range(1000):
            with venue.lock:
                yielded[0] += 1
            yield page(name)

    venue = Stage(scene, in_flight=3)
    with closing(fetched(venue, handed_out(9))) as found:
        taken = sum(len(next(found)) for _ in range(10))
        time.sleep(0.3)
        assert yielded[0] <= taken + 3 + 3


def test_short_pages_that_arrive_at_once_are_handed_over_together() -> None:
    together = [len(found) for found in fetched(Stage(pages(*range(100)), in_flight=2), handed_out(2))]
    assert sum(together) == 202
    assert max(together) <= fetching.MOST_ROWS / fetching.LEAST_ROWS
    assert len(together) <= 8


def test_nobody_waits_long_for_what_has_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TOGETHER", 0.05)
    is_stored = Event()

    def scene(number: int) -> Iterator[Page]:
        yield page(1)
        assert is_stored.wait(SOON)
        yield page(2)

    for found in fetched(Stage(scene, in_flight=2), handed_out(1)):
        assert len(found) < 3
        is_stored.set()


def test_what_arrived_before_a_fault_is_handed_over_before_it_is_raised() -> None:
    def scene(number: int) -> Iterator[Page]:
        yield page(1)
        yield page(2)
        raise VenueUnavailable("Down.")

    seen: list[int | None] = []
    arrivals = chain.from_iterable(fetched(Stage(scene, in_flight=2), handed_out(1)))
    with pytest.raises(VenueUnavailable):
        seen.extend(number_in(found) for _, found in arrivals)
    assert seen == [1, 2]


@pytest.mark.parametrize("in_flight", [1, 3])
def test_next_step_is_told_what_is_under_way_and_a_settled_step_is_no_longer_among_it(in_flight: int) -> None:
    settled: set[int] = set()
    taken: list[int] = []

    def next_step(under_way: Sequence[Step]) -> Step | None:
        numbers = [number_of(one.window) for one in under_way]
        assert len(numbers) < in_flight
        assert not settled & set(numbers)
        assert set(taken) == settled | set(numbers)  # what is neither is lost, or would be read twice
        if len(taken) == 10:
            return None
        taken.append(len(taken))
        return step(taken[-1])

    for item, found in chain.from_iterable(fetched(Stage(pages(1, 2), in_flight=in_flight), next_step)):
        if found is None:
            settled.add(number_of(item.window))
    assert settled == set(range(10))


def test_a_step_is_under_way_until_its_end_was_dealt_with() -> None:
    """The reader writes the ledger when it is given the end of a step: asked sooner, the ledger would not know it."""
    dealt_with: set[int] = set()

    def next_step(under_way: Sequence[Step]) -> Step | None:
        wanted = {0, 1, 2, 3} - dealt_with - {number_of(one.window) for one in under_way}
        return step(min(wanted)) if wanted else None

    venue = Stage(pages(1), in_flight=2)
    for item, found in chain.from_iterable(fetched(venue, next_step)):
        time.sleep(0.005)
        if found is None:
            dealt_with.add(number_of(item.window))
    assert sorted(venue.begun) == [0, 1, 2, 3]


def test_who_waits_for_a_page_is_given_a_word_now_and_then() -> None:
    words, reader, is_said = list[float](), current_thread(), Event()

    def scene(number: int) -> Iterator[Page]:
        assert is_said.wait(fetching.WAIT * 2)
        yield page(number)

    def say() -> None:
        assert current_thread() is reader
        words.append(time.monotonic())
        is_said.set()

    started = time.monotonic()
    assert played(Stage(scene, in_flight=2), handed_out(1), while_waiting=say) == [(0, 0), (0, None)]
    assert [round(word - started) for word in words] == [fetching.WAIT]


def test_one_in_flight_uses_no_thread() -> None:
    venue = Stage(pages(1, 2), in_flight=1)
    played(venue, handed_out(3))
    assert venue.threads == {current_thread()} == {main_thread()}


def test_threads_do_not_keep_the_process_alive() -> None:
    venue = Stage(pages(1), in_flight=2)
    played(venue, handed_out(4))
    assert venue.threads
    assert all(thread.daemon for thread in venue.threads)


@pytest.mark.parametrize("in_flight", [1, 4])
def test_nothing_to_do_is_nothing_done(in_flight: int) -> None:
    assert played(Stage(pages(1), in_flight=in_flight), handed_out(0)) == []
