"""The log of what was done here: who did it, when, how and from where. Whom it concerns can read it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from ipaddress import ip_address

from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from accounts.browsers import known_browser
from accounts.current import address_of, current_request
from accounts.models import ApiToken, AuditEvent

logger = logging.getLogger("perpdash.audit")
UNKNOWN_NAME = "unknown name"
QUOTES = dict.fromkeys(map(ord, "“”"))

# What may have been done, in words; {} is what it was done to.
SENTENCES = {
    "joined": "Joined",
    "signed_in": "Signed in{}",
    "sign_in_failed": "Sign-in failed{}",
    "password_failed": "Confirming the password failed",
    "second_factor_failed": "Second step of the sign-in failed{}",
    "signed_out": "Signed out",
    "link_made": "Sign-in link made",
    "password_changed": "Password changed",
    "password_reset": "Password reset by mail",
    "email_added": "E-mail address {} added",
    "email_changed": "E-mail address changed to {}",
    "email_confirmed": "E-mail address {} confirmed",
    "email_removed": "E-mail address {} removed",
    "second_factor_added": "{} added",
    "second_factor_removed": "{} removed",
    "second_factor_reset": "{} made anew",
    "session_ended": "Session ended: {}",
    "token_made": "API token {} made",
    "token_revoked": "API token {} revoked",
    "invited": "Invitation made{}",
    "invitation_revoked": "Invitation revoked{}",
    "person_removed": "{} removed, with all that was theirs",
    "deactivated": "{} shut out",
    "reactivated": "{} let in again",
    "account_added": "{} added",
    "account_renamed": "Renamed: {}",
    "account_paused": "{} paused",
    "account_resumed": "{} resumed",
    "account_retired": "Key of {} removed, its history kept",
    "account_removed": "{} removed, with everything read from it",
    "key_replaced": "Key of {} replaced",
    "trading_key_allowed": "A key of {} that can trade or withdraw was allowed",
    "settings_changed": "Settings changed: {}",
    "exported": "Everything exported",
    "data_deleted": "Everything deleted but the sign-in: {}",
    "admin_added": "Added in the admin: {}",
    "admin_changed": "Changed in the admin: {}",
    "admin_removed": "Removed in the admin: {}",
    "backed_up": "Backup written to {}",
    "restored": "Backup of {} restored",
    "secrets_rotated": "Secrets put under the newest key: {}",
}
PLACES = {
    AuditEvent.Way.PAGE: "on the page",
    AuditEvent.Way.API: "over the API",
    AuditEvent.Way.ADMIN: "in the admin",
    AuditEvent.Way.COMMAND: "from the command line",
}


def note(owner_id: int | None, what: str, about: str = "", *, request: HttpRequest | None = None) -> None:
    """Something was done that concerns this person, or (None) the installation. Who did it, the request says.

    It is of the transaction it is called in, and goes if that one does. That it can't be noted stops nobody.
    """
    request = current_request.get() or request
    with harmless():
        asker = _asker(request) if request else {"way": AuditEvent.Way.COMMAND}
        AuditEvent.objects.create(at=timezone.now(), owner_id=owner_id, what=what, about=_printable(about), **asker)


@contextmanager
def harmless() -> Iterator[None]:
    """Trouble within is put into the operator's log, undone, and stops nothing."""
    try:
        with transaction.atomic():
            yield
    except Exception as fault:
        logger.warning("What was done could not be noted in the log of what was done: %s", type(fault).__name__)


def forget(before: datetime) -> int:
    """Removes what was noted before. Returns how much that was."""
    return AuditEvent.objects.filter(at__lt=before).delete()[0]


def _asker(request: HttpRequest) -> dict[str, str | None]:
    user, token = getattr(request, "user", None), getattr(request, "auth", None)
    match = request.resolver_match
    places = {"api": AuditEvent.Way.API, "admin": AuditEvent.Way.ADMIN}
    try:
        address = str(ip_address(address_of(request)))
    except ValueError:
        address = None
    return {
        "way": places.get(match.app_name if match else "", AuditEvent.Way.PAGE),
        "actor": user.get_username() if user else "",
        "token": _printable(token.name) if isinstance(token, ApiToken) else "",
        "address": address,
        "client": _printable(request.headers.get("User-Agent", "")),
    }


def _printable(text: str) -> str:
    return "".join(filter(str.isprintable, text))[:200]


def sentence(event: AuditEvent) -> str:
    """What was done, by whom, how and from where, as a sentence without its full stop."""
    how, whence = [PLACES[AuditEvent.Way(event.way)]], []
    if event.actor and event.actor != (event.owner.get_username() if event.owner else ""):
        how.insert(0, f"by {event.actor}")
    if event.token:
        how.append(f"with the token {event.token}")
    if event.address:
        whence.append(f"from {event.address}")
    if event.client:
        whence.append(f"with {known_browser(event.client) or _quoted(event.client)}")
    return ", ".join(filter(None, (_what(event), " ".join(how), " ".join(whence))))


def _quoted(words: str) -> str:
    """What a program calls itself may read as if it were of the log."""
    return f"“{words[:40].translate(QUOTES)}”"


def _what(event: AuditEvent) -> str:
    template = SENTENCES.get(event.what, event.what.replace("_", " ").capitalize())
    if template.endswith("{}") and template[-3] != " ":
        return template.format(f" ({event.about})" if event.about else "")
    return template.format(event.about)
