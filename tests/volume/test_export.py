"""Everything an owner has here as one ZIP: whole, exact, harmless to spreadsheets, and nobody else's."""

import csv
import io
import json
import zipfile
from collections import defaultdict
from copy import copy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import AsyncClient, Client, RequestFactory
from django.utils import timezone

from exchanges.models import Coverage, ExchangeCredential, Fill, HeldRow, Reread, Retraction, SyncRun
from exchanges.sandbox import Sandbox, bybit
from exchanges.sandbox.hyperliquid import DEMO_SUB
from tests import factories
from tests.conftest import NOW
from volume import data_views, export, proof, tables
from volume.models import Amendment, AssetPrice, DailyVolume, Preferences, VenueFigure, VolumeCheck
from volume.refresh import refresh
from volume.rollup import rebuild_all

pytestmark = pytest.mark.django_db

SINCE = datetime(2026, 11, 11, 7, 30, tzinfo=UTC)
FILES = [
    "README.txt", "accounts.csv", "fills.csv", "days.csv", "coverage.csv", "rereads.csv", "runs.csv", "held_rows.csv",
    "retractions.csv", "amendments.csv", "venue_figures.csv", "checks.csv", "prices.csv", "preferences.json",
]  # fmt: skip


@pytest.fixture
def sandbox(sandbox: Sandbox) -> Sandbox:
    return factories.shorten(sandbox, days=15, now=NOW)


@pytest.fixture
def account(sandbox: Sandbox) -> ExchangeCredential:
    """Ten days, read, with a row of everything else."""
    made = factories.credential(owner=factories.user("ada"), history_from=SINCE)
    refresh(made, now=NOW)
    HeldRow.objects.create(credential=made, stream="fills", digest="1", raw='{"a": "ü,\\n"}', why="?", seen_at=NOW)
    Retraction.objects.create(credential=made, fill_id="-12", why="=bust", seen_at=NOW)
    Reread.objects.create(credential=made, stream="fills", from_at=SINCE, until_at=NOW, asked_at=NOW)
    Amendment.objects.create(
        credential=made, seen_at=NOW, day=NOW.date(), symbol="BTC", cause="taken_back", why="-", fills=-1,
        notional_usd=Decimal("-0.00000001"),
    )  # fmt: skip
    VenueFigure.objects.create(
        credential=made, name="perpDay", from_at=SINCE, until_at=NOW, usd=Decimal("1E+3"), includes=["spot"],
        seen_at=NOW,
    )  # fmt: skip
    proof.prove(made, NOW)
    return made


def zipped(owner: Any) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join(export.pieces(owner, timezone.now()))))


def rows(archive: zipfile.ZipFile, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(archive.read(name).decode(), newline="")))


def everything(archive: zipfile.ZipFile) -> str:
    return "".join(archive.read(name).decode() for name in archive.namelist())


def test_the_zip_is_sound_and_holds_a_row_of_each_that_is_stored(account):
    archive = zipped(account.owner)
    assert archive.testzip() is None
    assert archive.namelist() == FILES
    assert archive.infolist()[0].date_time == (2026, 11, 21, 12, 0, 0)
    counts = {name: len(rows(archive, name)) for name in FILES if name.endswith(".csv")}
    models = {
        "accounts.csv": ExchangeCredential, "fills.csv": Fill, "days.csv": DailyVolume, "coverage.csv": Coverage,
        "rereads.csv": Reread, "runs.csv": SyncRun, "held_rows.csv": HeldRow, "retractions.csv": Retraction,
        "amendments.csv": Amendment, "venue_figures.csv": VenueFigure, "checks.csv": VolumeCheck,
        "prices.csv": AssetPrice,
    }  # fmt: skip
    assert counts == {name: model.objects.count() for name, model in models.items()}
    readme = archive.read("README.txt").decode()
    assert "Everything perpdash holds of ada, as of 2026-11-21 12:00:00 UTC." in readme
    assert all(f"\n{name}\n" in readme for name in FILES[1:])


@pytest.mark.parametrize("table", [export.ACCOUNTS, *export.TABLES, export.PRICES], ids=lambda table: table.name)
def test_every_column_is_exported_but_those_left_out_on_purpose(table):
    left_out = {"secrets", "uuid", "owner_id", "lease", "leased_until", "version", "due_at", "failures", "digest", "id"}
    columns = {field.attname for field in table.model._meta.concrete_fields}
    assert columns - left_out == set(table.columns) - {"id"}


def test_the_fills_add_up_to_the_days(account):
    archive = zipped(account.owner)
    usd: dict[Any, Decimal] = defaultdict(Decimal)
    qty: dict[Any, Decimal] = defaultdict(Decimal)
    fills: dict[Any, int] = defaultdict(int)
    for row in rows(archive, "fills.csv"):
        key = (row["account"], row["day"], row["market"])
        assert row["executed_at"].startswith(row["day"]) and row["executed_at"].endswith("Z")
        usd[key] += Decimal(row["notional"])
        qty[key] += Decimal(row["qty"])
        fills[key] += 1
    days = {(row["account"], row["day"], row["market"]): row for row in rows(archive, "days.csv")}
    assert days
    assert {key: Decimal(row["notional_usd"]) for key, row in days.items()} == usd
    assert {key: Decimal(row["base_qty"]) for key, row in days.items()} == qty
    assert {key: int(row["fills"]) for key, row in days.items()} == fills
    stored = {(str(row.credential_id), str(row.day), row.symbol): row.notional_usd for row in account.days.all()}
    assert stored == usd


def test_what_is_exported_can_be_read_back_digit_by_digit(account):
    fill = account.fills.order_by("executed_at", "pk").first()
    Fill.objects.filter(pk=fill.pk).update(
        price=Decimal("0.000000000000000000012345"), qty=Decimal("12345678901234567890.000000001"), fee=Decimal("-1E-9")
    )
    first = rows(zipped(account.owner), "fills.csv")[0]
    assert (first["fill_id"], first["fee"]) == (fill.fill_id, "-0.000000001")
    assert (first["price"], first["qty"]) == ("0.000000000000000000012345", "12345678901234567890.000000001")
    assert datetime.fromisoformat(first["executed_at"]) == fill.executed_at


def test_a_spreadsheet_is_given_no_formula_and_numbers_stay_numbers(account):
    ExchangeCredential.objects.update(label='=HYPERLINK("http://x")')
    for number, text in enumerate(("+1", "-1", "@a", "\tx", "\rx", "\nx", "=x")):
        HeldRow.objects.create(credential=account, stream="fills", digest=f"f{number}", raw=text, why=text, seen_at=NOW)
    archive = zipped(account.owner)
    assert rows(archive, "accounts.csv")[0]["label"] == '\'=HYPERLINK("http://x")'
    for name in FILES:
        if name.endswith(".csv"):
            for row in rows(archive, name):
                for value in row.values():
                    if value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
                        assert Decimal(value) < 0, (name, row)
    assert rows(archive, "retractions.csv")[0]["fill_id"] == "'-12"
    (amendment,) = rows(archive, "amendments.csv")
    assert (amendment["fills"], amendment["notional_usd"]) == ("-1", "-0.00000001")
    assert rows(archive, "held_rows.csv")[0]["raw"] == '{"a": "ü,\\n"}'
    assert rows(archive, "venue_figures.csv")[0]["usd"] == "1000"


def test_no_secret_is_exported(sandbox):
    ada = factories.user("ada")
    made = factories.credential("bybit", owner=ada, secrets=bybit.MAIN, history_from=NOW - timedelta(days=2))
    refresh(made, now=NOW)
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM exchanges_exchangecredential")
        (sealed,) = cursor.fetchone()
    text = everything(zipped(ada))
    for secret in (sealed, bybit.MAIN["api_key"], bybit.MAIN["api_secret"], str(made.uuid)):
        assert secret not in text
    assert "gAAAA" not in text


def test_prices_are_those_the_days_rest_on(account):
    day, later = account.days.earliest("day").day, account.days.latest("day").day
    Fill.objects.filter(credential=account, day=day).update(fee_asset="HYPE")
    for asset in ("HYPE", "USDC", "WOO"):
        for moment in (day, later):
            AssetPrice.objects.create(asset=asset, day=moment, usd="1.25", source="CoinGecko", observed_at=NOW)
    rebuild_all(account)
    found = rows(zipped(account.owner), "prices.csv")
    assert [(row["asset"], row["day"], row["usd"]) for row in found] == [("HYPE", day.isoformat(), "1.25")]
    Preferences.objects.create(owner=account.owner, stablecoins_at_market=True, counts_forced=True)
    rebuild_all(account)
    archive = zipped(account.owner)
    assert {(row["asset"], row["day"]) for row in rows(archive, "prices.csv")} == {
        ("HYPE", day.isoformat()), ("USDC", day.isoformat()), ("USDC", later.isoformat()),
    }  # fmt: skip
    chosen = json.loads(archive.read("preferences.json"))
    assert chosen == {"counts_forced": True, "stablecoins_at_market": True}


def test_nothing_of_others_is_in_it_and_nobody_has_an_empty_one(account):
    eve = factories.user("eve")
    hers = factories.credential(owner=eve, label="Hers", secrets={"address": DEMO_SUB}, history_from=SINCE)
    refresh(hers, now=NOW)
    assert hers.fills.exists()
    archive = zipped(account.owner)
    assert {row["account"] for row in rows(archive, "fills.csv")} == {str(account.pk)}
    assert "Hers" not in everything(archive)
    empty = zipped(factories.user("bob"))
    assert empty.namelist() == FILES
    assert all(not rows(empty, name) for name in FILES if name.endswith(".csv"))


def test_it_comes_in_small_pieces_however_much_there_is(account):
    copies = list(account.fills.all()) * 100
    for number, fill in enumerate(copies):
        copies[number] = fill = copy(fill)
        fill.pk, fill.fill_id = None, f"copy {number}"
    Fill.objects.bulk_create(copies)
    sizes = [len(piece) for piece in export.pieces(account.owner, NOW)]
    assert len(sizes) > 5
    assert max(sizes) < 300_000


@pytest.mark.django_db(transaction=True)
def test_a_download_given_up_leaves_nothing_open(account):
    pieces = export.pieces(account.owner, NOW)
    next(pieces)
    pieces.close()
    assert connection.get_autocommit() and not connection.in_atomic_block
    account.save(update_fields=["label"])


# --- Where it is had -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/data/export/", "/api/v1/export/"])
def test_page_and_api_give_the_same_zip_to_its_owner_alone(account, path):
    client = Client()
    refused = client.get(path)
    assert refused.status_code in (302, 401)
    client.force_login(account.owner)
    response = client.get(path)
    assert (response.status_code, response["Content-Type"]) == (200, "application/zip")
    assert response["Content-Disposition"] == 'attachment; filename="perpdash-2026-11-21.zip"'
    with pytest.warns(Warning, match="must consume asynchronous iterators"):  # this client is no async one
        content = b"".join(response)
    assert content == b"".join(export.pieces(account.owner, NOW))
    assert zipfile.ZipFile(io.BytesIO(content)).testzip() is None


def test_under_asgi_it_is_sent_piece_by_piece(account):
    taken: list[int] = []

    async def first_pieces() -> None:
        made = iter(range(100))

        def pieces() -> Any:
            for number in made:
                taken.append(number)
                yield b"x"

        awaited = tables.Awaited(pieces())
        assert await anext(awaited) == b"x"
        assert await anext(awaited) == b"x"
        awaited.close()

    async_to_sync(first_pieces)()
    assert taken == [0, 1]
    request = RequestFactory().get("/data/export/")
    request.user = account.owner
    assert data_views.export(request).is_async


async def _downloaded(client: AsyncClient) -> bytes:
    response = await client.get("/data/export/")
    return b"".join([part async for part in response])


def test_an_async_server_sends_the_whole_of_it(account):
    client = AsyncClient()
    client.force_login(account.owner)
    content = async_to_sync(_downloaded)(client)
    assert zipfile.ZipFile(io.BytesIO(content)).namelist() == FILES


def test_the_command_writes_it_to_a_file(account, tmp_path):
    whole = tmp_path / "ada.zip"
    call_command("export_data", "--owner", "ada", "--output", str(whole))
    assert zipfile.ZipFile(whole).namelist() == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["ada.zip"]


def test_the_command_writes_it_to_standard_output(account, capfdbinary):
    call_command("export_data", "--owner", "ada")
    assert zipfile.ZipFile(io.BytesIO(capfdbinary.readouterr().out)).namelist() == FILES


def test_the_command_says_what_is_wrong(account, tmp_path):
    with pytest.raises(CommandError, match="There is nobody named 'eve'"):
        call_command("export_data", "--owner", "eve")
    with pytest.raises(CommandError, match="can't be written"):
        call_command("export_data", "--owner", "ada", "--output", str(tmp_path / "no" / "where.zip"))
