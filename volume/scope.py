"""Which part of an owner's volume a page shows, as its address says it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from exchanges.models import ExchangeCredential
from exchanges.venues import VENUES
from exchanges.venues.base import Window
from volume.periods import first_of, following, start_of
from volume.queries import Filter, Standing

RANGES = {"7d": 7, "30d": 30, "90d": 90, "1y": 365, "2y": 731}
DEFAULT_RANGE = "90d"
STEPS = ("day", "week", "month")
BY = ("venue", "market", "account")
MEASURES = ("volume", "liquidity", "fees", "cumulative")
WEEKLY_FROM = 181  # days; more bars than pixels help nobody
LONGEST_IN_LOCAL_DAYS = 93  # they are added up from the fills each time
EARLIEST = date(2015, 1, 1)
LONGEST_MARKET = 65  # one more than any has: a longer one is none either
UNKNOWN_TO_BROWSERS = {"localtime", "Factory", "posixrules"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is looked at. Days are UTC, or the reader's own where `is_local`; both ends are included."""

    owner_id: int
    standing: Standing  # of the owner's accounts, those the filters leave
    range: str  # of RANGES; empty for days chosen freely
    first: date
    last: date
    today: date
    floor: date  # what lies before it was not asked for
    by: str
    step: str
    measure: str
    sort: str
    all_markets: bool  # in the table, not only its first rows
    venue: str
    market: str
    account: int | None
    tz: str  # the reader's zone, by its IANA name; empty where it is not known
    is_local: bool

    @classmethod
    def parse(
        cls, query: Mapping[str, str], owner_id: int, *, now: datetime, standing: Standing | None = None
    ) -> "Scope":
        """What an address asks for; what it says wrongly or not at all is as usual. `standing` is the owner's, where it
        is known."""
        zone = _zone(query.get("tz", ""))
        tz = zone.key if zone else ""
        wants_local = query.get("days") == "local" and zone is not None
        today = now.astimezone(zone if wants_local and zone else UTC).date()
        first, last = _day(query.get("from", "")), _day(query.get("to", ""))
        range_name = ""
        if first and last and last < first:
            first, last = last, first
        if first is None and last is None:
            range_name = query.get("range", "")
            range_name = range_name if range_name in RANGES else DEFAULT_RANGE
            first, last = today - timedelta(days=RANGES[range_name] - 1), today
        last = max(EARLIEST, min(last or today, today))
        first = asked_first = max(EARLIEST, min(first or last, last))
        length = (last - first).days + 1
        if wants_local and length > LONGEST_IN_LOCAL_DAYS:
            return cls.parse({**query, "days": "utc"}, owner_id, now=now, standing=standing)
        step = query.get("step", "")
        if step not in STEPS or (step == "day" and length > max(RANGES.values())):
            step = "day" if length < WEEKLY_FROM else "week"
        if range_name or step != "day":  # a range is of whole periods
            first = first_of(first, step)
        venue = query.get("venue", "") if query.get("venue") in VENUES else ""
        account = query.get("account", "")
        number = int(account) if account.isascii() and account.isdecimal() and len(account) < 19 else None
        wanted = Filter(
            owner_id=owner_id, venues=(venue,) if venue else (), credentials=(number,) if number is not None else ()
        )
        standing = standing.narrowed(wanted) if standing else Standing(wanted, now=now)
        accounts = standing.accounts
        floor = first if range_name else asked_first
        if range_name == "2y" and accounts:  # as much as was asked for when the first of them came
            asked_from = min(account.history_from for account in accounts)
            whole_day = asked_from.date() + timedelta(days=asked_from > start_of(asked_from.date()))
            floor = max(first, min(whole_day, last))
        market = query.get("market", "").replace("\0", "")[:LONGEST_MARKET]
        return cls(
            owner_id=owner_id, standing=standing, range=range_name, first=first, last=last, floor=floor,
            by=_one_of(query.get("by", ""), BY), step=step, measure=_one_of(query.get("measure", ""), MEASURES),
            sort=query.get("sort", "") or "-notional_usd", all_markets=query.get("markets") == "all", venue=venue,
            market=market, account=number, tz=tz, is_local=wants_local, today=today,
        )  # fmt: skip

    @property
    def accounts(self) -> Sequence[ExchangeCredential]:
        return self.standing.accounts

    @property
    def filter(self) -> Filter:
        return Filter(
            owner_id=self.owner_id,
            since=self.floor,
            until=self.last + timedelta(days=1),
            venues=(self.venue,) if self.venue else (),
            markets=(self.market,) if self.market else (),
            credentials=(self.account,) if self.account is not None else (),
        )

    @property
    def steps(self) -> tuple[str, ...]:
        length = (self.last - self.first).days + 1
        # The first period may begin before the range.
        return STEPS if length <= max(RANGES.values()) + 31 else STEPS[1:]

    @property
    def periods(self) -> list[date]:
        """The first day of each period."""
        found = [first_of(self.floor, self.step)]
        while (after := following(found[-1], self.step)) <= self.last:
            found.append(after)
        return found

    def window(self, period: date, *, now: datetime) -> Window:
        """The time a period is, up to now."""
        until = min(following(period, self.step), self.last + timedelta(days=1))
        return Window(self.start_of(max(period, self.floor)), min(now, self.start_of(until)))

    def whole(self, *, now: datetime) -> Window:
        return Window(self.start_of(self.floor), min(now, self.start_of(self.last + timedelta(days=1))))

    def start_of(self, day: date) -> datetime:
        """The first moment of a day, as days are counted here."""
        if not self.is_local:
            return start_of(day)
        return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.tz)).astimezone(UTC)

    @property
    def previous(self) -> date | None:
        """The day before a scope of one day; None where there is none."""
        return self.first - timedelta(days=1) if self.first > EARLIEST else None

    @property
    def next(self) -> date | None:
        return self.last + timedelta(days=1) if self.last < self.today else None

    @property
    def filters(self) -> list[dict[str, Any]]:
        """What narrows the view, for the chips: [{name, value, label}]."""
        found: list[dict[str, Any]] = []
        if self.venue:
            found.append({"name": "venue", "value": self.venue, "label": VENUES[self.venue].name})
        if self.account is not None:
            label = next((str(item) for item in self.accounts), "an account that is not here")
            found.append({"name": "account", "value": self.account, "label": label})
        if self.market:
            found.append({"name": "market", "value": self.market, "label": self.market})
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "range": self.range,
            "first": self.first.isoformat(),
            "floor": self.floor.isoformat(),
            "last": self.last.isoformat(),
            "by": self.by,
            "step": self.step,
            "steps": self.steps,
            "measure": self.measure,
            "sort": self.sort,
            "venue": self.venue,
            "market": self.market,
            "account": self.account,
            "tz": self.tz,
            "is_local": self.is_local,
            "filters": self.filters,
        }


def _one_of(text: str, known: tuple[str, ...]) -> str:
    return text if text in known else known[0]


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name) if name in _zones() else None
    except (ZoneInfoNotFoundError, ValueError, OSError):  # also for a name that is a path
        return None


@cache
def _zones() -> frozenset[str]:
    """Looked for on the disk once, which takes longer than all the rest of an address."""
    return frozenset(available_timezones() - UNKNOWN_TO_BROWSERS)
