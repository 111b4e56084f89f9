"""The socket of an open page: who gets in, what it is sent, and that it is never another's."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.test import Client
from django.utils import timezone

from exchanges.models import ExchangeCredential
from exchanges.sandbox.hyperliquid import DEMO_TRADER
from perpdash.asgi import application
from tests import factories
from volume import live
from volume.refresh import refresh

pytestmark = pytest.mark.django_db(transaction=True)

in_thread = database_sync_to_async
FILL = {
    "coin": "BTC", "px": "84000.5", "sz": "0.01", "side": "B", "startPosition": "0.0", "dir": "Open Long",
    "closedPnl": "0.0", "hash": "0x" + "0" * 64, "oid": 7, "crossed": True, "fee": "0.37", "feeToken": "USDC",
}  # fmt: skip


@pytest.fixture
def account(sandbox: Any) -> ExchangeCredential:
    return factories.credential(owner=factories.user("ada"), history_from=timezone.now() - timedelta(hours=20))


@pytest.fixture
def trade(sandbox: Any, clock: Any) -> Callable[[], None]:
    """The account fills one more order."""
    rows: list[dict[str, Any]] = []

    def one_more() -> None:
        clock.move(1)
        rows.append(FILL | {"time": int(clock.now().timestamp()) * 1000 - 100, "tid": len(rows) + 1})
        sandbox.hyperliquid.add(DEMO_TRADER, rows=rows)

    return one_more


def cookies(owner: Any) -> list[tuple[bytes, bytes]]:
    client = Client()
    client.force_login(owner)
    return [(b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode())]


@asynccontextmanager
async def opened(headers: list[tuple[bytes, bytes]]) -> AsyncIterator[WebsocketCommunicator]:
    socket = WebsocketCommunicator(application, "/ws/volume/", headers=headers)
    accepted, _ = await socket.connect(timeout=5)
    assert accepted
    yield socket
    await socket.disconnect()


@pytest.fixture
def ada(account: ExchangeCredential) -> list[tuple[bytes, bytes]]:
    return cookies(account.owner)


@pytest.fixture
def eve(account: ExchangeCredential) -> list[tuple[bytes, bytes]]:
    return cookies(factories.user("eve"))


@pytest.mark.parametrize("headers", [[], [(b"cookie", b"sessionid=forged")]])
async def test_a_stranger_is_turned_away_with_4401(headers):
    socket = WebsocketCommunicator(application, "/ws/volume/", headers=headers)
    await socket.connect(timeout=5)
    assert await socket.receive_output(timeout=5) == {"type": "websocket.close", "code": 4401}


async def test_a_stranger_is_sent_nothing_before_the_door_closes(account):
    socket = WebsocketCommunicator(application, "/ws/volume/")
    await socket.connect(timeout=5)
    await in_thread(live.push)(account.owner_id)
    assert (await socket.receive_output(timeout=5))["type"] == "websocket.close"
    assert await socket.receive_nothing(timeout=0.05)


async def test_a_page_of_another_site_may_not_open_the_socket(ada):
    headers = [*ada, (b"origin", b"https://evil.example")]
    socket = WebsocketCommunicator(application, "/ws/volume/", headers=headers)
    accepted, _ = await socket.connect(timeout=5)
    assert not accepted


async def test_our_own_page_may_open_the_socket(ada):
    async with opened([*ada, (b"origin", b"http://localhost:8000"), (b"host", b"localhost:8000")]) as socket:
        assert (await socket.receive_json_from(timeout=5))["type"] == "summary"


@pytest.mark.parametrize("origin", [b"http://localhost:3000", b"http://127.0.0.1:8000", b"http://localhost", b"null"])
async def test_another_page_of_this_machine_may_not_though_it_has_the_same_cookies(ada, origin):
    headers = [*ada, (b"origin", origin), (b"host", b"localhost:8000")]
    socket = WebsocketCommunicator(application, "/ws/volume/", headers=headers)
    accepted, _ = await socket.connect(timeout=5)
    assert not accepted


async def test_a_page_that_came_unencrypted_may_not_where_all_is_encrypted(ada, settings):
    settings.HTTPS = True
    plain, sealed = (
        WebsocketCommunicator(
            application, "/ws/volume/", headers=[*ada, (b"origin", scheme + b"://localhost"), (b"host", b"localhost")]
        )
        for scheme in (b"http", b"https")
    )
    assert not (await plain.connect(timeout=5))[0]
    assert (await sealed.connect(timeout=5))[0]
    await sealed.disconnect()


async def test_one_person_opens_no_more_sockets_than_anybody_looks_at(ada, monkeypatch):
    monkeypatch.setattr("volume.consumers.MOST_SOCKETS", 1)
    async with opened(ada) as socket:
        await socket.receive_json_from(timeout=5)
        one_more = WebsocketCommunicator(application, "/ws/volume/", headers=ada)
        await one_more.connect(timeout=5)
        assert await one_more.receive_output(timeout=5) == {"type": "websocket.close", "code": 4429}
        await one_more.disconnect()
    async with opened(ada) as socket:  # once the first is closed there is room again
        assert (await socket.receive_json_from(timeout=5))["type"] == "summary"


async def test_a_message_nested_without_end_is_no_message(ada):
    async with opened(ada) as socket:
        await socket.receive_json_from(timeout=5)
        await socket.send_to(text_data="[" * 100_000)
        await socket.send_json_to({"type": "ping"})
        assert await socket.receive_json_from(timeout=5) == {"type": "pong"}


async def test_the_summary_comes_on_connect_and_is_the_apis(account, ada):
    async with opened(ada) as socket:
        sent = await socket.receive_json_from(timeout=5)
    client = Client()
    await in_thread(client.force_login)(account.owner)
    answer = await in_thread(client.get)("/api/v1/volume/summary/")
    assert sent == answer.json()
    assert [shown["id"] for shown in sent["accounts"]] == [account.pk]


async def test_a_push_brings_the_summary_again(account, ada):
    async with opened(ada) as socket:
        first = await socket.receive_json_from(timeout=5)
        await in_thread(live.push)(account.owner_id)
        assert await socket.receive_json_from(timeout=5) == first


async def test_new_fills_reach_the_open_page(account, ada, trade):
    async with opened(ada) as socket:
        assert (await socket.receive_json_from(timeout=5))["totals"]["24h"]["notional_usd"] == "0"
        for expected in ("840.005", "1680.01"):
            trade()
            await in_thread(refresh)(account, now=timezone.now())
            while (await socket.receive_json_from(timeout=5))["totals"]["24h"]["notional_usd"] != expected:
                pass  # it is told more than once


async def test_every_open_page_of_an_owner_is_told(account, ada):
    async with opened(ada) as one, opened(ada) as other:
        await one.receive_json_from(timeout=5)
        await other.receive_json_from(timeout=5)
        await in_thread(live.push)(account.owner_id)
        assert await one.receive_json_from(timeout=5) == await other.receive_json_from(timeout=5)


async def test_another_owners_change_is_not_sent(account, ada, eve, trade):
    async with opened(eve) as socket:
        assert (await socket.receive_json_from(timeout=5))["accounts"] == []
        await in_thread(trade)()
        await in_thread(refresh)(account, now=timezone.now())
        assert await socket.receive_nothing(timeout=0.1)


async def test_a_closed_page_is_forgotten(account, ada):
    async with opened(ada) as gone:
        await gone.receive_json_from(timeout=5)
    await in_thread(live.push)(account.owner_id)
    async with opened(ada) as socket:
        await socket.receive_json_from(timeout=5)
        assert await socket.receive_nothing(timeout=0.05)


async def test_a_ping_is_answered(ada):
    async with opened(ada) as socket:
        await socket.receive_json_from(timeout=5)
        await socket.send_json_to({"type": "ping"})
        assert await socket.receive_json_from(timeout=5) == {"type": "pong"}


@pytest.mark.parametrize(
    "junk",
    [
        *({"text": text} for text in ("", "{", "[]", "7", "null", '{"type": "summary.changed"}', '{"type": ["ping"]}')),
        {"bytes": b"\x00\xff"},
    ],
    ids=str,
)
async def test_junk_is_ignored(ada, junk):
    async with opened(ada) as socket:
        await socket.receive_json_from(timeout=5)
        await socket.send_input({"type": "websocket.receive"} | junk)
        await socket.send_json_to({"type": "ping"})
        assert await socket.receive_json_from(timeout=5) == {"type": "pong"}
