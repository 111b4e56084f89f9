"""What every request carries: an id, and one shape for errors of the API."""

import contextvars
import logging
import uuid
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.defaults import page_not_found
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.response import Response
from rest_framework.views import exception_handler

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
logger = logging.getLogger("perpdash.requests")


class RequestIdMiddleware:
    """Gives a request an id, which the answer carries in X-Request-ID and an API error in its body."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if iscoroutinefunction(self.get_response):
            return self._answer_async(request)
        request_id.set(uuid.uuid4().hex)
        response = self.get_response(request)
        response["X-Request-ID"] = request_id.get()  # type: ignore[index]
        return response

    async def _answer_async(self, request: HttpRequest) -> HttpResponse:
        request_id.set(uuid.uuid4().hex)
        response: HttpResponse = await self.get_response(request)  # type: ignore[misc]
        response["X-Request-ID"] = request_id.get()
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
