"""The request that is being answered, if any, and whom it comes from. Imported before there are models."""

from contextvars import ContextVar

from django.conf import settings
from django.http import HttpRequest

current_request: ContextVar[HttpRequest | None] = ContextVar("current_request", default=None)


def address_of(request: HttpRequest) -> str:
    """The client's address, as far as our own proxies tell it; empty where there is none."""
    return believed_address(request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", ""))


def believed_address(peer: str, forwarded_for: str) -> str:
    """Whoever asks may write anything into X-Forwarded-For; only what our proxies added at its end is believed."""
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    believed = min(settings.PROXIES, len(hops))
    return hops[-believed] if believed else peer
