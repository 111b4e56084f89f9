"""The venue's own figures beside ours: fetched, kept, compared, and never mixed."""

import json
import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.utils import timezone

from exchanges.models import Coverage, ExchangeCredential, Fill, SyncRun
from exchanges.sandbox import Sandbox
from exchanges.sandbox.hyperliquid import DEMO_SUB, DEMO_TRADER
from exchanges.sandbox.paradex import DEMO_SUB as PARADEX_SUB
from exchanges.sandbox.paradex import DEMO_SUB_TOKEN, DEMO_TOKEN
from exchanges.venues import VENUES
from exchanges.venues.base import EPOCH, VenueUnavailable
from perpdash.celery import app as celery_app
from tests import factories
from tests.conftest import NOW
from volume import reconcile, tasks
from volume.models import DailyVolume, Preferences, VenueFigure
from volume.reconcile import Comparison, State
from volume.refresh import Wanted, refresh
from volume.rollup import rebuild_all

pytestmark = pytest.mark.django_db

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
ME = "0x00000000000000000000000000000000000000aa"
SUB = "0x00000000000000000000000000000000000000bb"
BUY = Decimal(100_000)  # what one row of the factory is worth


def row(at: datetime, number: int = 1, **changes: Any) -> dict[str, Any]:
    return factories.hyperliquid_row(at, tid=number, oid=number, **changes)


def spot(at: datetime, number: int = 900) -> dict[str, Any]:
    """10 HYPE at 40."""
    return row(at, number, coin="@107", dir="Buy", px="40", sz="10", feeToken="HYPE", fee="0.01")


def read(credential: ExchangeCredential, **wanted: Any) -> None:
    credential.refresh_from_db()
    refresh(credential, now=timezone.now(), wanted=Wanted(patience=70, **wanted))
    credential.refresh_from_db()


def account(address: str = ME, **fields: Any) -> ExchangeCredential:
    made = factories.credential(secrets={"address": address}, **fields)
    read(made)
    return made


def look(credential: ExchangeCredential) -> None:
    assert reconcile.fetch(credential, now=timezone.now())


def compared(credential: ExchangeCredential, **options: Any) -> dict[str, Comparison]:
    """By name and, of days, the day."""
    found = reconcile.compare(credential, now=timezone.now(), **options)
    return {f"{one.name} {one.window.since:%d}" if one.name == "dailyUserVlm" else one.name: one for one in found}


def words(comparison: Comparison) -> str:
    return " ".join(comparison.reasons)


# --- Agreeing and differing ------------------------------------------------------------------------------------------


def test_perpetuals_alone_agree_in_every_figure(sandbox: Sandbox, clock: Any) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - 2 * DAY, 1), row(NOW - 5 * HOUR, 2), row(NOW - HOUR, 3, crossed=False)])
    mine = account()
    look(mine)
    found = compared(mine)
    assert {one.state for one in found.values()} == {State.AGREES}
    assert (found["dailyUserVlm 21"].theirs, found["dailyUserVlm 21"].ours) == (2 * BUY, 2 * BUY)
    assert found["portfolio.perpAllTime"].theirs == 3 * BUY
    assert found["dailyUserVlm 19"].difference == 0
    assert not any(one.reasons or one.markets for one in found.values())


def test_windows_are_named_in_words(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR)])
    mine = account()
    look(mine)
    labels = {name: one.label for name, one in compared(mine).items()}
    assert labels["dailyUserVlm 20"] == "20 Nov 2026 (UTC)"
    assert labels["dailyUserVlm 21"] == "21 Nov 2026 (UTC), up to 12:00"
    assert labels["portfolio.perpDay"] == "last 24 hours, up to 21 Nov 2026 12:00 UTC"
    assert labels["portfolio.perpMonth"] == "last 30 days, up to 21 Nov 2026 12:00 UTC"
    assert labels["portfolio.perpAllTime"] == "as long as the account exists, up to 21 Nov 2026 12:00 UTC"
    assert set(labels) >= {"userRateLimit.cumVlm"}
    assert "portfolio.month" not in labels  # it only tells how much spot is inside


def test_the_newest_and_the_shortest_come_first(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR)])
    mine = account()
    look(mine)
    names = [one.name for one in reconcile.compare(mine, now=NOW)]
    portfolio = [name for name in names if name.startswith("portfolio")]
    assert portfolio == ["portfolio.perpDay", "portfolio.perpWeek", "portfolio.perpMonth", "portfolio.perpAllTime"]
    days = [one.day for one in reconcile.compare(mine, now=NOW) if one.name == "dailyUserVlm"]
    assert days == sorted(filter(None, days), reverse=True)
    assert len(days) == 15


def test_spot_inside_is_the_reason_and_its_amount_is_the_venues_own(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - 2 * HOUR), spot(NOW - HOUR)])
    mine = account()
    look(mine)
    found = compared(mine)
    life = found["userRateLimit.cumVlm"]
    assert (life.state, life.difference) == (State.DIFFERS, Decimal("400.00"))
    assert "is inside: $400.00 by Hyperliquid's own count. That is the whole difference." in words(life)
    today = found["dailyUserVlm 21"]
    assert (today.state, today.difference) == (State.DIFFERS, Decimal("400.00"))
    assert "at most $400.00 by Hyperliquid's count of a longer time. That can be the whole difference." in words(today)
    assert [market.symbol for market in today.markets] == ["BTC"]
    assert found["portfolio.perpDay"].state == State.AGREES


def test_no_spot_is_no_reason(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - 2 * HOUR)])
    mine = account()
    look(mine)
    VenueFigure.objects.filter(name="dailyUserVlm", from_at=NOW.replace(hour=0)).update(usd=BUY + 7)
    today = compared(mine)["dailyUserVlm 21"]
    assert today.difference == 7
    assert "Spot" not in words(today)
    assert "count some markets for more or less than their dollars" in words(today)


def test_a_difference_says_where_to_look_the_largest_markets_first(sandbox: Sandbox) -> None:
    coins = ["BTC", "ETH", "SOL", "HYPE", "DOGE", "XRP", "kPEPE"]
    rows = [row(NOW - 2 * HOUR, number, coin=coin, sz=str(number)) for number, coin in enumerate(coins, 1)]
    sandbox.hyperliquid.add(ME, rows=[*rows, spot(NOW - HOUR)])
    mine = account()
    look(mine)
    today = compared(mine)["dailyUserVlm 21"]
    assert [market.symbol for market in today.markets] == ["kPEPE", "XRP", "DOGE", "HYPE", "SOL"]
    assert today.markets[0].usd == 350_000
    assert today.day == NOW.date()


@pytest.mark.parametrize(
    ("theirs", "state"),
    [("100000.009", State.AGREES), ("99999.9900001", State.AGREES), ("100000.01", State.DIFFERS), ("0", State.DIFFERS)],
)
def test_less_than_a_cent_is_no_difference(sandbox: Sandbox, theirs: str, state: State) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - 2 * HOUR)])
    mine = account()
    look(mine)
    VenueFigure.objects.filter(name="portfolio.perpDay").update(usd=Decimal(theirs))
    assert compared(mine)["portfolio.perpDay"].state == state


def test_what_binary_floats_cost_a_large_figure_is_no_difference(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - 2 * HOUR, sz="200000")])
    mine = account()
    look(mine)
    life = VenueFigure.objects.filter(name="portfolio.perpAllTime")
    life.update(usd=Decimal("10000000005.0000001"))
    assert compared(mine)["portfolio.perpAllTime"].state == State.AGREES
    life.update(usd=Decimal(10_000_000_050))
    assert compared(mine)["portfolio.perpAllTime"].state == State.DIFFERS


def test_forced_fills_are_in_our_sum(sandbox: Sandbox) -> None:
    forced = row(NOW - 3 * HOUR, 2, dir="Liquidated Cross Long", side="A")
    sandbox.hyperliquid.add(ME, rows=[row(NOW - 4 * HOUR), forced])
    mine = account()
    look(mine)
    today = compared(mine)["dailyUserVlm 21"]
    assert (today.state, today.ours) == (State.AGREES, 2 * BUY)
    VenueFigure.objects.filter(name="dailyUserVlm", from_at=NOW.replace(hour=0)).update(usd=BUY)
    today = compared(mine)["dailyUserVlm 21"]
    assert "liquidations and auto-deleveraging of $100,000.00" in words(today)
    assert "That is the whole difference." in words(today)


def test_a_held_row_is_a_reason(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - 4 * HOUR), row(NOW - 3 * HOUR, 2, dir="Portfolio Rebalancing")])
    mine = account()
    look(mine)
    today = compared(mine)["dailyUserVlm 21"]
    assert (today.state, today.difference, today.held) == (State.DIFFERS, BUY, 1)
    assert "1 row of this time held" in words(today)
    assert "held" not in words(compared(mine)["dailyUserVlm 20"])


def test_fills_at_the_very_moment_of_asking_are_a_reason(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - timedelta(seconds=5)), row(NOW - HOUR, 2)])
    mine = account()
    look(mine)
    VenueFigure.objects.filter(name="portfolio.perpDay").update(usd=BUY)
    found = compared(mine)["portfolio.perpDay"]
    assert "Fills of $100,000.00 lie within a minute of its ends" in words(found)
    assert "does not say where exactly this window begins and ends" in words(found)


# --- Sub-accounts ----------------------------------------------------------------------------------------------------


@pytest.fixture
def family(sandbox: Sandbox) -> Sandbox:
    """A main account that bought once, and its sub-account that bought twice."""
    sandbox.hyperliquid.add(ME, rows=[row(NOW - DAY)])
    rows = [row(NOW - DAY, 2), row(NOW - DAY, 3)]
    sandbox.hyperliquid.add(SUB, rows=rows, role="subAccount", of=ME, name="grid")
    return sandbox


def test_a_sub_account_that_is_not_here_is_named(family: Sandbox) -> None:
    mine = account()
    look(mine)
    day = compared(mine)["dailyUserVlm 20"]
    assert (day.state, day.difference, day.accounts) == (State.DIFFERS, 2 * BUY, ("Main",))
    assert f"Not here, and so not in our sum: grid ({SUB})." in words(day)
    assert compared(mine)["portfolio.perpAllTime"].state == State.AGREES  # the address alone


def test_a_sub_account_that_is_here_is_counted_with_its_main(family: Sandbox) -> None:
    mine, sub = account(), account(SUB, label="Grid bot")
    look(mine)
    look(sub)
    day = compared(mine)["dailyUserVlm 20"]
    assert (day.state, day.ours, day.accounts) == (State.AGREES, 3 * BUY, ("Main", "Grid bot"))
    assert words(day) == "Counted together with Grid bot: Hyperliquid has sub-accounts inside."
    assert compared(mine)["portfolio.perpAllTime"].ours == BUY
    assert compared(sub)["dailyUserVlm 20"].ours == 2 * BUY


def test_a_sub_account_is_known_by_its_own_description_as_well(family: Sandbox) -> None:
    mine, sub = account(), account(SUB)
    mine.related = []
    mine.save()
    look(mine)
    assert compared(mine)["dailyUserVlm 20"].ours == 3 * BUY
    assert sub.description.startswith("Sub-account of")


def test_a_sub_account_of_somebody_else_here_is_not_ours(family: Sandbox) -> None:
    mine = account()
    account(SUB, owner=factories.user("eve"))
    look(mine)
    day = compared(mine)["dailyUserVlm 20"]
    assert day.ours == BUY
    assert "Not here" in words(day)


def test_a_sub_account_that_was_not_read_yet_makes_its_main_wait(family: Sandbox) -> None:
    mine = account()
    factories.credential(secrets={"address": SUB}, label="Grid bot")
    look(mine)
    day = compared(mine)["dailyUserVlm 20"]
    assert (day.state, day.difference) == (State.NOT_YET, None)
    assert "Grid bot was not read yet." in day.reasons


def test_a_paradex_family_is_found_by_name_without_addresses(sandbox: Sandbox) -> None:
    main = factories.credential("paradex", secrets={"token": DEMO_TOKEN}, history_from=NOW - 20 * DAY)
    read(main)
    look(main)
    alone = compared(main)["volume_tiers"]
    assert alone.state == State.DIFFERS
    assert "Not here, and so not in our sum" in words(alone)
    sub = factories.credential(
        "paradex", secrets={"token": DEMO_SUB_TOKEN}, label="Second", history_from=NOW - 20 * DAY
    )
    read(sub)
    both = compared(main)["volume_tiers"]
    assert both.accounts == ("Main", "Second")
    assert "Not here" not in words(both)
    truth = [
        one for ref in (main.account_ref, PARADEX_SUB) for one in sandbox.paradex.truth(ref, NOW - 14 * DAY).values()
    ]
    assert both.ours == sum(one.notional + one.forced_notional for one in truth)
    assert abs(both.ours - both.theirs - sum(one.forced_notional for one in truth)) < Decimal("0.01")


def test_the_days_of_paradex_agree_but_for_forced_fills_which_are_named(sandbox: Sandbox) -> None:
    main = factories.credential("paradex", secrets={"token": DEMO_TOKEN}, history_from=NOW - 40 * DAY)
    read(main)
    look(main)
    found = reconcile.compare(main, now=NOW, since=NOW - 39 * DAY)
    daily = [one for one in found if one.name == "account/history"]
    assert len(daily) == 40
    assert not any(str(one.difference).startswith("-0.00") for one in daily)
    assert {one.label for one in daily} >= {"20 Nov 2026 (UTC)", "21 Nov 2026 (UTC), up to 12:00"}
    assert [one for one in daily if one.state == State.AGREES]
    for one in daily:
        assert one.state == State.AGREES or "That is the whole difference." in words(one)


# --- What can't be compared yet --------------------------------------------------------------------------------------


def test_an_account_that_was_not_read_yet_has_nothing_to_compare(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR)])
    mine = factories.credential(secrets={"address": ME})
    look(mine)
    today = compared(mine)["dailyUserVlm 21"]
    assert (today.state, today.difference) == (State.NOT_YET, None)
    assert not today.ours
    assert today.reasons[0] == "Main was not read yet."


def test_a_figure_that_reaches_beyond_the_last_reading_waits_for_the_next(sandbox: Sandbox, clock: Any) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR), row(NOW + timedelta(seconds=30), 2)])
    mine = account()
    clock.move(60)
    look(mine)
    found = compared(mine)
    assert (found["dailyUserVlm 21"].state, found["dailyUserVlm 20"].state) == (State.NOT_YET, State.AGREES)
    assert "is read up to 21 Nov 2026 12:00 UTC, and this reaches to 21 Nov 2026 12:01 UTC." in words(
        found["dailyUserVlm 21"]
    )
    read(mine)
    assert compared(mine)["dailyUserVlm 21"].state == State.AGREES


def test_a_range_that_is_not_read_yet_waits_and_a_gap_is_a_reason(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - 4 * DAY), row(NOW - HOUR, 2)])
    mine = account()
    look(mine)
    Coverage.objects.filter(credential=mine).delete()
    for stream in ("fills", "twap"):
        Coverage.objects.create(
            credential=mine, stream=stream, from_at=NOW - 3 * DAY, until_at=NOW, state=Coverage.State.COVERED
        )
    found = compared(mine)
    assert (found["dailyUserVlm 17"].state, found["dailyUserVlm 20"].state) == (State.NOT_YET, State.AGREES)
    assert "is not read yet" in words(found["dailyUserVlm 17"])
    Coverage.objects.create(
        credential=mine, stream="fills", from_at=mine.history_from, until_at=NOW - 3 * DAY, state=Coverage.State.GAP,
        reason="It thundered.",
    )  # fmt: skip
    Coverage.objects.create(
        credential=mine, stream="twap", from_at=mine.history_from, until_at=NOW - 3 * DAY, state=Coverage.State.COVERED
    )
    Fill.objects.filter(executed_at__lt=NOW - 3 * DAY).delete()
    rebuild_all(mine)
    day = compared(mine)["dailyUserVlm 17"]
    assert (day.state, day.difference) == (State.DIFFERS, BUY)
    assert "It thundered." in words(day)


def test_a_life_beyond_what_was_asked_for_shows_how_much_is_missing(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - 50 * DAY), row(NOW - HOUR, 2)])
    mine = account(history_from=NOW - 20 * DAY)
    look(mine)
    life = compared(mine)["portfolio.perpAllTime"]
    assert (life.state, life.difference) == (State.DIFFERS, BUY)
    assert "Main was asked for only from 1 Nov 2026 12:00 UTC on." in life.reasons
    assert compared(mine)["portfolio.perpWeek"].state == State.AGREES


def test_an_account_beyond_its_10_000_fills_shows_how_much_is_missing(clock: Any, sandbox: Sandbox) -> None:
    rows = [row(NOW - 10 * DAY + number * timedelta(minutes=1), number) for number in range(1, 12_001)]
    sandbox.hyperliquid.add(ME, rows=rows)
    mine = account()
    look(mine)
    life = compared(mine)["portfolio.perpAllTime"]
    assert (life.state, life.difference) == (State.DIFFERS, 12_000 * BUY - life.ours)
    assert life.difference is not None
    assert life.difference >= 2_000 * BUY
    assert "Hyperliquid keeps an account's last 10,000 fills" in words(life)
    assert compared(mine)["dailyUserVlm 18"].state == State.AGREES


def test_an_account_whose_key_was_removed_says_so(sandbox: Sandbox, clock: Any) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR)])
    mine = account()
    clock.move(60)
    look(mine)
    ExchangeCredential.objects.update(retired_at=NOW, is_enabled=False)
    mine.refresh_from_db()
    assert "Only its history is kept." in words(compared(mine)["dailyUserVlm 21"])


# --- Counters of a life ----------------------------------------------------------------------------------------------


def test_two_looks_at_a_counter_make_a_window_of_their_own(sandbox: Sandbox, clock: Any) -> None:
    rows = [row(NOW - 30 * DAY), row(NOW + 2 * HOUR, 2), spot(NOW + 3 * HOUR), row(NOW + 25 * HOUR, 3)]
    sandbox.hyperliquid.add(ME, rows=rows)
    mine = account()
    look(mine)
    clock.move(86_400)
    read(mine)
    look(mine)
    found = [one for one in reconcile.compare(mine, now=timezone.now()) if one.label.startswith("between two looks")]
    perps, counter = found
    assert (perps.name, counter.name) == ("portfolio.perpAllTime", "userRateLimit.cumVlm")
    assert counter.label == "between two looks, 21 Nov 2026 12:00 to 22 Nov 2026 12:00 UTC"
    assert (perps.state, perps.theirs) == (State.AGREES, BUY)
    assert (counter.state, counter.difference) == (State.DIFFERS, Decimal(400))
    assert "is inside: $400.00 by Hyperliquid's own count. That is the whole difference." in words(counter)
    lives = [one for one in reconcile.compare(mine, now=timezone.now()) if one.window.since == EPOCH]
    assert [one.theirs for one in lives] == [2 * BUY, 2 * BUY + 400]


# --- Keeping ---------------------------------------------------------------------------------------------------------


def test_a_day_that_was_not_over_is_replaced_by_the_whole_one(sandbox: Sandbox, clock: Any) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR), row(NOW + HOUR, 2)])
    mine = account()
    look(mine)
    clock.move(86_400)
    read(mine)
    look(mine)
    days = VenueFigure.objects.filter(name="dailyUserVlm")
    assert days.filter(from_at__date=NOW.date()).get().usd == 2 * BUY
    assert days.count() == 16  # the oldest is no longer told, and kept
    assert VenueFigure.objects.filter(name="portfolio.perpWeek").count() == 1
    assert VenueFigure.objects.filter(name="userRateLimit.cumVlm").count() == 2


def test_asking_twice_in_the_same_moment_stores_the_same_once(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR)])
    mine = account()
    look(mine)
    before = VenueFigure.objects.count()
    look(mine)
    assert VenueFigure.objects.count() == before == 15 + 8 + 1


def test_what_is_older_than_400_days_is_forgotten(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR)])
    mine = account()
    old = VenueFigure(
        credential=mine, name="dailyUserVlm", from_at=NOW - 402 * DAY, until_at=NOW - 401 * DAY, usd=1, seen_at=NOW
    )
    old.save()
    look(mine)
    assert not VenueFigure.objects.filter(pk=old.pk).exists()


def test_older_windows_are_compared_when_they_are_asked_for(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - 100 * DAY)])
    mine = account()
    midnight = (NOW - 100 * DAY).replace(hour=0)
    VenueFigure.objects.create(
        credential=mine, name="dailyUserVlm", from_at=midnight, until_at=midnight + DAY, usd=BUY, seen_at=NOW
    )
    assert compared(mine) == {}
    (old,) = reconcile.compare(mine, now=NOW, since=NOW - 200 * DAY)
    assert old.state == State.AGREES


# --- Trouble ---------------------------------------------------------------------------------------------------------


def numbers() -> list[Any]:
    """All that is ours, and how the accounts fare."""
    return [
        [
            {name: value for name, value in one.items() if name not in ("secrets", "version")}
            for one in model.objects.order_by("pk").values()
        ]
        for model in (Fill, DailyVolume, Coverage, SyncRun, ExchangeCredential)
    ]


@pytest.mark.parametrize("trouble", ["down", "slow down", "rubbish", "html", "hang up", "time out"])
def test_a_venue_in_trouble_leaves_a_line_in_the_log_and_everything_as_it_was(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR)])
    mine = account()
    look(mine)
    before, stored = numbers(), list(VenueFigure.objects.values())
    match trouble:
        case "down":
            sandbox.hyperliquid.fail()
        case "slow down":
            sandbox.hyperliquid.rate_limit(times=None)
        case "rubbish":
            sandbox.hyperliquid.fail(200, b'[["perpDay", 5]]', {"content-type": "application/json"})
        case "html":
            sandbox.hyperliquid.html(times=None)
        case "hang up":
            sandbox.hyperliquid.hang_up(times=None)
        case "time out":
            sandbox.hyperliquid.time_out(times=None)
    with caplog.at_level(logging.WARNING, "perpdash.reconcile"):
        assert not reconcile.fetch(mine, now=timezone.now())
    (line,) = (record.getMessage() for record in caplog.records if record.name == "perpdash.reconcile")
    assert line.startswith("Hyperliquid · Main: its own figures could not be fetched")
    assert ME not in line
    assert numbers() == before
    assert list(VenueFigure.objects.values()) == stored


def test_a_person_who_asks_now_is_told_what_is_wrong(sandbox: Sandbox) -> None:
    mine = account(DEMO_TRADER, history_from=NOW - DAY)
    sandbox.hyperliquid.fail()
    with pytest.raises(VenueUnavailable):
        reconcile.ask_now(mine, now=timezone.now())


def test_fetching_and_comparing_write_none_of_our_numbers(sandbox: Sandbox) -> None:
    factories.shorten(sandbox, days=20, now=NOW)
    main = account(DEMO_TRADER, history_from=NOW - 30 * DAY)
    account(DEMO_SUB, label="Grid", history_from=NOW - 30 * DAY)
    before = numbers()
    look(main)
    found = reconcile.compare(main, now=NOW)
    assert {one.state for one in found} == {State.AGREES, State.DIFFERS}
    assert numbers() == before


def test_whoever_trades_only_what_agrees_is_told_so_by_the_demo(sandbox: Sandbox) -> None:
    factories.shorten(sandbox, days=20, now=NOW)
    main = account(DEMO_TRADER, history_from=NOW - 30 * DAY)
    account(DEMO_SUB, label="Grid", history_from=NOW - 30 * DAY)
    look(main)
    found = compared(main)
    assert found["portfolio.perpWeek"].state == found["portfolio.perpAllTime"].state == State.AGREES
    for one in found.values():
        assert one.state == State.AGREES or "Spot" in words(one)


def test_an_account_that_was_removed_meanwhile_stores_nothing(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR)])
    mine = account()
    gone = ExchangeCredential.objects.get(pk=mine.pk)
    mine.delete()
    assert reconcile.fetch(gone, now=NOW)
    assert not VenueFigure.objects.exists()


def test_a_spent_budget_is_left_to_the_readings(clock: Any, sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR)])
    mine = account()
    sandbox.hyperliquid.rate_limit(times=1, retry_after=60)
    started = timezone.now()
    assert not reconcile.fetch(mine, now=started)
    assert timezone.now() - started < timedelta(seconds=3)


# --- Dollars ---------------------------------------------------------------------------------------------------------


def test_stablecoins_are_a_dollar_each_whatever_the_pages_count(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - DAY), row(NOW - HOUR, 2)])
    mine = account()
    look(mine)
    Preferences.objects.create(owner=mine.owner, stablecoins_at_market=True)
    rebuild_all(mine)  # without a price of USDC: the days hold no dollars at all
    assert not sum(day.notional_usd for day in DailyVolume.objects.all())
    day = compared(mine)["dailyUserVlm 20"]
    assert (day.state, day.ours) == (State.AGREES, BUY)
    assert day.reasons == ("Stablecoins are a dollar each here; your other pages count them at market value.",)


def test_a_fill_without_a_price_is_a_reason(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - DAY), row(NOW - DAY, 2, coin="gone:ETH", feeToken="XYZ")])
    mine = account()
    look(mine)
    day = compared(mine)["dailyUserVlm 20"]
    assert (day.state, day.ours) == (State.DIFFERS, BUY)
    assert "1 fill without a price in dollars, not in our sum." in day.reasons


# --- Beat ------------------------------------------------------------------------------------------------------------


def queued() -> list[tuple[str, Any]]:
    """What waits in the queue, which is then empty."""
    with celery_app.connection_for_read() as connection:
        queue = connection.SimpleQueue(celery_app.conf.task_default_queue)
        found: list[tuple[str, Any]] = []
        while True:
            try:
                message = queue.get(block=False)
            except queue.Empty:
                return found
            message.ack()
            found.append((message.headers["task"], message.payload[0]))


@pytest.fixture
def empty_queue() -> None:
    queued()


def ready(number: int, venue: str = "hyperliquid", **fields: Any) -> ExchangeCredential:
    secrets = (
        {"address": f"0x{number:040x}"} if venue == "hyperliquid" else {"api_key": "k" * 20, "api_secret": "s" * 40}
    )
    return factories.credential(venue, label=f"{number}", secrets=secrets, **{"fresh_at": NOW} | fields)


def figure(credential: ExchangeCredential, seen_at: datetime) -> None:
    VenueFigure.objects.create(
        credential=credential, name="dailyUserVlm", from_at=seen_at - DAY, until_at=seen_at, usd=0, seen_at=seen_at
    )


def test_figures_a_day_old_and_those_never_fetched_are_due(clock: Any) -> None:
    fresh, old, never = ready(1), ready(2), ready(3)
    figure(fresh, NOW - 23 * HOUR)
    figure(old, NOW - 24 * HOUR)
    figure(old, NOW - 48 * HOUR)
    assert reconcile.due(now=NOW) == [old.pk, never.pk]


@pytest.mark.parametrize(
    "fields",
    [{"is_enabled": False}, {"health_state": "rejected"}, {"retired_at": NOW}, {"fresh_at": None}],
    ids=["paused", "rejected", "history only", "not read yet"],
)
def test_an_account_nobody_reads_is_not_asked_about(clock: Any, fields: dict[str, Any]) -> None:
    ready(1, **fields)
    assert reconcile.due(now=NOW) == []


def test_a_venue_that_publishes_nothing_is_not_asked(clock: Any) -> None:
    ready(1, "bybit")
    assert reconcile.due(now=NOW) == []


def test_a_few_of_each_venue_are_asked_in_a_round_the_oldest_first(clock: Any) -> None:
    many = [ready(number) for number in range(1, 9)]
    for age, credential in enumerate(many[2:]):
        figure(credential, NOW - timedelta(days=2 + age))
    assert reconcile.due(now=NOW) == [credential.pk for credential in many[:2:-1]]


def test_beat_hands_out_what_is_due_and_a_worker_fetches_it(sandbox: Sandbox, empty_queue: None) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR)])
    mine = account()
    tasks.fetch_figures()
    assert queued() == [("volume.tasks.fetch_figures_of", [mine.pk])]
    tasks.fetch_figures_of(mine.pk)
    assert VenueFigure.objects.filter(credential=mine).exists()
    tasks.fetch_figures()
    assert queued() == []
    mine.delete()
    tasks.fetch_figures_of(mine.pk or 0)


# --- API and page ----------------------------------------------------------------------------------------------------

URL = "/api/v1/reconciliation/"


def test_the_api_tells_what_the_page_tells(sandbox: Sandbox, client: Any) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR), spot(NOW - HOUR)])
    mine = account()
    look(mine)
    client.force_login(mine.owner)
    answer = client.get(URL, {"credential": mine.pk}).json()
    assert answer["count"] == len(reconcile.compare(mine, now=NOW))
    today = next(item for item in answer["results"] if item["label"] == "21 Nov 2026 (UTC), up to 12:00")
    assert {key: today[key] for key in ("theirs_usd", "ours_usd", "difference_usd", "state")} == {
        "theirs_usd": "100400", "ours_usd": "100000", "difference_usd": "400", "state": "differs",
    }  # fmt: skip
    assert today["markets"] == [{"market": "BTC", "usd": "100000"}]
    assert (today["since"], today["until"]) == ("2026-11-21T00:00:00+00:00", "2026-11-21T12:00:00+00:00")
    life = next(item for item in answer["results"] if item["name"] == "portfolio.perpAllTime")
    assert (life["since"], life["state"], life["credential"]) == (None, "agrees", mine.pk)
    json.dumps(answer)


def test_the_api_tells_nobody_elses(sandbox: Sandbox, client: Any) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR)])
    mine = account()
    look(mine)
    client.force_login(factories.user("eve"))
    assert client.get(URL).json()["count"] == 0
    assert client.get(URL, {"credential": mine.pk}).json()["count"] == 0
    client.logout()
    assert client.get(URL).status_code == 401


@pytest.mark.parametrize("query", [{"credential": "x"}, {"since": "yesterday"}])
def test_the_api_refuses_what_it_does_not_understand(client: Any, query: dict[str, str]) -> None:
    client.force_login(factories.user())
    answer = client.get(URL, query)
    assert answer.status_code == 400
    assert next(iter(query)) in answer.json()["error"]["details"]


def test_the_api_goes_further_back_when_asked(sandbox: Sandbox, client: Any) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR)])
    mine = account()
    figure(mine, datetime(2026, 9, 2, tzinfo=UTC))
    client.force_login(mine.owner)
    assert client.get(URL).json()["count"] == 0
    assert client.get(URL, {"since": "2026-09-01"}).json()["count"] == 1


def test_the_page_says_it_in_words(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - 2 * DAY), row(NOW - HOUR, 2), spot(NOW - HOUR)])
    mine = account()
    look(mine)
    page = shown(mine)
    assert "Hyperliquid publishes the volume" in page
    assert "20 Nov 2026 (UTC)" in page
    assert "differs by +$400.00" in page
    assert "Theirs $100,400.00 · here $100,000.00" in page
    assert "Where to look: BTC $100,000.00." in page
    assert f'href="/accounts/{mine.pk}/fills/?day=2026-11-21"' in page
    assert "agrees" in page
    assert "can’t be compared yet" not in page


def test_a_reason_is_no_markup(sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(NOW - HOUR)])
    sandbox.hyperliquid.add(SUB, rows=[row(NOW - HOUR, 2)], role="subAccount", of=ME, name="<b>grid</b>")
    mine = account()
    look(mine)
    assert "&lt;b&gt;grid&lt;/b&gt;" in shown(mine)


@pytest.mark.parametrize("venue", ["bybit", "woox"])
def test_a_venue_that_publishes_nothing_says_so(clock: Any, sandbox: Sandbox, venue: str) -> None:
    mine = factories.credential(venue, secrets=sandbox.venues[venue].demo_accounts[0][1])
    assert reconcile.fetch(mine, now=NOW)
    assert reconcile.compare(mine, now=NOW) == []
    page = shown(mine)
    assert "publishes no volume of an account that could be compared." in page
    assert "So far there is nothing here to compare with." in page


def shown(credential: ExchangeCredential) -> str:
    figures = reconcile.compare(credential, now=timezone.now())
    note = VENUES[credential.venue].figures_note
    return render_to_string("volume/_figures.html", {"figures": figures, "figures_note": note})
