"""Adding an account, its key, its work, its end: what page, API, admin and command line do alike."""

import json
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from exchanges import doctor, sync
from exchanges.events import act
from exchanges.fields import Secret
from exchanges.models import STOPPED, ExchangeCredential, Health, SyncRun, history_start
from exchanges.venues.base import Credentials, CredentialsRejected, Reason, Venue, Window
from volume import live
from volume.models import Preferences
from volume.tasks import bring_up_to_date, hand_out, refresh_credential

FIRST_MOMENT = datetime(2015, 1, 1, tzinfo=UTC)
AT_THE_PAGE = 3.0  # seconds somebody in front of a page is made to wait at once


class AlreadyAdded(Exception):
    """The owner has this account of this venue."""

    def __init__(self, credential: ExchangeCredential | None) -> None:
        super().__init__(
            f"This account is here already, as “{credential.label}”." if credential else "This account is here already."
        )


class Retired(Exception):
    """Only the history of the account is here, so there is nothing to ask its venue with. Says how to change that."""


def needs_key(venue: type[Venue]) -> bool:
    """Whether reading takes a secret. Where it does not, what is public names the account and can't be replaced."""
    return any(not item.repr for item in fields(venue.credentials_type))


def add(
    owner: Any,  # of AUTH_USER_MODEL
    venue: str,
    label: str,
    credentials: Credentials,
    *,
    now: datetime,
    verify: bool = True,
    allow_trading_key: bool = False,
    patience: float = AT_THE_PAGE,
) -> ExchangeCredential:
    """Verifies and stores an account; its first reading is due at once.

    Raises VenueError when the venue does not take the key or does not answer (nothing is stored then), AlreadyAdded
    when the owner has the account. One of which only the history was kept goes on, under the new label.
    """
    credential = ExchangeCredential(
        owner=owner, venue=venue, label=label, allows_trading_key=allow_trading_key,
        history_from=history_start(now), due_at=now,
    )  # fmt: skip
    if verify:
        try_key(credential, credentials, now=now, patience=patience)
    else:
        credential.set_secrets(credentials)
    if retired := _twins(credential).exclude(retired_at=None).first():
        return _revive(retired, credential, credentials, now=now)
    _save_once(credential)
    _tell(credential, "account_added")
    ask_for_reading(credential, now=now)
    live.push(credential.owner_id)
    return credential


def take_key(
    credential: ExchangeCredential, credentials: Credentials, *, now: datetime, allow_trading_key: bool = False
) -> None:
    """Replaces the key of a stored account; reading goes on from the ledger, at once, also of a retired one.

    Raises VenueError and AlreadyAdded. The stored key stays then; `credential` itself is spoilt.
    """
    credential.allows_trading_key = allow_trading_key
    try_key(credential, credentials, now=now)
    store_key(credential, now=now)


def try_key(
    credential: ExchangeCredential, credentials: Credentials, *, now: datetime, patience: float = AT_THE_PAGE
) -> None:
    """Puts a (new) key into `credential` and asks the venue about it. Nothing is saved.

    Raises VenueError; among it CredentialsRejected for the key of another account, whose fills would be mixed in.
    """
    known = credential.account_ref
    credential.set_secrets(credentials)
    credential.account_ref = credential.account_ref or known
    doctor.note_identity(credential, doctor.examine(credential, patience=patience), now=now)
    if known and credential.account_ref != known:
        raise CredentialsRejected(
            Reason.WRONG_ACCOUNT, f"This key is of another account ({credential.account_ref}). Add that one on its own."
        )


def store_key(credential: ExchangeCredential, *, now: datetime) -> None:
    """Saves the key that was tried, and nothing else of the account. Raises AlreadyAdded.

    The lease is broken: who reads with the old key stops, and says nothing of the account any more.
    """
    credential.lease = credential.leased_until = None
    columns = ["secrets", "allows_trading_key", "lease", "leased_until", *doctor.FIELDS]
    if credential.retired_at:
        credential.retired_at, credential.is_enabled = None, True
        columns += ["retired_at", "is_enabled"]
    _save_once(credential, update_fields=columns)
    _tell(credential, "key_replaced")
    ask_for_reading(credential, now=now)
    live.push(credential.owner_id)


def _tell(credential: ExchangeCredential, what: str) -> None:
    act(credential.owner_id, what, credential)
    if credential.allows_trading_key:
        act(credential.owner_id, "trading_key_allowed", credential)


def _save_once(credential: ExchangeCredential, **options: Any) -> None:
    """Saves, unless the owner has the account already."""
    same = _twins(credential)
    if known := same.first():
        raise AlreadyAdded(known)
    try:
        with transaction.atomic():
            credential.save(**options)
    except IntegrityError:
        raise AlreadyAdded(same.first()) from None


def _twins(credential: ExchangeCredential) -> QuerySet[ExchangeCredential]:
    """The same account of the same owner; empty while the venue did not say which account it is."""
    others = ExchangeCredential.objects.exclude(pk=credential.pk).exclude(account_ref="")
    return others.filter(owner=credential.owner, venue=credential.venue, account_ref=credential.account_ref)


def _revive(
    retired: ExchangeCredential, added: ExchangeCredential, credentials: Credentials, *, now: datetime
) -> ExchangeCredential:
    """What was to be added is the retired account: it gets the key, and what the venue said of it."""
    retired.label = added.label
    retired.save(update_fields=["label"])
    retired.set_secrets(credentials)
    for name in ("allows_trading_key", *doctor.FIELDS):
        setattr(retired, name, getattr(added, name))
    store_key(retired, now=now)
    return retired


def ask_for_reading(credential: ExchangeCredential, *, now: datetime, backfill: bool = False) -> None:
    """Makes the account due and tells a worker. If no worker hears it, the next dispatch does."""
    credential.due_at = now
    if backfill:
        credential.is_backfilling = True
    credential.save(update_fields=["due_at", "is_backfilling"] if backfill else ["due_at"])
    transaction.on_commit(
        lambda: hand_out(
            refresh_credential, (credential.pk,), {"trigger": SyncRun.Trigger.USER, "gaps_too": backfill}, expires=60
        )
    )


def read_again(credential: ExchangeCredential, window: Window | None, *, now: datetime) -> Window | None:
    """Reads a range once more, or (None) everything. Nothing that is stored is lost, and nothing counts twice.

    Returns what of it is read, which is never more than was wanted of the account so far; None where that is nothing.
    """
    whole = Window(credential.history_from, now)
    wanted = Window(max(window.since, whole.since), min(window.until, whole.until)) if window else whole
    if not wanted or not sync.ask_again(credential, wanted, now=now):
        return None
    ask_for_reading(credential, now=now, backfill=True)
    return wanted


def prefer(owner: Any, **chosen: bool) -> Preferences:
    """Stores how the owner wants to count; every open page follows."""
    before = Preferences.of(owner)
    preferences, _ = Preferences.objects.update_or_create(owner_id=owner.pk, defaults=chosen)
    changed = [
        f"{Preferences._meta.get_field(name).verbose_name} {'on' if value else 'off'}"  # type: ignore[union-attr]
        for name, value in chosen.items()
        if value != getattr(before, name)
    ]
    if changed:
        act(owner.pk, "settings_changed", ", ".join(changed))
    if preferences.stablecoins_at_market != before.stablecoins_at_market:
        transaction.on_commit(lambda: hand_out(bring_up_to_date, expires=300))
    transaction.on_commit(lambda: live.push(owner.pk))
    return preferences


def want_from(credential: ExchangeCredential, since: datetime) -> None:
    """History is wanted from `since`, if that is further back than before (and no venue is older than 2015)."""
    since = max(since, FIRST_MOMENT)
    if since < credential.history_from:
        credential.history_from = since
        credential.save(update_fields=["history_from"])


def stop_backfill(credential: ExchangeCredential) -> None:
    """No older fills are read from now on; new ones are. A running backfill ends after its page."""
    credential.is_backfilling = False
    credential.save(update_fields=["is_backfilling"])
    live.push(credential.owner_id)


def rename(credential: ExchangeCredential, label: str) -> None:
    before = str(credential)
    credential.label = label
    credential.save(update_fields=["label"])
    if str(credential) != before:
        act(credential.owner_id, "account_renamed", f"{before} to {label}")


def pause(credential: ExchangeCredential) -> None:
    """Nothing is read any more. What is stored stays."""
    credential.is_enabled = False
    credential.save(update_fields=["is_enabled"])
    act(credential.owner_id, "account_paused", credential)
    live.push(credential.owner_id)


def resume(credential: ExchangeCredential, *, now: datetime) -> None:
    """Reads a paused account again. Raises Retired."""
    _refuse_retired(credential)
    credential.is_enabled = True
    credential.save(update_fields=["is_enabled"])
    act(credential.owner_id, "account_resumed", credential)
    ask_for_reading(credential, now=now)


def reverify(credential: ExchangeCredential, *, now: datetime, patience: float = AT_THE_PAGE) -> bool:
    """Asks the venue about the key now. One that works again is read again at once.

    Raises BudgetSpent, and changes nothing, when it is not our turn to ask; and Retired.
    """
    _refuse_retired(credential)
    was_stopped, asked_with = credential.health_state in STOPPED, credential.secrets
    works = doctor.verify(credential, now=now, patience=patience)
    with transaction.atomic():
        credential.lock()
        stored = ExchangeCredential.objects.filter(pk=credential.pk).first()
        if stored is None or asked_with.sealed not in (None, stored.secrets.sealed):
            return works  # another key was put in meanwhile: this finding is not of that one
        credential.save(update_fields=doctor.FIELDS)
    if works and was_stopped:
        ask_for_reading(credential, now=now)
    live.push(credential.owner_id)
    return works


def retire(credential: ExchangeCredential, *, now: datetime) -> None:
    """The key goes, for good. The fills, days, ledger and runs stay, and count; nothing is read any more."""
    with transaction.atomic():
        credential.lock()  # a page that is being stored ends first; its worker then finds its lease gone
        credential.secrets = Secret(json.dumps({"v": 2, "row": str(credential.uuid), "values": {}}))
        credential.allows_trading_key = credential.may_trade = credential.may_withdraw = False
        credential.expires_at = credential.verified_at = credential.lease = credential.leased_until = None
        credential.is_enabled, credential.retired_at = False, now
        credential.description, credential.failures = "", 0
        credential.health_state, credential.health_reason, credential.health_at = Health.NEW, "", now
        credential.health_text = retired_words(credential)
        credential.save(
            update_fields=[
                "secrets", "allows_trading_key", "may_trade", "may_withdraw", "expires_at", "verified_at", "lease",
                "leased_until", "is_enabled", "retired_at", "description", "failures", "health_state",
                "health_reason", "health_text", "health_at",
            ]
        )  # fmt: skip
        act(credential.owner_id, "account_retired", credential)
    live.push(credential.owner_id)


def retired_words(credential: ExchangeCredential) -> str:
    """What became of a retired account, and how it is read again."""
    with_what = "a key of the same account" if needs_key(credential.venue_type) else "its address"
    how = "Put in" if needs_key(credential.venue_type) else "Add"
    return f"Removed on {credential.retired_at:%Y-%m-%d}, with its history kept. {how} {with_what} again to read on."


def _refuse_retired(credential: ExchangeCredential) -> None:
    if credential.retired_at:
        raise Retired(f"{credential}: {retired_words(credential)}")


def remove(credential: ExchangeCredential) -> None:
    """The account, its key, fills, days, ledger and runs."""
    owner_id = credential.owner_id
    with transaction.atomic():
        credential.lock()  # a page that is being stored ends first; its worker then finds the account gone
        credential.delete()
        act(owner_id, "account_removed", credential)
    live.push(owner_id)


def remove_all(owner_id: int) -> int:
    """Everything an owner has here but the sign-in, all of it or nothing. Returns how many accounts there were."""
    with transaction.atomic():
        accounts = list(ExchangeCredential.objects.select_for_update().filter(owner_id=owner_id).order_by("pk"))
        for credential in accounts:
            credential.delete()
        Preferences.objects.filter(owner_id=owner_id).delete()
        act(owner_id, "data_deleted", ", ".join(str(credential) for credential in accounts) or "nothing was stored")
    live.push(owner_id)
    return len(accounts)
