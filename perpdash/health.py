"""For whatever watches over the processes: whether this one answers, and whether all it needs is there.

Open to anybody, so it names parts and what to do about them, and no version, host or number.
"""

from collections.abc import Callable, Iterator
from functools import cache as once

import redis
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.cache import cache
from django.db import Error, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache

from volume.tasks import BEAT_SEEN, WORKER_SEEN

OK = "ok"
PATIENCE = 2  # seconds for Redis to answer


@login_not_required
@never_cache
def live(request: HttpRequest) -> JsonResponse:
    """200 as long as this process answers, whatever else is down: restarting it would not help the rest."""
    return JsonResponse({"status": OK})


@login_not_required
@never_cache
def health(request: HttpRequest) -> JsonResponse:
    """200 once the database answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": OK})


@login_not_required
@never_cache
def ready(request: HttpRequest) -> JsonResponse:
    """200 while everything is there, else 503; {"status", "checks": {part: "ok", or what is wrong and what helps}}."""
    checks = dict(parts())
    is_ready = all(said == OK for said in checks.values())
    return JsonResponse({"status": OK if is_ready else "not ready", "checks": checks}, status=200 if is_ready else 503)


def parts() -> Iterator[tuple[str, str]]:
    """Every part by name, with "ok" or what is wrong and what to do."""
    yield "database", (database := _database())
    yield "migrations", _migrations() if database == OK else "Not known until the database answers."
    broker = OK
    if settings.REDIS_URL:
        yield "broker", (broker := _broker())
    embedded = "It runs within manage.py up: start that again."
    for name, key in (("beat", BEAT_SEEN), ("worker", WORKER_SEEN)):
        if broker != OK:
            yield name, "Not known until Redis answers."
        elif cache.get(key):
            yield name, OK
        else:
            start = embedded if settings.EMBEDDED else f"Start celery -A perpdash {name}, or look at its log."
            yield name, f"No sign of life of the {name} for a minute, or just started: accounts are not read. {start}"


def _answers(ask: Callable[[], object], *faults: type[Exception]) -> bool:
    try:
        ask()
    except faults:
        return False
    return True


def _database() -> str:
    if _answers(MigrationRecorder(connection).has_table, Error):
        return OK
    return "The database does not answer. Start it, or set DATABASE_URL right; perpdash goes on by itself then."


def _migrations() -> str:
    if wanted_migrations() <= MigrationRecorder(connection).applied_migrations().keys():
        return OK
    return "The database is not made for this perpdash yet. Run manage.py migrate."


@once
def wanted_migrations() -> frozenset[tuple[str, str]]:
    """The last migration of every app, as (app, name)."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


def _broker() -> str:
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=None
    ) as client:
        if _answers(client.ping, redis.RedisError):
            return OK
    return "Redis does not answer. Start it, or set REDIS_URL right; perpdash goes on by itself then."
