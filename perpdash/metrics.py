"""For Prometheus: how the installation fares. Any web answers for the whole of it; only what is named `web` is its own.

What happens is counted where it happens (exchanges.tally), what is the case is asked of the database. Labels are names
of ours: no person, no account, nothing somebody typed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from secrets import compare_digest
from typing import Any

import redis
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.cache import cache
from django.db import Error, connection
from django.db.models import Count, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from accounts.joining import is_from_this_machine
from exchanges.models import STOPPED, Coverage, ExchangeCredential, HeldRow
from exchanges.tally import SECONDS, SHARES, Label, redis_client, tally
from perpdash import access
from perpdash.celery import app
from volume.completeness import STALE_AFTER
from volume.models import DailyVolume, Preferences
from volume.tasks import BEAT_SEEN, WORKER_SEEN

STOCK, STOCK_FOR = "metrics/stock", 300  # what takes a walk through all days is counted so often, in seconds

COUNTERS = {
    "runs": ("Readings of an account that ended.", ["venue", "outcome", "trigger"]),
    "rows": ("Rows that venues sent.", ["venue", "kind"]),
    "venue_waited_seconds": ("Waited for a venue's rate limit.", ["venue"]),
    "venue_errors": ("Requests to a venue that went wrong, by what went wrong.", ["venue", "kind"]),
    "http_requests": ("Requests answered.", ["view", "method", "status"]),
}
HISTOGRAMS = {
    "run_seconds": ("How long a reading of an account took.", ["venue"], SECONDS),
    "venue_request_seconds": ("How long a venue took to answer.", ["venue"], SECONDS),
    "venue_budget_used_ratio": ("Share of a documented rate limit in use as a request is made.", ["venue"], SHARES),
    "http_request_seconds": ("How long an answer took.", ["view", "method"], SECONDS),
}


@login_not_required
@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    if not may_read(request):
        return HttpResponse(
            "Metrics are for this machine alone. To read them from elsewhere set METRICS_TOKEN, and send it as "
            "Authorization: Bearer.\n",
            status=403,
            content_type="text/plain; charset=utf-8",
        )
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type)


def may_read(request: HttpRequest) -> bool:
    """With the token, where one is set; else from this machine, unless a proxy on it asks for somebody."""
    if settings.METRICS_TOKEN:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and compare_digest(given.strip().encode(), settings.METRICS_TOKEN.encode())
    return is_from_this_machine(request)


class Installation:
    """What is known at the moment it is asked. A part that does not answer is told as such, and the rest is told."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("perpdash_part_up", "Whether a part answers.", labels=["part"])
        parts: list[tuple[str, Any, Any]] = [("database", _stored, Error)]
        if settings.REDIS_URL:
            parts.append(("broker", _counted, redis.RedisError))
        else:
            yield from _counted()
        for part, ask, fault in parts:
            try:
                found = list(ask())
            except fault:
                up.add_metric([part], 0)
            else:
                up.add_metric([part], 1)
                yield from found
        yield up
        yield _gauge("web_sockets_open", "Sockets open at the web process that answers this.", access.sockets_open)


registry = CollectorRegistry()
registry.register(Installation())
ProcessCollector(namespace="perpdash_web", registry=registry)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"perpdash_{name}", text, value=value)


def _by(name: str, text: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(f"perpdash_{name}", text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric([key] if isinstance(key, str) else list(key), value)
    return family


# --- What is the case, by the database -------------------------------------------------------------------------------


def _stored() -> Iterator[Metric]:
    now = timezone.now()
    states: Counter[tuple[str, str]] = Counter()
    lag: dict[str, float] = {}
    stale: Counter[str] = Counter()
    due: Counter[str] = Counter()
    accounts = ExchangeCredential.objects.filter(retired_at=None).order_by()
    for venue, state, is_enabled, fresh_at, created_at, due_at in accounts.values_list(
        "venue", "health_state", "is_enabled", "fresh_at", "created_at", "due_at"
    ):
        states[venue, state if is_enabled else "paused"] += 1
        if is_enabled and state not in STOPPED:
            behind = now - (fresh_at or created_at)
            lag[venue] = max(lag.get(venue, 0.0), behind.total_seconds())
            stale[venue] += behind > STALE_AFTER
            due[venue] += due_at <= now
    yield _by("accounts", "Accounts by how they fare.", ["venue", "state"], states)
    yield _by("lag_seconds", "Since when fills were not asked for, of the account furthest behind.", ["venue"], lag)
    yield _by("accounts_stale", "Accounts whose numbers the page calls not up to date.", ["venue"], stale)
    yield _by("accounts_due", "Accounts that wait to be read.", ["venue"], due)
    held = HeldRow.objects.order_by().values_list("credential__venue").annotate(Count("pk"))
    yield _by("held_rows", "Rows that were not understood.", ["venue"], dict(held))
    ranges = Coverage.objects.exclude(state=Coverage.State.COVERED).order_by()
    found = {
        (venue, state): count
        for venue, state, count in ranges.values_list("credential__venue", "state").annotate(Count("pk"))
    }
    yield _by("ranges_missing", "Gaps, which are tried again, and ranges out of reach.", ["venue", "state"], found)
    outdated, not_priced = cache.get_or_set(STOCK, _stock, STOCK_FOR) or _stock()
    yield _gauge("days_outdated", "Days and markets that wait to be computed anew, minutes ago.", outdated)
    yield _by("fills_not_priced", "Fills in no dollar figure for want of a price, minutes ago.", ["venue"], not_priced)
    yield _gauge("database_bytes", "Size of the database.", _database_bytes())


def _stock() -> tuple[int, dict[str, int]]:
    at_market = Q(credential__owner__in=Preferences.objects.filter(stablecoins_at_market=True).values("owner"))
    outdated = Q(is_at_market=None) | Q(at_market, is_at_market=False) | Q(~at_market, is_at_market=True)
    not_priced = DailyVolume.objects.filter(fills_not_priced__gt=0).order_by()
    by_venue = not_priced.values_list("credential__venue").annotate(Sum("fills_not_priced"))
    return DailyVolume.objects.filter(outdated).count(), dict(by_venue)


def _database_bytes() -> int:
    ask = "SELECT pg_database_size(current_database())"
    if connection.vendor == "sqlite":
        ask = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    with connection.cursor() as cursor:
        cursor.execute(ask)
        return int(cursor.fetchone()[0])


# --- What was counted, and the queue ---------------------------------------------------------------------------------


def _counted() -> Iterator[Metric]:
    by_name: dict[Label, dict[tuple[Label, ...], float]] = defaultdict(dict)
    for (what, *values), amount in tally.totals().items():
        by_name[what][tuple(values)] = amount
    for name, (text, labels) in COUNTERS.items():
        counter = CounterMetricFamily(f"perpdash_{name}", text, labels=labels)
        for key, amount in sorted(by_name[name].items()):
            counter.add_metric([str(value) for value in key], amount)
        yield counter
    for name, (text, labels, buckets) in HISTOGRAMS.items():
        yield _histogram(name, text, labels, [*buckets, "+Inf"], by_name[name])
    yield _gauge("queue_length", "Tasks that wait for a worker.", _queue_length())
    seen = {name: float(at) for name, key in (("beat", BEAT_SEEN), ("worker", WORKER_SEEN)) if (at := cache.get(key))}
    yield _by("last_seen_timestamp_seconds", "When beat, and any worker, last gave a sign of life.", ["process"], seen)
    alive = {name: float(name in seen) for name in ("beat", "worker")}
    yield _by("process_alive", "Whether it gave one within the last minute.", ["process"], alive)


def _histogram(
    name: str, text: str, labels: list[str], bounds: Iterable[Label], counts: dict[tuple[Label, ...], float]
) -> Metric:
    family = HistogramMetricFamily(f"perpdash_{name}", text, labels=labels)
    for values in sorted({key[:-1] for key in counts}):
        below, buckets = 0.0, []
        for bound in bounds:
            below += counts.get((*values, bound), 0)
            buckets.append((str(bound), below))
        family.add_metric([str(value) for value in values], buckets, counts.get((*values, "sum"), 0))
    return family


def _queue_length() -> int:
    queue = app.conf.task_default_queue
    if settings.REDIS_URL:
        return int(redis_client(settings.REDIS_URL).llen(queue))  # type: ignore[arg-type]
    with app.connection_for_read() as broker:
        return int(broker.SimpleQueue(queue).qsize())
