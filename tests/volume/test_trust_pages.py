"""What the pages say about trust: what is missing and how to read it, what changed, what was asked, what counts."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from exchanges.ledger import Ledger
from exchanges.models import ExchangeCredential, SyncRun
from exchanges.sandbox import Sandbox
from exchanges.venues.base import Missing, Window
from tests import factories
from tests.conftest import NOW
from volume import holding
from volume.models import Amendment, Preferences
from volume.refresh import refresh
from volume.rollup import rebuild_outdated
from volume.templatetags.volume_format import counts, took

pytestmark = pytest.mark.django_db
ME = "0x00000000000000000000000000000000000000aa"
DAY = timedelta(days=1)


@pytest.fixture
def account(clock: Any, sandbox: Sandbox) -> ExchangeCredential:
    rows = [factories.hyperliquid_row(NOW - 2 * DAY), factories.hyperliquid_row(NOW - timedelta(hours=1), tid=2)]
    sandbox.hyperliquid.add(ME, rows=rows)
    made = factories.credential(secrets={"address": ME}, history_from=NOW - 30 * DAY)
    refresh(made, now=NOW)
    made.refresh_from_db()
    return made


@pytest.fixture
def mine(account: ExchangeCredential, client: Client) -> Client:
    client.force_login(account.owner)
    return client


def page(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def windows(account: ExchangeCredential) -> set[tuple[Any, Any]]:
    return set(account.rereads.values_list("from_at", "until_at"))


def test_a_range_a_gap_and_everything_can_be_read_again_from_the_page(mine: Client, account: Any) -> None:
    act = f"/accounts/{account.pk}/reread/"
    day = NOW.replace(hour=0)
    mine.post(act, {"since": "2026-11-10", "until": "2026-11-12"})
    assert windows(account) == {(day - 11 * DAY, day - 9 * DAY)}
    account.rereads.all().delete()
    mine.post(act, {"since": (NOW - 5 * DAY).isoformat(), "until": (NOW - 4 * DAY).isoformat()})
    assert windows(account) == {(NOW - 5 * DAY, NOW - 4 * DAY)}
    account.rereads.all().delete()
    answer = mine.post(act, {"since": "", "until": ""}, follow=True)
    assert "everything is read once more" in answer.content.decode()
    assert windows(account) == {(account.history_from, NOW)}


@pytest.mark.parametrize(
    "range_", [{"since": "yesterday"}, {"since": "2026-11-12", "until": "2026-11-10"}, {"since": "2027-01-01"}]
)
def test_a_range_that_is_none_is_refused_in_words(mine: Client, account: Any, range_: dict[str, str]) -> None:
    answer = mine.post(f"/accounts/{account.pk}/reread/", range_, follow=True)
    assert "no range of days in the past" in answer.content.decode()
    assert not windows(account)


def test_a_gap_says_when_it_is_tried_again_and_offers_to_try_now(mine: Client, account: Any) -> None:
    for stream in account.streams:
        ledger = Ledger(account, stream.name)
        account.coverage.all().delete()
        ledger.cover(Window(account.history_from, NOW - 10 * DAY))
        ledger.mark_gap(Missing(Window(NOW - 10 * DAY, NOW - 9 * DAY), "It answered nonsense."), retry_at=NOW + DAY)
    shown = page(mine, f"/accounts/{account.pk}/")
    assert "2026-11-11 12:00 to 2026-11-12 12:00 UTC could not be read: It answered nonsense." in shown
    assert "It is tried again at 2026-11-22 12:00 UTC." in shown
    assert "Try now" in shown


def test_what_changed_later_stands_on_the_page_with_day_amount_and_reason(mine: Client, account: Any) -> None:
    assert "Nothing, so far." in page(mine, f"/accounts/{account.pk}/")
    Amendment.objects.create(
        credential=account, seen_at=NOW, day=NOW.date(), symbol="BTC", cause="taken_back", fills=-1,
        notional_usd="-12.5", why="It failed on the chain.",
    )  # fmt: skip
    shown = page(mine, f"/accounts/{account.pk}/")
    assert "−1 fill, " in shown
    assert "−$12.50" in shown
    assert "It failed on the chain." in shown


def test_a_run_says_what_was_asked_what_came_why_it_waited_and_what_is_next(mine: Client, account: Any) -> None:
    run = SyncRun.objects.create(
        credential=account, trigger="user", started_at=NOW, ended_at=NOW + timedelta(seconds=12.5),
        since=NOW - DAY, until=NOW, asked="what is new, what was missing", requests=12, retries=2, rows=3456, new=10,
        seen=3440, skipped={"spot": 4, "funding": 1}, held=1, waits={"Bybit's rate limit": 8.25}, outcome="incomplete",
        message="1 row held, not understood.", then="New fills are asked for every 20 seconds.",
    )  # fmt: skip
    said = (
        "12 requests, 2 of them again, 3,456 rows: 10 new, 3,440 seen before, 5 not volume (1 funding, 4 spot), "
        "1 held. Waited 8.2 s (Bybit's rate limit)."
    )
    assert counts(run) == said
    assert took(run) == "in 12 seconds, "
    shown = page(mine, f"/accounts/{account.pk}/")
    for words in ("Asked for what is new, what was missing", "1 row held, not understood.", run.then):
        assert words in shown


def test_the_runs_of_a_reading_name_what_happens_next(account: Any) -> None:
    run = account.runs.get()
    assert run.asked == "what was missing"
    assert run.then == "New fills are asked for every 20 seconds."


def test_the_fills_of_a_day_are_listed_and_nobody_elses(mine: Client, account: Any) -> None:
    shown = page(mine, f"/accounts/{account.pk}/fills/?day=2026-11-19")
    assert "2026-11-19 12:00:00" in shown
    assert "2026-11-21 11:00:00" not in shown
    assert "$100,000.00" in shown
    assert "2026-11-21 11:00:00" in page(mine, f"/accounts/{account.pk}/fills/")
    assert mine.get(f"/accounts/{account.pk}/fills/?day=never").status_code == 404
    mine.force_login(factories.user("eve"))
    assert mine.get(f"/accounts/{account.pk}/fills/").status_code == 404


def test_what_counts_is_chosen_on_the_settings_page(mine: Client, account: Any) -> None:
    assert "USDC, USDT" in page(mine, "/settings/")
    mine.post("/settings/", {"counts_forced": "on"})
    chosen = Preferences.of(account.owner_id)
    assert (chosen.counts_forced, chosen.stablecoins_at_market) == (True, False)
    assert "part of it, as you chose" in page(mine, "/")
    mine.post("/settings/", {})
    assert not Preferences.of(account.owner_id).counts_forced


def test_a_figure_that_was_not_read_lately_is_marked_as_such(mine: Client, account: Any, clock: Any) -> None:
    assert "data-stale" not in page(mine, "/")
    clock.move(3600)
    mine.force_login(account.owner)
    shown = page(mine, "/")
    assert "data-stale" in shown
    assert "not up to date" in shown


def test_a_range_before_the_wanted_history_is_refused_in_words(mine: Client, account: Any) -> None:
    answer = mine.post(f"/accounts/{account.pk}/reread/", {"until": "2020-01-01", "since": "2019-01-01"}, follow=True)
    assert "its history is wanted only from 2026-10-22 12:00 UTC on" in answer.content.decode()
    assert 'class="warning"' in answer.content.decode()
    refused = mine.post(f"/api/v1/credentials/{account.pk}/reread/", {"since": "0001-01-01", "until": "0001-01-02"})
    assert refused.status_code == 400
    account.refresh_from_db()
    assert account.history_from == NOW - 30 * DAY


@pytest.mark.parametrize("query", ["day=9999-12-31", "market=%00", "page=99999", "day="])
def test_nonsense_in_an_address_of_fills_is_no_fault_of_the_server(mine: Client, account: Any, query: str) -> None:
    assert mine.get(f"/accounts/{account.pk}/fills/?{query}").status_code in (200, 404)
    assert mine.get(f"/?{query}").status_code == 200


def test_what_has_no_price_is_not_shown_as_nothing(mine: Client, account: Any) -> None:
    holding.prefer(account.owner, stablecoins_at_market=True)
    rebuild_outdated(account)
    shown = page(mine, "/?range=7d")
    assert "not priced" in shown
    assert ">$0.00<" not in shown.split("By venue and market")[1]
    assert mine.get("/api/v1/volume/summary/").json()["totals"]["7d"]["fills_not_priced"] == 2


def test_the_export_is_to_be_had_by_who_asks_for_a_zip(mine: Client) -> None:
    assert mine.get("/api/v1/export/", headers={"Accept": "application/zip"}).status_code == 200


@pytest.mark.parametrize("path", ["fills/?day=2026-11-10", "volume/daily/?by=day", "volume/markets/?range=7d"])
def test_a_parameter_the_api_does_not_know_is_an_error(mine: Client, path: str) -> None:
    assert mine.get(f"/api/v1/{path}").status_code == 400
    assert mine.patch("/api/v1/preferences/", {"count_forced": True}, "application/json").status_code == 400
