"""Where links lead that are read elsewhere: in a mail, an invitation, on the command line."""

import os

from django.conf import settings
from django.http import HttpRequest

ORIGIN_FILE = "origin.txt"  # under VAR_DIR: where `up` serves


def served_at() -> str:
    """Where pages are opened, as far as the settings, `up` and PORT tell."""
    kept = settings.VAR_DIR / ORIGIN_FILE
    if settings.HTTPS:
        return f"https://{settings.ALLOWED_HOSTS[0].lstrip('.')}"
    if settings.EMBEDDED and kept.exists():
        return kept.read_text()
    return f"http://127.0.0.1:{os.environ.get('PORT') or 8000}"


def origin(request: HttpRequest) -> str:
    """As `served_at`; where that may not be known, what this request was sent to.

    Whoever asks may choose any port there, and any of our names: a stranger could have mail lead elsewhere.
    """
    if settings.HTTPS or (settings.EMBEDDED and not request.user.is_authenticated):
        return served_at()
    return f"{request.scheme}://{request.get_host()}"
