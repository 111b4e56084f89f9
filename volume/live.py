"""Tells an owner's open pages that their numbers changed."""

import logging

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from volume import trouble

logger = logging.getLogger("perpdash.live")


def group_of(owner_id: int) -> str:
    return f"owner.{owner_id}"


def push(owner_id: int) -> None:
    """Every open socket of the owner sends its summary anew. Call it after the commit.

    A page that misses it asks again by itself within a minute, so trouble on the way is noted and stops nothing.
    """
    try:
        async_to_sync(get_channel_layer().group_send)(group_of(owner_id), {"type": "summary.changed"})
    except Exception as fault:
        words = trouble.words(fault)
        logger.warning("An open page could not be told of new numbers. %s", words, exc_info=not words)
