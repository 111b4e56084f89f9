"""The API: closed to strangers, one owner's rows to each, amounts as text, and errors that say what to do."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client, override_settings
from django.utils import timezone

from accounts.models import ApiToken
from exchanges.models import Coverage, ExchangeCredential, Fill, HeldRow, SyncRun
from exchanges.sandbox import Sandbox
from exchanges.sandbox.hyperliquid import DEMO_AGENT, DEMO_EMPTY, DEMO_SUB, DEMO_TRADER
from exchanges.venues import VENUES
from tests import factories
from tests.conftest import NOW
from volume.glance import SPANS
from volume.models import Amendment, DailyVolume, VolumeCheck
from volume.queries import COLUMNS
from volume.refresh import refresh

pytestmark = pytest.mark.django_db

API = "/api/v1/"
OPERATIONS = [
    ("get", "credentials/"),
    ("post", "credentials/"),
    ("get", "credentials/{id}/"),
    ("patch", "credentials/{id}/"),
    ("delete", "credentials/{id}/"),
    ("post", "credentials/{id}/verify/"),
    ("post", "credentials/{id}/sync/"),
    ("post", "credentials/{id}/backfill/"),
    ("post", "credentials/{id}/reread/"),
    ("post", "credentials/{id}/retire/"),
    ("post", "credentials/{id}/stop/"),
    ("get", "volume/daily/"),
    ("get", "volume/summary/"),
    ("get", "volume/markets/"),
    ("get", "volume/kinds/"),
    ("get", "preferences/"),
    ("patch", "preferences/"),
    ("get", "fills/"),
    ("get", "fills/{id}/"),
    ("get", "amendments/"),
    ("get", "amendments/{id}/"),
    ("get", "checks/"),
    ("get", "checks/{id}/"),
    ("get", "reconciliation/"),
    ("get", "data/"),
    ("delete", "data/"),
    ("get", "export/"),
    ("get", "runs/"),
    ("get", "runs/{id}/"),
    ("get", "coverage/"),
    ("get", "coverage/{id}/"),
    ("get", "held-rows/"),
    ("get", "held-rows/{id}/"),
    ("get", "venues/"),
    ("get", "audit/"),
]
READ = [path for method, path in OPERATIONS if method == "get"]
ROOT, DOCUMENTS = ("get", ""), ["schema/", "docs/"]
OF_ONE = [(method, path) for method, path in OPERATIONS if "{id}" in path]
LISTS = [
    "credentials/", "runs/", "coverage/", "held-rows/", "fills/", "amendments/", "volume/daily/", "volume/markets/",
    "volume/kinds/",
]  # fmt: skip
USD = [column for column in COLUMNS if column.endswith("_usd")]


@pytest.fixture
def ada() -> Any:
    return factories.user("ada")


@pytest.fixture(scope="module")
def browser() -> Client:
    """One for all tests: starting its middleware is most of a short test's time."""
    return Client()


@pytest.fixture
def nobody(browser: Client) -> Client:
    browser.cookies.clear()
    return browser


@pytest.fixture
def client(nobody: Client, ada: Any) -> Client:
    nobody.force_login(ada)
    return nobody


@pytest.fixture
def sandbox(sandbox: Sandbox) -> Sandbox:
    return factories.shorten(sandbox, days=20, now=NOW)


def stored(owner: Any, label: str = "Main", address: str = DEMO_TRADER) -> ExchangeCredential:
    """An account with a row of every kind, one of them not understood."""
    now = timezone.now()
    since = now.replace(hour=0) - timedelta(days=14)
    made = factories.credential(owner=owner, label=label, secrets={"address": address}, history_from=since)
    SyncRun.objects.create(credential=made, trigger="schedule", started_at=now, since=since, until=now)
    Coverage.objects.create(credential=made, stream="fills", from_at=since, until_at=now, state="covered")
    HeldRow.objects.create(
        credential=made, stream="fills", digest="0" * 64, raw='{"dir": "?"}', why="unknown dir '?'",
        executed_at=now - timedelta(days=2), seen_at=now,
    )  # fmt: skip
    DailyVolume.objects.create(
        credential=made, day=now.date(), symbol="BTC", fills=1, notional_usd=1, maker_usd=1, assets=["USDC"]
    )
    Fill.objects.create(
        credential=made, fill_id="1", executed_at=now, day=now.date(), symbol="BTC", base="BTC", quote="USDC",
        side="buy", liquidity="maker", kind="trade", price=1, qty=1, notional=1, fee=0, fee_asset="USDC",
    )  # fmt: skip
    VolumeCheck.objects.create(credential=made, checked_at=now)
    Amendment.objects.create(credential=made, seen_at=now, day=now.date(), symbol="BTC", cause="late", why="?", fills=1)
    return made


def read(owner: Any, label: str = "Main", address: str = DEMO_TRADER) -> ExchangeCredential:
    """Two weeks of an account, read, with one row that was not understood."""
    made = stored(owner, label, address)
    for rows in (made.runs, made.coverage, made.days, made.fills):
        rows.all().delete()
    refresh(made, now=timezone.now())
    return made


@pytest.fixture
def mine(ada: Any, sandbox: Sandbox) -> ExchangeCredential:
    return stored(ada)


@pytest.fixture
def others(sandbox: Sandbox) -> ExchangeCredential:
    return stored(factories.user("eve"), "Hers", DEMO_SUB)


@pytest.fixture
def account(ada: Any, sandbox: Sandbox) -> ExchangeCredential:
    return read(ada)


def ask(client: Client, method: str, path: str, credential: ExchangeCredential | None = None, **headers: str) -> Any:
    """Sends an operation, about the rows of this credential."""
    if "{id}" in path:
        kind = path.split("/")[0]
        rows = {
            "runs": SyncRun, "coverage": Coverage, "held-rows": HeldRow, "fills": Fill, "amendments": Amendment,
            "checks": VolumeCheck,
        }  # fmt: skip
        row = rows[kind].objects.filter(credential=credential).first() if kind in rows else credential
        path = path.format(id=row.pk if row else 1)
    body = {} if method == "get" else {"content_type": "application/json"}
    return getattr(client, method)(API + path, headers=headers, **body)


def error(response: Any, status: int, code: str) -> dict[str, Any]:
    """The error of an answer, of the one shape all have."""
    assert response.status_code == status
    body = response.json()
    assert list(body) == ["error"]
    assert sorted(body["error"]) == ["code", "details", "message", "request_id"]
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    assert body["error"]["request_id"] == response["X-Request-ID"]
    return body["error"]


def add(client: Client, **values: Any) -> Any:
    wanted = {"venue": "hyperliquid", "label": "New", "secrets": {"address": DEMO_TRADER}} | values
    return client.post(API + "credentials/", wanted, content_type="application/json")


def strings(value: Any) -> Iterator[str]:
    """Every text and every key in a JSON value."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def daily(client: Client, **query: Any) -> list[dict[str, Any]]:
    response = client.get(API + "volume/daily/", query | {"limit": 1000})
    assert response.status_code == 200, response.content
    return response.json()["results"]


# --- Who may ask -----------------------------------------------------------------------------------------------------


def test_the_operations_tested_here_are_all_there_are(client):
    schema = client.get(API + "schema/", {"format": "json"}).json()
    described = {(method, path) for path, methods in schema["paths"].items() for method in methods}
    assert described == {(method, API + path) for method, path in OPERATIONS}


@pytest.mark.parametrize(("method", "path"), [*OPERATIONS, ROOT])
def test_nobody_gets_an_answer_without_signing_in(nobody, mine, method, path):
    response = ask(nobody, method, path, mine)
    error(response, 401, "not_authenticated")
    assert response["WWW-Authenticate"] == "Bearer"
    assert ExchangeCredential.objects.filter(pk=mine.pk).exists()


@pytest.mark.parametrize(("method", "path"), [*OPERATIONS, ROOT])
def test_an_unknown_token_is_refused(mine, method, path):
    stranger = Client(headers={"Authorization": "Bearer perp_nobody"})
    assert "/you/tokens/" in error(ask(stranger, method, path, mine), 401, "authentication_failed")["message"]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_the_documents_of_the_api_are_closed_too(nobody, path):
    response = nobody.get(API + path)
    assert response.status_code == 401
    assert b"credentials/" not in response.content


@pytest.mark.parametrize("path", ["", *DOCUMENTS, *(path for method, path in OPERATIONS if method == "get")])
def test_every_page_of_the_api_answers_its_owner(client, mine, path):
    assert ask(client, "get", path, mine).status_code == 200


@pytest.mark.parametrize("path", ["", *(path for path in READ if path != "export/")])
def test_the_api_can_be_browsed(client, mine, path):
    response = ask(client, "get", path, mine, Accept="text/html")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("path", [path for method, path in OPERATIONS if method == "get"])
def test_a_token_opens_what_a_session_opens(ada, mine, path):
    by_token = Client(headers={"Authorization": f"Bearer {ApiToken.issue(ada, 'bot')}"})
    assert ask(by_token, "get", path, mine).status_code == 200


@pytest.mark.parametrize(("method", "path"), OF_ONE)
def test_rows_of_another_owner_do_not_exist(client, mine, others, method, path):
    columns = ("label", "is_enabled", "is_backfilling", "health_state", "history_from", "due_at", "verified_at")
    before = ExchangeCredential.objects.values(*columns).get(pk=others.pk)
    error(ask(client, method, path, others), 404, "not_found")
    assert ExchangeCredential.objects.values(*columns).get(pk=others.pk) == before


@pytest.mark.parametrize("path", LISTS)
def test_lists_hold_no_row_of_another_owner(client, others, path):
    assert client.get(API + path).json()["results"] == []


@pytest.mark.parametrize("path", LISTS[1:])
def test_asking_for_another_owners_account_gives_nothing(client, mine, others, path):
    assert client.get(API + path, {"credential": others.pk}).json()["results"] == []


def test_the_summary_holds_nothing_of_another_owner(client, others):
    body = client.get(API + "volume/summary/").json()
    assert (body["accounts"], body["venues"], body["last_changed_day"]) == ([], [], None)
    assert {total["notional_usd"] for total in body["totals"].values()} == {"0"}


def test_a_superuser_too_sees_only_their_own(others):
    root = Client()
    root.force_login(factories.user("root", is_superuser=True, is_staff=True))
    error(ask(root, "get", "credentials/{id}/", others), 404, "not_found")
    assert root.get(API + "runs/").json()["results"] == []


@pytest.mark.parametrize("path", [path for path in READ if path != "export/"])  # of which test_export speaks
def test_no_answer_holds_secrets(client, mine, path):
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM exchanges_exchangecredential")
        ((ciphertext,),) = cursor.fetchall()
    response = ask(client, "get", path, mine)
    assert ciphertext not in response.content.decode()
    assert str(mine.uuid) not in response.content.decode()
    if path != "venues/":
        assert "secrets" not in set(strings(response.json()))


@pytest.mark.parametrize(("method", "path"), [item for item in OPERATIONS if item[0] in ("post", "patch")][1:])
def test_no_answer_to_a_change_holds_secrets(client, mine, method, path):
    response = ask(client, method, path, mine)
    assert response.status_code in (200, 202)
    assert "secrets" not in response.json()


def test_accounts_are_listed_even_where_their_secrets_cannot_be_read(client, mine):
    with override_settings(SALT_KEY=["another salt, long enough to be one"]):
        for method, path in OPERATIONS:
            if method == "get":
                assert ask(client, method, path, mine).status_code == 200, path


# --- Adding an account -----------------------------------------------------------------------------------------------


def test_an_account_is_added_verified_and_due(client, ada, sandbox, clock):
    response = add(client, label="Main")
    assert response.status_code == 201
    body = response.json()
    assert body["label"] == "Main"
    assert body["account_ref"] == DEMO_TRADER
    assert body["health"] == {"state": "works", "reason": "", "text": "Works.", "at": "2026-11-21T12:00:00Z"}
    assert body["related"] == [{"label": "grid", "values": {"address": DEMO_SUB}}]
    assert "secrets" not in body
    made = ExchangeCredential.objects.get()
    assert (made.pk, made.owner, made.due_at) == (body["id"], ada, clock.now())
    assert made.open_secrets().address == DEMO_TRADER


def test_an_account_can_be_added_unverified(client, sandbox):
    sandbox.hyperliquid.time_out(times=None)
    assert add(client, verify=False).json()["health"] == {"state": "new", "reason": "", "text": "", "at": None}
    assert not sandbox.hyperliquid.requests


@pytest.mark.parametrize(
    ("secrets", "says"),
    [
        ({"address": DEMO_AGENT}, f"agent wallet (an API wallet) of {DEMO_TRADER}"),
        ({"address": "0x" + "f" * 40}, "never seen this address"),
        ({"address": "0x123"}, "Not a Hyperliquid address"),
        ({"address": "0x" + "f" * 64}, "length of a private key"),
        ({}, "Missing: address."),
        ({"address": DEMO_TRADER, "api_key": "hunter2"}, "Not known here: api_key. This venue takes: address."),
    ],
)
def test_what_the_venue_does_not_take_is_refused_with_a_sentence(client, sandbox, secrets, says):
    (sentence,) = error(add(client, secrets=secrets), 400, "invalid")["details"]["secrets"]
    assert says in sentence
    assert "hunter2" not in sentence
    assert not ExchangeCredential.objects.exists()


@pytest.mark.parametrize(
    "secrets", ["0x123", 7, None, ["address"], {"address": ""}, {"address": None}, {"address": {"deep": 1}}]
)
def test_secrets_of_another_form_are_refused(client, sandbox, secrets):
    assert "secrets" in error(add(client, secrets=secrets), 400, "invalid")["details"]
    assert not ExchangeCredential.objects.exists()


def test_the_same_account_twice_is_refused_by_its_name(client, sandbox):
    add(client, label="Main")
    upper = "0x" + DEMO_TRADER[2:].upper()
    (sentence,) = error(add(client, secrets={"address": upper}), 400, "invalid")["details"]["secrets"]
    assert sentence == "This account is here already, as “Main”."
    assert ExchangeCredential.objects.count() == 1


def test_two_owners_may_have_the_same_account(client, sandbox):
    factories.credential(owner=factories.user("eve"))
    assert add(client).status_code == 201


def test_a_venue_that_is_down_stores_nothing_and_says_so(client, sandbox):
    sandbox.hyperliquid.fail(status=502)
    fault = error(add(client), 503, "venue_unavailable")
    assert fault["message"].startswith("Hyperliquid has trouble of its own (HTTP 502).")
    assert not ExchangeCredential.objects.exists()


def test_an_unknown_venue_is_refused_with_the_known_ones(client):
    (sentence,) = error(add(client, venue="mtgox"), 400, "invalid")["details"]["venue"]
    assert sentence == f"Not a venue perpdash knows: it knows {', '.join(VENUES)}."


@pytest.mark.parametrize("missing", ["venue", "label", "secrets"])
def test_what_is_missing_is_named(client, sandbox, missing):
    values = {"venue": "hyperliquid", "label": "Main", "secrets": {"address": DEMO_TRADER}}
    del values[missing]
    response = client.post(API + "credentials/", values, content_type="application/json")
    assert error(response, 400, "invalid")["details"] == {missing: ["This field is required."]}


def test_what_the_server_decides_cannot_be_sent(client, sandbox):
    add(client, account_ref="0xme", may_trade=True, owner=99, health_state="works", history_from="2001-01-01T00:00:00Z")
    made = ExchangeCredential.objects.get()
    assert (made.account_ref, made.may_trade) == (DEMO_TRADER, False)
    assert made.history_from == datetime(2024, 11, 21, 12, 10, tzinfo=UTC)


# --- Changing and working an account ---------------------------------------------------------------------------------


def change(client: Client, mine: ExchangeCredential, **values: Any) -> Any:
    return client.patch(f"{API}credentials/{mine.pk}/", values, content_type="application/json")


def test_a_label_is_changed(client, mine):
    assert change(client, mine, label="Renamed").json()["label"] == "Renamed"
    mine.refresh_from_db()
    assert mine.label == "Renamed"


@pytest.mark.parametrize("label", ["", "   ", "x" * 81, None])
def test_a_label_must_be_one(client, mine, label):
    assert "label" in error(change(client, mine, label=label), 400, "invalid")["details"]


def test_an_account_is_paused_and_resumed(client, mine, clock):
    assert change(client, mine, is_enabled=False).json()["is_enabled"] is False
    mine.refresh_from_db()
    assert not mine.is_enabled
    assert change(client, mine, is_enabled=True).json()["is_enabled"] is True
    mine.refresh_from_db()
    assert mine.is_enabled and mine.due_at == clock.now()


@pytest.mark.parametrize("field", ["venue", "secrets", "allow_trading_key", "verify"])
def test_what_an_account_is_cannot_be_changed(client, mine, field):
    values = {"venue": "hyperliquid", "secrets": {"address": DEMO_EMPTY}, "allow_trading_key": True, "verify": False}
    fault = error(change(client, mine, **{field: values[field]}), 400, "invalid")
    assert fault["details"] == {field: ["Can't be changed: add the account anew."]}
    assert mine.open_secrets().address == DEMO_TRADER


def test_an_account_is_removed_with_all_that_was_read_from_it(client, mine, others):
    assert client.delete(f"{API}credentials/{mine.pk}/").status_code == 204
    assert list(ExchangeCredential.objects.values_list("pk", flat=True)) == [others.pk]
    assert not Fill.objects.exclude(credential=others).exists()
    assert client.get(API + "volume/daily/").json()["results"] == []


def act(client: Client, mine: ExchangeCredential, action: str, **values: Any) -> Any:
    return client.post(f"{API}credentials/{mine.pk}/{action}/", values, content_type="application/json")


def test_verify_answers_with_what_the_venue_says(client, mine, sandbox):
    assert act(client, mine, "verify").json()["health"]["state"] == "works"
    sandbox.hyperliquid.fail(status=502)
    body = act(client, mine, "verify").json()
    assert body["health"]["state"] == "unavailable"
    assert body["health"]["text"].startswith("Hyperliquid has trouble of its own (HTTP 502).")


def test_verify_tells_of_secrets_that_cannot_be_read(client, mine):
    with override_settings(SALT_KEY=["another salt, long enough to be one"]):
        assert act(client, mine, "verify").json()["health"]["state"] == "unreadable"


def test_sync_makes_the_account_due(client, mine, clock):
    clock.move(1)
    assert act(client, mine, "sync").status_code == 202
    mine.refresh_from_db()
    assert mine.due_at == clock.now()


def test_stop_ends_the_backfill_and_backfill_takes_it_up_again(client, mine, clock):
    assert act(client, mine, "stop").json()["is_backfilling"] is False
    mine.refresh_from_db()
    assert not mine.is_backfilling
    clock.move(1)
    response = act(client, mine, "backfill")
    assert (response.status_code, response.json()["is_backfilling"]) == (202, True)
    mine.refresh_from_db()
    assert mine.due_at == clock.now()


def test_backfill_goes_further_back_but_never_forgets(client, mine):
    before = mine.history_from
    assert act(client, mine, "backfill", since="2026-11-20").status_code == 202
    mine.refresh_from_db()
    assert mine.history_from == before
    act(client, mine, "backfill", since="2026-10-01")
    mine.refresh_from_db()
    assert mine.history_from == datetime(2026, 10, 1, tzinfo=UTC)


@pytest.mark.parametrize(("since", "says"), [("2026-11-22", "This day is in the future."), ("soon", "wrong format")])
def test_backfill_refuses_a_day_it_cannot_read_from(client, mine, since, says):
    (sentence,) = error(act(client, mine, "backfill", since=since), 400, "invalid")["details"]["since"]
    assert says in sentence


@pytest.mark.parametrize("action", ["sync", "backfill"])
def test_a_paused_account_is_not_said_to_be_read(client, mine, action):
    change(client, mine, is_enabled=False)
    fault = error(act(client, mine, action), 400, "invalid")
    assert "paused" in fault["message"].lower()


# --- Volume ----------------------------------------------------------------------------------------------------------


def test_daily_volume_is_what_the_venue_knows(client, account, sandbox):
    truth = sandbox.hyperliquid.truth(DEMO_TRADER, account.history_from)
    rows = daily(client, group_by="day,market")
    found = {(date.fromisoformat(row["day"]), row["market"]): row for row in rows}
    assert found.keys() == truth.keys()
    for key, day in truth.items():
        row = found[key]
        assert (row["fills"], Decimal(row["notional_usd"])) == (day.fills, day.notional)
        assert (row["forced_fills"], Decimal(row["forced_usd"])) == (day.forced_fills, day.forced_notional)


def test_amounts_are_text_without_exponent(client, account):
    for row in daily(client, group_by="day,market"):
        for column in [*USD, "base_qty"]:
            assert isinstance(row[column], str)
            assert set(row[column]) <= set("-0123456789.")
        assert Decimal(row["maker_usd"]) + Decimal(row["taker_usd"]) == Decimal(row["notional_usd"])
        assert Decimal(row["buy_usd"]) + Decimal(row["sell_usd"]) == Decimal(row["notional_usd"])


@pytest.mark.parametrize(
    ("group_by", "keys"),
    [
        (None, ["day"]),
        ("day", ["day"]),
        ("venue", ["venue"]),
        ("market", ["market"]),
        ("credential", ["credential"]),
        ("venue,market", ["venue", "market"]),
        ("credential,day,market,venue", ["credential", "day", "market", "venue"]),
    ],
)
def test_rows_are_grouped_as_asked_and_add_up_to_the_same(client, account, group_by, keys):
    rows = daily(client, **({"group_by": group_by} if group_by else {}))
    assert all(list(row)[: len(keys)] == keys for row in rows)
    assert set(rows[0]) == {*keys, *COLUMNS, "fills_not_priced", "stale", "why"}
    assert len({tuple(row[key] for key in keys) for row in rows}) == len(rows)
    assert sum(row["fills"] for row in rows) == sum(row["fills"] for row in daily(client))
    assert {row["base_qty"] is None for row in rows} == {"market" not in keys}


@pytest.mark.parametrize("granularity", ["day", "week", "month"])
def test_days_are_put_together_into_weeks_and_months(client, account, granularity):
    def start(day: date) -> date:
        starts = {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}
        return starts[granularity]

    expected: dict[str, Decimal] = {}
    for row in daily(client):
        key = start(date.fromisoformat(row["day"])).isoformat()
        expected[key] = expected.get(key, Decimal(0)) + Decimal(row["notional_usd"])
    rows = daily(client, granularity=granularity)
    assert {row["day"]: Decimal(row["notional_usd"]) for row in rows} == expected


def test_a_range_includes_its_start_and_leaves_out_its_end(client, account):
    days = [row["day"] for row in daily(client)]
    assert [row["day"] for row in daily(client, since=days[2], until=days[5])] == days[2:5]
    assert [row["day"] for row in daily(client, until=days[2])] == days[:2]
    assert [row["day"] for row in daily(client, since=days[-1])] == days[-1:]


def test_volume_is_filtered_by_market_venue_and_account(client, ada, account):
    second = read(ada, "Grid", DEMO_SUB)
    rows = daily(client, group_by="credential,market")
    assert {row["credential"] for row in rows} == {account.pk, second.pk}
    mine = daily(client, group_by="credential,market", credential=second.pk)
    assert mine == [row for row in rows if row["credential"] == second.pk]
    both = daily(client, group_by="credential,market", credential=f"{account.pk},{second.pk}")
    assert both == rows
    some = daily(client, group_by="credential,market", market="BTC,ETH")
    assert {row["market"] for row in some} == {"BTC", "ETH"}
    assert daily(client, venue="hyperliquid") == daily(client)
    assert daily(client, market="NOSUCH") == []


def test_an_incomplete_day_says_what_it_lacks(client, account):
    held_on = (timezone.now() - timedelta(days=2)).date().isoformat()
    for row in daily(client):
        assert row["complete"] == (row["day"] != held_on)
        assert row["why"] == ([] if row["complete"] else [f"{account}: 1 row held, not understood and not counted."])


def test_markets_come_largest_first(client, account):
    rows = client.get(API + "volume/markets/").json()["results"]
    amounts = [Decimal(row["notional_usd"]) for row in rows]
    assert amounts == sorted(amounts, reverse=True)
    assert {row["venue"] for row in rows} == {"hyperliquid"}
    assert len(rows) == len({row["market"] for row in rows}) > 3


def test_markets_keep_to_their_filters(client, account):
    rows = client.get(API + "volume/markets/", {"market": "BTC", "since": "2026-11-10", "until": "2026-11-20"}).json()
    (row,) = rows["results"]
    days = daily(client, market="BTC", since="2026-11-10", until="2026-11-20")
    assert Decimal(row["notional_usd"]) == sum(Decimal(day["notional_usd"]) for day in days)


def test_the_summary_adds_up_the_days(client, account, sandbox, clock):
    body = client.get(API + "volume/summary/").json()
    assert list(body["totals"]) == list(SPANS)
    for span, days in (("7d", 7), ("14d", 14)):
        first = clock.now().date() - timedelta(days=days - 1)
        expected = sum(Decimal(row["notional_usd"]) for row in daily(client, since=first))
        assert Decimal(body["totals"][span]["notional_usd"]) == expected
    truth = sandbox.hyperliquid.truth(DEMO_TRADER, clock.now() - timedelta(hours=24))
    assert Decimal(body["totals"]["24h"]["notional_usd"]) == sum(day.notional for day in truth.values())
    assert body["totals"]["24h"]["fills"] == sum(day.fills for day in truth.values())
    (venue,) = body["venues"]
    assert venue["totals"] == body["totals"]


def test_the_summary_says_how_complete_it_is(client, account):
    body = client.get(API + "volume/summary/").json()
    assert body["totals"]["24h"]["complete"] is True
    assert body["totals"]["7d"]["complete"] is False
    assert body["totals"]["7d"]["why"] == [f"{account}: 1 row held, not understood and not counted."]
    (shown,) = body["accounts"]
    assert (shown["id"], shown["held"], shown["is_stale"]) == (account.pk, 1, False)


def test_the_summary_of_nobody_is_empty_and_not_an_error(client):
    body = client.get(API + "volume/summary/").json()
    assert body["accounts"] == [] and body["totals"]["all"]["notional_usd"] == "0"


# --- Lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LISTS + ["venues/"])
def test_lists_come_in_pages(client, mine, path):
    body = client.get(API + path, {"limit": 1}).json()
    assert sorted(body) == ["count", "next", "previous", "results"]
    assert len(body["results"]) == 1
    whole = client.get(API + path, {"limit": 1000}).json()
    assert whole["count"] == len(whole["results"]) == body["count"]
    assert body["results"] == whole["results"][:1]
    if body["next"]:
        assert client.get(body["next"]).json()["results"] == whole["results"][1:2]


@pytest.mark.parametrize("query", [{"limit": "9" * 30}, {"offset": "9" * 30}, {"limit": "x", "offset": "-1"}])
@pytest.mark.parametrize("path", LISTS)
def test_a_page_there_is_not_is_no_fault_of_ours(client, mine, path, query):
    assert client.get(API + path, query).status_code in (200, 400, 404)


def test_runs_tell_what_was_asked_and_what_came(client, account):
    (run,) = client.get(API + "runs/").json()["results"]
    assert (run["credential"], run["outcome"], run["trigger"]) == (account.pk, "incomplete", "schedule")
    assert run["message"] == "1 row held, not understood."
    assert run["new"] == Fill.objects.count()
    assert run["rows"] == run["new"] + run["seen"] + run["held"] + sum(run["skipped"].values())
    assert client.get(f"{API}runs/{run['id']}/").json() == run


def test_coverage_tells_what_is_read(client, account):
    rows = client.get(API + "coverage/").json()["results"]
    assert {(row["stream"], row["state"]) for row in rows} == {("fills", "covered"), ("twap", "covered")}
    assert {row["from_at"] for row in rows} == {"2026-11-07T00:00:00Z"}


def test_held_rows_are_shown_raw(client, mine):
    (row,) = client.get(API + "held-rows/").json()["results"]
    assert (row["raw"], row["why"]) == ('{"dir": "?"}', "unknown dir '?'")


@pytest.mark.parametrize("path", ["runs/", "coverage/", "held-rows/"])
def test_rows_are_filtered_by_account(client, mine, path):
    assert client.get(API + path, {"credential": mine.pk}).json()["results"]
    assert client.get(API + path, {"credential": mine.pk + 1}).json()["results"] == []


def test_venues_tell_what_each_needs(client):
    rows = client.get(API + "venues/").json()["results"]
    assert [row["venue"] for row in rows] == list(VENUES)
    (needed,) = next(row for row in rows if row["venue"] == "hyperliquid")["secrets"]
    assert (needed["name"], needed["is_secret"], needed["is_optional"]) == ("address", False, False)


# --- Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["volume/daily/", "volume/markets/"])
@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ({"venue": "mtgox"}, "venue", "Not a venue perpdash knows: mtgox."),
        ({"venue": "hyperliquid,mtgox"}, "venue", "Not a venue perpdash knows: mtgox."),
        ({"since": "yesterday"}, "since", "Date has wrong format"),
        ({"until": "2026-02-30"}, "until", "Date has wrong format"),
        ({"since": "2026-11-02", "until": "2026-11-01"}, "non_field_errors", "until must be after since"),
        ({"since": "2026-11-02", "until": "2026-11-02"}, "non_field_errors", "until must be after since"),
        ({"credential": "mine"}, "credential", "Numbers of credentials, separated by commas."),
        ({"market": "\0"}, "market", "Null characters are not allowed."),
    ],
)
def test_a_question_that_makes_no_sense_is_told_so(client, path, query, field, says):
    fault = error(client.get(API + path, query), 400, "invalid")
    assert says in fault["details"][field][0]


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ({"group_by": "weekday"}, "group_by", "Can't group by weekday: only by day, venue, market, credential."),
        ({"group_by": "day,day"}, "group_by", "A key is named twice."),
        ({"granularity": "year"}, "granularity", "not a valid choice"),
    ],
)
def test_a_grouping_there_is_not_is_told_so(client, query, field, says):
    fault = error(client.get(API + "volume/daily/", query), 400, "invalid")
    assert says in fault["details"][field][0]


@pytest.mark.parametrize("path", ["runs/", "coverage/", "held-rows/"])
@pytest.mark.parametrize("credential", ["mine", "-1", "1,2", "²", "9" * 30])
def test_the_number_of_an_account_must_be_one(client, path, credential):
    fault = error(client.get(API + path, {"credential": credential}), 400, "invalid")
    assert fault["details"] == {"credential": ["The number of a credential."]}


@pytest.mark.parametrize("path", ["runs/", "coverage/", "held-rows/", "volume/daily/", "volume/markets/"])
def test_a_number_no_account_can_have_is_no_fault_of_ours(client, mine, path):
    assert client.get(API + path, {"credential": "9" * 30}).status_code in (200, 400)


@pytest.mark.parametrize("path", ["credentials/999/", "credentials/x/", "credentials/" + "9" * 30 + "/", "runs/999/"])
def test_what_is_not_there_is_not_found(client, path):
    error(client.get(API + path), 404, "not_found")


def test_an_address_the_api_does_not_have_is_told_in_its_own_shape(client):
    error(client.get(API + "nothing/"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("put", "credentials/"), ("post", "volume/daily/"), ("delete", "volume/summary/"), ("post", "runs/")],
)
def test_a_method_there_is_not_is_told_so(client, method, path):
    fault = error(getattr(client, method)(API + path), 405, "method_not_allowed")
    assert method.upper() in fault["message"]


def test_put_is_not_taken_for_an_account(client, mine):
    response = client.put(f"{API}credentials/{mine.pk}/", {"label": "x"}, content_type="application/json")
    error(response, 405, "method_not_allowed")


def test_a_body_that_is_no_json_is_told_so(client):
    response = client.post(API + "credentials/", "{", content_type="application/json")
    assert "JSON parse error" in error(response, 400, "parse_error")["message"]


@pytest.mark.parametrize("body", ["[]", '"text"', "7", "null"])
def test_a_body_that_is_no_object_is_told_so(client, body):
    error(client.post(API + "credentials/", body, content_type="application/json"), 400, "invalid")


def test_a_session_needs_its_csrf_token(ada, mine):
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(ada)
    error(careful.delete(f"{API}credentials/{mine.pk}/"), 403, "permission_denied")
    assert ExchangeCredential.objects.filter(pk=mine.pk).exists()


# --- The schema ------------------------------------------------------------------------------------------------------


def test_the_schema_is_valid_and_made_without_a_warning():
    out = StringIO()
    call_command("spectacular", validate=True, fail_on_warn=True, format="openapi-json", stdout=out)
    components = json.loads(out.getvalue())["components"]
    assert components["schemas"]["Credential"]["properties"]["secrets"]["writeOnly"]
    assert {"token", "cookieAuth"} <= set(components["securitySchemes"])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("credentials/", "Credential"),
        ("volume/daily/", "VolumeRow"),
        ("runs/", "Run"),
        ("coverage/", "Coverage"),
        ("held-rows/", "HeldRow"),
        ("venues/", "Venue"),
    ],
)
def test_answers_have_the_fields_the_schema_names(client, mine, path, name):
    schemas = client.get(API + "schema/", {"format": "json"}).json()["components"]["schemas"]
    properties = schemas[name]["properties"]
    expected = {field for field, kind in properties.items() if not kind.get("writeOnly")}
    row = client.get(API + path, {"group_by": "day,venue,market,credential"}).json()["results"][0]
    assert set(row) == expected


def test_the_summary_has_the_fields_the_schema_names(client, mine):
    schemas = client.get(API + "schema/", {"format": "json"}).json()["components"]["schemas"]
    body = client.get(API + "volume/summary/").json()
    assert set(body) == set(schemas["Summary"]["properties"])
    assert set(body["accounts"][0]) == set(schemas["Account"]["properties"])
    assert set(body["totals"]["all"]) == set(schemas["Total"]["properties"])
    assert set(body["accounts"][0]["lacks"][0]) == set(schemas["Lack"]["properties"])
