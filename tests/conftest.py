"""What tests share: a clock that can be moved, and venues answered by their sandbox, in process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.apps import apps
from django.conf import settings

from exchanges.connect import budget
from exchanges.sandbox import Sandbox
from perpdash.celery import app as celery_app
from volume import runlog

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
# Tests that run side by side may share a Redis: each process has a queue of its own there, and is told nothing of what
# others say of owners with the same number.
OWN = f"tests-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
celery_app.conf.task_default_queue = OWN
if not settings.EMBEDDED:
    settings.CHANNEL_LAYERS["default"]["CONFIG"]["prefix"] = OWN
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


# What knows neither database nor Redis, or brings the one-process mode with it, is told nothing new by services.
SERVICELESS = [
    "exchanges/sandbox", "exchanges/venues", "exchanges/test_fetching.py", "exchanges/test_stark.py", "test_compose.py",
    "test_house.py", "test_logs.py", "test_starting.py", "test_up.py", "volume/test_format.py",
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folders = [Path(__file__).parent / name for name in SERVICELESS]
    for item in items:
        asks_database = item.get_closest_marker("django_db") or {"db", "transactional_db"} & {*item.fixturenames}  # type: ignore[attr-defined]
        if not asks_database and any(item.path.is_relative_to(folder) for folder in folders):
            item.add_marker(pytest.mark.serviceless)


@pytest.hookimpl(specname="pytest_collection_modifyitems", trylast=True)
def pytest_groups_stay_together(config: pytest.Config, items: list[pytest.Item]) -> None:
    """pytest-xdist notes a group in a test's name: in vain, and without a word, with a pytest it does not know."""
    if config.getoption("loadgroup", default=False):
        for item in items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError(f"This pytest-xdist does not keep groups together: {item.nodeid}")


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file as `migrate` leaves it, to be copied: each made anew takes seconds."""
    folder = tmp_path_factory.mktemp("migrated")
    environment = os.environ | {"DATABASE_URL": "", "REDIS_URL": "", "VAR_DIR": str(folder)}
    command = [sys.executable, "manage.py", "migrate", "-v0"]
    subprocess.run(command, cwd=Path(__file__).parents[1], env=environment, check=True, timeout=120)
    return folder / "perpdash.sqlite3"


@pytest.fixture(autouse=True)
def own_cache(settings: Any) -> None:
    """What one test asked counts against no limit of another, also where several run on the same Redis."""
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}


@pytest.fixture(autouse=True)
def nobody_reads() -> None:
    """What one test read is not what another one's log lines and reports are about: tasks see to that between them."""
    runlog.about.set({})


@pytest.fixture
def clock() -> Iterator[SimpleNamespace]:
    """NOW, standing still but for what is slept through. `clock.now()`, `clock.move(seconds)`."""
    with time_machine.travel(NOW, tick=False) as traveller:
        yield SimpleNamespace(now=lambda: datetime.now(UTC), move=traveller.shift)


@pytest.fixture
def sandbox(clock: SimpleNamespace) -> Iterator[Sandbox]:
    """Every venue is its sandbox, under the test's clock, without rate limits; waiting moves the clock."""
    app = apps.get_app_config("exchanges")
    app.sandbox, app.sleep = Sandbox(clock.now, metered=False), clock.move
    budget.cache_clear()
    yield app.sandbox
    app.sandbox, app.sleep = None, app.__class__.sleep


@pytest.fixture
def shared_data() -> Path:
    """Real fills and documents, where this checkout has them beside it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data: the recorded fills are not part of the repository")
    return SHARED_DATA
