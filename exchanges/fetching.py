"""Windows of a venue fetched several at a time, in threads; their pages handed over one by one. Knows no database."""

import queue
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from contextvars import copy_context
from threading import Event, Thread

from exchanges.sync import Step
from exchanges.venues.base import Page, PayloadError, Venue

Item = Page | PayloadError | None

WAIT = 5.0  # seconds between two words to whoever waits for a page


def fetched(
    venue: Venue,
    next_step: Callable[[Sequence[Step]], Step | None],
    *,
    while_waiting: Callable[[], None] = lambda: None,
) -> Generator[tuple[Step, Item], None, None]:
    """The pages of every step that `next_step`, given those under way, hands out; (step, None) ends a step.

    So does (step, PayloadError): what that window holds is not understood, which says nothing of the others.
    A step counts as under way until the item after its end is asked for. Pages of one step come in its order, those of
    different steps as they arrive. What a step raises is raised here. Close the iterator to stop: pages that were not
    handed over by then are lost.
    """
    if venue.in_flight == 1:
        while step := next_step(()):
            end = None
            try:
                for page in venue.fetch_fills(step.stream, step.window):
                    yield step, page
            except PayloadError as fault:
                end = fault
            yield step, end
    else:
        yield from _fetched_in_threads(venue, next_step, while_waiting)


def _fetched_in_threads(
    venue: Venue, next_step: Callable[[Sequence[Step]], Step | None], while_waiting: Callable[[], None]
) -> Iterator[tuple[Step, Item]]:
    arrived: queue.Queue[tuple[Step, Page | BaseException | None]] = queue.Queue(maxsize=venue.in_flight)
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
    try:
        while True:
            while len(under_way) < venue.in_flight and (step := next_step(under_way)):
                under_way.append(step)
                # Not of a pool, which would keep the process alive for an answer nobody waits for any more.
                Thread(target=copy_context().run, args=(fetch, step), daemon=True).start()
            if not under_way:
                return
            try:
                step, item = arrived.get(timeout=WAIT)
            except queue.Empty:
                while_waiting()
                continue
            if isinstance(item, BaseException) and not isinstance(item, PayloadError):
                raise item
            yield step, item
            if not isinstance(item, Page):
                under_way.remove(step)
    finally:
        stopping.set()
