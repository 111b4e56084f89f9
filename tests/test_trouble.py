"""Trouble of perpdash's own: what is said of it, where, and that what can go on does."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import kombu.exceptions
import psycopg
import pytest
import redis
import time_machine
from celery.beat import ScheduleEntry
from django.core.cache import caches
from django.db import IntegrityError, InterfaceError, InternalError, OperationalError
from django.http import HttpRequest
from django.test import Client
from django.urls import path

from exchanges.models import Health, SyncRun
from perpdash.beat import Scheduler
from perpdash.celery import app
from perpdash.requests import failed
from perpdash.sentry import scrubbed
from tests import factories
from tests.conftest import NOW
from tests.fake_redis import CLOSED, FULL, UNSAVED, FakeRedis, fake_redis
from volume import tasks, trouble
from volume.refresh import refresh

NOWHERE = "redis://127.0.0.1:1/0"


def raised(fault: Exception, cause: Exception | None = None) -> Exception:
    """As Django raises what a database said."""
    try:
        raise fault from cause
    except Exception as caught:
        return caught


def of_sqlite(code: int) -> Exception:
    said = sqlite3.OperationalError("as it says")
    said.sqlite_errorcode = code
    return raised(OperationalError(), said)


@pytest.mark.parametrize(
    ("fault", "begins"),
    [
        (raised(OperationalError(), psycopg.OperationalError()), "perpdash's database does not answer."),
        (raised(OperationalError(), psycopg.errors.AdminShutdown()), "perpdash's database does not answer."),
        (InterfaceError("connection already closed"), "perpdash's database does not answer."),
        (raised(OperationalError(), psycopg.errors.DiskFull()), "The disk of perpdash's database is full."),
        (raised(InternalError(), psycopg.errors.ReadOnlySqlTransaction()), "perpdash's database takes nothing new"),
        (raised(OperationalError(), psycopg.errors.LockNotAvailable()), "perpdash's database is held up"),
        (of_sqlite(sqlite3.SQLITE_FULL), "The disk of perpdash's database is full."),
        (of_sqlite(sqlite3.SQLITE_IOERR_WRITE), "The disk of perpdash's database is full."),
        (of_sqlite(sqlite3.SQLITE_BUSY), "perpdash's database is held up"),
        (redis.ConnectionError(), "perpdash's Redis does not answer."),
        (kombu.exceptions.OperationalError(), "perpdash's Redis does not answer."),
        (redis.exceptions.OutOfMemoryError(FULL), "perpdash's Redis takes nothing new: it is full."),
        (redis.ResponseError(UNSAVED), "perpdash's Redis takes nothing new: it can't save to its disk."),
        (kombu.exceptions.OperationalError(UNSAVED), "perpdash's Redis takes nothing new: it can't save to its disk."),
        (redis.exceptions.ReadOnlyError(CLOSED), "perpdash's Redis takes nothing new: it may only be read."),
    ],
)
def test_what_fails_of_ours_is_named_with_whose_turn_it_is(fault, begins):
    assert trouble.words(fault).startswith(begins)
    assert trouble.words(fault).endswith("; reading goes on by itself then. Nothing that is stored is lost.")


@pytest.mark.parametrize("fault", [of_sqlite(sqlite3.SQLITE_ERROR), IntegrityError(), ValueError(), OSError(), None])
def test_a_fault_in_the_code_is_no_such_trouble(fault):
    assert trouble.words(fault) == ""


def test_sentry_is_told_of_faults_in_the_code_only():
    for fault, is_told in ((redis.ConnectionError(), False), (ValueError(), True)):
        event = {"exception": {"values": []}}
        assert bool(scrubbed(event, {"exc_info": (type(fault), fault, None)})) == is_told  # type: ignore[arg-type]


def database_gone(request: HttpRequest) -> None:
    raise OperationalError from psycopg.OperationalError("of host db.internal")


urlpatterns = [path("page/", database_gone), path("api/v1/thing/", database_gone)]
handler500 = failed


@pytest.fixture
def visitor(settings: Any) -> Client:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    return Client(raise_request_exception=False)


def test_a_page_without_its_database_says_so_and_comes_again_by_itself(visitor):
    answer = visitor.get("/page/")
    assert (answer.status_code, answer["Retry-After"]) == (503, "15")
    text = answer.content.decode()
    assert "perpdash&#x27;s database does not answer." in text and "db.internal" not in text
    assert '<meta http-equiv="refresh" content="15">' in text


def test_what_was_sent_is_not_sent_again_unasked(visitor):
    answer = visitor.post("/page/")
    assert answer.status_code == 503
    assert 'http-equiv="refresh"' not in answer.content.decode()
    assert "What you just sent was not stored." in answer.content.decode()


def test_the_api_says_it_in_its_own_shape(visitor):
    answer = visitor.get("/api/v1/thing/")
    assert (answer.status_code, answer["Retry-After"]) == (503, "15")
    error = answer.json()["error"]
    assert error["code"] == "unavailable" and error["message"].startswith("perpdash's database does not answer.")


@pytest.fixture
def cache_on_nothing(settings: Any) -> Any:
    """On a Redis that is not there."""
    settings.CACHES = {
        "default": {
            "BACKEND": "perpdash.caching.SteadyCache", "LOCATION": NOWHERE, "KEY_PREFIX": uuid4().hex,
        }
    }  # fmt: skip
    return caches["default"]


@pytest.fixture
def server() -> Iterator[FakeRedis]:
    with fake_redis() as server:
        yield server


@pytest.fixture
def cache_on(server: FakeRedis, settings: Any) -> Any:
    settings.CACHES = {"default": {"BACKEND": "perpdash.caching.SteadyCache", "LOCATION": server.url}}
    return caches["default"]


def said_of_redis(caplog: Any) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "perpdash.caching"]


def test_without_redis_the_cache_goes_on_in_memory_says_so_once_and_does_not_ask_again_at_once(
    cache_on, server, caplog
):
    cache = cache_on
    server.hangs_up = True
    assert cache.get("key") is None
    tries = server.calls
    assert tries
    assert cache.add("key", 1, 60) and not cache.add("key", 2, 60)
    assert cache.incr("key") == 2
    cache.set_many({"a": 1, "b": None}, 60)
    assert cache.get_many(["a", "b", "c"]) == {"a": 1, "b": None}
    assert cache.get("c", "nothing") == "nothing"
    cache.delete_many(["a", "b"])
    assert not cache.has_key("a")
    assert server.calls == tries
    (said,) = said_of_redis(caplog)
    assert said.startswith("Redis fails (")
    assert trouble.now().startswith("perpdash's Redis does not answer.")


@pytest.mark.parametrize(
    ("refusal", "words"),
    [(FULL, "it is full."), (UNSAVED, "it can't save to its disk."), (CLOSED, "it may only be read.")],
)
def test_a_redis_that_takes_nothing_new_is_named_once_until_it_takes_something(
    cache_on, server, caplog, refusal, words
):
    cache = cache_on
    server.refusal = refusal
    for number in range(3):
        cache.set("count", number)
        cache.get("other")
        cache.delete("other")
        cache.set_many({"many": number})
        assert trouble.now().startswith(f"perpdash's Redis takes nothing new: {words}")
    (said,) = said_of_redis(caplog)
    assert said.startswith("Redis fails (")
    server.refusal = ""
    cache.set("count", 3)
    assert said_of_redis(caplog) == [said, "Redis is back."]
    assert trouble.now() == ""


def test_what_a_full_redis_did_not_take_is_newer_than_what_it_holds(cache_on, server):
    cache = cache_on
    cache.set("held", 0)
    cache.set("count", 1)
    cache.set("gone", 1)
    server.refusal = FULL
    for number in (2, 3):
        cache.set("count", number)
        assert cache.get("count") == number and cache.has_key("count")
    assert cache.incr("count") == 4
    assert cache.get("held") == 0, "what it took before is still read"
    assert cache.get_many(["held", "count", "none"]) == {"held": 0, "count": 4}
    cache.delete_many(["count", "gone"])
    assert cache.get("count") is None and cache.get("gone") is None
    cache.set("count", 5)
    server.refusal = ""
    cache.set("count", 6)
    server.refusal = FULL
    cache.set("other", 1)
    assert cache.get("count") == 6, "what memory held before is forgotten"


def test_trouble_is_told_for_a_while_and_the_summary_says_it(db, cache_on_nothing, client):
    client.force_login(factories.user())
    trouble.note(raised(OperationalError(), psycopg.errors.DiskFull()))
    said = client.get("/api/v1/volume/summary/").json()["trouble"]
    assert said.startswith("The disk of perpdash's database is full.")
    assert "perpdash's Redis does not answer." in said


def test_a_reading_our_database_cut_off_blames_no_venue_and_is_soon_tried_again(db, sandbox, clock):
    credential = factories.credential()

    def fail(run: SyncRun, page: Any) -> None:
        raise OperationalError from psycopg.OperationalError()

    run = refresh(credential, now=clock.now(), on_page=fail)
    credential.refresh_from_db()
    assert run.outcome == SyncRun.Outcome.STOPPED and run.message.startswith("perpdash's database does not answer.")
    assert credential.health_text.startswith("perpdash's database does not answer.")
    assert (credential.health_state, credential.failures) == (Health.UNAVAILABLE, 0)
    assert credential.due_at < clock.now() + timedelta(minutes=1) and credential.leased_until is None
    refresh(credential, now=clock.now())
    credential.refresh_from_db()
    assert credential.health_text == "Works."


def test_after_the_clock_was_set_back_nobody_waits_for_what_it_said(db, sandbox, clock):
    ahead = clock.now() + timedelta(hours=1)
    credential = factories.credential(due_at=ahead, health_at=ahead, leased_until=ahead)
    tasks.refresh_due.apply()
    credential.refresh_from_db()
    assert credential.due_at == credential.health_at == credential.leased_until == clock.now()


def test_a_told_pause_of_a_venue_is_kept_whatever_its_length(db, sandbox, clock):
    later = clock.now() + timedelta(hours=3)
    credential = factories.credential(due_at=later, health_at=clock.now())
    tasks.refresh_due.apply()
    credential.refresh_from_db()
    assert credential.due_at == later


class Noted(Scheduler):
    """Notes what it would send."""

    def __init__(self, **options: Any) -> None:
        super().__init__(app, lazy=True, **options)
        self.sent: list[datetime] = []
        self.tasks: list[str] = []

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        self.sent.append(datetime.now(UTC))
        self.tasks.append(entry.task)


def test_beat_goes_on_when_its_clock_is_set_back_rather_than_wait_for_the_old_time():
    with time_machine.travel(NOW + timedelta(hours=1), tick=False) as clock:
        look = ScheduleEntry("look", "volume.tasks.refresh_due", last_run_at=datetime.now(UTC), schedule=5, app=app)
        beat = Noted(schedule={"look": look})
        for jump in (0, 6, -3600, 6, 6):
            clock.shift(jump)
            while beat.tick() == 0:
                pass
    assert beat.sent == [NOW + timedelta(seconds=seconds) for seconds in (3606, 12, 18)]


def test_a_clock_set_ahead_makes_nothing_old_at_once():
    with time_machine.travel(NOW, tick=False) as clock:
        entry = partial(ScheduleEntry, last_run_at=datetime.now(UTC), app=app)
        hourly = {name: entry(name, name, schedule=3600) for name in ("forget old runs", "fetch prices")}
        beat = Noted(schedule=hourly)
        for jump in (0, 5, 400 * 86400, 5):
            clock.shift(jump)
            while beat.tick() == 0:
                pass
        assert beat.tasks == ["fetch prices"]
        for _ in range(75):
            clock.shift(50)
            while beat.tick() == 0:
                pass
        assert sorted(beat.tasks) == ["fetch prices", "fetch prices", "forget old runs"]


def test_a_page_hands_out_work_and_does_not_fail_with_the_broker(monkeypatch, caplog):
    nowhere = app.connection_for_write(NOWHERE)
    tasks.hand_out(tasks.refresh_due, connection=nowhere, retry=False)
    assert "volume.tasks.refresh_due could not be handed out: perpdash's Redis does not answer." in caplog.text
