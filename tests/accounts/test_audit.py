"""The log of what was done: what is in it, what never is, who reads it, and that it stops nothing."""

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from allauth.account import signals as account_signals
from allauth.mfa import signals as mfa_signals
from allauth.mfa.models import Authenticator
from django.contrib.auth import authenticate
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.audit import SENTENCES, forget, note, sentence
from accounts.current import current_request
from accounts.management.commands.sign_in_link import link_for
from accounts.models import ApiToken, AuditEvent, User
from exchanges.sandbox.hyperliquid import DEMO_TRADER
from tests import factories
from volume import holding

pytestmark = pytest.mark.django_db

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
LOG = "/you/log/"
API_LOG = "/api/v1/audit/"


@pytest.fixture
def ada() -> Any:
    return factories.user("ada", password="!")


@pytest.fixture
def page(ada: Any) -> Client:
    """Ada's browser, at an address of its own."""
    client = Client(REMOTE_ADDR="203.0.113.7", headers={"User-Agent": FIREFOX})
    client.force_login(ada)
    AuditEvent.objects.all().delete()  # that she joined and came in
    return client


@pytest.fixture
def account(ada: Any, sandbox: Any) -> Any:
    return factories.credential(owner=ada)


def done(**whose: Any) -> list[str]:
    """What is in the log, oldest first."""
    return [event.what for event in AuditEvent.objects.filter(**whose).order_by("pk")]


def said() -> list[str]:
    return [sentence(event) for event in AuditEvent.objects.order_by("pk")]


# --- Who, how, from where --------------------------------------------------------------------------------------------


def test_an_act_on_the_page_says_from_where_and_with_what(page, account):
    page.post(f"/accounts/{account.pk}/pause/")
    event = AuditEvent.objects.get()
    assert (event.owner, event.actor, event.way, event.token) == (account.owner, "ada", "page", "")
    assert (event.what, event.about, event.address) == ("account_paused", "Hyperliquid · Main", "203.0.113.7")
    assert said() == ["Hyperliquid · Main paused, on the page, from 203.0.113.7 with Firefox on Linux"]


def test_an_act_of_a_program_names_its_token(ada, account):
    text = ApiToken.issue(ada, "bot", ApiToken.Scope.MANAGE)
    client = Client(headers={"Authorization": f"Bearer {text}", "User-Agent": "trader/1.0"})
    AuditEvent.objects.all().delete()
    client.patch(f"/api/v1/credentials/{account.pk}/", {"is_enabled": False}, content_type="application/json")
    assert said() == ["Hyperliquid · Main paused, over the API with the token bot, from 127.0.0.1 with “trader/1.0”"]


def test_an_act_from_the_command_line_is_nobodys_and_from_nowhere(ada):
    AuditEvent.objects.all().delete()
    call_command("create_token", "--owner", "ada", "--name", "bot", stdout=io.StringIO())
    event = AuditEvent.objects.get()
    assert (event.way, event.actor, event.address, event.client) == ("command", "", None, "")
    assert said() == ["API token bot made, from the command line"]


def test_what_another_did_to_somebody_names_them(page, ada):
    eve = factories.user("eve")
    User.objects.filter(pk=ada.pk).update(is_superuser=True, is_staff=True)
    AuditEvent.objects.all().delete()
    page.post(reverse("accounts:shut-out", args=[eve.pk]))
    (event,) = AuditEvent.objects.all()
    assert (event.owner, event.actor) == (eve, "ada")
    assert sentence(event).startswith("eve shut out, by ada on the page, from 203.0.113.7")


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "198.51.100.1", "203.0.113.7"),
        (1, "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        (2, "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        (2, "198.51.100.1", "198.51.100.1"),
        (1, "", "203.0.113.7"),
        (1, "nonsense", None),
    ],
)
def test_an_address_is_believed_as_far_as_our_proxies_tell_it(page, settings, proxies, forwarded, address):
    settings.PROXIES = proxies
    page.post("/settings/", {"counts_forced": "on"}, headers={"X-Forwarded-For": forwarded})
    assert AuditEvent.objects.get().address == address


def test_after_a_request_nobody_is_asking_any_more(page):
    page.get(LOG)
    assert current_request.get() is None


# --- What is in it ---------------------------------------------------------------------------------------------------


def test_the_life_of_an_account_is_in_the_log(page, ada, sandbox):
    credential = holding.add(
        ada, "hyperliquid", "Main", factories.credential(owner=factories.user("eve")).open_secrets(),
        now=timezone.now(), verify=False,
    )  # fmt: skip
    for action, values in {
        "pause": {}, "resume": {}, "rename": {"label": "Second"}, "retire": {}, "delete": {}
    }.items():  # fmt: skip
        page.post(f"/accounts/{credential.pk}/{action}/", values)
    assert done(owner=ada) == [
        "account_added", "account_paused", "account_resumed", "account_renamed", "account_retired", "account_removed",
    ]  # fmt: skip
    assert "Renamed: Hyperliquid · Main to Second" in " ".join(said())


def test_a_key_that_is_replaced_or_insisted_on_is_in_the_log(page, account):
    holding.take_key(account, account.open_secrets(), now=timezone.now(), allow_trading_key=True)
    assert done() == ["key_replaced", "trading_key_allowed"]


def test_settings_that_change_are_in_the_log_and_others_not(page):
    page.post("/settings/", {"counts_forced": "on"})
    page.post("/settings/", {"counts_forced": "on"})
    assert [event.about for event in AuditEvent.objects.all()] == ["count liquidations and auto-deleveraging on"]


def test_exports_and_deletions_are_in_the_log(page, account, tmp_path):
    page.get("/data/export/")
    page.get("/api/v1/export/")
    call_command("export_data", "--owner", "ada", "--output", str(tmp_path / "all.zip"))
    page.post("/data/", {"confirm": "ada"})
    assert done() == ["exported", "exported", "exported", "data_deleted"]
    assert list(AuditEvent.objects.values_list("way", flat=True))[::-1] == ["page", "api", "command", "page"]


def test_tokens_made_and_revoked_are_in_the_log(page, ada):
    page.post("/you/tokens/", {"name": "bot", "scope": "read"})
    page.post(reverse("accounts:revoke-token", args=[ada.api_tokens.get().pk]))
    assert [sentence.split(",")[0] for sentence in said()] == ["API token bot made", "API token bot revoked"]


def test_what_concerns_the_whole_installation_is_in_the_log(ada, tmp_path):
    AuditEvent.objects.all().delete()
    call_command("rotate_secrets", stdout=io.StringIO())
    assert said() == ["Secrets put under the newest key: 0 renewed, 0 unreadable, from the command line"]
    assert AuditEvent.objects.get().owner is None


@pytest.mark.django_db(transaction=True)
def test_a_backup_is_in_the_log(ada, tmp_path: Path):
    call_command("backup", str(tmp_path / "perpdash.backup"), stdout=io.StringIO())
    assert said()[-1] == "Backup written to perpdash.backup, from the command line"


# --- Getting in ------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_password(ada: Any) -> Any:
    ada.set_password(factories.PASSWORD)
    ada.save()
    AuditEvent.objects.all().delete()
    return ada


def sign_in(name: str, password: str) -> Client:
    client = Client(REMOTE_ADDR="203.0.113.9", headers={"User-Agent": FIREFOX})
    client.post("/sign-in/", {"login": name, "username": name, "password": password})
    return client


def test_signing_in_and_out_is_in_the_log(with_password):
    client = sign_in("ada", factories.PASSWORD)
    client.post("/sign-out/")
    assert said() == [
        "Signed in (password), on the page, from 203.0.113.9 with Firefox on Linux",
        "Signed out, on the page, from 203.0.113.9 with Firefox on Linux",
    ]
    assert set(AuditEvent.objects.values_list("owner", "actor")) == {(with_password.pk, "ada")}


@pytest.mark.parametrize("name", ["ada", "ADA"])
def test_a_failure_under_a_known_name_is_shown_to_whose_it_is(with_password, name):
    sign_in(name, "hunter2")
    event = AuditEvent.objects.get()
    assert (event.owner, event.actor, event.what, event.about) == (with_password, "", "sign_in_failed", "")
    assert sentence(event) == "Sign-in failed, on the page, from 203.0.113.9 with Firefox on Linux"


def test_what_was_typed_as_a_name_nobody_has_is_not_kept(with_password):
    sign_in("my password by mistake", "hunter2")
    event = AuditEvent.objects.get()
    assert (event.owner, event.what, event.about) == (None, "sign_in_failed", "unknown name")
    everything = str(list(AuditEvent.objects.values()))
    assert "mistake" not in everything and "hunter2" not in everything


def test_failures_without_a_page_are_noted_as_well(with_password):
    authenticate(None, username="ada", password="hunter2")
    assert done(owner=with_password) == ["sign_in_failed"]


def test_joining_is_in_the_log():
    Client().post("/welcome/", {"username": "ada", "password1": factories.PASSWORD, "password2": factories.PASSWORD})
    assert done(owner=User.objects.get())[:2] == ["joined", "signed_in"]


def test_a_changed_password_is_in_the_log(with_password):
    client, other = sign_in("ada", factories.PASSWORD), "another horse battery staple"
    values = {"oldpassword": factories.PASSWORD, "password1": other, "password2": other}
    client.post(reverse("account_change_password"), values)
    assert done(owner=with_password)[-1] == "password_changed"
    assert "horse" not in str(list(AuditEvent.objects.values()))


def test_a_password_guessed_in_an_open_session_is_in_the_log(with_password):
    client, other = sign_in("ada", factories.PASSWORD), "another horse battery staple"
    client.post("/you/password/", {"oldpassword": "hunter2", "password1": other, "password2": other})
    client.post("/you/confirm/", {"password": "hunter3"})
    assert [words.split(",")[0] for words in said()[1:]] == ["Confirming the password failed"] * 2
    assert set(AuditEvent.objects.values_list("owner", "actor")) == {(with_password.pk, "ada")}
    assert "hunter" not in str(list(AuditEvent.objects.values()))


def test_changes_of_second_factors_are_in_the_log(ada):
    AuditEvent.objects.all().delete()
    factor = Authenticator(user=ada, type=Authenticator.Type.TOTP, data={"secret": "planted"})
    for signal in (
        mfa_signals.authenticator_added, mfa_signals.authenticator_removed, mfa_signals.authenticator_reset,
        mfa_signals.authentication_failed, account_signals.password_reset,
    ):  # fmt: skip
        signal.send(sender=User, request=None, user=ada, authenticator=factor)
    assert [sentence.split(",")[0] for sentence in said()] == [
        "Authenticator app added", "Authenticator app removed", "Authenticator app made anew",
        "Second step of the sign-in failed", "Password reset by mail",
    ]  # fmt: skip
    assert "planted" not in str(list(AuditEvent.objects.values()))


# --- The admin -------------------------------------------------------------------------------------------------------


@pytest.fixture
def admin(page: Client, ada: Any) -> Client:
    User.objects.filter(pk=ada.pk).update(is_superuser=True, is_staff=True)
    return page


def test_what_an_admin_changes_is_in_the_log_of_whose_it_is(admin):
    eve = factories.user("eve")
    AuditEvent.objects.all().delete()
    values = {"username": "eve", "email": "", "date_joined_0": "2026-01-01", "date_joined_1": "00:00"}
    admin.post(reverse("admin:accounts_user_change", args=[eve.pk]), values)
    (event,) = AuditEvent.objects.all()
    assert (event.owner, event.actor, event.way, event.what) == (eve, "ada", "admin", "admin_changed")
    assert event.about == "user eve: Changed Active and Date joined."


def test_many_removed_at_once_are_noted_one_by_one(admin, ada):
    for name in ("one", "two"):
        ApiToken.issue(ada, name)
    numbers = list(ada.api_tokens.values_list("pk", flat=True))
    values = {"action": "delete_selected", "_selected_action": numbers, "post": "yes"}
    admin.post(reverse("admin:accounts_apitoken_changelist"), values)
    assert not ada.api_tokens.exists()
    assert sorted(AuditEvent.objects.values_list("what", "about")) == [
        ("admin_removed", "api token one"), ("admin_removed", "api token two"),
    ]  # fmt: skip


def test_an_account_that_is_removed_in_the_admin_is_noted_once(admin, account):
    admin.post(reverse("admin:exchanges_exchangecredential_delete", args=[account.pk]), {"post": "yes"})
    assert done(owner=account.owner) == ["account_removed"]


def test_nobody_is_removed_in_the_admin_as_the_log_would_go_with_them(admin, ada):
    eve = factories.user("eve")
    note(eve.pk, "exported")
    assert admin.post(reverse("admin:accounts_user_delete", args=[eve.pk]), {"post": "yes"}).status_code == 403
    values = {"action": "delete_selected", "_selected_action": [eve.pk], "post": "yes"}
    admin.post(reverse("admin:accounts_user_changelist"), values)
    assert "exported" in done(owner=eve)


def test_a_password_set_in_the_admin_is_in_the_log_of_whose_it_is(admin, ada):
    eve = factories.user("eve")
    AuditEvent.objects.all().delete()
    values = {"password1": factories.PASSWORD, "password2": factories.PASSWORD, "usable_password": "true"}
    admin.post(reverse("admin:auth_user_password_change", args=[eve.pk]), values)
    eve.refresh_from_db()
    assert eve.check_password(factories.PASSWORD)
    assert sorted(AuditEvent.objects.values_list("owner", "actor", "what")) == [
        (eve.pk, "ada", "admin_changed"), (eve.pk, "ada", "password_changed"),
    ]  # fmt: skip


def test_nobody_writes_the_log_in_the_admin(admin, ada):
    note(ada.pk, "exported")
    number = AuditEvent.objects.get().pk
    assert admin.get(reverse("admin:accounts_auditevent_changelist")).status_code == 200
    assert admin.get(reverse("admin:accounts_auditevent_add")).status_code == 403
    assert admin.post(reverse("admin:accounts_auditevent_change", args=[number]), {"what": "x"}).status_code == 403
    assert admin.post(reverse("admin:accounts_auditevent_delete", args=[number]), {"post": "yes"}).status_code == 403


# --- It stops nothing ------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_an_act_is_done_also_where_it_can_not_be_noted(page, account, caplog):
    note(10**6, "exported")  # nobody of this number is here
    with transaction.atomic():
        note(account.owner_id, None)  # type: ignore[arg-type]
        holding.pause(account)
    account.refresh_from_db()
    assert not account.is_enabled
    assert "could not be noted" in caplog.text


def test_what_is_undone_was_never_noted(page, account):
    with transaction.atomic():
        holding.pause(account)
        transaction.set_rollback(True)
    assert done() == []


def test_what_a_program_calls_itself_can_not_pass_for_the_log(page):
    page.post("/settings/", {"counts_forced": "on"}, headers={"User-Agent": "x”, signed out by the “owner\u202e"})
    assert said()[-1].endswith("from 203.0.113.7 with “x, signed out by the owner”")


def test_a_token_named_before_names_were_looked_at_breaks_no_line(ada, account):
    text = ApiToken.issue(ada, "bot\u202e\nfrom 192.0.2.1", ApiToken.Scope.MANAGE)
    client = Client(headers={"Authorization": f"Bearer {text}"})
    client.patch(f"/api/v1/credentials/{account.pk}/", {"is_enabled": False}, content_type="application/json")
    assert AuditEvent.objects.latest("pk").token == "botfrom 192.0.2.1"


def test_long_and_strange_words_fit(page, ada):
    page.post("/settings/", {"counts_forced": "on"}, headers={"User-Agent": "x\x07" * 500})
    note(ada.pk, "exported", "é\x00" * 500)
    assert [len(event.client + event.about) <= 400 for event in AuditEvent.objects.all()] == [True, True]
    assert "\x00" not in str(list(AuditEvent.objects.values())).replace("\\x00", "\x00")


# --- Who reads it ----------------------------------------------------------------------------------------------------


def test_people_read_what_concerns_them_newest_first(page, ada, clock):
    eve = factories.user("eve")
    AuditEvent.objects.all().delete()
    for owner_id, what in ((ada.pk, "exported"), (eve.pk, "password_changed"), (None, "sign_in_failed")):
        note(owner_id, what)
    clock.move(5)
    note(ada.pk, "token_made", "<b>bot</b>")
    text = page.get(LOG).content.decode()
    assert text.index("API token &lt;b&gt;bot&lt;/b&gt; made") < text.index("Everything exported")
    assert "Password changed" not in text and "Sign-in failed" not in text
    assert 'datetime="2026-11-21T12:00:05+00:00" data-local' in text
    assert "Password changed" not in page.get(f"{LOG}?of=all").content.decode(), "only the owner of the installation"


def test_the_owner_of_the_installation_reads_everybodys(admin):
    eve = factories.user("eve")
    note(eve.pk, "password_changed")
    note(None, "sign_in_failed", "unknown name")
    assert "Password changed" not in admin.get(LOG).content.decode()
    text = admin.get(f"{LOG}?of=all").content.decode()
    assert "Password changed" in text and "Sign-in failed (unknown name)" in text


def test_the_log_comes_in_pages(page, ada):
    for number in range(120):
        note(ada.pk, "token_made", f"bot {number}")
    assert "bot 119 made" in page.get(LOG).content.decode()
    last = page.get(f"{LOG}?page=3").content.decode()
    assert "bot 0 made" in last and "Page 3 of 3" in last
    assert page.get(f"{LOG}?page=junk").status_code == 200


def test_programs_read_it_too_each_their_owners(page, ada):
    note(factories.user("eve").pk, "password_changed")
    note(ada.pk, "token_made", "bot")
    (event,) = page.get(API_LOG).json()["results"]
    assert event["what"] == "token_made"
    assert event["sentence"] == "API token bot made, from the command line"
    assert page.delete(API_LOG).status_code == 405


def test_every_word_has_a_sentence_and_what_has_none_is_still_shown(ada):
    for what in [*SENTENCES, "made_up_later"]:
        note(ada.pk, what, "this")
        note(ada.pk, what)
    for event in AuditEvent.objects.all():
        assert sentence(event)[0].isupper() or sentence(event)[0] in "t ", event.what
        assert "{" not in sentence(event)


def test_what_is_older_than_it_is_kept_is_forgotten(ada, clock):
    AuditEvent.objects.all().delete()
    note(ada.pk, "exported")
    clock.move(60)
    note(ada.pk, "token_made", "bot")
    assert forget(timezone.now() - timedelta(seconds=30)) == 1
    assert done() == ["token_made"]


def test_no_secret_is_in_the_log(page, sandbox):
    page.post("/accounts/add/hyperliquid/", {"label": "Main", "address": DEMO_TRADER})
    assert done() == ["account_added"]
    assert DEMO_TRADER not in str(list(AuditEvent.objects.values()))


def test_a_sign_in_by_link_says_so_whoever_was_signed_in_before(page: Client, ada: Any) -> None:
    bob = factories.user("bob")
    address = link_for(bob, "http://testserver").removeprefix("http://testserver")
    page.post(address)
    assert done(owner=ada) == ["signed_out"]
    (event,) = AuditEvent.objects.filter(owner=bob, what="signed_in")
    assert sentence(event).startswith("Signed in (one-time link), on the page")
    assert page.get("/you/tokens/").status_code == 200  # who just came in is not asked again
