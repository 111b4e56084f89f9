"""Thin Celery tasks: fetch the row, call one service. Arguments are ids."""

import logging
from contextlib import suppress
from datetime import datetime, timedelta
from datetime import time as time_of_day
from threading import BoundedSemaphore
from time import time
from typing import Any
from uuid import uuid4

from celery import Task, shared_task
from celery.signals import after_task_publish, task_failure, task_postrun, task_prerun
from django.conf import settings
from django.core.cache import cache
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from exchanges.connect import PATIENT
from exchanges.fields import SecretError
from exchanges.models import STOPPED, Coverage, ExchangeCredential, Health, Reread, SyncRun
from exchanges.sync import GAP_RETRY
from exchanges.tally import tally
from exchanges.venues import VENUES
from exchanges.venues.base import Reason
from volume import live, periods, prices, reconcile, runlog, trouble
from volume.models import VolumeCheck
from volume.proof import prove
from volume.refresh import BROKEN_OFF, NotOurs, Wanted, refresh
from volume.rollup import outdated, rebuild_outdated

logger = logging.getLogger("perpdash.tasks")

# Of the threads of a worker no venue, however slow, gets more than this; `up` and the stack start enough for all.
WORKERS_PER_VENUE = 2
_places = {venue: BoundedSemaphore(WORKERS_PER_VENUE) for venue in VENUES}
SLICE_SECONDS = 30.0  # then others get their turn
NO_ANSWERS = (SyncRun.Outcome.WAITING, SyncRun.Outcome.UNAVAILABLE)
FETCHING, LONGEST_FETCH = "prices/fetching", 300  # seconds
FIGURES_TRIED = 3600  # seconds; then beat has come to it
CLOCK_SLACK = timedelta(minutes=2)  # by which the clocks of several machines may differ
BEAT_SEEN, WORKER_SEEN, SEEN_FOR = "beat/seen", "worker/seen", 60  # cache keys, and how long a sign of life holds


# Told by the processes themselves rather than by a task: one that waits in a long queue would look like a dead worker.
@after_task_publish.connect(sender="volume.tasks.refresh_due")
def _beat_lives(**_: object) -> None:
    cache.set(BEAT_SEEN, time(), SEEN_FOR)


@task_prerun.connect
def _worker_lives(**_: object) -> None:
    cache.set(WORKER_SEEN, time(), SEEN_FOR)


@task_postrun.connect
def _close_books(**_: object) -> None:
    runlog.about.set({})  # what this thread does next is another matter
    tally.hand_over()


@task_failure.connect
def _tell_of_trouble(exception: BaseException | None = None, **_: object) -> None:
    trouble.note(exception)


def hand_out(task: Task[Any, None], *args: Any, **options: Any) -> None:
    """Queues a task for a page, which does not fail with the broker: beat comes to all that is due."""
    if words := trouble.of("redis"):  # nobody waits for it once more
        logger.warning("%s is not handed out: %s", task.name, words)
        return
    try:
        task.apply_async(*args, **options)
    except trouble.FAULTS as fault:
        logger.warning("%s could not be handed out: %s", task.name, trouble.words(fault))


@shared_task
def refresh_due() -> None:
    """Gives turns to the venues where accounts are due. Beat calls it."""
    now = timezone.now()
    _set_clocks_back(now)
    _wake_readable(now)
    for venue in VENUES:
        for _ in _due(venue, now).values("pk")[:WORKERS_PER_VENUE]:
            _give_turn(venue)


def _give_turn(venue: str) -> None:
    # A turn that waits longer than this was overtaken by the next round.
    refresh_next.apply_async((venue,), expires=settings.DISPATCH_SECONDS)


@shared_task
def refresh_next(venue: str) -> None:
    """Reads the account of a venue whose turn it is for a while, then gives the turn on, until nothing is due.

    A turn also ends where the venue has all that it may have of this worker, and where it has no answers for us now:
    beat soon gives it another.
    """
    place = _places[venue]
    if not place.acquire(blocking=False):
        return
    try:
        run = _read_next(venue)
    finally:
        place.release()
    if run and run.outcome not in NO_ANSWERS and _due(venue, timezone.now()).exists():
        _give_turn(venue)


def _read_next(venue: str) -> SyncRun | None:
    while credential := next_due(venue, now=timezone.now()):
        with suppress(NotOurs):  # another worker was quicker
            return _read(credential, Wanted(seconds=SLICE_SECONDS))
    return None


def next_due(venue: str, *, now: datetime) -> ExchangeCredential | None:
    """The account that was read up to longest ago: of an owner of whom none is being read there, if there is one."""
    due = _due(venue, now)
    read_now = ExchangeCredential.objects.filter(venue=venue, leased_until__gt=now)
    return due.exclude(owner__in=read_now.values("owner")).first() or due.first()


def _due(venue: str, now: datetime) -> QuerySet[ExchangeCredential]:
    """The accounts of a venue that are due, first those that were never read, then the least fresh.

    Not by when they fell due: one that found the venue's budget spent would lose its place.
    """
    free = Q(leased_until=None) | Q(leased_until__lte=now)
    due = _ready().filter(free, venue=venue, due_at__lte=now)
    return due.order_by(F("fresh_at").asc(nulls_first=True), "due_at", "pk")


def _ready() -> QuerySet[ExchangeCredential]:
    return ExchangeCredential.objects.filter(is_enabled=True).exclude(health_state__in=STOPPED)


def _set_clocks_back(now: datetime) -> None:
    """After a clock that went ahead was set right, nobody waits for what it said to come true."""
    ahead = ExchangeCredential.objects.filter(health_at__gt=now + CLOCK_SLACK)
    if ahead.update(health_at=now, due_at=now):
        logger.warning("This machine's clock was set back: accounts noted in the time to come are read now.")
    longest = now + timedelta(seconds=settings.LEASE_SECONDS + PATIENT) + CLOCK_SLACK
    ExchangeCredential.objects.filter(leased_until__gt=longest).update(leased_until=now)
    Coverage.objects.filter(retry_at__gt=now + GAP_RETRY + CLOCK_SLACK).update(retry_at=now)
    Reread.objects.filter(retry_at__gt=now + GAP_RETRY + CLOCK_SLACK).update(retry_at=now)


def clock_is_doubted() -> bool:
    """Whether a venue said that this machine's clock is wrong: then nothing is forgotten for being old."""
    return ExchangeCredential.objects.filter(health_reason=Reason.CLOCK).exists()


def _wake_readable(now: datetime) -> None:
    """Accounts whose secrets could not be read go on by themselves once the right keys are back."""
    for credential in ExchangeCredential.objects.filter(
        health_state=Health.UNREADABLE, is_enabled=True, venue__in=VENUES
    ):
        with suppress(SecretError):
            credential.open_secrets()
            ExchangeCredential.objects.filter(pk=credential.pk).update(
                health_state=Health.NEW, health_text="The secrets can be read again.", due_at=now
            )


@shared_task
def refresh_credential(credential_id: int, trigger: str = SyncRun.Trigger.SCHEDULE, gaps_too: bool = False) -> None:
    """Reads one account for a while. Goes on by turns if there is more."""
    credential = _ready().filter(pk=credential_id).first()
    if credential is None:
        return  # removed, paused or rejected since it was queued
    with suppress(NotOurs):  # it is being read right now, which is all that was wanted
        _read(credential, Wanted(trigger=SyncRun.Trigger(trigger), seconds=SLICE_SECONDS, gaps_too=gaps_too))


def _read(credential: ExchangeCredential, wanted: Wanted) -> SyncRun:
    run = refresh(credential, now=timezone.now(), wanted=wanted)
    if run.new:
        _follow_up(credential)
    return run


def _follow_up(credential: ExchangeCredential) -> None:
    """What new fills may want before beat comes to it: prices, and, the first time, the venue's own figures."""
    if prices.waiting([credential], now=timezone.now()):
        fetch_prices.apply_async(expires=LONGEST_FETCH)
    lacks_figures = credential.venue_type.publishes_figures() and not credential.figures.exists()
    if lacks_figures and cache.add(f"figures/{credential.pk}", True, FIGURES_TRIED):
        fetch_figures_of.apply_async((credential.pk,), expires=600)


@shared_task
def fetch_prices() -> None:
    """Prices what can be priced by now. Beat calls it, and whoever finds fills without a price. One at a time."""
    mine = uuid4().hex
    if not cache.add(FETCHING, mine, LONGEST_FETCH):
        return
    try:
        found = prices.fetch(now=timezone.now())
    finally:
        if cache.get(FETCHING) == mine:  # it may have run out, and be another's by now
            cache.delete(FETCHING)
    if found.retry_in is not None and found.retry_in < LONGEST_FETCH:
        countdown = found.retry_in + 1
        fetch_prices.apply_async(countdown=countdown, expires=countdown + LONGEST_FETCH)


@shared_task
def bring_up_to_date() -> None:
    """Computes anew what its owner wants counted otherwise, or an older perpdash computed, and adds up what changed.
    Beat calls it."""
    behind = [credential for credential in ExchangeCredential.objects.all() if outdated(credential).exists()]
    if behind:
        prices.fetch(now=timezone.now())  # first: a stablecoin at market value without a price is not counted
    for credential in behind:
        try:
            rebuild_outdated(credential)
        except Exception:  # of one account: the others are brought up to date all the same
            logger.exception("The days of %s could not be recomputed", credential)
        live.push(credential.owner_id)
    if prices.waiting(now=timezone.now()):
        fetch_prices.apply_async(expires=LONGEST_FETCH)
    today = timezone.now().date()
    for credential in periods.waiting(today):
        try:
            periods.add_up(credential, today=today)
        except Exception:  # as above; its days are read one by one
            logger.exception("The days of %s could not be added up", credential)


@shared_task
def forget_old_runs() -> None:
    """Keeps the run log readable: polls that brought nothing go first, the rest, and proofs, much later."""
    if clock_is_doubted():
        return
    now = timezone.now()
    quiet_until, until, proved_until = (
        now - timedelta(days=days) for days in (settings.QUIET_RUNS_DAYS, settings.RUNS_DAYS, settings.CHECKS_DAYS)
    )
    nothing_said = (SyncRun.Outcome.COMPLETE, SyncRun.Outcome.WAITING)
    quiet = Q(new=0, held=0, retracted=0, amended=0, outcome__in=nothing_said, started_at__lt=quiet_until)
    SyncRun.objects.filter(quiet | Q(started_at__lt=until)).delete()
    VolumeCheck.objects.filter(checked_at__lt=proved_until).delete()
    # A run whose worker was killed never said how it ended.
    lost = Q(credential__leased_until=None) | Q(credential__leased_until__lt=now)
    SyncRun.objects.filter(lost, outcome=SyncRun.Outcome.RUNNING, started_at__lt=now - timedelta(hours=1)).update(
        outcome=SyncRun.Outcome.STOPPED,
        ended_at=F("started_at"),
        message=BROKEN_OFF,
    )


@shared_task
def fetch_figures() -> None:
    """Hands out the accounts whose venue is to be asked what it counts itself. Beat calls it."""
    for pk in reconcile.due(now=timezone.now()):
        fetch_figures_of.apply_async((pk,), expires=3600)


@shared_task
def fetch_figures_of(credential_id: int) -> None:
    """Asks one account's venue what it counts itself."""
    ready = ExchangeCredential.objects.filter(is_enabled=True, venue__in=VENUES).exclude(health_state__in=STOPPED)
    if credential := ready.filter(pk=credential_id).first():
        reconcile.fetch(credential, now=timezone.now())


NIGHTLY = time_of_day(3, 10)  # UTC
PROOFS_A_ROUND = 100  # what is new must not wait behind the proofs of thousands
LOOK_AGAIN = 400  # seconds; longer than it takes to bring days up to date, and less than the broker waits for a word


@shared_task
def prove_due() -> None:
    """Hands out the accounts that were not proved since the last 03:10 UTC, some at a time. Beat calls it, by day as
    well: where perpdash does not run at night, the proof is made up for once it does."""
    now = timezone.now()
    night = datetime.combine(now.date(), NIGHTLY, tzinfo=now.tzinfo)
    if night > now:
        night -= timedelta(days=1)
    proved = VolumeCheck.objects.filter(checked_at__range=(night, now + CLOCK_SLACK)).values("credential_id")
    left = ExchangeCredential.objects.filter(venue__in=VENUES).exclude(pk__in=proved).order_by("pk")
    for pk in left.values_list("pk", flat=True)[:PROOFS_A_ROUND]:
        prove_account.apply_async((pk,), expires=600)


@shared_task
def prove_account(credential_id: int, again: bool = False) -> None:
    """Proves one account. Where something does not agree, looks once more when what was under way has ended."""
    credential = ExchangeCredential.objects.filter(pk=credential_id, venue__in=VENUES).first()
    if credential is None:
        return
    with suppress(ExchangeCredential.DoesNotExist):
        check = prove(credential, timezone.now())
        if check.found and not again:
            prove_account.apply_async((credential_id,), {"again": True}, countdown=LOOK_AGAIN, expires=3600)
