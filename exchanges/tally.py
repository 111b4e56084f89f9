"""Counts of what happens, for whoever watches: of all processes together where there is a Redis, else of this one."""

import atexit
import json
from bisect import bisect_left
from collections import defaultdict
from functools import cache as once
from threading import Lock
from time import monotonic

import redis
from django.conf import settings
from django.core.cache import cache

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
PATIENCE = 1.0  # seconds for Redis to answer
EVERY, AFTER_TROUBLE = 1.0, 30.0  # seconds between two times that counts are handed over
KEY = "tally"
Label = str | float


@once
def redis_client(url: str) -> redis.Redis:
    """For a short word with Redis: it answers soon, or raises redis.RedisError."""
    return redis.Redis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=None)


class Tally:
    """Adding costs nothing worth mentioning and never fails; now and then a process hands over what it added up."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[str, float] = defaultdict(float)
        self._next_at = 0.0

    def add(self, name: str, *labels: Label, amount: float = 1) -> None:
        with self._lock:
            self._counts[json.dumps([name, *labels])] += amount

    def observe(self, name: str, *labels: Label, value: float, buckets: tuple[float, ...] = SECONDS) -> None:
        """One more of the values whose distribution is kept: in how many of `buckets`, and their sum."""
        above = bisect_left(buckets, value)
        self.add(name, *labels, buckets[above] if above < len(buckets) else "+Inf")
        self.add(name, *labels, "sum", amount=value)

    def hand_over(self, *, at_once: bool = False) -> None:
        """To Redis, where there is one and it was not done just now. What it does not take is kept for later."""
        if not self._counts or not settings.REDIS_URL or (monotonic() < self._next_at and not at_once):
            return
        with self._lock:
            taken, self._counts = self._counts, defaultdict(float)
        self._next_at = monotonic() + EVERY
        try:
            with redis_client(settings.REDIS_URL).pipeline() as pipeline:  # all of it or nothing
                for field, amount in taken.items():
                    pipeline.hincrbyfloat(cache.make_key(KEY), field, amount)
                pipeline.execute()
        except redis.RedisError:
            self._next_at = monotonic() + AFTER_TROUBLE
            with self._lock:
                for field, amount in taken.items():
                    self._counts[field] += amount

    def totals(self) -> dict[tuple[Label, ...], float]:
        """{(name, *labels): count}. Raises redis.RedisError."""
        self.hand_over(at_once=True)
        if settings.REDIS_URL:
            kept = redis_client(settings.REDIS_URL).hgetall(cache.make_key(KEY))
            counts = {field.decode(): float(amount) for field, amount in kept.items()}  # type: ignore[union-attr]
        else:
            with self._lock:
                counts = dict(self._counts)
        return {tuple(json.loads(field)): amount for field, amount in counts.items()}


tally = Tally()
atexit.register(tally.hand_over, at_once=True)  # a process that ends takes nothing with it
