"""Sessions, passwords, addresses, and how often somebody may try."""

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django.core import mail
from django.core.cache import cache
from django.test import Client, override_settings

from accounts.adapter import post
from accounts.browsers import browser_name
from accounts.management.commands.sign_in_link import link_for
from accounts.models import User
from tests import factories

pytestmark = pytest.mark.django_db

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PASSWORD = {"login": "ada", "password": factories.PASSWORD}
ANOTHER = "another correct horse battery"


@pytest.fixture
def ada() -> Any:
    made = factories.user("ada", is_superuser=True, is_staff=True)
    made.set_password(factories.PASSWORD)
    made.save()
    return made


def signed_in(**seen_as: str) -> Client:
    client = Client(**seen_as)
    assert client.post("/sign-in/", PASSWORD).status_code == 302
    return client


@pytest.fixture
def browser(ada: Any) -> Client:
    """Ada's, in which she said just now who she is."""
    client = signed_in()
    client.post("/you/confirm/", {"password": factories.PASSWORD})
    return client


def is_in(client: Client) -> bool:
    return client.get("/you/").status_code == 200


def sent() -> list[Any]:
    """The mails so far, those on their way too."""
    post.submit(lambda: None).result()
    return mail.outbox


# --- Who is here is not told -----------------------------------------------------------------------------------------


def test_the_sign_in_page_does_not_tell_whether_a_name_exists(ada):
    factories.user("shut", is_active=False)
    pages = [Client().post("/sign-in/", {"login": name, "password": "wrong"}) for name in ("ada", "nobody", "shut")]
    texts = {re.sub(r'value="[^"]*"', "", page.content.decode()) for page in pages}
    assert len(texts) == 1
    assert {page.status_code for page in pages} == {200}


def test_an_unknown_name_takes_as_much_work_as_a_known_one(ada, settings):
    """Both are put through the slow hash once: the hashers tell, as time is not to be measured here."""
    settings.PASSWORD_HASHERS = ["tests.accounts.counting.CountingHasher"]
    from tests.accounts.counting import CountingHasher

    User.objects.filter(pk=ada.pk).update(password=CountingHasher().encode(factories.PASSWORD, "salt"))
    counts = []
    for name in ("ada", "nobody"):
        CountingHasher.count = 0
        Client().post("/sign-in/", {"login": name, "password": "wrong"})
        counts.append(CountingHasher.count)
    assert counts == [1, 1]


@pytest.mark.parametrize("address", ["ada@example.org", "nobody@example.org"])
def test_a_forgotten_password_does_not_tell_whether_an_address_is_known(ada, settings, address):
    settings.MAIL = True
    EmailAddress.objects.create(user=ada, email="ada@example.org", verified=True, primary=True)
    answer = Client().post("/forgotten/", {"email": address}, follow=True)
    assert "If the address belongs to somebody here" in answer.text
    assert len(sent()) == (address == "ada@example.org")


# --- Trying too often ------------------------------------------------------------------------------------------------


def test_failures_are_limited_by_name_whatever_the_address(ada, clock):
    def fail(number: int) -> Any:
        return Client(REMOTE_ADDR=f"203.0.113.{number}").post("/sign-in/", {"login": "Ada ", "password": "wrong"})

    assert {fail(number).status_code for number in range(10)} == {200}
    refused = fail(10)
    assert (refused.status_code, refused["Retry-After"]) == (429, "300")
    assert "Try again in 5 minutes" in refused.content.decode()
    assert Client().post("/sign-in/", PASSWORD).status_code == 429
    clock.move(301)
    signed_in()


def test_failures_are_limited_by_address_whatever_the_name(ada, clock):
    def fail(number: int, address: str = "203.0.113.1") -> int:
        return Client(REMOTE_ADDR=address).post("/sign-in/", {"login": f"n{number}", "password": "x"}).status_code

    assert {fail(number) for number in range(20)} == {200}
    assert fail(21) == 429
    assert fail(22, "203.0.113.2") == 200
    signed_in()  # from elsewhere


def test_neighbours_of_an_ipv6_network_are_one(ada):
    answers = [
        Client(REMOTE_ADDR=f"2001:db8::{number:x}").post("/sign-in/", {"login": f"n{number}", "password": "x"})
        for number in range(21)
    ]
    assert answers[-1].status_code == 429


@override_settings(ALLOWED_HOSTS=["*"])
def test_another_host_name_gives_no_more_tries(ada):
    for number in range(10):
        Client(REMOTE_ADDR=f"203.0.113.{number}").post(
            "/sign-in/", {"login": "ada", "password": "x"}, headers={"host": f"h{number}.example"}
        )
    assert Client().post("/sign-in/", PASSWORD).status_code == 429


def test_signing_in_now_and_then_gives_a_guesser_no_more_tries(ada):
    eve = factories.user("eve")
    eve.set_password(factories.PASSWORD)
    eve.save()
    for number in range(20):
        if number % 5 == 0:
            Client().post("/sign-in/", {"login": "eve", "password": factories.PASSWORD})
        Client().post("/sign-in/", {"login": f"name-{number}", "password": "x"})
    assert Client().post("/sign-in/", {"login": "name", "password": "x"}).status_code == 429


@pytest.mark.parametrize(
    ("proxies", "forwarded", "counted"),
    [
        (0, "198.51.100.1", "127.0.0.1"),
        (1, "198.51.100.1", "198.51.100.1"),
        (1, "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        (2, "198.51.100.1", "198.51.100.1"),  # fewer than were promised
        (2, "", "127.0.0.1"),
        (1, "nonsense", "0.0.0.0"),
    ],
)
def test_an_address_is_what_our_own_proxies_saw(ada, settings, proxies, forwarded, counted):
    settings.PROXIES = settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    client = Client(HTTP_X_FORWARDED_FOR=forwarded)
    assert client.post("/sign-in/", PASSWORD).status_code == 302
    assert UserSession.objects.get().ip == counted


def test_asking_for_mails_is_limited(ada, settings):
    settings.MAIL = True
    answers = [Client().post("/forgotten/", {"email": "ada@example.org"}) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [302, 302, 302, 429]
    assert answers[-1]["Retry-After"] == "60"


def test_guessing_the_password_in_a_stolen_session_is_limited(browser):
    answers = [browser.post("/you/confirm/", {"password": "wrong"}).status_code for _ in range(11)]
    assert answers[-1] == 429


# --- Where it leads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["https://evil.example/", "//evil.example/", "/\\evil.example", "https:evil.example", "javascript:alert(1)",
     "http://other.testserver/"],
)  # fmt: skip
@override_settings(ALLOWED_HOSTS=["testserver", ".testserver"], CSRF_TRUSTED_ORIGINS=["https://evil.example"])
def test_nothing_leads_to_another_site(ada, address):
    client = Client()
    assert client.post("/sign-in/", PASSWORD | {"next": address})["Location"] == "/"
    assert client.get("/sign-in/", {"next": address})["Location"] == "/"
    assert client.post("/you/confirm/", {"password": factories.PASSWORD, "next": address})["Location"] == "/"
    assert client.post("/sign-out/", {"next": address})["Location"] == "/sign-in/"


# --- Sessions --------------------------------------------------------------------------------------------------------


def test_the_page_says_where_one_is_signed_in(browser):
    signed_in(REMOTE_ADDR="203.0.113.9", HTTP_USER_AGENT=FIREFOX)
    text = browser.get("/you/sessions/").content.decode()
    for words in ("this one", "Firefox on Linux", "203.0.113.9", "last seen"):
        assert words in text


def test_a_session_that_is_ended_is_out_and_no_other(browser, ada):
    first, second = signed_in(HTTP_USER_AGENT=FIREFOX), signed_in()
    browser.post(f"/you/sessions/{UserSession.objects.get(user_agent=FIREFOX).pk}/end/")
    assert (is_in(first), is_in(second), is_in(browser)) == (False, True, True)


def test_all_other_sessions_can_be_ended(browser):
    others = [signed_in(), signed_in()]
    browser.post("/you/sessions/")
    assert [is_in(one) for one in (*others, browser)] == [False, False, True]


def test_another_persons_session_does_not_exist(browser):
    eve, client = factories.user("eve"), Client()
    client.force_login(eve)
    assert client.post(f"/you/sessions/{UserSession.objects.get().pk}/end/").status_code == 404
    assert is_in(browser)


def test_a_session_lasts_thirty_days(ada, clock):
    client = signed_in()
    assert client.cookies["sessionid"]["max-age"] == 30 * 24 * 3600
    clock.move(30 * 24 * 3600 + 1)
    assert not is_in(client)


def test_a_sessions_use_is_noted_every_five_minutes(ada, clock):
    client = signed_in()
    is_in(client)
    first = UserSession.objects.get().last_seen_at
    for seconds, passed in ((200, 0), (101, 301)):
        clock.move(seconds)
        is_in(client)
        assert (UserSession.objects.get().last_seen_at - first).total_seconds() == passed


def test_the_cache_holds_no_key_of_a_session(ada):
    client = signed_in()
    is_in(client)
    assert client.session.session_key not in str(cache._cache)


@pytest.mark.parametrize(
    ("says", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605 Version/18 Safari/605", "Safari on Mac"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64) AppleWebKit/537 Chrome/140 Safari/537 Edg/140", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 15) AppleWebKit/537 Chrome/140 Mobile Safari/537", "Chrome on Android"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18 Safari/604", "Safari on iPhone"),
        ("curl/8.10.1", "curl/8.10.1"),
        ("", "Unknown browser"),
    ],
)
def test_a_browser_has_the_name_people_know(says, name):
    assert browser_name(says) == name


# --- Passwords -------------------------------------------------------------------------------------------------------


def test_a_new_password_ends_all_other_sessions(browser, ada):
    other = signed_in()
    wanted = {"oldpassword": factories.PASSWORD, "password1": ANOTHER, "password2": ANOTHER}
    assert browser.post("/you/password/", wanted | {"oldpassword": "wrong"}).status_code == 200
    assert is_in(other)
    assert browser.post("/you/password/", wanted)["Location"] == "/you/"
    assert (is_in(browser), is_in(other)) == (True, False)
    ada.refresh_from_db()
    assert ada.check_password(ANOTHER)
    assert ada.password.startswith("argon2")


@pytest.mark.parametrize(
    ("password", "says"),
    [("short1!", "At least 8 characters.</li>"), ("password123", "Many people take"), (ANOTHER, "The two")],
)
def test_a_bad_password_is_not_taken(browser, password, says):
    wanted = {"oldpassword": factories.PASSWORD, "password1": password, "password2": password[:11]}
    assert says in browser.post("/you/password/", wanted).content.decode()
    signed_in()


def test_who_came_by_a_link_can_set_a_first_password():
    eve, client = factories.user("eve"), Client()
    eve.set_unusable_password()
    eve.save()
    client.force_login(eve)
    assert client.get("/you/password/")["Location"] == "/you/password/set/"
    client.post("/you/password/set/", {"password1": ANOTHER, "password2": ANOTHER})
    assert is_in(client)
    assert Client().post("/sign-in/", {"login": "eve", "password": ANOTHER}).status_code == 302


def test_who_came_by_a_link_needs_no_old_password_for_ten_minutes(ada, clock):
    client, wanted = Client(), {"password1": ANOTHER, "password2": ANOTHER}
    client.post(link_for(ada, ""))
    assert "oldpassword" not in client.get("/you/password/").content.decode()
    clock.move(601)
    assert "sign_in_link" in client.get("/you/password/").content.decode()
    assert client.post("/you/password/", wanted).status_code == 200
    assert is_in(signed_in())
    ada.refresh_from_db()
    client.post(link_for(ada, ""))
    assert client.post("/you/password/", wanted)["Location"] == "/you/"
    assert is_in(client)
    assert Client().post("/sign-in/", PASSWORD | {"password": ANOTHER}).status_code == 302


def test_who_is_asked_for_a_forgotten_password_reads_what_to_do(browser, settings):
    for settings.MAIL in (False, True):
        page = browser.get("/you/password/").content.decode()
        assert "sign_in_link" in page
        assert ("Have a link mailed" in page) is settings.MAIL


def test_whoever_else_signed_in_is_asked_for_the_old_password(ada, clock):
    client = signed_in()
    client.post("/you/confirm/", {"password": factories.PASSWORD})
    assert client.post("/you/password/", {"password1": ANOTHER, "password2": ANOTHER}).status_code == 200
    assert is_in(signed_in())


def test_a_link_used_by_who_is_in_leads_to_the_dashboard(browser, ada):
    link = link_for(ada, "")
    browser.post(link)
    assert "To the dashboard" in browser.get(link).content.decode()
    assert "Sign in with a password" in Client().get(link).content.decode()


def test_a_forgotten_password_is_reset_by_mail_once_and_ends_every_session(browser, ada, settings):
    settings.MAIL = True
    EmailAddress.objects.create(user=ada, email="ada@example.org", verified=True, primary=True)
    Client().post("/forgotten/", {"email": "Ada@example.org"})
    link = re.search(r"http://[\w.:]+(/forgotten/\S+)", sent()[0].body)[1]
    client = Client()
    form = client.get(link, follow=True)
    assert "no-store" in form["Cache-Control"]
    assert link not in form.redirect_chain[-1][0]
    client.post(form.redirect_chain[-1][0], {"password1": ANOTHER, "password2": ANOTHER})
    assert not is_in(browser)
    assert not is_in(client)
    assert Client().post("/sign-in/", {"login": "ada", "password": ANOTHER}).status_code == 302
    assert "This link no longer works" in Client().get(link, follow=True).content.decode()
    assert [one.subject for one in sent()][-1] == "perpdash: your sign-in was changed"


def test_an_address_that_waits_to_be_confirmed_resets_nothing(ada, settings):
    settings.MAIL = True
    EmailAddress.objects.create(user=ada, email="ada@example.org", verified=False, primary=False)
    assert Client().post("/forgotten/", {"email": "ada@example.org"}).status_code == 302
    assert sent() == []


@pytest.mark.parametrize("is_encrypted", [True, False])
def test_a_mail_leads_where_the_page_is_served_whatever_a_stranger_asks_for(ada, settings, tmp_path, is_encrypted):
    settings.MAIL, settings.EMBEDDED, settings.VAR_DIR = True, True, tmp_path
    (tmp_path / "origin.txt").write_text("http://testserver:8100")
    settings.HTTPS, settings.ALLOWED_HOSTS = is_encrypted, ["perp.example", "testserver"]
    EmailAddress.objects.create(user=ada, email="ada@example.org", verified=True, primary=True)
    Client().post("/forgotten/", {"email": "ada@example.org"}, headers={"host": "testserver:6666"})
    origin = "https://perp.example" if is_encrypted else "http://testserver:8100"
    assert f"{origin}/forgotten/" in sent()[0].body
    assert "6666" not in sent()[0].body


def test_without_mail_the_way_is_the_machines(ada):
    assert "manage.py sign_in_link" in Client().get("/sign-in/").content.decode()
    for answer in (Client().get("/forgotten/"), Client().post("/forgotten/", {"email": "ada@example.org"})):
        assert "This installation sends no mail" in answer.content.decode()
    assert sent() == []


# --- After a session ended -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("referer", "following"),
    [
        ("http://testserver/accounts/?venue=bybit#x", "/accounts/?venue=bybit"),
        ("http://elsewhere.example/accounts/", "/"),
        ("http://testserver//elsewhere.example/", "/"),
        ("", "/"),
    ],
)
def test_a_button_pressed_too_late_leads_back_to_its_page(ada, referer, following):
    client = Client(headers={"Referer": referer})
    asked = client.post("/accounts/1/pause/")
    assert parse_qs(urlsplit(asked["Location"]).query)["next"] == [following]
    assert client.post(asked["Location"], PASSWORD | {"next": following})["Location"] == following


def test_the_sign_in_says_why_it_is_asked_for(ada):
    assert "This session was ended." in Client().get("/sign-in/?ended=1&next=/").content.decode()
    assert "This session was ended." not in Client().get("/sign-in/").content.decode()


# --- E-mail ----------------------------------------------------------------------------------------------------------


def confirm(number: int = -1) -> Any:
    link = re.search(r"http://testserver(/you/email/\S+)", sent()[number].body)[1]
    return Client().post(link)


def test_an_address_is_a_persons_once_it_is_confirmed(browser, ada, settings):
    settings.MAIL = True
    browser.post("/you/email/", {"email": "Ada@example.org", "action_add": "1"})
    ada.refresh_from_db()
    assert ada.email is None
    confirm()
    ada.refresh_from_db()
    assert ada.email == "ada@example.org"
    assert "ada@example.org" in browser.get("/you/").content.decode()


def test_an_address_that_is_taken_is_not_told_and_not_had(browser, ada, settings):
    settings.MAIL = True
    eve = factories.user("eve", email="eve@example.org")
    EmailAddress.objects.create(user=eve, email="eve@example.org", verified=True, primary=True)
    answer = browser.post("/you/email/", {"email": "eve@example.org", "action_add": "1"}, follow=True)
    assert "A mail is on its way" in answer.content.decode()
    confirm()
    ada.refresh_from_db()
    eve.refresh_from_db()
    assert (ada.email, eve.email) == (None, "eve@example.org")


def test_who_reads_an_address_has_it_before_who_only_claims_it(browser, ada, settings):
    settings.MAIL = True
    eve = factories.user("eve", email="ada@example.org")  # put in by an admin
    browser.post("/you/email/", {"email": "ada@example.org", "action_add": "1"})
    confirm()
    ada.refresh_from_db()
    eve.refresh_from_db()
    assert (ada.email, eve.email) == ("ada@example.org", None)


def test_an_address_can_be_removed(browser, ada, settings):
    EmailAddress.objects.create(user=ada, email="ada@example.org", verified=True, primary=True)
    User.objects.update(email="ada@example.org")
    browser.post("/you/email/", {"email": "ada@example.org", "action_remove": "1"})
    ada.refresh_from_db()
    assert (ada.email, EmailAddress.objects.count()) == (None, 0)


def test_without_mail_an_address_waits(browser, ada):
    answer = browser.post("/you/email/", {"email": "ada@example.org", "action_add": "1"}, follow=True)
    assert "This installation sends no mail" in answer.content.decode()
    assert sent() == []
    ada.refresh_from_db()
    assert ada.email is None


def test_where_mail_is_sent_the_page_does_not_say_there_is_none(browser, settings):
    settings.MAIL = True
    page = browser.post("/you/email/", {"email": "ada@example.org", "action_add": "1"}, follow=True).content.decode()
    assert "sends no mail" not in page
    assert "Send the mail again" in page


def test_changing_an_address_asks_once_more_who_it_is(ada, clock):
    client = signed_in()
    clock.move(601)
    answer = client.post("/you/email/", {"email": "eve@example.org", "action_add": "1"})
    assert answer["Location"].startswith("/you/confirm/")
    assert not EmailAddress.objects.exists()


def test_a_mail_that_cannot_be_sent_stops_nobody(browser, settings, caplog):
    settings.MAIL, settings.EMAIL_BACKEND = True, "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    assert browser.post("/you/email/", {"email": "ada@example.org", "action_add": "1"}).status_code == 302
    post.submit(lambda: None).result()
    assert "A mail was not sent (ConnectionRefusedError)" in caplog.text
    assert "ada@example.org" not in caplog.text


# --- The pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["/you/", "/you/password/", "/you/email/", "/you/app/", "/you/passkeys/add/", "/you/sessions/", "/you/confirm/",
     "/sign-out/", "/people/", "/forgotten/", "/forgotten/sent/", "/forgotten/done/", "/forgotten/1-x/",
     "/sign-in/closed/", "/you/email/x/"],
)  # fmt: skip
def test_every_page_is_ours(browser, address):
    answer = browser.get(address)
    assert answer.status_code == 200
    assert '<a class="brand"' in answer.content.decode()
    assert "Menu:" not in answer.content.decode()


def test_what_the_library_also_has_is_not_there(browser):
    for address in ("/accounts/login/", "/accounts/signup/", "/login/code/", "/you/2fa/", "/sign-in/trust/"):
        assert browser.get(address).status_code == 404
