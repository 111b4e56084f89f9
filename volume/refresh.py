"""One credential from venue to page: takes its lease, reads what the ledger lacks, stores it page by page."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from threading import get_ident
from time import monotonic

from django.db import Error, connection, transaction
from django.db.models import Q

from exchanges import doctor, sync
from exchanges.connect import BRIEF, connect
from exchanges.fetching import Item, fetched
from exchanges.fields import SecretError
from exchanges.ledger import covered_until
from exchanges.models import Coverage, ExchangeCredential, SyncRun
from exchanges.venues.base import (
    BudgetSpent,
    CredentialsRejected,
    FillReport,
    Held,
    Page,
    PayloadError,
    Stream,
    Traffic,
    Venue,
    VenueError,
    Window,
    subtract,
)
from volume import amendments, live, runlog, trouble
from volume.rollup import rebuild_days

logger = logging.getLogger("perpdash.refresh")
VERIFY_EVERY = timedelta(days=1)
LOOK_BACK = timedelta(days=3)
OURS_RETRY = timedelta(seconds=10)  # after trouble with our own database or Redis
NEW, OLDER, AGAIN = "what is new", "what was missing", "what was wanted once more"
PUSH_EVERY = 1.0  # seconds; a page of fills is stored far more often during a backfill
COUNTS = [
    "rows", "new", "seen", "held", "retracted", "amended", "skipped", "requests", "retries", "waited_seconds", "waits",
    "asked", "settled_seconds", "reached_at",
]  # fmt: skip
Outcome = SyncRun.Outcome
BROKEN_OFF = (
    "Cut off in the middle: its worker was ended, or the database was away. What was read is kept; the rest is read "
    "by the runs after it."
)
STOPPED = "Stopped. What was read is kept; the rest can be read later."
OUTCOME_FIELDS = ["due_at", "failures", "fresh_at", "health_state", "health_reason", "health_text", "health_at"]


class NotOurs(Exception):
    """Somebody else has the lease."""


class _Stopped(Exception):
    """The owner paused the account or its backfill, or the lease went to another worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a refresh is asked to do beyond what the ledger lacks."""

    trigger: SyncRun.Trigger = SyncRun.Trigger.SCHEDULE
    since: datetime | None = None  # how far back; None is the credential's own history_from
    until: datetime | None = None  # None is now
    again: bool = False  # read once more what is covered too
    gaps_too: bool = False  # try gaps before their time
    patience: float = BRIEF
    seconds: float | None = None  # after so long, leave the rest for the next refresh; None is to the end


def refresh(
    credential: ExchangeCredential,
    *,
    now: datetime,
    wanted: Wanted = Wanted(),  # frozen
    on_page: Callable[[SyncRun, Page], None] = lambda run, page: None,
) -> SyncRun:
    """Reads and stores; returns the finished run. A venue's trouble ends up in the run and the account's health.

    Raises NotOurs when another worker has the account. Whatever else happens, what was stored stays, and the ledger
    knows what is left.
    """
    started = monotonic()

    def clock() -> datetime:
        return now + timedelta(seconds=monotonic() - started)

    if not credential.claim(now=now):
        raise NotOurs
    run = SyncRun.objects.create(
        credential=credential, trigger=wanted.trigger, started_at=now,
        since=wanted.since or credential.history_from, until=wanted.until or now,
    )  # fmt: skip
    runlog.begin(run)
    # Whoever else is said to be reading was ended in the middle: the lease is ours.
    lost = SyncRun.objects.filter(credential=credential, outcome=Outcome.RUNNING).exclude(pk=run.pk)
    lost.update(outcome=Outcome.STOPPED, ended_at=now, message=BROKEN_OFF)
    try:
        credential.refresh_from_db()
        if credential.retired_at or not credential.is_enabled:  # since it was handed out
            raise _Stopped
        _read(credential, run, wanted, clock, on_page)
    except _Stopped:
        _finish(credential, run, Outcome.STOPPED, STOPPED, clock())
    except Exception as fault:
        if words := trouble.words(fault):
            _note_our_trouble(credential, run, fault, words, clock())
            return run
        credential.due_at = clock() + doctor.LONGEST_RETRY
        doctor.note_bug(credential, fault, now=clock())
        _save(credential)
        _finish(credential, run, Outcome.FAILED, credential.health_text, clock())
        raise
    except BaseException:  # Ctrl-C, or the process is told to end
        _finish(credential, run, Outcome.STOPPED, STOPPED, clock())
        raise
    finally:
        runlog.end(run, now=clock())
        with suppress(Error):  # then it is free when its time is up
            credential.release()
        live.push(credential.owner_id)
    return run


def _note_our_trouble(
    credential: ExchangeCredential, run: SyncRun, fault: Exception, words: str, now: datetime
) -> None:
    """Not the venue's doing, and soon tried again. What of this can't be stored now, the next run sets right."""
    logger.warning("%s could not be read: %s", credential, words)
    trouble.note(fault)
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()  # one that was cut stays so
    credential.due_at = now + OURS_RETRY
    doctor.note_our_trouble(credential, words, now=now)
    with suppress(Error):
        _save(credential)
        _finish(credential, run, Outcome.STOPPED, words, now)


def _read(
    credential: ExchangeCredential,
    run: SyncRun,
    wanted: Wanted,
    clock: Callable[[], datetime],
    on_page: Callable[[SyncRun, Page], None],
) -> None:
    now = clock()
    credential.due_at = now + credential.venue_type.poll_every
    reader = get_ident()
    reading: list[sync.Step] = []  # what is being fetched right now

    def hold_on(seconds: float) -> None:
        # A long wait must not lose the lease. Where other threads fetch, this one keeps it while it waits for them.
        if seconds >= 1 and get_ident() == reader:
            is_backfill = bool(reading) and all(step.is_older for step in reading)
            if not credential.keep(now=clock() + timedelta(seconds=seconds), backfilling=is_backfill):
                raise _Stopped

    try:
        with connect(credential, patience=wanted.patience, before_sleep=hold_on) as venue:
            try:
                if credential.verified_at is None or now - credential.verified_at > VERIFY_EVERY:
                    _examine(credential, venue, run.until, clock())
                _read_steps(credential, venue, run, wanted, clock, on_page, reading)
            finally:
                _count_traffic(run, venue.traffic)
    except BudgetSpent as fault:
        credential.due_at = clock() + timedelta(seconds=fault.retry_in or 0)
        _finish(credential, run, Outcome.WAITING, f"{fault} The rest is read then.", clock())
    except (VenueError, SecretError) as fault:
        doctor.note_failure(credential, fault, now=clock())
        healed_by_user = isinstance(fault, CredentialsRejected | SecretError)
        outcome = Outcome.REJECTED if healed_by_user else Outcome.UNAVAILABLE
        _finish(credential, run, outcome, credential.health_text, clock())
    except _Stopped:
        _finish(credential, run, Outcome.STOPPED, STOPPED, clock())
    else:
        doctor.note_success(credential, now=clock())
        _conclude(credential, run, clock())
    credential.fresh_at = fresh_at(credential)
    _save(credential)


def _examine(credential: ExchangeCredential, venue: Venue, until: datetime, now: datetime) -> None:
    """Once a day: the key, and a second look at the last days, for what came late.

    What is not understood of a key that was once accepted must not stop the reading: tomorrow again.
    """
    is_first = credential.verified_at is None  # then all is read anyway
    try:
        identity = doctor.judged(credential, venue.identify())
        doctor.refuse_twin(credential, identity)
        doctor.note_identity(credential, identity, now=now)
        credential.rereads.exclude(stream__in=[stream.name for stream in credential.streams]).delete()
        if not is_first:
            last_days = Window(max(until - LOOK_BACK, credential.history_from), until)
            sync.ask_again(credential, last_days, now=now, is_daily=True)
    except PayloadError as fault:
        if credential.verified_at is None:
            raise
        logger.warning("The key of %s could not be examined: %s", credential, fault)
        credential.verified_at = now
    _save(credential, doctor.FIELDS)


def _read_steps(
    credential: ExchangeCredential,
    venue: Venue,
    run: SyncRun,
    wanted: Wanted,
    clock: Callable[[], datetime],
    on_page: Callable[[SyncRun, Page], None],
    reading: list[sync.Step],
) -> None:
    deadline = clock() + timedelta(seconds=wanted.seconds) if wanted.seconds is not None else None
    asked_from = run.until
    next_step = _steps(credential, wanted, run)
    shelf = _Shelf(credential, run, venue.traffic, clock, is_rereading=credential.rereads.exists())

    def next_in_time(under_way: Sequence[sync.Step]) -> sync.Step | None:
        if deadline and asked_from < run.until and clock() >= deadline:
            credential.due_at = clock()  # most likely there is more
            return None
        step = next_step(under_way)
        reading[:] = [*under_way, *([step] if step else [])]
        return step

    def keep() -> None:
        if not credential.keep(now=clock(), backfilling=all(step.is_older for step in reading)):
            raise _Stopped

    with closing(fetched(venue, next_in_time, while_waiting=keep)) as arrivals:
        for together in arrivals:
            for step, _ in together:
                asked_from = min(asked_from, step.window.since)
                _note_asked(run, step)
            step, last = together[-1]
            breaks_off = isinstance(last, PayloadError) and not (step.is_older or step.is_again)
            shelf.put(together[:-1] if breaks_off else together)
            for _, item in together:
                if isinstance(item, Page):
                    on_page(run, item)
            if breaks_off and isinstance(last, PayloadError):
                raise last  # what is new can't be read: the account says so, and takes longer breaths
    if wanted.trigger == SyncRun.Trigger.SCHEDULE:
        run.since = asked_from  # a poll speaks of what it asked for, not of all that was ever wanted


@dataclass(slots=True)
class _Shelf:
    """Where what arrives is put into the database, and how far each step has got by it."""

    credential: ExchangeCredential
    run: SyncRun
    traffic: Traffic
    clock: Callable[[], datetime]
    is_rereading: bool
    claimed: dict[sync.Step, list[Window]] = field(default_factory=lambda: defaultdict(list))
    pushed: float = 0.0

    def put(self, arrived: Sequence[tuple[sync.Step, Item]]) -> None:
        """All of it in one transaction; where that fails, one after the other, so that nothing takes others with it."""
        try:
            self._store(arrived)
        except _Stopped:
            raise
        except Exception as fault:
            if len(arrived) == 1 or trouble.words(fault):
                raise
            for one in arrived:
                self._store([one])

    def _store(self, arrived: Sequence[tuple[sync.Step, Item]]) -> None:
        credential, claimed = self.credential, defaultdict(list, self.claimed)
        for step, item in arrived:
            if isinstance(item, Page):
                claimed[step] = [*claimed[step], *item.settled]
        # An end that leaves nothing of its step unsaid needs no word.
        told = [(step, item) for step, item in arrived if item or subtract(step.window, claimed[step])]
        if told:
            with transaction.atomic():
                # Also the fence: a worker that lost its lease must not write beside its successor.
                if not credential.keep(now=self.clock(), backfilling=any(step.is_older for step, _ in told)):
                    raise _Stopped
                stored = sync.Stored()
                for step, item in told:
                    if isinstance(item, Page):
                        stored.add(self._store_page(step, item))
                    else:
                        sync.settle(credential, step, now=self.clock(), why=str(item or ""))
                        if step.is_again:
                            sync.postpone_reread(credential, step, now=self.clock())
                _follow(credential, stored, now=self.clock())
                self._note(told, stored)
        for step, item in arrived:
            if not isinstance(item, Page):
                claimed.pop(step, None)
        self.claimed = claimed

    def _store_page(self, step: sync.Step, page: Page) -> sync.Stored:
        stored = sync.store(self.credential, step.stream, page, now=self.clock())
        if self.is_rereading or step.is_again:
            for window in page.settled:
                sync.note_reread(self.credential, step.stream, window)
        return stored

    def _note(self, told: Sequence[tuple[sync.Step, Item]], stored: sync.Stored) -> None:
        _count(self.run, stored, self.traffic)
        for step, item in told:
            if isinstance(item, Page):
                _note_progress(self.run, step, item)
        if monotonic() - self.pushed >= PUSH_EVERY and any(isinstance(item, Page) for _, item in told):
            self.pushed = monotonic()
            self.run.save(update_fields=COUNTS)
            if stored.touched:
                transaction.on_commit(partial(live.push, self.credential.owner_id))


def store_page(
    credential: ExchangeCredential, stream: Stream, page: Page, *, now: datetime, late: sync.Cause = sync.Cause.LATE
) -> sync.Stored:
    """A page with all that follows from it: fills, days, ledger, what changed. Inside the caller's transaction."""
    stored = sync.store(credential, stream, page, now=now, late=late)
    _follow(credential, stored, now=now)
    return stored


def _follow(credential: ExchangeCredential, stored: sync.Stored, *, now: datetime) -> None:
    """What follows from rows that were stored."""
    rebuild_days(credential, stored.touched)
    stored.amended = amendments.note(credential, stored.changes, now=now)


def _steps(
    credential: ExchangeCredential, wanted: Wanted, run: SyncRun
) -> Callable[[Sequence[sync.Step]], sync.Step | None]:
    """What hands out one step after the other, given those under way."""
    window = Window(run.since, run.until)
    sync.distrust_the_future(credential, now=run.started_at)
    if wanted.gaps_too:
        sync.make_gaps_due(credential, now=run.started_at)
    if wanted.again:
        sync.ask_again(credential, window, now=run.started_at)
    return lambda under_way: sync.next_step(credential, window, now=run.started_at, under_way=under_way)


def _note_asked(run: SyncRun, step: sync.Step) -> None:
    """In words and in the order of importance, each once."""
    words = AGAIN if step.is_again else OLDER if step.is_older else NEW
    if words not in run.asked:
        run.asked = ", ".join(item for item in (NEW, OLDER, AGAIN) if item in run.asked or item == words)


def _note_progress(run: SyncRun, step: sync.Step, page: Page) -> None:
    """How much of the past is settled now, and where the reading is."""
    if not step.is_older:
        return
    if page.covered:
        run.reached_at = page.covered.until if step.stream.forgets_by_count else page.covered.since
    else:
        moments = [row.executed_at for row in page.rows if isinstance(row, FillReport)]
        run.reached_at = max(moments, default=run.reached_at)
    if not step.is_again:
        run.settled_seconds += sum((window.until - window.since).total_seconds() for window in page.settled)


def _count(run: SyncRun, stored: sync.Stored, traffic: Traffic) -> None:
    run.rows += stored.rows
    run.new += stored.new
    run.seen += stored.seen
    run.held += stored.held
    run.retracted += stored.retracted
    run.amended += stored.amended
    for kind, rows in stored.skipped.items():
        run.skipped[kind] = run.skipped.get(kind, 0) + rows
    _count_traffic(run, traffic)


def _count_traffic(run: SyncRun, traffic: Traffic) -> None:
    run.requests, run.retries, run.waited_seconds = traffic.requests, traffic.retries, traffic.waited_seconds
    run.waits = {why: round(seconds, 3) for why, seconds in traffic.waits.items()}


def fresh_at(credential: ExchangeCredential) -> datetime | None:
    """Up to when every fill of the account was asked for: the least of its streams. None before the first reading."""
    ends = covered_until(credential)
    known = [ends[stream.name] for stream in credential.streams if stream.name in ends]
    return min(known) if len(known) == len(credential.streams) else None


def _conclude(credential: ExchangeCredential, run: SyncRun, now: datetime) -> None:
    """Complete, or what is missing of the run's range."""
    lacks = Coverage.objects.filter(
        ~Q(state=Coverage.State.COVERED), credential=credential, until_at__gt=run.since, from_at__lt=run.until
    )
    parts = []
    if sync.next_step(credential, Window(run.since, run.until), now=run.started_at):
        parts.append("More is left to read and goes on by itself")
    reasons: dict[str, list[str]] = {Coverage.State.GAP: [], Coverage.State.OUT_OF_REACH: []}
    for state, reason in lacks.order_by("from_at").values_list("state", "reason"):
        reasons[state].append(reason)
    gaps, gone = reasons.values()
    if gaps:
        parts.append(f"{len(gaps)} {'gap' if len(gaps) == 1 else 'gaps'} left, tried again within the hour")
    if gone:
        parts.append(gone[0].rstrip("."))
    again = credential.rereads.filter(retry_at__gt=now, until_at__gt=run.since, from_at__lt=run.until)
    if failed := again.values("from_at", "until_at").distinct().count():
        ranges = "1 range" if failed == 1 else f"{failed} ranges"
        parts.append(f"{ranges} could not be read once more, tried again within the hour")
    not_counted = Q(executed_at__gte=run.since, executed_at__lt=run.until) | Q(executed_at=None)
    if held := credential.held_rows.filter(not_counted).count():
        parts.append(f"{held} {'row' if held == 1 else 'rows'} held, not understood")
    message = ". ".join(parts) + "." if parts else ""
    _finish(credential, run, Outcome.INCOMPLETE if parts else Outcome.COMPLETE, message, now)


# Both below update and never insert: the account may have been removed meanwhile.


def _save(credential: ExchangeCredential, names: Sequence[str] = OUTCOME_FIELDS) -> None:
    """Only while the lease is ours: what an old key came to must not be said of the one just put in."""
    values = {name: getattr(credential, name) for name in names}
    ExchangeCredential.objects.filter(pk=credential.pk, lease=credential.lease).update(**values)


def _finish(credential: ExchangeCredential, run: SyncRun, outcome: Outcome, message: str, now: datetime) -> None:
    run.outcome, run.message, run.ended_at = outcome, message[:500], now
    run.then = _then(credential, outcome, now)
    values = {
        field.attname: getattr(run, field.attname) for field in SyncRun._meta.concrete_fields if field.name != "id"
    }
    SyncRun.objects.filter(pk=run.pk).update(**values)


def _then(credential: ExchangeCredential, outcome: Outcome, now: datetime) -> str:
    """What happens next, and whose turn it is."""
    match outcome:
        case Outcome.REJECTED:
            return "Nothing is asked until you act."
        case Outcome.STOPPED:
            return "The next reading goes on from there."
        case Outcome.COMPLETE | Outcome.INCOMPLETE if credential.due_at > now:
            return f"New fills are asked for every {doctor.in_words(credential.venue_type.poll_every)}."
        case _ if credential.due_at > now:
            return f"Goes on at {credential.due_at:%H:%M:%S} UTC."
    return "Goes on at once."


def reparse(credential: ExchangeCredential, *, now: datetime) -> tuple[int, int]:
    """Reads the credential's held rows again. Returns how many are understood now, and how many stay held."""
    understood = 0
    with connect(credential) as venue:
        for row in credential.held_rows.all():
            outcome = venue.parse_held(row.stream, row.raw)
            if isinstance(outcome, Held):
                continue
            stream = next(stream for stream in venue.streams if stream.name == row.stream)
            with transaction.atomic():
                credential.lock()
                row.delete()
                # One that is here was read since: what the venue said of it then is newer than this.
                is_here = isinstance(outcome, FillReport) and credential.fills.filter(fill_id=outcome.fill_id).exists()
                if not is_here:
                    page = Page(rows=[outcome])
                    store_page(credential, stream, page, now=now, late=sync.Cause.UNDERSTOOD)
            understood += 1
    live.push(credential.owner_id)
    return understood, credential.held_rows.count()
