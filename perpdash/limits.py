"""How much one request, and one person's costly requests together, may ask of us."""

from collections.abc import Callable
from http import HTTPStatus
from math import ceil
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from rest_framework import parsers
from rest_framework.exceptions import ParseError, Throttled

from accounts.limits import too_often
from accounts.throttles import CostlyThrottle
from perpdash.logs import request_id


class SizeMiddleware:
    """No body is read that is larger than any form of ours, or does not say how large it is.

    Django itself looks at forms only, and only once they are read.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        most, said = settings.DATA_UPLOAD_MAX_MEMORY_SIZE, request.META.get("CONTENT_LENGTH") or ""
        if not said and "HTTP_TRANSFER_ENCODING" in request.META:
            words = "The request does not say how large it is: send its length along."
            return _refusal(request, HTTPStatus.LENGTH_REQUIRED, "length_required", words)
        if said and (not said.isdecimal() or int(said) > most):
            words = f"The request is too large: at most {most:,} bytes are read."
            return _refusal(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", words)
        return self.get_response(request)


def _refusal(request: HttpRequest, status: HTTPStatus, code: str, words: str) -> HttpResponse:
    if request.path.startswith("/api/"):
        error = {"code": code, "message": words, "details": {}, "request_id": request_id.get()}
        return JsonResponse({"error": error}, status=status)
    return render(request, "too_large.html", {"status": status.value, "words": words}, status=status)


class CostlyPagesMiddleware:
    """What asks a venue, or reads all there is, has the same budget on pages as in the API."""

    ASKING = frozenset({"volume:add", "volume:key", "volume:act"})

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *view: Any) -> HttpResponse | None:
        name = request.resolver_match.view_name if request.resolver_match else ""
        if name == "volume:export" or (name in self.ASKING and request.method == "POST"):
            try:
                CostlyThrottle.take(request)
            except Throttled as fault:
                return too_often(request, ceil(getattr(fault, "wait", None) or 1))
        return None


class JSONParser(parsers.JSONParser):
    """What is nested deeper than Python can follow is no JSON of ours, rather than a fault."""

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().parse(*args, **kwargs)
        except RecursionError:
            raise ParseError("This JSON is nested too deeply.") from None
