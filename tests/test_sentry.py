"""What leaves this machine for Sentry: that and where something went wrong, and no value that was there."""

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sentry_sdk
from django.test import Client
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from exchanges.models import SyncRun
from exchanges.sandbox import Sandbox, bybit
from perpdash import sentry
from perpdash.celery import app
from perpdash.logs import request_id
from tests import factories
from tests.conftest import NOW
from volume.tasks import refresh_credential

pytestmark = pytest.mark.django_db
MARK = "MARKsentry00001abcdefghijklmnop"


class Wire(Transport):
    """Takes what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Envelope] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.sent.append(envelope)

    @property
    def text(self) -> str:
        return "\n".join(envelope.serialize().decode() for envelope in self.sent)

    def only(self) -> dict[str, Any]:
        (event,) = [envelope.get_event() for envelope in self.sent]
        assert event
        return dict(event)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    sentry.start("http://key@127.0.0.1:1/1", environment="test", release="perpdash@0", transport=made)
    yield made
    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.get_global_scope().set_client(None)


@pytest.fixture(autouse=True)
def no_request() -> None:
    """Where a process serves requests, each has a context of its own; tests share one."""
    request_id.set("")


def fall_over() -> None:
    a_local = MARK
    raise ZeroDivisionError(f"with {a_local}")


@pytest.fixture
def account(sandbox: Sandbox) -> Any:
    secrets = dict(bybit.MAIN)
    owner = factories.user("lovelace", is_superuser=True)
    return factories.credential("bybit", owner=owner, secrets=secrets, history_from=NOW - timedelta(days=3))


def test_a_fault_in_a_view_is_told_with_the_request_it_happened_in(wire, account, sandbox):
    client = Client(raise_request_exception=False)
    client.force_login(account.owner)
    sandbox.bybit.after(0, fall_over)
    answer = client.post(
        f"/api/v1/credentials/{account.pk}/verify/?key={MARK}",
        json.dumps({"secret": MARK}),
        content_type="application/json",
        headers={"X-Mark": MARK, "Cookie": f"mark={MARK}; sessionid={client.cookies['sessionid'].value}"},
    )
    assert answer.status_code == 500
    event = wire.only()
    assert event["tags"]["request_id"] == answer["X-Request-ID"]
    (fault,) = [one for one in event["exception"]["values"] if one["type"] == "ZeroDivisionError"]
    assert fault["stacktrace"]["frames"][-1]["function"] == "fall_over"
    assert "value" not in fault
    assert "verify" in event["transaction"] or "credentials" in event["transaction"]
    assert (event["environment"], event["release"]) == ("test", "perpdash@0")
    for secret in (MARK, client.cookies["sessionid"].value, *bybit.MAIN.values(), "lovelace"):
        assert secret not in wire.text


def test_a_fault_in_a_task_is_told_with_its_run(wire, account, sandbox):
    sandbox.bybit.after(0, fall_over)
    task = refresh_credential.apply((account.pk,))
    event = wire.only()
    assert event["tags"] == {
        "task": "volume.tasks.refresh_credential", "task_id": task.id, "run": str(SyncRun.objects.get().pk),
        "credential": str(account.pk), "venue": "bybit",
    }  # fmt: skip
    assert event["exception"]["values"][-1]["type"] == "ZeroDivisionError"
    for secret in (MARK, *bybit.MAIN.values()):
        assert secret not in wire.text


def test_arguments_of_a_task_and_what_was_chained_stay_here(wire):
    @app.task
    def stumble(text: str) -> None:
        try:
            raise ValueError(text)
        except ValueError as fault:
            raise KeyError(text) from fault

    stumble.apply((MARK,))
    assert {one["type"] for one in wire.only()["exception"]["values"]} == {"KeyError", "ValueError"}
    assert MARK not in wire.text


def test_a_line_of_the_log_is_told_as_it_stands_in_the_source(wire):
    logging.getLogger("perpdash.tasks").error("The days of %s could not be recomputed", MARK)
    assert wire.only()["logentry"] == {"message": "The days of %s could not be recomputed"}
    logging.getLogger("another.library").error(f"with {MARK}")
    assert MARK not in wire.text


def test_crumbs_users_and_extras_stay_here(wire):
    sentry_sdk.add_breadcrumb(message=MARK, data={"url": MARK})
    sentry_sdk.set_user({"id": MARK, "ip_address": "10.0.0.5"})
    sentry_sdk.set_extra("more", MARK)
    sentry_sdk.set_context("what", {"is": MARK})
    sentry_sdk.set_tag("mark", MARK)
    logging.getLogger("perpdash").error("Something")
    assert wire.only()["logentry"]
    assert MARK not in wire.text
    assert "10.0.0.5" not in wire.text


def test_a_visitor_who_finds_nothing_is_no_fault(wire, account):
    assert Client().get("/no-such-page/").status_code == 404
    assert Client().get("/", headers={"Host": "elsewhere.example"}).status_code == 400
    assert f"/{MARK}" not in wire.text
    assert not [envelope for envelope in wire.sent if "no-such-page" in envelope.serialize().decode()]


def test_venues_hear_nothing_of_sentry(wire, account, sandbox):
    refresh_credential.apply((account.pk,))
    assert sandbox.bybit.requests
    for request in sandbox.bybit.requests:
        headers = getattr(request, "headers", {})
        assert not {"sentry-trace", "baggage", "traceparent"} & {name.lower() for name in headers}
    assert wire.sent == []


def test_without_a_dsn_nothing_is_started():
    assert not sentry_sdk.get_client().is_active()
    logging.getLogger("perpdash").error("Something")


def test_an_event_is_made_anew_of_what_may_be_told():
    request_id.set("")  # what other tests asked for
    event = {"event_id": "1", "request": {"url": MARK}, "anything_new": MARK, "exception": {"values": [{"type": "E"}]}}
    told = sentry.scrubbed(event, {})  # type: ignore[arg-type]
    fault = {"type": "E", "mechanism": {}, "stacktrace": {"frames": []}}
    assert told == {"event_id": "1", "tags": {}, "exception": {"values": [fault]}}
