"""What to read next, and how a page of a venue becomes rows and ledger. Asks no venue and knows no day totals."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from django.db import connection

from exchanges.fields import as_units, plain, to_usd_places
from exchanges.ledger import Ledger, settled
from exchanges.models import Coverage, ExchangeCredential, Fill, HeldRow, Retraction
from exchanges.venues.base import FillReport, Held, Missing, Page, Retracted, Skipped, Stream, Window, subtract

Touched = set[tuple[date, str]]  # (UTC day, symbol)

GAP_RETRY = timedelta(hours=1)
SLIDING_MARGIN = timedelta(days=2)  # a range this close to the edge of a venue's memory is read before all others


@dataclass(frozen=True, slots=True)
class Step:
    """One window of one stream to be fetched. `is_older` tells the backfill from the poll of what is new."""

    stream: Stream
    window: Window
    is_older: bool


@dataclass(slots=True)
class Stored:
    """What a page came to."""

    touched: Touched = field(default_factory=set)  # where fills are new
    rows: int = 0
    new: int = 0
    seen: int = 0
    held: int = 0
    retracted: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


def next_step(
    credential: ExchangeCredential, window: Window, *, now: datetime, under_way: Sequence[Step] = ()
) -> Step | None:
    """What the ledger lacks of the window, most urgent first: what is new, what is about to slide out, the newest.

    None when there is nothing (more) to read. A step that is under way or settled is not handed out again.
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
        return None
    _, part, stream = max(older, key=lambda item: (item[0], item[1].until))
    return Step(stream, _cut(stream, part), is_older=True)


def steps_again(credential: ExchangeCredential, window: Window, *, now: datetime) -> Iterator[Step]:
    """Every part of the window, newest first, whether it was read before or not."""
    for stream in credential.streams:
        since = max(window.since, now - stream.memory) if stream.memory else window.since
        left = Window(since, now if stream.forgets_by_count else window.until)
        while left:
            piece = _cut(stream, left)
            yield Step(stream, piece, is_older=True)
            left = Window(left.since, piece.since)


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
    for stream in credential.streams:
        ledger = Ledger(credential, stream.name)
        known_until = ledger.covered_until()
        if known_until and known_until > now:
            ledger.forget_after(now - timedelta(days=1))


def store(credential: ExchangeCredential, stream: Stream, page: Page, *, now: datetime) -> Stored:
    """Puts a page's rows and what it says of the ledger into the database, inside the caller's transaction.

    Rows that are there already stay as they are, so any page may be stored any number of times.
    """
    stored = Stored(rows=len(page.rows))
    for row in page.rows:
        if isinstance(row, Retracted):
            stored.skipped[row.kind] += 1
            retract(credential, row, stored, now=now)
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
    new = insert_fills(credential, reports)
    stored.new = len(new)
    stored.seen = stored.rows - stored.new - stored.held - stored.skipped.total()
    stored.touched |= {(reports[fill_id].executed_at.date(), reports[fill_id].symbol) for fill_id in new}
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


def retract(credential: ExchangeCredential, row: Retracted, stored: Stored, *, now: datetime) -> None:
    """Takes a fill out, for good."""
    Retraction.objects.bulk_create(
        [Retraction(credential=credential, fill_id=name, why=row.why[:300], seen_at=now) for name in row.fill_ids],
        ignore_conflicts=True,
    )
    there = Fill.objects.filter(credential=credential, fill_id__in=row.fill_ids)
    stored.touched |= set(there.values_list("day", "symbol"))
    stored.retracted += there.delete()[0]


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


TABLE, NAMES = Fill._meta.db_table, ", ".join(COLUMNS)
ONCE = "ON CONFLICT (credential_id, fill_id) DO NOTHING"


def insert_fills(credential: ExchangeCredential, reports: Mapping[str, FillReport]) -> set[str]:
    """Adds the fills that are not there yet and returns their ids.

    By the drivers' bulk paths: Django's is five times slower.
    """
    if not reports:
        return set()
    insert = _insert_postgresql if connection.vendor == "postgresql" else _insert_sqlite
    return insert(credential, reports)


def _insert_postgresql(credential: ExchangeCredential, reports: Mapping[str, FillReport]) -> set[str]:
    # Asking first which are there would leave the choice of index to statistics, which know nothing of a table that
    # is just being filled.
    like_fills = f"ON COMMIT DELETE ROWS AS SELECT {NAMES} FROM {TABLE} LIMIT 0"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE IF NOT EXISTS incoming_fill {like_fills}")
        with cursor.copy(f"COPY incoming_fill ({NAMES}) FROM STDIN") as copy:
            for report in reports.values():
                copy.write_row(_row(credential.pk, report))
        cursor.execute(f"INSERT INTO {TABLE} ({NAMES}) SELECT {NAMES} FROM incoming_fill {ONCE} RETURNING fill_id")
        new = {fill_id for (fill_id,) in cursor.fetchall()}
        cursor.execute("DELETE FROM incoming_fill")
    return new


def _insert_sqlite(credential: ExchangeCredential, reports: Mapping[str, FillReport]) -> set[str]:
    ids = list(reports)
    known: set[str] = set()
    for start in range(0, len(ids), 500):
        there = Fill.objects.filter(credential=credential, fill_id__in=ids[start : start + 500])
        known.update(there.values_list("fill_id", flat=True))
    new = reports.keys() - known
    places = ", ".join(["%s"] * len(COLUMNS))
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {TABLE} ({NAMES}) VALUES ({places}) {ONCE}",
            [_row(credential.pk, report) for fill_id, report in reports.items() if fill_id in new],
        )
    return new


def _row(credential_id: int, report: FillReport) -> tuple[int | str | None, ...]:
    """The report in the order of COLUMNS, as the database takes it."""
    return (
        credential_id,
        report.fill_id,
        connection.ops.adapt_datetimefield_value(report.executed_at),
        connection.ops.adapt_datefield_value(report.executed_at.date()),
        report.symbol,
        report.base,
        report.quote,
        str(report.side),
        str(report.liquidity),
        str(report.kind),
        plain(report.price),
        plain(report.qty),
        as_units(to_usd_places(report.notional)),
        plain(report.fee),
        report.fee_asset,
        None if report.realized_pnl is None else plain(report.realized_pnl),
    )
