"""`manage.py up` on a disk that is full."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchanges.sandbox.server import serve
from tests.stack.servers import Market, MiB, SmallDisk, Stack, until

pytestmark = pytest.mark.stack


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if os.getuid():
        pytest.skip("needs the right to mount a small tmpfs")
    small = SmallDisk(tmp_path / "disk", 32 * MiB)
    yield small
    small.unmount()


@pytest.fixture
def up(disk: SmallDisk) -> Iterator[Stack]:
    market = Market()
    var = disk.folder / "var"
    var.mkdir()
    with serve(market.venue) as server:
        stack = Stack(market, var, {"DATABASE_URL": "", "REDIS_URL": "", "HYPERLIQUID_API_URL": server.url})
        stack.start()
        yield stack
        stack.end()


def test_on_a_full_disk_the_page_shows_what_is_stored_and_what_is_new_is_read_later(up: Stack, disk: SmallDisk) -> None:
    up.recovers()
    stored = up.market.truth[0]
    page = up.socket()
    page.recv(timeout=10)
    disk.fill()
    up.market.trade(500)
    full = "The disk of perpdash's database is full."
    until(lambda: up.summary()["trouble"].startswith(full), "the word")
    assert up.says_on_its_page().startswith(full)
    assert up.checks()["database"].startswith(full)
    assert up.summary()["totals"]["24h"]["fills"] == stored
    assert up.ask("/accounts/1/")[0] == 200
    status, text = up.post("/api/v1/credentials/1/sync/")
    assert status == 503 and full in text
    disk.make_room()
    up.recovers()
    until(lambda: up.says_on_its_page() == "", "the end of it")
    page.send('{"type": "ping"}')  # an open socket was never cut
    while "pong" not in str(page.recv(timeout=10)):
        pass
