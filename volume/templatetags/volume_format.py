"""How figures, times and completeness are written on the pages. Decimals stay decimals up to the last digit shown."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

from django import template
from django.utils import timezone

from exchanges.doctor import EXPIRY_WARNING, in_words
from exchanges.fields import plain as plain_text
from exchanges.models import STOPPED, Fill, SyncRun
from exchanges.venues.base import EXACT, Reason, Venue
from volume.holding import needs_key
from volume.reconcile import Comparison, State

register = template.Library()

CENT = Decimal("0.01")
# What a stretch of an account's history is, worst first: the bar shows the worst of its streams.
STRETCHES = ("gap", "unread", "stale", "out_of_reach")
BAR_WIDTH = 1000


@register.filter
@lru_cache(16_384)  # most figures of a page are those it showed before
def usd(value: Decimal | str | int | None) -> str:
    """Dollars to the cent, half-even: $1,234,567.89. Nothing for None."""
    if value is None or value == "":
        return ""
    amount = _decimal(value).quantize(CENT, rounding=ROUND_HALF_EVEN, context=EXACT)
    return f"{'−' if amount < 0 else ''}${abs(amount):,.2f}"


@register.filter
def dollars(value: Decimal | str, not_priced: int) -> str:
    """Dollars of fills of which some have no price: what is known of them, and a word where that is not all."""
    if not not_priced:
        return usd(value)
    return f"{usd(value)}\u2009+" if _decimal(value) else "not priced"


@register.filter
def plain(value: Decimal | str | None) -> str:
    """Every digit, no exponent."""
    return "" if value is None else plain_text(_decimal(value))


@register.filter
def count(value: int) -> str:
    """12,345."""
    return f"{value:,}"


@register.filter(name="round")
def rounded(value: float) -> int:
    return round(value)


@register.filter
def signed(value: int) -> str:
    """+3, −2."""
    return f"{'−' if value < 0 else '+'}{abs(value):,}"


@register.filter
def signed_usd(value: Decimal) -> str:
    """+$12.00, −$3.40."""
    return usd(value) if value < 0 else f"+{usd(value)}"


@register.filter
def plural(value: int) -> str:
    """An s, but for one more and one less."""
    return "" if abs(value) == 1 else "s"


@register.filter
def counts(run: SyncRun) -> str:
    """What a run asked and what came of it, in a sentence or two."""
    if not run.requests:
        return "Nothing was asked."
    again = f", {run.retries:,} of them again" if run.retries else ""
    kinds = ", ".join(f"{rows:,} {kind}" for kind, rows in sorted(run.skipped.items()))
    parts = [
        _some(run.new, "new"),
        _some(run.seen, "seen before"),
        f"{sum(run.skipped.values()):,} not volume ({kinds})" if run.skipped else "",
        _some(run.held, "held"),
        _some(run.retracted, "taken back"),
        _some(run.amended, "changed later"),
    ]
    rows = f"{run.rows:,} row{'' if run.rows == 1 else 's'}"
    what = ", ".join(filter(None, parts))
    said = f"{run.requests:,} request{'' if run.requests == 1 else 's'}{again}, {rows}{f': {what}' if what else ''}."
    waits = ", ".join(f"{_seconds(seconds)} ({why})" for why, seconds in run.waits.items() if seconds >= 0.05)
    return f"{said} Waited {waits}." if waits else said


@register.filter
def took(run: SyncRun) -> str:
    """How long a run took, before what asked for it: "in 12 s, "."""
    if run.ended_at is None:
        return ""
    return f"in {_seconds((run.ended_at - run.started_at).total_seconds())}, "


@register.filter
def verdicts(comparisons: Sequence[Comparison]) -> str:
    """14 agree, 1 differs."""
    counted = Counter(comparison.state for comparison in comparisons)
    words = {
        State.AGREES: ("agrees", "agree"),
        State.DIFFERS: ("differs", "differ"),
        State.NOT_YET: ("can’t be compared yet", "can’t be compared yet"),
    }
    return ", ".join(f"{counted[state]} {words[state][counted[state] > 1]}" for state in words if counted[state])


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else in_words(timedelta(seconds=seconds))


def _some(number: int, words: str) -> str:
    return f"{number:,} {words}" if number else ""


@register.filter
def utc(value: datetime | str | None) -> str:
    """2026-11-21 11:48 UTC."""
    return f"{_moment(value):%Y-%m-%d %H:%M} UTC" if value else ""


@register.filter
def utc_day(value: datetime | date | str | None) -> str:
    """21 Nov 2026, the UTC day."""
    if not value:
        return ""
    day = _moment(value) if isinstance(value, datetime | str) else value
    return _day_words(day.year, day.month, day.day)


@lru_cache(2048)  # two years, of which a page names each day
def _day_words(year: int, month: int, day: int) -> str:
    return f"{day} {date(year, month, day):%b %Y}"


@register.filter
def tone(account: Mapping[str, Any]) -> str:
    """How an account is to be looked at: ok, note, warn, bad or off. Words beside it say why."""
    if not account["is_enabled"]:
        return "off"
    if account["health"]["state"] in ("rejected", "unreadable", "puzzled"):
        return "bad"
    states = {lack["state"] for lack in account["lacks"]}
    if (
        account["health"]["state"] == "unavailable"
        or account["held"]
        or states & {"gap", "stale"}
        or dies_soon(account)
    ):
        return "warn"
    return "note" if states or account["health"]["state"] == "new" else "ok"


@register.filter
def powers(account: Mapping[str, Any]) -> str:
    """What the key of an account may do beyond reading; nothing for one that only reads."""
    can = ["trade"] * account["may_trade"] + ["withdraw"] * account["may_withdraw"]
    if not can and account["health"]["reason"] == Reason.CAN_TRADE:
        return "can do more than read"
    return f"can {' and '.join(can)}" if can else ""


@register.filter
def expiry(account: Mapping[str, Any]) -> str:
    """When the key of an account dies: "expires 2027-01-20, in 60 days". Nothing for one that lives on."""
    if not account["expires_at"]:
        return ""
    at = _moment(account["expires_at"])
    left = at - timezone.now()
    if left <= timedelta():
        return f"expired {at:%Y-%m-%d}"
    days = "less than a day" if left.days < 1 else "1 day" if left.days == 1 else f"{left.days} days"
    return f"expires {at:%Y-%m-%d}, in {days}"


@register.filter
def dies_soon(account: Mapping[str, Any]) -> bool:
    """Whether a new key is wanted soon, or already."""
    expires_at = account["expires_at"]
    return bool(expires_at) and _moment(expires_at) - timezone.now() < EXPIRY_WARNING


@register.filter
def wants_key(account: Mapping[str, Any]) -> bool:
    """Whether a new key is what helps this account most."""
    return account["health"]["state"] in STOPPED or dies_soon(account)


@register.filter
def needs(venue: type[Venue]) -> str:
    """What reading at a venue takes, in a few words."""
    return "A read-only key" if needs_key(venue) else "A public address, no key"


@register.filter
def main_lack(account: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Of what an account lacks, what reaches closest to now: it decides since when the account is complete."""
    return max(account["lacks"], key=lambda lack: datetime.fromisoformat(lack["until"]), default=None)


@register.filter
def distinct(lacks: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each sentence once: two streams of an account often lack the same."""
    return list({(lack["why"], lack["remedy"]): lack for lack in lacks}.values())


@register.filter
def can_be_read(account: Mapping[str, Any]) -> bool:
    """Whether asking again could fill some of what an account lacks."""
    return any(lack["state"] in ("gap", "unread") for lack in account["lacks"])


@register.filter
def percent(progress: float) -> int:
    """Whole per cent, 100 only at the end."""
    return 100 if progress >= 1 else min(99, int(progress * 100))


@register.filter
def coverage_parts(account: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The bar of an account's history: neighbouring stretches with their state, place and width in thousandths."""
    first, last = _moment(account["history_from"]), timezone.now()
    lacks = [(_moment(lack["from"]), _moment(lack["until"]), lack["state"]) for lack in account["lacks"]]
    cuts = {first, last} | {cut for since, until, _ in lacks for cut in (since, until) if first < cut < last}
    parts: list[dict[str, Any]] = []
    for since, until in pairwise(sorted(cuts)):
        states = {state for lack_since, lack_until, state in lacks if lack_since < until and lack_until > since}
        state = next((name for name in STRETCHES if name in states), "covered")
        if parts and parts[-1]["state"] == state:
            parts[-1]["until"] = until
        else:
            parts.append({"state": state, "since": since, "until": until})
    for part in parts:
        part["x"] = round((part["since"] - first) / (last - first) * BAR_WIDTH, 2)
        part["width"] = round((part["until"] - part["since"]) / (last - first) * BAR_WIDTH, 2)
    return parts


@register.filter
def periods(series: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The chart as the rows of a table, newest first."""
    columns = {
        "day": "days", "total": "total_usd", "maker": "maker_usd", "taker": "taker_usd", "fees": "fees_usd",
        "forced": "forced_usd", "cumulative": "cumulative_usd", "fills": "fills", "state": "state", "why": "why",
        "next": "next",
    }  # fmt: skip
    amounts = zip(*(stack["notional_usd"] for stack in series["stacks"]), strict=True)
    stacks = list(amounts) or [()] * len(series["days"])
    rows = [
        dict(zip(columns, values, strict=True)) | {"amounts": list(own)}
        for own, *values in zip(stacks, *(series[name] for name in columns.values()), strict=True)
    ]
    return rows[::-1]


@register.filter
def add_query(related: Mapping[str, Any]) -> str:
    """What the form of an account is filled with, as the query of an address."""
    return urlencode({"label": related["label"], **related["values"]})


def _decimal(value: Decimal | str | int) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(value)


def _moment(value: datetime | str) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


# --- The dashboard ---------------------------------------------------------------------------------------------------

MEASURES = {
    "volume": "Volume",
    "liquidity": "Maker and taker volume",
    "fees": "Fees",
    "cumulative": "Volume added up",
}
PERIODS = {"day": "Day", "week": "Week from", "month": "Month from"}
STATES = {
    "complete": "complete",
    "unread": "not read",
    "not_asked": "not asked for",
    "gap": "could not be read",
    "out_of_reach": "out of the venue’s reach",
    "held": "rows held",
    "stale": "not up to date",
    "not_priced": "not all priced",
}
SHADES = 6
WORDS_FIRST = ("market", "venue")  # columns that are sorted from A on at first, all others from the largest on


@register.filter
def measured(measure: str) -> str:
    """What the chart draws, as its title says it."""
    return MEASURES[measure]


@register.filter
def period_name(granularity: str) -> str:
    return PERIODS[granularity]


@register.filter
def state_words(state: str) -> str:
    """How complete a period is, in a few words."""
    return STATES[state]


@register.filter
def occurring(states: Sequence[str]) -> list[str]:
    """What a drawing's key names: every state but complete."""
    return [state for state in STATES if state in states and state != "complete"]


@register.filter
def next_sort(sort: str, column: str) -> str:
    """What a click on a column's head asks for: this column, or it the other way round."""
    first = column if column in WORDS_FIRST else f"-{column}"
    if sort != first:
        return first
    return column if first.startswith("-") else f"-{column}"


@register.filter
def sorted_as(sort: str, column: str) -> str:
    """For aria-sort; empty where the table is not sorted by this column."""
    if sort.removeprefix("-") != column:
        return ""
    return "descending" if sort.startswith("-") else "ascending"


@register.filter
def compared(total: Mapping[str, Any]) -> str:
    """What a change is measured against: "$1.00 from 7 Nov 2026 00:00 to 14 Nov 2026 05:10 UTC"."""
    before = total["before"]
    if not before:
        return ""
    since, until = (f"{utc_day(before[end])} {_moment(before[end]):%H:%M}" for end in ("since", "until"))
    words = f"Against {usd(before['notional_usd'])} from {since} to {until} UTC, the same time before"
    return f"{words}{'.' if before['complete'] else ', of which something is missing.'}"


@register.filter
def being_read(accounts: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The accounts whose past is being read now, and how far that is; None where there are none."""
    found = [
        account
        for account in accounts
        if account["is_enabled"]
        and account["is_backfilling"]
        and account["progress"] < 1
        and account["health"]["state"] in ("works", "new")
    ]
    if not found:
        return None
    return {"accounts": found, "progress": sum(account["progress"] for account in found) / len(found)}


def shades(amounts: Sequence[str | None]) -> list[int]:
    """How dark a square of the calendar is, from 0 to SHADES: of those above 0 each shade has as many."""
    found = [Decimal(amount or 0) for amount in amounts]
    ordered = sorted(filter(None, found))
    edges = [ordered[len(ordered) * shade // SHADES] for shade in range(SHADES)] if ordered else []
    return [bisect_right(edges, usd_of_day) if usd_of_day else 0 for usd_of_day in found]


@register.filter
def words(text: str) -> list[str]:
    return text.split()


@register.filter
def days_link(total: Mapping[str, Any], last_day: str) -> str:
    """The query that shows the days of a figure of the glance panel."""
    return f"?from={total['since'][:10]}&to={last_day}"


FIGURE_SPACE, POINT_SPACE = "\u2007", "\u2008"  # as wide as a digit and as a point


@register.filter
def aligned(fills: Iterable[Fill]) -> list[dict[str, Any]]:
    """Fills with their numbers as text whose decimal points stand below each other where they end at the right."""
    found = list(fills)
    columns = [_aligned([getattr(fill, name) for fill in found]) for name in ("price", "qty", "notional", "fee")]
    return [
        {"fill": fill, "price": price, "qty": qty, "notional": notional, "fee": fee}
        for fill, price, qty, notional, fee in zip(found, *columns, strict=True)
    ]


def _aligned(values: Sequence[Decimal]) -> list[str]:
    texts = [plain(value) for value in values]
    most = max((len(text.partition(".")[2]) for text in texts), default=0)
    return [_padded(text, most) for text in texts]


def _padded(text: str, places: int) -> str:
    _, point, fraction = text.partition(".")
    return text + ("" if point or not places else POINT_SPACE) + FIGURE_SPACE * (places - len(fraction))
