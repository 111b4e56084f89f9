"""Proves an account's numbers from the bottom up: fills, days, ledger, completeness, totals. Changes none of them.

What is proved is worked out here a second time, from the rows themselves, and by other ways than those it is shown by.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import chain, pairwise
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Max, Min

from exchanges.fields import USD_STEP, plain, to_usd_places
from exchanges.models import STOPPED, Coverage, ExchangeCredential, Fill, SyncRun
from exchanges.venues import VENUES
from exchanges.venues.base import EXACT, FORCED, Kind, Liquidity, Side, Window
from volume import glance, kept, periods, queries
from volume.completeness import STALE_AFTER, Completeness
from volume.models import Preferences, VolumeCheck
from volume.periods import start_of
from volume.rollup import differences, outdated, stretches, usd_prices

KEPT = 50  # findings; what comes after them is counted
TOLERANCE = timedelta(minutes=5)  # the venues' clocks are not ours
DAY = timedelta(days=1)
State, Outcome = Coverage.State, SyncRun.Outcome
# After these an account's own word of how far it is read may lag behind its ledger; the next reading catches up.
UNFINISHED = (Outcome.RUNNING, Outcome.STOPPED, Outcome.FAILED)
# Only after these is all that came also in the ledger: where a reading broke off, fills may lie beyond its end.
WHOLE = (Outcome.COMPLETE, Outcome.INCOMPLETE)
Range = tuple[datetime, datetime]  # [from, until)


def prove(credential: ExchangeCredential, now: datetime) -> VolumeCheck:
    """Proves the account, and the totals of its owner, as of one moment. Stores and returns what was found.

    Nobody is kept from reading or storing meanwhile. Raises ExchangeCredential.DoesNotExist for one that was removed.
    """
    with snapshot():
        account = ExchangeCredential.objects.get(pk=credential.pk)
        check = VolumeCheck(credential=account, checked_at=now)
        check.fills, check.days = account.fills.count(), account.days.order_by().values("day").distinct().count()
        for finding in chain(prove_account(account, now), prove_owner(account.owner_id, now)):
            check.found += 1
            if len(check.findings) < KEPT:
                check.findings.append(finding)
    with transaction.atomic():
        ExchangeCredential.objects.select_for_update().get(pk=account.pk)
        check.save()
    return check


def prove_account(credential: ExchangeCredential, now: datetime) -> Iterator[str]:
    """What does not agree within one account, in words."""
    yield from _days(credential)
    yield from _fills(credential)
    if credential.venue not in VENUES:
        return  # of a venue perpdash no longer knows, nothing more can be said
    ledger = list(Coverage.objects.filter(credential=credential).order_by("stream", "from_at", "until_at"))
    yield from _ledger(credential, ledger, now)
    yield from _rereads(credential, now)
    yield from _freshness(credential, ledger, now)
    yield from completeness_findings(credential, ledger, Completeness([credential], now=now))


@contextmanager
def snapshot() -> Iterator[None]:
    """All that is read within is of one moment, and nobody waits for it. Within a transaction, that is the moment."""
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "postgresql":
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield
    else:
        # Our transactions on SQLite lock out every other writer from their start; this one only looks.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")


# --- Fills and days --------------------------------------------------------------------------------------------------


def _days(credential: ExchangeCredential) -> Iterator[str]:
    if waiting := outdated(credential).count():
        yield f"{waiting:,} days and markets wait to be recomputed (manage.py rebuild_volume does it at once)"
        return
    for item in differences(credential):
        stored = "missing" if item.stored is None else _text(item.stored)
        computed = "there is no such day" if item.computed is None else _text(item.computed)
        yield f"{item.day} {item.symbol}: {item.column} is {stored}, the fills say {computed}"
    for part in periods.differences(credential):
        stored = "missing" if part.stored is None else _text(part.stored)
        computed = "there is none" if part.computed is None else _text(part.computed)
        where = f"{part.step} of {part.day} {part.symbol}".rstrip()
        yield f"Added up, {where}: {part.column} is {stored}, it should be {computed}"


def _fills(credential: ExchangeCredential) -> Iterator[str]:
    fills = Fill.objects.filter(credential=credential).order_by()
    words: Counter[tuple[str, str]] = Counter()
    for days in stretches(credential):
        part = fills.filter(executed_at__gte=start_of(days[0]), executed_at__lt=start_of(days[-1] + timedelta(days=1)))
        for row in part.values("day").annotate(first=Min("executed_at"), last=Max("executed_at")).order_by("day"):
            for moment in dict.fromkeys((row["first"], row["last"])):
                if moment.date() != row["day"]:
                    yield f"A fill of {_moment(moment)} is kept under the day {row['day']}"
        for *values, count in part.values_list("side", "liquidity", "kind").annotate(count=Count("pk")):
            for name, value in zip(("side", "liquidity", "kind"), values, strict=True):
                words[name, value] += count
    known: dict[str, list[str]] = {"side": list(Side), "liquidity": list(Liquidity), "kind": list(Kind)}
    for (name, value), count in words.items():
        if value not in known[name]:
            yield f"{_fills_in_words(count)} of the {name} {value!r}, which perpdash does not know"
    taken_back = fills.filter(fill_id__in=credential.retractions.values("fill_id"))
    for fill in taken_back.order_by("executed_at").iterator():
        yield f"The fill {fill.fill_id} of {_moment(fill.executed_at)} was taken back by the venue, and is counted"


# --- The ledger ------------------------------------------------------------------------------------------------------


def _ledger(credential: ExchangeCredential, ledger: Iterable[Coverage], now: datetime) -> Iterator[str]:
    """Whether the ranges are what a ledger is made of. They come by stream, and oldest first."""
    for stream, rows in _by_stream(ledger).items():
        if stream not in {known.name for known in credential.venue_type.streams}:
            yield f"Ledger: {len(rows)} ranges are of the list {stream!r}, which {credential.venue_name} does not have"
        for row in rows:
            if row.from_at >= row.until_at:
                yield f"Ledger: the range {_range(row)} is empty"
            if row.state == State.COVERED and row.until_at > now + TOLERANCE:
                yield f"Ledger: the range {_range(row)} is said to be read, and ends after now"
        for before, row in pairwise(rows):
            if before.until_at > row.from_at:
                yield f"Ledger: the ranges {_range(before)} and {_range(row)} overlap"
            elif before.until_at == row.from_at and before.state == row.state == State.COVERED:
                yield f"Ledger: the ranges {_range(before)} and {_range(row)} are read, and are not one"


def _rereads(credential: ExchangeCredential, now: datetime) -> Iterator[str]:
    known = {stream.name for stream in credential.venue_type.streams}
    for row in credential.rereads.all():
        if row.stream not in known:
            yield f"To be read again: {_range(row)} is of a list {credential.venue_name} does not have"
        if row.from_at >= row.until_at:
            yield f"To be read again: {_range(row)} is empty"
        if max(row.until_at, row.asked_at) > now + TOLERANCE:
            yield f"To be read again: {_range(row)} lies after now"


def _freshness(credential: ExchangeCredential, ledger: Sequence[Coverage], now: datetime) -> Iterator[str]:
    """Whether an account is read as far as it says, and nothing lies beyond."""
    if _is_at_rest(credential, now) and credential.fresh_at != (end := _read_until(credential, ledger)):
        yield f"It is said to be read until {_moment(credential.fresh_at)}, the ledger says {_moment(end)}"
    reach = now
    if _is_at_rest(credential, now) and credential.fresh_at and credential.runs.all()[0].outcome in WHOLE:
        reach = max([credential.fresh_at, *(row.until_at for row in ledger)])
    if credential.fresh_at:
        beyond = Fill.objects.filter(credential=credential, executed_at__gt=reach + TOLERANCE)
        if count := beyond.count():
            yield f"{_fills_in_words(count)} of a time after {_moment(reach)}, up to which was read"
        days = credential.days.filter(day__gt=(reach + TOLERANCE).date()).order_by("day").values_list("day", flat=True)
        for day in days.distinct():
            yield f"{day}: there are figures of this day, and it was read only up to {_moment(reach)}"


def completeness_findings(
    credential: ExchangeCredential, ledger: Sequence[Coverage], shown: Completeness
) -> Iterator[str]:
    """Whether each UTC day is called complete exactly when all of it was asked for, read, and understood."""
    held = list(credential.held_rows.values_list("executed_at", flat=True))
    held_days = {moment.date() for moment in held if moment}
    lacking = _lacking(credential, ledger, shown.now)
    is_current = not outdated(credential).exists()
    now, day = shown.now, credential.history_from.date()
    while (start := start_of(day)) < now:
        end = min(now, start + DAY)
        is_complete = (
            is_current
            and start >= credential.history_from
            and None not in held
            and day not in held_days
            and not any(since < end and until > start for since, until in lacking)
        )
        if shown.of(Window(start, end)).complete != is_complete:
            called, truly = ("not complete", "complete") if is_complete else ("complete", "not complete")
            yield f"{day} is called {called}, the ledger says it is {truly}"
        day += DAY


def _lacking(credential: ExchangeCredential, ledger: Sequence[Coverage], now: datetime) -> list[Range]:
    """The ranges of which some list of the account is not read, not even lately."""
    by_stream = _by_stream(ledger)
    fresh = _read_until(credential, ledger) if _is_at_rest(credential, now) else credential.fresh_at
    until = credential.retired_at or now  # what an account does after it was removed is no part of any total
    is_left_alone = not credential.is_enabled or credential.health_state in STOPPED
    limit = timedelta() if is_left_alone and not credential.retired_at else STALE_AFTER
    lacking = [(fresh, until)] if fresh and until - fresh > limit else []
    for stream in credential.streams:
        rows = by_stream.get(stream.name, [])
        lacking += [(row.from_at, row.until_at) for row in rows if row.state != State.COVERED]
        at = credential.history_from
        for row in rows:
            if row.from_at > at:
                lacking.append((at, row.from_at))
            at = max(at, row.until_at)
        if (end := fresh or until) > at:
            lacking.append((at, end))
    return lacking


def _read_until(credential: ExchangeCredential, ledger: Iterable[Coverage]) -> datetime | None:
    """Up to when all lists of the account are read, as the ledger has it; None where one never was."""
    ends = {row.stream: row.until_at for row in ledger if row.state == State.COVERED}  # the last of each is the newest
    found = [ends.get(stream.name) for stream in credential.streams]
    known = [end for end in found if end]
    return min(known) if len(known) == len(found) else None


def _is_at_rest(credential: ExchangeCredential, now: datetime) -> bool:
    """Whether its last reading came to an end, nobody reads it now, and nobody asked the venue what it is since."""
    last = credential.runs.first()
    if last is None or last.ended_at is None or last.outcome in UNFINISHED:
        return False
    is_leased = credential.leased_until is not None and credential.leased_until > now
    return not is_leased and (credential.verified_at is None or credential.verified_at <= last.ended_at)


# --- The totals ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sums:
    """What was traded, counted a second time. `slack` is how far a rounding may be off."""

    fills: int = 0
    usd: Decimal = Decimal(0)
    forced_usd: Decimal = Decimal(0)
    slack: Decimal = Decimal(0)

    def add(self, other: "Sums") -> None:
        self.fills += other.fills
        self.usd += other.usd
        self.forced_usd += other.forced_usd
        self.slack += other.slack


def prove_owner(owner_id: int, now: datetime) -> Iterator[str]:
    """What does not agree in the totals over all of an owner's accounts, in words."""
    if ExchangeCredential.objects.filter(owner_id=owner_id).exclude(venue__in=VENUES).exists():
        return  # no total is shown where perpdash no longer knows a venue
    kept.forget()  # what is proved is what is stored
    summary = glance.summary(owner_id, now=now)
    rows = queries.volume(queries.Filter(owner_id=owner_id), by=("day", "credential"), now=now)
    yield from summary_findings(summary, rows, rolling(owner_id, now - timedelta(hours=24)), now)


def summary_findings(
    summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], last_24h: Mapping[int, Sums], now: datetime
) -> Iterator[str]:
    """Whether each total is what the days of all accounts (`rows` of queries.volume) come to; the last 24 hours by
    account come from the fills."""
    venue_of = {account["id"]: account["venue"] for account in summary["accounts"]}
    today = now.astimezone(UTC).date()
    for span in glance.SPANS:
        by_venue: dict[str, Sums] = defaultdict(Sums)
        if span == "24h":
            for account, sums in last_24h.items():
                by_venue[venue_of[account]].add(sums)
        else:
            first = {"all": date.min, "month": today.replace(day=1)}.get(span)
            first = first or today - timedelta(days=glance.SPAN_DAYS[span] - 1)
            for row in rows:
                if row["day"] >= first:
                    sums = Sums(row["fills"], row["notional_usd"], row["forced_usd"])
                    by_venue[venue_of[row["credential"]]].add(sums)
        everything = Sums()
        for venue in summary["venues"]:
            yield from _compared(f"{span} at {venue['name']}", venue["totals"][span], by_venue[venue["venue"]])
            everything.add(by_venue[venue["venue"]])
        yield from _compared(span, summary["totals"][span], everything)


def rolling(owner_id: int, since: datetime) -> dict[int, Sums]:
    """By account, what its fills since then come to, one by one."""
    accounts = list(ExchangeCredential.objects.filter(owner_id=owner_id).values_list("pk", flat=True))
    fills = Fill.objects.filter(credential__in=accounts, executed_at__gte=since)
    parts: dict[tuple[int, date, str], _Part] = defaultdict(_Part)
    columns = fills.values_list("credential_id", "executed_at", "quote", "kind", "notional")
    for account, executed_at, quote, kind, notional in columns.iterator():
        part = parts[account, executed_at.date(), quote]
        if kind in FORCED:
            part.forced_fills, part.forced = part.forced_fills + 1, EXACT.add(part.forced, notional)
        else:
            part.fills, part.ordinary = part.fills + 1, EXACT.add(part.ordinary, notional)
    wishes = Preferences.of(owner_id)
    prices = usd_prices({(day, quote) for _, day, quote in parts}, at_market=wishes.stablecoins_at_market)
    found: dict[int, Sums] = defaultdict(Sums)
    for (account, day, quote), part in parts.items():
        price = prices.get((day, quote))
        usd, forced_usd = (
            (Decimal(0), Decimal(0))
            if price is None
            else (to_usd_places(EXACT.multiply(amount, price)) for amount in (part.ordinary, part.forced))
        )
        slack = Decimal(0) if price is None or price == 1 else USD_STEP
        if wishes.counts_forced:
            usd, part.fills, slack = usd + forced_usd, part.fills + part.forced_fills, slack * 2
        found[account].add(Sums(part.fills, usd, forced_usd, slack))
    return found


@dataclass(slots=True)
class _Part:
    fills: int = 0
    forced_fills: int = 0
    ordinary: Decimal = field(default=Decimal(0))
    forced: Decimal = field(default=Decimal(0))


def _compared(name: str, total: Mapping[str, Any], sums: Sums) -> Iterator[str]:
    if abs(Decimal(total["notional_usd"]) - sums.usd) > sums.slack:
        yield f"Totals, {name}: ${total['notional_usd']} are shown, its parts come to ${plain(sums.usd)}"
    if abs(Decimal(total["forced_usd"]) - sums.forced_usd) > sums.slack:
        yield f"Totals, {name}: ${total['forced_usd']} forced are shown, its parts come to ${plain(sums.forced_usd)}"
    if total["fills"] != sums.fills:
        yield f"Totals, {name}: {total['fills']} fills are shown, its parts have {sums.fills}"


# --- In words --------------------------------------------------------------------------------------------------------


def _by_stream(ledger: Iterable[Coverage]) -> dict[str, list[Coverage]]:
    found: dict[str, list[Coverage]] = defaultdict(list)
    for row in ledger:
        found[row.stream].append(row)
    return found


def _range(row: Any) -> str:
    return f"{row.stream} {_moment(row.from_at)} to {_moment(row.until_at)}"


def _moment(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _text(value: Any) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _fills_in_words(count: int) -> str:
    return "1 fill is" if count == 1 else f"{count:,} fills are"
