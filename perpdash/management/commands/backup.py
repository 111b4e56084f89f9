"""manage.py backup: everything that is stored, as one file, while perpdash runs."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error
from django.utils import timezone

from accounts.audit import note
from perpdash import backups


class Command(BaseCommand):
    help = (
        "Writes the whole database to one compressed file, as of one moment, while perpdash runs. Venue keys in it "
        "stay encrypted; what opens them, SECRET_KEY and SALT_KEY, is not in it. An older file is replaced."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            manifest = backups.write(path, now=timezone.now())
        except backups.BackupError as fault:
            raise CommandError(str(fault)) from None
        except Error as fault:
            raise CommandError(f"No backup is made: the database said {str(fault).strip()}") from None
        except OSError as fault:
            raise CommandError(f"{path} can't be written: {fault.strerror}.") from None
        note(None, "backed_up", path.name)
        size = path.stat().st_size / 1e6
        self.stdout.write(
            f"{sum(manifest.rows.values()):,} rows of {len(manifest.rows)} tables, {size:,.1f} MB: {path}"
        )
        self.stdout.write(
            "The keys are not inside. Without this installation's SECRET_KEY and SALT_KEY (in the environment, .env "
            "or var/keys.json) the venue keys in it can't be read: keep them too, in another place."
        )
