"""manage.py restore: a backup in the place of everything that is stored."""

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.core.management.base import BaseCommand, CommandError
from django.db import Error
from django.utils import timezone
from filelock import FileLock, Timeout

from accounts.audit import note
from exchanges.fields import SecretError
from exchanges.models import ExchangeCredential
from perpdash import backups
from volume.proof import prove
from volume.rollup import rebuild_outdated
from volume.tasks import BEAT_SEEN, WORKER_SEEN


class Command(BaseCommand):
    help = (
        "Puts a backup in the place of everything in the database, all of it or nothing, migrates it to this version "
        "and proves its numbers. Ends with 1 where they do not agree."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--yes", action="store_true", help="replace a database that is not empty, for good")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with nobody_else(), backups.opened(options["file"]) as archive:
                manifest = backups.read_manifest(archive)
                if not options["yes"] and not backups.is_empty():
                    raise CommandError(
                        "Nothing is restored: this database is not empty. --yes replaces all that is in it, for good; "
                        "manage.py backup keeps it."
                    )
                backups.restore(archive, manifest)
        except backups.BackupError as fault:
            raise CommandError(f"Nothing is restored. {fault}") from None
        except Error as fault:
            raise CommandError(f"Nothing is restored: the database said {str(fault).strip()}") from None
        note(None, "restored", f"{manifest.made_at}")
        self.stdout.write(
            f"{sum(manifest.rows.values()):,} rows of {len(manifest.rows)} tables are back, as of {manifest.made_at}. "
            "Everybody signs in again; what was traded since then is read from the venues."
        )
        self._prove()

    def _prove(self) -> None:
        """Says what of the restored accounts does not agree, and whose secrets can't be read here."""
        closed, found = [], 0
        for credential in ExchangeCredential.objects.all():
            try:
                credential.secrets.reveal()
            except SecretError:
                closed.append(str(credential))
            rebuild_outdated(credential)
            check = prove(credential, timezone.now())
            found += check.found
            for finding in check.findings:
                self.stdout.write(f"{credential} (#{credential.pk}) {finding}")
        if closed:
            self.stdout.write(
                f"The secrets of {', '.join(closed)} can't be read with this SECRET_KEY and SALT_KEY: start perpdash "
                "with those the backup was made with, or put in these accounts' keys again."
            )
        if found:
            self.stdout.write("The numbers do not all agree: manage.py rebuild_volume, then manage.py check_volume.")
            raise SystemExit(1)
        self.stdout.write("Every day agrees with its fills, and all totals with the days.")


@contextmanager
def nobody_else() -> Iterator[None]:
    """Keeps `up` from starting meanwhile. Raises CommandError where perpdash runs: it would store into both."""
    if not settings.EMBEDDED:
        if any(cache.get_many([BEAT_SEEN, WORKER_SEEN]).values()):  # without Redis there is no work, and no answer
            raise CommandError("Nothing is restored: perpdash runs. Stop web, worker and beat, and wait a minute.")
        yield
        return
    lock = FileLock(settings.VAR_DIR / "up.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise CommandError(f"Nothing is restored: perpdash runs on {settings.VAR_DIR}. End it first.") from None
    try:
        yield
    finally:
        lock.release()
