"""`make run-stack`: several webs and workers on one PostgreSQL and one Redis, and several migrations at once."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from websockets.sync.client import connect

from exchanges.sandbox.hyperliquid import Hyperliquid
from exchanges.sandbox.server import serve
from tests import factories
from tests.test_stack import ROOT, answers, until

# One stack for all of them, where pytest-xdist keeps groups together.
pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack_many")]
PEOPLE = [f"0x{number:040x}" for number in range(1, 5)]


@contextmanager
def database() -> Iterator[dict[str, str]]:
    """An empty database of its own: the environment that leads to it."""
    url = os.environ.get("DATABASE_URL", "")
    if not (url.startswith("postgres") and os.environ.get("REDIS_URL")):
        pytest.skip("needs DATABASE_URL (PostgreSQL) and REDIS_URL")
    name = f"perpdash_many_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield os.environ | {
                "DATABASE_URL": f"{url.rsplit('/', 1)[0]}/{name}",
                "REDIS_URL": f"{os.environ['REDIS_URL'].rsplit('/', 1)[0]}/6",
            }
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def manage(environment: dict[str, str], *command: str, text: str = "") -> str:
    """What a command printed; what it complains of goes to the test's own output."""
    done = subprocess.run(
        [sys.executable, "manage.py", *command], cwd=ROOT, env=environment, input=text, text=True,
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def two_ports() -> int:
    """A port that is free, and so is the next."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Two webs, two workers and beat, as `make run-stack` starts them, with four accounts at a venue of their own."""
    sandbox = Hyperliquid(weight_per_minute=10**9)
    for person in PEOPLE:
        sandbox.add(person)
    with serve(sandbox) as venue, database() as environment:
        environment |= {"HYPERLIQUID_API_URL": venue.url, "VAR_DIR": str(tmp_path_factory.mktemp("var"))}
        port = two_ports()
        process = subprocess.Popen(
            ["make", "run-stack", "-o", ".venv/installed", f"BIN={Path(sys.executable).parent}", f"PORT={port}"],
            cwd=ROOT, env=environment, start_new_session=True,
        )  # fmt: skip
        origins = [f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"]
        try:
            for origin in origins:
                until(lambda origin=origin: answers(f"{origin}/health/live"))
            manage(
                environment,
                "shell",
                "-v0",
                "-c",
                "from accounts.models import User; User.objects.create(username='ada')",
            )
            token = manage(environment, "create_token", "--owner", "ada")
            for number, person in enumerate(PEOPLE):
                add = ["add_credential", "hyperliquid", "--owner", "ada", "--label", f"Account {number}"]
                manage(environment, *add, text=json.dumps({"address": person}))
            yield {"origins": origins, "token": token, "environment": environment, "sandbox": sandbox, "make": process}
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                process.wait(30)


def test_every_web_is_ready(stack: dict[str, Any]) -> None:
    for origin in stack["origins"]:
        until(lambda origin=origin: answers(f"{origin}/health/ready"))


def test_every_worker_and_beat_is_found_alive(stack: dict[str, Any]) -> None:
    test_every_web_is_ready(stack)
    host = socket.gethostname()
    for worker in ("worker.1", "worker.2"):
        assert manage(stack["environment"], "alive", "worker", "--name", f"{worker}@{host}") == "ok"
    assert manage(stack["environment"], "alive", "beat") == "ok"
    with pytest.raises(subprocess.CalledProcessError):
        manage(stack["environment"], "alive", "worker", "--name", f"worker.3@{host}")


def test_a_fill_reaches_the_pages_of_every_web(stack: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {stack['token']}"}
    pages = [
        connect(origin.replace("http", "ws") + "/ws/volume/", additional_headers=headers) for origin in stack["origins"]
    ]
    try:
        assert [json.loads(page.recv(timeout=10))["type"] for page in pages] == ["summary", "summary"]
        at = datetime.now(UTC) - timedelta(seconds=1)
        for person in PEOPLE:
            stack["sandbox"].add(person, rows=[factories.hyperliquid_row(at)])
        for page in pages:
            until(lambda page=page: json.loads(page.recv(timeout=60))["totals"]["24h"]["notional_usd"] == "400000", 60)
    finally:
        for page in pages:
            page.close()


def test_each_account_is_read_by_one_worker_at_a_time_and_the_work_is_shared(stack: dict[str, Any]) -> None:
    with psycopg.connect(stack["environment"]["DATABASE_URL"]) as reader:

        def count(rows: LiteralString) -> int:
            (number,) = reader.execute(f"SELECT COUNT(*) FROM {rows}").fetchone() or (0,)
            return int(number)

        before = count("exchanges_fill")
        for person in PEOPLE:
            stack["sandbox"].add(person, rows=[factories.hyperliquid_row(datetime.now(UTC), tid=2)])
        until(lambda: count("exchanges_fill") == before + len(PEOPLE), 60)
        until(lambda: count("exchanges_syncrun WHERE ended_at IS NOT NULL") >= 2 * len(PEOPLE))
        (overlaps,) = reader.execute(
            "SELECT COUNT(*) FROM exchanges_syncrun one JOIN exchanges_syncrun other "
            "ON one.credential_id = other.credential_id AND one.id < other.id "
            "AND tstzrange(one.started_at, one.ended_at) && tstzrange(other.started_at, other.ended_at)"
        ).fetchone() or (None,)
        assert overlaps == 0
        assert count("exchanges_fill") == before + len(PEOPLE)
    done = manage(stack["environment"], "shell", "-v0", "-c", WHO_WORKED)
    worked = json.loads(done)
    assert len(worked) == 2
    assert all(count > 0 for count in worked.values())


WHO_WORKED = """
import json
from perpdash.celery import app
found = app.control.inspect(timeout=5).stats()
print(json.dumps({name: sum(stats["total"].values()) for name, stats in found.items()}))
"""


def test_ctrl_c_ends_all_of_them(stack: dict[str, Any]) -> None:
    os.killpg(stack["make"].pid, signal.SIGINT)
    stack["make"].wait(30)
    for origin in stack["origins"]:
        assert not answers(f"{origin}/health/live")


def test_of_many_migrations_at_once_one_migrates_and_all_succeed() -> None:
    with database() as environment:
        command = [sys.executable, "manage.py", "migrate", "--noinput"]
        started = [
            subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for _ in range(4)
        ]
        said = [(process.communicate(timeout=120), process.returncode) for process in started]
        assert [code for _, code in said] == [0] * 4, [error for (_, error), _ in said]
        assert sum("Applying volume.0001_initial" in out for (out, _), _ in said) == 1
