"""What tests share: a clock that can be moved, and venues answered by their sandbox, in process."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.apps import apps

from exchanges.connect import budget
from exchanges.sandbox import Sandbox
from perpdash.celery import app as celery_app

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
# Tests that run side by side may share a Redis: each process has a queue of its own there.
celery_app.conf.task_default_queue = f"tests-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def own_cache(settings: Any) -> None:
    """What one test asked counts against no limit of another, also where several run on the same Redis."""
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}


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
