"""The sandbox venues: each speaks its real API over a deterministic trader. The only fakes at that border.

CoinGecko is no venue, so it stands beside them.
"""

from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from typing import Any

import httpx

from exchanges.sandbox.base import SandboxVenue, utc_now
from exchanges.sandbox.bybit import Bybit
from exchanges.sandbox.coingecko import CoinGecko
from exchanges.sandbox.hyperliquid import Hyperliquid
from exchanges.sandbox.paradex import Paradex
from exchanges.sandbox.woox import Woox

SANDBOXES: dict[str, type[SandboxVenue]] = {
    "bybit": Bybit,
    "hyperliquid": Hyperliquid,
    "paradex": Paradex,
    "woox": Woox,
}


class Sandbox:
    """All sandbox venues of one installation, and CoinGecko, under one clock.

    `hyperliquid={"page": 50}` passes options to one. `metered=False` lifts the rate limits: for a demo that is to be
    full at once.
    """

    bybit: Bybit
    hyperliquid: Hyperliquid
    paradex: Paradex
    woox: Woox

    def __init__(
        self, now: Callable[[], datetime] = utc_now, *, metered: bool = True, **options: dict[str, Any]
    ) -> None:
        self.is_metered = metered
        self.venues = {
            slug: venue(now, **({} if metered else venue.unmetered), **options.pop(slug, {}))
            for slug, venue in SANDBOXES.items()
        }
        self.coingecko = CoinGecko(now, **({} if metered else CoinGecko.unmetered), **options.pop("coingecko", {}))
        if options:
            raise TypeError(f"no sandbox venue is called {', '.join(options)}")
        vars(self).update(self.venues)

    def transport(self, slug: str) -> httpx.BaseTransport:
        """The way to one of them without a network. As on all ways, answers are dated: by its own clock."""
        venue = self.coingecko if slug == "coingecko" else self.venues[slug]

        def answer(request: httpx.Request) -> httpx.Response:
            response = venue(request)
            response.headers.setdefault("Date", format_datetime(venue.now(), usegmt=True))
            return response

        return httpx.MockTransport(answer)
