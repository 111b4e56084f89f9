"""Reports to committed fills, rebuilt days and ledger, beside the same rows bulk-loaded into a bare table.

What is measured is what a turn of the loop in volume/refresh.py does in its transaction. The least that is possible is
the driver's bulk path alone: the same rows, ready made, in the same pages, each committed, into a table with the same
columns and the same unique key, and nothing else. Both take turns, page by page.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from statistics import median
from time import perf_counter
from typing import Any, cast
from uuid import UUID

from bench.report import Measurement, at_most, say, tell
from bench.setting_up import set_up

set_up()

from django.contrib.auth import get_user_model
from django.db import connection, transaction

from exchanges.fields import Secret
from exchanges.models import ExchangeCredential, Fill
from exchanges.sync import COLUMNS, NAMES, TABLE, as_row
from exchanges.venues.base import FillReport, Kind, Liquidity, Page, Side, Window
from volume.refresh import store_page

PER_DAY, MARKETS = 1370, 40  # a million in two years
UNTIL = datetime(2026, 1, 1, tzinfo=UTC)
IS_POSTGRES = connection.vendor == "postgresql"
DATABASE = "PostgreSQL" if IS_POSTGRES else "SQLite"
FLOOR = "COPY into a bare table" if IS_POSTGRES else "executemany into a bare table"
DAYS = 730
GOAL = 2.5
FLAT = 1.25  # what ten times as many stored fills may make of a page's time
PAGES = 100  # measured at each filling of the table
CHUNK = 250_000  # fills made up by the database in one transaction


@dataclass(slots=True)
class Times:
    """Seconds of each page."""

    ours: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)


def main(size: str) -> None:
    fills = 1_000_000 if size == "full" else 50_000
    for rows in (1000, 5000):
        first, again = compare(fills, rows)
        tell_ratio(f"first read, {rows} rows a page", fills, first)
        tell_ratio(f"read again, {rows} rows a page", fills, again)
        tell_beside(
            f"read again, {rows} rows a page", median(again.ours), "first read", median(first.ours), goal=1,
        )  # fmt: skip
    for rows in (1000, 5000):
        tell_keys(fills, rows)
    tell_flatness(fills)
    tell_sizes()


def tell_keys(fills: int, rows: int) -> None:
    """What is left of the goal once the same rows, ready made, go into a table with all our keys and nothing else."""
    account, bare, keyed = new_account(f"keys {rows}"), new_bare_table(), new_keyed_table()
    seconds: dict[str, list[float]] = {bare: [], keyed: []}
    for number, page in enumerate(history(fills, rows, seed=rows)):
        for table in (bare, keyed) if number % 2 else (keyed, bare):
            seconds[table].append(bulk_load(table, account, page)())
    tell_beside(
        f"ready made into a table with our keys, {rows} rows a page",
        median(seconds[keyed]),
        FLOOR,
        median(seconds[bare]),
    )
    drop(bare)
    drop(keyed)


def tell_ratio(what: str, fills: int, times: "Times") -> None:
    ratio = sum(times.ours) / sum(times.floor)
    tell(
        Measurement(
            section="store",
            what=f"{DATABASE}: {what}",
            value=fills / sum(times.ours),
            unit="fills/s",
            beside=FLOOR,
            beside_value=fills / sum(times.floor),
            ratio=ratio,
            **at_most(ratio, GOAL),
        )
    )


def tell_beside(what: str, seconds: float, beside: str, beside_seconds: float, *, goal: float | None = None) -> None:
    """The time of a page beside another."""
    ratio = seconds / beside_seconds
    tell(
        Measurement(
            section="store",
            what=f"{DATABASE}: {what}",
            value=1000 * seconds,
            unit="ms a page",
            beside=beside,
            beside_value=1000 * beside_seconds,
            ratio=ratio,
            **(at_most(ratio, goal) if goal else {}),
        )
    )


def tell_flatness(fills: int) -> None:
    """Pages of an account while it, and the table, hold ten times as many fills; then while a day does."""
    account, bare = new_account("flat"), new_bare_table()
    make_up(account, bare, fills, first_day=4 * DAYS)  # far from the pages' own days
    few = some_pages(account, bare, seed=1)
    make_up(account, bare, 9 * fills, first_day=6 * DAYS)
    many = some_pages(account, bare, seed=2)
    tell_beside(
        f"1000 rows, {10 * fills:,} stored", median(many.ours), f"{fills:,} stored", median(few.ours), goal=FLAT
    )
    tell_beside(
        f"the bare table, 1000 rows, {10 * fills:,} stored", median(many.floor), f"{fills:,} stored", median(few.floor)
    )
    dense = some_pages(new_account("dense"), bare, seed=3, per_day=10 * PER_DAY)
    tell_beside(f"1000 rows, {10 * PER_DAY:,} fills a day", median(dense.ours), f"{PER_DAY:,} a day", median(many.ours))
    drop(bare)


def some_pages(account: ExchangeCredential, bare: str, *, seed: int, per_day: int = PER_DAY) -> Times:
    """The next pages of an account, of days of their own."""
    times = Times()
    until = UNTIL - timedelta(days=DAYS * seed)
    for number, page in enumerate(history(PAGES * 1000, 1000, seed=seed, until=until, per_day=per_day)):
        take_turns(account, bare, page, times, ours_first=number % 2 == 0)
    return times


def make_up(account: ExchangeCredential, bare: str, fills: int, *, first_day: int) -> None:
    """Fills of older days, made by the database itself, into both tables. Their days' figures are not built."""
    newest = f"{UNTIL - timedelta(days=first_day):%Y-%m-%d %H:%M:%S}"
    name, moment = (
        ("gen_random_uuid()::text", f"timestamptz '{newest}+00' - n * interval '63 seconds'")
        if IS_POSTGRES
        else ("lower(hex(randomblob(18)))", f"datetime('{newest}', (-63 * n) || ' seconds')")
    )
    for start in range(0, fills, CHUNK):
        until = min(start + CHUNK, fills) - 1
        numbers = f"generate_series({start}, {until}) AS n"
        if not IS_POSTGRES:
            counting = f"SELECT {start} UNION ALL SELECT n + 1 FROM g WHERE n < {until}"
            numbers = f"(WITH RECURSIVE g(n) AS ({counting}) SELECT n FROM g)"
        base = f"'COIN' || (n % {MARKETS})"
        values = (
            f"{account.pk}, {name}, {moment}, date({moment}), {base} || 'USDT', {base}, 'USDT', 'buy', 'maker', "
            "'trade', '50000.5', '0.125', 625006250000, '3.4375343750', 'USDT', NULL"
        )
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {TABLE} ({NAMES}) SELECT {values} FROM {numbers}".replace("%", "%%"), [])
            last = f"SELECT {NAMES} FROM {TABLE} ORDER BY id DESC LIMIT {until - start + 1}"
            cursor.execute(f"INSERT INTO {bare} ({NAMES}) {last}")
        say(f"  {DATABASE}: {until + 1:,} of {fills:,} made up")


def tell_sizes() -> None:
    """On disk, by a million fills."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {TABLE}")
        millions = cursor.fetchone()[0] / 1_000_000
        if IS_POSTGRES:
            cursor.execute("SELECT relname, pg_relation_size(oid) FROM pg_class WHERE oid = %s::regclass", [TABLE])
            sizes = dict(cursor.fetchall())
            cursor.execute(
                "SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index "
                "WHERE indrelid = %s::regclass", [TABLE],
            )  # fmt: skip
            sizes |= dict(cursor.fetchall())
        else:
            cursor.execute(
                "SELECT name, sum(pgsize) FROM dbstat WHERE name IN (SELECT name FROM sqlite_master "
                "WHERE tbl_name = %s) GROUP BY name",
                [TABLE],
            )
            sizes = dict(cursor.fetchall())
    for name, size in sizes.items():
        tell(
            Measurement(
                section="store", what=f"{DATABASE}: {name}, by a million fills", value=size / millions / 1e6, unit="MB"
            )
        )


def compare(fills: int, rows: int) -> tuple[Times, Times]:
    """An account read from its newest fill to its oldest, and once more."""
    account = new_account(f"{rows} rows a page")
    first, again = Times(), Times()
    for times in (first, again):
        bare = new_bare_table()
        for number, page in enumerate(history(fills, rows, seed=rows)):
            take_turns(account, bare, page, times, ours_first=number % 2 == 0)
            if number % (fills // rows // 5) == 0:
                say(f"  {DATABASE}, {rows} rows a page: page {number}")
        drop(bare)
    return first, again


def take_turns(account: ExchangeCredential, bare: str, page: Page, times: Times, *, ours_first: bool) -> None:
    """One page, stored by perpdash and in the bare table."""
    load = bulk_load(bare, account, page)
    for is_ours in (ours_first, not ours_first):
        if is_ours:
            times.ours.append(store(account, page))
        else:
            times.floor.append(load())


def store(account: ExchangeCredential, page: Page) -> float:
    """The transaction of a page. Returns the seconds it took."""
    started = perf_counter()
    with transaction.atomic():
        account.keep(now=UNTIL)
        store_page(account, account.streams[0], page, now=UNTIL)
    return perf_counter() - started


def bulk_load(bare: str, account: ExchangeCredential, page: Page) -> Callable[[], float]:
    """What loads the page into the bare table and says how long that took; the rows are made beforehand."""
    reports = [report for report in page.rows if isinstance(report, FillReport)]
    rows = [as_row(account.pk, report, str(report.executed_at.replace(tzinfo=None))) for report in reports]
    if IS_POSTGRES:
        text = "".join("\t".join("\\N" if value is None else str(value) for value in row) + "\n" for row in rows)

    def load() -> float:
        started = perf_counter()
        with transaction.atomic(), connection.cursor() as cursor:
            if IS_POSTGRES:
                with cursor.copy(f"COPY {bare} ({NAMES}) FROM STDIN") as copy:
                    copy.write(text)
            else:
                places = ", ".join("?" * len(COLUMNS))
                connection.connection.executemany(f"INSERT INTO {bare} ({NAMES}) VALUES ({places})", rows)
        return perf_counter() - started

    return load


def new_bare_table(name: str = "bare") -> str:
    """A table with the columns of a fill and its unique key."""
    with connection.cursor() as cursor:
        if IS_POSTGRES:
            cursor.execute(f"CREATE TABLE {name} (LIKE {TABLE})")
            cursor.execute(f"ALTER TABLE {name} DROP COLUMN id")
        else:
            columns = ", ".join(f'"{column}" {kind}' for _, column, kind, *_ in described(TABLE) if column != "id")
            cursor.execute(f"CREATE TABLE {name} ({columns})")
        cursor.execute(f"CREATE UNIQUE INDEX {name}_once ON {name} (credential_id, fill_id)")
    return name


def new_keyed_table(name: str = "keyed") -> str:
    """A table as that of the fills: with a number for each row, every key and index."""
    with connection.cursor() as cursor:
        if IS_POSTGRES:
            cursor.execute(f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING ALL)")
            refers = "FOREIGN KEY (credential_id) REFERENCES exchanges_exchangecredential DEFERRABLE INITIALLY DEFERRED"
            cursor.execute(f"ALTER TABLE {name} ADD {refers}")
        else:
            cursor.execute("SELECT sql FROM sqlite_master WHERE name = %s", [TABLE])
            cursor.execute(cursor.fetchone()[0].replace(f'"{TABLE}"', f'"{name}"', 1))
            for number, index in enumerate(Fill._meta.indexes):
                columns = ", ".join([cast(Any, Fill._meta.get_field(field)).column for field in index.fields])
                cursor.execute(f"CREATE INDEX {name}_{number} ON {name} ({columns})")
    return name


def described(table: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA table_info({table})")
        return list(cursor.fetchall())


def drop(bare: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {bare}")


def new_account(label: str) -> ExchangeCredential:
    owner, _ = get_user_model().objects.get_or_create(username="ada")
    account = ExchangeCredential(
        owner=owner,
        venue="hyperliquid",
        label=label,
        account_ref=label,
        history_from=UNTIL - timedelta(days=730),
        due_at=UNTIL,
    )
    account.secrets = Secret("none")
    account.save()
    account.claim(now=UNTIL)
    return account


def history(fills: int, rows: int, *, seed: int, until: datetime = UNTIL, per_day: int = PER_DAY) -> Iterator[Page]:
    """The pages of an account that trades evenly, newest first, the same for the same seed."""
    random = Random(seed)
    step = timedelta(days=1) / per_day
    for start in range(0, fills, rows):
        reports = [report(random, until - step * (place + 1)) for place in range(start, min(start + rows, fills))]
        yield Page(rows=reports, covered=Window(reports[-1].executed_at, until - step * start))


def report(random: Random, at: datetime) -> FillReport:
    base = f"COIN{random.randrange(MARKETS)}"
    price = Decimal(random.randrange(10_000, 10_000_000)).scaleb(-2)
    qty = Decimal(random.randrange(1, 100_000)).scaleb(-3)
    return FillReport(
        fill_id=str(UUID(int=random.getrandbits(128))),
        symbol=f"{base}USDT",
        base=base,
        quote="USDT",
        side=Side.BUY if random.random() < 0.5 else Side.SELL,
        liquidity=Liquidity.MAKER if random.random() < 0.5 else Liquidity.TAKER,
        kind=Kind.TRADE if random.random() < 0.98 else Kind.LIQUIDATION,
        price=price,
        qty=qty,
        notional=price * qty,
        fee=price * qty * Decimal("0.00055"),
        fee_asset="USDT",
        realized_pnl=None,
        executed_at=at,
    )


if __name__ == "__main__":
    main(sys.argv[1])
