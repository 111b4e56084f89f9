"""A two-year backfill, from sandbox venues 100 ms away, beside the least that their budgets allow.

`python -m bench.end_to_end small|full [VENUE[=FILLS] ...]`. Full takes some two hours, in most of which Hyperliquid
makes us wait: less with hyperliquid=100000, or without it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import ceil
from typing import Any

from bench.report import Measurement, at_least, at_most, say, tell
from bench.setting_up import set_up
from bench.stack import cpu_of, peak_mb_of, running
from bench.venues import NAMES, Served, venue

SECTION = "end_to_end"
SMALL, FULL = 10_000, 1_000_000
MEMORY_MB = 250
TOLERATED = 1.1  # times what the slowest venue takes alone
LONG = 120.0  # seconds; where the budget asks for less, starting up weighs as much
EVERY = 60.0  # seconds between two words on how far it is


@dataclass(frozen=True, slots=True)
class Limit:
    """What a venue documents: rows an answer holds, what such an answer costs, and how much may be spent how often."""

    page: int
    cost: int
    budget: int
    seconds: int

    def least(self, rows: int) -> float:
        """How long so many rows take at least, in seconds: no more than the budget is spent within each span."""
        answers = ceil(rows / self.page)
        return (answers * self.cost - 1) // self.budget * self.seconds

    def __str__(self) -> str:
        return f"pages of {self.page:,} at {self.cost}, {self.budget:,} in {self.seconds} s"


LIMITS = {
    "bybit": Limit(page=100, cost=1, budget=50, seconds=1),
    "woox": Limit(page=500, cost=1, budget=2, seconds=1),
    "paradex": Limit(page=5000, cost=1, budget=600, seconds=60),
    "hyperliquid": Limit(page=2000, cost=120, budget=1200, seconds=60),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a backfill came to."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    rows: int
    requests: int


def main() -> None:
    size, *chosen = sys.argv[1:]
    usual = SMALL if size == "small" else FULL
    fills = {slug: int(number or usual) for slug, _, number in (word.partition("=") for word in chosen or LIMITS)}
    set_up()
    slowest = 0.0
    for slug, most in fills.items():
        peaks = {}
        for number in sorted({SMALL, most}):
            with venue(slug, fills=number) as served:
                reading = read(served)
                check(served)
            tell(of_wall_time(slug, number, reading))
            peaks[number] = reading.peak_mb
        tell(of_memory(slug, peaks))
        slowest = max(slowest, reading.seconds)
    if len(fills) > 1:
        with ExitStack() as stack:
            every = [stack.enter_context(venue(slug, fills=number)) for slug, number in fills.items()]
            together = read_at_once(every)
            for served in every:
                check(served)
        tell(of_all(together, slowest, len(every)))


def read(served: Served) -> Reading:
    """Reads a new account in the foreground, as a person at a terminal does."""
    pause_others()
    number = add(served)
    command = [sys.executable, "manage.py", "backfill", "--json", "--credential", str(number)]
    environment = os.environ | {"LOG_LEVEL": "ERROR"} | served.environment
    watch = Watch(NAMES[served.slug], [number])
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            watch.look(process.pid)
    if process.returncode:
        sys.exit(f"The backfill of {NAMES[served.slug]} ended with {process.returncode}.")
    watch.say()
    return watch.reading()


def read_at_once(venues: Sequence[Served]) -> Reading:
    """Reads a new account of each venue behind the page, as one who has just added them does."""
    from exchanges.models import SyncRun

    pause_others()
    with running(venues) as processes:
        numbers = [add(served) for served in venues]
        watch = Watch(f"{len(venues)} venues at once", numbers)
        complete = SyncRun.objects.filter(credential__in=numbers, outcome=SyncRun.Outcome.COMPLETE)
        while complete.values("credential").distinct().count() < len(venues):
            watch.look(processes[0].pid)
            if processes[0].poll() is not None:
                sys.exit(f"perpdash ended with {processes[0].returncode}.")
        watch.say()
        return watch.reading()


class Watch:
    """Looks at the process that reads, and says now and then how far it is."""

    def __init__(self, what: str, numbers: Sequence[int]) -> None:
        self.what = what
        self.numbers = numbers
        self.started = self.told = time.monotonic()
        self.peak_mb = self.cpu_seconds = 0.0

    def look(self, pid: int) -> None:
        time.sleep(0.1)
        self.peak_mb = max(self.peak_mb, peak_mb_of(pid))
        self.cpu_seconds = max(self.cpu_seconds, cpu_of(pid))
        if time.monotonic() - self.told > EVERY:
            self.told = time.monotonic()
            self.say()

    def say(self) -> None:
        reading = self.reading()
        say(
            f"{self.what}: {reading.rows:,} rows by {reading.requests:,} requests in {reading.seconds:.0f} s, of which "
            f"{reading.cpu_seconds:.0f} s of CPU; {reading.peak_mb:.0f} MB"
        )

    def reading(self) -> Reading:
        from django.db.models import Sum

        from exchanges.models import SyncRun

        runs = SyncRun.objects.filter(credential__in=self.numbers)
        sums = runs.aggregate(rows=Sum("rows", default=0), requests=Sum("requests", default=0))
        return Reading(time.monotonic() - self.started, self.cpu_seconds, self.peak_mb, **sums)


def pause_others() -> None:
    """What was read before is of venues that are gone."""
    from exchanges.models import ExchangeCredential

    ExchangeCredential.objects.update(is_enabled=False)


def add(served: Served) -> int:
    """A new account, of whoever is here."""
    from django.contrib.auth import get_user_model
    from django.utils import timezone

    from exchanges.venues import VENUES
    from volume import holding

    owner, _ = get_user_model().objects.get_or_create(username=f"bench-{time.monotonic_ns()}")
    credentials = VENUES[served.slug].credentials_type.parse(served.secrets[0])
    return holding.add(owner, served.slug, "Bench", credentials, now=timezone.now(), verify=False).pk


def check(served: Served) -> None:
    """A venue that was asked while it had told us to wait is a fault, and no measurement."""
    asked = served.asked()
    if asked["too_early"]:
        sys.exit(f"{NAMES[served.slug]} was asked while it had told us to wait: {asked}")


def of_wall_time(slug: str, fills: int, reading: Reading) -> Measurement:
    limit = LIMITS[slug]
    least = limit.least(reading.rows)
    share = least / reading.seconds
    is_limited = least > max(reading.cpu_seconds, LONG)
    return Measurement(
        section=SECTION, what=f"{NAMES[slug]}, {fills:,} fills, backfill alone", value=reading.seconds, unit="s",
        beside="the least its budget allows", beside_value=least, ratio=share,
        **(at_least(share, 0.8) if is_limited else {}),
        note=f"{limit}" + ("" if is_limited else "; not the limit here"),
        more={"rows": reading.rows, "requests": reading.requests, "cpu_seconds": reading.cpu_seconds},
    )  # fmt: skip


def of_memory(slug: str, peaks: dict[int, float]) -> Measurement:
    """`peaks` in MB, by the number of fills, fewest first."""
    (few, before), *_ = peaks.items()
    *_, (many, peak) = peaks.items()
    beside: dict[str, Any] = {"beside": f"{few:,} fills", "beside_value": before} if len(peaks) > 1 else {}
    return Measurement(
        section=SECTION, what=f"{NAMES[slug]}, {many:,} fills, peak memory", value=peak, unit="MB", **beside,
        **at_most(peak, MEMORY_MB),
    )  # fmt: skip


def of_all(together: Reading, slowest: float, venues: int) -> Measurement:
    ratio = together.seconds / slowest
    return Measurement(
        section=SECTION, what=f"{venues} venues at once, {together.rows:,} rows", value=together.seconds, unit="s",
        beside="the slowest alone", beside_value=slowest, ratio=ratio, **at_most(ratio, TOLERATED),
        note=f"peak memory {together.peak_mb:.0f} MB", more={"cpu_seconds": together.cpu_seconds},
    )  # fmt: skip


if __name__ == "__main__":
    main()
