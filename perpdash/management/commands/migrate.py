"""manage.py migrate: Django's own, one at a time. Of several that start at once the others wait, and find it done."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.commands import migrate
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

LOCK = 7066  # an advisory lock of this number, in our database, means: somebody migrates


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        with self._alone(connections[options["database"]], quiet=options["verbosity"] < 1):
            super().handle(*args, **options)

    @contextmanager
    def _alone(self, connection: BaseDatabaseWrapper, *, quiet: bool) -> Iterator[None]:
        if connection.vendor != "postgresql":  # SQLite has one process, which `up` sees to
            yield
        elif connection.in_atomic_block:  # as restore migrates: the lock goes with the transaction, however that ends
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            yield
        else:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = 0")  # another's migration takes as long as it takes
                cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
                if not cursor.fetchone()[0]:
                    if not quiet:
                        self.stdout.write("Another process migrates this database: waiting for it.")
                    cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
            try:
                yield
            finally:
                connection.close()  # and the lock with it, whatever state a failed migration left the session in
