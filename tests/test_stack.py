"""The stack as it is deployed: web, worker and beat as processes of their own, on real PostgreSQL and Redis."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from exchanges.sandbox.hyperliquid import Hyperliquid
from exchanges.sandbox.server import serve
from tests import factories

# One stack for all of them, where pytest-xdist keeps groups together.
pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]
ROOT = Path(__file__).resolve().parents[1]
ME = "0x00000000000000000000000000000000000000aa"


@pytest.fixture(scope="module")
def venue() -> Iterator[tuple[Hyperliquid, str]]:
    sandbox = Hyperliquid(weight_per_minute=10**9)
    sandbox.add(ME)
    with serve(sandbox) as server:
        yield sandbox, server.url


@pytest.fixture(scope="module")
def stack(venue: tuple[Hyperliquid, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Runs the three processes on a database of their own; gives their address and an API token."""
    url = os.environ.get("DATABASE_URL", "")
    if not (url.startswith("postgres") and os.environ.get("REDIS_URL")):
        pytest.skip("needs DATABASE_URL (PostgreSQL) and REDIS_URL")
    name = f"perpdash_stack_{os.getpid()}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "DATABASE_URL": f"{url.rsplit('/', 1)[0]}/{name}", "HYPERLIQUID_API_URL": venue[1],
        "REDIS_URL": f"{os.environ['REDIS_URL'].rsplit('/', 1)[0]}/8", "DJANGO_SETTINGS_MODULE": "perpdash.settings",
        "VAR_DIR": str(tmp_path_factory.mktemp("var")),
    }  # fmt: skip

    def run(*command: str, text: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *command], cwd=ROOT, env=environment, input=text, text=True,
            stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    with psycopg.connect(url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        processes = []
        try:
            run("migrate", "-v0")
            run("shell", "-v0", "-c", "from accounts.models import User; User.objects.create(username='ada')")
            token = run("create_token", "--owner", "ada")
            programs = [
                ["daphne", "-b", "127.0.0.1", "-p", str(port), "perpdash.asgi:application"],
                ["celery", "-A", "perpdash", "worker", "--pool", "threads", "--concurrency", "4"],
                ["celery", "-A", "perpdash", "beat"],
            ]
            for program, *arguments in programs:
                command = [str(Path(sys.executable).with_name(program)), *arguments]
                processes.append(subprocess.Popen(command, cwd=ROOT, env=environment))
            origin = f"http://127.0.0.1:{port}"
            until(lambda: answers(f"{origin}/health/"))
            add = run(
                "add_credential", "hyperliquid", "--owner", "ada", "--label", "Main", text=json.dumps({"address": ME})
            )
            session = run("shell", "-v0", "-c", SESSION)
            yield {"origin": origin, "token": token, "credential": str(json.loads(add)["id"]), "session": session}
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(20)
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


SESSION = """
from django.test import Client
from accounts.models import User
client = Client()
client.force_login(User.objects.get())
print(client.cookies["sessionid"].value)
"""


def until(happens: Callable[[], Any], seconds: float = 40) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := happens():
            return found
        time.sleep(0.2)
    pytest.fail("it did not happen in time")


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def summary(stack: dict[str, str]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{stack['origin']}/api/v1/volume/summary/", headers={"Authorization": f"Bearer {stack['token']}"}
    )
    with urllib.request.urlopen(request, timeout=5) as response:
        return dict(json.load(response))


def test_beat_worker_and_web_read_an_account_and_tell_an_open_socket_of_a_new_fill(
    stack: dict[str, str], venue: tuple[Hyperliquid, str]
) -> None:
    until(lambda: summary(stack)["totals"]["24h"]["complete"])
    address = stack["origin"].replace("http", "ws") + "/ws/volume/"
    with connect(address, additional_headers={"Cookie": f"sessionid={stack['session']}"}) as page:
        assert json.loads(page.recv(timeout=10))["totals"]["24h"]["notional_usd"] == "0"
        at = datetime.now(UTC) - timedelta(seconds=1)
        venue[0].add(ME, rows=[factories.hyperliquid_row(at)])
        told = until(lambda: json.loads(page.recv(timeout=40))["totals"]["24h"]["notional_usd"] == "100000")
        assert told


def test_a_program_opens_the_socket_with_its_token(stack: dict[str, str]) -> None:
    address = stack["origin"].replace("http", "ws") + "/ws/volume/"
    with connect(address, additional_headers={"Authorization": f"Bearer {stack['token']}"}) as program:
        assert json.loads(program.recv(timeout=10))["type"] == "summary"
    with connect(address, additional_headers={"Authorization": "Bearer perp_nonsense"}) as stranger:
        with pytest.raises(ConnectionClosed):
            stranger.recv(timeout=10)
        assert stranger.close_code == 4401


def test_an_idle_socket_stays_open_on_redis(stack: dict[str, str]) -> None:
    address = stack["origin"].replace("http", "ws") + "/ws/volume/"
    with connect(address, additional_headers={"Cookie": f"sessionid={stack['session']}"}) as page:
        end = time.monotonic() + 8
        while (left := end - time.monotonic()) > 0:
            try:
                page.recv(timeout=left)  # what a poll pushes meanwhile
            except TimeoutError:
                break
            except ConnectionClosed:
                pytest.fail("the idle socket was closed")
        page.send('{"type": "ping"}')
        while json.loads(page.recv(timeout=5))["type"] != "pong":
            pass
