"""Who asked what and how long it took: a line in the log and a count, for each request and each socket."""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any
from uuid import uuid4

from daphne.access import AccessLogGenerator
from django.conf import settings
from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse
from django.utils.functional import LazyObject, empty

from exchanges.tally import tally
from perpdash.logs import request_id, shown

logger = logging.getLogger("perpdash.access")
METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}


@request_finished.connect
def _hand_over(**_: object) -> None:
    tally.hand_over()


class AccessMiddleware:
    """Stands next to the door, so that what others answer is counted too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = monotonic()
        response = self.get_response(request)
        note(request, response, monotonic() - started)
        return response


def note(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    view, method = view_of(request), request.method if request.method in METHODS else "other"
    tally.add("http_requests", view, method, str(response.status_code))
    tally.observe("http_request_seconds", view, method, value=seconds)
    fields = {
        "method": method, "path": shown(request.path), "view": view, "status": response.status_code,
        "ms": round(seconds * 1000, 1), "user": user_of(request),
    }  # fmt: skip
    logger.info("%s %s %s", method, fields["path"], response.status_code, extra={"fields": fields})


def view_of(request: HttpRequest) -> str:
    """The name of the address, of which there are few; "static" for files, "none" where nobody serves it."""
    if match := request.resolver_match:
        return match.view_name or "none"
    return "static" if request.path.startswith(f"/{settings.STATIC_URL.strip('/')}/") else "none"


def user_of(request: HttpRequest) -> int | None:
    """Who is signed in, if that was asked for anyway: a line in the log is not worth a query."""
    user: Any = request.__dict__.get("user")
    if isinstance(user, LazyObject) and user._wrapped is empty:
        return None
    return getattr(user, "pk", None)


class SocketCount:
    """Gives each socket an id, as a request has one, and knows how many are open in this process."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        global sockets_open
        started = monotonic()
        request_id.set(uuid4().hex)
        sockets_open += 1
        try:
            await self.application(scope, receive, send)
        finally:
            sockets_open -= 1
            fields = {"path": shown(scope["path"]), "seconds": round(monotonic() - started, 1)}
            logger.info("Socket closed", extra={"fields": fields})


def no_other_log() -> None:
    """Daphne's own, which is on unless told otherwise, writes one-time links out in full."""
    AccessLogGenerator.write_entry = lambda *args, **kwargs: None


sockets_open = 0  # changed by the one event loop that serves them
