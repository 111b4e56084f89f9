"""Leads the first visitor of an empty installation to making the owner's account."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from accounts.models import User


class WelcomeMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.has_people = False

    def __call__(self, request: HttpRequest) -> HttpResponse:
        welcome = reverse("accounts:welcome")
        free = request.path.startswith((welcome, f"/{settings.STATIC_URL.strip('/')}/", "/api/", "/health/"))
        if not (free or self.has_people):
            self.has_people = User.objects.exists()
            if not self.has_people:
                return redirect(welcome)
        return self.get_response(request)
