"""The socket of an open page: the owner's summary on connect and on every change."""

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.utils import timezone

from volume.live import group_of
from volume.newest import newest_summary

T = TypeVar("T")
NOT_SIGNED_IN = 4401
TOO_MANY = 4429  # as 429 in HTTP
MOST_SOCKETS = 30  # of one person, in one process: more pages than anybody looks at
TRY_AGAIN_LATER = 4503  # as 503 in HTTP; daphne sends no 1013


open_sockets: Counter[int] = Counter()  # by owner; changed by the one event loop that serves them


class VolumeConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    is_over = False  # told so; what waited to be said then is not said

    async def connect(self) -> None:
        user = self.scope.get("user")
        await self.accept()
        if user is None or not user.is_authenticated:
            await self.close(NOT_SIGNED_IN)
            return
        if open_sockets[user.pk] >= MOST_SOCKETS:
            await self.close(TOO_MANY)
            return
        self.owner_id: int = user.pk
        open_sockets[self.owner_id] += 1
        await self.channel_layer.group_add(group_of(self.owner_id), self.channel_name)
        await self.summary_changed()

    async def disconnect(self, code: int) -> None:
        if hasattr(self, "owner_id"):
            open_sockets[self.owner_id] -= 1
            await self.channel_layer.group_discard(group_of(self.owner_id), self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **_: Any) -> None:
        if text_data:  # what is no text is not ours: neither answered nor a reason to fall over
            await super().receive(text_data=text_data)

    async def receive_json(self, content: Any, **_: Any) -> None:
        if isinstance(content, dict) and content.get("type") == "ping" and await self.is_welcome():
            await self.send_json({"type": "pong"})

    async def is_welcome(self) -> bool:
        """Whether who opened the socket still may: a session or token may have ended since. Closes it if not."""
        return await self._told_if_welcome(lambda: True) is not None

    async def summary_changed(self, event: dict[str, Any] | None = None) -> None:
        newest = await self._told_if_welcome(lambda: newest_summary(self.owner_id, now=timezone.now()))
        if newest is not None:
            await self.send_json(newest)

    async def _told_if_welcome(self, tell: Callable[[], T]) -> T | None:
        """What only who is still welcome is told; None, and the socket is closed, for who is not."""

        def told() -> T | None:
            return tell() if self.scope["is_welcome"]() else None

        found = None if self.is_over else await database_sync_to_async(told)()
        if found is None and not self.is_over:
            self.is_over = True
            await self.close(NOT_SIGNED_IN)
        return found

    async def line_lost(self, event: dict[str, Any]) -> None:
        """What was said meanwhile was not heard. Whoever comes back gets the newest summary."""
        await self.close(TRY_AGAIN_LATER)

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        try:
            return await super().decode_json(text_data)
        except (ValueError, RecursionError):
            return None
