"""manage.py doctor: looks over the installation, and says what is wrong, whose turn it is, and what to do."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.core.checks import ERROR, run_checks
from django.core.management.base import BaseCommand
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from exchanges.doctor import EXPIRY_WARNING
from exchanges.fields import SecretError
from exchanges.models import STOPPED, ExchangeCredential, Health, SyncRun
from exchanges.rotation import keepers
from exchanges.venues import VENUES
from exchanges.venues.base import Reason, VenueError
from volume import trouble
from volume.completeness import STALE_AFTER
from volume.rollup import outdated
from volume.tasks import BEAT_SEEN, WORKER_SEEN

WITHOUT_KEYS = {"exchanges.E001", "exchanges.E002"}


class Command(BaseCommand):
    help = (
        "Looks over the installation: its keys, database, accounts, proofs, and whether anybody reads. Asks no venue "
        "and changes nothing. Says of each thing what happened, whose turn it is, and what to do. Exit code 1 if there "
        "is anything to do."
    )
    requires_system_checks = []  # what they find is told below, beside the rest

    def handle(self, *args: Any, **options: Any) -> None:
        count = 0
        for finding in findings(timezone.now()):
            count += 1
            self.stdout.write(f"{count}. {finding}")
        if count:
            raise SystemExit(1)
        self.stdout.write("Nothing needs doing.")


def findings(now: datetime) -> Iterator[str]:
    """What needs doing, in words, the causes before what follows from them."""
    faults = [message for message in run_checks() if message.level >= ERROR]
    for message in faults:
        yield f"{message.msg} {message.hint or ''}".strip()
    if not WITHOUT_KEYS.isdisjoint(message.id for message in faults):
        yield "Nothing else can be looked at before that."
        return
    try:
        unapplied = _unapplied_migrations()
    except DatabaseError as fault:
        yield (
            f"The database can't be opened ({type(fault).__name__}). Look whether it runs, and whether DATABASE_URL "
            "names it rightly. Nothing else can be looked at before that."
        )
        return
    if unapplied:
        what = "1 migration is" if unapplied == 1 else f"{unapplied} migrations are"
        yield (
            f"The database is older than this perpdash: {what} not applied. Make a backup, then run "
            "manage.py migrate. Accounts can't be looked at before that."
        )
        return
    accounts = list(ExchangeCredential.objects.filter(retired_at=None).select_related("owner").order_by("pk"))
    yield from _secrets(accounts)
    yield from _kept_secrets()
    enabled = [account for account in accounts if account.is_enabled and account.venue in VENUES]
    for account in enabled:
        yield from _health(account, now)
    silent = list(_processes())
    yield from silent or _signs_of_life(enabled, now)
    yield from _numbers()


# --- The installation ------------------------------------------------------------------------------------------------


def _unapplied_migrations() -> int:
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def _secrets(accounts: Sequence[ExchangeCredential]) -> Iterator[str]:
    outdated_keys = 0
    for account in accounts:
        try:
            account.open_secrets() if account.venue in VENUES else account.secrets.reveal()
        except (SecretError, VenueError) as fault:
            yield f"{_name(account)}: {fault}"
        else:
            outdated_keys += not account.secrets.is_current
    if outdated_keys:
        what = (
            "The secrets of 1 account are" if outdated_keys == 1 else f"The secrets of {outdated_keys:,} accounts are"
        )
        yield f"{what} under an older key. Run manage.py rotate_secrets, and keep the older key until then."


def _kept_secrets() -> Iterator[str]:
    outdated_keys = 0
    for kept in (kept for keeper in keepers for kept in keeper()):
        try:
            kept.secret.reveal()
        except SecretError:
            yield kept.unreadable
        else:
            outdated_keys += not kept.secret.is_current
    if outdated_keys:
        what = "1 second factor is" if outdated_keys == 1 else f"{outdated_keys:,} second factors are"
        yield f"{what} under an older key. Run manage.py rotate_secrets, and keep the older key until then."


# --- The accounts ----------------------------------------------------------------------------------------------------


def _health(account: ExchangeCredential, now: datetime) -> Iterator[str]:
    if account.health_state in (Health.REJECTED, Health.PUZZLED) or account.health_reason == Reason.CLOCK:
        yield f"{_name(account)}: {account.health_text}"
    elif account.expires_at and account.expires_at - now < EXPIRY_WARNING:
        word = "expires" if account.expires_at > now else "expired"
        yield (
            f"{_name(account)}: its key {word} on {account.expires_at:%Y-%m-%d}. {account.owner} makes a new one and "
            "puts it in on the account's page; reading goes on from where it stopped."
        )


def _processes() -> Iterator[str]:
    """Whether beat and worker say that they are there, which can be heard from here only through a Redis."""
    if not settings.REDIS_URL:
        return
    seen = cache.get_many([BEAT_SEEN, WORKER_SEEN])
    if words := trouble.of("redis"):
        yield words
        return
    for name, key in (("beat", BEAT_SEEN), ("worker", WORKER_SEEN)):
        if key not in seen:
            yield (
                f"No sign of life of the {name} for a minute: accounts are not read. Start celery -A perpdash {name}, "
                "or look at its log; nothing is lost meanwhile."
            )


def _signs_of_life(accounts: Sequence[ExchangeCredential], now: datetime) -> Iterator[str]:
    """Whether what is due is read at all. A venue that does not answer is asked less often, so it is not meant."""
    since = now - STALE_AFTER
    overdue = [
        account
        for account in accounts
        if account.health_state not in STOPPED
        and account.due_at < since
        and not (account.leased_until and account.leased_until > now)
    ]
    begun = SyncRun.objects.exclude(trigger=SyncRun.Trigger.COMMAND).filter(started_at__gt=since)
    if not overdue or begun.exists():
        return
    oldest = min(account.due_at for account in overdue)
    what = "1 account is" if len(overdue) == 1 else f"{len(overdue):,} accounts are"
    read = max((account.fresh_at for account in overdue if account.fresh_at), default=None)
    last = f"The last fills were asked for at {read:%Y-%m-%d %H:%M} UTC. " if read else ""
    start = (
        "Start perpdash (make run)"
        if settings.EMBEDDED
        else "Look whether worker and beat run (celery -A perpdash worker, celery -A perpdash beat) and reach REDIS_URL"
    )
    yield f"Nobody reads: {what} due since {oldest:%Y-%m-%d %H:%M} UTC. {last}{start}; nothing is lost meanwhile."


def _name(account: ExchangeCredential) -> str:
    return f"{account} (#{account.pk}) of {account.owner}"


# --- The numbers -----------------------------------------------------------------------------------------------------


def _numbers() -> Iterator[str]:
    waiting = 0
    for account in ExchangeCredential.objects.select_related("owner").order_by("pk"):
        waiting += outdated(account).count()
        check = account.checks.first()
        if check and check.found:
            what = "1 thing does" if check.found == 1 else f"{check.found:,} things do"
            yield (
                f"{_name(account)}: at its last proof, {check.checked_at:%Y-%m-%d %H:%M} UTC, {what} not agree. "
                "manage.py check_volume proves it again and names them; manage.py rebuild_volume puts days right."
            )
    if waiting:
        what = "1 day and market waits" if waiting == 1 else f"{waiting:,} days and markets wait"
        yield (f"{what} to be recomputed. A worker does it within minutes; manage.py rebuild_volume does it at once.")
