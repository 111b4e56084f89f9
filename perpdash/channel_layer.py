"""The channel layer of the one-process mode: safe across threads, wakes the loop that serves the sockets."""

import asyncio
from collections.abc import Callable
from typing import Any

from channels.layers import BaseChannelLayer

Message = dict[str, Any]


class EmbeddedChannelLayer(BaseChannelLayer):  # type: ignore[misc]
    """All state belongs to one event loop, the one in which consumers listen.

    Celery's threads send from loops of their own; they hand the work over, and the serving loop is woken at once.
    A reader who does not read loses messages rather than holding up the rest.
    """

    extensions = ["groups", "flush"]

    def __init__(self, capacity: int = 100, **options: Any) -> None:
        super().__init__(capacity=capacity, **options)
        self._queues: dict[str, asyncio.Queue[Message]] = {}
        self._groups: dict[str, set[str]] = {}
        self._home: asyncio.AbstractEventLoop | None = None
        self._made = 0

    async def send(self, channel: str, message: Message) -> None:
        self.require_valid_channel_name(channel)
        self._at_home(self._put, channel, message)

    async def receive(self, channel: str) -> Message:
        self._home = asyncio.get_running_loop()
        try:
            return await self._queue(channel).get()
        except asyncio.CancelledError:  # its page was closed
            self._queues.pop(channel, None)
            raise

    async def new_channel(self, prefix: str = "embedded.") -> str:
        self._made += 1
        return f"{prefix}!{self._made}"

    async def group_add(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self._home = asyncio.get_running_loop()
        self._groups.setdefault(group, set()).add(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        members = self._groups.get(group, set())
        members.discard(channel)
        if not members:
            self._groups.pop(group, None)

    async def group_send(self, group: str, message: Message) -> None:
        self.require_valid_group_name(group)
        self._at_home(self._fan_out, group, message)

    async def flush(self) -> None:
        self._queues.clear()
        self._groups.clear()

    def _at_home(self, work: Callable[[str, Message], None], name: str, message: Message) -> None:
        if self._home is None or self._home.is_closed() or self._home is asyncio.get_running_loop():
            work(name, message)
        else:
            self._home.call_soon_threadsafe(work, name, message)

    def _queue(self, channel: str) -> asyncio.Queue[Message]:
        if channel not in self._queues:
            self._queues[channel] = asyncio.Queue(self.get_capacity(channel))
        return self._queues[channel]

    def _put(self, channel: str, message: Message) -> None:
        queue = self._queue(channel)
        if not queue.full():
            queue.put_nowait(dict(message))

    def _fan_out(self, group: str, message: Message) -> None:
        for channel in tuple(self._groups.get(group, ())):
            self._put(channel, message)
