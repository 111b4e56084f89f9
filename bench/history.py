"""Two years of a busy trader, and many small ones beside them, put into an empty database by SQL alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Model

from bench.report import say
from exchanges.models import Coverage, ExchangeCredential, Fill
from volume import periods
from volume.models import AddedUp, DailyVolume, HourVolume, PeriodVolume
from volume.periods import start_of
from volume.rollup import rebuild_all

VENUES = ("bybit", "hyperliquid", "paradex", "woox", "bybit", "hyperliquid", "paradex")  # one account each
DAYS = 731
# Of the nth fill of an account, oldest last: every expression is whole numbers, so both databases make the same rows.
COLUMNS = {
    "fill_id": "'fill-' || {n}",
    "executed_at": "{moment}",
    "day": "{day}",
    "symbol": "'C' || {market} || 'USDT'",
    "base": "'C' || {market}",
    "quote": "'USDT'",
    "side": "CASE WHEN {n} % 2 = 0 THEN 'buy' ELSE 'sell' END",
    "liquidity": "CASE WHEN {n} % 3 = 0 THEN 'maker' ELSE 'taker' END",
    "kind": "CASE WHEN {n} % 997 = 0 THEN 'liquidation' WHEN {n} % 101 = 0 THEN 'twap' ELSE 'trade' END",
    "price": "{price}",
    "qty": "{qty}",
    "notional": "({cents} * {milli} * 1000)",
    "fee": "{fee}",
    "fee_asset": "'USDT'",
    "realized_pnl": "NULL",
}
CENTS, MILLI = "(100000 + 977 * {n} % 900001)", "(1 + 31 * {n} % 5000)"  # the price in cents, the size in 1/1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    fills: int  # of the busy one
    markets: int
    small_owners: int
    small_fills: int  # of each of them


def build(size: Size, *, now: datetime) -> Any:
    """The busy owner, over seven accounts, with `size.fills` up to now. Every day is what rebuild_all makes of them.

    All is added up, as beat leaves it every five minutes.
    """
    person = get_user_model().objects.create(username="busy")
    for place, venue in enumerate(VENUES):
        account = _account(person, venue, f"Account {place + 1}", now=now)
        markets = len(range(place, size.markets, len(VENUES)))
        _fill(account, size.fills // len(VENUES), first=place, markets=markets, step=len(VENUES))
        say(f"{account}: {size.fills // len(VENUES):,} fills, {rebuild_all(account):,} days and markets")
        periods.add_up(account, today=now.date())
    if size.small_owners:
        _small_ones(size, now=now)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return person


def keep_fresh(*, now: datetime) -> None:
    """As if every account was just read, to its end."""
    ExchangeCredential.objects.update(fresh_at=now)
    Coverage.objects.update(until_at=now)


def _account(owner: Any, venue: str, label: str, *, now: datetime) -> ExchangeCredential:
    since = start_of(now.date() - timedelta(days=DAYS - 1))
    account = ExchangeCredential(
        owner=owner, venue=venue, label=label, account_ref=f"{owner.username} {label}", health_state="works",
        history_from=since, is_backfilling=True, due_at=now + timedelta(days=1), fresh_at=now, secrets="{}",
    )  # fmt: skip
    account.save()
    Coverage.objects.bulk_create(
        Coverage(credential=account, stream=stream.name, from_at=since, until_at=now, state=Coverage.State.COVERED)
        for stream in account.streams
    )
    return account


def _fill(account: ExchangeCredential, fills: int, *, first: int, markets: int, step: int) -> None:
    """Spreads the fills evenly over the time that is covered, newest first, as a backfill brings them."""
    since, until = int(account.history_from.timestamp()), int(account.fresh_at.timestamp())  # type: ignore[union-attr]
    at = f"({until} - 1 - {{n}} * {until - since - 1} / {fills})"
    words = {"n": "n.n", "market": f"({first} + {step} * (31 * n.n % {markets}))"}
    words |= {"cents": CENTS.format(**words), "milli": MILLI.format(**words)}
    second = at.format(**words)
    raw = f"{words['cents']} * {words['milli']} * 45"  # 4.5 basis points, in 1e-10
    if connection.vendor == "postgresql":
        numbers = f"generate_series(0::bigint, {fills - 1}) AS n(n)"
        words |= {"moment": f"to_timestamp({second})", "day": f"(to_timestamp({second}) AT TIME ZONE 'UTC')::date"}
        words |= {"price": f"{words['cents']} / 100.0", "qty": f"{words['milli']} / 1000.0", "fee": f"({raw}) * 1e-10"}
    else:
        counted = f"WITH RECURSIVE c(n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM c WHERE n < {fills - 1})"
        numbers = f"({counted} SELECT n FROM c) AS n"
        words |= {"moment": f"datetime({second}, 'unixepoch')", "day": f"date({second}, 'unixepoch')"}
        words |= {"price": _decimal(words["cents"], 2), "qty": _decimal(words["milli"], 3), "fee": _decimal(raw, 10)}
    values = ", ".join(column.format(**words) for column in COLUMNS.values())
    _insert(Fill, ("credential_id", *COLUMNS), f"SELECT {account.pk}, {values} FROM {numbers}")


def _decimal(units: str, places: int) -> str:
    """Whole units as the text SQLite keeps decimals in."""
    limb = 10**places
    return f"rtrim(rtrim(printf('%d.%0{places}d', ({units}) / {limb}, ({units}) % {limb}), '0'), '.')"


def _small_ones(size: Size, *, now: datetime) -> None:
    """The first as above; the others are copies of it, so that their days are right as well, and what they come to."""
    people = get_user_model().objects.bulk_create(
        get_user_model()(username=f"small {number}") for number in range(size.small_owners)
    )
    accounts = [_account(person, "bybit", "Main", now=now) for person in people]
    model = accounts[0]
    _fill(model, size.small_fills, first=0, markets=5, step=1)
    rebuild_all(model)
    periods.add_up(model, today=now.date())
    for table in (Fill, DailyVolume, PeriodVolume, HourVolume, AddedUp):
        name = table._meta.db_table
        columns = [str(field.column) for field in table._meta.fields if field.column not in ("id", "credential_id")]
        for start in range(1, len(accounts), 100):
            some = [account.pk for account in accounts[start : start + 100]]
            chosen = f"SELECT c.id, {', '.join(f'm.{column}' for column in columns)} FROM {name} m"
            others = f"JOIN exchanges_exchangecredential c ON c.id BETWEEN {some[0]} AND {some[-1]}"
            of = f"WHERE m.credential_id = {model.pk} ORDER BY c.id{', m.id' if table is not AddedUp else ''}"
            _insert(table, ("credential_id", *columns), f"{chosen} {others} {of}")
    say(f"{size.small_owners:,} owners with {size.small_fills:,} fills each")


def _insert(model: type[Model], columns: Sequence[str], select: str) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = replica")  # no look-up of the account for each row
        cursor.execute(f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) {select}")
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = origin")
