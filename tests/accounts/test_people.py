"""How people get in, how programs do, and that nobody else does."""

import hashlib
import io
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.management.commands.sign_in_link import link_for
from accounts.models import ApiToken
from accounts.origin import served_at
from accounts.urls import allauth_urlpatterns
from accounts.urls import urlpatterns as accounts_urls
from tests import factories
from volume.urls import urlpatterns as volume_urls

pytestmark = pytest.mark.django_db

User = get_user_model()
SUMMARY = "/api/v1/volume/summary/"
WELCOME = {"username": "ada", "password1": factories.PASSWORD, "password2": factories.PASSWORD}


@pytest.fixture(scope="module")
def browser() -> Client:
    """One for the tests of an installation with people: starting its middleware is most of a short test's time."""
    return Client()


@pytest.fixture
def nobody(browser: Client) -> Client:
    browser.cookies.clear()
    return browser


@pytest.fixture
def ada() -> Any:
    return factories.user("ada", is_superuser=True, is_staff=True)


def who(client: Client) -> Any:
    """Who is signed in with this browser."""
    number = client.session.get("_auth_user_id")
    return User.objects.get(pk=number).username if number else None


def with_token(text: str, path: str = SUMMARY, scheme: str = "Bearer") -> Any:
    return Client().get(path, headers={"Authorization": f"{scheme} {text}"})


def command(name: str, *arguments: str) -> str:
    out = io.StringIO()
    call_command(name, *arguments, stdout=out)
    return out.getvalue()


# --- The first visit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/accounts/", "/accounts/add/", "/sign-in/", "/admin/", "/nothing/"])
def test_the_first_visit_leads_to_the_welcome_page(path):
    response = Client().get(path)
    assert (response.status_code, response["Location"]) == (302, "/welcome/")


def test_the_welcome_page_asks_for_a_name_and_a_password():
    response = Client().get("/welcome/")
    assert response.status_code == 200
    for name in WELCOME:
        assert f'name="{name}"' in response.content.decode()
    assert "no-store" in response["Cache-Control"]


def test_programs_and_watchers_are_not_led_to_the_welcome_page():
    client = Client()
    assert client.get(SUMMARY).status_code == 401
    assert client.get("/health/").json() == {"status": "ok"}


def test_the_first_visitor_becomes_the_owner_and_is_signed_in():
    client = Client()
    response = client.post("/welcome/", WELCOME)
    assert (response.status_code, response["Location"]) == (302, "/")
    owner = User.objects.get()
    assert (owner.username, owner.is_staff, owner.is_superuser, owner.email) == ("ada", True, True, None)
    assert owner.check_password(factories.PASSWORD)
    assert owner.password.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
    assert who(client) == "ada"
    assert client.get("/", follow=True).status_code == 200


def test_the_welcome_page_is_closed_once_there_is_somebody(nobody, ada):
    assert nobody.get("/welcome/")["Location"] == "/"
    response = nobody.post("/welcome/", WELCOME | {"username": "eve"})
    assert response.status_code == 302
    assert list(User.objects.values_list("username", flat=True)) == ["ada"]
    assert who(nobody) is None


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"password1": "short1!", "password2": "short1!"}, "At least 8 characters.</li>"),
        ({"password1": "password123", "password2": "password123"}, "Many people take this one: choose another."),
        (
            {"username": "adalovelace", "password1": "adalovelace1", "password2": "adalovelace1"},
            "Too much like your name.",
        ),
        ({"password2": "something else entirely"}, "The two are not the same."),
        ({"username": ""}, "This field is required."),
        ({"username": "a b"}, "<li>Letters, digits and @ . + - _ only.</li>"),
    ],
)
def test_a_bad_name_or_password_is_refused_with_a_sentence(values, says):
    client = Client()
    response = client.post("/welcome/", WELCOME | values)
    assert response.status_code == 200
    assert says in response.content.decode()
    assert factories.PASSWORD not in response.content.decode()
    assert not User.objects.exists()
    assert who(client) is None


# --- Signing in and out ----------------------------------------------------------------------------------------------


@pytest.fixture
def with_password(ada: Any) -> Any:
    ada.set_password(factories.PASSWORD)
    ada.save()
    return ada


def test_a_person_signs_in_and_out(nobody, with_password):
    asked_for = nobody.get("/accounts/")["Location"]
    assert asked_for == "/sign-in/?next=/accounts/"
    assert nobody.get(asked_for).status_code == 200
    response = nobody.post(asked_for, {"login": "ada", "password": factories.PASSWORD, "next": "/accounts/"})
    assert (response.status_code, response["Location"]) == (302, "/accounts/")
    assert who(nobody) == "ada"
    assert nobody.get("/sign-in/")["Location"] == "/"
    assert nobody.post("/sign-out/")["Location"] == "/sign-in/"
    assert who(nobody) is None


def test_a_wrong_password_is_told_and_not_repeated(nobody, with_password):
    response = nobody.post("/sign-in/", {"login": "ada", "password": "hunter2"})
    assert response.status_code == 200
    assert "The username or the password is not right." in response.content.decode()
    assert "hunter2" not in response.content.decode()
    assert who(nobody) is None


def test_a_person_who_was_shut_out_does_not_get_in(nobody, with_password):
    User.objects.update(is_active=False)
    nobody.post("/sign-in/", {"login": "ada", "password": factories.PASSWORD})
    assert who(nobody) is None


def test_signing_in_never_leads_to_another_site(nobody, with_password):
    values = {"login": "ada", "password": factories.PASSWORD, "next": "https://evil.example/"}
    assert nobody.post("/sign-in/", values)["Location"] == "/"


def test_a_person_without_a_password_does_not_get_in_with_an_empty_one(nobody, ada):
    nobody.post("/sign-in/", {"login": "ada", "password": ""})
    assert who(nobody) is None


# --- Links that sign in once -----------------------------------------------------------------------------------------


def test_a_link_shows_a_button_and_its_press_signs_in_once(nobody, ada, clock):
    link = link_for(ada, "")
    for _ in range(2):
        response = nobody.get(link)
        assert response.status_code == 200
        assert "Sign in as ada" in response.content.decode()
        assert who(nobody) is None
    assert nobody.head(link).status_code == 200
    assert nobody.post(link)["Location"] == "/"
    assert who(nobody) == "ada"
    other = Client()
    assert other.get(link).status_code == 410
    assert other.post(link).status_code == 410
    assert who(other) is None


def test_signing_in_ends_every_link_made_before(nobody, ada, clock):
    first = link_for(ada, "")
    clock.move(5)
    second = link_for(ada, "")
    nobody.post(second)
    assert nobody.post(first).status_code == 410


def test_a_link_ends_by_itself(nobody, ada, clock, settings):
    link = link_for(ada, "")
    clock.move(settings.PASSWORD_RESET_TIMEOUT + 1)
    assert nobody.post(link).status_code == 410


def test_a_link_of_somebody_who_was_shut_out_does_not_work(nobody, ada):
    link = link_for(ada, "")
    User.objects.update(is_active=False)
    response = nobody.post(link)
    assert response.status_code == 410
    assert "This link no longer works" in response.content.decode()
    assert who(nobody) is None


@pytest.mark.parametrize("change", [lambda link: link[:-2] + "/", lambda link: link.replace("/sign-in/", "/sign-in/9")])
def test_a_link_that_was_changed_does_not_work(nobody, ada, change):
    assert nobody.post(change(link_for(ada, ""))).status_code == 410
    assert who(nobody) is None


def test_a_link_of_one_person_does_not_sign_another_in(nobody, ada):
    eve = factories.user("eve")
    token = link_for(ada, "").rstrip("/").rsplit("/", 1)[1]
    assert nobody.post(reverse("accounts:link", args=[eve.pk, token])).status_code == 410


def test_a_foreign_page_cannot_press_the_button(ada):
    careful = Client(enforce_csrf_checks=True)
    assert careful.post(link_for(ada, "")).status_code == 403
    assert who(careful) is None


def test_a_link_page_is_not_cached_and_its_address_goes_nowhere(nobody, ada):
    response = nobody.get(link_for(ada, ""))
    assert "no-store" in response["Cache-Control"]
    assert response["Referrer-Policy"] in ("same-origin", "no-referrer")


def test_the_command_prints_a_link_for_the_first_superuser(nobody, ada):
    factories.user("eve")
    link = command("sign_in_link", "--origin", "https://perp.example/").strip()
    assert link.startswith("https://perp.example/sign-in/")
    nobody.post(urlsplit(link).path)
    assert who(nobody) == "ada"


def test_the_command_knows_the_port_it_is_told(ada, settings, tmp_path, monkeypatch):
    settings.EMBEDDED, settings.VAR_DIR = False, tmp_path
    (tmp_path / "origin.txt").write_text("http://127.0.0.1:7000")  # of an `up` long ago
    monkeypatch.delenv("PORT", raising=False)
    assert served_at() == "http://127.0.0.1:8000"
    monkeypatch.setenv("PORT", "8100")
    assert served_at() == "http://127.0.0.1:8100"
    settings.EMBEDDED = True
    assert served_at() == "http://127.0.0.1:7000"


def test_the_command_prints_a_link_for_whom_it_is_told(nobody, ada):
    factories.user("eve")
    nobody.post(urlsplit(command("sign_in_link", "--owner", "eve").strip()).path)
    assert who(nobody) == "eve"


def test_there_is_no_link_for_nobody():
    factories.user("eve", is_active=False)
    with pytest.raises(CommandError, match="Nobody here is an owner"):
        command("sign_in_link")
    with pytest.raises(CommandError, match="There is nobody named 'eve'"):
        command("sign_in_link", "--owner", "eve")


# --- E-mail ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("email", [None, ""])
def test_people_without_e_mail_are_not_people_with_the_same_one(email):
    for name in ("ada", "eve"):
        User.objects.create_user(name, email=email)
    assert list(User.objects.values_list("email", flat=True)) == [None, None]


def test_two_people_cannot_have_the_same_e_mail():
    factories.user("ada", email="ada@example.org")
    with pytest.raises(IntegrityError), transaction.atomic():
        factories.user("eve", email="ada@example.org")
    assert User.objects.count() == 1


def test_people_can_be_edited_in_the_admin_without_e_mail(nobody, ada):
    nobody.post(link_for(ada, ""))
    eve = factories.user("eve")
    address = reverse("admin:accounts_user_change", args=[eve.pk])
    values = {
        "username": "eve",
        "email": "",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00",
        "is_active": "on",
    }
    for first_name in ("Eve", "Evelyn"):
        assert nobody.post(address, values | {"first_name": first_name}).status_code == 302
    eve.refresh_from_db()
    assert (eve.first_name, eve.email) == ("Evelyn", None)


# --- Tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_is_printed_once_and_only_its_digest_kept(ada):
    text = command("create_token", "--owner", "ada", "--name", "bot").strip()
    token = ApiToken.objects.get()
    assert text.startswith("perp_")
    assert len(text) > 40
    assert (token.owner, token.name, token.digest) == (ada, "bot", hashlib.sha256(text.encode()).hexdigest())
    assert text not in str(ApiToken.objects.values().get())
    assert command("create_token", "--owner", "ada").strip() != text


def test_there_is_no_token_for_nobody():
    with pytest.raises(CommandError, match="There is nobody named 'eve'"):
        command("create_token", "--owner", "eve")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_opens_the_api(ada, scheme):
    assert with_token(ApiToken.issue(ada, "bot"), scheme=scheme).status_code == 200


def test_a_token_writes_without_a_form(ada):
    careful = Client(
        enforce_csrf_checks=True, headers={"Authorization": f"Bearer {ApiToken.issue(ada, 'bot', 'manage')}"}
    )
    credential = factories.credential(owner=ada)
    address = f"/api/v1/credentials/{credential.pk}/"
    assert careful.patch(address, {"label": "New"}, content_type="application/json").status_code == 200


@pytest.mark.parametrize("text", ["perp_unknown", "", "a b", "perp_\xfc"])
def test_a_token_nobody_made_is_refused(ada, text):
    assert with_token(text).status_code == 401


def test_a_digest_is_no_token(ada):
    text = ApiToken.issue(ada, "bot")
    assert with_token(ApiToken.digest_of(text)).status_code == 401


def test_a_token_dies_with_the_access_of_its_owner(ada):
    text = ApiToken.issue(ada, "bot")
    User.objects.update(is_active=False)
    assert with_token(text).status_code == 401
    User.objects.update(is_active=True)
    ApiToken.objects.all().delete()
    assert with_token(text).status_code == 401


def test_a_token_opens_no_page(ada):
    assert with_token(ApiToken.issue(ada, "bot"), "/accounts/").status_code == 302


def test_the_last_use_of_a_token_is_noted_once_a_minute(ada, clock):
    text = ApiToken.issue(ada, "bot")
    first = timezone.now()
    for seconds, noted in ((0, first), (59, first), (2, first + timedelta(seconds=61))):
        clock.move(seconds)
        with_token(text)
        assert ApiToken.objects.get().last_used_at == noted


# --- Closed by default -----------------------------------------------------------------------------------------------

PAGES = {
    "volume:dashboard": [],
    "volume:series": [],
    "volume:accounts": [],
    "volume:choose-venue": [],
    "volume:add": ["hyperliquid"],
    "volume:account": [1],
    "volume:key": [1],
    "volume:fills": [1],
    "volume:remove": [1],
    "volume:act": [1, "delete"],
    "volume:day": ["2026-11-20"],
    "volume:preferences": [],
    "volume:data": [],
    "volume:export": [],
    "accounts:sign-out": [],
    "accounts:you": [],
    "accounts:end-session": [1],
    "accounts:tokens": [],
    "accounts:revoke-token": [1],
    "accounts:audit": [],
    "accounts:people": [],
    "accounts:shut-out": [1],
    "accounts:let-in": [1],
    "accounts:revoke": [1],
    "account_logout": [],
    "account_reauthenticate": [],
    "account_change_password": [],
    "account_set_password": [],
    "account_email": [],
    "mfa_authenticate": [],  # in the midst of signing in, or not at all
    "mfa_index": [],
    "mfa_reauthenticate": [],
    "mfa_reauthenticate_webauthn": [],
    "mfa_activate_totp": [],
    "mfa_deactivate_totp": [],
    "mfa_view_recovery_codes": [],
    "mfa_generate_recovery_codes": [],
    "mfa_download_recovery_codes": [],
    "mfa_list_webauthn": [],
    "mfa_add_webauthn": [],
    "mfa_edit_webauthn": [1],
    "mfa_remove_webauthn": [1],
    "usersessions_list": [],
    "api:root": [],
    "api:schema": [],
    "api:docs": [],
    "admin:index": [],
    "admin:exchanges_exchangecredential_changelist": [],
    "admin:accounts_user_changelist": [],
    "admin:accounts_apitoken_changelist": [],
}
OPEN = {
    "accounts:welcome", "accounts:join", "accounts:sign-in", "accounts:link", "account_login", "account_inactive",
    "account_reset_password", "account_reset_password_done", "account_reset_password_from_key",
    "account_reset_password_from_key_done", "account_confirm_email", "mfa_login_webauthn",
}  # fmt: skip


def test_every_page_stands_on_one_of_the_two_lists():
    named = {f"volume:{item.name}" for item in volume_urls} | {f"accounts:{item.name}" for item in accounts_urls}
    named |= {item.name for item in allauth_urlpatterns}
    assert named <= set(PAGES) | OPEN


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_signing_in(nobody, ada, name, method):
    factories.credential(owner=ada)
    response = getattr(nobody, method)(reverse(name, args=PAGES[name]))
    if name.startswith("api:"):
        assert response.status_code == 401
    else:
        assert response.status_code == 302
        assert urlsplit(response["Location"]).path in ("/sign-in/", "/admin/login/")
    assert ada.credentials.exists()


def test_the_open_pages_are_open(nobody, ada):
    assert nobody.get("/health/").json() == {"status": "ok"}
    assert nobody.get("/sign-in/").status_code == 200
    assert nobody.get(link_for(ada, "")).status_code == 200


def test_an_address_that_does_not_exist_tells_a_stranger_nothing(nobody, ada):
    assert nobody.get("/nothing/").status_code in (302, 404)


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/{}/",
        "/accounts/{}/key/",
        "/accounts/{}/fills/",
        "/accounts/{}/remove/",
        "/accounts/{}/delete/",
        "/accounts/{}/retire/",
        "/accounts/{}/reread/",
        "/accounts/{}/compare/",
        "/accounts/{}/verify/",
        "/accounts/{}/pause/",
    ],
)
def test_the_pages_of_another_owners_account_do_not_exist(nobody, ada, path):
    mine = factories.credential(owner=ada)
    nobody.force_login(factories.user("eve"))
    for method in (nobody.get, nobody.post):
        assert method(path.format(mine.pk)).status_code in (404, 405)
    mine.refresh_from_db()
    assert mine.is_enabled


def test_pages_carry_what_keeps_a_browser_safe(nobody, ada):
    response = nobody.get("/sign-in/")
    assert "default-src 'self'" in response["Content-Security-Policy"]
    assert "unsafe-inline" not in response["Content-Security-Policy"]
    assert response["X-Frame-Options"] == "DENY"
    assert response["X-Content-Type-Options"] == "nosniff"
