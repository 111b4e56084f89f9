"""The admin: keys are managed and never shown, facts are looked at and not edited."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiToken
from exchanges.models import Coverage, ExchangeCredential, Fill, HeldRow, SyncRun
from exchanges.sandbox import Sandbox
from exchanges.sandbox.base import to_ms
from exchanges.sandbox.hyperliquid import DEMO_AGENT, DEMO_EMPTY, DEMO_TRADER
from tests import factories
from volume.models import AssetPrice, DailyVolume
from volume.refresh import refresh

pytestmark = pytest.mark.django_db

READ_ONLY = [Fill, Coverage, HeldRow, SyncRun, DailyVolume, AssetPrice]
MODELS = [*READ_ONLY, ExchangeCredential, ApiToken]
WRONG_KEY = override_settings(SALT_KEY=["another salt, long enough to be one"])
SECRETS = json.dumps({"address": DEMO_TRADER})
FILL = {
    "coin": "BTC", "px": "84000.5", "sz": "0.01", "side": "B", "startPosition": "0.0", "dir": "Open Long",
    "closedPnl": "0.0", "hash": "0x" + "0" * 64, "oid": 7, "crossed": True, "fee": "0.37", "feeToken": "USDC",
    "tid": 99,
}  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Client:
    """One for all tests: starting its middleware is most of a short test's time."""
    return Client()


@pytest.fixture
def root() -> Any:
    return factories.user("root", is_superuser=True, is_staff=True)


@pytest.fixture
def client(browser: Client, root: Any) -> Client:
    browser.cookies.clear()
    return factories.sign_in(browser, root)


@pytest.fixture
def account(root: Any, sandbox: Sandbox) -> ExchangeCredential:
    """An account with a row of every kind."""
    now = timezone.now()
    sandbox.hyperliquid.add(DEMO_TRADER, rows=[FILL | {"time": to_ms(now) - 1000}])
    credential = factories.credential(owner=root, history_from=now - timedelta(hours=20))
    refresh(credential, now=now)
    Coverage.objects.filter(stream="twap").delete()
    HeldRow.objects.create(credential=credential, stream="fills", digest="1", raw="{}", why="unknown dir", seen_at=now)
    AssetPrice.objects.create(asset="HYPE", day=now.date(), usd="41.5", source="CoinGecko")
    ApiToken.issue(root, "bot")
    return credential


def listed(model: type[Any]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def page_of(row: Any, name: str = "change") -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{name}", args=[row.pk])


ADD = "admin:exchanges_exchangecredential_add"


def form(person: Any, **values: Any) -> dict[str, Any]:
    filled = {"owner": person.pk, "venue": "hyperliquid", "label": "Main", "new_secrets": SECRETS, "is_enabled": "on"}
    return {"is_backfilling": "on"} | filled | values


def faults(response: Any) -> dict[str, list[str]]:
    """The errors of the form that is shown again."""
    assert response.status_code == 200
    return {name: list(texts) for name, texts in response.context["adminform"].form.errors.items()}


def act(client: Client, action: str, *accounts: ExchangeCredential) -> list[str]:
    """Does it, and returns what is said."""
    chosen = {"action": action, "_selected_action": [account.pk for account in accounts]}
    response = client.post(listed(ExchangeCredential), chosen, follow=True)
    assert response.status_code == 200
    return [str(message) for message in response.context["messages"]]


# --- Looking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_lists_are_shown(client, account, model):
    response = client.get(listed(model))
    assert response.status_code == 200
    assert response.context["cl"].result_count == 1


@pytest.mark.parametrize("model", MODELS)
def test_a_row_is_shown(client, account, model):
    assert client.get(page_of(model.objects.get())).status_code == 200


def test_the_front_page_and_the_people_are_shown(client, account):
    for name in ("admin:index", "admin:accounts_user_changelist", "admin:accounts_user_add"):
        assert client.get(reverse(name)).status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_lists_can_be_sorted_by_every_column(client, account, model):
    for column in range(1, len(admin.site._registry[model].list_display) + 1):
        assert client.get(listed(model), {"o": f"-{column}"}).status_code == 200


@pytest.mark.parametrize(
    ("model", "query", "found"),
    [
        (Fill, {"kind__exact": "trade"}, 1),
        (Fill, {"kind__exact": "adl"}, 0),
        (Fill, {"q": "BTC"}, 1),
        (Fill, {"q": "ETH"}, 0),
        (Fill, {"executed_at__year": 2026, "executed_at__month": 11}, 1),
        (Fill, {"executed_at__year": 2025}, 0),
        (DailyVolume, {"credential__venue": "hyperliquid"}, 1),
        (DailyVolume, {"credential__venue": "bybit"}, 0),
        (DailyVolume, {"q": "BTC"}, 1),
        (DailyVolume, {"day__year": 2026, "day__month": 11, "day__day": 21}, 1),
        (DailyVolume, {"day__year": 2025}, 0),
        (ExchangeCredential, {"venue": "hyperliquid", "health_state__exact": "works", "is_enabled__exact": 1}, 1),
        (ExchangeCredential, {"health_state__exact": "rejected"}, 0),
        (ExchangeCredential, {"q": "Main"}, 1),
        (ExchangeCredential, {"q": DEMO_TRADER}, 1),
        (ExchangeCredential, {"q": "nothing"}, 0),
        (HeldRow, {"seen_at__year": 2026}, 1),
        (SyncRun, {"outcome__exact": "complete", "trigger__exact": "schedule"}, 1),
        (SyncRun, {"started_at__year": 2025}, 0),
        (Coverage, {"state__exact": "gap"}, 0),
        (AssetPrice, {"asset": "HYPE", "day__year": 2026}, 1),
    ],
)
def test_lists_are_filtered_searched_and_drilled_into(client, account, model, query, found):
    response = client.get(listed(model), query)
    assert response.status_code == 200
    assert response.context["cl"].result_count == found


@pytest.mark.parametrize("model", MODELS)
def test_no_page_holds_stored_secrets(client, account, model):
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM exchanges_exchangecredential")
        ((ciphertext,),) = cursor.fetchall()
    for address in (listed(model), page_of(model.objects.get())):
        html = client.get(address).content.decode()
        assert ciphertext not in html
        assert str(account.uuid) not in html
        assert "&quot;address&quot;: &quot;0x" not in html.replace("0x...", "")


def test_a_refused_form_does_not_repeat_the_secrets(client, root, sandbox):
    typed = json.dumps({"address": DEMO_AGENT, "api_key": "hunter2"})
    response = client.post(reverse(ADD), form(root, new_secrets=typed))
    assert "hunter2" not in response.content.decode()


@pytest.mark.parametrize("model", MODELS)
def test_lists_are_shown_even_where_secrets_cannot_be_read(client, account, model):
    with WRONG_KEY:
        assert client.get(listed(model)).status_code == 200
        assert client.get(page_of(model.objects.get())).status_code == 200


# --- Not touching ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", READ_ONLY)
def test_facts_cannot_be_added_changed_or_deleted(client, account, model):
    row = model.objects.get()
    before = model.objects.values().get()
    assert client.get(listed(model) + "add/").status_code == 403
    assert client.post(listed(model) + "add/", {}).status_code == 403
    assert client.post(page_of(row), {"symbol": "ETH"}).status_code == 403
    assert client.post(page_of(row, "delete"), {"post": "yes"}).status_code == 403
    client.post(listed(model), {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert model.objects.values().get() == before


def test_a_token_can_be_revoked_but_neither_made_nor_read(client, account):
    token = ApiToken.objects.get()
    assert client.get(listed(ApiToken) + "add/").status_code == 403
    assert token.digest not in client.get(page_of(token)).content.decode()
    client.post(page_of(token, "delete"), {"post": "yes"})
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize("model", MODELS)
def test_only_staff_gets_in(browser, account, model):
    browser.cookies.clear()
    assert browser.get(listed(model)).status_code == 302
    browser.force_login(factories.user("eve"))
    response = browser.get(listed(model))
    assert response.status_code == 302
    assert "login" in response["Location"]


# --- Adding ----------------------------------------------------------------------------------------------------------


def test_an_account_is_added_verified_and_due(client, root, sandbox, clock):
    response = client.post(reverse(ADD), form(root))
    assert response.status_code == 302, faults(response)
    made = ExchangeCredential.objects.get()
    assert (made.owner, made.venue, made.label, made.account_ref) == (root, "hyperliquid", "Main", DEMO_TRADER)
    assert (made.health_state, made.verified_at, made.due_at) == ("works", clock.now(), clock.now())
    assert made.open_secrets().address == DEMO_TRADER


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("", "A new account needs its secrets."),
        ("{", "This is not a JSON object."),
        ("[]", "This is not a JSON object."),
        ('"0x12"', "This is not a JSON object."),
        ("{}", "Missing: address."),
        ('{"address": "0x12"}', "Not a Hyperliquid address"),
        ('{"address": 12}', "address must be text."),
        (json.dumps({"address": DEMO_AGENT}), f"agent wallet (an API wallet) of {DEMO_TRADER}"),
    ],
)
def test_secrets_that_cannot_be_used_are_refused_with_a_sentence(client, root, sandbox, typed, says):
    found = faults(client.post(reverse(ADD), form(root, new_secrets=typed)))
    assert list(found) == ["new_secrets"]
    assert says in found["new_secrets"][0]
    assert not ExchangeCredential.objects.exists()


def test_a_venue_that_is_down_is_told_and_nothing_stored(client, root, sandbox):
    sandbox.hyperliquid.fail(status=502)
    found = faults(client.post(reverse(ADD), form(root)))
    assert "HTTP 502" in found["new_secrets"][0]
    assert not ExchangeCredential.objects.exists()


def test_the_same_account_twice_is_told(client, root, account):
    found = faults(client.post(reverse(ADD), form(root, label="Again")))
    assert "This account is here already." in [text for texts in found.values() for text in texts]
    assert ExchangeCredential.objects.count() == 1


@pytest.mark.parametrize("field", ["owner", "venue", "label"])
def test_what_is_missing_is_told_where_it_is_missing(client, root, sandbox, field):
    found = faults(client.post(reverse(ADD), form(root, **{field: ""})))
    assert found[field] == ["This field is required."]
    assert not ExchangeCredential.objects.exists()


# --- Changing --------------------------------------------------------------------------------------------------------


def test_a_label_is_changed_without_secrets(client, account):
    response = client.post(page_of(account), {"label": "Renamed", "is_enabled": "on", "is_backfilling": "on"})
    assert response.status_code == 302
    account.refresh_from_db()
    assert account.label == "Renamed"
    assert account.open_secrets().address == DEMO_TRADER


def test_a_label_is_changed_even_where_secrets_cannot_be_read(client, account):
    with WRONG_KEY:
        client.post(page_of(account), {"label": "Renamed", "is_enabled": "on", "is_backfilling": "on"})
    account.refresh_from_db()
    assert account.label == "Renamed"
    assert account.open_secrets().address == DEMO_TRADER


def test_saving_writes_only_what_was_changed(client, account):
    opened = client.get(page_of(account)).context["adminform"].form.initial
    ExchangeCredential.objects.update(failures=7, health_text="Read meanwhile.")
    values = {name: "on" if value is True else value for name, value in opened.items() if value not in (False, None)}
    client.post(page_of(account), values | {"label": "Renamed"})
    account.refresh_from_db()
    assert (account.label, account.failures, account.health_text) == ("Renamed", 7, "Read meanwhile.")


def test_an_account_is_paused(client, account):
    client.post(page_of(account), {"label": "Main", "is_backfilling": "on"})
    account.refresh_from_db()
    assert not account.is_enabled


def test_the_owner_and_venue_of_a_stored_account_stay(client, account):
    eve = factories.user("eve")
    client.post(page_of(account), form(eve, label="Renamed", venue="bybit", new_secrets=""))
    account.refresh_from_db()
    assert (account.label, account.owner.username, account.venue) == ("Renamed", "root", "hyperliquid")


@pytest.mark.parametrize("typed", ["{", json.dumps({"address": DEMO_AGENT}), json.dumps({"address": "0x12"})])
def test_new_secrets_that_cannot_be_used_are_refused_for_a_stored_account_too(client, account, typed):
    values = {"label": "Main", "is_enabled": "on", "is_backfilling": "on", "new_secrets": typed}
    assert list(faults(client.post(page_of(account), values))) == ["new_secrets"]
    account.refresh_from_db()
    assert account.open_secrets().address == DEMO_TRADER


def test_new_secrets_of_another_account_are_refused_as_its_fills_would_be_mixed_up(client, account):
    typed = json.dumps({"address": DEMO_EMPTY})
    values = {"label": "Main", "is_enabled": "on", "is_backfilling": "on", "new_secrets": typed}
    assert list(faults(client.post(page_of(account), values))) == ["new_secrets"]
    account.refresh_from_db()
    assert (account.account_ref, account.open_secrets().address) == (DEMO_TRADER, DEMO_TRADER)


def test_new_secrets_heal_an_account_whose_secrets_cannot_be_read(client, account, clock):
    with WRONG_KEY:
        act(client, "verify_now", account)
        values = {"label": "Main", "is_enabled": "on", "is_backfilling": "on", "new_secrets": SECRETS}
        assert client.post(page_of(account), values).status_code == 302
        account.refresh_from_db()
        assert account.open_secrets().address == DEMO_TRADER
        assert account.health_state == "works"


def test_an_account_is_deleted_with_what_was_read(client, account):
    response = client.post(page_of(account, "delete"), {"post": "yes"}, follow=True)
    assert response.status_code == 200
    assert not ExchangeCredential.objects.exists()
    assert not Fill.objects.exists()


# --- Actions ---------------------------------------------------------------------------------------------------------


def test_verify_tells_of_each_account(client, account, sandbox):
    agent = factories.credential(label="Agent", secrets={"address": DEMO_AGENT})
    said = act(client, "verify_now", account, agent)
    assert said[1] == f"{account}: Works."
    assert said[0].startswith(f"{agent}: This is the address of an agent wallet")
    agent.refresh_from_db()
    assert agent.health_state == "rejected"


def test_verify_tells_of_a_venue_that_is_down(client, account, sandbox):
    sandbox.hyperliquid.time_out(times=None)
    (said,) = act(client, "verify_now", account)
    assert said.startswith(f"{account}: Hyperliquid does not answer. Trying again in")


@pytest.mark.parametrize("action", ["sync_now", "backfill_now"])
def test_work_is_asked_for(client, account, clock, action):
    ExchangeCredential.objects.update(is_backfilling=False)
    clock.move(1)
    assert act(client, action, account)[0].startswith("1 account")
    account.refresh_from_db()
    assert account.due_at == clock.now()
    assert account.is_backfilling == (action == "backfill_now")
