"""Thin Celery tasks: fetch the row, call one service. Arguments are ids."""

from contextlib import suppress
from datetime import datetime, timedelta

from celery import shared_task
from django.conf import settings
from django.db.models import Count, F, Q
from django.utils import timezone

from exchanges.fields import SecretError
from exchanges.models import STOPPED, ExchangeCredential, Health, SyncRun
from exchanges.venues import VENUES
from volume.refresh import BROKEN_OFF, NotOurs, Wanted, refresh

# No venue, however slow, gets more workers than this at once; `up` and the stack start enough for all venues.
WORKERS_PER_VENUE = 2
SLICE_SECONDS = 30.0  # then others get their turn
QUIET_RUNS_KEPT = timedelta(days=2)
RUNS_KEPT = timedelta(days=180)


@shared_task
def refresh_due() -> None:
    """Hands out the accounts that are due, as many per venue as it has workers to spare. Beat calls it."""
    now = timezone.now()
    _wake_readable(now)
    ready = ExchangeCredential.objects.filter(is_enabled=True).exclude(health_state__in=STOPPED)
    busy = dict(
        ExchangeCredential.objects.filter(leased_until__gt=now)
        .order_by().values_list("venue").annotate(count=Count("pk"))
    )  # fmt: skip
    free = Q(leased_until=None) | Q(leased_until__lte=now)
    for venue in ready.order_by().values_list("venue", flat=True).distinct():
        slots = WORKERS_PER_VENUE - busy.get(venue, 0)
        due = ready.filter(free, venue=venue, due_at__lte=now).order_by("due_at")[: max(0, slots)]
        for pk in due.values_list("pk", flat=True):
            # What waits longer than this was overtaken by the next round.
            refresh_credential.apply_async((pk,), expires=settings.DISPATCH_SECONDS)


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
    """Reads one account for a while. Goes on with the next dispatch if there is more."""
    ready = ExchangeCredential.objects.filter(is_enabled=True).exclude(health_state__in=STOPPED)
    if trigger == SyncRun.Trigger.SCHEDULE:
        ready = ready.filter(due_at__lte=timezone.now())
    credential = ready.filter(pk=credential_id).first()
    if credential is None:
        return  # removed, paused, rejected or just read since it was queued
    wanted = Wanted(trigger=SyncRun.Trigger(trigger), seconds=SLICE_SECONDS, gaps_too=gaps_too)
    with suppress(NotOurs):  # it is being read right now, which is all that was wanted
        refresh(credential, now=timezone.now(), wanted=wanted)


@shared_task
def forget_old_runs() -> None:
    """Keeps the run log readable: polls that brought nothing go after two days, the rest after half a year."""
    now = timezone.now()
    nothing_said = (SyncRun.Outcome.COMPLETE, SyncRun.Outcome.WAITING)
    quiet = Q(new=0, held=0, retracted=0, outcome__in=nothing_said, started_at__lt=now - QUIET_RUNS_KEPT)
    SyncRun.objects.filter(quiet | Q(started_at__lt=now - RUNS_KEPT)).delete()
    # A run whose worker was killed never said how it ended.
    lost = Q(credential__leased_until=None) | Q(credential__leased_until__lt=now)
    SyncRun.objects.filter(lost, outcome=SyncRun.Outcome.RUNNING, started_at__lt=now - timedelta(hours=1)).update(
        outcome=SyncRun.Outcome.STOPPED,
        ended_at=F("started_at"),
        message=BROKEN_OFF,
    )
