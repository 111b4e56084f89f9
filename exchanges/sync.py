"""What to read next, and how a page of a venue becomes rows and ledger. Asks no venue and knows no day totals."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Max, Min

from exchanges.fields import plain, to_usd_places, to_usd_units
from exchanges.ledger import Ledger, covered_until, settled
from exchanges.models import Coverage, ExchangeCredential, Fill, HeldRow, Reread, Retraction
from exchanges.venues.base import EXACT, FillReport, Held, Missing, Page, Retracted, Skipped, Stream, Window, subtract

Touched = set[tuple[date, str]]  # (UTC day, symbol)

GAP_RETRY = timedelta(hours=1)
SLIDING_MARGIN = timedelta(days=2)  # a range this close to the edge of a venue's memory is read before all others
LATE_AFTER = timedelta(minutes=1)  # between a fill and its place in the venue's list; sooner is no news


class Cause(StrEnum):
    """Why what was called read is not what it was."""

    LATE = "late"
    TAKEN_BACK = "taken_back"
    CHANGED = "changed"
    RENAMED = "renamed"
    UNDERSTOOD = "understood"


@dataclass(slots=True)
class Change:
    """By how much the fills of one day and market changed after they had been called read."""

    day: date
    symbol: str
    cause: Cause
    quote: str
    why: str = ""
    fills: int = 0
    notional: Decimal = Decimal(0)  # quote units


@dataclass(frozen=True, slots=True)
class Step:
    """One window of one stream to be fetched. `is_older` tells the backfill from the poll of what is new."""

    stream: Stream
    window: Window
    is_older: bool
    is_again: bool = False  # somebody wants it read once more


@dataclass(slots=True)
class Stored:
    """What a page, or some, came to."""

    touched: Touched = field(default_factory=set)  # where fills are new
    rows: int = 0
    new: int = 0
    seen: int = 0
    held: int = 0
    retracted: int = 0
    amended: int = 0  # fills that changed, or came late
    skipped: Counter[str] = field(default_factory=Counter)
    changes: list[Change] = field(default_factory=list)

    def add(self, more: "Stored") -> None:
        self.touched |= more.touched
        for name in ("rows", "new", "seen", "held", "retracted", "amended"):
            setattr(self, name, getattr(self, name) + getattr(more, name))
        self.skipped += more.skipped
        self.changes += more.changes


def next_step(
    credential: ExchangeCredential, window: Window, *, now: datetime, under_way: Sequence[Step] = ()
) -> Step | None:
    """What the ledger lacks of the window, most urgent first: what is new, what is about to slide out, the newest.

    Then what is wanted once more. None when there is nothing (more) to read. A step that is under way or settled is
    not handed out again.
    """
    overlap = credential.venue_type.overlap  # rows appear late: what borders on something read is read a bit earlier
    older: list[tuple[bool, Window, Stream]] = []
    known = settled(credential, now=now)
    for stream in credential.streams:
        start = _remembered_since(Ledger(credential, stream.name), stream, window.since, now)
        taken = [step.window for step in under_way if step.stream == stream]
        missing = subtract(Window(start, window.until), [*known.get(stream.name, ()), *taken])
        # New is what came since the account is here; before that lies the history a backfill reads.
        new = [
            part for part in (Window(max(part.since, credential.created_at), part.until) for part in missing) if part
        ]
        old = [
            part for part in (Window(part.since, min(part.until, credential.created_at)) for part in missing) if part
        ]
        is_one_walk = stream.forgets_by_count and old and credential.is_backfilling
        if new and not is_one_walk:
            since = max(start, new[0].since - overlap)
            until = now if stream.forgets_by_count else new[0].until
            if stream.longest_window:  # in its order, so that it stays one range
                until = min(until, since + stream.longest_window)
            return Step(stream, Window(since, until), is_older=False)
        if old and credential.is_backfilling:
            slides = bool(stream.memory) and old[0].since < now - (stream.memory or timedelta()) + SLIDING_MARGIN
            part = old[0] if slides or stream.forgets_by_count else old[-1]
            part = Window(max(start, part.since - overlap), now if stream.forgets_by_count else part.until)
            if slides and stream.longest_window:
                part = Window(part.since, min(part.until, part.since + stream.longest_window))
            older.append((slides, part, stream))
    if not older:
        return _step_again(credential, window, now=now, under_way=under_way)
    _, part, stream = max(older, key=lambda item: (item[0], item[1].until))
    return Step(stream, _cut(stream, part), is_older=True)


def _step_again(
    credential: ExchangeCredential, window: Window, *, now: datetime, under_way: Sequence[Step]
) -> Step | None:
    """The newest part of the window that is wanted once more; of a stopped backfill only the daily second look."""
    wanted: list[tuple[Window, Stream, bool]] = []
    streams = {stream.name: stream for stream in credential.streams}
    for row in credential.rereads.exclude(retry_at__gt=now):
        if not (stream := streams.get(row.stream)) or not (row.is_daily or credential.is_backfilling):
            continue
        part = Window(max(row.from_at, window.since), min(row.until_at, window.until))
        if stream.forgets_by_count:
            part = Window(part.since, max(now, part.until)) if part else part
        taken = [step.window for step in under_way if step.stream == stream]
        wanted += [(left, stream, row.is_daily) for left in (subtract(part, taken) if part else [])]
    if not wanted:
        return None
    part, stream, is_daily = max(wanted, key=lambda item: item[0].until)
    return Step(stream, _cut(stream, part), is_older=not is_daily, is_again=True)


def ask_again(credential: ExchangeCredential, window: Window, *, now: datetime, is_daily: bool = False) -> bool:
    """All of the window is read once more, in every list, as far as the venue still has it; what is stored stays.

    False where there is nothing of it that could be read.
    """
    found = False
    with transaction.atomic():
        credential.lock()  # two of these at once would each add the same
        for stream in credential.streams:
            wanted = Window(max(window.since, now - stream.memory) if stream.memory else window.since, window.until)
            if not wanted:
                continue
            found = True
            rows = credential.rereads.filter(
                stream=stream.name, is_daily=is_daily, from_at__lte=wanted.until, until_at__gte=wanted.since
            )
            ends = [(row.from_at, row.until_at) for row in rows]
            rows.delete()
            others = credential.rereads.filter(stream=stream.name)
            taken = [Window(row.from_at, row.until_at) for row in others]
            since = min([wanted.since, *(since for since, _ in ends)])
            whole = Window(since, max([wanted.until, *(until for _, until in ends)]))
            Reread.objects.bulk_create(
                Reread(
                    credential=credential, stream=stream.name, from_at=left.since, until_at=left.until, asked_at=now,
                    is_daily=is_daily,
                )
                for left in subtract(whole, taken)
            )  # fmt: skip
    return found


def note_reread(credential: ExchangeCredential, stream: Stream, window: Window) -> None:
    """This was just read, so it need not be read once more."""
    for row in credential.rereads.filter(stream=stream.name, from_at__lt=window.until, until_at__gt=window.since):
        row.delete()
        for left in subtract(Window(row.from_at, row.until_at), [window]):
            row.pk, row.from_at, row.until_at = None, left.since, left.until
            row.save(force_insert=True)


def postpone_reread(credential: ExchangeCredential, step: Step, *, now: datetime) -> None:
    """What of the step could not be read this time is tried again later."""
    window = step.window
    credential.rereads.filter(stream=step.stream.name, from_at__lt=window.until, until_at__gt=window.since).update(
        retry_at=now + GAP_RETRY
    )


def _cut(stream: Stream, window: Window) -> Window:
    """The newest part of the window that the venue answers at once."""
    if not stream.longest_window:
        return window
    return Window(max(window.since, window.until - stream.longest_window), window.until)


def _remembered_since(ledger: Ledger, stream: Stream, since: datetime, now: datetime) -> datetime:
    """From when the venue still answers; what lies before and is not covered is noted as out of reach."""
    if not stream.memory or since >= now - stream.memory:
        return since
    edge = now - stream.memory
    if ledger.missing(Window(since, edge), now=now):
        why = f"The venue keeps fills for {round(stream.memory / timedelta(days=1)):,} days; these are older."
        ledger.mark_out_of_reach(Missing(Window(since, edge), why))
    return edge


def make_gaps_due(credential: ExchangeCredential, *, now: datetime) -> None:
    """Gaps are tried again at the next reading, not at their own time."""
    credential.coverage.filter(state=Coverage.State.GAP).update(retry_at=now)


def distrust_the_future(credential: ExchangeCredential, *, now: datetime) -> None:
    """After a clock that went ahead was set right: what was claimed of the time to come is not so.

    When that was claimed is not known, so the last day goes with it and is read again.
    """
    for stream, known_until in covered_until(credential).items():
        if known_until > now:
            Ledger(credential, stream).forget_after(now - timedelta(days=1))


def store(
    credential: ExchangeCredential, stream: Stream, page: Page, *, now: datetime, late: Cause = Cause.LATE
) -> Stored:
    """Puts a page's rows and what it says of the ledger into the database, inside the caller's transaction.

    Any page may be stored any number of times. What it changes of a time that had been called read is told in
    `changes`; a fill that is new there is `late`.
    """
    stored = Stored(rows=len(page.rows))
    for row in page.rows:
        if isinstance(row, Retracted):
            stored.skipped[row.kind] += 1
            retract(credential, stream, row, stored, now=now)
    reports: dict[str, FillReport] = {}  # PostgreSQL refuses the same row twice in one statement
    gone = set(credential.retractions.values_list("fill_id", flat=True)) if page.rows else set()
    for row in page.rows:
        match row:
            case FillReport(fill_id=fill_id) if fill_id in gone:
                stored.skipped["taken back"] += 1
            case FillReport():
                reports[row.fill_id] = row
            case Skipped(kind):
                stored.skipped[kind] += 1
            case Held():
                stored.held += hold(credential, stream.name, row, now=now)
    new, other = insert_fills(credential, reports)
    stored.changes += _late(credential, stream, new, late)
    for report in other:
        _follow(credential, stream, report, stored)
    if renamed := {change.symbol for change in stored.changes if change.cause == Cause.RENAMED and change.fills < 0}:
        _look_for_more(credential, renamed, now)
    stored.new = len(new)
    stored.seen = stored.rows - stored.new - stored.held - stored.skipped.total()
    stored.touched |= {(report.executed_at.date(), report.symbol) for report in new}
    ledger = Ledger(credential, stream.name)
    if page.covered:
        ledger.cover(page.covered)
    if page.gap:
        ledger.mark_gap(page.gap, retry_at=now + GAP_RETRY)
    if page.out_of_reach:
        ledger.mark_out_of_reach(page.out_of_reach)
    return stored


def settle(credential: ExchangeCredential, step: Step, *, now: datetime, why: str = "") -> None:
    """After a fetch that ended: what it left unsaid of its window is a gap, so nothing is claimed by silence."""
    why = why or "The venue's answer did not reach over this range."
    ledger = Ledger(credential, step.stream.name)
    for left in ledger.missing(step.window, now=now):
        ledger.mark_gap(Missing(left, why), retry_at=now + GAP_RETRY)


def retract(credential: ExchangeCredential, stream: Stream, row: Retracted, stored: Stored, *, now: datetime) -> None:
    """Takes a fill out, for good."""
    Retraction.objects.bulk_create(
        [Retraction(credential=credential, fill_id=name, why=row.why[:300], seen_at=now) for name in row.fill_ids],
        ignore_conflicts=True,
    )
    there = Fill.objects.filter(credential=credential, fill_id__in=row.fill_ids)
    for fill in there:
        stored.touched.add((fill.day, fill.symbol))
        # It is news where this list had been read over that time already.
        known = credential.coverage.filter(stream=stream.name, state=Coverage.State.COVERED)
        if known.filter(from_at__lte=fill.executed_at, until_at__gt=fill.executed_at).exists():
            why = f"{_words(fill)}: {row.why}"
            change = Change(fill.day, fill.symbol, Cause.TAKEN_BACK, fill.quote, why, -1, -fill.notional)
            stored.changes.append(change)
    stored.retracted += there.delete()[0]


def _late(credential: ExchangeCredential, stream: Stream, new: Sequence[FillReport], cause: Cause) -> Iterable[Change]:
    """New fills of a time that had been called read, by day and market."""
    if not new:
        return []
    moments = [fill.executed_at for fill in new]
    known = credential.coverage.filter(
        stream=stream.name, state=Coverage.State.COVERED, from_at__lte=max(moments), until_at__gt=min(moments)
    ).order_by()
    claimed = [Window(since, until - LATE_AFTER) for since, until in known.values_list("from_at", "until_at")]
    found: dict[tuple[date, str, str], Change] = {}
    for fill in new if claimed else ():
        if any(window.since <= fill.executed_at < window.until for window in claimed):
            day = fill.executed_at.date()
            change = found.setdefault((day, fill.symbol, fill.quote), Change(day, fill.symbol, cause, fill.quote))
            change.fills += 1
            change.notional = EXACT.add(change.notional, to_usd_places(fill.notional))
            change.why = (
                f"{_words(fill)}: {LATE_WORDS[cause]}"
                if change.fills == 1
                else f"{change.fills} fills: {LATE_WORDS[cause]}"
            )
    return found.values()


LATE_WORDS = {
    Cause.LATE: "not in the venue's list when that time was first read.",
    Cause.UNDERSTOOD: "held before, because perpdash did not understand it; now it does.",
}


def _follow(credential: ExchangeCredential, stream: Stream, report: FillReport, stored: Stored) -> None:
    """The venue now says something else of a fill that is here: what it says last counts."""
    fill = Fill.objects.get(credential=credential, fill_id=report.fill_id)
    # As with a fill that comes late: of a time that was never called read it is no news.
    was_read = credential.coverage.filter(
        stream=stream.name, state=Coverage.State.COVERED, from_at__lte=fill.executed_at, until_at__gt=fill.executed_at
    ).exists()
    old_day, old_symbol, old_notional, old_quote = fill.day, fill.symbol, fill.notional, fill.quote
    said = []
    for name in FACTS:
        before, after = getattr(fill, name), getattr(report, name)
        after = to_usd_places(after) if name == "notional" else after
        if before != after:
            said.append(f"{name} {_text(before)} is now {_text(after)}")
            setattr(fill, name, after)
    fill.day = report.executed_at.date()
    fill.save(update_fields=[*FACTS, "day"])
    stored.touched |= {(old_day, old_symbol), (fill.day, fill.symbol)}
    if not was_read:
        return
    why = f"{_words(fill)}: {', '.join(said)}."[:300]
    if (old_day, old_symbol, old_quote) == (fill.day, fill.symbol, fill.quote):
        difference = EXACT.subtract(fill.notional, old_notional)
        stored.changes.append(Change(fill.day, fill.symbol, Cause.CHANGED, fill.quote, why, 0, difference))
        return
    cause = Cause.RENAMED if old_symbol != fill.symbol else Cause.CHANGED
    stored.changes.append(Change(old_day, old_symbol, cause, old_quote, why, -1, -old_notional))
    stored.changes.append(Change(fill.day, fill.symbol, cause, fill.quote, why, 1, fill.notional))


def _look_for_more(credential: ExchangeCredential, symbols: set[str], now: datetime) -> None:
    """A market has another name now: what else is here under the old one is asked for again."""
    left = credential.fills.filter(symbol__in=symbols).aggregate(first=Min("executed_at"), last=Max("executed_at"))
    if left["first"]:
        ask_again(credential, Window(left["first"], left["last"] + timedelta(milliseconds=1)), now=now)


def _words(fill: Fill | FillReport) -> str:
    return f"{fill.side} {plain(fill.qty)} {fill.symbol} at {plain(fill.price)}, {fill.executed_at:%H:%M:%S} UTC"


def _text(value: Any) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)


def hold(credential: ExchangeCredential, stream: str, row: Held, *, now: datetime) -> int:
    """Keeps a row that was not understood, once. 1 if it is new."""
    _, is_new = HeldRow.objects.get_or_create(
        credential=credential,
        digest=hashlib.sha256(row.row.encode()).hexdigest(),
        defaults={
            "stream": stream, "raw": row.row, "why": row.why[:300], "executed_at": row.executed_at, "seen_at": now,
        },
    )  # fmt: skip
    return int(is_new)


COLUMNS = (
    "credential_id", "fill_id", "executed_at", "day", "symbol", "base", "quote", "side", "liquidity", "kind",
    "price", "qty", "notional", "fee", "fee_asset", "realized_pnl",
)  # fmt: skip


# What a venue may say differently later. The kind is not among them: two lists may tell the same fill's differently.
# Nor is the realized profit, which some lists leave out.
FACTS = (
    "executed_at", "symbol", "base", "quote", "side", "liquidity", "price", "qty", "notional", "fee", "fee_asset",
)  # fmt: skip
TABLE, NAMES = Fill._meta.db_table, ", ".join(COLUMNS)


def insert_fills(
    credential: ExchangeCredential, reports: Mapping[str, FillReport]
) -> tuple[list[FillReport], list[FillReport]]:
    """Adds the fills that are not there yet. Returns these, and the reports that say otherwise of one that is.

    Nobody else adds any to this account meanwhile: the caller's transaction holds it. By the drivers' bulk paths:
    Django's is many times slower.
    """
    if not reports:
        return [], []
    try:
        return _insert(credential, reports, {} if _is_new_ground(credential, reports.values()) else None)
    except IntegrityError:  # one of them is here, of another time
        return _insert(credential, reports, None)


def _is_new_ground(credential: ExchangeCredential, reports: Collection[FillReport]) -> bool:
    """Whether no fill of the time they speak of is here, so that hardly one of them can be. Asking for each takes as
    long as storing it."""
    first, last = min(report.executed_at for report in reports), max(report.executed_at for report in reports)
    return not Fill.objects.filter(credential=credential, executed_at__gte=first, executed_at__lte=last).exists()


def _insert(
    credential: ExchangeCredential, reports: Mapping[str, FillReport], known: dict[str, tuple[Any, ...]] | None
) -> tuple[list[FillReport], list[FillReport]]:
    """`known` are the facts of those that are here; None has them looked up."""
    is_postgresql = connection.vendor == "postgresql"
    if known is None:
        known = (_known_postgresql if is_postgresql else _known_sqlite)(credential, list(reports))
    new = [report for fill_id, report in reports.items() if fill_id not in known]
    if new:
        with transaction.atomic():
            (_insert_postgresql if is_postgresql else _insert_sqlite)(credential, new)
    return new, [reports[fill_id] for fill_id, facts in known.items() if facts != _facts(reports[fill_id])]


def _known_postgresql(credential: ExchangeCredential, ids: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    # Each is looked up on its own, and the account is none the planner could know: so it takes the unique key. Else
    # statistics would choose, which know nothing of a table that is just being filled, and have all of it read.
    one = f"SELECT * FROM {TABLE} WHERE credential_id = (SELECT %s::bigint) AND fill_id = wanted LIMIT 1"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT fill_id, {', '.join(FACTS)} FROM json_array_elements_text(%s::json) AS asked (wanted) "
            f"CROSS JOIN LATERAL ({one}) AS there",
            [json.dumps(ids), credential.pk],
        )
        return {row[0]: row[1:] for row in cursor.fetchall()}


def _known_sqlite(credential: ExchangeCredential, ids: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    known = {}
    moment, *facts = FACTS
    with connection.cursor() as cursor:
        for start in range(0, len(ids), 500):
            asked = ids[start : start + 500]
            places = ", ".join(["%s"] * len(asked))
            cursor.execute(
                f"SELECT fill_id, {moment} || '+00:00', {', '.join(facts)} FROM {TABLE} "
                f"WHERE credential_id = %s AND fill_id IN ({places})",
                [credential.pk, *asked],
            )
            for fill_id, at, *names, price, qty, notional, fee, asset in cursor.fetchall():
                numbers = (Decimal(price), Decimal(qty), notional, Decimal(fee))
                known[fill_id] = (datetime.fromisoformat(at), *names, *numbers, asset)
    return known


def _facts(report: FillReport) -> tuple[Any, ...]:
    """In the order of FACTS, as read back."""
    return (
        report.executed_at, report.symbol, report.base, report.quote, report.side, report.liquidity, report.price,
        report.qty, to_usd_units(report.notional), report.fee, report.fee_asset,
    )  # fmt: skip


def _insert_postgresql(credential: ExchangeCredential, reports: Iterable[FillReport]) -> None:
    into = f"COPY {TABLE} ({NAMES}) FROM STDIN"
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(into) as copy:
        for report in reports:
            copy.write_row(as_row(credential.pk, report, str(report.executed_at)))


def _insert_sqlite(credential: ExchangeCredential, reports: Iterable[FillReport]) -> None:
    places = ", ".join(["%s"] * len(COLUMNS))
    rows = [as_row(credential.pk, report, str(report.executed_at.replace(tzinfo=None))) for report in reports]
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {TABLE} ({NAMES}) VALUES ({places})", rows)


def as_row(credential_id: int, report: FillReport, moment: str) -> tuple[int | str | None, ...]:
    """The report in the order of COLUMNS, as the database takes it; `moment` is `executed_at` in its spelling."""
    return (
        credential_id,
        report.fill_id,
        moment,
        moment[:10],
        report.symbol,
        report.base,
        report.quote,
        str(report.side),
        str(report.liquidity),
        str(report.kind),
        plain(report.price),
        plain(report.qty),
        to_usd_units(report.notional),
        plain(report.fee),
        report.fee_asset,
        None if report.realized_pnl is None else plain(report.realized_pnl),
    )
