"""manage.py export_data: everything of one person as a ZIP of CSV files."""

import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import IO, Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from exchanges.events import act
from volume.export import pieces


class Command(BaseCommand):
    help = "Writes everything of one person as a ZIP of CSV files, to standard output or a file. No secrets are in it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--owner", metavar="NAME", required=True)
        parser.add_argument("--output", metavar="FILE", help="instead of standard output; an older one is replaced")

    def handle(self, *args: Any, **options: Any) -> None:
        owner = get_user_model().objects.filter(username=options["owner"]).first()
        if owner is None:
            raise CommandError(f"There is nobody named {options['owner']!r}.")
        if not options["output"]:
            if sys.stdout.isatty():
                raise CommandError("A ZIP is nothing to look at: add --output FILE, or > file.zip.")
            self._write(owner, sys.stdout.buffer)
            return
        whole = Path(options["output"])
        part = whole.with_name(f"{whole.name}.part")
        try:
            with part.open("wb") as file:
                self._write(owner, file)
            os.replace(part, whole)
        except OSError as fault:
            raise CommandError(f"{whole} can't be written: {fault.strerror}.") from None
        finally:
            part.unlink(missing_ok=True)

    def _write(self, owner: Any, file: IO[bytes]) -> None:
        act(owner.pk, "exported")
        for piece in pieces(owner, timezone.now()):
            file.write(piece)
        file.flush()
