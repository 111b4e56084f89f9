"""Who becomes the owner, who may come after, and who is sent away."""

import io
import threading
from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.adapter import post
from accounts.joining import welcome_link
from accounts.management.commands.sign_in_link import link_for
from accounts.models import Invitation
from tests import factories

pytestmark = pytest.mark.django_db

User = get_user_model()
NEW = {"username": "eve", "password1": factories.PASSWORD, "password2": factories.PASSWORD}
STRANGER = {"REMOTE_ADDR": "203.0.113.9"}


@pytest.fixture
def ada() -> Any:
    made = factories.user("ada", is_superuser=True, is_staff=True)
    made.set_password(factories.PASSWORD)
    made.save()
    return made


@pytest.fixture
def owner(ada: Any) -> Client:
    """Ada's browser, in which she said just now who she is."""
    client = Client()
    client.force_login(ada)
    client.post("/you/confirm/", {"password": factories.PASSWORD})
    return client


def who(client: Client) -> str | None:
    number = client.session.get("_auth_user_id")
    return User.objects.get(pk=number).username if number else None


def command(name: str, *arguments: str) -> str:
    out = io.StringIO()
    call_command(name, *arguments, stdout=out)
    return out.getvalue().strip()


def at_once(*addresses: str, names: Sequence[str] = ()) -> list[int]:
    """Each is asked by another newcomer in the same moment; the answers' status codes."""
    if connection.vendor == "sqlite":
        pytest.skip("the tests' SQLite lives in memory, where writers do not wait for one another")
    start, answers = threading.Barrier(len(addresses), timeout=20), []

    def visit(number: int) -> None:
        try:
            name = names[number] if names else f"newcomer-{number}"
            start.wait()
            answers.append(Client().post(addresses[number], NEW | {"username": name}).status_code)
        finally:
            connection.close()

    visitors = [threading.Thread(target=visit, args=[number]) for number in range(len(addresses))]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    return answers


def invited(ada: Any) -> str:
    return f"/join/{Invitation.issue(ada, 'Eve', now=timezone.now())}/"


# --- The owner -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seen_as",
    [
        STRANGER,
        {"REMOTE_ADDR": "10.0.0.7"},
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "203.0.113.9"},
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": "for=203.0.113.9"},
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_REAL_IP": "203.0.113.9"},
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_VIA": "1.1 proxy"},
        {"REMOTE_ADDR": ""},
    ],
)
def test_a_stranger_does_not_become_the_owner(seen_as):
    client = Client(**seen_as)
    shown = client.get("/welcome/")
    assert shown.status_code == 403
    assert "manage.py sign_in_link" in shown.content.decode()
    assert 'name="password1"' not in shown.content.decode()
    assert client.post("/welcome/", NEW).status_code == 403
    assert client.post("/welcome/?key=wrong", NEW).status_code == 403
    assert not User.objects.exists()


def test_behind_a_proxy_nobody_is_taken_to_sit_at_the_machine(settings):
    settings.PROXIES = 1
    assert Client().post("/welcome/", NEW).status_code == 403
    assert not User.objects.exists()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_who_sits_at_the_machine_becomes_the_owner(address):
    client = Client(REMOTE_ADDR=address)
    assert client.post("/welcome/", NEW).status_code == 302
    assert (who(client), User.objects.get().is_superuser) == ("eve", True)


def test_the_printed_link_makes_the_owner_from_anywhere_until_there_is_one():
    link = command("sign_in_link", "--origin", "https://perp.example/")
    assert link.startswith("https://perp.example/welcome/?key=")
    address = link.removeprefix("https://perp.example")
    client = Client(**STRANGER)
    assert client.get(address).status_code == 200
    assert client.post(address, NEW).status_code == 302
    assert who(client) == "eve"
    other = Client(**STRANGER)
    assert other.post(address, NEW | {"username": "mallory"}).status_code == 302
    assert who(other) is None
    assert User.objects.count() == 1


def test_a_link_of_another_installation_makes_no_owner(settings):
    link = welcome_link("")
    settings.SECRET_KEY = "of another installation, and long enough to be a key"
    assert Client(**STRANGER).post(link, NEW).status_code == 403


def test_the_printed_link_ends_after_a_day(clock):
    address = welcome_link("")
    clock.move(24 * 3600 + 1)
    assert Client(**STRANGER).post(address, NEW).status_code == 403
    assert not User.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_link_that_signs_in_once_does_so_for_one_of_several(ada):
    link = link_for(ada, "")
    assert sorted(at_once(link, link, link, link)) == [302, 410, 410, 410]


@pytest.mark.django_db(transaction=True)
def test_of_two_who_join_at_once_under_one_name_in_other_letters_one_does(ada):
    assert sorted(at_once(invited(ada), invited(ada), names=["eve", "EVE"])) == [200, 302]
    assert User.objects.filter(username__iexact="eve").count() == 1


def test_where_two_names_differ_only_in_case_an_upgrade_says_what_to_do():
    """As it could be before: the check that runs before the constraint is there."""
    migration = import_module("accounts.migrations.0003_names_and_log")
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX one_of_each_name")
    for name in ("ada", "Ada", "eve"):
        factories.user(name)
    with pytest.raises(CommandError, match=r"differ only in upper and lower case: ada, Ada\. Nothing was changed\."):
        migration.refuse_twins(apps, SimpleNamespace(connection=connection))
    User.objects.filter(username="Ada").update(username="Ada2")
    migration.refuse_twins(apps, SimpleNamespace(connection=connection))


@pytest.mark.django_db(transaction=True)
def test_of_two_first_visitors_one_becomes_the_owner():
    at_once("/welcome/", "/welcome/")
    assert User.objects.count() == 1


# --- Invitations -----------------------------------------------------------------------------------------------------


def test_there_is_no_sign_up(ada):
    client = Client()
    for address in ("/signup/", "/sign-up/", "/accounts/signup/", "/join/", "/join/x/"):
        client.post(address, NEW)
    assert list(User.objects.all()) == [ada]


def test_the_owner_makes_an_invitation_that_is_shown_once(owner, ada):
    made = owner.post("/people/", {"note": "Eve"})
    invitation = Invitation.objects.get()
    link = made.context["link"]
    assert link.startswith("http://testserver/join/")
    assert link in made.content.decode()
    assert "no-store" in made["Cache-Control"]
    assert (invitation.made_by, invitation.note) == (ada, "Eve")
    later = owner.get("/people/").content.decode()
    assert "Eve" in later
    assert link.rstrip("/").rsplit("/", 1)[1] not in later + str(Invitation.objects.values().get())


def test_an_invited_person_joins_and_is_no_owner(ada):
    client, address = Client(**STRANGER), invited(ada)
    shown = client.get(address)
    assert "ada invites you" in shown.content.decode()
    assert "no-store" in shown["Cache-Control"]
    assert client.post(address, NEW)["Location"] == "/"
    eve = User.objects.get(username="eve")
    assert who(client) == "eve"
    assert (eve.is_staff, eve.is_superuser, eve.email) == (False, False, None)
    assert eve.password.startswith("argon2")
    assert Invitation.objects.get().used_by == eve


def test_an_invitation_works_once(ada):
    address = invited(ada)
    Client().post(address, NEW)
    again = Client()
    assert again.get(address).status_code == 410
    assert again.post(address, NEW | {"username": "mallory"}).status_code == 410
    assert (who(again), User.objects.count()) == (None, 2)


def test_a_name_that_is_taken_is_told_in_whatever_case(ada):
    page = Client().post(invited(ada), NEW | {"username": "Ada"})
    assert "This name is taken." in page.content.decode()


def test_a_refused_form_does_not_use_an_invitation_up(ada):
    address = invited(ada)
    for wrong in ({"username": "ada"}, {"password2": "another one"}, {"password1": "short", "password2": "short"}):
        assert Client().post(address, NEW | wrong).status_code == 200
    assert Client().post(address, NEW).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_of_two_who_use_one_invitation_at_once_one_joins(ada):
    address = invited(ada)
    assert sorted(at_once(address, address)) == [302, 410]
    assert User.objects.count() == 2


def test_an_invitation_that_was_looked_up_twice_is_used_once(ada):
    text = invited(ada).split("/")[2]
    now = timezone.now()
    first, second = (Invitation.working(text, now=now) for _ in range(2))
    assert (first.use(now=now), second.use(now=now)) == (True, False)


def test_an_invitation_ends_after_seven_days(ada, clock):
    address = invited(ada)
    clock.move(7 * 24 * 3600 - 1)
    assert Client().get(address).status_code == 200
    clock.move(1)
    assert Client().post(address, NEW).status_code == 410


def test_an_invitation_can_be_taken_back(owner, ada):
    address = invited(ada)
    owner.post(f"/people/invitations/{Invitation.objects.get().pk}/revoke/")
    assert Client().post(address, NEW).status_code == 410


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_superuser": False}])
def test_nobody_joins_by_the_word_of_who_is_no_longer_the_owner(ada, change):
    address = invited(ada)
    User.objects.update(**change)
    assert Client().post(address, NEW).status_code == 410


def test_an_invitation_is_not_for_who_is_here(owner, ada):
    assert owner.post(invited(ada), NEW)["Location"] == "/"
    assert Invitation.objects.get().used_at is None


def test_the_command_prints_an_invitation(ada):
    link = command("invite", "--note", "Eve", "--origin", "https://perp.example")
    assert Client().post(urlsplit(link).path, NEW).status_code == 302
    assert Invitation.objects.get().note == "Eve"


def test_nobody_is_invited_where_nobody_is():
    with pytest.raises(CommandError, match="Nobody is here yet"):
        command("invite")


def test_links_lead_to_where_the_page_is_served_behind_tls(ada, settings):
    settings.HTTPS, settings.ALLOWED_HOSTS = True, ["perp.example", "testserver"]
    assert command("invite").startswith("https://perp.example/join/")


def test_an_address_given_while_joining_waits_to_be_confirmed(ada, settings):
    settings.MAIL = True
    factories.user("ida", email="eve@example.org")  # that it is taken is told to nobody
    answer = Client().post(invited(ada), NEW | {"address": "Eve@example.org"})
    assert answer.status_code == 302
    post.submit(lambda: None).result()
    eve = User.objects.get(username="eve")
    address = EmailAddress.objects.get(user=eve)
    assert (eve.email, address.email, address.verified) == (None, "eve@example.org", False)
    assert mail.outbox[0].to == ["eve@example.org"]


# --- People ----------------------------------------------------------------------------------------------------------


def test_people_are_the_owners_business(ada):
    eve = factories.user("eve")
    client = Client()
    client.force_login(eve)
    assert client.get("/people/").status_code == 403
    for address in ("/people/", f"/people/{ada.pk}/shut-out/", f"/people/{eve.pk}/let-in/"):
        assert client.post(address).status_code == 403
    ada.refresh_from_db()
    assert ada.is_active
    assert not Invitation.objects.exists()


def test_the_page_says_who_is_here(owner):
    factories.user("eve", is_active=False)
    text = owner.get("/people/").content.decode()
    for words in ("ada", "owner", "eve", "shut out", "never signed in", "no second step"):
        assert words in text


def test_what_lets_people_in_asks_the_owner_once_more_who_they_are(ada):
    client = Client()
    client.force_login(ada)
    asked = client.post("/people/", {"note": "Eve"})
    assert asked["Location"] == "/you/confirm/?next=%2Fpeople%2F"
    assert not Invitation.objects.exists()
    assert client.post(asked["Location"], {"password": "wrong"}).status_code == 200
    assert not Invitation.objects.exists()
    made = client.post(asked["Location"], {"password": factories.PASSWORD, "next": "/people/"})
    assert "/join/" in made.context["link"]  # what was asked for is done then


def test_who_is_shut_out_is_out_at_once_and_back_only_by_signing_in(owner):
    eve, client = factories.user("eve"), Client()
    client.force_login(eve)
    assert client.get("/you/").status_code == 200
    owner.post(f"/people/{eve.pk}/shut-out/")
    assert client.get("/you/").status_code == 302
    assert not UserSession.objects.filter(user=eve).exists()
    owner.post(f"/people/{eve.pk}/let-in/")
    eve.refresh_from_db()
    assert eve.is_active
    assert client.get("/you/").status_code == 302


def test_the_owner_does_not_shut_themselves_out(owner, ada):
    assert owner.post(f"/people/{ada.pk}/shut-out/").status_code == 404
    ada.refresh_from_db()
    assert ada.is_active


def test_a_look_at_the_page_changes_nothing(owner, ada):
    eve = factories.user("eve")
    for address in (f"/people/{eve.pk}/shut-out/", f"/people/{eve.pk}/let-in/", "/people/invitations/1/revoke/"):
        assert owner.get(address).status_code == 405
    assert User.objects.filter(is_active=True).count() == 2


def test_invitations_are_limited(owner):
    answers = [owner.post("/people/", {"note": str(number)}) for number in range(21)]
    assert [answer.status_code for answer in answers[-2:]] == [200, 429]
    assert answers[-1]["Retry-After"] == "60"
    assert Invitation.objects.count() == 20


def test_an_old_invitation_is_not_on_the_page(owner, ada):
    Invitation.issue(ada, "Long ago", now=timezone.now() - timedelta(days=8))
    assert "Long ago" not in owner.get("/people/").content.decode()
