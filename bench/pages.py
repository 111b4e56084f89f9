"""How long pages and API take in the server: of two years of very many fills, and of one of many other people."""

import sys
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any, cast

from asgiref.sync import async_to_sync

from bench.report import Measurement, at_most, percentile, say, tell
from bench.setting_up import set_up

GOAL_MS = 50
ROUNDS = {"small": 8, "full": 40}


def main(size: str) -> None:
    set_up()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.test import Client
    from django.utils import timezone

    from bench.history import Size, build, keep_fresh
    from exchanges.models import ExchangeCredential
    from volume import proof

    settings.ALLOWED_HOSTS = ["*"]
    cast(Any, settings.REST_FRAMEWORK)["DEFAULT_THROTTLE_RATES"]["person"] = None  # else one is told to wait
    sizes = {
        "small": Size(fills=100_000, markets=60, small_owners=3, small_fills=1_000),
        "full": Size(fills=10_000_000, markets=300, small_owners=1_000, small_fills=10_000),
    }
    now = timezone.now()
    busy = build(sizes[size], now=now)
    one = ExchangeCredential.objects.filter(owner=busy).first()
    if found := list(proof.prove_account(one, timezone.now())) if one else ["there is no account"]:
        sys.exit(f"What was built is not right: {found[:3]}")
    _tell_sizes(sizes[size].fills + sizes[size].small_owners * sizes[size].small_fills)
    small = get_user_model().objects.get(username="small 0")
    for person in (busy, small):
        client = Client(headers={"Accept-Encoding": "gzip"})
        client.force_login(person)
        for what, url in _asked(now.date()):
            keep_fresh(now=timezone.now())
            _measure(
                f"{'10 M fills' if size == 'full' and person is busy else person}: {what}", client, url, ROUNDS[size]
            )
    client = Client()
    client.force_login(busy)
    _measure_file(client, f"/day/{now.date() - timedelta(days=3)}/?table=fills&format=csv")


def _asked(today: Any) -> Iterator[tuple[str, str]]:
    """(what, address)"""
    yield "dashboard, 90 days", "/"
    yield "dashboard, two years", "/?range=2y"
    for by, step, days in product(("venue", "market", "account"), ("day", "week", "month"), (30, 90, 731)):
        since = today - timedelta(days=days - 1)
        yield f"series by {by} and {step}, {days} days", f"/series/?by={by}&step={step}&from={since}&to={today}"
    yield "summary", "/api/v1/volume/summary/"
    for days in (30, 90, 731):
        since = today - timedelta(days=days - 1)
        yield f"markets by API, {days} days", f"/api/v1/volume/markets/?since={since}"
        yield f"days by API, {days} days", f"/api/v1/volume/daily/?since={since}&group_by=day,venue"
    yield "fills by API", "/api/v1/fills/"
    yield "fills of a day", f"/day/{today - timedelta(days=3)}/"
    yield "one market, two years", "/?range=2y&market=C0USDT"


def _measure(what: str, client: Any, url: str, rounds: int) -> None:
    """Each time as the first view after a fill of today; and as the first one of a process that has kept nothing."""
    from django.core.cache import cache
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from volume import kept

    def ask(*, first: bool = False) -> float:
        cache.delete_many([f"summary/{number}" for number in range(1, 2_000)])
        if first:
            kept.forget()
        started = perf_counter()
        answer = client.get(url)
        taken = perf_counter() - started
        if answer.status_code != 200:
            sys.exit(f"{url}: {answer.status_code}")
        return taken * 1000

    ask()
    firsts = [ask(first=True) for _ in range(rounds // 4)]
    taken = [ask() for _ in range(rounds)]
    with CaptureQueriesContext(connection) as asked:
        ask()
    p95 = percentile(taken, 0.95)
    more = {"p50": percentile(taken, 0.5), "nothing_kept_p50": percentile(firsts, 0.5), "queries": len(asked)}
    note = f"p50 {more['p50']:.0f} ms, with nothing kept {more['nothing_kept_p50']:.0f} ms, {len(asked)} queries"
    tell(
        Measurement(
            section="pages", what=f"{what}, p95", value=p95, unit="ms", note=note, more=more, **at_most(p95, GOAL_MS)
        )
    )


def _measure_file(client: Any, url: str) -> None:
    """A file of fills: how fast, and then what more of them takes of memory, which is slow to look at."""

    def length() -> int:
        async def read(answer: Any) -> int:
            return sum([len(piece) async for piece in answer.streaming_content])

        return async_to_sync(read)(client.get(url))

    length()
    started = perf_counter()
    size = length()
    tell(
        Measurement(
            section="pages", what="fills of a day as CSV", value=size / (perf_counter() - started) / 1e6, unit="MB/s"
        )
    )
    tracemalloc.start()
    length()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    tell(
        Measurement(section="pages", what="memory for it", value=peak / 1e6, unit="MB", note=f"of {size / 1e6:.1f} MB")
    )


TABLES = ("exchanges_fill", "volume_dailyvolume", "volume_periodvolume", "volume_hourvolume")


def _tell_sizes(fills: int) -> None:
    from django.conf import settings
    from django.db import connection

    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for table in TABLES:
                cursor.execute("SELECT pg_table_size(%s), pg_indexes_size(%s)", [table, table])
                rows, indexes = cursor.fetchone()
                note = f"of it {indexes / 1e6:,.0f} MB indexes"
                tell(
                    Measurement(
                        section="pages", what=f"{table} on disk", value=(rows + indexes) / 1e6, unit="MB", note=note
                    )
                )
    else:
        size = Path(settings.DATABASES["default"]["NAME"]).stat().st_size
        tell(Measurement(section="pages", what=f"{fills:,} fills on disk, with all", value=size / 1e6, unit="MB"))
    say("measuring ...")


if __name__ == "__main__":
    main(sys.argv[1])
