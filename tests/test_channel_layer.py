"""The layer between Celery's threads and the sockets of the one process."""

import asyncio
import inspect
import threading
from collections.abc import Awaitable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.exceptions import InvalidChannelLayerError
from channels.layers import BaseChannelLayer, InMemoryChannelLayer, get_channel_layer
from django.test import override_settings
from redis.exceptions import RedisError

from perpdash.channel_layer import LINE_LOST, EmbeddedChannelLayer, RedisChannelLayer
from tests.fake_redis import fake_redis

HELLO = {"type": "summary.changed", "n": 1}


@pytest.fixture
def layer() -> EmbeddedChannelLayer:
    return EmbeddedChannelLayer(capacity=3)


async def soon(awaitable: Awaitable[Any]) -> Any:
    """What it brings; a test that would wait for ever fails instead."""
    return await asyncio.wait_for(awaitable, 5)


def from_another_thread(layer: EmbeddedChannelLayer, *messages: dict[str, Any], group: str = "owner.1") -> None:
    """Sends as a Celery task does: from a thread, in a loop of its own that ends at once."""

    def task() -> None:
        for message in messages:
            async_to_sync(layer.group_send)(group, message)

    thread = threading.Thread(target=task)
    thread.start()
    thread.join()


async def member(layer: EmbeddedChannelLayer, group: str = "owner.1") -> str:
    channel = await layer.new_channel()
    await layer.group_add(group, channel)
    return channel


async def nothing_for(layer: EmbeddedChannelLayer, channel: str) -> bool:
    """Whether nothing waits there, once all that is under way has arrived."""
    waiting = asyncio.ensure_future(layer.receive(channel))
    for _ in range(5):
        await asyncio.sleep(0)
    is_empty = not waiting.done()
    waiting.cancel()
    return is_empty


async def test_a_message_reaches_its_channel(layer):
    channel = await layer.new_channel()
    await layer.send(channel, HELLO)
    assert await soon(layer.receive(channel)) == HELLO


async def test_every_member_of_a_group_gets_its_own_copy(layer):
    channels = [await member(layer) for _ in range(3)]
    await layer.group_send("owner.1", HELLO)
    received = [await soon(layer.receive(channel)) for channel in channels]
    assert received == [HELLO] * 3
    received[0]["n"] = 2
    assert received[1] == HELLO


async def test_a_message_of_another_thread_wakes_the_reader_that_waits(layer):
    channel = await member(layer)
    waiting = asyncio.ensure_future(layer.receive(channel))
    await asyncio.sleep(0)
    from_another_thread(layer, HELLO)
    assert await soon(waiting) == HELLO


async def test_messages_of_many_threads_all_arrive_in_their_order():
    layer = EmbeddedChannelLayer(capacity=1000)
    channel = await member(layer)

    def sender(number: int) -> None:
        from_another_thread(layer, *({"type": "x", "from": number, "n": n} for n in range(20)))

    await asyncio.gather(*(asyncio.to_thread(sender, number) for number in range(5)))
    received = [await soon(layer.receive(channel)) for _ in range(100)]
    for number in range(5):
        assert [message["n"] for message in received if message["from"] == number] == list(range(20))


async def test_messages_keep_their_order(layer):
    channel = await member(layer)
    from_another_thread(layer, *({"type": "x", "n": n} for n in range(3)))
    assert [(await soon(layer.receive(channel)))["n"] for _ in range(3)] == [0, 1, 2]


async def test_a_slow_reader_loses_messages_and_the_others_do_not(layer):
    slow, quick = await member(layer), await member(layer)
    for n in range(5):
        await layer.group_send("owner.1", {"type": "x", "n": n})
        assert (await soon(layer.receive(quick)))["n"] == n
    assert [(await soon(layer.receive(slow)))["n"] for _ in range(3)] == [0, 1, 2]
    assert await nothing_for(layer, slow)


async def test_a_slow_reader_does_not_hold_up_another_thread(layer):
    slow = await member(layer)
    from_another_thread(layer, *({"type": "x", "n": n} for n in range(50)))
    assert [(await soon(layer.receive(slow)))["n"] for _ in range(3)] == [0, 1, 2]
    assert await nothing_for(layer, slow)


async def test_who_left_a_group_is_sent_nothing(layer):
    gone, here = await member(layer), await member(layer)
    await layer.group_discard("owner.1", gone)
    await layer.group_send("owner.1", HELLO)
    assert await nothing_for(layer, gone)
    assert await soon(layer.receive(here)) == HELLO


async def test_leaving_twice_or_a_group_that_is_not_is_no_fault(layer):
    channel = await member(layer)
    for _ in range(2):
        await layer.group_discard("owner.1", channel)
    await layer.group_discard("owner.9", channel)
    await layer.group_send("owner.9", HELLO)


async def test_joining_twice_brings_a_message_once(layer):
    channel = await member(layer)
    await layer.group_add("owner.1", channel)
    await layer.group_send("owner.1", HELLO)
    assert await soon(layer.receive(channel)) == HELLO
    assert await nothing_for(layer, channel)


async def test_groups_do_not_hear_each_other(layer):
    ada, eve = await member(layer, "owner.1"), await member(layer, "owner.2")
    from_another_thread(layer, HELLO, group="owner.2")
    assert await soon(layer.receive(eve)) == HELLO
    assert await nothing_for(layer, ada)


async def test_flush_forgets_everything(layer):
    channel = await member(layer)
    await layer.group_send("owner.1", HELLO)
    await layer.flush()
    await layer.group_send("owner.1", HELLO)
    assert await nothing_for(layer, channel)


def test_sending_before_anybody_listens_and_after_the_loop_ended_is_no_fault(layer):
    from_another_thread(layer, HELLO)
    asyncio.run(member(layer))
    from_another_thread(layer, HELLO)

    async def listen_again() -> Any:
        channel = await member(layer)
        from_another_thread(layer, HELLO)
        return await soon(layer.receive(channel))

    assert asyncio.run(listen_again()) == HELLO


async def test_a_reader_that_gave_up_leaves_nothing_behind(layer):
    channel = await layer.new_channel()
    waiting = asyncio.ensure_future(layer.receive(channel))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await layer.send(channel, HELLO)
    assert await soon(layer.receive(channel)) == HELLO


async def test_a_page_that_closed_is_not_kept(layer):
    channel = await member(layer)
    await layer.group_send("owner.1", HELLO)
    await soon(layer.receive(channel))
    waiting = asyncio.ensure_future(layer.receive(channel))
    await asyncio.sleep(0)
    await layer.group_discard("owner.1", channel)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert channel not in repr(vars(layer))


@pytest.mark.parametrize("name", ["has space", "", "x" * 200, "ümlaut"])
async def test_names_that_no_layer_takes_are_refused(layer, name):
    for call in (layer.send(name, HELLO), layer.group_send(name, HELLO), layer.group_add(name, "embedded.!1")):
        with pytest.raises(TypeError):
            await call


@pytest.mark.parametrize(
    "name", ["send", "receive", "new_channel", "group_add", "group_discard", "group_send", "flush"]
)
def test_it_can_stand_in_for_the_stock_layer(name):
    ours, stock = getattr(EmbeddedChannelLayer, name), getattr(InMemoryChannelLayer, name)
    assert inspect.iscoroutinefunction(ours)
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(stock).parameters)


def test_it_says_what_it_can_do_as_the_stock_layer_does():
    layer = EmbeddedChannelLayer()
    assert isinstance(layer, BaseChannelLayer)
    assert {"groups", "flush"} <= set(layer.extensions)
    assert layer.get_capacity("any") == InMemoryChannelLayer().get_capacity("any")


def test_settings_make_it_with_options():
    wanted = {"BACKEND": "perpdash.channel_layer.EmbeddedChannelLayer", "CONFIG": {"capacity": 7}}
    with override_settings(CHANNEL_LAYERS={"default": wanted}):
        assert get_channel_layer().get_capacity("any") == 7
    with (
        override_settings(CHANNEL_LAYERS={"default": wanted | {"CONFIG": {"colour": "gold"}}}),
        pytest.raises((TypeError, InvalidChannelLayerError)),
    ):
        get_channel_layer()


# --- Redis between processes -----------------------------------------------------------------------------------------


async def test_whatever_ends_the_receiver_every_open_page_begins_anew(caplog):
    with fake_redis() as server:
        layer = RedisChannelLayer(server.url)
        try:
            for _ in range(2):  # and so it is the next time
                channel = await layer.new_channel()
                await asyncio.to_thread(server.say, b"no name is like \xff", b"")
                assert await soon(layer.receive(channel)) == LINE_LOST
                layer.channels.clear()
        finally:
            await layer.flush()
    said = [record.getMessage() for record in caplog.records if record.name == "perpdash.channel_layer"]
    assert len(said) == 2 and all(line.endswith("1 open sockets begin anew.") for line in said)


async def test_a_page_that_could_not_listen_leaves_nothing_behind():
    layer = RedisChannelLayer("redis://127.0.0.1:1/0")
    try:
        for _ in range(3):
            with pytest.raises(RedisError):
                await layer.new_channel()
        assert layer.channels == {}
    finally:
        await layer.flush()
