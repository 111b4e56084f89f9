"""The cache that several processes share: Redis, and while Redis fails, this process's own memory."""

import logging
import time
from collections.abc import Callable
from functools import cache as once
from functools import partial
from typing import Any

from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from volume.trouble import of_redis

logger = logging.getLogger("perpdash.caching")

PATIENCE = 1.0  # seconds for Redis to answer
PAUSE = 5.0  # seconds until one that is gone is asked again: not every request is to wait for it


class SteadyCache(RedisCache):
    """Limits, signs of life and the like go on while Redis is away, each process by itself. Nothing here is kept."""

    @property
    def _cache(self) -> "_Client":  # type: ignore[override]
        return _client(tuple(self._servers))  # type: ignore[attr-defined]

    @property
    def trouble(self) -> str:
        """What is wrong with Redis, in words; empty as far as is known."""
        return self._cache.trouble


class _Client:
    def __init__(self, servers: tuple[str, ...]) -> None:
        # One retry: after a restart of Redis the first word goes to a connection that is gone.
        self._redis = RedisCacheClient(
            list(servers), socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=Retry(NoBackoff(), 1)
        )
        self._memory = LocMemCache("while Redis is away", {"OPTIONS": {"MAX_ENTRIES": 100_000}})
        self._ask_again_at = 0.0
        self.trouble = ""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*args: Any, **kwargs: Any) -> Any:
            in_memory = partial(getattr(self._memory, name), *args, **kwargs)
            if time.monotonic() < self._ask_again_at:
                return in_memory()
            # One that takes nothing new still tells the old: what was put into memory since is newer.
            refuses = self.trouble not in ("", "gone")
            if refuses and name in OF_A_KEY and self._memory.has_key(args[0]):
                return in_memory()
            try:
                found = getattr(self._redis, name)(*args, **kwargs)
            except RedisError as fault:
                self._note(fault)
                return in_memory()
            if refuses and name == "get_many":
                return found | in_memory()
            if refuses and name in TAKES_AWAY:
                return in_memory() or found
            if self.trouble == "gone" or (refuses and name in TAKES_ROOM):
                self._note_end()
            return found

        return ask

    def _note(self, fault: RedisError) -> None:
        """Once per outage, not per request."""
        if not self.trouble:
            logger.warning("Redis fails (%s): until it is back, each process remembers for itself.", fault)
        self.trouble = of_redis(fault)
        if self.trouble == "gone":
            self._ask_again_at = time.monotonic() + PAUSE

    def _note_end(self) -> None:
        logger.warning("Redis is back.")
        self.trouble = ""
        self._memory.clear()


OF_A_KEY = frozenset({"get", "has_key", "incr", "touch"})
TAKES_ROOM = frozenset({"set", "set_many", "add", "incr"})  # once these work it is over
TAKES_AWAY = frozenset({"delete", "delete_many", "clear"})


@once
def _client(servers: tuple[str, ...]) -> _Client:
    """One for all threads and requests: it pools its connections, and knows whether Redis is there."""
    return _Client(servers)
