"""Which pages may open our sockets."""

from typing import Any
from urllib.parse import ParseResult

from channels.security.websocket import OriginValidator
from django.conf import settings


async def nowhere(scope: Any, receive: Any, send: Any) -> Any:
    """A socket to an address nobody serves is closed, not a fault in the log."""
    await receive()
    await send({"type": "websocket.close", "code": 4404})


class OwnOriginValidator(OriginValidator):  # type: ignore[misc]
    """Pages of our own hosts, and programs, which send no Origin and carry no browser's cookies along unasked."""

    def __init__(self, application: Any) -> None:
        super().__init__(application, settings.ALLOWED_HOSTS)

    def valid_origin(self, parsed_origin: ParseResult | None) -> bool:
        return parsed_origin is None or bool(super().valid_origin(parsed_origin))
