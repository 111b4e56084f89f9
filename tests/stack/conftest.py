"""The stack on servers of its own. They start once; each test finds them mended."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from exchanges.sandbox.server import serve
from tests.stack.servers import Market, MiB, Postgres, Redis, SmallDisk, Stack, ended


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """Not pytest's: those are for their owner alone, and PostgreSQL is somebody else."""
    with TemporaryDirectory(prefix="perpdash-stack-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="session")
def market() -> Iterator[Market]:
    market = Market()
    with serve(market.venue) as server:
        market.url = server.url
        yield market


@pytest.fixture(scope="session")
def redis_server(home: Path) -> Iterator[Redis]:
    server = Redis(home)
    yield server
    ended(server.process, signal.SIGKILL)


@pytest.fixture(scope="session")
def postgres(home: Path) -> Iterator[Postgres]:
    disk = SmallDisk(home / "disk", 64 * MiB) if os.getuid() == 0 else None
    server = Postgres(home, disk)
    yield server
    ended(server.process, signal.SIGINT)
    if disk:
        disk.unmount()


@pytest.fixture(scope="session")
def whole(market: Market, redis_server: Redis, postgres: Postgres, home: Path) -> Iterator[Stack]:
    var = home / "var"
    var.mkdir()
    environment = {"DATABASE_URL": postgres.url, "REDIS_URL": redis_server.url, "HYPERLIQUID_API_URL": market.url}
    stack = Stack(market, var, environment)
    stack.hurry = lambda: postgres.ask(DUE_SOON) and None
    yield stack
    stack.end()


# Half a minute is how often a healthy account is read: of what is due by then, nobody has to see the end.
DUE_SOON = """
    UPDATE exchanges_exchangecredential SET due_at = now() - interval '1 second'
    WHERE due_at > now() AND due_at < now() + interval '30 seconds'
"""


@pytest.fixture
def stack(whole: Stack, redis_server: Redis, postgres: Postgres) -> Iterator[Stack]:
    """Everything runs, and all that was traded is here."""
    whole.start()
    whole.catches_up()
    yield whole
    postgres.mend()
    redis_server.mend()
