"""A whole installation's database as one file, and back: as of one moment, to the last digit, secrets still encrypted.

The file is a ZIP. `manifest.json` says what is inside; beside it lies the SQLite database itself, or, of PostgreSQL,
each table in the form of COPY. The keys that open the secrets are not in it, and neither are the sessions of people who
are signed in.
"""

import json
import os
import shutil
import sqlite3
import tempfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from volume.proof import snapshot

FORMAT = 1
MANIFEST, SQLITE_FILE, TABLES = "manifest.json", "database.sqlite3", "tables/"
# Of people who are signed in: a key in them would sign in whoever has the file.
SESSIONS = {"django_session", "usersessions_usersession"}
# What a database that was only migrated holds already.
MADE_BY_MIGRATIONS = {"django_migrations", "django_content_type", "auth_permission"} | SESSIONS
DRAFT = "restoring"  # the database alias of a SQLite file that is to take the place of the other
CHUNK = 1 << 20
PATIENCE = "30s"  # for others to let go of the tables

Key = tuple[str, str]  # a migration: app, name


class BackupError(Exception):
    """What is wrong with a backup, or with restoring it here, and what to do. Nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup says of itself."""

    format: int
    perpdash: str  # the version that made it
    database: str  # sqlite or postgresql
    made_at: str
    migrations: list[list[str]]  # [app, name] of all that were applied
    rows: dict[str, int]  # by table

    @property
    def applied(self) -> set[Key]:
        return {(app, name) for app, name in self.migrations}


def version() -> str:
    text = (settings.BASE_DIR / "pyproject.toml").read_text()
    return str(tomllib.loads(text)["project"]["version"])


# --- Making one ------------------------------------------------------------------------------------------------------


def write(path: Path, *, now: datetime) -> Manifest:
    """Writes the database to `path` while others go on with it. An older file is replaced once this one is whole.

    Raises OSError where it can't be written, BackupError for a database without migrations, or with unknown ones.
    """
    pack = _pack_postgresql if connection.vendor == "postgresql" else _pack_sqlite
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:  # its owner's alone
        part = Path(folder) / "part"
        with open(part, "xb", opener=_private) as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, connection.wrap_database_errors:
                applied, rows = pack(archive, Path(folder))
                manifest = Manifest(
                    format=FORMAT,
                    perpdash=version(),
                    database=connection.vendor,
                    made_at=now.isoformat(),
                    migrations=sorted([app, name] for app, name in applied),
                    rows=rows,
                )
                archive.writestr(MANIFEST, json.dumps(asdict(manifest), indent=1))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    return manifest


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _pack_sqlite(archive: zipfile.ZipFile, folder: Path) -> tuple[set[Key], dict[str, int]]:
    connection.ensure_connection()
    copy = folder / SQLITE_FILE
    with closing(sqlite3.connect(copy, isolation_level=None)) as target:
        connection.connection.backup(target)  # in one step, within one reading transaction
        target.execute("PRAGMA journal_mode=DELETE")
        rows = _rows(target)
        applied = (
            set(target.execute("SELECT app, name FROM django_migrations")) if "django_migrations" in rows else set()
        )
        _check_known(applied)
        target.execute("PRAGMA secure_delete=ON")  # or the sessions' bytes would stay in the file
        for table in SESSIONS & _tables(applied):
            target.execute(f"DELETE FROM {table}")
            rows[table] = 0
    archive.write(copy, SQLITE_FILE)
    return applied, rows


def _rows(database: sqlite3.Connection) -> dict[str, int]:
    """How many rows each table of a SQLite database holds."""
    tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_'")
    return {name: database.execute(f'SELECT COUNT(*) FROM "{name}"').fetchone()[0] for (name,) in tables.fetchall()}


def _pack_postgresql(archive: zipfile.ZipFile, folder: Path) -> tuple[set[Key], dict[str, int]]:
    rows = {}
    with snapshot(), connection.cursor() as cursor:
        applied = set(MigrationRecorder(connection).applied_migrations())
        _check_known(applied)
        for table in sorted(_tables(applied)):
            columns = [column.name for column in connection.introspection.get_table_description(cursor, table)]
            rows[table] = 0
            with archive.open(f"{TABLES}{table}", "w", force_zip64=True) as file:
                file.write(json.dumps(columns).encode() + b"\n")
                if table in SESSIONS:
                    continue
                with cursor.copy(f"COPY {_quoted(table)} ({_quoted(*columns)}) TO STDOUT") as copy:
                    for chunk in copy:
                        file.write(chunk)
                        rows[table] += bytes(chunk).count(b"\n")  # one within a value is written as a backslash and n
    return applied, rows


def _check_known(applied: set[Key]) -> None:
    if not applied:
        raise BackupError("There is nothing to back up yet: this database was never migrated.")
    if applied - MigrationLoader(None).disk_migrations.keys():
        raise BackupError("This database is of a newer perpdash: make the backup with that one.")


def _quoted(*names: str) -> str:
    return ", ".join(connection.ops.quote_name(name) for name in names)


def _tables(applied: Iterable[Key]) -> set[str]:
    """All tables that are there once these migrations are applied."""
    models = MigrationLoader(None).project_state(_last(applied)).apps.get_models(include_auto_created=True)
    return {model._meta.db_table for model in models} | {"django_migrations"}


def _last(applied: Iterable[Key]) -> list[Key]:
    """Of these migrations, those no other of their app rests on."""
    graph, applied = MigrationLoader(None).graph, set(applied)
    rested_on = {parent.key for key in applied for parent in graph.node_map[key].parents if parent.key[0] == key[0]}
    return sorted(applied - rested_on)


# --- Putting one back ------------------------------------------------------------------------------------------------


def read_manifest(archive: zipfile.ZipFile) -> Manifest:
    """Raises BackupError for what is no backup, or one this perpdash can't restore into this database."""
    try:
        found = json.loads(archive.read(MANIFEST))
        if found["format"] != FORMAT:
            raise BackupError(f"The backup is of the form {found['format']}: restore it with a newer perpdash.")
        manifest = Manifest(**found)
        unknown = manifest.applied - MigrationLoader(None).disk_migrations.keys()
    except (KeyError, TypeError, ValueError):
        raise BackupError("This is no backup of perpdash.") from None
    if unknown:
        raise BackupError(
            f"The backup was made by a newer perpdash ({manifest.perpdash}; this is {version()}): "
            f"{', '.join(f'{app} {name}' for app, name in sorted(unknown))} is not known here. Upgrade perpdash first."
        )
    if manifest.database != connection.vendor:
        raise BackupError(
            f"The backup is of a {manifest.database} database, and this one is {connection.vendor}. "
            "Set DATABASE_URL to one of the same kind."
        )
    tables = [f"{TABLES}{table}" for table in manifest.rows] if manifest.database == "postgresql" else [SQLITE_FILE]
    if not set(tables) <= set(archive.namelist()):
        raise BackupError("The backup is damaged: not all of it is there. Take another one.")
    return manifest


def is_empty() -> bool:
    """Whether the database holds nothing but what migrations make."""
    with connection.cursor() as cursor:
        for table in set(connection.introspection.table_names(cursor)) - MADE_BY_MIGRATIONS:
            cursor.execute(f"SELECT 1 FROM {_quoted(table)} LIMIT 1")
            if cursor.fetchone():
                return False
    return True


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The file as an archive, read once to its end before anything is made of it.

    Raises BackupError where it is none, or damaged, at any time while it is open.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():
                raise zipfile.BadZipFile
            yield archive
    except OSError as fault:
        raise BackupError(f"{path} can't be restored: {fault.strerror or fault}.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise BackupError(f"{path} is damaged, or no backup of perpdash. Take another one.") from None


def restore(archive: zipfile.ZipFile, manifest: Manifest) -> None:
    """Puts the backup in the place of all that is in the database, migrated to this version: all of it, or nothing.

    Raises BackupError for a backup that is not what its manifest says.
    """
    replace = _restore_postgresql if connection.vendor == "postgresql" else _restore_sqlite
    ContentType.objects.clear_cache()
    with connection.wrap_database_errors:
        replace(archive, manifest)
    ContentType.objects.clear_cache()


def _compare(manifest: Manifest, rows: dict[str, int]) -> None:
    for table, count in manifest.rows.items():
        if rows.get(table) != count:
            raise BackupError(
                f"The backup is damaged: {table} should hold {count:,} rows and holds {rows.get(table, 0):,}. "
                "Take another one."
            )


def _restore_sqlite(archive: zipfile.ZipFile, manifest: Manifest) -> None:
    """Completes the draft in a file of its own. Taking its place is then one transaction of SQLite."""
    beside = Path(connection.settings_dict["NAME"]).parent
    for left_over in beside.glob(".restoring.*"):  # of a restore that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=beside, prefix=".restoring.") as folder:
        path = Path(archive.extract(SQLITE_FILE, folder))
        with closing(sqlite3.connect(path)) as draft:
            try:
                if draft.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                    raise BackupError("The backup is damaged: SQLite can't make sense of it. Take another one.")
                _compare(manifest, _rows(draft))
            except sqlite3.DatabaseError:
                raise BackupError("The backup is damaged: it holds no SQLite database. Take another one.") from None
        connections.databases[DRAFT] = connection.settings_dict | {"NAME": str(path)}
        try:
            call_command("migrate", database=DRAFT, interactive=False, verbosity=0)
            connection.ensure_connection()
            connections[DRAFT].connection.backup(connection.connection)
        finally:
            connections[DRAFT].close()
            del connections[DRAFT], connections.databases[DRAFT]


def _restore_postgresql(archive: zipfile.ZipFile, manifest: Manifest) -> None:
    """All in one transaction: what is there goes, the tables of the backup's time are made, filled and migrated."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{PATIENCE}'")
        # All of them: those of a newer perpdash, not known here, would be in the way of the next upgrade.
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename")
        if old := [name for (name,) in cursor.fetchall()]:
            cursor.execute(f"DROP TABLE {_quoted(*old)} CASCADE")
        executor = MigrationExecutor(connection)
        executor.migrate(_last(manifest.applied))
        made = set(connection.introspection.table_names(cursor))
        if strange := sorted(manifest.rows.keys() - made):
            raise BackupError(f"The backup holds tables that no migration makes: {', '.join(strange)}.")
        cursor.execute(f"TRUNCATE {_quoted(*sorted(manifest.rows))}")
        rows = {}
        for table in sorted(manifest.rows):
            with archive.open(f"{TABLES}{table}") as file:
                columns = json.loads(file.readline())
                with cursor.copy(f"COPY {_quoted(table)} ({_quoted(*columns)}) FROM STDIN") as copy:
                    while chunk := file.read(CHUNK):
                        copy.write(chunk)
            cursor.execute(f"SELECT COUNT(*) FROM {_quoted(table)}")
            rows[table] = cursor.fetchone()[0]
            for counter in connection.introspection.get_sequences(cursor, table):
                last = f"MAX({_quoted(counter['column'])})"
                cursor.execute(
                    f"SELECT setval(pg_get_serial_sequence(%s, %s), COALESCE({last}, 1), {last} IS NOT NULL) "
                    f"FROM {_quoted(table)}",
                    [_quoted(table), counter["column"]],
                )
        _compare(manifest, rows)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # also, with a check still to come no table can be altered
        call_command("migrate", interactive=False, verbosity=0)
