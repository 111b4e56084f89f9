"""The venues perpdash can read. A new one is one line here and one file beside."""

from exchanges.venues.base import Venue
from exchanges.venues.bybit import Bybit
from exchanges.venues.hyperliquid import Hyperliquid
from exchanges.venues.paradex import Paradex
from exchanges.venues.woox import Woox

VENUES: dict[str, type[Venue]] = {venue.slug: venue for venue in (Bybit, Hyperliquid, Paradex, Woox)}
