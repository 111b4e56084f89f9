"""What people and programs read where a request is refused before any page could answer."""

import pytest
from django.test import Client

from tests import factories

pytestmark = pytest.mark.django_db

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
ELSEWHERE = "elsewhere.example"


@pytest.fixture
def page() -> Client:
    client = Client(headers=BROWSER)
    client.force_login(factories.user("ada"))
    return client


@pytest.mark.parametrize("address", ["/api/v1/docs/", "/api/v1/", "/api/v1/fills/?venue=bybit"])
def test_a_browser_that_is_signed_out_is_led_to_the_sign_in_and_back(page, address):
    page.logout()
    asked = page.get(address)
    assert asked.status_code == 302
    assert asked["Location"].startswith("/sign-in/?next=/api/v1/")


@pytest.mark.parametrize("headers", [{}, {"Accept": "application/json"}, BROWSER | {"Authorization": "Bearer none"}])
def test_a_program_is_told_401(page, headers):
    assert Client(headers=headers).get("/api/v1/volume/summary/").status_code == 401
    assert Client().get("/api/v1/docs/").status_code == 401
    assert Client(headers=BROWSER).post("/api/v1/credentials/").status_code == 401


def test_an_address_of_a_button_says_that_nothing_was_done(page):
    answer = page.get("/accounts/1/pause/")
    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert "Nothing was done" in answer.content.decode()
    assert page.get("/accounts/1/pause/", headers={"Accept": "application/json"}).content == b""


def test_a_host_name_nobody_named_is_told_what_to_do_and_not_repeated():
    answer = Client(headers={"Host": ELSEWHERE}).get("/")
    assert answer.status_code == 400
    assert "ALLOWED_HOSTS" in answer.content.decode()
    assert ELSEWHERE not in answer.content.decode()


def test_of_the_api_in_its_own_shape():
    answer = Client(headers={"Host": ELSEWHERE}).get("/api/v1/volume/summary/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_host")
    assert answer.json()["error"]["request_id"] == answer["X-Request-ID"]
    assert ELSEWHERE not in answer.content.decode()
