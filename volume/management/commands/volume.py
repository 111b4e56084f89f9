"""manage.py volume: the stored volume as a table, CSV or JSON."""

import csv
import json
import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from exchanges.venues import VENUES
from volume.management.commands.backfill import day
from volume.queries import COLUMNS, KEYS, Filter, as_strings, volume


class Command(BaseCommand):
    help = (
        "Prints the stored volume in USD; forced fills are in it only where their owner counts them. Days are UTC. "
        "What is not complete, and why, is said below the table, or on standard error beside csv and json."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--by", default="day,venue", help=f"any of {','.join(KEYS)} (default day,venue)")
        parser.add_argument("--since", metavar="DATE", help="from this UTC day on")
        parser.add_argument("--until", metavar="DATE", help="up to, not including, this UTC day")
        parser.add_argument("--owner", metavar="NAME", help="only this person's accounts")
        parser.add_argument("--venue", action="append", default=[], metavar="VENUE")
        parser.add_argument("--format", choices=("table", "csv", "json"), default="table")

    def handle(self, *args: Any, **options: Any) -> None:
        keys = tuple(filter(None, options["by"].split(",")))
        if unknown := [key for key in keys if key not in KEYS]:
            raise CommandError(f"Can't group by {', '.join(unknown)}: only by {', '.join(KEYS)}.")
        if len(set(keys)) != len(keys):
            raise CommandError("A key of --by is named twice.")
        since = day(options["since"]) if options["since"] else None
        until = day(options["until"]) if options["until"] else None
        if since and until and since >= until:
            raise CommandError("--until must be after --since: the range is empty.")
        if unknown := [venue for venue in options["venue"] if venue not in VENUES]:
            raise CommandError(f"perpdash does not know {', '.join(unknown)}. It knows: {', '.join(VENUES)}.")
        owner_id = None
        if options["owner"]:
            owner_id = get_user_model().objects.filter(username=options["owner"]).values_list("pk", flat=True).first()
            if owner_id is None:
                raise CommandError(f"There is nobody named {options['owner']!r}.")
        wanted = Filter(
            owner_id=owner_id,
            since=since,
            until=until,
            venues=tuple(options["venue"]),
        )
        rows = [as_strings(row) for row in volume(wanted, by=keys, now=timezone.now())]
        columns = [*keys, *COLUMNS]
        try:
            # Of all rows together: by day the same would be said a hundred times.
            whole = volume(wanted, by=(), now=timezone.now()) if any(row["why"] for row in rows) else []
            self._print(options["format"], columns, rows, [reason for row in whole for reason in row["why"]])
            self.stdout.flush()
        except BrokenPipeError:  # the reader has seen enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _print(self, form: str, columns: list[str], rows: list[dict[str, Any]], why: list[str]) -> None:
        match form:
            case "json":
                self.stdout.write(json.dumps([{column: row[column] for column in columns} for row in rows], indent=1))
            case "csv":
                writer = csv.writer(self.stdout, lineterminator="\n")
                writer.writerow(columns)
                writer.writerows([_cell(row[column]) for column in columns] for row in rows)
            case _:
                self._table(columns, rows)
        if why:
            # Beside what a program reads, not in it.
            out = self.stdout if form == "table" else self.stderr
            out.write("\nNot complete:" if form == "table" else "Not complete:")
            for reason in why:
                out.write(f"- {reason}")

    def _table(self, columns: list[str], rows: list[dict[str, Any]]) -> None:
        cells = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
        widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
        for line in cells:
            texts = (
                text.ljust(width) if column in KEYS else text.rjust(width)
                for text, width, column in zip(line, widths, columns, strict=True)
            )
            self.stdout.write("  ".join(texts).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
