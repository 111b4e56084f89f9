"""What a person reads in a browser where a request is refused before any page of ours could say why."""

from collections.abc import Callable

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string

from perpdash.logs import request_id

UNKNOWN_HOST = (
    "perpdash was not told of the name it was opened under. Whoever runs it adds that name to ALLOWED_HOSTS, and "
    "starts perpdash anew."
)
BAD_REQUEST = "The request is not as it has to be. Nothing was done."


class RefusalMiddleware:
    """A person gets the sign-in where a program gets 401, and words where Django answers 405 with nothing."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not is_of_a_person(request):
            return response
        if isinstance(response, HttpResponseNotAllowed):
            page = render(request, "405.html", status=405)
            page["Allow"] = response["Allow"]
            return page
        if response.status_code == 401 and request.method == "GET":
            return redirect_to_login(request.get_full_path())
        return response


def is_of_a_person(request: HttpRequest) -> bool:
    wants_a_page = request.get_preferred_type(["application/json", "text/html"]) == "text/html"
    return wants_a_page and "Authorization" not in request.headers


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400. Asks nothing of the request that needs its host, and repeats nothing of it."""
    is_host = isinstance(exception, DisallowedHost)
    words = UNKNOWN_HOST if is_host else BAD_REQUEST
    if request.path.startswith("/api/"):
        code = "unknown_host" if is_host else "bad_request"
        error = {"code": code, "message": words, "details": {}, "request_id": request_id.get()}
        return JsonResponse({"error": error}, status=400)
    return HttpResponse(render_to_string("400.html", {"is_host": is_host, "words": words}), status=400)
