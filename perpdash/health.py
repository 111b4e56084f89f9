"""For whatever watches over the processes: whether this one answers, and whether all it needs is there.

Open to anybody, so it names parts and what to do about them, and no version, host or number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache as once
from typing import Any

import psycopg
import redis
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.cache import cache
from django.db import Error, connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache

from volume import trouble
from volume.tasks import BEAT_SEEN, WORKER_SEEN

OK = "ok"
PATIENCE = 2  # seconds for each part to answer
REDIS = {
    "gone": "Redis does not answer. Start it, or set REDIS_URL right",
    "full": "Redis is full. Give it more memory",
    "unsaved": "Redis can't save to its disk, so it takes nothing new. Make room there, or see its log",
    "closed": "Redis may only be read. Set REDIS_URL to one that takes writes",
}


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
    database = _database()
    yield "database", (trouble.of("database") or OK) if database == OK else database
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


def _database() -> str:
    try:
        if connection.vendor == "postgresql":
            # One that hangs leaves an open connection waiting; it greets nobody who comes anew, which can be timed.
            psycopg.connect(**_address(), connect_timeout=PATIENCE).close()
        with _briefly():
            MigrationRecorder(connection).has_table()
    except (Error, psycopg.Error):
        return "The database does not answer. Start it, or set DATABASE_URL right; perpdash goes on by itself then."
    return OK


def _address() -> dict[str, Any]:
    """Where the database is, without what is Django's own."""
    known = connection.get_connection_params()
    names = known.keys() - {"connect_timeout", "context", "cursor_factory", "prepare_threshold", "pool"}
    return {name: known[name] for name in names}


@contextmanager
def _briefly() -> Iterator[None]:
    """What is asked within waits for nobody's lock. In SQLite readers never do."""
    if connection.vendor != "postgresql":
        yield
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {PATIENCE * 1000}")
        yield


def _migrations() -> str:
    try:
        with _briefly():
            applied = MigrationRecorder(connection).applied_migrations().keys()
    except Error:
        return "The database does not say which are applied. It may be busy with manage.py migrate: look again soon."
    if wanted_migrations() <= applied:
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
        try:
            client.set("ready", 1, ex=PATIENCE)  # a full one still answers
        except redis.RedisError as fault:
            return f"{REDIS[trouble.of_redis(fault)]}; perpdash goes on by itself then."
    return OK
