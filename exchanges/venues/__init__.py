"""The venues perpdash can read. A new one is one line here and one file beside."""

from exchanges.venues.base import Venue
from exchanges.venues.hyperliquid import Hyperliquid

VENUES: dict[str, type[Venue]] = {venue.slug: venue for venue in (Hyperliquid,)}
