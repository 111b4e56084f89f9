"""How much of the API one person, or one address, may ask for. The rates stand in the settings."""

from ipaddress import ip_address
from typing import Any

from allauth.core.internal.ratelimit import truncate_ip
from rest_framework.exceptions import Throttled
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import SimpleRateThrottle

from accounts.current import address_of


def counted(address: str) -> str:
    """What is counted as one: an address, or the network a line at home has of them; all that are none together."""
    try:
        ip_address(address)
    except ValueError:
        return "none"
    return str(truncate_ip(address))


class PersonThrottle(SimpleRateThrottle):
    """All that a person asks, by page or token."""

    scope = "person"

    def get_rate(self) -> Any:
        return api_settings.DEFAULT_THROTTLE_RATES[self.scope]

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        return f"throttle:{self.scope}:{request.user.pk or counted(address_of(request._request))}"


class WriteThrottle(PersonThrottle):
    """What changes something."""

    scope = "write"

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        return None if request.method in SAFE_METHODS else super().get_cache_key(request, view)


class CostlyThrottle(PersonThrottle):
    """What asks a venue, or reads all there is: the actions that a view names in `costly`."""

    scope = "costly"

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        is_costly = view is None or getattr(view, "action", None) in getattr(view, "costly", ())
        return super().get_cache_key(request, view) if is_costly else None

    @classmethod
    def take(cls, request: Any) -> None:
        """For a page that does the same. Raises Throttled where nothing is left."""
        throttle = cls()
        if not throttle.allow_request(request, None):  # type: ignore[arg-type]  # of a page there is no such view
            raise Throttled(throttle.wait())


class StrangerThrottle(SimpleRateThrottle):
    """What an address asks without saying whose it is."""

    scope = "stranger"

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def get_rate(self) -> Any:
        return api_settings.DEFAULT_THROTTLE_RATES[self.scope]

    def get_cache_key(self, request: Any, view: Any) -> str:
        return f"throttle:{self.scope}:{counted(self.address)}"

    def take(self) -> None:
        """Raises Throttled where nothing is left."""
        if not self.allow_request(None, None):  # type: ignore[arg-type]  # the address is known already
            raise Throttled(self.wait())


class WrongTokenThrottle(StrangerThrottle):
    """Tokens of an address that were not known. Only those count, so `take` costs nothing."""

    scope = "wrong_token"

    def throttle_success(self) -> bool:
        return True

    def note_wrong(self) -> None:
        super().throttle_success()
