"""Removing an account with or without its history, bringing it back, and removing everything of one person."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEvent
from exchanges.fields import SecretError
from exchanges.models import Coverage, ExchangeCredential, Fill, HeldRow, SyncRun
from exchanges.sandbox import Sandbox, bybit
from exchanges.sandbox.hyperliquid import DEMO_SUB, DEMO_TRADER
from exchanges.venues.base import CredentialsRejected
from tests import factories
from tests.conftest import NOW
from volume import glance, holding, tasks
from volume.models import AssetPrice, DailyVolume, Preferences
from volume.refresh import refresh

pytestmark = pytest.mark.django_db

SINCE = NOW - timedelta(days=5)
API = "/api/v1/"


@pytest.fixture
def sandbox(sandbox: Sandbox) -> Sandbox:
    return factories.shorten(sandbox, days=15, now=NOW)


@pytest.fixture
def ada() -> Any:
    return factories.user("ada", is_staff=True, is_superuser=True)


@pytest.fixture
def account(ada: Any, sandbox: Sandbox) -> ExchangeCredential:
    """Five days of an account with a key, read."""
    made = factories.credential("bybit", owner=ada, secrets=bybit.MAIN, history_from=SINCE)
    refresh(made, now=NOW)
    assert made.fills.exists()
    return made


@pytest.fixture
def address(ada: Any, sandbox: Sandbox) -> ExchangeCredential:
    """Five days of an account that is public, read."""
    made = factories.credential(owner=ada, label="Public", history_from=SINCE)
    refresh(made, now=NOW)
    assert made.fills.exists()
    return made


@pytest.fixture
def client(ada: Any) -> Client:
    made = Client()
    made.force_login(ada)
    return made


def text_of(response: Any) -> str:
    return " ".join(response.content.decode().split())


def said(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def act(client: Client, account: ExchangeCredential, action: str) -> Any:
    return client.post(reverse("volume:act", args=[account.pk, action]), follow=True)


def kept(account: ExchangeCredential) -> tuple[list[Any], ...]:
    models = (Fill, DailyVolume, Coverage, SyncRun, HeldRow)
    return tuple(list(model.objects.filter(credential=account).order_by("pk").values()) for model in models)


def totals(account: ExchangeCredential) -> list[tuple[Any, ...]]:
    shown = glance.summary(account.owner_id, now=NOW)["totals"]
    return [(span, total["notional_usd"], total["fills"]) for span, total in shown.items()]


# --- The page that asks ----------------------------------------------------------------------------------------------


def test_the_page_says_what_goes_what_stays_and_how_much_it_is(client, account):
    response = client.get(reverse("volume:remove", args=[account.pk]))
    text = text_of(response)
    assert f"Stored of it are {account.fills.count():,} fills, from " in text
    assert f"on {len(set(account.days.values_list('day', flat=True)))} days, and 1 run." in text
    assert "Nothing changes at Bybit either way." in text
    assert f'action="/accounts/{account.pk}/retire/"' in text
    assert f'action="/accounts/{account.pk}/delete/"' in text
    assert "A key of the same account, put in later, goes on from there." in text


def test_the_page_of_a_public_address_speaks_of_no_key(client, address):
    text = text_of(client.get(reverse("volume:remove", args=[address.pk])))
    assert "The same address, added later, goes on from there." in text
    assert "overwritten" not in text


def test_looking_at_the_page_removes_nothing_and_others_do_not_have_it(client, account):
    path = reverse("volume:remove", args=[account.pk])
    assert client.get(path).status_code == 200
    assert client.post(path).status_code == 405
    client.force_login(factories.user("eve"))
    assert client.get(path).status_code == 404
    assert act(client, account, "retire").status_code == 404
    assert client.post(f"{API}credentials/{account.pk}/retire/").status_code == 404
    account.refresh_from_db()
    assert account.retired_at is None


# --- The key goes, the history stays ---------------------------------------------------------------------------------


def by_page(client: Client, account: ExchangeCredential) -> None:
    assert said(act(client, account, "retire")) == [
        f"The key of {account} is removed. What was read from it stays, and counts."
    ]


def by_api(client: Client, account: ExchangeCredential) -> None:
    response = client.post(f"{API}credentials/{account.pk}/retire/")
    assert response.status_code == 200
    assert response.json()["is_enabled"] is False


def by_admin(client: Client, account: ExchangeCredential) -> None:
    chosen = {"action": "retire_now", "_selected_action": [account.pk]}
    response = client.post(reverse("admin:exchanges_exchangecredential_changelist"), chosen, follow=True)
    assert said(response) == ["1 accounts have no key any more. Their history stays, and counts."]


WAYS = [by_page, by_api, by_admin]
Way = Callable[[Client, ExchangeCredential], None]


@pytest.mark.parametrize("way", WAYS)
def test_the_history_stays_and_counts_and_the_key_is_gone_from_the_database(client, account, way, sandbox):
    ExchangeCredential.objects.update(may_trade=True, expires_at=NOW + timedelta(days=9), allows_trading_key=True)
    before, counted = kept(account), totals(account)
    way(client, account)
    assert (kept(account), totals(account)) == (before, counted)
    account.refresh_from_db()
    assert account.retired_at == NOW
    assert not (account.is_enabled or account.may_trade or account.may_withdraw or account.allows_trading_key)
    assert (account.expires_at, account.lease, account.leased_until) == (None, None, None)
    assert account.account_ref == bybit.MAIN_UID
    assert account.health_text == (
        "Removed on 2026-11-21, with its history kept. Put in a key of the same account again to read on."
    )
    revealed = account.secrets.reveal()
    assert not any(secret in revealed for secret in bybit.MAIN.values())
    with pytest.raises((CredentialsRejected, SecretError)):
        account.open_secrets()


def test_a_retired_account_asks_its_venue_nothing_any_more(client, account, sandbox, clock):
    holding.retire(account, now=NOW)
    clock.move(86400)
    before = len(sandbox.bybit.requests)
    tasks.refresh_due()
    tasks.refresh_credential(account.pk, "user")
    for action in ("sync", "backfill", "verify", "resume", "pause", "stop", "retire"):
        assert said(act(client, account, action)) == [f"{account}: {account.health_text}"]
    for action in ("sync", "backfill", "verify"):
        response = client.post(f"{API}credentials/{account.pk}/{action}/")
        assert response.status_code == 400
        assert "with its history kept" in response.json()["error"]["message"]
    response = client.patch(f"{API}credentials/{account.pk}/", {"is_enabled": True}, content_type="application/json")
    assert response.status_code == 400
    with pytest.raises(CommandError, match="with its history kept"):
        call_command("backfill", "--credential", str(account.pk))
    account.refresh_from_db()
    assert (account.is_enabled, account.retired_at) == (False, NOW)
    assert len(sandbox.bybit.requests) == before
    assert said(act(client, account, "rename"))


def test_a_reading_under_way_ends_and_says_nothing_more_of_the_account(account, sandbox, clock):
    clock.move(7200)
    retired = []

    def retire(run: SyncRun, page: Any) -> None:
        if not retired:
            retired.append(True)
            holding.retire(ExchangeCredential.objects.get(pk=account.pk), now=clock.now())

    ExchangeCredential.objects.update(history_from=SINCE - timedelta(days=9))
    account.refresh_from_db()
    run = refresh(account, now=clock.now(), on_page=retire)
    assert run.outcome == "stopped"
    stored = ExchangeCredential.objects.get()
    assert stored.health_text.startswith("Removed on 2026-11-21")
    assert (stored.lease, stored.is_enabled) == (None, False)


def test_a_key_of_the_same_account_brings_it_back_where_it_stopped(client, account, sandbox, clock):
    fills = account.fills.count()
    holding.retire(account, now=NOW)
    clock.move(3600)
    path = reverse("volume:key", args=[account.pk])
    refused = client.post(path, {"host": "", **bybit.SUB})
    assert "This key is of another account" in refused.content.decode()
    assert ExchangeCredential.objects.get().retired_at == NOW
    client.post(path, {"host": "", **bybit.MAIN})
    account.refresh_from_db()
    assert (account.retired_at, account.is_enabled, account.health_text) == (None, True, "Works.")
    assert account.open_secrets().api_key == bybit.MAIN["api_key"]
    tasks.refresh_credential(account.pk)
    assert account.runs.first().since == NOW - account.venue_type.overlap
    assert account.runs.first().outcome == "complete"
    assert account.fills.count() >= fills


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("which", ["account", "address"])
def test_adding_the_account_again_brings_it_back(request, client, which, verify, clock):
    stored: ExchangeCredential = request.getfixturevalue(which)
    holding.retire(stored, now=NOW)
    assert stored.fills.exists()
    clock.move(60)
    secrets = bybit.MAIN if which == "account" else {"address": DEMO_TRADER}
    wanted = {"venue": stored.venue, "label": "Again", "secrets": secrets, "verify": verify}
    response = client.post(API + "credentials/", wanted, content_type="application/json")
    if which == "account" and not verify:
        # Whose key it is was not asked: it is an account of its own, and the doctor finds the twin before it is read.
        assert response.json()["id"] != stored.pk
        tasks.refresh_credential(response.json()["id"], "user")
        assert "read twice, it would count twice" in ExchangeCredential.objects.get(label="Again").health_text
        return
    assert (response.status_code, response.json()["id"]) == (201, stored.pk)
    stored.refresh_from_db()
    assert (stored.label, stored.retired_at, stored.is_enabled) == ("Again", None, True)
    assert stored.open_secrets()
    again = client.post(API + "credentials/", wanted, content_type="application/json")
    assert "This account is here already, as “Again”." in again.content.decode()


def test_the_page_that_adds_an_address_brings_it_back_too(client, address):
    holding.retire(address, now=NOW)
    assert "Add its address again to read on." in address.health_text
    path = reverse("volume:add", args=["hyperliquid"])
    response = client.post(path, {"label": "Back", "address": DEMO_TRADER}, follow=True)
    assert said(response)[0].startswith("Hyperliquid · Back is back, with its history. Public address.")
    assert ExchangeCredential.objects.get(pk=address.pk).retired_at is None


def test_a_public_address_has_no_key_to_speak_of(client, address):
    assert said(act(client, address, "retire")) == [
        f"{address} is no longer read. What was read from it stays, and counts."
    ]


def test_another_owners_retired_account_is_not_brought_back(address, client):
    holding.retire(address, now=NOW)
    client.force_login(factories.user("eve"))
    wanted = {"venue": "hyperliquid", "label": "Mine", "secrets": {"address": DEMO_TRADER}}
    assert client.post(API + "credentials/", wanted, content_type="application/json").json()["id"] != address.pk
    address.refresh_from_db()
    assert address.retired_at == NOW


def test_the_page_of_a_retired_account_offers_only_what_is_left_to_do(client, account, address):
    for stored, way_back in ((account, f"/accounts/{account.pk}/key/"), (address, "/accounts/add/hyperliquid/")):
        holding.retire(stored, now=NOW)
        text = text_of(client.get(reverse("volume:remove", args=[stored.pk])))
        assert "/retire/" not in text
        assert way_back in text
        assert "What is kept goes:" in text
        assert f"/accounts/{stored.pk}/delete/" in text


def test_the_admin_resumes_no_account_without_a_key(client, account):
    holding.retire(account, now=NOW)
    path = reverse("admin:exchanges_exchangecredential_change", args=[account.pk])
    response = client.post(path, {"label": "Main", "is_enabled": "on", "is_backfilling": "on", "new_secrets": ""})
    assert response.context["adminform"].form.errors["is_enabled"] == [account.health_text]
    assert not ExchangeCredential.objects.get().is_enabled


# --- All of an account -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_retired", [False, True])
def test_an_account_goes_with_everything_and_another_stays(client, account, address, is_retired):
    if is_retired:
        holding.retire(account, now=NOW)
    others = kept(address)
    assert said(act(client, account, "delete")) == [f"{account} and everything read from it are removed."]
    assert ExchangeCredential.objects.get() == address
    assert kept(address) == others
    assert not Fill.objects.exclude(credential=address).exists()


def test_delete_by_the_api_removes_everything(client, account):
    assert client.delete(f"{API}credentials/{account.pk}/").status_code == 204
    assert not Fill.objects.exists()


# --- All of a person -------------------------------------------------------------------------------------------------


@pytest.fixture
def hers(sandbox: Sandbox) -> ExchangeCredential:
    made = factories.credential(
        owner=factories.user("eve"), label="Hers", secrets={"address": DEMO_SUB}, history_from=SINCE
    )
    refresh(made, now=NOW)
    Preferences.objects.create(owner=made.owner, counts_forced=True)
    return made


def rows_of(owner: Any) -> dict[str, int]:
    """How many rows there are of each kind that hangs on a person, however far."""
    found = {"credentials": ExchangeCredential.objects.filter(owner=owner).count()}
    for relation in ExchangeCredential._meta.related_objects:
        rows = relation.related_model._default_manager.filter(credential__owner=owner)
        found[relation.get_accessor_name() or ""] = rows.count()
    return found | {"preferences": Preferences.objects.filter(owner=owner).count()}


def test_your_data_says_what_is_stored_and_where_to_have_it(client, account, address):
    response = client.get(reverse("volume:data"))
    text = text_of(response)
    assert "<dt>Accounts</dt><dd>2</dd>" in text
    assert f"<dt>Fills</dt><dd>{Fill.objects.count():,}, from " in text
    assert 'href="/data/export/"' in text
    assert "Your sign-in and its API tokens stay" in text
    found = client.get(API + "data/").json()
    assert (found["accounts"], found["fills"]) == (2, Fill.objects.count())


def test_your_data_of_nobody_yet_is_no_error(client):
    assert "<dt>Fills</dt><dd>0</dd>" in text_of(client.get(reverse("volume:data")))
    assert client.get(API + "data/").json()["first_fill_at"] is None


def page_deletes(client: Client, name: str) -> bool:
    response = client.post(reverse("volume:data"), {"confirm": name}, follow=True)
    done = said(response) == ["All accounts and everything that was read from them are removed."]
    assert done or "Nothing is removed: type ada, the name you sign in with." in response.content.decode()
    return done


def api_deletes(client: Client, name: str) -> bool:
    response = client.delete(API + "data/", {"confirm": name}, content_type="application/json")
    assert response.status_code == 204 or list(response.json()["error"]["details"]) == ["confirm"]
    return bool(response.status_code == 204)


def command_deletes(client: Client, name: str) -> bool:
    try:
        call_command("delete_data", "--owner", name, "--yes")
    except CommandError:
        return False
    return True


@pytest.mark.parametrize("way", [page_deletes, api_deletes, command_deletes])
def test_everything_of_a_person_goes_and_nothing_of_anybody_else(client, ada, account, address, hers, way):
    holding.retire(address, now=NOW)
    ExchangeCredential.objects.filter(pk=account.pk).update(leased_until=NOW + timedelta(seconds=60))
    Preferences.objects.create(owner=ada, counts_forced=True)
    AssetPrice.objects.create(asset="HYPE", day=NOW.date(), usd=41, source="test")
    before, mine = rows_of(hers.owner), rows_of(ada)
    assert mine["fills"] and mine["days"] and mine["coverage"] and mine["runs"] and mine["preferences"]
    assert not way(client, "")
    assert not way(client, "nobody")
    assert rows_of(ada) == mine
    assert way(client, "ada")
    assert not any(rows_of(ada).values())
    assert rows_of(hers.owner) == before
    assert AssetPrice.objects.count() == 1
    ada.refresh_from_db()
    assert client.get(reverse("volume:data")).status_code == 200


def test_nobody_deletes_for_somebody_else(client, account, hers):
    assert not page_deletes(client, "eve")
    assert not api_deletes(client, "eve")
    assert rows_of(hers.owner)["fills"]
    assert rows_of(account.owner)["fills"]


def test_the_command_only_says_what_would_go_until_it_is_told_yes(account):
    with pytest.raises(
        CommandError, match=rf"Nothing is removed\. --yes removes 1 accounts, {Fill.objects.count():,} fills"
    ):
        call_command("delete_data", "--owner", "ada")
    assert Fill.objects.exists()


def test_a_person_can_be_gone_wholly_by_the_command_line_and_it_alone_tells(ada, account, hers, client):
    client.post("/you/tokens/", {"name": "bot", "scope": "read"})
    assert ada.audit_events.exists()
    call_command("delete_data", "--owner", "ada", "--sign-in-too", "--yes")
    assert not get_user_model().objects.filter(username="ada").exists()
    assert client.get("/you/").status_code == 302
    assert rows_of(hers.owner)["fills"]
    last = AuditEvent.objects.first()
    assert (last.owner, last.what, last.about) == (None, "person_removed", "ada")
    assert not AuditEvent.objects.filter(what="token_made").exists()


def test_a_reading_under_way_ends_when_everything_is_removed(account, clock):
    ExchangeCredential.objects.update(history_from=SINCE - timedelta(days=9))
    account.refresh_from_db()
    run = refresh(account, now=clock.now(), on_page=lambda run, page: holding.remove_all(account.owner_id) and None)
    assert run.outcome == "stopped"
    assert not ExchangeCredential.objects.exists()
    assert not Fill.objects.exists()


def test_what_is_overwritten_is_stored_sealed(account):
    holding.retire(account, now=NOW)
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM exchanges_exchangecredential")
        (stored,) = cursor.fetchone()
    assert stored.startswith("gAAAA")
