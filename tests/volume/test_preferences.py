"""How an owner wants to count: stored for them alone, and followed by every view at once."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from exchanges.models import ExchangeCredential
from exchanges.sandbox import Sandbox
from tests import factories
from tests.conftest import NOW
from volume import holding
from volume.glance import summary
from volume.models import DailyVolume, Preferences
from volume.proof import prove
from volume.queries import Filter, kinds, markets, volume
from volume.refresh import refresh
from volume.rollup import differences, outdated
from volume.tasks import bring_up_to_date

pytestmark = pytest.mark.django_db
ME = "0x00000000000000000000000000000000000000aa"
HER = "0x00000000000000000000000000000000000000bb"


def rows(address: str) -> list[dict[str, Any]]:
    """100,000 bought as taker, 30,000 sold by a liquidation, 20,000 taken over in a deleveraging as maker."""
    at = NOW - timedelta(minutes=1)
    liquidation = {"liquidatedUser": address, "markPx": "50000", "method": "market"}
    return [
        factories.hyperliquid_row(at),
        factories.hyperliquid_row(
            at, tid=2, sz="0.6", side="A", dir="Liquidated Cross Long", fee="0", liquidation=liquidation
        ),
        factories.hyperliquid_row(at, tid=3, sz="0.4", side="A", dir="Auto-Deleveraging", crossed=False, fee="0"),
    ]


@pytest.fixture
def account(clock: Any, sandbox: Sandbox) -> ExchangeCredential:
    sandbox.hyperliquid.add(ME, rows=rows(ME))
    made = factories.credential(secrets={"address": ME})
    refresh(made, now=clock.now())
    made.refresh_from_db()
    return made


def figures(owner_id: int) -> dict[str, Any]:
    """The volume as every view shows it."""
    wanted = Filter(owner_id=owner_id)
    shown = summary(owner_id, now=NOW)
    (day,), (market,) = volume(wanted, by=("day",), now=NOW), markets(wanted, now=NOW)
    return {
        "24h": Decimal(shown["totals"]["24h"]["notional_usd"]),
        "all": Decimal(shown["totals"]["all"]["notional_usd"]),
        "venue": Decimal(shown["venues"][0]["totals"]["7d"]["notional_usd"]),
        "day": day["notional_usd"],
        "market": market["notional_usd"],
        "chart": Decimal(factories.series(owner_id, range="7d", now=NOW)["stacks"][0]["notional_usd"][-1]),
    }


def test_forced_fills_stand_apart_until_their_owner_counts_them_and_then_every_view_has_them(
    account: ExchangeCredential,
) -> None:
    assert set(figures(account.owner_id).values()) == {Decimal(100_000)}
    holding.prefer(account.owner, counts_forced=True)
    assert set(figures(account.owner_id).values()) == {Decimal(150_000)}
    shown = summary(account.owner_id, now=NOW)["totals"]["24h"]
    assert (shown["fills"], shown["forced_fills"], shown["forced_usd"]) == (3, 2, "50000")
    holding.prefer(account.owner, counts_forced=False)
    assert set(figures(account.owner_id).values()) == {Decimal(100_000)}
    assert not differences(account)


def test_with_forced_fills_counted_the_parts_still_add_up(account: ExchangeCredential) -> None:
    holding.prefer(account.owner, counts_forced=True)
    (row,) = volume(Filter(owner_id=account.owner_id), by=("market",), now=NOW)
    assert (row["maker_usd"], row["taker_usd"]) == (Decimal(20_000), Decimal(130_000))
    assert (row["buy_usd"], row["sell_usd"]) == (Decimal(100_000), Decimal(50_000))
    assert (row["fills"], row["forced_fills"], row["forced_usd"], row["base_qty"]) == (
        3,
        2,
        Decimal(50_000),
        Decimal(3),
    )


def test_one_owners_choice_is_not_anothers(account: ExchangeCredential, sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(HER, rows=rows(HER))
    hers = factories.credential(owner=factories.user("eve"), secrets={"address": HER})
    refresh(hers, now=NOW)
    holding.prefer(account.owner, counts_forced=True)
    assert set(figures(hers.owner_id).values()) == {Decimal(100_000)}
    assert {row["credential"]: row["notional_usd"] for row in volume(Filter(), by=("credential",), now=NOW)} == {
        account.pk: Decimal(150_000),
        hers.pk: Decimal(100_000),
    }


def test_kinds_stand_apart_and_say_whether_they_count(account: ExchangeCredential) -> None:
    wanted = Filter(owner_id=account.owner_id)
    found = {row["kind"]: (row["fills"], row["usd"], row["counts"]) for row in kinds(wanted)}
    assert found == {
        "trade": (1, "100000", True),
        "liquidation": (1, "30000", False),
        "adl": (1, "20000", False),
    }
    holding.prefer(account.owner, counts_forced=True)
    assert all(row["counts"] for row in kinds(wanted))


def test_the_api_shows_and_changes_the_choice_of_who_asks_and_of_nobody_else(
    account: ExchangeCredential, client: Client
) -> None:
    client.force_login(account.owner)
    path = "/api/v1/preferences/"
    assert client.get(path).json() == {"counts_forced": False, "stablecoins_at_market": False}
    assert client.patch(path, {"counts_forced": True}, "application/json").json()["counts_forced"] is True
    assert client.patch(path, {"counts_forced": "perhaps"}, "application/json").status_code == 400
    assert Preferences.of(account.owner_id).counts_forced
    client.force_login(factories.user("eve"))
    assert client.get(path).json()["counts_forced"] is False


def test_the_command_line_follows_the_choice(account: ExchangeCredential, capsys: Any) -> None:
    holding.prefer(account.owner, counts_forced=True)
    call_command("volume", by="market", format="csv")
    assert "BTC,3,3,150000,20000,130000,100000,50000,2,50000" in capsys.readouterr().out


def test_days_of_an_older_perpdash_are_not_called_complete_until_they_are_computed_anew(
    account: ExchangeCredential,
) -> None:
    DailyVolume.objects.update(is_at_market=None, assets=[], kinds={}, forced_maker_usd=0)
    assert outdated(account).exists()
    total = summary(account.owner_id, now=NOW)["totals"]["7d"]
    assert not total["complete"]
    assert "recomputed" in total["why"][0]
    (said,) = prove(account, NOW).findings
    assert "wait to be recomputed" in said
    bring_up_to_date()
    assert not outdated(account).exists()
    assert not differences(account)
    assert summary(account.owner_id, now=NOW)["totals"]["7d"]["complete"]
    assert not prove(account, NOW).found
