"""What watches over the processes is told: which part is there, which is not, and what to do."""

import socket
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.core.cache import cache
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from perpdash.celery import app
from tests import factories
from tests.fake_redis import CLOSED, FULL, UNSAVED, fake_redis
from volume import tasks

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def own_cache(settings: Any) -> Iterator[None]:
    """Tests that run beside this one on the same Redis give signs of life as well. What is handed out is not kept."""
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}
    yield
    with app.connection_for_write() as connection:
        connection.SimpleQueue(app.conf.task_default_queue).clear()


@pytest.fixture
def probe(db: None, sandbox: Any) -> Client:
    """Signed in as nobody."""
    factories.user()
    return Client()


def checks(probe: Client, status: int) -> dict[str, str]:
    answer = probe.get("/health/ready")
    assert answer.status_code == status
    assert answer.json()["status"] == ("ok" if status == 200 else "not ready")
    assert "no-store" in answer["Cache-Control"]
    return dict(answer.json()["checks"])


def beat_hands_out() -> None:
    tasks.refresh_due.apply_async(expires=5)


def worker_works() -> None:
    tasks.refresh_due.apply()


def test_with_everything_there_it_is_ready(probe, settings):
    beat_hands_out()
    worker_works()
    said = checks(probe, 200)
    assert set(said) == {"database", "migrations", "beat", "worker"} | ({"broker"} if settings.REDIS_URL else set())
    assert set(said.values()) == {"ok"}


def test_a_beat_without_a_worker_and_a_worker_without_a_beat_are_told_apart(probe):
    beat_hands_out()
    said = checks(probe, 503)
    assert said["beat"] == said["database"] == said["migrations"] == "ok"
    assert said["worker"].startswith("No sign of life of the worker for a minute")
    cache.delete_many([tasks.BEAT_SEEN, tasks.WORKER_SEEN])
    worker_works()
    said = checks(probe, 503)
    assert said["worker"] == "ok"
    assert said["beat"].startswith("No sign of life of the beat for a minute")


def test_any_task_a_worker_begins_is_a_sign_of_life_and_no_task_but_its_own_is_one_of_beat(probe):
    tasks.forget_old_runs.apply_async()
    assert checks(probe, 503)["beat"] != "ok"
    tasks.forget_old_runs.apply()
    assert checks(probe, 503)["worker"] == "ok"


def test_a_sign_of_life_holds_for_a_minute(probe, clock, settings):
    if settings.REDIS_URL:
        pytest.skip("Redis forgets by its own clock")
    beat_hands_out()
    worker_works()
    clock.move(59)
    checks(probe, 200)
    clock.move(2)
    said = checks(probe, 503)
    assert "ok" not in (said["beat"], said["worker"])


def test_a_database_that_was_not_migrated_is_told(probe):
    beat_hands_out()
    worker_works()
    MigrationRecorder.Migration.objects.filter(app="volume").delete()
    said = checks(probe, 503)
    assert said["migrations"] == "The database is not made for this perpdash yet. Run manage.py migrate."
    assert said["database"] == said["beat"] == "ok"


def test_a_database_that_is_down_is_told_and_the_process_still_lives(probe, tmp_path):
    checks(probe, 503)  # the first answer of a process looks for people
    working = connections["default"]
    nowhere: dict[str, Any] = {"HOST": "127.0.0.1", "PORT": "1"}
    if working.vendor == "sqlite":
        nowhere = {"NAME": str(tmp_path / "gone" / "perpdash.sqlite3")}
    connections["default"] = type(working)(working.settings_dict | nowhere, "default")
    try:
        said = checks(probe, 503)
        assert said["database"].startswith("The database does not answer.")
        assert said["migrations"] == "Not known until the database answers."
        assert probe.get("/health/live").status_code == 200
    finally:
        connections["default"] = working


def test_a_broker_that_is_down_is_told_within_seconds_and_nothing_is_guessed_of_the_rest(probe, settings):
    settings.REDIS_URL = NOWHERE
    said = checks(probe, 503)
    assert said["broker"].startswith("Redis does not answer.")
    assert said["beat"] == said["worker"] == "Not known until Redis answers."
    assert said["database"] == "ok"


def silent(port_of: socket.socket) -> int:
    """Of something that takes calls and never says a word, as a stopped process does."""
    return int(port_of.getsockname()[1])


def test_a_broker_that_hangs_is_told_within_seconds(probe, settings):
    checks(probe, 503)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        settings.REDIS_URL = f"redis://127.0.0.1:{silent(hanging)}/0"
        assert checks(probe, 503)["broker"].startswith("Redis does not answer.")


@pytest.mark.parametrize(
    ("refusal", "begins"),
    [
        (FULL, "Redis is full. Give it more memory;"),
        (UNSAVED, "Redis can't save to its disk, so it takes nothing new. Make room there, or see its log;"),
        (CLOSED, "Redis may only be read. Set REDIS_URL to one that takes writes;"),
    ],
)
def test_a_broker_that_takes_nothing_new_is_told_from_one_that_is_down(probe, settings, refusal, begins):
    checks(probe, 503)
    with fake_redis() as server:
        server.refusal = refusal
        settings.REDIS_URL = server.url
        assert checks(probe, 503)["broker"].startswith(begins)


def test_a_database_that_hangs_is_told_within_seconds(probe):
    working = connections["default"]
    if working.vendor != "postgresql":
        pytest.skip("a file does not hang")
    checks(probe, 503)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        nowhere = {"HOST": "127.0.0.1", "PORT": str(silent(hanging))}
        connections["default"] = type(working)(working.settings_dict | nowhere, "default")
        try:
            assert checks(probe, 503)["database"].startswith("The database does not answer.")
        finally:
            connections["default"] = working


@pytest.mark.django_db(transaction=True)
def test_a_lock_on_the_list_of_migrations_is_told_and_not_waited_for(probe):
    if connections["default"].vendor != "postgresql":
        pytest.skip("readers of a file wait for nobody")
    other = connections["default"].copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("LOCK TABLE django_migrations IN ACCESS EXCLUSIVE MODE")
            said = checks(probe, 503)
            assert said["migrations"].startswith("The database does not say which are applied.")
            cursor.execute("ROLLBACK")
    finally:
        other.close()


def test_nothing_it_says_names_a_host_a_version_or_a_number(probe, settings):
    settings.REDIS_URL = NOWHERE
    MigrationRecorder.Migration.objects.filter(app="volume").delete()
    text = probe.get("/health/ready").content.decode()
    assert "127.0.0.1" not in text
    assert not set("23456789") & set(text)


def test_that_the_process_lives_needs_no_database(probe, django_assert_num_queries):
    assert probe.get("/health/live").json() == {"status": "ok"}  # the first answer of a process looks for people
    with django_assert_num_queries(0):
        assert probe.get("/health/live").json() == {"status": "ok"}


def test_the_old_address_goes_on_answering(probe):
    assert probe.get("/health/").json() == {"status": "ok"}


def test_a_cache_that_fails_keeps_no_task_from_running(probe, settings):
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": NOWHERE}}
    beat_hands_out()
    assert tasks.forget_old_runs.apply().successful()


def test_a_browser_that_is_signed_in_hears_that_the_process_lives_without_its_database(db, django_assert_num_queries):
    client = Client()
    client.force_login(factories.user())
    with django_assert_num_queries(0):
        assert client.get("/health/live").status_code == 200
