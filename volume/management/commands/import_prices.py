"""manage.py import_prices: prices from a file, for what CoinGecko does not tell."""

import csv
from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from volume import prices
from volume.models import AssetPrice
from volume.prices import Price

SHOWN = 20  # faults named at once
LONGEST_ASSET = AssetPrice._meta.get_field("asset").max_length or 0


class Command(BaseCommand):
    help = (
        "Stores prices from a CSV file with the columns day (or date_utc), asset, usd and, if wanted, source: what the "
        "asset cost at the end of that UTC day. They win over CoinGecko's. A file with a fault is not stored at all."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                found, faults = read(file, source=path.name, now=timezone.now())
        except OSError as fault:
            raise CommandError(f"{path} can't be read: {fault.strerror}.") from None
        except (UnicodeDecodeError, csv.Error):
            raise CommandError(f"{path} is no CSV file in UTF-8.") from None
        if faults:
            more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
            raise CommandError("\n".join([*faults[:SHOWN], *more, "Nothing was stored."]))
        rebuilt = prices.store(found, by_hand=True)
        self.stdout.write(f"{len(found):,} prices stored; {rebuilt:,} days and markets computed anew")


def read(lines: Iterable[str], *, source: str, now: datetime) -> tuple[dict[tuple[str, date], Price], list[str]]:
    """The prices by (asset, day), and what is wrong with the file, by line. Both may be empty."""
    rows = csv.DictReader(lines)
    columns = rows.fieldnames or []
    day_column = "date_utc" if "date_utc" in columns else "day"
    if lacking := [name for name in (day_column, "asset", "usd") if name not in columns]:
        return {}, [
            f"The first line lacks the columns {', '.join(lacking)}. Wanted: day, asset, usd and, maybe, source."
        ]
    found: dict[tuple[str, date], Price] = {}
    faults = []
    for row in rows:
        asset, day_text, usd_text = ((row[name] or "").strip() for name in ("asset", day_column, "usd"))
        day, usd = _day(day_text), _decimal(usd_text)
        price = Price(usd or Decimal(0), ((row.get("source") or "").strip() or source)[:120])
        why = ""
        if not asset or len(asset) > LONGEST_ASSET:
            why = f"{asset!r} is not an asset"
        elif day is None:
            why = f"{day_text!r} is not a date like 2025-01-31"
        elif day > now.date():
            why = f"{day} is still to come"
        elif usd is None or not prices.is_price(usd):
            why = f"{usd_text!r} is not a price in dollars"
        elif found.get((asset, day), price).usd != price.usd:
            why = f"{asset} has another price on {day} further up"
        if why:
            faults.append(f"Line {rows.line_num}: {why}.")
        elif day:
            found[asset, day] = price
    return found, faults


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007
    except ValueError:
        return None


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        return None
