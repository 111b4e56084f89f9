"""Who may open our sockets, and for how long."""

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import ParseResult

from channels.db import database_sync_to_async
from channels.middleware import BaseMiddleware
from channels.security.websocket import OriginValidator, WebsocketDenier
from django.conf import settings
from django.contrib.auth import get_user
from rest_framework.exceptions import Throttled

from accounts.current import believed_address
from accounts.models import ApiToken
from accounts.tokens import SCHEME, working_token
from volume import trouble
from volume.consumers import TOO_MANY, TRY_AGAIN_LATER

logger = logging.getLogger("perpdash.sockets")


async def nowhere(scope: Any, receive: Any, send: Any) -> Any:
    """A socket to an address nobody serves is closed, not a fault in the log."""
    await receive()
    await send({"type": "websocket.close", "code": 4404})


class WelcomeMiddleware(BaseMiddleware):  # type: ignore[misc]
    """Lets sockets ask the database, as long as they are open, whether whoever opened them still may:
    scope["is_welcome"].

    Programs open them with `Authorization: Bearer <token>`, as they ask the API; of any scope, as sockets only tell.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        headers = dict(scope["headers"])
        scheme, _, text = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        scope = {**scope, "is_welcome": session_holds(scope)}
        if scheme.lower() == SCHEME.lower():
            peer, forwarded = (scope.get("client") or ("",))[0], headers.get(b"x-forwarded-for", b"").decode("latin-1")
            try:
                token = await in_thread(working_token)(text.strip(), believed_address(peer, forwarded))
            except Throttled:
                await receive()
                await send({"type": "websocket.accept"})  # a browser is told the code of no other
                return await send({"type": "websocket.close", "code": TOO_MANY})
            if token:
                scope |= {"user": token.owner, "is_welcome": token_holds(token)}
        return await super().__call__(scope, receive, send)


def session_holds(scope: Any) -> Callable[[], bool]:
    """Whether the session is still one of this person's: not ended, nor they shut out, nor their password another."""
    user, session = scope.get("user"), scope.get("session")

    def holds() -> bool:
        if session is None or user is None or not user.is_authenticated:
            return False
        request: Any = SimpleNamespace(session=session.__class__(session.session_key))
        return bool(get_user(request).pk == user.pk)

    return holds


def token_holds(token: ApiToken) -> Callable[[], bool]:
    return lambda: ApiToken.objects.filter(pk=token.pk, owner__is_active=True).exists()


in_thread = database_sync_to_async


class SteadyMiddleware(BaseMiddleware):  # type: ignore[misc]
    """A socket that perpdash's own database or Redis lets down is closed with a word: whoever it was comes back."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        is_open = False

        async def watched(message: Any) -> None:
            nonlocal is_open
            is_open = is_open or message["type"] == "websocket.accept"
            await send(message)

        try:
            return await super().__call__(scope, receive, watched)
        except trouble.FAULTS as fault:
            if not trouble.words(fault):
                raise
            logger.warning("A socket was closed: %s", trouble.words(fault))
            if not is_open:  # a browser is told the code of no other
                await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})


class OwnOriginValidator(OriginValidator):  # type: ignore[misc]
    """Our own pages, and programs, which send no Origin and carry no browser's cookies along unasked.

    A page of the same machine at another port is somebody else's, though it gets the same cookies.
    """

    def __init__(self, application: Any) -> None:
        super().__init__(application, settings.ALLOWED_HOSTS)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get(b"origin", "")
        if origin and not is_of(origin, headers.get(b"host", "")):
            return await WebsocketDenier()(scope, receive, send)
        return await super().__call__(scope, receive, send)

    def valid_origin(self, parsed_origin: ParseResult | None) -> bool:
        return parsed_origin is None or bool(super().valid_origin(parsed_origin))


def is_of(origin: str, host: str) -> bool:
    """Whether a page of this origin was served under this Host, as Django asks of every form."""
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    scheme, _, netloc = origin.partition("://")
    return netloc.lower() == host.lower() and (scheme == "https" or not settings.HTTPS)
