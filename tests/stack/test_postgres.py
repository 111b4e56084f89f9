"""PostgreSQL restarted, gone, full, or held up by a lock: what can be shown is shown, the rest says so."""

import json
import time

import psycopg
import pytest

from tests.stack.servers import Postgres, Stack, closing_code, until
from volume.consumers import TRY_AGAIN_LATER

pytestmark = pytest.mark.stack
GONE = "perpdash's database does not answer."


def test_without_its_database_every_answer_says_so_and_when_to_come_again(stack: Stack, postgres: Postgres) -> None:
    page = stack.socket()
    page.recv(timeout=10)
    postgres.stop()
    for path in ("/", "/accounts/", "/accounts/1/", "/no/such/page/"):
        status, text, headers = stack.ask(path)
        assert (status, headers["Retry-After"]) == (503, "15"), text
        assert "perpdash&#x27;s database does not answer." in text
        assert '<meta http-equiv="refresh" content="15">' in text
    status, text, headers = stack.ask("/api/v1/volume/summary/")
    assert (status, headers["Retry-After"]) == (503, "15"), text
    error = json.loads(text)["error"]
    assert error["code"] == "unavailable" and error["message"].startswith(GONE)
    assert stack.checks()["database"].startswith("The database does not answer.")
    assert stack.ask("/health/live", signed_in=False)[0] == 200
    page.send('{"type": "ping"}')
    assert closing_code(page) == TRY_AGAIN_LATER
    assert closing_code(stack.socket()) == TRY_AGAIN_LATER
    stack.market.trade(5)
    time.sleep(10)
    postgres.start()
    stack.recovers()
    with stack.socket() as page:
        assert json.loads(page.recv(timeout=10))["totals"]["24h"]["fills"] == stack.market.truth[0]


def test_restarted_in_the_middle_of_a_reading_it_costs_and_doubles_nothing(stack: Stack, postgres: Postgres) -> None:
    stack.market.trade(1500)
    stack.market.venue.latency = 1.0
    stack.hurry()
    until(lambda: postgres.ask("SELECT 1 FROM exchanges_syncrun WHERE outcome = 'running'"), "a reading")
    postgres.stop()
    time.sleep(2)
    postgres.start()
    stack.market.venue.latency = 0.0
    stack.recovers()
    [(message,)] = postgres.ask(
        "SELECT message FROM exchanges_syncrun WHERE outcome = 'stopped' ORDER BY started_at DESC LIMIT 1"
    )
    assert message.startswith((GONE, "Cut off in the middle: its worker was ended, or the database was away."))


def test_on_a_full_disk_the_page_shows_what_is_stored_and_what_is_new_is_read_later(
    stack: Stack, postgres: Postgres
) -> None:
    if not postgres.disk:
        pytest.skip("needs the right to mount a small tmpfs")
    stored = stack.market.truth[0]
    postgres.disk.fill()
    stack.market.trade(1500)
    stack.hurry()
    full = "The disk of perpdash's database is full."
    until(lambda: stack.summary()["trouble"].startswith(full), "the word")
    assert stack.says_on_its_page().startswith(full)
    assert stack.checks()["database"].startswith(full)
    [account] = stack.summary()["accounts"]
    assert account["health"]["text"].startswith(("Works.", full))  # the latter as far as that can be stored
    assert stack.summary()["totals"]["24h"]["fills"] == stored
    postgres.disk.make_room()
    stack.recovers()
    until(lambda: stack.says_on_its_page() == "", "the end of it")


def test_a_lock_that_is_never_let_go_holds_up_no_page_for_ever(stack: Stack, postgres: Postgres) -> None:
    with psycopg.connect(postgres.url) as stuck:
        stuck.execute("SELECT * FROM exchanges_exchangecredential FOR UPDATE")
        stack.market.trade(5)
        held_up = "perpdash's database is held up"
        until(lambda: stack.summary()["trouble"].startswith(held_up), "the word")
        assert stack.says_on_its_page().startswith(held_up)
        status, text = stack.post("/api/v1/credentials/1/sync/")
        assert status == 503 and json.loads(text)["error"]["message"].startswith(held_up)
    stack.recovers()
