"""What an account's key is, and putting in a new one: by page and by API, by its owner alone, and never shown."""

from collections.abc import Callable
from datetime import datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from django.db import connection
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from exchanges.models import Coverage, ExchangeCredential, Fill, SyncRun
from exchanges.sandbox import Sandbox
from exchanges.sandbox import bybit as venue
from tests import factories
from tests.conftest import NOW
from volume.models import DailyVolume
from volume.refresh import refresh
from volume.tasks import refresh_due

pytestmark = pytest.mark.django_db

NEW = {"api_key": "EXAMPLEKEY00000NEW", "api_secret": "example-secret-not-real-put-in-anew1"}
OF_ALL = [NEW, venue.MAIN, venue.TRADING, venue.WITHDRAWING, venue.SUB]
WRONG_KEY = override_settings(SALT_KEY=["another salt, long enough to be one"])
INSIST = "To insist on this key, tick this as well."
AGAIN = "Secrets are never sent back to a page: enter the key once more."


@pytest.fixture(scope="module")
def browser() -> Client:
    """One for all tests: starting its middleware is most of a short test's time."""
    return Client()


@pytest.fixture
def ada() -> Any:
    return factories.user("ada")


@pytest.fixture
def client(browser: Client, ada: Any) -> Client:
    browser.cookies.clear()
    browser.force_login(ada)
    return browser


def held(owner: Any, secrets: dict[str, str] = venue.MAIN, **fields: Any) -> ExchangeCredential:
    """An account whose key the venue was asked about, with two days of history wanted."""
    since = timezone.now() - timedelta(days=2)
    made = factories.credential(
        "bybit", owner=owner, secrets=secrets, history_from=since, is_backfilling=True,
        allows_trading_key=secrets in (venue.TRADING, venue.WITHDRAWING), **fields,
    )  # fmt: skip
    refresh(made, now=timezone.now())
    made.refresh_from_db()
    return made


@pytest.fixture
def account(ada: Any, sandbox: Sandbox) -> ExchangeCredential:
    made = held(ada)
    assert made.health_state == "works", made.health_text
    return made


@pytest.fixture
def address(ada: Any, sandbox: Sandbox) -> ExchangeCredential:
    """An account at a venue that reads by a public address."""
    return factories.credential(owner=ada, label="Address")


def key_page(account: ExchangeCredential) -> str:
    return reverse("volume:key", args=[account.pk])


def put_in(client: Client, account: ExchangeCredential, secrets: dict[str, str], **more: Any) -> Any:
    return client.post(key_page(account), secrets | more, follow=True)


def patch(client: Client, account: ExchangeCredential, **values: Any) -> Any:
    return client.patch(f"/api/v1/credentials/{account.pk}/", values, content_type="application/json")


def by_page(client: Client, account: ExchangeCredential, secrets: dict[str, str], *, insist: bool = False) -> str:
    """Puts a key in on the page. Returns the page's complaints, or nothing."""
    response = put_in(client, account, secrets, **({"allow_trading_key": "on"} if insist else {}))
    assert response.status_code == 200
    return " ".join(complaints(response)) if "form" in response.context else ""


def by_api(client: Client, account: ExchangeCredential, secrets: dict[str, str], *, insist: bool = False) -> str:
    response = patch(client, account, secrets=secrets, **({"allow_trading_key": True} if insist else {}))
    if response.status_code == 200:
        assert "secrets" not in response.json()
        return ""
    error = response.json()["error"]
    if response.status_code == 503:
        return str(error["message"])
    assert (response.status_code, error["code"], list(error["details"])) == (400, "invalid", ["secrets"])
    return " ".join(error["details"]["secrets"])


WAYS = [by_page, by_api]
Way = Callable[..., str]


def complaints(response: Any) -> list[str]:
    return [text for texts in response.context["form"].errors.values() for text in texts]


def said(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def text_of(response: Any) -> str:
    """What is read on a page, without its tags."""

    class Reader(HTMLParser):
        words: list[str] = []

        def handle_data(self, data: str) -> None:
            self.words.append(data)

    reader = Reader()
    reader.words = []
    reader.feed(response.content.decode())
    return " ".join(" ".join(reader.words).split())


def account_page(client: Client, account: ExchangeCredential) -> Any:
    response = client.get(reverse("volume:account", args=[account.pk]))
    assert response.status_code == 200
    return response


def add(client: Client, **values: str) -> Any:
    return client.post(reverse("volume:add", args=["bybit"]), {"label": "Main", "host": ""} | values, follow=True)


def give_key(sandbox: Sandbox, secrets: dict[str, str] = NEW, **fields: Any) -> None:
    """The owner makes a new key at the venue; all earlier ones of the account are gone."""
    known = sandbox.bybit.accounts[venue.MAIN_UID]
    known.keys = (venue.Key(secrets, ips=(venue.LOCAL,), created_at=sandbox.bybit.now(), **fields),)
    known.is_revoked = False


def ciphertexts() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM exchanges_exchangecredential")
        return [row[0] for row in cursor.fetchall()]


def assert_silent(response: Any) -> None:
    """Neither a key nor what is stored of one is in an answer."""
    html = unescape(response.content.decode())
    for secret in [value for secrets in OF_ALL for value in secrets.values()] + ciphertexts():
        assert secret not in html


# --- A revoked key, and a new one ------------------------------------------------------------------------------------


def requests_of_a_round(sandbox: Sandbox) -> int:
    before = len(sandbox.bybit.requests)
    refresh_due()
    return len(sandbox.bybit.requests) - before


@pytest.mark.parametrize("way", WAYS)
def test_a_revoked_key_stops_being_tried_until_a_new_one_is_put_in(client, account, sandbox, clock, way):
    fills, read_until = Fill.objects.count(), account.fresh_at
    assert fills
    sandbox.bybit.revoke(venue.MAIN_UID)
    clock.move(3600)
    refresh(account, now=clock.now())
    account.refresh_from_db()
    assert (account.health_state, account.health_reason) == ("rejected", "revoked")
    clock.move(86400)
    assert requests_of_a_round(sandbox) == 0

    give_key(sandbox)
    assert way(client, account, NEW) == ""
    account.refresh_from_db()
    assert (account.health_state, account.health_reason, account.health_text) == ("works", "", "Works.")
    assert (account.due_at, account.failures) == (clock.now(), 0)
    assert account.open_secrets().api_key == NEW["api_key"]

    refresh(account, now=clock.now())
    run = account.runs.first()
    assert (run.outcome, run.since) == (SyncRun.Outcome.COMPLETE, read_until - account.venue_type.overlap)
    truth = sandbox.bybit.truth(venue.MAIN_UID, account.history_from, clock.now())
    found = {(row.day, row.symbol): (row.fills, row.notional_usd) for row in DailyVolume.objects.all()}
    assert found == {key: (day.fills, day.notional) for key, day in truth.items()}
    assert fills < Fill.objects.count()
    assert run.new == Fill.objects.count() - fills


@pytest.mark.parametrize("way", WAYS)
def test_the_ledger_name_and_work_of_the_account_stay(client, account, way):
    ExchangeCredential.objects.update(is_backfilling=False, label="Renamed meanwhile")
    columns = ("label", "history_from", "is_backfilling", "is_enabled", "fresh_at", "account_ref")
    before = ExchangeCredential.objects.values(*columns).get(), list(Coverage.objects.values())
    assert way(client, account, venue.MAIN) == ""
    assert (ExchangeCredential.objects.values(*columns).get(), list(Coverage.objects.values())) == before


@pytest.mark.parametrize("way", WAYS)
def test_the_key_of_another_account_is_refused_and_the_stored_one_stays(client, account, way):
    says = f"This key is of another account ({venue.SUB_UID}). Add that one on its own."
    assert way(client, account, venue.SUB) == says
    account.refresh_from_db()
    assert account.account_ref == venue.MAIN_UID
    assert account.open_secrets().api_key == venue.MAIN["api_key"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("secrets", "says"),
    [
        (NEW, "does not know this key"),
        (venue.MAIN | {"api_secret": NEW["api_secret"]}, "does not belong to this API key"),
        (venue.EXPIRED, "has expired"),
        (venue.OTHER_IP, "bound to other IP addresses"),
        (venue.SPOT_ONLY, "may not read contract fills"),
        (venue.MAIN | {"host": "api.example.com"}, ""),
        ({"api_key": "one"}, ""),
    ],
)
def test_a_key_that_does_not_do_is_refused_with_a_sentence(client, account, way, secrets, says):
    refused = way(client, account, secrets)
    assert refused and says in refused
    account.refresh_from_db()
    assert account.open_secrets().api_key == venue.MAIN["api_key"]
    assert account.health_state == "works"


@pytest.mark.parametrize("way", WAYS)
def test_a_venue_that_is_down_takes_no_key_and_says_so(client, account, sandbox, way):
    sandbox.bybit.fail(status=502)
    assert "trouble of its own" in way(client, account, venue.MAIN)
    account.refresh_from_db()
    assert account.health_state == "works"


@pytest.mark.parametrize("way", WAYS)
def test_a_key_that_can_trade_is_refused_unless_insisted_on_and_forgotten_with_the_next(client, account, way):
    assert "This key can trade." in way(client, account, venue.TRADING)
    account.refresh_from_db()
    assert (account.may_trade, account.allows_trading_key) == (False, False)
    assert way(client, account, venue.TRADING, insist=True) == ""
    account.refresh_from_db()
    assert (account.may_trade, account.allows_trading_key) == (True, True)
    assert way(client, account, venue.MAIN) == ""
    account.refresh_from_db()
    assert (account.may_trade, account.allows_trading_key) == (False, False)


@pytest.mark.parametrize("way", WAYS)
def test_a_new_key_heals_an_account_whose_secrets_cannot_be_read(client, account, way):
    with WRONG_KEY:
        client.post(reverse("volume:act", args=[account.pk, "verify"]))
        account.refresh_from_db()
        assert account.health_state == "unreadable"
        assert client.get(key_page(account)).status_code == 200
        assert account_page(client, account).status_code == 200
        assert way(client, account, venue.MAIN) == ""
        account.refresh_from_db()
        assert account.open_secrets().api_key == venue.MAIN["api_key"]
        assert account.health_state == "works"


@pytest.mark.parametrize("way", WAYS)
def test_a_paused_account_takes_a_key_and_stays_paused(client, account, way):
    ExchangeCredential.objects.update(is_enabled=False)
    assert way(client, account, venue.MAIN) == ""
    account.refresh_from_db()
    assert not account.is_enabled


@pytest.mark.parametrize("way", WAYS)
def test_a_key_of_an_account_that_is_here_already_is_refused_by_its_name(client, account, ada, way):
    unverified = factories.credential("bybit", owner=ada, label="Twin", secrets=NEW)
    assert way(client, unverified, venue.MAIN).startswith("This account is here already, as “Main”")
    unverified.refresh_from_db()
    assert unverified.open_secrets().api_key == NEW["api_key"]


# --- Whose it is -----------------------------------------------------------------------------------------------------


def test_the_account_of_another_owner_does_not_exist(client, sandbox):
    hers = held(factories.user("eve"))
    before = ExchangeCredential.objects.values().get(pk=hers.pk)
    assert client.get(key_page(hers)).status_code == 404
    assert put_in(client, hers, venue.MAIN).status_code == 404
    assert patch(client, hers, secrets=venue.MAIN).status_code == 404
    after = ExchangeCredential.objects.values().get(pk=hers.pk)
    assert {name: value for name, value in after.items() if name != "secrets"} == {
        name: value for name, value in before.items() if name != "secrets"
    }
    assert hers.open_secrets().api_key == venue.MAIN["api_key"]


def test_nobody_gets_to_the_page_without_signing_in(browser, account):
    browser.cookies.clear()
    response = browser.get(key_page(account))
    assert (response.status_code, response["Location"]) == (302, f"/sign-in/?next={key_page(account)}")


def test_an_address_is_the_account_so_there_is_no_key_to_replace(client, address):
    assert client.get(key_page(address)).status_code == 404
    assert put_in(client, address, {"address": "0x"}).status_code == 404
    assert key_page(address) not in account_page(client, address).content.decode()


# --- The page --------------------------------------------------------------------------------------------------------


def test_what_is_public_is_filled_in_and_what_is_secret_is_not(client, account, sandbox, ada):
    stored = held(ada, venue.TESTNET | {"host": "api-testnet.bybit.com"}, label="Testnet")
    response = client.get(key_page(stored))
    form = response.context["form"]
    assert form["host"].value() == "api-testnet.bybit.com"
    assert "label" not in form.fields
    assert not form["api_key"].value() and not form["api_secret"].value()
    for secret in venue.TESTNET.values():
        assert secret not in response.content.decode()
    for step in stored.venue_type.key_steps:
        assert unescape(step) in unescape(response.content.decode())


def test_the_page_says_that_reading_goes_on(client, account):
    response = put_in(client, account, venue.MAIN)
    assert response.redirect_chain == [(reverse("volume:account", args=[account.pk]), 302)]
    assert said(response) == [f"{account} has its new key. Reading goes on from where it stopped."]
    ExchangeCredential.objects.update(is_enabled=False)
    assert said(put_in(client, account, venue.MAIN)) == [f"{account} has its new key. It is still paused."]


@pytest.mark.parametrize(
    ("state", "is_primary"), [("works", False), ("unavailable", False), ("rejected", True), ("unreadable", True)]
)
def test_the_account_page_leads_there_and_more_so_when_the_key_is_what_is_wrong(client, account, state, is_primary):
    ExchangeCredential.objects.update(health_state=state)
    html = account_page(client, account).content.decode()
    assert html.count(key_page(account)) == 1
    assert (f'<a class="button primary" href="{key_page(account)}">' in html) == is_primary


def test_every_field_has_a_label_and_its_error_and_help_are_tied_to_it(client, account):
    for response in (put_in(client, account, {"api_key": "", "api_secret": "", "host": "nowhere"}), add(client)):
        html = response.content.decode()
        for field in response.context["form"]:
            assert f'<label for="{field.id_for_label}"' in html or f'for="{field.id_for_label}">' in html
            described = str(field.field.widget.attrs.get("aria-describedby") or field.aria_describedby or "").split()
            assert described
            for name in described:
                assert f'id="{name}"' in html
            if field.errors:
                assert 'aria-invalid="true"' in str(field)
                assert f"{field.auto_id}_error" in described


def test_what_a_refused_form_may_keep_is_kept_and_secrets_never(client, sandbox):
    response = add(client, **venue.TRADING, label="Bot", host="")
    form = response.context["form"]
    assert (form["label"].value(), form["host"].value()) == ("Bot", "")
    assert_silent(response)
    assert form.errors["allow_trading_key"] == [INSIST]
    assert not ExchangeCredential.objects.exists()
    assert INSIST in text_of(response)
    assert AGAIN in text_of(response)


def test_a_form_that_lacks_something_says_so_first(client, sandbox, ada):
    response = add(client, label="", api_key="", api_secret="")
    assert "Something is missing or wrong. It is said below, beside its field." in text_of(response)
    response = client.post(reverse("volume:add", args=["hyperliquid"]), {"label": "", "address": "0x1"})
    assert "Something is missing or wrong." in text_of(response)
    assert AGAIN not in text_of(response)


def test_a_refusal_for_another_reason_says_nothing_of_insisting(client, sandbox):
    response = add(client, **venue.SPOT_ONLY)
    assert list(response.context["form"].errors) == ["__all__"]
    assert INSIST not in text_of(response)


def test_a_key_that_can_trade_is_added_when_insisted_on(client, sandbox):
    response = add(client, **venue.WITHDRAWING, allow_trading_key="on")
    made = ExchangeCredential.objects.get()
    assert (made.may_trade, made.may_withdraw) == (True, True)
    assert "This key can trade and withdraw." in text_of(response)


def test_the_site_is_chosen_from_those_the_venue_has(client, sandbox):
    html = client.get(reverse("volume:add", args=["bybit"])).content.decode()
    assert '<select name="host"' in html
    assert '<option value="api-testnet.bybit.com">Testnet</option>' in html
    response = add(client, **venue.TESTNET, host="api-testnet.bybit.com")
    assert ExchangeCredential.objects.get().open_secrets().host == "api-testnet.bybit.com"
    assert_silent(response)


def test_where_one_of_several_keys_will_do_none_is_called_optional(client, sandbox):
    assert "(optional)" not in text_of(client.get(reverse("volume:add", args=["paradex"])))
    assert "Application ID (optional)" in text_of(client.get(reverse("volume:add", args=["woox"])))


def test_an_address_may_fill_in_the_site_but_no_secret(client, sandbox):
    query = {"host": "api-demo.bybit.com", "label": "Demo", "api_key": "EXAMPLEKEY", "api_secret": "hunter2"}
    response = client.get(reverse("volume:add", args=["bybit"]), query)
    form = response.context["form"]
    assert (form["host"].value(), form["label"].value()) == ("api-demo.bybit.com", "Demo")
    assert "hunter2" not in response.content.decode()


# --- What it is, may do, and when it dies ----------------------------------------------------------------------------


def row_of_the_key(client: Client, account: ExchangeCredential) -> str:
    words = text_of(account_page(client, account)).split(" Checked ")[0]
    return words.rsplit(" Key ", 1)[1]


@pytest.mark.parametrize(
    ("secrets", "mark"),
    [(venue.MAIN, ""), (venue.TRADING, "can trade"), (venue.WITHDRAWING, "can trade and withdraw")],
)
def test_what_a_key_can_do_stays_visible(client, ada, sandbox, secrets, mark):
    account = held(ada, secrets)
    assert row_of_the_key(client, account).startswith(mark or "read only")
    for page in (reverse("volume:accounts"), reverse("volume:dashboard"), reverse("volume:account", args=[account.pk])):
        words = text_of(client.get(page))
        assert ("This key can" in words) == bool(mark)
        assert not mark or f"This key {mark}." in words
    body = client.get(f"/api/v1/credentials/{account.pk}/").json()
    assert (body["may_trade"], body["may_withdraw"]) == ("trade" in mark, "withdraw" in mark)
    (shown,) = client.get("/api/v1/volume/summary/").json()["accounts"]
    assert (shown["may_trade"], shown["may_withdraw"]) == (body["may_trade"], body["may_withdraw"])


def test_a_key_that_was_given_powers_later_is_not_called_read_only(client, account, sandbox, clock):
    give_key(sandbox, venue.MAIN, read_only=False)
    client.post(reverse("volume:act", args=[account.pk, "verify"]))
    account.refresh_from_db()
    assert account.health_reason == "can_trade"
    assert row_of_the_key(client, account) == "can do more than read"


@pytest.mark.parametrize(
    ("left", "words", "is_warned"),
    [
        (timedelta(days=60, hours=3), "expires 2027-01-20, in 60 days", False),
        (timedelta(days=14), "expires 2026-12-05, in 14 days", False),
        (timedelta(days=14, seconds=-1), "expires 2026-12-05, in 13 days", True),
        (timedelta(days=1, hours=5), "expires 2026-11-22, in 1 day", True),
        (timedelta(hours=5), "expires 2026-11-21, in less than a day", True),
        (timedelta(0), "expired 2026-11-21", True),
        (timedelta(days=-3), "expired 2026-11-18", True),
    ],
)
def test_when_a_key_dies_is_said_and_warned_of_two_weeks_ahead(client, account, clock, left, words, is_warned):
    ExchangeCredential.objects.update(expires_at=clock.now() + left)
    response = account_page(client, account)
    assert row_of_the_key(client, account) == f"read only · {words}"
    html = response.content.decode()
    assert (f'<span class="lack">{words}</span>' in html) == is_warned
    assert ("data-dying" in html, 'data-tone="warn"' in html) == (is_warned, is_warned)
    assert (f'<a class="button primary" href="{key_page(account)}">' in html) == is_warned


def test_a_key_without_an_end_is_said_to_have_none(client, account):
    assert account.expires_at is None
    assert row_of_the_key(client, account) == "read only"


def test_the_end_of_a_key_is_told_by_the_api_too(client, ada, sandbox):
    account = held(ada, venue.EXPIRING)
    body = client.get(f"/api/v1/credentials/{account.pk}/").json()
    assert datetime.fromisoformat(body["expires_at"]) == account.expires_at == NOW + timedelta(days=10)
    (shown,) = client.get("/api/v1/volume/summary/").json()["accounts"]
    assert datetime.fromisoformat(shown["expires_at"]) == account.expires_at


def test_why_a_key_does_not_do_is_told_by_the_api(client, account, sandbox):
    sandbox.bybit.revoke(venue.MAIN_UID)
    body = client.post(f"/api/v1/credentials/{account.pk}/verify/").json()
    assert (body["health"]["state"], body["health"]["reason"]) == ("rejected", "revoked")
    assert body["health"]["text"].startswith("This key worked on 2026-11-21 and no longer does.")
    (shown,) = client.get("/api/v1/volume/summary/").json()["accounts"]
    assert shown["health"]["reason"] == "revoked"


def test_an_address_has_no_key_to_speak_of(client, address, clock):
    refresh(address, now=clock.now())
    assert " Key " not in text_of(account_page(client, address))


def test_related_accounts_without_an_address_need_a_key_of_their_own(client, account):
    ExchangeCredential.objects.update(related=[{"label": "grid & co", "values": {}}])
    response = account_page(client, account)
    assert "grid & co needs a key of its own Add grid & co" in text_of(response)
    assert f'href="{reverse("volume:add", args=["bybit"])}?label=grid+%26+co"' in response.content.decode()


# --- The API ---------------------------------------------------------------------------------------------------------


def test_a_key_and_a_name_change_together_or_not_at_all(client, account):
    assert patch(client, account, label="Desk", secrets=NEW).status_code == 400
    account.refresh_from_db()
    assert account.label == "Main"
    body = patch(client, account, label="Desk", is_enabled=False, secrets=venue.MAIN).json()
    assert (body["label"], body["is_enabled"], body["health"]["state"]) == ("Desk", False, "works")


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"allow_trading_key": True}, "allow_trading_key", "Send it along with the secrets of the key."),
        ({"verify": False, "secrets": venue.MAIN}, "verify", "Can't be changed"),
        ({"venue": "hyperliquid"}, "venue", "Can't be changed"),
        ({"secrets": {}}, "secrets", "Missing: api_key, api_secret."),
        ({"secrets": venue.MAIN | {"pin": "hunter2"}}, "secrets", "Not known here: pin."),
        ({"secrets": "hunter2"}, "secrets", "Expected a dictionary"),
        ({"secrets": None}, "secrets", "may not be null"),
    ],
)
def test_what_cannot_be_put_in_is_told_field_by_field(client, account, values, field, says):
    response = patch(client, account, **values)
    error = response.json()["error"]
    assert (response.status_code, error["code"], list(error["details"])) == (400, "invalid", [field])
    assert says in str(error["details"][field])
    assert "hunter2" not in response.content.decode()
    assert account.open_secrets().api_key == venue.MAIN["api_key"]


def test_the_choices_of_a_field_are_listed(client):
    rows = client.get("/api/v1/venues/").json()["results"]
    fields = {field["name"]: field for row in rows if row["venue"] == "bybit" for field in row["secrets"]}
    assert {"value": "", "label": "bybit.com"} in fields["host"]["choices"]
    assert {"value": "api-testnet.bybit.com", "label": "Testnet"} in fields["host"]["choices"]
    assert fields["api_key"]["choices"] == []


def test_fills_taken_back_are_told_of_a_run(client, account):
    run = account.runs.get()
    assert "taken back" not in text_of(account_page(client, account))
    assert client.get("/api/v1/runs/").json()["results"][0]["retracted"] == 0
    SyncRun.objects.filter(pk=run.pk).update(retracted=2)
    assert "2 taken back" in text_of(account_page(client, account))
    assert client.get("/api/v1/runs/").json()["results"][0]["retracted"] == 2


def test_a_quiet_poll_that_took_something_back_is_not_left_out(client, account):
    account.runs.update(trigger="schedule", outcome="complete", new=0, held=0, retracted=0)
    assert "taken back" not in text_of(account_page(client, account))
    account.runs.update(retracted=1)
    assert "1 taken back" in text_of(account_page(client, account))


# --- Silence ---------------------------------------------------------------------------------------------------------


def test_no_answer_page_or_message_holds_a_secret(client, account, sandbox):
    pages = [reverse(f"volume:{name}") for name in ("dashboard", "accounts", "choose-venue")]
    pages += [key_page(account), reverse("volume:account", args=[account.pk])]
    for secrets in (NEW, venue.TRADING, venue.SUB, venue.MAIN):
        assert_silent(put_in(client, account, secrets))
        assert_silent(patch(client, account, secrets=secrets))
        assert_silent(add(client, **secrets))
    assert_silent(put_in(client, account, {"api_key": NEW["api_key"]}))
    assert_silent(patch(client, account, secrets={"api_key": NEW["api_key"]}))
    sandbox.bybit.revoke(venue.MAIN_UID)
    assert_silent(client.post(reverse("volume:act", args=[account.pk, "verify"]), follow=True))
    for page in [*pages, "/api/v1/credentials/", "/api/v1/runs/", "/api/v1/volume/summary/"]:
        assert_silent(client.get(page))


# --- Choosing a venue ------------------------------------------------------------------------------------------------


def test_each_venue_says_what_it_needs(client):
    words = text_of(client.get(reverse("volume:choose-venue")))
    assert "Bybit A read-only key Bybit keeps" in words
    assert "Hyperliquid A public address, no key Hyperliquid keeps" in words


def test_a_name_that_is_not_known_is_refused_instead_of_passed_over(client: Client, account: Any) -> None:
    answer = patch(client, account, secret={"api_key": "x"})
    assert answer.status_code == 400
    assert "Not known here." in str(answer.json())


def test_the_key_of_an_account_that_is_here_too_is_told_as_one_of_another_account(
    client: Client, account: Any, ada: Any
) -> None:
    factories.credential("bybit", owner=ada, label="Sub", secrets=dict(venue.SUB), account_ref=venue.SUB_UID)
    ExchangeCredential.objects.filter(label="Sub").update(account_ref=venue.SUB_UID)
    complaint = by_page(client, account, venue.SUB)
    assert f"This key is of another account ({venue.SUB_UID})" in complaint
    assert "Remove" not in complaint
