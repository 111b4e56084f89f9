"""Worker, web and beat killed, beat doubled, and the clock of all of them wrong."""

import textwrap
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.stack.servers import Postgres, Stack, until

pytestmark = pytest.mark.stack


def test_a_worker_killed_in_a_task_costs_and_doubles_nothing_and_its_run_says_so(
    stack: Stack, postgres: Postgres
) -> None:
    stack.market.trade(1500)
    stack.market.venue.latency = 2.0
    stack.hurry()
    [(run,)] = until(lambda: postgres.ask("SELECT id FROM exchanges_syncrun WHERE outcome = 'running'"), "a reading")
    stack.kill("worker")
    stack.market.venue.latency = 0.0
    stack.start("worker")
    stack.recovers()
    [(message,)] = postgres.ask(f"SELECT message FROM exchanges_syncrun WHERE id = {run}")
    assert message.startswith("Cut off in the middle: its worker was ended")


def test_a_killed_web_is_back_once_it_is_started_and_with_it_the_sockets(stack: Stack) -> None:
    page = stack.socket()
    page.recv(timeout=10)
    stack.kill("web")
    with pytest.raises(ConnectionClosed):
        page.recv(timeout=10)
    stack.market.trade(5)
    stack.start("web")
    stack.recovers()
    with stack.socket() as page:
        page.recv(timeout=10)


def test_a_killed_beat_is_back_once_it_is_started(stack: Stack) -> None:
    stack.kill("beat")
    stack.market.trade(5)
    stack.start("beat")
    stack.recovers()


def test_two_beats_by_mistake_read_each_account_once(stack: Stack, postgres: Postgres) -> None:
    [(before,)] = postgres.ask("SELECT max(id) FROM exchanges_syncrun")
    stack.start("beat2")
    for _ in range(2):
        stack.recovers()
    stack.kill("beat2")
    twice = f"""
        SELECT a.id, b.id FROM exchanges_syncrun a JOIN exchanges_syncrun b
        ON a.id < b.id AND b.started_at < coalesce(a.ended_at, 'infinity') WHERE a.id > {before}
    """
    assert postgres.ask(twice) == []


CLOCK = textwrap.dedent('''
    """A clock that may be wrong, by as many seconds as the file CLOCK says. Sleeping is not touched."""
    import os, threading, time
    from datetime import datetime, timezone
    import time_machine

    clock = time_machine.travel(datetime.now(timezone.utc), tick=True).start()

    def follow(path, was=0.0):
        while True:
            now = float(open(path).read() or was)
            if now != was:
                clock.shift(now - was)
                was = now
            time.sleep(0.1)

    threading.Thread(target=follow, args=(os.environ["CLOCK"],), daemon=True).start()
''')


def test_a_clock_that_jumps_ahead_by_an_hour_and_back_costs_no_hour(
    stack: Stack, postgres: Postgres, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    clock = tmp_path / "clock"
    clock.write_text("0")
    stack.end()
    try:
        stack.start(PYTHONPATH=str(tmp_path), CLOCK=str(clock))
        stack.recovers()
        clock.write_text("3600")
        ahead = "This machine's clock is 60 minutes ahead of Hyperliquid's. Set it right."
        until(lambda: stack.summary()["accounts"][0]["health"]["text"].startswith(ahead), "the word")
        stack.market.trade(5)
        an_hour_off = "SELECT 1 FROM exchanges_exchangecredential WHERE due_at > now() + interval '1 hour'"
        until(lambda: postgres.ask(an_hour_off), "the wait that would cost an hour")
        clock.write_text("0")
        stack.recovers()
    finally:
        stack.end()
