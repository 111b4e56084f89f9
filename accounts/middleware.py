"""Leads the first visitor to making the owner's account, asks who one is once more, notes when a session was seen."""

import hashlib
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.reauthentication import suspend_request
from allauth.core.exceptions import ReauthenticationRequired
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.views import redirect_to_login
from django.core.cache import cache
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode

from accounts.models import User

SEEN_NOTED_EVERY = 300  # seconds
SECRET_FIELDS = {"password", "password1", "password2", "oldpassword", "code", "credential"}
SECRET_HEADERS = ("HTTP_COOKIE", "HTTP_AUTHORIZATION")
logger = logging.getLogger("perpdash.accounts")


class WelcomeMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.has_people = False

    def __call__(self, request: HttpRequest) -> HttpResponse:
        welcome = reverse("accounts:welcome")
        free = request.path.startswith(
            (welcome, f"/{settings.STATIC_URL.strip('/')}/", "/api/", "/health/", "/metrics")
        )
        if not (free or self.has_people):
            self.has_people = User.objects.exists()
            if not self.has_people:
                return redirect(welcome)
        return self.get_response(request)


class SignInMiddleware(LoginRequiredMiddleware):
    """Leads back to a page: where a button was pressed, to the page it stands on, as nothing is sent again unasked."""

    def process_view(self, request: HttpRequest, view_func: Any, view_args: Any, view_kwargs: Any) -> Any:
        if not getattr(view_func, "login_required", True):
            return None  # who asks is not looked up: whether this process lives is told without the database
        return super().process_view(request, view_func, view_args, view_kwargs)

    def handle_no_permission(self, request: HttpRequest, view_func: Any) -> Any:
        if request.method in ("GET", "HEAD"):
            return super().handle_no_permission(request, view_func)
        return redirect_to_login(page_before(request), self.get_login_url(view_func))


def page_before(request: HttpRequest) -> str:
    """The path of the page of ours this request was sent from; else of the dashboard."""
    referer = request.headers.get("Referer", "")
    page = urlsplit(referer)._replace(scheme="", netloc="", fragment="").geturl()
    is_ours = url_has_allowed_host_and_scheme(referer, allowed_hosts={request.get_host()})
    is_path = url_has_allowed_host_and_scheme(page, allowed_hosts=None)  # "//elsewhere" is none
    return page if is_ours and is_path else reverse(settings.LOGIN_REDIRECT_URL)


class ConfirmMiddleware:
    """Sends who has to say once more who they are to where they can. What they sent is done after that.

    As allauth's, which keeps what was sent as it is: in the session, a row of the database, where no secret may lie.
    A form with one is to be filled in again.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, ReauthenticationRequired):
            return None
        ways = get_adapter().get_reauthentication_methods(request.user)
        where = ways[0]["url"] if ways else reverse("account_login")
        if SECRET_FIELDS.intersection(request.POST):
            return redirect(f"{where}?{urlencode({'next': request.get_full_path()})}")
        for header in SECRET_HEADERS:
            request.META.pop(header, None)
        response: HttpResponse = suspend_request(request, where)
        return response


class SeenMiddleware:
    """As allauth's, but not with every request, and a page is shown also where nothing can be written."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        asks_for_nobody = request.path.startswith("/health/")  # and is answered whatever the database does
        key = None if asks_for_nobody else request.session.session_key
        if key and request.user.is_authenticated:
            digest = hashlib.sha256(key.encode()).hexdigest()  # the key itself would sign in whoever reads the cache
            if cache.add(f"accounts.seen:{digest}", 1, SEEN_NOTED_EVERY):
                try:
                    UserSession.objects.create_from_request(request)
                except DatabaseError as fault:
                    logger.warning("A session's use was not noted (%s).", type(fault).__name__)
        return self.get_response(request)
