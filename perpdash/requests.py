"""What every request carries: an id, and one shape for errors of the API."""

import logging
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.views.defaults import page_not_found, server_error
from rest_framework.exceptions import APIException, ErrorDetail, Throttled, ValidationError
from rest_framework.response import Response
from rest_framework.views import exception_handler

from accounts.current import current_request
from perpdash.logs import new_request_id, request_id
from volume import trouble

logger = logging.getLogger("perpdash.requests")


class RequestIdMiddleware:
    """Gives a request an id, which the answer carries in X-Request-ID and an API error in its body.

    Whatever happens within it can tell who asked, and from where.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id.set(new_request_id(request))
        before = current_request.set(request)
        try:
            response = self.get_response(request)
        finally:
            current_request.reset(before)
        response["X-Request-ID"] = request_id.get()
        return response


class PrivateMiddleware:
    """What a page or the API answers is for who asked, and is gone with the session: no cache keeps it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Cache-Control", "private, no-store")
        return response


def api_error(exception: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: {"error": {"code", "message", "details", "request_id"}} whatever went wrong."""
    response = exception_handler(exception, context)
    if response is None:
        return None  # not an API exception: Django answers 500 and logs it
    if isinstance(exception, ValidationError):
        code, message, details = "invalid", "Some fields need another value.", response.data
        if isinstance(details, list):
            message, details = " ".join(str(item) for item in details), {}
    else:
        code, message, details = _code(exception), _message(exception, response), {}
    if isinstance(exception, Throttled):
        seconds = max(1, getattr(exception, "wait", None) or 1)
        message = f"Too many requests. Ask again in {seconds} second{'s' if seconds > 1 else ''}."
        response["Retry-After"] = str(seconds)
    response.data = {
        "error": {"code": code, "message": message, "details": details, "request_id": request_id.get()},
    }
    return response


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404 of an address nobody serves: the API's own shape below /api/, the page elsewhere."""
    if request.path.startswith("/api/"):
        error = {"code": "not_found", "message": "There is nothing at this address.", "details": {}}
        return JsonResponse({"error": error | {"request_id": request_id.get()}}, status=404)
    return page_not_found(request, exception)


RETRY_AFTER = 15  # seconds; the page that says so reloads itself


def failed(request: HttpRequest) -> HttpResponse:
    """A fault nobody caught: 503 where our own database or Redis is the cause, else 500.

    Asks neither of them.
    """
    words = trouble.words(sys.exception())
    status, code = (503, "unavailable") if words else (500, "error")
    if request.path.startswith("/api/"):
        message = words or "perpdash itself failed. Nothing stored is lost; its log says what happened."
        error = {"code": code, "message": message, "details": {}, "request_id": request_id.get()}
        response: HttpResponse = JsonResponse({"error": error}, status=status)
    elif words:
        reloads = request.method in ("GET", "HEAD")  # what was sent is not sent again unasked
        page = {"words": words, "reload_after": RETRY_AFTER if reloads else None}
        response = HttpResponse(render_to_string("503.html", page), status=status)
    else:
        response = server_error(request)
    if words:
        response["Retry-After"] = str(RETRY_AFTER)
    return response


def _code(exception: Exception) -> str:
    if isinstance(exception, Http404):
        return "not_found"
    if isinstance(exception, PermissionDenied):
        return "permission_denied"
    if isinstance(exception, APIException):
        codes = exception.get_codes()
        return codes if isinstance(codes, str) else exception.default_code
    return "error"


def _message(exception: Exception, response: Response) -> str:
    detail = getattr(exception, "detail", None)
    if isinstance(detail, ErrorDetail):
        return str(detail)
    return HTTPStatus(response.status_code).phrase
