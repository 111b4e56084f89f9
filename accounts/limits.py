"""What somebody reads who tried too often."""

from math import ceil

from allauth.account import app_settings
from allauth.core.internal.ratelimit import parse_rates
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

MINUTE = 60


def too_often(request: HttpRequest, wait: int = MINUTE) -> HttpResponse:
    """The page, with status 429. `wait`: seconds after which it may be tried again, at the latest."""
    minutes = ceil(wait / MINUTE)
    response = render(request, "429.html", {"minutes": minutes}, status=429)
    response["Retry-After"] = str(wait)
    return response


def wait_after_failures() -> int:
    """Seconds after which failures to sign in no longer count."""
    return int(max(rate.duration for rate in parse_rates(app_settings.RATE_LIMITS["login_failed"])))
