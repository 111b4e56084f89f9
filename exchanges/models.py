"""What we hold at venues: credentials, fills, how complete they are, and what was done to get them."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import Q

from exchanges.fields import ExactDecimalField, Secret, SecretError, SecretField, UsdField
from exchanges.venues import VENUES
from exchanges.venues.base import FORCED, Credentials, Kind, Liquidity, Side, Stream, Venue


class Health(models.TextChoices):
    """How an account fares. The text beside it says what happened and what to do."""

    NEW = "new", "Not read yet"
    WORKS = "works", "Works"
    UNAVAILABLE = "unavailable", "Venue unavailable"
    REJECTED = "rejected", "Needs you"
    UNREADABLE = "unreadable", "Secrets unreadable"
    PUZZLED = "puzzled", "Needs an update"


# What time alone does not heal is not tried again until someone acts.
STOPPED = (Health.REJECTED, Health.UNREADABLE)


@dataclass(frozen=True, slots=True)
class HealthReport:
    state: Health
    reason: str  # a Reason, or empty
    text: str
    at: datetime | None


class ExchangeCredential(models.Model):
    """One account of one owner at one venue, with what is needed to read it."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="credentials")
    uuid = models.UUIDField(default=uuid4, unique=True, editable=False)
    venue = models.CharField(max_length=32)  # a key of VENUES; no choices here, so that a venue needs no migration
    label = models.CharField(max_length=80)
    secrets: Any = SecretField()
    account_ref = models.CharField("account at the venue", max_length=120, blank=True)
    is_enabled = models.BooleanField("enabled", default=True)
    allows_trading_key = models.BooleanField(default=False, help_text="The owner insisted on a key that can trade.")
    created_at = models.DateTimeField(auto_now_add=True)

    health_state = models.CharField(max_length=16, choices=Health, default=Health.NEW)
    health_reason = models.CharField(max_length=24, blank=True)  # of the known ones, where it is one
    health_text = models.CharField(max_length=500, blank=True)
    health_at = models.DateTimeField(null=True, blank=True)
    description = models.CharField(max_length=300, blank=True)
    may_trade = models.BooleanField(default=False)
    may_withdraw = models.BooleanField(default=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    related = models.JSONField(default=list, blank=True)  # [{"label", "values"}] of accounts this one knows of
    stream_names = models.JSONField(default=list, blank=True)  # the venue's lists of fills that this account has
    verified_at = models.DateTimeField(null=True, blank=True)

    history_from = models.DateTimeField(help_text="How far back fills are wanted.")
    is_backfilling = models.BooleanField(default=True, help_text="Whether older fills are read, beside new ones.")
    due_at = models.DateTimeField(db_index=True, help_text="When it is read next.")
    failures = models.PositiveIntegerField(default=0)
    retired_at = models.DateTimeField(null=True, blank=True, help_text="Removed, with its history kept, since then.")
    fresh_at = models.DateTimeField(null=True, blank=True, help_text="Up to when every fill was asked for.")
    leased_until = models.DateTimeField(null=True, blank=True)
    lease = models.UUIDField(null=True, blank=True)
    # Another with each change of what hangs on this row, and never one that was here before: a count would come to the
    # same number twice where a transaction is rolled back, or a backup restored.
    version = models.UUIDField(default=uuid4, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "venue", "account_ref"],
                condition=~Q(account_ref=""),
                name="one_credential_per_account",
                violation_error_message="This account is here already.",
            ),
        ]
        ordering = ["venue", "label", "pk"]

    def __str__(self) -> str:
        return f"{self.venue_name} · {self.label}"

    @property
    def venue_type(self) -> type[Venue]:
        return VENUES[self.venue]

    @property
    def venue_name(self) -> str:
        return VENUES[self.venue].name if self.venue in VENUES else self.venue

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The lists of fills that are read of this account: all of the venue's, until the venue said which it has."""
        known = self.venue_type.streams
        return tuple(stream for stream in known if stream.name in self.stream_names) or known

    @property
    def health(self) -> HealthReport:
        return HealthReport(Health(self.health_state), self.health_reason, self.health_text, self.health_at)

    def set_secrets(self, credentials: Credentials) -> None:
        """Puts a venue's credentials into the encrypted column, bound to this row."""
        self.secrets = Secret(json.dumps({"v": 2, "row": str(self.uuid), "values": asdict(credentials)}))
        self.account_ref = credentials.account_ref

    def open_secrets(self) -> Credentials:
        """Raises SecretError for a wrong key, and for a ciphertext that was put into another row."""
        document: dict[str, Any] = json.loads(self.secrets.reveal())
        if document.pop("v", None) == 1:  # the values stood beside the rest, where their names could meet
            document = {"row": document.pop("account", None), "values": document}
        if document.get("row") != str(self.uuid):
            raise SecretError("The stored secrets belong to another account. Put in the account's key again.")
        return self.venue_type.credentials_type.parse(document["values"])

    # --- The lease: one worker at a time, free by itself when the worker is gone -------------------------------------

    def claim(self, *, now: datetime) -> bool:
        """Takes the lease if it is free."""
        lease = uuid4()
        free = Q(leased_until=None) | Q(leased_until__lte=now)
        until = now + timedelta(seconds=settings.LEASE_SECONDS)
        claimed = ExchangeCredential.objects.filter(free, pk=self.pk).update(lease=lease, leased_until=until) == 1
        if claimed:
            self.lease, self.leased_until = lease, until
        return claimed

    def keep(self, *, now: datetime, backfilling: bool = False) -> bool:
        """Holds the lease for longer, and makes the version another.

        False when the lease is lost, or the owner paused the account or its backfill.
        """
        mine = Q(pk=self.pk, lease=self.lease, is_enabled=True)
        if backfilling:
            mine &= Q(is_backfilling=True)
        until = now + timedelta(seconds=settings.LEASE_SECONDS)
        return ExchangeCredential.objects.filter(mine).update(leased_until=until, version=uuid4()) == 1

    def lock(self) -> None:
        """Within a transaction that changes what belongs to this account: nobody else does until its end."""
        ExchangeCredential.objects.filter(pk=self.pk).update(version=uuid4())

    def release(self) -> None:
        ExchangeCredential.objects.filter(pk=self.pk, lease=self.lease).update(lease=None, leased_until=None)


# Below, every foreign key to a credential leads a unique constraint or an index already. An index of its own would cost
# each insert, and mislead PostgreSQL into reading all of an account to find one of its rows.


class Fill(models.Model):
    """One execution in a perpetual market, as the venue last told it. Facts only."""

    credential = models.ForeignKey(ExchangeCredential, models.CASCADE, related_name="fills", db_index=False)
    fill_id = models.CharField(max_length=200)
    executed_at = models.DateTimeField()
    day = models.DateField()  # of executed_at in UTC
    symbol = models.CharField(max_length=64)
    base = models.CharField(max_length=40)
    quote = models.CharField(max_length=20)
    side = models.CharField(max_length=4, choices=[(side, side) for side in Side])
    liquidity = models.CharField(max_length=5, choices=[(role, role) for role in Liquidity])
    kind = models.CharField(max_length=12, choices=[(kind, kind) for kind in Kind])
    price = ExactDecimalField(help_text="Quote units per base unit.")
    qty = ExactDecimalField(help_text="Base units.")
    notional = UsdField(help_text="Quote units, rounded half-even to 8 decimals.")
    fee = ExactDecimalField(help_text="In the fee asset; above 0 paid, below 0 rebate.")
    fee_asset = models.CharField(max_length=20)
    realized_pnl = ExactDecimalField(null=True, help_text="Quote units, fees not deducted.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["credential", "fill_id"], name="a_fill_once"),
            models.CheckConstraint(condition=Q(notional__gte=0), name="a_fill_is_not_negative"),
        ]
        indexes = [models.Index(fields=["credential", "executed_at"], name="fills_by_time")]

    def __str__(self) -> str:
        return f"{self.executed_at:%Y-%m-%d %H:%M:%S} {self.side} {self.qty} {self.symbol} at {self.price}"

    @property
    def is_forced(self) -> bool:
        return self.kind in FORCED


class Coverage(models.Model):
    """What we know of one half-open range of time of one stream. The ranges of a stream never overlap."""

    class State(models.TextChoices):
        COVERED = "covered", "Covered"
        GAP = "gap", "Could not be read, will be tried again"
        OUT_OF_REACH = "out_of_reach", "The venue no longer has it"

    credential = models.ForeignKey(ExchangeCredential, models.CASCADE, related_name="coverage", db_index=False)
    stream = models.CharField(max_length=32)
    from_at = models.DateTimeField()
    until_at = models.DateTimeField()
    state = models.CharField(max_length=16, choices=State)
    reason = models.CharField(max_length=500, blank=True)
    remedy = models.CharField(max_length=300, blank=True)
    retry_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(from_at__lt=models.F("until_at")), name="a_range_is_not_empty"),
            models.UniqueConstraint(fields=["credential", "stream", "from_at"], name="a_range_starts_once"),
        ]
        ordering = ["credential", "stream", "from_at"]
        verbose_name_plural = "coverage"

    def __str__(self) -> str:
        return f"{self.stream} {self.from_at:%Y-%m-%d %H:%M} to {self.until_at:%Y-%m-%d %H:%M}: {self.state}"


class Reread(models.Model):
    """A range that is read once more, though the ledger may know it already. What is done is cut off."""

    credential = models.ForeignKey(ExchangeCredential, models.CASCADE, related_name="rereads", db_index=False)
    stream = models.CharField(max_length=32)
    from_at = models.DateTimeField()
    until_at = models.DateTimeField()
    asked_at = models.DateTimeField()
    retry_at = models.DateTimeField(null=True, blank=True)
    is_daily = models.BooleanField(default=False, help_text="The daily second look, which goes on without a backfill.")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(from_at__lt=models.F("until_at")), name="a_reread_is_not_empty"),
            models.UniqueConstraint(fields=["credential", "stream", "from_at"], name="a_reread_starts_once"),
        ]
        ordering = ["credential", "stream", "from_at"]

    def __str__(self) -> str:
        return f"{self.stream} {self.from_at:%Y-%m-%d %H:%M} to {self.until_at:%Y-%m-%d %H:%M}, again"


class Retraction(models.Model):
    """A fill the venue took back, by its identity: it is in no total, whether it came before or comes later."""

    credential = models.ForeignKey(ExchangeCredential, models.CASCADE, related_name="retractions", db_index=False)
    fill_id = models.CharField(max_length=200)
    why = models.CharField(max_length=300)
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["credential", "fill_id"], name="a_fill_retracted_once")]
        ordering = ["-seen_at"]

    def __str__(self) -> str:
        return f"{self.fill_id}: {self.why}"


class HeldRow(models.Model):
    """A row of a venue that was not understood, raw. `reparse_held` tries again after an upgrade."""

    credential = models.ForeignKey(ExchangeCredential, models.CASCADE, related_name="held_rows", db_index=False)
    stream = models.CharField(max_length=32)
    digest = models.CharField(max_length=64)
    raw = models.TextField()
    why = models.CharField(max_length=300)
    executed_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["credential", "digest"], name="a_row_held_once")]
        ordering = ["-seen_at"]

    def __str__(self) -> str:
        return f"{self.why} ({self.seen_at:%Y-%m-%d %H:%M})"


class SyncRun(models.Model):
    """One reading of an account: what was asked, what came, how it ended."""

    class Trigger(models.TextChoices):
        SCHEDULE = "schedule", "Schedule"
        USER = "user", "Asked for on the page"
        COMMAND = "command", "Command line"

    class Outcome(models.TextChoices):
        RUNNING = "running", "Running"
        COMPLETE = "complete", "Complete"
        WAITING = "waiting", "Waits for the venue's rate limit"
        INCOMPLETE = "incomplete", "Finished with something missing"
        STOPPED = "stopped", "Stopped"
        UNAVAILABLE = "unavailable", "Venue unavailable"
        REJECTED = "rejected", "Key not accepted"
        FAILED = "failed", "Failed"

    credential = models.ForeignKey(ExchangeCredential, models.CASCADE, related_name="runs", db_index=False)
    trigger = models.CharField(max_length=16, choices=Trigger)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    since = models.DateTimeField()
    until = models.DateTimeField()
    asked = models.CharField(max_length=200, blank=True)  # beyond what is new: what was wanted, in words
    requests = models.PositiveIntegerField(default=0)
    retries = models.PositiveIntegerField(default=0)
    waited_seconds = models.FloatField(default=0)
    waits = models.JSONField(default=dict, blank=True)  # {why: seconds}
    rows = models.PositiveIntegerField(default=0)
    new = models.PositiveIntegerField(default=0)
    seen = models.PositiveIntegerField("seen before", default=0)
    skipped = models.JSONField(default=dict, blank=True)  # {kind: rows}
    held = models.PositiveIntegerField(default=0)
    retracted = models.PositiveIntegerField(default=0)  # fills taken out again
    amended = models.PositiveIntegerField(default=0)  # fills that changed, or came late
    settled_seconds = models.FloatField(default=0)  # of history, over all streams, that this run settled
    reached_at = models.DateTimeField(null=True, blank=True)  # where in the past it is, or ended
    outcome = models.CharField(max_length=16, choices=Outcome, default=Outcome.RUNNING)
    message = models.CharField(max_length=500, blank=True)
    then = models.CharField(max_length=300, blank=True)  # what happens next

    class Meta:
        indexes = [models.Index(fields=["credential", "-started_at"], name="runs_by_time")]
        ordering = ["-started_at"]

    def __str__(self) -> str:
        return f"{self.credential_id} {self.started_at:%Y-%m-%d %H:%M:%S} {self.outcome}"


def history_start(now: datetime) -> datetime:
    """Two years back, with ten minutes to begin in: most venues remember no longer than that, to the second."""
    return (now - timedelta(days=730) + timedelta(minutes=10)).replace(second=0, microsecond=0)
