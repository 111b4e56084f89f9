"""The second step of signing in: asked everywhere, each code once, and stored so that the database opens nothing."""

import json
import re
from contextlib import suppress
from io import StringIO
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import (
    SECRET_SESSION_KEY,
    format_hotp_value,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.core.management import call_command
from django.db import connection
from django.test import Client, override_settings

from accounts.management.commands.sign_in_link import link_for
from accounts.models import User
from perpdash.second_factors import kept
from tests import factories

pytestmark = pytest.mark.django_db

NEW = override_settings(SALT_KEY=["a newer salt, and long enough to be one"])
PASSWORD = {"login": "ada", "password": factories.PASSWORD}


@pytest.fixture
def ada() -> Any:
    made = factories.user("ada", is_superuser=True, is_staff=True)
    made.set_password(factories.PASSWORD)
    made.save()
    return made


@pytest.fixture
def browser(ada: Any, clock: Any) -> Client:
    """Ada's, in which she said just now who she is."""
    client = Client()
    client.force_login(ada)
    client.post("/you/confirm/", {"password": factories.PASSWORD})
    return client


def code(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, next(yield_hotp_counters_from_time())))


@pytest.fixture
def secret(browser: Client, clock: Any) -> str:
    """What Ada's app was set up with."""
    text = browser.get("/you/app/").context["form"].secret
    assert browser.post("/you/app/", {"code": code(text)})["Location"] == "/you/codes/"
    clock.move(60)
    return text


@pytest.fixture
def codes(secret: str, browser: Client) -> list[str]:
    return browser.get("/you/codes/").context["unused_codes"]


def is_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def at_the_second_step() -> Client:
    client = Client()
    assert client.post("/sign-in/", PASSWORD)["Location"] == "/sign-in/code/"
    assert not is_in(client)
    return client


# --- Signing in ------------------------------------------------------------------------------------------------------


def test_the_password_alone_no_longer_signs_in(secret):
    client = at_the_second_step()
    assert client.get("/").status_code == 302
    assert client.post("/sign-in/code/", {"code": "000000"}).status_code == 200
    assert not is_in(client)
    assert client.post("/sign-in/code/", {"code": code(secret)})["Location"] == "/"
    assert is_in(client)


def test_a_code_works_once(secret):
    seen = code(secret)
    at_the_second_step().post("/sign-in/code/", {"code": seen})
    thief = at_the_second_step()
    assert "each works once" in thief.post("/sign-in/code/", {"code": seen}).content.decode()
    assert not is_in(thief)


def test_a_wrong_code_and_a_wrong_passkey_are_told_apart(secret, browser):
    wrong = at_the_second_step().post("/sign-in/code/", {"code": "000000"})
    assert "That code is not right." in wrong.content.decode()
    assert "That code is not right." not in Client().post("/sign-in/passkey/", {"credential": "{}"}).content.decode()


def test_the_code_of_a_moment_ago_does_not_work(secret, clock):
    seen = code(secret)
    clock.move(31)
    client = at_the_second_step()
    client.post("/sign-in/code/", {"code": seen})
    assert not is_in(client)


def test_a_recovery_code_signs_in_once(codes):
    client = at_the_second_step()
    client.post("/sign-in/code/", {"code": codes[3]})
    assert is_in(client)
    other = at_the_second_step()
    other.post("/sign-in/code/", {"code": codes[3]})
    assert not is_in(other)
    assert "9 left" in client.get("/you/").content.decode()


def test_new_recovery_codes_end_the_old_ones(codes, browser):
    browser.post("/you/codes/new/")
    assert not set(codes) & set(browser.get("/you/codes/").context["unused_codes"])
    client = at_the_second_step()
    client.post("/sign-in/code/", {"code": codes[0]})
    assert not is_in(client)


def test_the_second_step_waits_only_for_a_while(secret, clock):
    client = at_the_second_step()
    clock.move(16 * 60)
    assert client.post("/sign-in/code/", {"code": code(secret)})["Location"] == "/sign-in/"
    assert not is_in(client)


def test_guessing_codes_is_limited_whatever_the_address(secret, clock):
    answers = []
    for number in range(11):
        client = Client(REMOTE_ADDR=f"203.0.113.{number}")
        client.post("/sign-in/", PASSWORD)
        answers.append(client.post("/sign-in/code/", {"code": "000000"}))
    assert [answer.status_code for answer in answers[-2:]] == [200, 429]
    assert answers[-1]["Retry-After"] == "300"
    assert "Try again in 5 minutes" in answers[-1].content.decode()
    client.post("/sign-in/code/", {"code": code(secret)})
    assert not is_in(client)
    clock.move(301)
    client = at_the_second_step()
    client.post("/sign-in/code/", {"code": code(secret)})
    assert is_in(client)


def test_the_admin_asks_for_the_second_step_too(secret):
    client = Client()
    for address in ("/admin/", "/admin/login/"):
        answer = client.get(address, follow=True)
        assert answer.redirect_chain[-1][0].startswith("/sign-in/?next=")
    client.post("/admin/login/?next=/admin/", {"username": "ada", "password": factories.PASSWORD})
    assert not is_in(client)
    client.post("/sign-in/?next=/admin/", PASSWORD | {"next": "/admin/"})
    assert client.get("/admin/").status_code == 302
    assert client.post("/sign-in/code/", {"code": code(secret)})["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


def test_the_link_from_the_machine_asks_for_no_second_step_and_no_password_after(secret, ada):
    client = Client()
    client.post(link_for(ada, ""))
    assert is_in(client)
    assert client.post("/you/app/remove/")["Location"] == "/you/"
    assert not Authenticator.objects.exists()  # the recovery codes went with it


def test_the_api_takes_no_half_signed_in_session(secret):
    assert at_the_second_step().get("/api/v1/volume/summary/").status_code == 401


# --- Setting it up ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["/you/app/remove/", "/you/codes/", "/you/codes/new/", "/you/codes/download/",
                "/you/passkeys/add/"],
)  # fmt: skip
def test_what_concerns_who_gets_in_asks_once_more_who_it_is(secret, ada, address):
    client = Client()
    client.force_login(ada)
    assert client.get(address)["Location"].startswith("/you/confirm/?next=")
    assert client.post(address).status_code in (302, 405)
    assert Authenticator.objects.count() == 2


def test_the_confirmation_ends(browser, clock):
    assert browser.get("/you/app/").status_code == 200
    clock.move(601)
    assert browser.get("/you/app/").status_code == 302


def test_the_app_is_on_only_after_its_first_code_fits(browser):
    shown = browser.get("/you/app/")
    text = shown.context["form"].secret
    assert "no-store" in shown["Cache-Control"]
    assert "data:image/svg+xml;base64," in shown.content.decode()
    assert text in shown.content.decode()
    again = browser.post("/you/app/", {"code": "000000"})
    assert again.context["form"].secret == text
    assert not Authenticator.objects.exists()
    browser.post("/you/app/", {"code": code(text)})
    assert set(Authenticator.objects.values_list("type", flat=True)) == {"totp", "recovery_codes"}


def test_where_the_keys_changed_meanwhile_a_new_app_is_set_up_from_the_start(browser):
    browser.get("/you/app/")
    with NEW:
        again = browser.post("/you/app/", {"code": "000000"})
        assert again.status_code == 200
        text = again.context["form"].secret
        assert browser.post("/you/app/", {"code": code(text)})["Location"] == "/you/codes/"


def test_recovery_codes_come_as_a_file(codes, browser):
    file = browser.get("/you/codes/download/")
    assert file.content.decode().split() == codes
    assert "no-store" in file["Cache-Control"]


def test_another_persons_second_factors_do_not_exist(secret, ada):
    eve, client = factories.user("eve"), Client()
    eve.set_unusable_password()
    eve.save()
    client.force_login(eve)
    assert client.get("/you/app/remove/").status_code == 404
    assert client.get("/you/codes/").status_code == 404
    key = Authenticator.objects.create(user=ada, type="webauthn", data={"name": "Hers", "credential": {}})
    for act in ("remove", "name"):
        assert client.post(f"/you/passkeys/{key.pk}/{act}/", {"name": "Mine"}).status_code == 404
    key.refresh_from_db()
    assert key.data["name"] == "Hers"


def test_second_factors_are_not_in_the_admin(browser, secret):
    assert "authenticator" not in browser.get("/admin/").content.decode().lower()
    assert browser.get("/admin/mfa/authenticator/").status_code == 404


def test_passkeys_are_offered_only_where_browsers_give_them(browser, settings):
    settings.ALLOWED_HOSTS = ["*"]
    for host, is_offered in {"localhost:8000": True, "127.0.0.1:8000": False, "perp.example": False}.items():
        page = Client().get("/sign-in/", headers={"host": host}).content.decode()
        assert ("Sign in with a passkey" in page) == is_offered, host
    assert "Sign in with a passkey" in Client().get("/sign-in/", headers={"host": "perp.example"}, secure=True).text


def test_a_passkey_is_always_asked_for_finger_or_pin(browser):
    asked = browser.get("/you/passkeys/add/").context["js_data"]["creation_options"]
    assert json.loads(json.dumps(asked, default=dict))["publicKey"]["authenticatorSelection"]["userVerification"] == (
        "required"
    )


@pytest.mark.parametrize(
    "credential",
    ["", "x", "{}", "[]", '{"id": 1}', '{"response": {"userHandle": "MQ"}}', "[" * 100_000, "[" * 500 + "]" * 500,
     '{"response": ' + "[" * 990 + "]" * 990 + "}", "9" * 5000, "NaN"],
)  # fmt: skip
def test_what_is_no_passkey_is_refused(browser, credential):
    client = Client()
    client.get("/sign-in/passkey/", headers={"accept": "application/json"})
    assert client.post("/sign-in/passkey/", {"credential": credential}).status_code == 302
    assert not is_in(client)
    assert browser.post("/you/passkeys/add/", {"credential": credential, "passwordless": "True"}).status_code == 200
    assert not Authenticator.objects.exists()


# --- At rest ---------------------------------------------------------------------------------------------------------


def stored() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT data FROM mfa_authenticator")
        return str(cursor.fetchall())


def test_the_database_holds_no_secret_in_clear(browser, clock):
    text = browser.get("/you/app/").context["form"].secret
    assert text not in str(browser.session[SECRET_SESSION_KEY])
    browser.post("/you/app/", {"code": "000000"})
    assert text not in str(dict(browser.session.items()))
    browser.post("/you/app/", {"code": code(text)})
    assert text not in stored()
    assert re.findall(r'"secret": "gAAAA', stored())
    assert re.findall(r'"seed": "gAAAA', stored())


def rotated() -> tuple[str, int]:
    out = StringIO()
    try:
        call_command("rotate_secrets", stdout=out)
    except SystemExit as end:
        return out.getvalue(), int(end.code or 0)
    return out.getvalue(), 0


def findings() -> str:
    out = StringIO()
    with suppress(SystemExit):
        call_command("doctor", stdout=out)
    return out.getvalue()


def test_second_factors_move_to_a_new_key_and_go_on_working(codes, secret, settings):
    at_the_second_step().post("/sign-in/code/", {"code": codes[0]})
    old = list(settings.SALT_KEY)
    settings.SALT_KEY = ["a newer salt, and long enough to be one", *old]
    assert "2 second factors are under an older key" in findings()
    said, exit_code = rotated()
    assert said.startswith("2 renewed, 0 under the newest key before, 0 unreadable.")
    assert exit_code == 0
    settings.SALT_KEY = settings.SALT_KEY[:1]
    assert "second factor" not in findings()
    for text, is_good in {codes[0]: False, codes[1]: True, code(secret): True}.items():
        client = at_the_second_step()
        client.post("/sign-in/code/", {"code": text})
        assert is_in(client) == is_good


def test_a_second_factor_of_lost_keys_is_named_and_lets_nobody_in(secret, ada):
    with NEW:
        found, (said, exit_code) = findings(), rotated()
        client = at_the_second_step()
        answer = client.post("/sign-in/code/", {"code": code(secret)})
        assert not is_in(client)
        assert "manage.py doctor" in answer.content.decode()
        client.post(link_for(User.objects.get(), ""))
        assert "They can't be read with this installation's keys." in client.get("/you/").text
        assert client.post("/you/app/remove/")["Location"] == "/you/"
    for text in (found, said):
        assert "The authenticator app of ada can't be read" in text
        assert "manage.py sign_in_link --owner ada" in text
    assert exit_code == 1


def test_a_recovery_code_used_while_keys_change_stays_used(codes, settings):
    settings.SALT_KEY = ["a newer salt, and long enough to be one", *settings.SALT_KEY]
    read = list(kept())
    at_the_second_step().post("/sign-in/code/", {"code": codes[0]})
    for one in read:
        one.replace(one.secret.renewed())
    again = at_the_second_step()
    again.post("/sign-in/code/", {"code": codes[0]})
    assert not is_in(again)
