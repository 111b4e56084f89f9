"""Everything that is an owner's, as one ZIP of CSV files, made while it is sent: it may be larger than the memory."""

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Model, QuerySet

from exchanges.fields import plain
from exchanges.models import Coverage, ExchangeCredential, Fill, HeldRow, Reread, Retraction, SyncRun
from volume.models import Amendment, AssetPrice, DailyVolume, Preferences, VenueFigure, VolumeCheck
from volume.proof import snapshot
from volume.rollup import Totals

ROWS = 2000  # written at once
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # a spreadsheet would run a text that begins so
HEADERS = {"credential_id": "account", "symbol": "market", "id": "number"}


@dataclass(frozen=True, slots=True)
class Table:
    """One file of the ZIP: rows of one model, a column for each of these fields."""

    name: str
    model: type[Model]
    says: str  # in README.txt
    columns: tuple[str, ...]
    order: tuple[str, ...]


# Columns are named one by one: what is not named here, secrets above all, is not exported.
ACCOUNTS = Table(
    "accounts.csv", ExchangeCredential,
    "Your accounts, without their keys. `number` is what the other files call `account`.",
    (
        "id", "venue", "label", "account_ref", "description", "is_enabled", "is_backfilling", "created_at",
        "history_from", "fresh_at", "retired_at", "health_state", "health_reason", "health_text", "health_at",
        "may_trade", "may_withdraw", "allows_trading_key", "expires_at", "verified_at", "stream_names", "related",
    ),
    ("id",),
)  # fmt: skip
TABLES = (
    Table(
        "fills.csv", Fill,
        "Every fill in a perpetual market, as the venue reported it. price is quote units per base unit; qty base "
        "units; notional quote units, rounded half-even to 8 decimals; fee units of fee_asset, above 0 paid, below 0 "
        "rebate; realized_pnl quote units, empty where the venue does not say. Kinds liquidation and adl are forced.",
        (
            "credential_id", "fill_id", "executed_at", "day", "symbol", "base", "quote", "side", "liquidity", "kind",
            "price", "qty", "notional", "fee", "fee_asset", "realized_pnl",
        ),
        ("executed_at", "pk"),
    ),
    Table(
        "days.csv", DailyVolume,
        "Volume per account, UTC day and market, computed from the fills. Columns ending in _usd are US dollars; "
        "base_qty and forced_qty base units. Forced fills are in the forced_ columns alone. fills_not_priced are in no "
        "dollar figure; fees_not_priced holds their amounts by asset. is_at_market says whether stablecoins count at "
        "their market value instead of one dollar each.",
        ("credential_id", "day", "symbol", *Totals.__dataclass_fields__),
        ("day", "symbol"),
    ),
    Table(
        "coverage.csv", Coverage,
        "The ledger: which ranges of time of which of a venue's lists are covered, are a gap (tried again at "
        "retry_at), or are out_of_reach. from_at is included, until_at is not.",
        ("credential_id", "stream", "from_at", "until_at", "state", "reason", "remedy", "retry_at"),
        ("stream", "from_at"),
    ),
    Table(
        "rereads.csv", Reread,
        "Ranges that were asked to be read once more and are not done yet.",
        ("credential_id", "stream", "from_at", "until_at", "asked_at", "retry_at", "is_daily"),
        ("stream", "from_at"),
    ),
    Table(
        "runs.csv", SyncRun,
        "The readings: what was asked, what came, how it ended. Old ones are removed, quiet ones first.",
        (
            "credential_id", "trigger", "started_at", "ended_at", "since", "until", "asked", "requests", "retries",
            "waited_seconds", "waits", "rows", "new", "seen", "skipped", "held", "retracted", "amended",
            "settled_seconds", "reached_at", "outcome", "message", "then",
        ),
        ("started_at", "pk"),
    ),
    Table(
        "held_rows.csv", HeldRow,
        "Rows of a venue that were not understood and are not counted, raw.",
        ("credential_id", "stream", "executed_at", "seen_at", "why", "raw"),
        ("pk",),
    ),
    Table(
        "retractions.csv", Retraction,
        "Fills a venue took back. They are not in fills.csv.",
        ("credential_id", "fill_id", "why", "seen_at"),
        ("pk",),
    ),
    Table(
        "amendments.csv", Amendment,
        "Days and markets that changed after they had been called read, and why. fills and notional_usd are the "
        "change: above 0 more, below 0 less.",
        ("credential_id", "seen_at", "day", "symbol", "cause", "why", "fills", "notional_usd"),
        ("pk",),
    ),
    Table(
        "venue_figures.csv", VenueFigure,
        "What venues themselves say of an account's volume, in US dollars, from from_at up to until_at.",
        ("credential_id", "name", "from_at", "until_at", "usd", "includes", "seen_at"),
        ("name", "until_at"),
    ),
    Table(
        "checks.csv", VolumeCheck,
        "The nightly proofs: how many things did not agree, and the first of them in words.",
        ("credential_id", "checked_at", "fills", "days", "found", "findings"),
        ("checked_at", "pk"),
    ),
)  # fmt: skip
PRICES = Table(
    "prices.csv", AssetPrice,
    "The prices the days rest on: US dollars per unit of an asset at the end of a UTC day.",
    ("asset", "day", "usd", "source", "observed_at", "is_final"),
    ("asset", "day"),
)  # fmt: skip


def pieces(owner: Any, now: datetime) -> Iterator[bytes]:
    """The ZIP, bit by bit, all of it as of one moment. `owner` is a person. Close it if it is not read to its end."""
    buffer = _Buffer()
    with snapshot(), zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        accounts = ExchangeCredential.objects.filter(owner_id=owner.pk)
        ids = sorted(accounts.values_list("pk", flat=True))
        for name, parts in (
            ("README.txt", iter([_readme(owner, now)])),
            (ACCOUNTS.name, _csv(ACCOUNTS, [accounts])),
            *((table.name, _csv(table, _of_each(table.model, ids))) for table in TABLES),
            (PRICES.name, _csv(PRICES, _prices(ids))),
            ("preferences.json", iter([_preferences(owner.pk)])),
        ):
            entry = zipfile.ZipInfo(name, now.astimezone(UTC).timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                for part in parts:
                    file.write(part.encode())
                    if piece := buffer.taken():
                        yield piece
    if piece := buffer.taken():
        yield piece


class _Buffer(io.RawIOBase):
    """What the ZIP writes into: it can't go back, and holds no more than what was not sent yet."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _of_each(model: type[Model], ids: Iterable[int]) -> Iterator[QuerySet[Any]]:
    """Account by account, in the order their indexes have."""
    return (model._default_manager.filter(credential_id=pk) for pk in ids)


def _prices(ids: Sequence[int]) -> Iterator[QuerySet[Any]]:
    """What is not simply a dollar, of the days in which it was traded or paid."""
    days_of: dict[str, set[date]] = {}
    days = DailyVolume.objects.filter(credential_id__in=ids).order_by()
    for day, assets, is_at_market in days.values_list("day", "assets", "is_at_market").iterator():
        for asset in assets:
            if asset != "USD" and (is_at_market or asset not in settings.DOLLARS):
                days_of.setdefault(asset, set()).add(day)
    for asset in sorted(days_of):
        wanted = sorted(days_of[asset])
        for start in range(0, len(wanted), 500):
            yield AssetPrice.objects.filter(asset=asset, day__in=wanted[start : start + 500])


def _csv(table: Table, querysets: Iterable[QuerySet[Any]]) -> Iterator[str]:
    """The lines of a file, many at a time."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(HEADERS.get(column, column) for column in table.columns)
    for queryset in querysets:
        rows = queryset.order_by(*table.order).values_list(*table.columns).iterator(chunk_size=ROWS)
        for row in rows:
            writer.writerow([_cell(value) for value in row])
            if text.tell() > 200_000:
                yield text.getvalue()
                text.seek(0)
                text.truncate()
    yield text.getvalue()


def _cell(value: Any) -> str:
    """Plain decimals, ISO times in UTC, empty for nothing; texts no spreadsheet takes for a formula."""
    match value:
        case None:
            return ""
        case str():
            return f"'{value}" if value.startswith(FORMULA) else value
        case bool():
            return "true" if value else "false"
        case Decimal():
            return plain(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case list() | dict():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def _preferences(owner_id: int) -> str:
    wishes = Preferences.of(owner_id)
    names = [field.attname for field in Preferences._meta.concrete_fields if field.attname != "owner_id"]
    return json.dumps({name: getattr(wishes, name) for name in names}, indent=1) + "\n"


def _readme(owner: Any, now: datetime) -> str:
    files = "\n\n".join(f"{table.name}\n  {table.says}" for table in (ACCOUNTS, *TABLES, PRICES))
    return f"""Everything perpdash holds of {owner.get_username()}, as of {now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC.

Times are UTC, as 2026-11-21T12:00:00Z; days are UTC days. Numbers are plain decimals with all their digits. An empty
cell is something not known. Lists and tables within a cell are JSON. Texts that a spreadsheet would take for a formula
have an apostrophe before them, which is not part of the text. Files are UTF-8, separated by commas.

No file holds a key or another secret.

{files}

preferences.json
  How you want to count.
"""
