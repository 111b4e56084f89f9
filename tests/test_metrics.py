"""What Prometheus reads: true figures of the whole installation, for those who may, and no name of anybody."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.cache import cache
from django.db import connections
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from exchanges.models import Coverage, ExchangeCredential, HeldRow
from exchanges.sandbox import Sandbox, bybit, hyperliquid
from exchanges.tally import tally
from perpdash.access import SocketCount
from perpdash.celery import app
from tests import factories
from tests.conftest import NOW
from tests.fake_redis import fake_redis
from volume import tasks
from volume.models import DailyVolume, Preferences
from volume.refresh import refresh

pytestmark = pytest.mark.django_db
Key = tuple[str, frozenset[tuple[str, str]]]


@pytest.fixture(autouse=True)
def queue() -> Iterator[None]:
    yield
    with app.connection_for_write() as connection:
        connection.SimpleQueue(app.conf.task_default_queue).clear()


@pytest.fixture
def account(sandbox: Sandbox) -> ExchangeCredential:
    owner = factories.user("ada", is_superuser=True)
    return factories.credential(
        "bybit", owner=owner, secrets=dict(bybit.MAIN), history_from=NOW - timedelta(days=5), label="Secret desk"
    )


def scrape(**headers: str) -> str:
    answer = Client().get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"].startswith("text/plain; version=")
    return str(answer.content.decode())


def parsed(text: str) -> dict[Key, float]:
    return {
        (sample.name.removeprefix("perpdash_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Figures:
    """What was there before counts for nothing: the counts of a process go on from test to test."""

    def __init__(self) -> None:
        self.before = parsed(scrape())
        self.now = self.before

    def read(self) -> "Figures":
        self.now = parsed(scrape())
        return self

    def grown(self, name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return self.now.get(key, 0) - self.before.get(key, 0)

    def at(self, name: str, **labels: str) -> float | None:
        return self.now.get((name, frozenset(labels.items())))


# --- What is told ----------------------------------------------------------------------------------------------------


def test_runs_rows_requests_and_budget_are_counted_as_they_happen(account, sandbox):
    figures = Figures()
    run = refresh(account, now=NOW)
    assert run.new
    figures.read()
    assert figures.grown("runs_total", venue="bybit", outcome=run.outcome, trigger="schedule") == 1
    assert figures.grown("rows_total", venue="bybit", kind="new") == run.new
    assert figures.grown("rows_total", venue="bybit", kind="skipped") == sum(run.skipped.values())
    assert figures.grown("run_seconds_count", venue="bybit") == 1
    assert figures.grown("venue_request_seconds_count", venue="bybit") == run.requests
    assert figures.grown("venue_request_seconds_bucket", venue="bybit", le="+Inf") == run.requests
    assert figures.grown("venue_budget_used_ratio_count", venue="bybit") >= run.requests
    assert not any(name == "venue_errors_total" for name, _ in figures.now.keys() - figures.before.keys())


@pytest.mark.parametrize(
    ("order", "kind", "outcome"),
    [
        (lambda venue: venue.fail(status=502), "trouble", "unavailable"),
        (lambda venue: venue.time_out(times=None), "timeout", "unavailable"),
        (lambda venue: venue.hang_up(times=None), "unreachable", "unavailable"),
        (lambda venue: venue.html(times=None), "broken", "unavailable"),
        (lambda venue: venue.rate_limit(times=None), "rate_limit", "unavailable"),
        (lambda venue: venue.revoke(bybit.MAIN_UID), "rejected", "rejected"),
    ],
    ids=["502", "time-out", "hang-up", "html", "429", "revoked"],
)
def test_what_goes_wrong_at_a_venue_is_counted_by_kind(account, sandbox, order, kind, outcome):
    figures = Figures()
    order(sandbox.bybit)
    run = refresh(account, now=NOW)
    assert run.outcome == outcome
    figures.read()
    assert figures.grown("venue_errors_total", venue="bybit", kind=kind) >= 1
    assert figures.grown("runs_total", venue="bybit", outcome=outcome, trigger="schedule") == 1
    state = ExchangeCredential.objects.get().health_state
    assert figures.at("accounts", venue="bybit", state=state) == 1


def test_a_fault_of_ours_is_a_failed_run(account, sandbox):
    def fall_over() -> None:
        raise ZeroDivisionError

    figures = Figures()
    sandbox.bybit.after(0, fall_over)
    with pytest.raises(ZeroDivisionError):
        refresh(account, now=NOW)
    figures.read()
    assert figures.grown("runs_total", venue="bybit", outcome="failed", trigger="schedule") == 1
    assert figures.grown("venue_errors_total", venue="bybit", kind="fault") == 1


def test_the_share_of_the_budget_in_use_rises_with_what_is_asked(clock):
    from limits import RateLimitItemPerMinute

    from exchanges.venues.http import Budget

    told: list[tuple[str, float]] = []
    budget = Budget(share=0.5, on_use=lambda venue, share: told.append((venue, share)))
    documented = RateLimitItemPerMinute(10, namespace="anywhere")
    while not budget.seconds_until(documented, "ip", 1):
        assert budget.spend(documented, "ip", 1)
    assert told == [("anywhere", share) for share in (0.1, 0.2, 0.3, 0.4, 0.5)]


def test_the_lag_is_that_of_the_account_furthest_behind_of_those_that_are_read(account, clock):
    refresh(account, now=NOW)
    factories.credential(label="Paused", is_enabled=False, fresh_at=NOW - timedelta(days=30))
    factories.credential(label="Rejected", health_state="rejected", secrets={"address": "0x" + "2" * 40})
    factories.credential(
        label="Behind", fresh_at=NOW - timedelta(hours=2), health_state="works", secrets={"address": "0x" + "3" * 40}
    )
    clock.move(60)
    figures = Figures()
    assert figures.at("lag_seconds", venue="bybit") == pytest.approx(60, abs=1)
    assert figures.at("lag_seconds", venue="hyperliquid") == pytest.approx(7260, abs=1)
    assert figures.at("accounts_stale", venue="bybit") == 0
    assert figures.at("accounts_stale", venue="hyperliquid") == 1
    assert figures.at("accounts_due", venue="bybit") == 1
    assert figures.at("accounts", venue="hyperliquid", state="paused") == 1
    assert figures.at("accounts", venue="hyperliquid", state="rejected") == 1
    assert figures.at("accounts", venue="bybit", state="works") == 1


def test_what_is_missing_held_outdated_or_without_a_price_is_told(account):
    owner = account.owner
    HeldRow.objects.create(credential=account, stream="fills", digest="1", raw="{}", why="?", seen_at=NOW)
    for state in (Coverage.State.GAP, Coverage.State.OUT_OF_REACH, Coverage.State.COVERED):
        since = NOW - timedelta(days=len(state))
        Coverage.objects.create(
            credential=account, stream=state, from_at=since, until_at=since + timedelta(hours=1), state=state
        )
    for symbol, is_at_market, fills in (("A", None, 0), ("B", True, 3), ("C", False, 4)):
        DailyVolume.objects.create(
            credential=account, day=NOW.date(), symbol=symbol, is_at_market=is_at_market, fills_not_priced=fills
        )
    figures = Figures()
    assert figures.at("held_rows", venue="bybit") == 1
    assert figures.at("ranges_missing", venue="bybit", state="gap") == 1
    assert figures.at("ranges_missing", venue="bybit", state="out_of_reach") == 1
    assert figures.at("days_outdated") == 2
    assert figures.at("fills_not_priced", venue="bybit") == 7
    assert figures.at("database_bytes") > 10_000
    Preferences.objects.create(owner=owner, stablecoins_at_market=True)
    assert figures.read().at("days_outdated") == 2, "it is counted once in a while"
    cache.clear()
    assert figures.read().at("days_outdated") == 2
    DailyVolume.objects.filter(symbol="B").delete()
    cache.clear()
    assert figures.read().at("days_outdated") == 2, "one of an older perpdash, one of before the choice"


def test_the_queue_and_signs_of_life_are_told(sandbox):
    factories.user(is_superuser=True)
    figures = Figures()
    assert figures.at("process_alive", process="beat") == figures.at("process_alive", process="worker") == 0
    assert figures.at("queue_length") == 0
    tasks.refresh_due.apply_async(expires=5)
    tasks.forget_old_runs.apply_async()
    tasks.refresh_due.apply()
    figures.read()
    assert figures.at("queue_length") == 2
    assert figures.at("process_alive", process="beat") == figures.at("process_alive", process="worker") == 1
    assert figures.at("last_seen_timestamp_seconds", process="beat") == pytest.approx(time.time(), abs=5)


def test_requests_are_counted_by_the_name_of_their_address():
    user = factories.user(is_superuser=True)
    figures = Figures()
    client = Client()
    client.force_login(user)
    assert client.get("/api/v1/runs/").status_code == 200
    for path in ("/nobody/1", "/nobody/2", "/health/live"):
        client.get(path)
    client.generic("BREW", "/health/live")
    figures.read()
    assert figures.grown("http_requests_total", view="api:run-list", method="GET", status="200") == 1
    assert figures.grown("http_requests_total", view="none", method="GET", status="404") == 2
    assert figures.grown("http_requests_total", view="live", method="other", status="200") == 1
    assert figures.grown("http_request_seconds_count", view="live", method="GET") == 1


def test_open_sockets_are_counted(sandbox):
    """Of a page that stays for one look at the figures."""
    factories.user(is_superuser=True)
    figures = Figures()

    async def page(scope: Any, receive: Any, send: Any) -> None:
        await sync_to_async(figures.read)()

    async_to_sync(SocketCount(page))({"type": "websocket", "path": "/ws/volume/"}, None, None)
    assert figures.grown("web_sockets_open") == 1
    assert figures.read().grown("web_sockets_open") == 0


def test_nothing_names_a_person_or_an_account(account):
    factories.credential(label="Wallet", owner=account.owner)
    refresh(account, now=NOW)
    text = scrape()
    for word in ("ada", "Secret desk", "Wallet", hyperliquid.DEMO_TRADER, bybit.MAIN_UID, bybit.MAIN["api_key"]):
        assert word not in text


def test_a_scrape_asks_as_much_of_the_database_for_many_accounts_as_for_one(account, django_assert_max_num_queries):
    for number in range(30):
        factories.credential(label=str(number), owner=account.owner, secrets={"address": f"0x{number:040x}"})
    cache.clear()
    with django_assert_max_num_queries(6):
        scrape()
    with django_assert_max_num_queries(4):
        scrape()


# --- What several processes count ------------------------------------------------------------------------------------


def test_counts_of_several_processes_add_up_and_outlive_them(settings):
    if not settings.REDIS_URL:
        pytest.skip("needs Redis: without it there is one process")
    factories.user(is_superuser=True)
    figures = Figures()
    for _ in range(3):
        process = type(tally)()
        process.add("runs", "bybit", "complete", "user", amount=2)
        process.hand_over()
    assert figures.read().grown("runs_total", venue="bybit", outcome="complete", trigger="user") == 6


def test_counts_wait_in_the_process_while_redis_is_away(settings):
    there = settings.REDIS_URL
    process = type(tally)()
    process.add("runs", "bybit", "complete", "user")
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    process.hand_over()
    settings.REDIS_URL = there
    assert process.totals()["runs", "bybit", "complete", "user"] >= 1


COUNT_AND_END = """
import django
django.setup()
from exchanges.tally import tally
tally.add("runs", "bybit")
"""


def test_a_process_that_ends_hands_over_what_it_counted():
    with fake_redis() as server:
        environment = os.environ | {"REDIS_URL": server.url, "DJANGO_SETTINGS_MODULE": "perpdash.settings"}
        subprocess.run([sys.executable, "-c", COUNT_AND_END], env=environment, check=True, timeout=60)
    counted = [words[2:] for words in server.asked if words[0] == b"HINCRBYFLOAT"]
    assert counted == [[json.dumps(["runs", "bybit"]).encode(), b"1.0"]]


def test_a_part_that_is_down_is_told_and_the_rest_goes_on(sandbox, settings, tmp_path):
    factories.user(is_superuser=True)
    scrape()  # the first answer of a process looks for people
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    figures = Figures()
    assert figures.at("part_up", part="broker") == 0
    assert figures.at("part_up", part="database") == 1
    assert figures.at("database_bytes")
    working = connections["default"]
    nowhere: dict[str, Any] = {"HOST": "127.0.0.1", "PORT": "1"}
    if working.vendor == "sqlite":
        nowhere = {"NAME": str(tmp_path / "gone" / "perpdash.sqlite3")}
    connections["default"] = type(working)(working.settings_dict | nowhere, "default")
    try:
        assert figures.read().at("part_up", part="database") == 0
    finally:
        connections["default"] = working


# --- Who may read ----------------------------------------------------------------------------------------------------


def test_without_a_token_only_this_machine_reads():
    factories.user(is_superuser=True)
    for address in ("127.0.0.1", "::1", "127.8.8.8"):
        assert Client(REMOTE_ADDR=address).get("/metrics").status_code == 200
    for address in ("10.0.0.5", "192.168.1.1", "2001:db8::1", ""):
        answer = Client(REMOTE_ADDR=address).get("/metrics")
        assert answer.status_code == 403
        assert "METRICS_TOKEN" in answer.content.decode()


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Proto", "Via"])
def test_a_proxy_on_this_machine_asks_for_others(header):
    factories.user(is_superuser=True)
    assert Client().get("/metrics", headers={header: "127.0.0.1"}).status_code == 403


def test_behind_a_proxy_of_ours_nobody_is_taken_to_be_this_machine(settings):
    factories.user(is_superuser=True)
    settings.PROXIES = 1
    assert Client().get("/metrics").status_code == 403


def test_with_a_token_whoever_sends_it_reads_and_nobody_else(settings):
    user = factories.user(is_superuser=True)
    settings.METRICS_TOKEN = "let-me-see-the-figures"
    far = Client(REMOTE_ADDR="10.0.0.5")
    assert far.get("/metrics", headers={"Authorization": "Bearer let-me-see-the-figures"}).status_code == 200
    near = Client()
    near.force_login(user)
    for value in ("", "Bearer ", "Bearer let-me-see", "Basic let-me-see-the-figures", "Bearer ünïcode"):
        assert near.get("/metrics", headers={"Authorization": value}).status_code == 403
    assert near.get("/metrics").status_code == 403


def test_it_is_there_before_anybody_is_and_without_a_redirect_to_tls(settings):
    settings.SECURE_SSL_REDIRECT = True
    assert Client().get("/metrics").status_code == 200
    assert Client().post("/metrics").status_code == 405


def test_the_newer_format_is_spoken_to_those_who_ask_for_it(account):
    refresh(account, now=NOW)
    answer = Client().get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer["Content-Type"].startswith("application/openmetrics-text")
    assert answer.content.endswith(b"# EOF\n")


def test_a_redis_that_hangs_holds_no_scrape_up(settings):
    factories.user(is_superuser=True)
    scrape()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        assert Figures().at("part_up", part="broker") == 0
