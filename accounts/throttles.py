"""How much of the API one person, or one address, may ask for. The rates stand in the settings."""

from typing import Any

from rest_framework.exceptions import Throttled
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import SimpleRateThrottle

from accounts.current import address_of


class PersonThrottle(SimpleRateThrottle):
    """All that a person asks, by page or token."""

    scope = "person"

    def get_rate(self) -> Any:
        return api_settings.DEFAULT_THROTTLE_RATES[self.scope]

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        return f"throttle:{self.scope}:{request.user.pk or address_of(request._request)}"


class WriteThrottle(PersonThrottle):
    """What changes something."""

    scope = "write"

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        return None if request.method in SAFE_METHODS else super().get_cache_key(request, view)


class CostlyThrottle(PersonThrottle):
    """What asks a venue, or reads all there is: the actions that a view names in `costly`."""

    scope = "costly"

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        is_costly = getattr(view, "action", None) in getattr(view, "costly", ())
        return super().get_cache_key(request, view) if is_costly else None


class StrangerThrottle(SimpleRateThrottle):
    """What an address asks without saying whose it is."""

    scope = "stranger"

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def get_rate(self) -> Any:
        return api_settings.DEFAULT_THROTTLE_RATES[self.scope]

    def get_cache_key(self, request: Any, view: Any) -> str:
        return f"throttle:{self.scope}:{self.address}"

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
