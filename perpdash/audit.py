"""What the log of what was done hears of: sign-ins, second factors, the admin, and what people do to their accounts."""

from typing import Any

from allauth.account import signals as account
from allauth.account.authentication import get_authentication_records
from allauth.mfa import signals as mfa
from allauth.mfa.models import Authenticator
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.http import HttpRequest

from accounts.audit import UNKNOWN_NAME, harmless, note
from accounts.models import User
from exchanges.events import acted
from exchanges.models import ExchangeCredential

WAYS_IN = {
    "password": "password", "link": "one-time link", "password_reset": "new password by mail", "totp": "code",
    "recovery_codes": "recovery code", "webauthn": "passkey",
}  # fmt: skip
SECOND_FACTORS = {
    Authenticator.Type.TOTP: "Authenticator app",
    Authenticator.Type.RECOVERY_CODES: "Recovery codes",
    Authenticator.Type.WEBAUTHN: "Passkey",
}
IN_THE_ADMIN = {1: "admin_added", 2: "admin_changed", 3: "admin_removed"}


# --- What people do to their accounts --------------------------------------------------------------------------------


@receiver(acted)
def note_act(owner_id: int | None, what: str, about: str, **_: Any) -> None:
    note(owner_id, what, about)


# --- How people get in -----------------------------------------------------------------------------------------------


@receiver(user_logged_in)
def note_sign_in(request: HttpRequest, user: User, **_: Any) -> None:
    with harmless():
        records = get_authentication_records(request, user)
        ways = [WAYS_IN.get(record.get("type") or record.get("method"), "") for record in records]
        note(user.pk, "signed_in", " and ".join(filter(None, ways)), request=request)


@receiver(user_login_failed)
def note_failure(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    """What was typed as a name is not kept: it may well be a password."""
    with harmless():
        owner = User.objects.filter(username__iexact=str(credentials.get("username", ""))).first()
        is_in = request is not None and request.user.is_authenticated
        what = "password_failed" if is_in else "sign_in_failed"
        note(owner.pk if owner else None, what, "" if owner else UNKNOWN_NAME, request=request)


@receiver(mfa.authentication_failed)
def note_second_failure(user: User, **_: Any) -> None:
    note(user.pk, "second_factor_failed")


@receiver(user_logged_out)
def note_sign_out(user: User | None, request: HttpRequest, **_: Any) -> None:
    if user:
        note(user.pk, "signed_out", request=request)


@receiver(post_save, sender=User)
def note_joining(instance: User, created: bool, raw: bool, **_: Any) -> None:
    if created and not raw:
        note(instance.pk, "joined")


@receiver(account.password_set)
@receiver(account.password_changed)
def note_password(user: User, **_: Any) -> None:
    note(user.pk, "password_changed")


@receiver(account.password_reset)
def note_reset(user: User, **_: Any) -> None:
    note(user.pk, "password_reset")


@receiver(account.email_added)
def note_address_added(user: User, email_address: Any, **_: Any) -> None:
    note(user.pk, "email_added", email_address.email)


@receiver(account.email_changed)
def note_address_changed(user: User, to_email_address: Any, **_: Any) -> None:
    note(user.pk, "email_changed", to_email_address.email)


@receiver(account.email_confirmed)
def note_address_confirmed(email_address: Any, **_: Any) -> None:
    note(email_address.user_id, "email_confirmed", email_address.email)


@receiver(account.email_removed)
def note_address_removed(user: User, email_address: Any, **_: Any) -> None:
    note(user.pk, "email_removed", email_address.email)


@receiver(mfa.authenticator_added)
def note_factor_added(user: User, authenticator: Authenticator, **_: Any) -> None:
    note(user.pk, "second_factor_added", SECOND_FACTORS[Authenticator.Type(authenticator.type)])


@receiver(mfa.authenticator_removed)
def note_factor_removed(user: User, authenticator: Authenticator, **_: Any) -> None:
    note(user.pk, "second_factor_removed", SECOND_FACTORS[Authenticator.Type(authenticator.type)])


@receiver(mfa.authenticator_reset)
def note_factor_reset(user: User, authenticator: Authenticator, **_: Any) -> None:
    note(user.pk, "second_factor_reset", SECOND_FACTORS[Authenticator.Type(authenticator.type)])


# --- The admin -------------------------------------------------------------------------------------------------------


@receiver(post_save, sender=LogEntry)
def note_admin(instance: LogEntry, created: bool, **_: Any) -> None:
    """It concerns whose the row is; else whoever changed it."""
    with harmless():
        kind = instance.content_type.model_class() if instance.content_type else None
        is_removed = instance.action_flag == DELETION
        if is_removed and kind is ExchangeCredential:
            return  # its removal says so itself
        row = kind._default_manager.filter(pk=instance.object_id).first() if kind else None
        owner_id = getattr(row, "owner_id", None) or getattr(row, "user_id", None)
        if isinstance(row, User) and not is_removed:
            owner_id = row.pk
        name = kind._meta.verbose_name if kind else "row"
        changes = f": {instance.get_change_message()}" if instance.change_message and not is_removed else ""
        what = IN_THE_ADMIN[instance.action_flag]
        note(owner_id or instance.user_id, what, f"{name} {instance.object_repr}{changes}")
