"""Tokens of programs: how they are made and ended, what each may do, and that a socket ends with whoever opened it."""

from collections.abc import Callable
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from accounts.models import ApiToken, AuditEvent, User
from accounts.token_views import MOST
from perpdash.asgi import application
from tests import factories
from volume import live

pytestmark = pytest.mark.django_db

TOKENS = "/you/tokens/"
READ, MANAGE = ApiToken.Scope.READ, ApiToken.Scope.MANAGE
in_thread = database_sync_to_async


@pytest.fixture
def ada() -> Any:
    """Without a password, so that none is asked for again."""
    return factories.user("ada", password="!")


@pytest.fixture
def page(ada: Any) -> Client:
    client = Client()
    client.force_login(ada)
    return client


def program(text: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {text}"}, enforce_csrf_checks=True)


# --- The page --------------------------------------------------------------------------------------------------------


def test_a_token_only_reads_unless_more_is_asked_for(page, ada):
    assert '<option value="read" selected>' in page.get(TOKENS).content.decode()
    assert ApiToken.issue(ada, "bot") and ada.api_tokens.get().scope == READ


@pytest.mark.parametrize("name", ["two\nlines", "bot\u202e", "bell\x07", "x" * 81])
def test_a_name_that_would_spoil_the_log_is_refused(page, ada, name):
    assert not page.post(TOKENS, {"name": name, "scope": "read"}).context["text"]
    with pytest.raises(CommandError, match="This is no name for a token"):
        call_command("create_token", "--owner", "ada", "--name", name)
    assert not ada.api_tokens.exists()


def test_a_new_token_is_shown_once_and_kept_nowhere(page, ada):
    answer = page.post(TOKENS, {"name": "bot", "scope": "manage"})
    token = ada.api_tokens.get()
    assert (token.name, token.scope) == ("bot", MANAGE)
    text = answer.context["text"]
    assert text in answer.content.decode() and token.digest == ApiToken.digest_of(text)
    assert "no-store" in answer["Cache-Control"]
    assert program(text).get("/api/v1/audit/").status_code == 200
    assert text not in page.get(TOKENS).content.decode()
    assert text not in str(list(AuditEvent.objects.values()))


def test_a_page_that_is_sent_twice_makes_one_token(page, ada):
    for _ in range(2):
        answer = page.post(TOKENS, {"name": "bot", "scope": "read"})
    assert "A token of yours has this name already." in answer.content.decode()
    assert ada.api_tokens.count() == 1
    assert ApiToken.issue(factories.user("eve"), "bot"), "the names of others are theirs"


@pytest.mark.parametrize("values", [{}, {"name": "bot"}, {"name": " ", "scope": "read"}, {"name": "a", "scope": "all"}])
def test_half_a_form_makes_no_token(page, values):
    assert page.post(TOKENS, values).status_code == 200
    assert not ApiToken.objects.exists()


def test_there_are_only_so_many_tokens_of_one_person(page, ada):
    for number in range(MOST):
        ApiToken.issue(ada, f"bot {number}")
    assert f"You have {MOST} tokens" in page.post(TOKENS, {"name": "more", "scope": "read"}).content.decode()
    assert ada.api_tokens.count() == MOST


def test_revoking_asks_first_and_then_the_token_is_refused(page, ada):
    text = ApiToken.issue(ada, "bot")
    address = reverse("accounts:revoke-token", args=[ada.api_tokens.get().pk])
    assert "Revoke bot?" in page.get(address).content.decode()
    assert program(text).get("/api/v1/audit/").status_code == 200
    assert page.post(address)["Location"] == TOKENS
    assert program(text).get("/api/v1/audit/").status_code == 401


def test_nobody_sees_or_revokes_the_token_of_another(page):
    eve = factories.user("eve")
    ApiToken.issue(eve, "hers")
    assert "hers" not in page.get(TOKENS).content.decode()
    address = reverse("accounts:revoke-token", args=[eve.api_tokens.get().pk])
    assert [page.get(address).status_code, page.post(address).status_code] == [404, 404]
    assert eve.api_tokens.exists()


def test_a_name_is_text_and_nothing_else(page, ada):
    ApiToken.issue(ada, "<script>alert(1)</script>")
    assert "<script>alert" not in page.get(TOKENS).content.decode()


def test_the_command_makes_a_token_that_reads_or_one_that_manages(ada, capsys):
    call_command("create_token", "--owner", "ada", "--name", "bot")
    call_command("create_token", "--owner", "ada", "--name", "boss", "--scope", "manage")
    assert dict(ada.api_tokens.values_list("name", "scope")) == {"bot": READ, "boss": MANAGE}
    with pytest.raises(CommandError):
        call_command("create_token", "--owner", "ada", "--scope", "all")


def test_whoever_finds_an_open_page_makes_no_token_without_the_password(ada):
    ada.set_password(factories.PASSWORD)
    ada.save()
    client = Client()
    client.force_login(ada)
    assert client.get(TOKENS).status_code == 200
    values = {"name": "bot", "scope": "manage"}
    assert client.post(TOKENS, values)["Location"].startswith(reverse("account_reauthenticate"))
    assert not ada.api_tokens.exists()
    answer = client.post(f"{reverse('account_reauthenticate')}?next={TOKENS}", {"password": factories.PASSWORD})
    assert answer.context["text"] and ada.api_tokens.get().name == "bot", "what was asked for is done after all"


# --- What a token may do ---------------------------------------------------------------------------------------------


def routes(resolver: URLResolver, below: str = "/") -> Any:
    for pattern in resolver.url_patterns:
        path = below + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, path)
        elif isinstance(pattern, URLPattern) and path.startswith("/api/v1/"):
            yield path.replace("(?P<pk>[^/.]+)", "1").replace("^", "").replace("$", "")


@pytest.mark.parametrize("path", sorted(set(routes(get_resolver()))))
def test_a_token_that_reads_changes_nothing_anywhere(path, ada):
    client = program(ApiToken.issue(ada, "bot"))
    for method in (client.post, client.put, client.patch, client.delete):
        refused = method(path, {}, content_type="application/json")
        assert refused.status_code == 403, path
        assert refused.data["error"]["code"] == "token_only_reads"
        assert refused.data["error"]["message"].endswith(f"http://testserver{TOKENS}")


def test_a_token_that_reads_reads_and_one_that_manages_writes(ada):
    account = factories.credential(owner=ada)
    address = f"/api/v1/credentials/{account.pk}/"
    reads, manages = program(ApiToken.issue(ada, "bot")), program(ApiToken.issue(ada, "boss", MANAGE))
    for method in (reads.get, reads.head, reads.options):
        assert method(address).status_code == 200
    assert reads.delete(address).status_code == 403
    assert manages.patch(address, {"label": "New"}, content_type="application/json").json()["label"] == "New"
    assert manages.delete(address).status_code == 204


@pytest.mark.parametrize(
    "name", ["accounts:tokens", "accounts:audit", "accounts:people", "accounts:you", "admin:index"]
)
def test_no_token_opens_the_pages_on_which_tokens_and_people_are_made(name, ada):
    User.objects.update(is_superuser=True, is_staff=True)
    client = program(ApiToken.issue(ada, "boss", MANAGE))
    assert client.get(reverse(name)).status_code == 302
    assert client.post(reverse(name), {"name": "more", "scope": "manage"}).status_code in (302, 403)
    assert ada.api_tokens.count() == 1


# --- Sockets end with whoever opened them ----------------------------------------------------------------------------


def end_session(ada: Any) -> None:
    Session.objects.all().delete()


def change_password(ada: Any) -> None:
    ada.set_password(factories.PASSWORD)
    ada.save()


def shut_out(ada: Any) -> None:
    User.objects.filter(pk=ada.pk).update(is_active=False)


def revoke(ada: Any) -> None:
    ada.api_tokens.all().delete()


def session_of(ada: Any) -> tuple[bytes, bytes]:
    client = Client()
    client.force_login(ada)
    return (b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode())


def token_of(ada: Any) -> tuple[bytes, bytes]:
    return (b"authorization", f"Bearer {ApiToken.issue(ada, 'bot')}".encode())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("asked", ["ping", "push"])
@pytest.mark.parametrize(
    ("key", "end"),
    [
        (session_of, end_session),
        (session_of, change_password),
        (session_of, shut_out),
        (token_of, revoke),
        (token_of, shut_out),
    ],
)
async def test_a_socket_is_closed_at_its_next_message(key: Callable, end: Callable, asked: str, sandbox: Any):
    ada = await in_thread(factories.user)("ada")
    socket = WebsocketCommunicator(application, "/ws/volume/", headers=[await in_thread(key)(ada)])
    await socket.connect(timeout=5)
    assert (await socket.receive_json_from(timeout=5))["type"] == "summary"
    await in_thread(end)(ada)
    if asked == "ping":
        await socket.send_json_to({"type": "ping"})
    else:
        await in_thread(live.push)(ada.pk)
    assert await socket.receive_output() == {"type": "websocket.close", "code": 4401}
    assert await socket.receive_nothing(timeout=0.05)


def shut_out_on_the_page(ada: Any) -> None:
    root, client = factories.user("root", is_superuser=True), Client()
    root.set_password(factories.PASSWORD)
    root.save()
    client.post("/sign-in/", {"login": "root", "password": factories.PASSWORD})
    assert client.post(f"/people/{ada.pk}/shut-out/").status_code == 302


def end_session_on_the_page(ada: Any) -> None:
    client = Client()
    client.force_login(ada)
    UserSession.objects.bulk_create(
        [UserSession(user=ada, session_key=kept.session_key, ip="127.0.0.1") for kept in Session.objects.all()]
    )
    mine = UserSession.objects.exclude(session_key=client.session.session_key).get()
    assert client.post(f"/you/sessions/{mine.pk}/end/").status_code == 302


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("key", "end"),
    [
        (session_of, change_password),
        (session_of, shut_out_on_the_page),
        (session_of, end_session_on_the_page),
        (token_of, revoke),
        (token_of, shut_out_on_the_page),
    ],
)
async def test_a_socket_is_closed_at_once_and_once(key: Callable, end: Callable, sandbox: Any):
    ada = await in_thread(factories.user)("ada")
    socket = WebsocketCommunicator(application, "/ws/volume/", headers=[await in_thread(key)(ada)])
    await socket.connect(timeout=5)
    assert (await socket.receive_json_from(timeout=5))["type"] == "summary"
    await in_thread(end)(ada)
    assert await socket.receive_output() == {"type": "websocket.close", "code": 4401}
    assert await socket.receive_nothing(timeout=0.05)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("key", [session_of, token_of])
async def test_a_socket_stays_with_whoever_may_still_look(key: Callable, sandbox: Any):
    ada = await in_thread(factories.user)("ada")
    socket = WebsocketCommunicator(application, "/ws/volume/", headers=[await in_thread(key)(ada)])
    await socket.connect(timeout=5)
    await socket.receive_json_from(timeout=5)
    for _ in range(2):
        await socket.send_json_to({"type": "ping"})
        assert await socket.receive_json_from(timeout=5) == {"type": "pong"}
        await in_thread(live.push)(ada.pk)
        assert (await socket.receive_json_from(timeout=5))["type"] == "summary"
    await socket.disconnect()


@pytest.mark.django_db(transaction=True)
async def test_a_socket_is_a_use_of_its_token(sandbox: Any):
    ada = await in_thread(factories.user)("ada")
    socket = WebsocketCommunicator(application, "/ws/volume/", headers=[await in_thread(token_of)(ada)])
    await socket.connect(timeout=5)
    await socket.receive_json_from(timeout=5)
    assert (await in_thread(ada.api_tokens.get)()).last_used_at is not None
    await socket.disconnect()
