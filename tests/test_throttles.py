"""Who asks too much is told when to ask again, and the database is not asked meanwhile."""

from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from drf_spectacular.generators import SchemaGenerator
from rest_framework.settings import api_settings

from accounts.models import ApiToken
from perpdash.asgi import application
from perpdash.openapi import REFUSALS
from tests import factories

pytestmark = pytest.mark.django_db

SUMMARY = "/api/v1/volume/summary/"
PREFERENCES = "/api/v1/preferences/"


@pytest.fixture
def rates(settings: Any, clock: Any) -> Any:
    """Sets rates a test can use up: `rates(person=2)`."""

    def set_to(**asked: int) -> None:
        changed = {name: f"{number}/min" for name, number in asked.items()}
        known = settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]
        settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"DEFAULT_THROTTLE_RATES": known | changed}

    return set_to


@pytest.fixture
def ada() -> Any:
    return factories.user("ada")


def signed_in(person: Any, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(person)
    return client


def with_token(text: str, **options: Any) -> Client:
    return Client(headers={"Authorization": f"Bearer {text}"}, **options)


def test_who_asks_too_much_is_told_when_to_ask_again(ada, rates, clock):
    rates(person=2)
    page = signed_in(ada)
    assert page.get(SUMMARY).status_code == 200
    clock.move(10)
    assert page.get(SUMMARY).status_code == 200
    refused = page.get(SUMMARY)
    assert (refused.status_code, refused["Retry-After"]) == (429, "50")
    error = refused.json()["error"]
    assert (error["code"], error["message"]) == ("throttled", "Too many requests. Ask again in 50 seconds.")
    assert error["request_id"] == refused["X-Request-ID"]
    clock.move(50)
    assert page.get(SUMMARY).status_code == 200


def test_page_and_tokens_of_a_person_share_one_budget_and_another_has_their_own(ada, rates):
    rates(person=2)
    page, program = signed_in(ada), with_token(ApiToken.issue(ada, "bot"))
    assert [client.get(SUMMARY).status_code for client in (page, program, page)] == [200, 200, 429]
    assert signed_in(factories.user("eve")).get(SUMMARY).status_code == 200


def test_what_writes_has_a_smaller_budget(ada, rates):
    rates(write=1)
    page = signed_in(ada)
    assert page.patch(PREFERENCES, {}, content_type="application/json").status_code == 200
    assert page.patch(PREFERENCES, {}, content_type="application/json").status_code == 429
    assert page.get(PREFERENCES).status_code == 200


def test_exports_and_what_asks_a_venue_share_the_smallest_budget(ada, rates, sandbox):
    rates(costly=2)
    page, account = signed_in(ada), factories.credential(owner=ada)
    assert page.get("/api/v1/export/").status_code == 200
    assert page.post(f"/api/v1/credentials/{account.pk}/verify/").status_code == 200
    assert page.get("/api/v1/export/").status_code == 429
    assert page.post("/api/v1/credentials/", {}, content_type="application/json").status_code == 429
    assert page.post(f"/api/v1/credentials/{account.pk}/sync/").status_code == 202


def test_a_stranger_has_a_budget_by_address(rates):
    rates(stranger=1)
    assert Client().get(SUMMARY).status_code == 401
    refused = Client().get(SUMMARY)
    assert (refused.status_code, refused["Retry-After"]) == (429, "60")
    assert Client(REMOTE_ADDR="203.0.113.9").get(SUMMARY).status_code == 401


def test_wrong_tokens_are_counted_and_the_database_is_not_asked_any_more(ada, rates, django_assert_num_queries):
    rates(wrong_token=2)
    good = ApiToken.issue(ada, "bot")
    for _ in range(3):
        assert with_token(good).get(SUMMARY).status_code == 200
    assert [with_token(f"perp_{number}").get(SUMMARY).status_code for number in range(2)] == [401, 401]
    with django_assert_num_queries(0):
        refused = with_token("perp_2").get(SUMMARY)
    assert (refused.status_code, refused["Retry-After"]) == (429, "60")
    assert with_token(good).get(SUMMARY).status_code == 429, "else it would tell that this one is right"
    assert with_token(good, REMOTE_ADDR="203.0.113.9").get(SUMMARY).status_code == 200


def test_nobody_escapes_by_claiming_another_address(rates):
    rates(wrong_token=1)
    for claimed, status in (("203.0.113.1", 401), ("203.0.113.2", 429)):
        client = Client(headers={"X-Forwarded-For": claimed, "Authorization": "Bearer perp_wrong"})
        assert client.get(SUMMARY).status_code == status


def test_behind_a_proxy_the_address_it_saw_counts(rates, settings):
    rates(wrong_token=1)
    settings.PROXIES = 1
    for forwarded, status in (("1.1.1.1, 203.0.113.1", 401), ("2.2.2.2, 203.0.113.1", 429), ("203.0.113.2", 401)):
        client = Client(headers={"X-Forwarded-For": forwarded, "Authorization": "Bearer perp_wrong"})
        assert client.get(SUMMARY).status_code == status


async def closed_with(text: str) -> Any:
    socket = WebsocketCommunicator(application, "/ws/volume/", headers=[(b"authorization", f"Bearer {text}".encode())])
    await socket.connect(timeout=5)
    code = (await socket.receive_output())["code"]
    await socket.disconnect()
    return code


@pytest.mark.django_db(transaction=True)
async def test_sockets_and_the_api_count_wrong_tokens_together(rates):
    rates(wrong_token=2)
    assert [await closed_with(f"perp_{number}") for number in range(3)] == [4401, 4401, 4429]


def routes(resolver: URLResolver, below: str = "") -> Any:
    for pattern in resolver.url_patterns:
        path = below + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, path)
        elif path.startswith("api/v1/"):
            yield path, pattern


def test_every_route_of_the_api_is_throttled():
    found = dict(routes(get_resolver()))
    assert len(found) > 20
    for path, pattern in found.items():
        assert isinstance(pattern, URLPattern)
        view = pattern.callback.cls
        assert view.throttle_classes == api_settings.DEFAULT_THROTTLE_CLASSES, path
        assert view.authentication_classes == api_settings.DEFAULT_AUTHENTICATION_CLASSES, path


def test_every_operation_says_how_it_may_be_refused():
    schema = SchemaGenerator().get_schema(public=True)
    shape = {"$ref": "#/components/schemas/Error"}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            for status in REFUSALS:
                answer = operation["responses"][str(status.value)]
                assert answer["content"]["application/json"]["schema"] == shape, (path, method)
    assert "Retry-After" in schema["paths"][SUMMARY]["get"]["responses"]["429"]["headers"]


def test_a_refusal_is_as_described(ada, rates):
    rates(person=0)
    described = SchemaGenerator().get_schema(public=True)["components"]["schemas"]["Error"]
    refused = signed_in(ada).get(reverse("api:audit"))
    assert (refused.status_code, refused["Retry-After"]) == (429, "60")
    assert sorted(refused.json()["error"]) == sorted(described["properties"]["error"]["required"])


@pytest.mark.parametrize("come", [signed_in, lambda ada: with_token(ApiToken.issue(ada, "bot", "manage"))])
def test_a_body_that_is_too_large_is_not_read(ada, come):
    refused = come(ada).patch(PREFERENCES, {"x": "a" * 2**20}, content_type="application/json")
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
    looked_at = come(ada).patch(PREFERENCES, {"x": "a" * 2**19}, content_type="application/json")
    assert looked_at.json()["error"]["code"] == "invalid"


def test_while_redis_is_gone_each_process_counts_for_itself(ada, rates, settings):
    settings.CACHES = {"default": {"BACKEND": "perpdash.caching.SteadyCache", "LOCATION": "redis://127.0.0.1:1/0"}}
    rates(person=2)
    page = signed_in(ada)
    assert [page.get(SUMMARY).status_code for _ in range(3)] == [200, 200, 429]


def test_what_does_not_say_how_large_it_is_is_not_read(ada):
    page = signed_in(ada)
    for address in (PREFERENCES, "/settings/", "/static/css/app.css"):
        refused = page.generic("POST", address, headers={"Transfer-Encoding": "chunked"})
        assert refused.status_code == 411
    assert "Content-Security-Policy" in refused


def test_a_form_that_is_too_large_is_answered_in_words(ada):
    refused = signed_in(ada).post("/settings/", {"x": "a" * 2**21})
    assert refused.status_code == 413
    assert "The request is too large: at most 1,048,576 bytes are read." in refused.text


def test_json_nested_without_end_is_no_fault(ada):
    refused = signed_in(ada).patch(PREFERENCES, "[" * 100_000, content_type="application/json")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "parse_error")


def test_one_line_at_home_has_many_addresses_and_counts_once(rates):
    rates(stranger=2)
    addresses = [f"2001:db8:1:2::{number:x}" for number in range(1, 4)]
    answers = [Client(REMOTE_ADDR=address).get(SUMMARY).status_code for address in addresses]
    assert answers == [401, 401, 429]
    assert Client(REMOTE_ADDR="2001:db8:1:3::1").get(SUMMARY).status_code == 401


def test_writes_a_token_may_not_do_are_counted_too(ada, rates):
    rates(stranger=2)
    program = with_token(ApiToken.issue(ada, "reads"))
    tried = [program.patch(PREFERENCES, {}, content_type="application/json").status_code for _ in range(3)]
    assert tried == [403, 403, 429]


def test_pages_that_ask_a_venue_or_read_everything_share_the_budget_of_the_api(ada, rates):
    rates(costly=2)
    page = signed_in(ada)
    assert page.get("/data/export/").status_code == 200
    assert page.post("/accounts/add/hyperliquid/", {}).status_code == 200
    refused = page.get("/api/v1/export/")
    assert (refused.status_code, refused["Retry-After"]) == (429, "60")
    refused = page.get("/data/export/")
    assert (refused.status_code, refused["Retry-After"]) == (429, "60")
    assert page.get("/accounts/add/hyperliquid/").status_code == 200  # looking at the form asks nobody


def test_no_cache_keeps_what_is_somebodys(ada):
    page = signed_in(ada)
    for address in ("/settings/", "/you/", "/api/v1/preferences/", "/api/v1/volume/summary/"):
        assert "no-store" in page.get(address)["Cache-Control"], address
    assert "no-store" not in page.get("/static/css/app.css")["Cache-Control"]
