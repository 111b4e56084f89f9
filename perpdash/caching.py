"""The cache that several processes share: Redis, and while Redis fails, this process's own memory."""

import logging
import time
from collections.abc import Callable
from functools import cache as once
from typing import Any

from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, RedisError
from redis.retry import Retry

logger = logging.getLogger("perpdash.caching")

PATIENCE = 1.0  # seconds for Redis to answer
PAUSE = 5.0  # seconds until it is asked again: not every request is to wait for it


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
            if time.monotonic() >= self._ask_again_at:
                try:
                    found = getattr(self._redis, name)(*args, **kwargs)
                except RedisError as fault:
                    self._note(fault)
                else:
                    if self.trouble == "gone" or (self.trouble and name not in READING):  # a full one still reads
                        logger.warning("Redis is back.")
                        self.trouble = ""
                    return found
            return getattr(self._memory, name)(*args, **kwargs)

        return ask

    def _note(self, fault: RedisError) -> None:
        """Once per outage, not per request."""
        if not self.trouble:
            logger.warning("Redis fails (%s): until it is back, each process remembers for itself.", fault)
        self.trouble = "full" if isinstance(fault, OutOfMemoryError) else "gone"
        self._ask_again_at = time.monotonic() + PAUSE


READING = frozenset({"get", "get_many", "has_key"})


@once
def _client(servers: tuple[str, ...]) -> _Client:
    """One for all threads and requests: it pools its connections, and knows whether Redis is there."""
    return _Client(servers)
