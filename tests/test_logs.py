"""The lines the processes write: to which request, task and run they belong, and nothing that lets anybody in."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from daphne.access import AccessLogGenerator
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from exchanges.models import SyncRun
from exchanges.sandbox import Sandbox, bybit
from perpdash.access import user_of
from perpdash.celery import app
from perpdash.logs import JsonFormatter, TextFormatter, shown
from tests import factories
from tests.conftest import NOW
from volume.tasks import forget_old_runs, refresh_credential

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[1]
TOKEN = "c1abcd-0123456789abcdef0123456789abcdef"


@contextmanager
def written(formatter: logging.Formatter) -> Iterator[io.StringIO]:
    """All that is written meanwhile, by every logger at INFO."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    loggers = [logging.getLogger(name) for name in ("", "perpdash", "perpdash.access", "perpdash.runs")]
    before = [one.level for one in loggers]
    logging.getLogger().addHandler(handler)
    for one in loggers:
        one.setLevel(logging.INFO)
    try:
        yield stream
    finally:
        logging.getLogger().removeHandler(handler)
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


@pytest.fixture
def lines() -> Iterator[Any]:
    """Gives the lines so far that a logger wrote, as what they say."""
    with written(JsonFormatter()) as stream:

        def of(logger: str) -> list[dict[str, Any]]:
            said = [json.loads(line) for line in stream.getvalue().splitlines()]
            return [line for line in said if line["logger"] == logger]

        yield of


@pytest.fixture
def ada() -> Any:
    return factories.user("ada", is_superuser=True)


# --- Requests --------------------------------------------------------------------------------------------------------


def test_a_request_is_one_line_that_says_who_asked_what_and_how_it_went(lines, ada):
    client = Client()
    client.force_login(ada)
    answer = client.get("/api/v1/runs/?secret=MARK")
    (line,) = lines("perpdash.access")
    assert line["request_id"] == answer["X-Request-ID"]
    assert (line["method"], line["path"], line["view"]) == ("GET", "/api/v1/runs/", "api:run-list")
    assert (line["status"], line["user"], line["level"]) == (200, ada.pk, "INFO")
    assert line["ms"] >= 0
    assert line["time"].endswith("+00:00")
    assert "MARK" not in json.dumps(line)


def test_a_request_that_is_served_asynchronously_is_told_as_well(lines):
    answer = async_to_sync(AsyncClient().get)("/health/live")
    (line,) = lines("perpdash.access")
    assert (line["view"], line["status"], line["request_id"]) == ("live", 200, answer["X-Request-ID"])


def test_every_line_within_a_request_carries_its_id(lines, ada):
    answer = Client().get("/no-such-page/")
    (line,) = lines("django.request")
    assert line["message"] == "Not Found: /no-such-page/"
    assert line["request_id"] == answer["X-Request-ID"]


def test_asking_who_it_was_costs_no_query(rf):
    request = rf.get("/")
    request.user = SimpleLazyObject(lambda: pytest.fail("nobody wanted to know"))
    assert user_of(request) is None


@pytest.mark.parametrize(
    "path",
    [
        f"/sign-in/1/{TOKEN}/",
        f"/sign-in/1/{TOKEN}",  # led to the one above
        f"/sign-in/1/{TOKEN}/more",
        f"/nowhere/{TOKEN}",
        f"/welcome/?key={TOKEN}",
        f"/no-such-page/?next=/sign-in/1/{TOKEN}/",
    ],
)
def test_a_link_that_lets_somebody_in_is_in_no_line(ada, path):
    for formatter in (JsonFormatter(), TextFormatter()):
        with written(formatter) as stream:
            Client().get(path)
            Client().post(path)
        text = stream.getvalue()
        assert "perpdash.access" in text
        assert TOKEN not in text


def test_a_joining_link_that_is_new_to_this_is_masked_by_its_length_alone():
    assert shown(f"/join/{TOKEN}/") == "/join/.../"
    assert shown("/api/v1/volume/daily/") == "/api/v1/volume/daily/"


def test_a_path_can_not_begin_a_line_of_its_own(ada):
    with written(TextFormatter()) as stream:
        Client().get("/a%0Aforged%20line")
    assert "\nforged" not in stream.getvalue()


def test_daphnes_own_log_which_knows_no_such_care_is_silent():
    import perpdash.asgi  # noqa: F401

    stream = io.StringIO()
    AccessLogGenerator(stream)(
        "http", "complete", {"client": "1", "method": "GET", "path": f"/sign-in/1/{TOKEN}/", "status": 200, "size": 1}
    )
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("given", "proxies", "is_taken"),
    [
        ("from-the-proxy-0001", 1, True),
        ("from-the-proxy-0001", 0, False),
        ("short", 1, False),
        ("x" * 65, 1, False),
        ('{"level": "forged"}', 1, False),
        ("", 1, False),
    ],
)
def test_an_id_is_taken_from_our_own_proxy_if_it_looks_like_one(ada, settings, given, proxies, is_taken):
    settings.PROXIES = proxies
    answer = Client().get("/health/live", headers={"X-Request-ID": given})
    assert (answer["X-Request-ID"] == given) == is_taken
    assert len(answer["X-Request-ID"]) >= 8


# --- Tasks and runs --------------------------------------------------------------------------------------------------


def test_a_run_is_one_line_with_its_outcome_and_its_task(lines, sandbox: Sandbox):
    account = factories.credential("bybit", secrets=dict(bybit.MAIN), history_from=NOW - timedelta(days=3))
    task = refresh_credential.apply((account.pk,))
    run = SyncRun.objects.get()
    (line,) = lines("perpdash.runs")
    assert (line["run"], line["credential"], line["venue"]) == (run.pk, account.pk, "bybit")
    assert (line["task"], line["task_id"]) == ("volume.tasks.refresh_credential", task.id)
    assert (line["outcome"], line["new"], line["requests"]) == (run.outcome, run.new, run.requests)
    assert line["why"] == run.message


def test_a_fault_in_a_task_says_in_which_run_it_happened(lines, sandbox: Sandbox):
    def fall_over() -> None:
        raise ZeroDivisionError

    account = factories.credential("bybit", secrets=dict(bybit.MAIN))
    sandbox.bybit.after(0, fall_over)
    task = refresh_credential.apply((account.pk,))
    (line,) = lines("celery.app.trace")
    assert line["level"] == "ERROR"
    assert line["error"].rstrip().endswith("ZeroDivisionError")
    assert (line["run"], line["task_id"]) == (SyncRun.objects.get().pk, task.id)
    assert "data" not in line, "Celery's own extra, with the arguments"


def test_what_windows_read_at_once_write_belongs_to_their_run_too(lines, sandbox: Sandbox):
    """They are read in threads of their own."""
    account = factories.credential("bybit", secrets=dict(bybit.MAIN), history_from=NOW - timedelta(days=30))
    assert account.venue_type.in_flight > 1
    sandbox.bybit.after(3, lambda: logging.getLogger("perpdash.venue").info("asked"))
    refresh_credential.apply((account.pk,))
    assert {line["run"] for line in lines("perpdash.venue")} == {SyncRun.objects.get().pk}


def test_a_run_is_no_longer_told_of_in_the_next_task(lines, sandbox: Sandbox):
    account = factories.credential("bybit", secrets=dict(bybit.MAIN), history_from=NOW - timedelta(days=3))
    refresh_credential.apply((account.pk,))

    @app.task
    def speak() -> None:
        logging.getLogger("perpdash.speak").info("something else")

    speak.apply()
    forget_old_runs.apply()
    (line,) = lines("perpdash.speak")
    assert "run" not in line


# --- The two forms ---------------------------------------------------------------------------------------------------


def test_people_read_the_same_in_one_line(ada):
    with written(TextFormatter()) as stream:
        answer = Client().get("/no-such-page/")
    line = next(line for line in stream.getvalue().splitlines() if "perpdash.access" in line)
    assert "INFO perpdash.access: GET /no-such-page/ 404 (request_id=" in line
    assert answer["X-Request-ID"] in line


def test_extra_values_nobody_chose_stay_out():
    record = logging.makeLogRecord({"msg": "hello %s", "args": ("you",), "password": "MARK", "levelname": "INFO"})
    for formatter in (JsonFormatter(), TextFormatter()):
        assert "hello you" in formatter.format(record)
        assert "MARK" not in formatter.format(record)


SPEAK = "import logging; logging.getLogger('perpdash.access').info('hello'); logging.getLogger('perpdash').info('ho')"


def says(*arguments: str, tmp_path: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"VAR_DIR": str(tmp_path), "DATABASE_URL": "", "REDIS_URL": ""} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stderr


@pytest.mark.parametrize(
    ("environment", "is_json", "count"),
    [
        ({}, True, 2),
        ({"DEBUG": "1"}, False, 1),
        ({"DEBUG": "1", "LOG_LEVEL": "DEBUG"}, False, 2),
        ({"DEBUG": "1", "LOG_FORMAT": "json"}, True, 2),
        ({"LOG_FORMAT": "text"}, False, 1),
        ({"LOG_LEVEL": "ERROR"}, True, 0),
    ],
)
def test_lines_are_for_machines_in_production_and_for_people_in_development(tmp_path, environment, is_json, count):
    said = says("manage.py", "shell", "-v0", "-c", SPEAK, tmp_path=tmp_path, **environment).splitlines()
    lines = [line for line in said if "hello" in line or "ho" in line]
    assert len(lines) == count
    assert all(line.startswith("{") == is_json for line in lines)


def test_a_form_nobody_knows_is_refused_in_words(tmp_path):
    assert "LOG_FORMAT is json or text" in says("manage.py", "check", tmp_path=tmp_path, LOG_FORMAT="xml")


def test_worker_and_beat_leave_the_logging_as_it_is(tmp_path):
    speak = (
        "from perpdash.celery import app; import django; django.setup(); app.log.setup('DEBUG', redirect_stdouts=True);"
        "import logging, sys; logging.getLogger('celery.worker').error('a %s', 'fault');"
        "print('plain', file=sys.stderr)"
    )
    fault, plain = says("-c", speak, tmp_path=tmp_path).splitlines()
    assert json.loads(fault)["message"] == "a fault"
    assert plain == "plain"


def test_the_sign_in_page_is_where_it_is_thought_to_be():
    assert reverse("accounts:link", args=[1, TOKEN]) == f"/sign-in/1/{TOKEN}/"
