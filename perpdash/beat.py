"""The beat that hands out the work: Celery's, which keeps its times in memory, and lives through a wrong clock."""

import time
from typing import Any

from celery import beat


class Scheduler(beat.Scheduler):
    """Celery's waits until its last word is past again: a clock set back by an hour would cost an hour."""

    _seen = 0.0

    def tick(self, *args: Any, **kwargs: Any) -> float:
        now = time.time()
        if now < self._seen - 1:
            for entry in self.schedule.values():
                entry.last_run_at = entry.default_now()
            self._heap = None
        self._seen = now
        return float(super().tick(*args, **kwargs))
