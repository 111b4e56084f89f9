"""kill -9 at random moments of a backfill, in a real process against a venue on loopback."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from exchanges.sandbox import SANDBOXES
from exchanges.sandbox.base import SandboxVenue
from exchanges.sandbox.server import serve
from exchanges.venues import VENUES

ROOT = Path(__file__).resolve().parents[2]
Manage = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """A database of its own, of the kind this test run uses."""
    url = os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        yield f"sqlite:///{tmp_path / 'perpdash.sqlite3'}"
        return
    name = f"perpdash_kill_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield f"{url.rsplit('/', 1)[0]}/{name}"
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


# Venues differ in how they are read, by one thread or by many, whatever the database: each takes its turn on one.
CHOSEN = ["paradex", "woox"] if os.environ.get("DATABASE_URL", "").startswith("postgres") else ["bybit", "hyperliquid"]


@pytest.fixture(params=CHOSEN)
def venue(request: pytest.FixtureRequest) -> Iterator[tuple[str, Any, str]]:
    """Each venue with some thousand fills, without rate limits: its slug, itself, and where it listens."""
    moment, kind = datetime.now(UTC), SANDBOXES[request.param]
    size = {"page": 500} if request.param == "hyperliquid" else {"fills_per_day": 6}
    sandbox = kind(lambda: moment, **kind.unmetered, **size)
    with serve(sandbox) as server:
        yield request.param, sandbox, server.url


@pytest.fixture
def manage(database: str, venue: tuple[str, Any, str], tmp_path: Path) -> Manage:
    environment = os.environ | {
        "DATABASE_URL": database, "REDIS_URL": "", "VAR_DIR": str(tmp_path), "LEASE_SECONDS": "1",
        f"{venue[0].upper()}_API_URL": venue[2], "VENUE_BUDGET_SHARE": "1000",
    }  # fmt: skip

    def start(*arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


def finished(process: "subprocess.Popen[str]", text: str = "") -> str:
    out, err = process.communicate(text)
    assert process.returncode == 0, err
    return out


def test_killed_at_several_random_moments_a_backfill_ends_with_the_totals_of_an_uninterrupted_one(
    manage: Manage, venue: tuple[str, Any, str]
) -> None:
    slug, sandbox, _ = venue
    make_tables = "from django.core.management import call_command as c; c('migrate', verbosity=0)"
    make_owner = "from django.contrib.auth import get_user_model as m; m().objects.create(username='ada')"
    finished(manage("shell", "-v0", "-c", f"{make_tables}; {make_owner}"))
    secrets = sandbox.demo_accounts[0][1]
    added = finished(manage("add_credential", slug, "--owner", "ada", "--label", "Main"), json.dumps(secrets))
    number = str(json.loads(added)["id"])
    chance = random.Random(20261121)

    most = {"bybit": 60, "woox": 8, "paradex": 2}.get(slug, 12)
    for _ in range(3):
        process = manage("backfill", "--credential", number)
        kill_after(sandbox, process, requests=chance.randint(1, most), seconds=chance.random() / 20)
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    report = json.loads(finished(manage("backfill", "--credential", number, "--json")))
    assert report["outcome"] == "complete"
    read = {name: datetime.fromisoformat(report[name]) for name in ("since", "until")}
    account = VENUES[slug].credentials_type.parse(secrets).account_ref or report["account"]
    assert daily(manage) == {
        (day.isoformat(), symbol): (item.fills, item.notional)
        for (day, symbol), item in sandbox.truth(account, **read).items()
        if item.fills or item.forced_fills
    }
    assert "Every day agrees" in finished(manage("check_volume"))
    again = json.loads(finished(manage("backfill", "--credential", number, "--json", "--again")))
    assert again["new"] == 0


def kill_after(sandbox: SandboxVenue, process: "subprocess.Popen[str]", *, requests: int, seconds: float) -> None:
    """Ends the process `seconds` after its nth answer from now on: while it asks, parses, stores or commits."""
    answer, left = type(sandbox).answer, requests

    def answer_and_kill(request: httpx.Request) -> httpx.Response:
        nonlocal left
        left -= 1
        if left == 0:
            threading.Timer(seconds, process.kill).start()
        return answer(sandbox, request)

    sandbox.answer = answer_and_kill  # type: ignore[method-assign]


def daily(manage: Manage) -> dict[tuple[str, str], tuple[int, Decimal]]:
    rows: list[dict[str, Any]] = json.loads(finished(manage("volume", "--by", "day,market", "--format", "json")))
    return {(row["day"], row["market"]): (row["fills"], Decimal(row["notional_usd"])) for row in rows}
