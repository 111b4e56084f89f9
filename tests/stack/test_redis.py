"""Redis gone, emptied, full, or silent: pages show what is stored and say so, and everything goes on alone."""

import json
import signal
import time

import pytest

from tests.stack.servers import Redis, Stack, closing_code, until
from volume.consumers import TRY_AGAIN_LATER

pytestmark = pytest.mark.stack
GONE, FULL = "perpdash's Redis does not answer.", "perpdash's Redis takes nothing new: it is full."


def test_without_redis_the_page_shows_all_and_says_so_and_everything_goes_on_with_it(
    stack: Stack, redis_server: Redis
) -> None:
    page = stack.socket()
    json.loads(page.recv(timeout=10))
    redis_server.stop()
    assert stack.says_on_its_page().startswith(GONE)
    assert closing_code(page) == TRY_AGAIN_LATER
    assert stack.shows_the_truth()
    assert set(stack.checks()) == {"broker", "beat", "worker"}
    started = time.monotonic()
    assert stack.post("/api/v1/credentials/1/sync/")[0] == 202  # it stands in the database
    assert time.monotonic() - started < 5, "the page waited for Redis"
    late = stack.socket()
    assert closing_code(late) == TRY_AGAIN_LATER
    stack.market.trade(5)
    time.sleep(10)
    redis_server.start()
    stack.recovers()
    assert stack.says_on_its_page() == ""
    with stack.socket() as page:
        page.recv(timeout=10)
        stack.market.trade()
        fills = stack.market.truth[0]
        stack.hurry()
        until(lambda: json.loads(page.recv(timeout=30))["totals"]["24h"]["fills"] == fills, "the push")


def test_an_emptied_redis_costs_neither_a_fill_nor_the_queue(stack: Stack, redis_server: Redis) -> None:
    stack.kill("worker")
    stack.market.trade(5)
    stack.hurry()
    until(lambda: redis_server.client.llen("celery"), "a queue")
    redis_server.client.flushall()
    stack.start("worker")
    stack.recovers()
    redis_server.client.flushall()
    stack.recovers()


def test_a_full_redis_is_named_and_nothing_waits_for_it(stack: Stack, redis_server: Redis) -> None:
    redis_server.client.config_set("maxmemory", 1)
    until(lambda: stack.summary()["trouble"].startswith(FULL), "the word")
    assert stack.says_on_its_page().startswith(FULL)
    assert stack.checks()["broker"].startswith("Redis is full.")
    assert stack.post("/api/v1/credentials/1/sync/")[0] == 202
    assert stack.shows_the_truth()
    stack.market.trade(5)
    time.sleep(8)
    redis_server.client.config_set("maxmemory", 0)
    stack.recovers()
    until(lambda: stack.says_on_its_page() == "", "the end of it")


def test_a_redis_that_keeps_the_line_and_says_nothing_holds_up_no_page(stack: Stack, redis_server: Redis) -> None:
    page = stack.socket()
    page.recv(timeout=10)
    redis_server.process.send_signal(signal.SIGSTOP)
    assert closing_code(page) == TRY_AGAIN_LATER
    status, text = stack.post("/api/v1/credentials/1/verify/")  # asks the venue, within the budget that Redis keeps
    assert status == 503 and json.loads(text)["error"]["message"].startswith(GONE)
    assert stack.says_on_its_page().startswith(GONE)
    assert stack.checks()["broker"].startswith("Redis does not answer.")
    stack.market.trade(5)
    redis_server.process.send_signal(signal.SIGCONT)
    stack.recovers()
