"""The doctor for keys: what a credential is, what it may do, when it dies, and how it fares, in plain words."""

from dataclasses import asdict
from datetime import datetime, timedelta

from exchanges.connect import connect
from exchanges.fields import SecretError
from exchanges.models import ExchangeCredential, Health
from exchanges.venues.base import (
    BudgetSpent,
    CredentialsRejected,
    Identity,
    PayloadError,
    Reason,
    VenueError,
    VenueUnavailable,
)

EXPIRY_WARNING = timedelta(days=14)
FIRST_RETRY = timedelta(minutes=1)
LONGEST_RETRY = timedelta(minutes=15)
# What an examination may change of a credential.
FIELDS = [
    "account_ref", "description", "may_trade", "may_withdraw", "expires_at", "related", "stream_names", "verified_at",
    "failures", "due_at", "health_state", "health_reason", "health_text", "health_at",
]  # fmt: skip


def examine(credential: ExchangeCredential, *, patience: float) -> Identity:
    """Asks the venue. Raises VenueError; a key that can trade, and is not allowed to, is a CredentialsRejected."""
    with connect(credential, patience=patience) as venue:
        return judged(credential, venue.identify())


def judged(credential: ExchangeCredential, identity: Identity) -> Identity:
    """The identity, if a key of its powers may be kept; else raises CredentialsRejected."""
    if (identity.may_trade or identity.may_withdraw) and not credential.allows_trading_key:
        powers = " and ".join(["trade"] * identity.may_trade + ["withdraw"] * identity.may_withdraw)
        raise CredentialsRejected(
            Reason.CAN_TRADE,
            f"This key can {powers}. perpdash only reads: make a read-only key, or insist on this one.",
        )
    return identity


def refuse_twin(credential: ExchangeCredential, identity: Identity) -> None:
    """An account stored before the venue was asked may turn out to be one that is here. Raises CredentialsRejected."""
    same = ExchangeCredential.objects.filter(
        owner_id=credential.owner_id, venue=credential.venue, account_ref=identity.account_ref
    )
    if credential.pk and (twin := same.exclude(pk=credential.pk).first()):
        raise CredentialsRejected(
            Reason.WRONG_ACCOUNT,
            f"This account is here already, as “{twin.label}”: read twice, it would count twice. Remove one of them.",
        )


def verify(credential: ExchangeCredential, *, now: datetime, patience: float) -> bool:
    """Examines the key and writes the finding into `credential` (saving is the caller's). True if it works.

    Raises BudgetSpent, which says nothing of the key.
    """
    try:
        identity = examine(credential, patience=patience)
        refuse_twin(credential, identity)
    except BudgetSpent:
        raise
    except (VenueError, SecretError) as fault:
        note_failure(credential, fault, now=now)
        return False
    note_identity(credential, identity, now=now)
    return True


def note_identity(credential: ExchangeCredential, identity: Identity, *, now: datetime) -> None:
    credential.account_ref = identity.account_ref
    credential.description = identity.description
    credential.may_trade, credential.may_withdraw = identity.may_trade, identity.may_withdraw
    credential.expires_at = identity.expires_at
    credential.stream_names = list(identity.streams)
    credential.related = [asdict(related) for related in identity.related]
    credential.verified_at = now
    note_success(credential, now=now)


def note_success(credential: ExchangeCredential, *, now: datetime) -> None:
    text = "Works."
    if credential.expires_at and credential.expires_at - now < EXPIRY_WARNING:
        days = (credential.expires_at - now).days
        left = "less than a day" if days < 1 else "1 day" if days == 1 else f"{days} days"
        text = f"Works, and expires in {left} ({credential.expires_at:%Y-%m-%d}). Make a new key in time."
    credential.failures = 0
    _report(credential, Health.WORKS, None, text, now)


def note_failure(credential: ExchangeCredential, fault: VenueError | SecretError, *, now: datetime) -> None:
    """What happened, whose turn it is, and when it is tried again; `due_at` moves with it."""
    credential.failures += 1
    pause = min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(credential.failures - 1, 10))
    match fault:
        case CredentialsRejected(reason=Reason.WRONG_KEY) if credential.verified_at:
            text = (
                f"This key worked on {credential.verified_at:%Y-%m-%d} and no longer does. {fault} "
                "Make a new key and put it in: reading goes on from where it stopped."
            )
            _report(credential, Health.REJECTED, Reason.REVOKED, text, now)
        case CredentialsRejected():
            _report(credential, Health.REJECTED, fault.reason, str(fault), now)
        case SecretError():
            _report(credential, Health.UNREADABLE, None, str(fault), now)
        case PayloadError():
            credential.due_at = now + LONGEST_RETRY
            _report(credential, Health.PUZZLED, None, str(fault), now)
        case _:
            asked = timedelta(seconds=fault.retry_in or 0) if isinstance(fault, VenueUnavailable) else timedelta()
            pause = max(pause, asked)
            credential.due_at = now + pause
            text = f"{fault} Trying again in {in_words(pause)}; nothing is lost."
            _report(credential, Health.UNAVAILABLE, fault.reason, text, now)


def note_bug(credential: ExchangeCredential, fault: Exception, *, now: datetime) -> None:
    """A fault of ours. Only its kind is shown: its text may hold anything."""
    credential.failures += 1
    text = f"perpdash itself failed ({type(fault).__name__}); its log says where. Nothing stored is lost."
    _report(credential, Health.PUZZLED, None, text, now)


def note_our_trouble(credential: ExchangeCredential, words: str, *, now: datetime) -> None:
    """Our database or Redis failed while it was read: no failure of the venue or the key."""
    _report(credential, Health.UNAVAILABLE, None, words, now)


def in_words(span: timedelta) -> str:
    """ "30 seconds", "2 minutes", "15 minutes", "3 hours"."""
    seconds = round(span.total_seconds())
    if seconds < 60:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    minutes = round(seconds / 60)
    if minutes >= 120:
        return f"{round(minutes / 60)} hours"
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


def _report(credential: ExchangeCredential, state: Health, reason: Reason | None, text: str, now: datetime) -> None:
    credential.health_state, credential.health_reason = state, reason or ""
    credential.health_text, credential.health_at = text[:500], now
