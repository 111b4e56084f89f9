"""Which pages may open our sockets."""

from typing import Any
from urllib.parse import ParseResult

from channels.db import database_sync_to_async
from channels.middleware import BaseMiddleware
from channels.security.websocket import OriginValidator
from django.conf import settings

from accounts.tokens import SCHEME, working_token


async def nowhere(scope: Any, receive: Any, send: Any) -> Any:
    """A socket to an address nobody serves is closed, not a fault in the log."""
    await receive()
    await send({"type": "websocket.close", "code": 4404})


class TokenMiddleware(BaseMiddleware):  # type: ignore[misc]
    """Programs open sockets with `Authorization: Bearer <token>`, as they ask the API."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        scheme, _, text = header.partition(" ")
        if scheme.lower() == SCHEME.lower() and (token := await database_sync_to_async(working_token)(text.strip())):
            scope = {**scope, "user": token.owner}
        return await super().__call__(scope, receive, send)


class OwnOriginValidator(OriginValidator):  # type: ignore[misc]
    """Pages of our own hosts, and programs, which send no Origin and carry no browser's cookies along unasked."""

    def __init__(self, application: Any) -> None:
        super().__init__(application, settings.ALLOWED_HOSTS)

    def valid_origin(self, parsed_origin: ParseResult | None) -> bool:
        return parsed_origin is None or bool(super().valid_origin(parsed_origin))
