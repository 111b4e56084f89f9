"""Windows of a venue fetched several at a time, in threads; their pages handed over in order. Knows no database."""

import queue
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from contextvars import copy_context
from threading import Event, Thread
from time import monotonic

from exchanges.sync import Step
from exchanges.venues.base import Page, PayloadError, Venue

Item = Page | PayloadError | None
Arrived = tuple[Step, Page | BaseException | None]

WAIT = 5.0  # seconds between two words to whoever waits for a page
# What is handed over together: storing many short pages at once takes a fraction of the time of storing each.
TOGETHER = 1.0  # seconds of arrivals
MOST_ROWS = 5_000  # and no more pages once these are there
LEAST_ROWS = 100  # that a page counts as


def fetched(
    venue: Venue,
    next_step: Callable[[Sequence[Step]], Step | None],
    *,
    while_waiting: Callable[[], None] = lambda: None,
) -> Generator[Sequence[tuple[Step, Item]], None, None]:
    """The pages of every step that `next_step`, given those under way, hands out, some together; (step, None) ends a
    step, and what is handed over together.

    So does (step, PayloadError): what that window holds is not understood, which says nothing of the others.
    A step counts as under way until what comes after its end is asked for; where there is none to hand out, it is asked
    again once a step has ended. Pages of one step come in its order, those of different steps as they arrive. What a
    step raises is raised here. Close the iterator to stop: pages that were not handed over by then are lost.
    """
    if venue.in_flight == 1:
        while step := next_step(()):
            end = None
            try:
                for page in venue.fetch_fills(step.stream, step.window):
                    yield [(step, page)]
            except PayloadError as fault:
                end = fault
            yield [(step, end)]
    else:
        yield from _fetched_in_threads(venue, next_step, while_waiting)


def _fetched_in_threads(
    venue: Venue, next_step: Callable[[Sequence[Step]], Step | None], while_waiting: Callable[[], None]
) -> Iterator[Sequence[tuple[Step, Item]]]:
    arrived: queue.Queue[Arrived] = queue.Queue(maxsize=venue.in_flight)
    stopping = Event()

    def put(step: Step, item: Page | BaseException | None) -> None:
        while not stopping.is_set():
            with suppress(queue.Full):
                arrived.put((step, item), timeout=0.1)
                return

    def fetch(step: Step) -> None:
        try:
            for page in venue.fetch_fills(step.stream, step.window):
                put(step, page)
                if stopping.is_set():
                    return
            put(step, None)
        except BaseException as fault:  # whatever it is, whoever waits must hear of it
            put(step, fault)

    under_way: list[Step] = []
    may_be_more = True
    try:
        while True:
            while may_be_more and len(under_way) < venue.in_flight:
                if following := next_step(under_way):
                    under_way.append(following)
                    # Not of a pool, which would keep the process alive for an answer nobody waits for any more.
                    Thread(target=copy_context().run, args=(fetch, following), daemon=True).start()
                else:
                    may_be_more = False
            if not under_way:
                return
            try:
                first = arrived.get(timeout=WAIT)
            except queue.Empty:
                while_waiting()
                continue
            together: list[tuple[Step, Item]] = []
            for step, item in _together(first, arrived):
                if isinstance(item, BaseException) and not isinstance(item, PayloadError):
                    if together:
                        yield together
                    raise item
                together.append((step, item))
            yield together
            ended, last = together[-1]
            if not isinstance(last, Page):
                under_way.remove(ended)
                may_be_more = True
    finally:
        stopping.set()


def _together(first: Arrived, arrived: "queue.Queue[Arrived]") -> Iterator[Arrived]:
    """What arrives within some time from the first on, up to the end of a step."""
    until, rows, following = monotonic() + TOGETHER, 0, first
    while True:
        yield following
        _, item = following
        if not isinstance(item, Page):
            return
        rows += max(len(item.rows), LEAST_ROWS)
        if rows >= MOST_ROWS:
            return
        try:
            following = arrived.get(timeout=max(0.0, until - monotonic()))
        except queue.Empty:
            return
