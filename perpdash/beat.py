"""The beat that hands out the work: Celery's, which keeps its times in memory, and lives through a wrong clock."""

import time
from typing import Any

from celery import beat

LEAP = 60  # seconds between two looks at the clock: a machine that slept, or a clock that was set
FORGETTING = "forget "  # so begin the names of what removes what is old


class Scheduler(beat.Scheduler):
    """Celery's waits until its last word is past again: a clock set back by an hour would cost an hour.

    And a clock set ahead would make much old at once. Nothing is forgotten for that until the new time has held as long
    as the entry waits anyway.
    """

    _seen = 0.0

    def tick(self, *args: Any, **kwargs: Any) -> float:
        now = time.time()
        went_back, leapt = now < self._seen - 1, now > self._seen + LEAP
        for name, entry in self.schedule.items() if self._seen else ():
            if went_back or (leapt and name.startswith(FORGETTING)):
                entry.last_run_at = entry.default_now()
                self._heap = None
        self._seen = now
        return float(super().tick(*args, **kwargs))
