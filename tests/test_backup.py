"""A backup is of one moment, a restore is whole or not at all, and a database of the first release can be upgraded."""

import io
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from allauth.usersessions.models import UserSession
from django.conf import settings as django_settings
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from filelock import FileLock

from accounts.models import User
from exchanges.fields import Secret
from exchanges.models import ExchangeCredential, Fill, HeldRow, SyncRun
from exchanges.sandbox import Sandbox
from exchanges.sandbox.hyperliquid import DEMO_TRADER
from perpdash import backups
from tests import factories
from tests.conftest import NOW
from volume import tasks
from volume.models import AssetPrice, DailyVolume
from volume.proof import prove
from volume.refresh import refresh

Make = Callable[..., None]
MARK = "planted-secret-0123456789"


@pytest.fixture(scope="session")
def migrated_database(django_db_blocker: Any) -> Iterator[list[str]]:
    """The name of one at the server that was migrated, once there is one, to be copied."""
    names: list[str] = []
    yield names
    for name in names:
        with django_db_blocker.unblock(), connections["default"]._nodb_cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def new_database(
    tmp_path: Path, django_db_blocker: Any, migrated_database: list[str], request: pytest.FixtureRequest
) -> Iterator[Make]:
    """Makes an empty database, as that of a fresh installation, the default one, as often as it is called."""
    template = connections["default"]
    is_file = template.vendor == "sqlite"
    made: list[Any] = []

    def create(name: str, of: str = "template1") -> str:
        with template._nodb_cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE {of}")
        return name

    def make(*, is_migrated: bool = False) -> None:
        name = f"perpdash_backup_{os.getpid()}_{len(made)}"
        path = tmp_path / f"{name}.sqlite3"
        if is_file and is_migrated:
            shutil.copy(request.getfixturevalue("migrated_file"), path)
        elif not is_file:
            create(name, *(migrated_database if is_migrated else ()))
        made.append(type(template)(template.settings_dict | {"NAME": str(path) if is_file else name}, "default"))
        connections["default"] = made[-1]
        if is_migrated and not is_file and not migrated_database:
            migrate()
            made[-1].close()
            migrated_database.append(create(f"perpdash_migrated_{os.getpid()}", name))

    with django_db_blocker.unblock():
        try:
            yield make
        finally:
            connections["default"] = template
            for one in made:
                one.close()
                if not is_file:
                    with template._nodb_cursor() as cursor:
                        cursor.execute(f"DROP DATABASE {one.settings_dict['NAME']} WITH (FORCE)")


@pytest.fixture(autouse=True)
def alone(settings: Any, tmp_path: Path) -> None:
    """No perpdash of this machine is taken for the one that is restored."""
    settings.VAR_DIR = tmp_path / "var"
    settings.VAR_DIR.mkdir()
    settings.CACHES = {"default": settings.CACHES["default"] | {"KEY_PREFIX": uuid4().hex}}


@pytest.fixture
def sandbox(sandbox: Sandbox) -> Sandbox:
    return factories.shorten(sandbox, days=12, now=NOW)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "perpdash.backup"


@pytest.fixture
def installation(new_database: Make, sandbox: Sandbox) -> ExchangeCredential:
    """Somebody who is signed in, with an account that was read, and numbers of any length."""
    new_database(is_migrated=True)
    ada = factories.user("ada", is_superuser=True)
    Client().force_login(ada)
    account = factories.credential(owner=ada, history_from=NOW - timedelta(days=5))
    refresh(account, now=NOW)
    bybit = factories.credential("bybit", owner=ada, secrets={"api_key": "key", "api_secret": MARK}, is_enabled=False)
    HeldRow.objects.create(
        credential=bybit,
        stream="linear",
        digest="d",
        raw='{"a": "tab\t, line\n, \\\\N, \\n, é, 💰"}',
        why="odd",
        seen_at=NOW,
    )
    prove(account, NOW)
    AssetPrice.objects.create(
        asset="DIME", day=NOW.date(), usd=Decimal("0.000000000000123456789012345678901234567890"), source="by hand"
    )
    return account


def migrate() -> None:
    call_command("migrate", interactive=False, verbosity=0)


def run(*command: Any, **options: Any) -> str:
    out = io.StringIO()
    call_command(*map(str, command), stdout=out, **options)
    return out.getvalue()


def everything() -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables as the driver gives them, without sessions and what is of this connection alone."""
    found = {}
    with connection.cursor() as cursor:
        for table in set(connection.introspection.table_names(cursor)) - {"django_session", "incoming_fill"}:
            columns = sorted(column.name for column in connection.introspection.get_table_description(cursor, table))
            cursor.execute(f"SELECT {', '.join(connection.ops.quote_name(column) for column in columns)} FROM {table}")
            found[table] = sorted(cursor.fetchall(), key=repr)
    return found


def changed(file: Path, member: str, change: Callable[[bytes], bytes]) -> None:
    """Rewrites one member of an archive."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(content) if name == member else content)


def manifest_with(file: Path, **values: Any) -> None:
    changed(file, "manifest.json", lambda text: json.dumps(json.loads(text) | values).encode())


# --- There and back --------------------------------------------------------------------------------------------------


def test_every_row_comes_back_to_the_last_digit_and_proves_itself(installation, new_database, file):
    said = run("backup", file)
    assert "The keys are not inside" in said
    before = everything()
    assert len(before["exchanges_fill"]) > 20
    new_database()
    said = run("restore", file)
    assert "Every day agrees with its fills" in said
    after = everything()
    assert after.pop("volume_volumecheck")  # the proof just made is another one
    assert before.pop("volume_volumecheck")
    noted, noted_before = after.pop("accounts_auditevent"), before.pop("accounts_auditevent")
    assert len(noted) == len(noted_before)  # the one was backed up before that was noted, the other restored since
    assert after == before
    account = ExchangeCredential.objects.get(label="Main", venue="bybit")
    assert account.open_secrets().api_secret == MARK
    assert AssetPrice.objects.get().usd == Decimal("0.000000000000123456789012345678901234567890")


def test_new_rows_get_new_numbers_after_a_restore_and_reading_goes_on_without_doubling(
    installation, new_database, file, clock
):
    run("backup", file)
    last, fills = SyncRun.objects.latest("pk").pk, Fill.objects.count()
    new_database()
    run("restore", file)
    clock.move(120)
    account = ExchangeCredential.objects.get(venue="hyperliquid")
    result = refresh(account, now=clock.now())
    assert result.pk > last
    assert Fill.objects.count() == fills + result.new
    assert factories.user("bob").pk > User.objects.get(username="ada").pk
    assert prove(account, clock.now()).findings == []


def test_neither_secrets_nor_keys_nor_sessions_are_in_the_file(installation, file, tmp_path, settings):
    with connection.cursor() as cursor:
        cursor.execute("SELECT session_key FROM django_session")
        (session,) = cursor.fetchone()
    UserSession.objects.create(user=User.objects.first(), session_key=session, ip="127.0.0.1")
    sealed = ExchangeCredential.objects.get(venue="bybit").secrets.sealed
    run("backup", file)
    with zipfile.ZipFile(file) as archive:
        inside = b"".join(archive.read(name) for name in archive.namelist())
    for secret in (MARK, session, settings.SECRET_KEY, *settings.SALT_KEY):
        assert secret.encode() not in inside
    assert sealed.encode() in inside  # so would the others be found
    assert file.stat().st_mode & 0o077 == 0


def test_a_backup_taken_while_others_write_is_of_one_moment(installation, new_database, file, django_db_blocker):
    settings, is_over, written = connection.settings_dict, threading.Event(), []

    def write_pairs() -> None:
        connections["default"] = type(installed)(settings, "default")
        with django_db_blocker.unblock():
            while not is_over.is_set() or len(written) < 50:
                with transaction.atomic():
                    day = date(2000, 1, 1) + timedelta(days=len(written))
                    AssetPrice.objects.create(asset="ONE", day=day, usd=1, source="x" * 60)
                    HeldRow.objects.create(
                        credential_id=installation.pk,
                        stream="fills",
                        digest=f"{day}",
                        raw="x" * 500,
                        why="",
                        seen_at=NOW,
                    )
                written.append(day)
            connections["default"].close()

    installed = connections["default"]
    writer = threading.Thread(target=write_pairs)
    writer.start()
    try:
        while len(written) < 20:
            pass
        first = len(written)
        run("backup", file)
    finally:
        is_over.set()
        writer.join()
    new_database()
    run("restore", file)
    pairs = HeldRow.objects.filter(stream="fills").count()
    assert first <= pairs == AssetPrice.objects.filter(asset="ONE").count() <= len(written)


def test_an_older_backup_of_that_name_is_replaced_only_by_a_whole_one(installation, file, tmp_path):
    run("backup", file)
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE django_session")
    kept = file.read_bytes()
    with pytest.raises(CommandError, match=r"No backup is made: the database said .*django_session"):
        run("backup", file)
    assert file.read_bytes() == kept
    assert [path for path in tmp_path.iterdir() if "backup" in path.name and path.is_dir()] == []


def test_a_place_that_can_not_be_written_and_an_empty_database_are_told(new_database, tmp_path):
    new_database()
    with pytest.raises(CommandError, match="never migrated"):
        run("backup", tmp_path / "file")
    migrate()
    with pytest.raises(CommandError, match="can't be written: No such file or directory"):
        run("backup", tmp_path / "gone" / "file")


# --- All or nothing --------------------------------------------------------------------------------------------------


def test_a_database_that_is_not_empty_is_replaced_only_when_asked_to(installation, new_database, file):
    run("backup", file)
    before = everything()
    new_database(is_migrated=True)
    factories.credential(owner=factories.user("eve"), label="Eve's")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE volume_of_tomorrow (id integer)")
    eves = everything()
    with pytest.raises(CommandError, match=r"not empty\. --yes replaces"):
        run("restore", file)
    assert everything() == eves
    left_over = Path(connection.settings_dict["NAME"]).parent / ".restoring.killed"
    if connection.vendor == "sqlite":
        left_over.mkdir()
    run("restore", file, "--yes")
    assert not left_over.exists()
    after = everything()
    assert after.keys() == before.keys()
    assert after["accounts_user"] == before["accounts_user"]
    assert after["exchanges_exchangecredential"] == before["exchanges_exchangecredential"]


def test_a_database_that_was_only_migrated_is_empty(installation, new_database, file):
    run("backup", file)
    new_database(is_migrated=True)
    run("restore", file)
    assert User.objects.get().username == "ada"


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2000])


def turn_some_bytes(file: Path) -> None:
    """One alone may only say by another way that the same zeros follow, and no harm is done."""
    content = bytearray(file.read_bytes())
    third = len(content) // 3
    content[third : third + 32] = bytes(byte ^ 0xFF for byte in content[third : third + 32])
    file.write_bytes(content)


def spoil_the_compression(file: Path) -> None:
    """Says of the longest file's first block that it is of the one kind there is not."""
    with zipfile.ZipFile(file) as archive:
        longest = max(archive.infolist(), key=lambda info: info.compress_size)
    content = bytearray(file.read_bytes())
    name, extra = (int.from_bytes(content[longest.header_offset + at :][:2], "little") for at in (26, 28))
    content[longest.header_offset + 30 + name + extra] |= 0b110
    file.write_bytes(content)


def lose_a_row(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        rows = json.loads(archive.read("manifest.json"))["rows"]
    manifest_with(file, rows=rows | {"exchanges_fill": rows["exchanges_fill"] + 1})


def spoil_the_data(file: Path) -> None:
    name = "tables/exchanges_fill" if connection.vendor == "postgresql" else "database.sqlite3"
    changed(file, name, lambda content: content[: len(content) // 2] + b"\0 nonsense " * 99)


def no_archive(file: Path) -> None:
    file.write_bytes(b"SQLite format 3\0")


def another_archive(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("holiday.jpg", b"")


def no_file(file: Path) -> None:
    file.unlink()


def a_newer_one(file: Path) -> None:
    manifest_with(file, perpdash="9.0", migrations=[["volume", "0099_from_the_future"]])


def of_the_other_kind(file: Path) -> None:
    manifest_with(file, database="sqlite" if connection.vendor == "postgresql" else "postgresql")


def of_another_form(file: Path) -> None:
    manifest_with(file, format=2)


SPOILT = {
    cut_off: "damaged",
    turn_some_bytes: "damaged",
    spoil_the_compression: "damaged",
    lose_a_row: "exchanges_fill should hold",
    spoil_the_data: "damaged|the database said",
    no_archive: "no backup of perpdash",
    another_archive: "no backup of perpdash",
    a_newer_one: r"newer perpdash \(9.0; this is .* volume 0099_from_the_future .* Upgrade perpdash first",
    of_the_other_kind: "one of the same kind",
    of_another_form: "the form 2",
    no_file: "No such file",
}


def test_what_can_not_be_restored_says_why_and_changes_nothing(installation, new_database, file):
    run("backup", file)
    whole = file.read_bytes()
    new_database(is_migrated=True)
    eve = factories.user("eve")
    factories.credential(owner=eve)
    eves = everything()
    for spoil, words in SPOILT.items():  # one installation for all: PostgreSQL takes seconds to make one
        file.write_bytes(whole)
        spoil(file)
        with pytest.raises(CommandError, match=f"^Nothing is restored.*({words})"):
            run("restore", file, "--yes")
        assert everything() == eves, spoil
        eve.save(update_fields=["last_login"])  # and it can go on


def test_a_restore_that_dies_in_the_migration_changes_nothing(installation, new_database, file):
    """A backup that says of itself that less was migrated than there is."""
    run("backup", file)
    name = "tables/django_migrations" if connection.vendor == "postgresql" else ""
    if not name:
        MigrationRecorder.Migration.objects.filter(app="volume", name="0003_periods").delete()
        run("backup", file)
    else:
        changed(file, name, lambda text: text.replace(b"0003_periods", b"0003_another"))
    new_database(is_migrated=True)
    factories.user("eve")
    eves = everything()
    with pytest.raises(CommandError, match=r"^Nothing is restored: the database said .*already exists"):
        run("restore", file, "--yes")
    assert everything() == eves


def test_nothing_is_restored_under_a_running_perpdash(installation, new_database, file, settings):
    run("backup", file)
    new_database()
    if settings.EMBEDDED:
        with FileLock(settings.VAR_DIR / "up.lock"), pytest.raises(CommandError, match=r"perpdash runs on .* End it"):
            run("restore", file)
    else:
        cache.set(tasks.WORKER_SEEN, True, 60)
        with pytest.raises(CommandError, match="Stop web, worker and beat"):
            run("restore", file)
        cache.delete(tasks.WORKER_SEEN)
    run("restore", file)


def test_secrets_of_other_keys_are_named_and_stay_as_they_were(installation, new_database, file, settings):
    run("backup", file)
    sealed = set(map(str, ExchangeCredential.objects.values_list("secrets", flat=True)))
    new_database()
    settings.SALT_KEY = ["another-salt-of-another-machine"]
    said = run("restore", file)
    assert "The secrets of Bybit · Main, Hyperliquid · Main can't be read with this SECRET_KEY and SALT_KEY" in said
    assert set(map(str, ExchangeCredential.objects.values_list("secrets", flat=True))) == sealed
    settings.SALT_KEY = django_settings.SALT_KEY


def test_numbers_that_do_not_agree_are_said_and_are_no_success(installation, new_database, file):
    row = DailyVolume.objects.first()
    DailyVolume.objects.filter(pk=row.pk).update(fills=row.fills + 1)
    run("backup", file)
    new_database()
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("restore", str(file), stdout=out)
    assert f"{row.day} {row.symbol}: fills is {row.fills + 1}, the fills say {row.fills}" in out.getvalue()
    assert "manage.py rebuild_volume" in out.getvalue()


# --- An installation of the first release ----------------------------------------------------------------------------

FIRST = [("accounts", "0001_initial"), ("exchanges", "0001_initial"), ("volume", "0001_initial")]
OTHERS = ("auth", "contenttypes", "sessions", "admin")
SINCE = datetime(2026, 11, 1, tzinfo=UTC)
UUID_OF_ACCOUNT = UUID("0b7f2c1e-6a5d-4c3b-9f8e-1d2c3b4a5f60")
# day, fill_id, symbol, kind, side, liquidity, price, qty, fee, fee asset
FILLS = [
    (2, "1:a", "BTC", "trade", "buy", "maker", "84000.5", "0.01", "-0.0084", "USDC"),
    (2, "2:a", "BTC", "trade", "sell", "taker", "84100", "0.02", "0.7569", "USDC"),
    (2, "3:a", "BTC", "liquidation", "sell", "taker", "80000.123456", "0.5", "18.000027777600001", "USDC"),
    (3, "4:a", "kPEPE", "twap", "buy", "taker", "0.00001234567891", "123456789.123", "0.000001", "HYPE"),
    (5, "5:a", "ETH", "adl", "buy", "maker", "3000", "1", "0", "USDC"),
]


@pytest.fixture
def first_release(new_database: Make, sandbox: Sandbox) -> None:
    """A database as the first release left it: its tables, and rows with the columns they had."""
    new_database()
    executor = MigrationExecutor(connection)
    others = [node for node in executor.loader.graph.leaf_nodes() if node[0] in OTHERS]
    executor.migrate([*FIRST, *others])
    models = executor.loader.project_state([*FIRST, *others]).apps
    get = models.get_model
    ada = get("accounts", "User").objects.create(username="ada", password="argon2$kept", date_joined=SINCE)
    sealed = {"v": 1, "account": str(UUID_OF_ACCOUNT), "address": DEMO_TRADER}
    account = get("exchanges", "ExchangeCredential").objects.create(
        owner=ada, uuid=UUID_OF_ACCOUNT, venue="hyperliquid", label="Main", secrets=Secret(json.dumps(sealed)),
        account_ref=DEMO_TRADER, health_state="works", history_from=SINCE, is_backfilling=False, due_at=NOW,
        fresh_at=NOW, verified_at=NOW,
    )  # fmt: skip
    stored = []
    for day, fill_id, symbol, kind, side, liquidity, price, qty, fee, fee_asset in FILLS:
        at = SINCE + timedelta(days=day - 1, hours=7)
        notional = (Decimal(price) * Decimal(qty)).quantize(Decimal("1e-8"))
        stored.append(
            get("exchanges", "Fill")(
                credential=account, fill_id=fill_id, executed_at=at, day=at.date(), symbol=symbol, base=symbol,
                quote="USDC", side=side, liquidity=liquidity, kind=kind, price=Decimal(price), qty=Decimal(qty),
                notional=notional, fee=Decimal(fee), fee_asset=fee_asset, realized_pnl=Decimal("1.25"),
            )
        )  # fmt: skip
    get("exchanges", "Fill").objects.bulk_create(stored)
    for stream in ("fills", "twap"):
        get("exchanges", "Coverage").objects.create(
            credential=account, stream=stream, from_at=SINCE, until_at=NOW, state="covered"
        )
    get("exchanges", "SyncRun").objects.create(
        credential=account, trigger="schedule", started_at=NOW, ended_at=NOW, since=SINCE, until=NOW, requests=3,
        rows=5, new=5, outcome="complete",
    )  # fmt: skip
    day_rows = get("volume", "DailyVolume").objects
    day_rows.create(
        credential=account, day=date(2026, 11, 2), symbol="BTC", fills=2, base_qty=Decimal("0.03"),
        notional_usd=Decimal("2522.005"), maker_usd=Decimal("840.005"), taker_usd=Decimal(1682),
        buy_usd=Decimal("840.005"), sell_usd=Decimal(1682), forced_fills=1, forced_usd=Decimal("40000.061728"),
        fees_usd=Decimal("18.74852778"), realized_pnl_usd=Decimal("3.75"),
    )  # fmt: skip
    day_rows.create(
        credential=account, day=date(2026, 11, 3), symbol="kPEPE", fills=1, base_qty=Decimal("123456789.123"),
        notional_usd=Decimal("1524.15787777"), taker_usd=Decimal("1524.15787777"), buy_usd=Decimal("1524.15787777"),
        realized_pnl_usd=Decimal("1.25"), fees_not_priced_fills=1, fees_not_priced={"HYPE": "0.000001"},
    )  # fmt: skip
    day_rows.create(
        credential=account, day=date(2026, 11, 5), symbol="ETH", forced_fills=1, forced_usd=Decimal(3000),
        realized_pnl_usd=Decimal("1.25"),
    )  # fmt: skip
    get("volume", "AssetPrice").objects.create(asset="WOO", day=date(2026, 11, 3), usd=Decimal("0.0213"), source="x")


def check_the_upgrade() -> None:
    """Everything of the first release is there, with what later releases know more of it."""
    bitcoin, pepe, ether = DailyVolume.objects.order_by("day")
    assert (bitcoin.fills, bitcoin.notional_usd, bitcoin.maker_usd) == (2, Decimal("2522.005"), Decimal("840.005"))
    assert (bitcoin.buy_usd, bitcoin.sell_usd) == (Decimal("840.005"), Decimal(1682))
    assert (bitcoin.forced_fills, bitcoin.forced_usd) == (1, Decimal("40000.061728"))
    assert (bitcoin.forced_qty, bitcoin.forced_buy_usd, bitcoin.forced_maker_usd) == (Decimal("0.5"), 0, 0)
    assert bitcoin.fees_usd == Decimal("18.74852778")
    assert bitcoin.kinds["liquidation"]["usd"] == "40000.061728"
    assert pepe.base_qty == Decimal("123456789.123")
    assert pepe.kinds["twap"]["fills"] == 1
    assert (ether.forced_qty, ether.forced_buy_usd, ether.forced_maker_usd) == (1, 3000, 3000)
    assert not DailyVolume.objects.filter(is_at_market=None).exists()
    assert Fill.objects.get(fill_id="3:a").fee == Decimal("18.000027777600001")
    account = ExchangeCredential.objects.get()
    assert account.open_secrets().address == DEMO_TRADER
    assert account.owner.password == "argon2$kept"
    assert "Every day agrees with its fills." in run("check_volume")
    page = Client()
    page.force_login(account.owner)
    for path in ("/", "/accounts/", "/day/2026-11-02/", "/settings/", "/data/", f"/accounts/{account.pk}/",
                 f"/accounts/{account.pk}/fills/"):  # fmt: skip
        assert page.get(path).status_code == 200, path
    days = page.get("/api/v1/volume/daily/?group_by=day&since=2026-11-01&until=2026-11-21").json()["results"]
    assert {row["day"]: (row["notional_usd"], row["complete"]) for row in days} == {
        "2026-11-02": ("2522.005", True),
        "2026-11-03": ("1524.15787777", True),
        "2026-11-05": ("0", True),
    }
    total = page.get("/api/v1/volume/summary/").json()["totals"]["all"]
    assert total["notional_usd"] == "4046.16287777"
    assert total["complete_from"] == "2026-11-01T00:00:00+00:00"


def test_a_database_of_the_first_release_is_migrated_and_brought_up_to_date(first_release):
    migrate()
    waiting = DailyVolume.objects.filter(is_at_market=None).count()
    assert waiting == 3
    assert DailyVolume.objects.get(symbol="BTC").notional_usd == Decimal("2522.005")  # shown meanwhile
    tasks.bring_up_to_date()
    tasks.fetch_prices()  # which it hands out, for the fee that had no price
    check_the_upgrade()


def test_a_backup_of_the_first_release_is_restored_into_this_one(first_release, new_database, file):
    run("backup", file)
    new_database()
    run("restore", file)
    tasks.fetch_prices()
    check_the_upgrade()


def test_a_first_release_that_was_migrated_is_what_a_fresh_database_is(first_release, new_database):
    migrate()
    upgraded = columns()
    new_database()
    migrate()
    assert columns() == upgraded


def columns() -> dict[str, Any]:
    """Every table with its columns and constraints."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            described = connection.introspection.get_table_description(cursor, table)
            constraints = connection.introspection.get_constraints(cursor, table).values()
            found[table] = (
                sorted((column.name, str(column.type_code), column.null_ok) for column in described),
                sorted(
                    repr((item["columns"], item["primary_key"], item["unique"], item["check"])) for item in constraints
                ),
            )
    return found


def test_the_version_is_that_of_the_project():
    assert backups.version().count(".") == 2
