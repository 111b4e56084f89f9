"""A person's own page: how they sign in, and where they are signed in."""

import time
from typing import Any

from allauth.account import app_settings
from allauth.account.authentication import get_authentication_records
from allauth.account.models import EmailAddress
from allauth.account.views import EmailView, PasswordChangeView
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.views import AddWebAuthnView
from allauth.usersessions.internal.flows.sessions import end_sessions
from allauth.usersessions.models import UserSession
from allauth.usersessions.views import ListUserSessionsView
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts.audit import note
from accounts.browsers import browser_name
from accounts.forms import FirstPasswordForm
from accounts.passkeys import are_possible


@require_GET
def you(request: HttpRequest) -> HttpResponse:
    person = request.user
    factors = Authenticator.objects.filter(user_id=person.pk).order_by("pk")
    by_type = {factor.type: factor for factor in factors}
    codes = by_type.get(Authenticator.Type.RECOVERY_CODES)
    return render(
        request,
        "accounts/you.html",
        {
            "app": by_type.get(Authenticator.Type.TOTP),
            "codes": codes,
            "codes_left": codes and codes_left(codes),
            "passkeys": [factor for factor in factors if factor.type == Authenticator.Type.WEBAUTHN],
            "passkeys_possible": are_possible(request),
            "email": EmailAddress.objects.get_verified(person),
            "new_email": EmailAddress.objects.get_new(person),
            "mail": settings.MAIL,
            "sessions": len(UserSession.objects.purge_and_list(person)),
        },
    )


def codes_left(codes: Authenticator) -> int | None:
    """None where this installation's keys can't open them."""
    try:
        return len(codes.wrap().get_unused_codes())
    except ValidationError:
        return None


def came_by_link(request: HttpRequest) -> bool:
    """Whether they signed in by a link, so lately that they need not say once more who they are."""
    since = time.time() - app_settings.REAUTHENTICATION_TIMEOUT
    records = get_authentication_records(request, request.user)
    return any(record["method"] == "link" and record["at"] > since for record in records)


class Password(PasswordChangeView):  # type: ignore[misc]
    """Who came by a link may well have forgotten the current password, and is not asked for it."""

    def get_form_class(self) -> Any:
        return FirstPasswordForm if came_by_link(self.request) else super().get_form_class()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return dict(super().get_context_data(**kwargs)) | {"mail": settings.MAIL}


class Email(EmailView):  # type: ignore[misc]
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return dict(super().get_context_data(**kwargs)) | {"mail": settings.MAIL}


class AddPasskey(AddWebAuthnView):  # type: ignore[misc]
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return dict(super().get_context_data(**kwargs)) | {"passkeys_possible": are_possible(self.request)}


class Sessions(ListUserSessionsView):  # type: ignore[misc]
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        known = dict(super().get_context_data(**kwargs))
        rows = [
            {"session": session, "browser": browser_name(session.user_agent), "is_current": session.is_current()}
            for session in known["sessions"]
        ]
        rows.sort(key=lambda row: (not row["is_current"], -row["session"].last_seen_at.timestamp()))
        return known | {"rows": rows}

    def form_valid(self, form: Any) -> HttpResponse:
        note(self.request.user.pk, "session_ended", "all others")
        response: HttpResponse = super().form_valid(form)
        return response


@require_POST
def end_session(request: HttpRequest, pk: int) -> HttpResponseBase:
    session = get_object_or_404(UserSession, pk=pk, user_id=request.user.pk)
    name = browser_name(session.user_agent)
    note(session.user_id, "session_ended", name)
    end_sessions(request, [session])
    messages.success(request, f"{name} is signed out.")
    return redirect("usersessions_list")
