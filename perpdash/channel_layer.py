"""The channel layers: one within the one-process mode, and Redis between processes."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from channels.layers import BaseChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer, RedisPubSubLoopLayer, RedisSingleShardConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

Message = dict[str, Any]
logger = logging.getLogger("perpdash.channel_layer")


class EmbeddedChannelLayer(BaseChannelLayer):  # type: ignore[misc]
    """Safe across threads. All state belongs to one event loop, the one in which consumers listen.

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


LINE_LOST: Message = {"type": "line.lost"}
PATIENCE = 2.0  # seconds for Redis to answer
ASK_EVERY = 5.0  # seconds


class RedisChannelLayer(RedisPubSubChannelLayer):  # type: ignore[misc]
    """channels_redis' own, but for what happens when Redis goes away: it says so.

    The original listens again once Redis is back, and nobody hears what was said meanwhile; of a Redis that keeps the
    line and says nothing it never takes notice. Here every consumer is told `line.lost`, and all begin anew.
    """

    def __init__(self, url: str, prefix: str = "asgi") -> None:
        # No retries: what comes after the loss of the line would hide that something was missed.
        options = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "retry": Retry(NoBackoff(), 0)}
        super().__init__(hosts=[{"address": url, **options}], prefix=prefix)

    def _get_layer(self) -> Any:
        layer: RedisPubSubLoopLayer = super()._get_layer()
        layer._shards = [shard if isinstance(shard, _Line) else _Line(shard.host, layer) for shard in layer._shards]
        return layer


class _Line(RedisSingleShardConnection):  # type: ignore[misc]
    """The connection of one event loop."""

    _redis: Any
    _pubsub: Any
    _receive_task: Any
    _subscribed_to: set[str]

    async def subscribe(self, channel: str) -> None:
        try:
            await super().subscribe(channel)
        except BaseException:  # nobody will read what is put there
            self.channel_layer.channels.pop(channel, None)
            raise

    async def _do_receiving(self) -> None:
        loop = asyncio.get_running_loop()
        ask_at = loop.time() + ASK_EVERY
        try:
            while True:
                if self._pubsub and self._pubsub.subscribed:
                    self._receive_message(await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=0.1))
                else:
                    await asyncio.sleep(0.1)
                if loop.time() >= ask_at:
                    await self._redis.ping()
                    ask_at = loop.time() + ASK_EVERY
        except Exception as fault:  # whatever it was, nobody may go on waiting for a receiver that ended
            await self._begin_anew(fault)

    async def _begin_anew(self, fault: Exception) -> None:
        async with self._lock:  # nobody subscribes meanwhile
            redis, pubsub = self._redis, self._pubsub
            self._redis = self._pubsub = self._receive_task = None
            self._subscribed_to = set()
            waiting = list(self.channel_layer.channels.values())
        is_ours = not isinstance(fault, RedisError | OSError)
        logger.warning(
            "The line to Redis is lost (%s): %s open sockets begin anew.", fault, len(waiting), exc_info=is_ours
        )
        for queue in waiting:
            queue.put_nowait(self.channel_layer.channel_layer.serialize(LINE_LOST))
        for connection in (pubsub, redis):
            try:
                await connection.aclose()
            except Exception:
                logger.debug("It could not be closed either.")
