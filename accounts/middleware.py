"""Leads the first visitor to making the owner's account, and notes when a session was last seen."""

import hashlib
import logging
from collections.abc import Callable

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from accounts.models import User

SEEN_NOTED_EVERY = 300  # seconds
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


class SeenMiddleware:
    """As allauth's, but not with every request, and a page is shown also where nothing can be written."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        key = request.session.session_key
        if key and request.user.is_authenticated:
            digest = hashlib.sha256(key.encode()).hexdigest()  # the key itself would sign in whoever reads the cache
            if cache.add(f"accounts.seen:{digest}", 1, SEEN_NOTED_EVERY):
                try:
                    UserSession.objects.create_from_request(request)
                except DatabaseError as fault:
                    logger.warning("A session's use was not noted (%s).", type(fault).__name__)
        return self.get_response(request)
