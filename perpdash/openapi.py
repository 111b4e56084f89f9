"""What every operation of the API may answer beside what it is for: refusals, all in one shape."""

from http import HTTPStatus
from typing import Any

REFUSALS = {
    HTTPStatus.BAD_REQUEST: "Something in the request is not as it must be; `details` names the fields.",
    HTTPStatus.UNAUTHORIZED: "Nobody is signed in, and no known token came along.",
    HTTPStatus.FORBIDDEN: "Not for whoever asks: a token that only reads, or a page's request without its form.",
    HTTPStatus.NOT_FOUND: "There is no such thing, or it is somebody else's.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address does not know the method.",
    HTTPStatus.NOT_ACCEPTABLE: "None of the forms that `Accept` or `format` ask for can be had.",
    HTTPStatus.LENGTH_REQUIRED: "The body does not say how large it is.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than what is read here.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is of a kind that is not read here.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests; `Retry-After` says in how many seconds to ask again.",
    HTTPStatus.SERVICE_UNAVAILABLE: "A venue, or perpdash itself, can't answer now. Nothing was stored; ask again.",
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "details", "request_id"],
            "properties": {
                "code": {"type": "string", "description": "For programs: what kind of refusal this is."},
                "message": {"type": "string", "description": "For people: what happened, and what to do."},
                "details": {"type": "object", "additionalProperties": {}, "description": "By field, what is wrong."},
                "request_id": {"type": "string", "description": "What the log calls this request."},
            },
        },
    },
}


def describe_refusals(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A hook of drf-spectacular."""
    result["components"].setdefault("schemas", {})["Error"] = ERROR
    shape = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for path in result["paths"].values():
        for operation in path.values():
            for status, meaning in REFUSALS.items():
                refusal: dict[str, Any] = {"description": meaning, "content": shape}
                if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
                    seconds = {"schema": {"type": "integer", "minimum": 1}, "description": "In seconds."}
                    refusal["headers"] = {"Retry-After": seconds}
                operation["responses"].setdefault(str(status.value), refusal)
    return result
