"""Servers on loopback that tests may break: a Redis, a PostgreSQL, a venue, and perpdash on them."""

import html
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from exchanges.sandbox.hyperliquid import Hyperliquid
from tests import factories

ROOT = Path(__file__).resolve().parents[2]
ME = "0x00000000000000000000000000000000000000aa"
PATIENCE = 90.0  # seconds; far longer than anything here takes
MiB = 1024 * 1024

SESSION = """
from django.test import Client
from accounts.models import User
browser = Client()
browser.force_login(User.objects.get())
print(browser.cookies["sessionid"].value)
"""


def until(happens: Callable[[], Any], what: str = "it", seconds: float = PATIENCE) -> Any:
    """What `happens` gives once it is true. That nothing answers is no reason to give up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError, psycopg.Error, redis.RedisError):
            if found := happens():
                return found
        time.sleep(0.25)
    pytest.fail(f"{what} did not happen in time")


def closing_code(page: ClientConnection, seconds: float = 30) -> int:
    """With what word an open socket is closed."""
    with suppress(ConnectionClosed):
        while True:
            page.recv(timeout=seconds)
    return int(page.close_code or 0)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def ended(process: "subprocess.Popen[bytes]", how: int = signal.SIGTERM) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class SmallDisk:
    """A file system of its own that can be full."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        folder.mkdir()
        options = f"size={size},mode=777"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            folder.rmdir()
            pytest.skip("needs the right to mount a small tmpfs")

    def fill(self) -> None:
        with (self.folder / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while ballast.write(b"x" * 4096):
                pass

    def make_room(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=False)


class Redis:
    def __init__(self, folder: Path) -> None:
        if not (program := shutil.which("redis-server")):
            pytest.skip("needs redis-server")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.command = [
            program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir",
            str(folder), "--maxmemory-policy", "noeviction", "--loglevel", "warning",
        ]  # fmt: skip
        self.client = redis.Redis.from_url(self.url, socket_timeout=2)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command)
        until(self.client.ping, "Redis")

    def stop(self) -> None:
        ended(self.process, signal.SIGKILL)

    def mend(self) -> None:
        if self.process.poll() is not None:
            self.start()
        self.process.send_signal(signal.SIGCONT)
        self.client.config_set("maxmemory", 0)


class Postgres:
    """Refuses to run as root, so as root it runs as `postgres`. Its data lie on a disk of their own, apart from WAL."""

    def __init__(self, folder: Path, disk: SmallDisk | None) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        bin_dir = found[-1].parent if found else Path(shutil.which("initdb") or "/nowhere/initdb").parent
        if not (bin_dir / "initdb").exists():
            pytest.skip("needs PostgreSQL's initdb and postgres")
        self.wrap: list[str] = []
        if os.getuid() == 0:
            if not shutil.which("setpriv"):
                pytest.skip("needs setpriv: PostgreSQL refuses to run as root")
            self.wrap = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
        self.port, self.data, self.disk = free_port(), folder / "data", disk
        places = [folder / "data", *([disk.folder / "space"] if disk else [])]
        for place in places:
            place.mkdir(mode=0o700)
            if self.wrap:
                shutil.chown(place, "postgres", "postgres")
        subprocess.run(
            [*self.wrap, bin_dir / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync"],
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip
        self.command = [
            *self.wrap, str(bin_dir / "postgres"), "-D", str(self.data), "-p", str(self.port), "-h", "127.0.0.1",
            "-k", "", "-c", "fsync=off", "-c", "log_min_messages=fatal", "-c", "max_connections=60",
        ]  # fmt: skip
        self.server_url = f"postgres://postgres@127.0.0.1:{self.port}/postgres"
        # Locks are given up soon, for a test's sake.
        self.url = f"postgres://postgres@127.0.0.1:{self.port}/perpdash?options=-c%20lock_timeout%3D2s"
        self.start()
        with psycopg.connect(self.server_url, autocommit=True) as server:
            if disk:
                server.execute(f"CREATE TABLESPACE small LOCATION '{places[-1]}'")
            server.execute(f"CREATE DATABASE perpdash {'TABLESPACE small' if disk else ''}")

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, cwd="/", stderr=subprocess.DEVNULL)
        until(lambda: psycopg.connect(self.server_url, connect_timeout=2).close() is None, "PostgreSQL")

    def stop(self) -> None:
        """As `pg_ctl stop -m fast`: every connection is cut."""
        ended(self.process, signal.SIGINT)

    def ask(self, statement: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True, connect_timeout=2) as database:
            cursor = database.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def mend(self) -> None:
        if self.disk:
            self.disk.make_room()
        if self.process.poll() is not None:
            self.start()


class Market:
    """A venue on loopback, and what was really traded there."""

    def __init__(self) -> None:
        self.venue = Hyperliquid(weight_per_minute=10**9)
        self.rows: list[dict[str, Any]] = []
        self.url = ""  # where it listens
        self.venue.add(ME)

    def trade(self, fills: int = 1) -> None:
        """So many fills of 100,000 USD each, a millisecond apart."""
        last = datetime.now(UTC)
        for before in reversed(range(fills)):
            number = len(self.rows) + 1
            at = last - timedelta(milliseconds=before)
            self.rows.append(factories.hyperliquid_row(at, tid=number, oid=number))
        self.venue.add(ME, rows=self.rows)

    @property
    def truth(self) -> tuple[int, Decimal]:
        return len(self.rows), Decimal(100_000) * len(self.rows)


class Stack:
    """web, worker and beat as processes of their own, or all in one with `manage.py up`."""

    PROGRAMS = {
        "worker": ["celery", "-A", "perpdash", "worker", "--pool", "threads", "--concurrency", "4", "-l", "warning"],
        "beat": ["celery", "-A", "perpdash", "beat", "-l", "warning"],
    }

    def __init__(self, market: Market, folder: Path, environment: dict[str, str]) -> None:
        self.market, self.folder = market, folder
        self.port = free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        self.environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "perpdash.settings", "VAR_DIR": str(folder), "LEASE_SECONDS": "5", "SANDBOX": "0",
            "SECRET_KEY": "for-this-run-only-and-long-enough-to-pass-the-check", "SALT_KEY": "for-this-run-only-salt",
            "ALLOWED_HOSTS": "127.0.0.1", "API_RATE": "100000",
        } | environment  # fmt: skip
        web = ["daphne", "-b", "127.0.0.1", "-p", str(self.port), "perpdash.asgi:application"]
        up = ["python", "manage.py", "up", "--port", str(self.port)]
        self.programs = self.PROGRAMS | {"web": web} if environment["REDIS_URL"] else {"up": up}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.hurry: Callable[[], None] = lambda: None  # what need not be waited for
        self.manage("migrate", "-v0")
        self.manage("shell", "-v0", "-c", "from accounts.models import User; User.objects.create(username='ada')")
        self.token = self.manage("create_token", "--owner", "ada", "--scope", "manage")
        self.session = self.manage("shell", "-v0", "-c", SESSION)
        self.manage(
            "add_credential", "hyperliquid", "--owner", "ada", "--label", "Main", text=json.dumps({"address": ME})
        )

    def manage(self, *command: str, text: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *command], cwd=ROOT, env=self.environment, input=text, text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout.strip()

    def start(self, *names: str, **environment: str) -> None:
        """Starts these (or all) that do not run. What they say is kept in a file beside the data."""
        for name in names or self.programs:
            if name in self.running and self.running[name].poll() is None:
                continue
            program, *arguments = self.programs[name.rstrip("2")]
            with (self.folder.parent / f"{self.folder.name}-{name}.log").open("ab") as log:
                self.running[name] = subprocess.Popen(
                    [str(Path(sys.executable).with_name(program)), *arguments], cwd=ROOT, stdout=log, stderr=log,
                    env=self.environment | environment,
                )  # fmt: skip

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def end(self) -> None:
        for process in self.running.values():
            if process.poll() is None:
                process.terminate()
        for process in self.running.values():
            ended(process, signal.SIGKILL)
        self.running.clear()

    def said(self, name: str) -> str:
        """What a process said so far."""
        return (self.folder.parent / f"{self.folder.name}-{name}.log").read_text()

    # --- What a program, a browser and whoever watches see -----------------------------------------------------------

    def ask(self, path: str, *, signed_in: bool = True, **headers: str) -> tuple[int, str, Any]:
        """Status, text and headers of an answer. As a browser; as a program below /api/."""
        if signed_in:
            headers |= (
                {"Authorization": f"Bearer {self.token}"} if path.startswith("/api/")
                else {"Cookie": f"sessionid={self.session}"}
            )  # fmt: skip
        request = urllib.request.Request(self.origin + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, answer.read().decode(), answer.headers

    def summary(self) -> dict[str, Any]:
        status, text, _ = self.ask("/api/v1/volume/summary/")
        assert status == 200, text
        return dict(json.loads(text))

    def checks(self) -> dict[str, str]:
        """What is not ready, by name."""
        parts = json.loads(self.ask("/health/ready", signed_in=False)[1])["checks"]
        return {name: said for name, said in parts.items() if said != "ok"}

    def socket(self) -> ClientConnection:
        return connect(
            f"{self.origin.replace('http', 'ws')}/ws/volume/",
            additional_headers={"Cookie": f"sessionid={self.session}"}, open_timeout=10,
        )  # fmt: skip

    def post(self, path: str) -> tuple[int, str]:
        """Status and text, for a program."""
        request = urllib.request.Request(
            self.origin + path, method="POST", headers={"Authorization": f"Bearer {self.token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, answer.read().decode()

    def says_on_its_page(self) -> str:
        """What the dashboard, which shows all that is stored, says is wrong with perpdash itself."""
        status, page, _ = self.ask("/")
        assert status == 200, page
        assert 'id="trouble" role="status"' in page
        words = html.unescape(page.split('id="trouble" role="status"', 1)[1].split("</p>")[0])
        return words.split(">", 1)[1]

    def shows_the_truth(self) -> bool:
        total = self.summary()["totals"]["24h"]
        fills, usd = self.market.truth
        assert total["fills"] <= fills, "a fill counts twice"
        return total["fills"] == fills and Decimal(total["notional_usd"]) == usd and total["complete"]

    def catches_up(self, seconds: float = PATIENCE) -> None:
        """Is ready, and shows all that was traded, by itself."""
        until(lambda: not self.checks(), "being ready", seconds)
        until(lambda: self.hurry() or self.shows_the_truth(), f"showing the truth, {self.market.truth},", seconds)

    def recovers(self, seconds: float = PATIENCE) -> None:
        """Catches up, also with what is traded from now on, and every proof is clean."""
        self.market.trade()
        self.catches_up(seconds)
        self.manage("check_volume")
