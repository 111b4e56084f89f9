"""What decides who gets in asks people once more who they are, and keeps no secret of theirs meanwhile."""

from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse

from accounts.models import ApiToken, AuditEvent, User
from tests import factories

pytestmark = pytest.mark.django_db

MARKED = "marked-and-in-clear-77"
NEW_PASSWORD = {"password1": MARKED, "password2": MARKED, "usable_password": "true"}
ABOUT_EVE = {"username": "eve", "email": "", "date_joined_0": "2026-01-01", "date_joined_1": "00:00", "is_active": "on"}


def person(name: str, **fields: Any) -> Any:
    made = factories.user(name, **fields)
    made.set_password(factories.PASSWORD)
    made.save()
    return made


@pytest.fixture
def ada() -> Any:
    return person("ada", is_superuser=True, is_staff=True)


@pytest.fixture
def eve() -> Any:
    return person("eve")


@pytest.fixture
def browser(ada: Any, clock: Any) -> Client:
    """Ada's, in which she signed in."""
    return signed_in("ada")


@pytest.fixture
def stolen(browser: Client, clock: Any) -> Client:
    """The same, longer ago than a sign-in counts."""
    clock.move(601)
    return browser


def signed_in(name: str) -> Client:
    client = Client()
    assert client.post("/sign-in/", {"login": name, "password": factories.PASSWORD}).status_code == 302
    return client


def asks(answer: Any) -> bool:
    return answer.status_code == 302 and answer["Location"].startswith("/you/confirm/?next=")


def sessions() -> str:
    return str([session.get_decoded() for session in Session.objects.all()])


# --- When it is asked ------------------------------------------------------------------------------------------------


def test_who_signed_in_just_now_is_not_asked_again(browser):
    assert browser.post("/people/", {"note": "Eve"}).status_code == 200
    assert browser.post("/you/tokens/", {"name": "bot", "scope": "read"}).context["text"]


def test_who_signed_in_a_while_ago_is_asked(stolen):
    assert asks(stolen.post("/people/", {"note": "Eve"}))
    assert asks(stolen.post("/you/tokens/", {"name": "bot", "scope": "read"}))


# --- What is kept of it ----------------------------------------------------------------------------------------------


def test_a_first_password_needs_a_confirmation_and_is_not_kept_before(clock):
    eve, client = person("eve"), signed_in_with_passkey_only()
    for answer in (client.get("/you/password/set/"), client.post("/you/password/set/", NEW_PASSWORD)):
        assert answer["Location"] == "/you/confirm/passkey/?next=%2Fyou%2Fpassword%2Fset%2F"
    assert MARKED not in sessions()
    eve.refresh_from_db()
    assert not eve.has_usable_password()


def signed_in_with_passkey_only() -> Client:
    eve, client = User.objects.get(username="eve"), Client()
    eve.set_unusable_password()
    eve.save()
    Authenticator.objects.create(user=eve, type=Authenticator.Type.WEBAUTHN, data={"name": "Phone", "credential": {}})
    client.force_login(eve)
    return client


@pytest.mark.parametrize(
    ("address", "values"),
    [("/you/app/", {"code": MARKED}), ("/you/passkeys/add/", {"credential": MARKED, "name": "x"}),
     ("/you/password/set/", NEW_PASSWORD), ("/admin/accounts/user/add/", {"username": "eve"} | NEW_PASSWORD)],
)  # fmt: skip
def test_no_secret_waits_in_the_session(stolen, address, values):
    assert asks(stolen.post(address, values))
    assert MARKED not in sessions()


def test_what_does_wait_there_is_without_the_cookie(stolen):
    stolen.post("/people/", {"note": "For Eve"}, headers={"Authorization": f"Bearer {MARKED}"})
    assert "For+Eve" in sessions()
    assert MARKED not in sessions() and "sessionid" not in sessions()
    made = stolen.post("/you/confirm/?next=/people/", {"password": factories.PASSWORD, "next": "/people/"})
    assert "/join/" in made.context["link"]
    assert stolen.get("/people/").status_code == 200


# --- The admin -------------------------------------------------------------------------------------------------------


def test_the_admin_has_no_way_of_its_own_to_change_a_password(stolen, ada):
    answer = stolen.post("/admin/password_change/", {"old_password": "x", "new_password1": MARKED})
    assert (answer.status_code, answer["Location"]) == (302, "/you/password/")


@pytest.mark.parametrize("method", ["get", "post"])
def test_what_the_admin_changes_of_people_and_tokens_asks_first(stolen, ada, eve, method):
    ApiToken.issue(eve, "bot")
    token = eve.api_tokens.get()
    before = ada.password, eve.password
    for address in (
        reverse("admin:accounts_user_add"),
        reverse("admin:accounts_user_change", args=[eve.pk]),
        reverse("admin:auth_user_password_change", args=[ada.pk]),
        reverse("admin:accounts_apitoken_change", args=[token.pk]),
        reverse("admin:accounts_apitoken_delete", args=[token.pk]),
    ):
        values = ABOUT_EVE | NEW_PASSWORD | {"is_superuser": "on", "post": "yes"} if method == "post" else {}
        assert asks(getattr(stolen, method)(address, values)), address
    for kind in ("apitoken", "user"):
        chosen = {"action": "delete_selected", "_selected_action": [token.pk], "post": "yes"}
        assert asks(stolen.post(reverse(f"admin:accounts_{kind}_changelist"), chosen))
        assert stolen.get(reverse(f"admin:accounts_{kind}_changelist")).status_code == 200
    ada.refresh_from_db()
    eve.refresh_from_db()
    assert (ada.password, eve.password) == before
    assert not eve.is_superuser
    assert eve.api_tokens.exists()
    assert User.objects.count() == 2


def test_once_confirmed_the_admin_changes_them(stolen, eve):
    address = reverse("admin:accounts_user_change", args=[eve.pk])
    assert stolen.post("/you/confirm/", {"password": factories.PASSWORD, "next": address})["Location"] == address
    assert stolen.post(address, ABOUT_EVE | {"first_name": "Eve"}).status_code == 302
    eve.refresh_from_db()
    assert eve.first_name == "Eve"


def test_who_may_edit_people_makes_no_owners_and_touches_none(ada, eve):
    sam = person("sam", is_staff=True)
    sam.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "change_user", "add_user"]))
    client = signed_in("sam")
    refused = client.post(reverse("admin:auth_user_password_change", args=[ada.pk]), NEW_PASSWORD)
    assert refused.status_code == 403
    assert client.post(reverse("admin:accounts_user_change", args=[ada.pk]), ABOUT_EVE).status_code == 403
    everything = {"is_staff": "on", "is_superuser": "on", "user_permissions": [Permission.objects.first().pk]}
    for name in ("sam", "eve"):
        one = User.objects.get(username=name)
        answer = client.post(
            reverse("admin:accounts_user_change", args=[one.pk]), ABOUT_EVE | {"username": name} | everything
        )
        assert answer.status_code == 302
        changed = User.objects.get(pk=one.pk)
        assert (changed.is_superuser, changed.is_staff) == (False, name == "sam")
        assert set(changed.user_permissions.all()) == set(one.user_permissions.all())
    ada.refresh_from_db()
    assert ada.check_password(factories.PASSWORD) and ada.is_superuser


def test_a_name_that_is_anothers_but_for_its_case_is_not_given_in_the_admin(browser, eve):
    address = reverse("admin:accounts_user_change", args=[eve.pk])
    answer = browser.post(address, ABOUT_EVE | {"username": "ADA"})
    assert "Somebody has this name already." in answer.content.decode()
    assert browser.post(reverse("admin:accounts_user_add"), {"username": "EVE"} | NEW_PASSWORD).status_code == 200
    assert set(User.objects.values_list("username", flat=True)) == {"ada", "eve"}


# --- Guesses ---------------------------------------------------------------------------------------------------------


def test_the_current_password_is_guessed_no_more_often_than_at_a_sign_in(browser, clock):
    """Whichever of the pages that ask for it is tried."""
    wanted = {"oldpassword": "wrong", "password1": MARKED, "password2": MARKED}
    answers = []
    for _ in range(3):
        answers += [browser.post("/you/password/", wanted).status_code for _ in range(4)]
        clock.move(61)
    assert 429 in answers
    assert AuditEvent.objects.filter(what="password_failed").count() <= 10
    assert browser.post("/you/confirm/", {"password": factories.PASSWORD}).status_code == 429
