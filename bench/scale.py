"""Many accounts due at once, read by 1, 2 and 4 workers of the stack: all of them, within the budgets, and fairly.

`python -m bench.scale small|full [WORKERS ...]`. Half of the accounts are one owner's, the others are of many.
"""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import redis

from bench.end_to_end import check
from bench.report import Measurement, at_least, at_most, percentile, say, tell
from bench.setting_up import set_up
from bench.stack import cpu_of, running
from bench.venues import NAMES, Served, venue

SECTION = "scale"
# Hyperliquid lets one address ask for some thirty accounts a minute, so it gets fewer.
SMALL = {"bybit": 12, "paradex": 12, "woox": 12, "hyperliquid": 4}
FULL = {"bybit": 300, "paradex": 300, "woox": 300, "hyperliquid": 100}
WORKERS = (1, 2, 4)
FILLS, DAYS = 30, 10  # of an account
OF_AN_OWNER = 5  # accounts of each owner but the one
ALREADY_READ_UNTIL = timedelta(hours=1)  # ago
POLL = 40  # the least weight Hyperliquid counts for a reading: two lists
WEIGHT = 1200  # a minute
LONGEST = 1800.0  # seconds a round may take
MINUTE = 61.0  # in which every budget is whole again
SHARE_OF_BEST = 0.5
REFUSED = 0.001  # of all requests: on a busy machine one may be under way for longer than the next


@dataclass(slots=True)
class Round:
    """What reading every account once came to."""

    workers: int
    seconds: dict[str, float] = field(default_factory=dict)  # by venue: until the last of its accounts was read
    cpu_seconds: float = 0.0  # of all workers, and beat
    runs: int = 0  # until the end; those read early come again
    waited: int = 0  # of them, those that found the budget spent
    requests: int = 0
    retries: int = 0  # what a venue refused was asked again
    longest_queue: int = 0
    waits: dict[int, list[float]] = field(default_factory=dict)  # by owner: seconds until each account was read


def main() -> None:
    size, *counts = sys.argv[1:]
    set_up()
    accounts = SMALL if size == "small" else FULL
    with ExitStack() as stack:
        served = [
            stack.enter_context(venue(slug, fills=FILLS, days=DAYS, accounts=count)) for slug, count in accounts.items()
        ]
        people(served)
        tell_cost(served)
        for workers in [int(count) for count in counts] or (WORKERS[:1] if size == "small" else WORKERS):
            time.sleep(MINUTE if size == "full" else 0)
            found = read_all(served, workers)
            for one in served:
                check(one)
            tell_round(found, accounts)


def people(served: Sequence[Served]) -> None:
    """Accounts as they are after their first reading: the first half of each venue's belongs to one person."""
    from django.contrib.auth import get_user_model
    from django.utils import timezone

    now = timezone.now()
    users = get_user_model().objects
    desk = users.create(username="desk")
    owner, left = desk, 0
    for one in served:
        for number, secrets in enumerate(one.secrets):
            if number >= len(one.secrets) // 2:
                if not left:
                    owner, left = users.create(username=f"owner-{one.slug}-{number}"), OF_AN_OWNER
                left -= 1
            else:
                owner = desk
            store(owner, one.slug, number, secrets, now=now)


def store(owner: Any, slug: str, number: int, secrets: dict[str, str], *, now: datetime) -> None:
    from exchanges.ledger import Ledger
    from exchanges.models import ExchangeCredential, Health
    from exchanges.venues import VENUES
    from exchanges.venues.base import Window

    since = now - timedelta(days=1)
    credential = ExchangeCredential(
        owner=owner, venue=slug, label=f"{slug} {number}", history_from=since, due_at=now + timedelta(days=1),
        verified_at=now, health_state=Health.WORKS, created_at=now,
        stream_names=["linear", "inverse"] if slug == "bybit" else [],
    )  # fmt: skip
    credential.set_secrets(VENUES[slug].credentials_type.parse(secrets))
    credential.account_ref = credential.account_ref or f"{slug}-{number}"
    credential.save()
    for stream in credential.streams:
        Ledger(credential, stream.name).cover(Window(since, now - ALREADY_READ_UNTIL))


def read_all(served: Sequence[Served], workers: int) -> Round:
    from django.conf import settings
    from django.utils import timezone

    from exchanges.models import ExchangeCredential, SyncRun

    found = Round(workers)
    every = dict(ExchangeCredential.objects.values_list("pk", "venue"))
    with running(served, workers=workers) as processes:
        queue = redis.Redis.from_url(settings.REDIS_URL)
        due_at = timezone.now()
        started = told = time.monotonic()
        spent = sum(cpu_of(process.pid) for process in processes)
        ExchangeCredential.objects.update(due_at=due_at, leased_until=None)
        while len(found.seconds) < len(served):
            time.sleep(0.5)
            passed = time.monotonic() - started
            found.longest_queue = max(found.longest_queue, int(queue.llen("celery")))  # type: ignore[arg-type]
            read = set(
                SyncRun.objects.filter(started_at__gte=due_at, outcome__in=("complete", "incomplete"))
                .order_by().values_list("credential", flat=True).distinct()
            )  # fmt: skip
            for one in served:
                if one.slug not in found.seconds and all(pk in read for pk, slug in every.items() if slug == one.slug):
                    found.seconds[one.slug] = passed
                    say(f"{workers} workers: all of {NAMES[one.slug]} after {passed:.1f} s")
            if time.monotonic() - told > 10:
                told = time.monotonic()
                say(f"{workers} workers: {len(read):,} of {len(every):,} after {passed:.0f} s, "
                    f"{queue.llen('celery')} in the queue")  # fmt: skip
            if passed > LONGEST:
                sys.exit(f"{len(every) - len(read)} accounts were not read within {LONGEST:.0f} s.")
        found.cpu_seconds = sum(cpu_of(process.pid) for process in processes) - spent
    _look_back(found, due_at)
    return found


def _look_back(found: Round, due_at: datetime) -> None:
    """What the run log tells of the round."""
    from exchanges.models import SyncRun

    first: dict[int, float] = {}
    runs = SyncRun.objects.filter(started_at__gte=due_at).order_by("pk")
    for pk, owner, ended_at, outcome, requests, retries in runs.values_list(
        "credential", "credential__owner", "ended_at", "outcome", "requests", "retries"
    ):
        found.runs += 1
        found.waited += outcome == "waiting"
        found.requests += requests
        found.retries += retries
        if ended_at and outcome in ("complete", "incomplete") and pk not in first:
            first[pk] = (ended_at - due_at).total_seconds()
            found.waits.setdefault(owner, []).append(first[pk])


def tell_cost(served: Sequence[Served]) -> None:
    """What one reading that finds nothing new asks of venue, database and processor, and with it an account an hour."""
    from django.conf import settings
    from django.db import connection
    from django.test.utils import CaptureQueriesContext
    from django.utils import timezone

    from exchanges.models import ExchangeCredential
    from volume.refresh import refresh

    for one in served:
        settings.VENUE_URLS[one.slug] = one.url
        credential = ExchangeCredential.objects.filter(venue=one.slug).first()
        if credential is None:
            continue
        for _ in range(2):
            refresh(credential, now=timezone.now())
        cpu = time.process_time()
        with CaptureQueriesContext(connection) as queries:
            run = refresh(credential, now=timezone.now())
        cpu = time.process_time() - cpu
        hourly = timedelta(hours=1) / credential.venue_type.poll_every
        words = f"{len(queries)} queries, {run.requests} requests and {cpu * 1000:.0f} ms of CPU a reading"
        tell(
            Measurement(
                section=SECTION, what=f"{NAMES[one.slug]}, one account, nothing new: queries",
                value=len(queries) * hourly, unit="an hour", note=f"{words}, {hourly:.0f} readings an hour",
                more={"requests": run.requests * hourly, "cpu_seconds": cpu * hourly},
            )
        )  # fmt: skip


def tell_round(found: Round, accounts: dict[str, int]) -> None:
    cores = len(os.sched_getaffinity(0))
    total = sum(accounts.values())
    quick = [slug for slug in accounts if slug != "hyperliquid"]
    seconds = max(found.seconds[slug] for slug in quick)
    per_reading = found.cpu_seconds / max(1, found.runs)
    best = per_reading * sum(accounts[slug] for slug in quick) / min(cores, found.workers)
    workers = f"{found.workers} {'worker' if found.workers == 1 else 'workers'}"
    tell(
        Measurement(
            section=SECTION, what=f"{workers}, {sum(accounts[slug] for slug in quick):,} accounts due at once",
            value=seconds, unit="s", beside="their processor time alone", beside_value=best, ratio=best / seconds,
            note=f"{per_reading * 1000:.0f} ms of CPU a reading, {cores} cores shared with venues and databases",
            more={"runs": found.runs, "requests": found.requests, "waiting": found.waited, "seconds": found.seconds},
        )
    )  # fmt: skip
    tolled = max(0, accounts["hyperliquid"] * POLL - WEIGHT) / WEIGHT * 60
    tell(
        Measurement(
            section=SECTION, what=f"{workers}, {accounts['hyperliquid']} accounts at Hyperliquid", unit="s",
            value=found.seconds["hyperliquid"], beside="the least its budget allows", beside_value=tolled,
            ratio=tolled / found.seconds["hyperliquid"], note=f"of {total:,} due at once",
            **(at_least(tolled / found.seconds["hyperliquid"], SHARE_OF_BEST) if tolled > MINUTE else {}),
        )
    )  # fmt: skip
    tell(
        Measurement(
            section=SECTION, what=f"{workers}, most tasks in the queue", value=found.longest_queue, unit="tasks",
            **at_most(found.longest_queue, 100),
        )
    )  # fmt: skip
    tell(
        Measurement(
            section=SECTION, what=f"{workers}, requests that a venue refused", value=found.retries, unit="requests",
            beside="all", beside_value=found.requests, ratio=found.retries / found.requests,
            **at_most(found.retries / found.requests, REFUSED),
        )
    )  # fmt: skip
    tell_fairness(found, workers)


def tell_fairness(found: Round, workers: str) -> None:
    """How long the owners of few accounts wait beside the one who has half of all."""
    waits = {owner: sum(each) / len(each) for owner, each in found.waits.items()}
    desk = max(found.waits, key=lambda owner: len(found.waits[owner]))
    others = [wait for owner, wait in waits.items() if owner != desk]
    ratio = percentile(others, 0.5) / waits[desk]
    tell(
        Measurement(
            section=SECTION, what=f"{workers}, wait of an owner of {OF_AN_OWNER}, p50", value=percentile(others, 0.5),
            unit="s", beside=f"the owner of {len(found.waits[desk])}", beside_value=waits[desk], ratio=ratio,
            **at_most(ratio, 1), note=f"p95 {percentile(others, 0.95):.1f} s, longest {max(others):.1f} s",
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
