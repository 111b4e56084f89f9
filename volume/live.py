"""Tells an owner's open pages that their numbers changed."""

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer


def group_of(owner_id: int) -> str:
    return f"owner.{owner_id}"


def push(owner_id: int) -> None:
    """Every open socket of the owner sends its summary anew. Call it after the commit."""
    async_to_sync(get_channel_layer().group_send)(group_of(owner_id), {"type": "summary.changed"})
