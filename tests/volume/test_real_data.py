"""Recorded fills of real accounts, through the whole engine, to the last digit."""

import csv
import gzip
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exchanges.models import Coverage, ExchangeCredential, SyncRun
from exchanges.sandbox import Sandbox
from exchanges.venues.base import to_ms
from tests import factories
from volume.models import DailyVolume
from volume.queries import Filter, volume
from volume.refresh import Wanted, refresh
from volume.rollup import differences

pytestmark = pytest.mark.django_db

INDIA = timedelta(hours=5, minutes=30)
FIRST = "0x513b8629fe877bb581bf244e326a047b249c4ff1"
SECOND = "0xae5eacaf9c6b9111fd53034a602c192a04e082ed"


@pytest.fixture
def recorded(shared_data: Path) -> dict[str, Any]:
    """500 fills of 2023-05-05 as the venue sent them: without tid, without feeToken, newest first."""
    return json.loads((shared_data / "hyperliquid/api_userFills/userFills_2023-05-05.json").read_text())


@pytest.fixture
def exported(shared_data: Path) -> dict[str, list[dict[str, Any]]]:
    """12,799 fills of two accounts, put into the API's form; the tids, lost in the export, are invented."""
    rows: dict[str, list[dict[str, Any]]] = {FIRST: [], SECOND: []}
    with gzip.open(shared_data / "hyperliquid/fills.csv.gz", "rt", newline="") as file:
        for number, line in enumerate(csv.DictReader(file)):
            at = datetime.strptime(line["Timestamp IST"], "%d-%m-%Y %H:%M").replace(tzinfo=UTC) - INDIA
            bought_spot = line["Coin"] == "@107" and line["Side"] == "BUY"
            rows[line["Account"]].append(
                {
                    "coin": line["Coin"],
                    "px": line["Execution Price"],
                    "sz": line["Size Tokens"],
                    "side": "B" if line["Side"] == "BUY" else "A",
                    "time": to_ms(at),
                    "startPosition": line["Start Position"],
                    "dir": line["Direction"],
                    "closedPnl": line["Closed PnL"],
                    "hash": line["Transaction Hash"],
                    "oid": int(line["Order ID"]),
                    "crossed": line["Crossed"] == "TRUE",
                    "fee": line["Fee"],
                    "feeToken": "HYPE" if bought_spot else "USDC",
                    "tid": number + 1,
                }
            )
    return rows


def expected(shared_data: Path, *, market_type: str) -> dict[tuple[str, str, str], dict[str, str]]:
    with (shared_data / "hyperliquid/expected_daily_volume.csv").open(newline="") as file:
        return {
            (row["account"], row["day_utc"], row["coin"]): row
            for row in csv.DictReader(file)
            if row["market_type"] == market_type
        }


def account(address: str, *, since: datetime) -> ExchangeCredential:
    return factories.credential(secrets={"address": address}, label=address[:6], history_from=since)


def read(credential: ExchangeCredential, clock: Any, **wanted: Any) -> SyncRun:
    credential.refresh_from_db()
    return refresh(credential, now=clock.now(), wanted=Wanted(patience=1000, **wanted))


def orders(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    yield rows
    yield rows[::-1]
    shuffled = rows.copy()
    random.Random(1).shuffle(shuffled)
    yield shuffled


@pytest.mark.parametrize("page", [2000, 500, 97, 41])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_500_recorded_fills_come_to_229031_dollars_for_any_page_size_and_order_also_read_twice(
    recorded: dict[str, Any], shared_data: Path, clock: Any, sandbox: Sandbox, page: int, order: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    address = recorded["request"]["user"]
    for fact in ("PAGE", "MAYBE_CUT"):
        monkeypatch.setattr(f"exchanges.venues.hyperliquid.{fact}", page)
    sandbox.hyperliquid.page = page
    sandbox.hyperliquid.add(address, rows=list(orders(recorded["response"]))[order])
    credential = account(address, since=datetime(2023, 5, 1, tzinfo=UTC))

    first = read(credential, clock)
    again = read(credential, clock, again=True)

    assert (first.new, again.new, again.seen) == (500, 0, 500)
    with (shared_data / "hyperliquid/api_userFills/userFills_2023-05-05_expected.csv").open(newline="") as file:
        should_be = {row["coin"]: row for row in csv.DictReader(file)}
    days = {day.symbol: day for day in DailyVolume.objects.all()}
    assert set(days) == set(should_be)
    for coin, day in days.items():
        assert day.notional_usd == Decimal(should_be[coin]["notional_usd"])
        assert day.maker_usd == Decimal(should_be[coin]["maker_notional_usd"])
        assert day.taker_usd == Decimal(should_be[coin]["taker_notional_usd"])
        assert day.fills == int(should_be[coin]["fills"])
    assert sum(day.notional_usd for day in days.values()) == Decimal("229031.090328")


def test_every_cell_of_the_export_is_equal_to_the_last_digit_and_spot_is_counted_as_skipped(
    exported: dict[str, list[dict[str, Any]]], shared_data: Path, clock: Any, sandbox: Sandbox
) -> None:
    sandbox.hyperliquid.memory = 100_000  # the venue's own limit would hide rows of the first account
    for address, rows in exported.items():
        sandbox.hyperliquid.add(address, rows=rows)
        read(account(address, since=datetime(2024, 11, 22, tzinfo=UTC)), clock)

    cells = {
        (row["credential"], row["day"].isoformat(), row["market"]): row
        for row in volume(Filter(), by=("credential", "day", "market"), now=clock.now())
    }
    refs = {credential.pk: credential.account_ref for credential in ExchangeCredential.objects.all()}
    found = {(refs[pk], day, coin): row for (pk, day, coin), row in cells.items()}
    should_be = expected(shared_data, market_type="perp")
    assert set(found) == set(should_be)
    for key, row in found.items():
        assert row["notional_usd"] == Decimal(should_be[key]["notional_usd"]), key
        assert row["maker_usd"] == Decimal(should_be[key]["maker_notional_usd"]), key
        assert row["taker_usd"] == Decimal(should_be[key]["taker_notional_usd"]), key
        assert row["fees_usd"] == Decimal(should_be[key]["fee_usdc"]), key
        assert row["fills"] == int(should_be[key]["fills"]), key
    assert sum(row["notional_usd"] for row in found.values()) == Decimal("419814522.967609")
    spot = sum(int(row["fills"]) for row in expected(shared_data, market_type="spot").values())
    assert sum(run.skipped["spot"] for run in SyncRun.objects.all()) == spot == 1082
    assert not any(differences(credential) for credential in ExchangeCredential.objects.all())


def test_with_the_venues_real_limits_the_rest_of_the_first_account_is_out_of_reach_with_its_date(
    exported: dict[str, list[dict[str, Any]]], clock: Any, sandbox: Sandbox
) -> None:
    rows = exported[FIRST]
    sandbox.hyperliquid.add(FIRST, rows=rows)
    credential = account(FIRST, since=datetime(2024, 11, 22, tzinfo=UTC))

    run = read(credential, clock)

    kept = sorted(rows, key=lambda row: row["time"])[-10_000:]
    perps = [row for row in kept if row["coin"] != "@107"]
    assert run.new == len(perps)
    assert run.outcome == SyncRun.Outcome.INCOMPLETE
    gone = credential.coverage.get(state=Coverage.State.OUT_OF_REACH)
    assert gone.from_at == credential.history_from
    assert to_ms(gone.until_at) == kept[0]["time"] + 1
    assert "keeps an account's last 10,000 fills: nothing before 2025-04-11 21:22 UTC" in gone.reason
    assert gone.reason in run.message
    total = sum(Decimal(row["px"]) * Decimal(row["sz"]) for row in perps)
    assert sum(day.notional_usd for day in DailyVolume.objects.all()) == total
