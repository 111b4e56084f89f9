"""Days added up: whatever is looked at is the same with and without, and what changed is not looked at."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from exchanges.models import ExchangeCredential, Fill
from exchanges.venues.base import Kind
from tests import factories
from volume import glance, periods, queries
from volume.history import History, calendar
from volume.models import AddedUp, DailyVolume, HourVolume, PeriodVolume, Preferences
from volume.proof import prove_account
from volume.queries import KEYS, Filter
from volume.rollup import rebuild_all, rebuild_days
from volume.scope import Scope
from volume.tasks import bring_up_to_date

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC)
TODAY = NOW.date()
MARKETS = ("BTC", "ETH", "HYPE")
KINDS = (Kind.TRADE, Kind.TRADE, Kind.TWAP, Kind.LIQUIDATION)


def fill(account: ExchangeCredential, number: int, at: datetime, **changes: Any) -> Fill:
    chance = Random(number)
    values = {
        "symbol": chance.choice(MARKETS), "base": "X", "quote": chance.choice(("USDC", "USDC", "EUR")),
        "side": chance.choice(("buy", "sell")), "liquidity": chance.choice(("maker", "taker")),
        "kind": chance.choice(KINDS), "price": Decimal(10), "qty": Decimal(chance.randrange(1, 99)).scaleb(-9),
        "notional": Decimal(chance.randrange(1, 10**12)).scaleb(-8), "fee": Decimal(chance.randrange(99)).scaleb(-5),
        "fee_asset": chance.choice(("USDC", "BNB")),
    }  # fmt: skip
    return Fill(
        credential=account, fill_id=str(number), executed_at=at, day=at.date(), realized_pnl=None, **values | changes
    )


def store(account: ExchangeCredential, *fills: Fill) -> None:
    """As a page is stored: the days follow in the same transaction."""
    with transaction.atomic():
        account.lock()
        Fill.objects.bulk_create(fills)
        rebuild_days(account, {(one.day, one.symbol) for one in fills})


def account_of(label: str, **fields: Any) -> ExchangeCredential:
    return factories.credential(label=label, secrets={"address": f"0x{label.encode().hex():0>40}"}, **fields)


@pytest.fixture
def accounts() -> list[ExchangeCredential]:
    """Two, with some hundred fills over 200 days each, and a gap of some weeks."""
    found = [account_of(label) for label in ("One", "Two")]
    for account in found:
        chance = Random(account.label)
        moments = (NOW - timedelta(seconds=chance.randrange(200 * 86_400)) for _ in range(250))
        fills = [fill(account, number, at) for number, at in enumerate(moments) if at.month != 8]
        store(account, *fills)
    return found


def shown(owner_id: int) -> dict[str, Any]:
    """Everything that is computed of days."""
    found: dict[str, Any] = {"summary": glance.summary(owner_id, now=NOW) | {"accounts": None}}
    spans = [
        (None, None),
        (TODAY - timedelta(days=89), TODAY + timedelta(days=1)),
        (date(2026, 7, 3), date(2026, 9, 15)),
    ]
    for since, until in spans:
        for markets in ((), ("BTC",)):
            wanted = Filter(owner_id=owner_id, since=since, until=until, markets=markets)
            found[f"kinds {since} {markets}"] = queries.kinds(wanted)
            for by in ((), *((key,) for key in KEYS), ("day", "market"), ("day", "credential"), ("venue", "market")):
                for granularity in ("day", "week", "month") if "day" in by else ("day",):
                    rows = queries.volume(wanted, by=by, granularity=granularity, now=NOW)
                    found[f"{by} {granularity} {since} {markets}"] = rows
    for stacked, range_name in (("venue", "30d"), ("market", "90d"), ("market", "2y"), ("account", "2y")):
        scope = Scope.parse({"by": stacked, "range": range_name}, owner_id, now=NOW)
        part = History(scope, now=NOW)
        found[f"page {stacked} {range_name}"] = (part.series(), part.markets(), part.kinds(), calendar(part))
    return found


def check(account: ExchangeCredential) -> None:
    """What is added up is what the days come to, and all that is shown is the same without it."""
    assert [asdict(difference) for difference in periods.differences(account)] == []
    with_periods = shown(account.owner_id)
    kept = list(AddedUp.objects.values())
    AddedUp.objects.all().delete()
    without = shown(account.owner_id)
    AddedUp.objects.bulk_create(AddedUp(**row) for row in kept)
    assert kept
    assert with_periods == without


@pytest.mark.parametrize("counts_forced", [False, True])
def test_everything_is_the_same_with_and_without(accounts: list[ExchangeCredential], counts_forced: bool) -> None:
    Preferences.objects.create(owner=accounts[0].owner, counts_forced=counts_forced)
    for account in accounts:
        assert periods.add_up(account, today=TODAY) > 50
    assert PeriodVolume.objects.filter(step="month").exists() and HourVolume.objects.exists()
    check(accounts[0])


def test_an_account_that_is_not_added_up_is_read_day_by_day(accounts: list[ExchangeCredential]) -> None:
    periods.add_up(accounts[0], today=TODAY)
    check(accounts[0])


def test_what_changed_since_is_read_itself_until_it_is_added_up_again(accounts: list[ExchangeCredential]) -> None:
    for account in accounts:
        periods.add_up(account, today=TODAY)
    one = accounts[0]
    late = NOW - timedelta(days=40, hours=3)
    store(one, fill(one, 9001, NOW), fill(one, 9002, late), fill(one, 9003, NOW - timedelta(days=1)))
    changed = {NOW.date(), late.date(), (NOW - timedelta(days=1)).date()}
    assert {date.fromisoformat(day) for day in AddedUp.objects.get(credential=one).changed} == changed
    check(one)
    assert periods.waiting(TODAY) == [one]
    periods.add_up(one, today=TODAY)
    assert not periods.waiting(TODAY)
    check(one)


def test_a_change_that_is_rolled_back_was_none(accounts: list[ExchangeCredential]) -> None:
    one = accounts[0]
    periods.add_up(one, today=TODAY)
    before = AddedUp.objects.get(credential=one).changed

    class _Broken(Exception):
        pass

    with suppress(_Broken), transaction.atomic():
        store(one, fill(one, 9001, NOW - timedelta(days=40)))
        raise _Broken
    assert AddedUp.objects.get(credential=one).changed == before
    check(one)


def test_days_that_are_rebuilt_from_nothing_take_their_periods_with_them(accounts: list[ExchangeCredential]) -> None:
    one = accounts[0]
    stray = DailyVolume.objects.create(credential=one, day=date(2026, 3, 3), symbol="LUNA", fills=1, notional_usd=5)
    periods.add_up(one, today=TODAY)
    assert PeriodVolume.objects.filter(credential=one, symbol="LUNA").count() == 2
    rebuild_all(one)
    assert not DailyVolume.objects.filter(pk=stray.pk).exists()
    periods.add_up(one, today=TODAY)
    assert not PeriodVolume.objects.filter(credential=one, day__year=2026, day__month=3).exists()
    check(one)


def test_a_wrong_period_is_named(accounts: list[ExchangeCredential]) -> None:
    one = accounts[0]
    periods.add_up(one, today=TODAY)
    month = PeriodVolume.objects.filter(credential=one, step="month", symbol="BTC").first()
    assert month
    honest = month.notional_usd
    PeriodVolume.objects.filter(pk=month.pk).update(notional_usd=honest + Decimal("0.00000001"))
    hour = HourVolume.objects.filter(credential=one).first()
    assert hour
    hour.delete()
    found = [said for said in prove_account(one, NOW) if said.startswith("Added up")]
    assert found[0].startswith(f"Added up, month of {month.day} BTC: notional_usd is")
    assert any(
        f"{hour.hour_at:%H:%M} of {hour.hour_at.date()} {hour.quote}: fills is missing" in said for said in found
    )


def test_beat_adds_up(accounts: list[ExchangeCredential]) -> None:
    bring_up_to_date()
    assert {row.credential for row in AddedUp.objects.all()} == set(accounts)
    assert not [*periods.differences(accounts[0])]


DAYS = st.dates(date(2024, 1, 1), date(2024, 6, 30))


@given(since=DAYS, until=DAYS, changed=st.lists(DAYS, max_size=5), step=st.sampled_from(["", "week", "month", "day"]))
def test_whole_periods_and_the_rest_are_each_day_once(since: date, until: date, changed: list[date], step: str) -> None:
    rest: list[periods.Stretch] = [(since, until)]
    seen: list[date] = []
    for one in periods.STEPS_BY[step]:
        taken, rest = periods._whole_periods(rest, one, sorted(changed))
        for first, end in taken:
            assert first == periods.first_of(first, one) and end == periods.first_of(end, one)
            days = periods._days([(first, end)])
            assert not {periods.first_of(day, one) for day in changed} & set(days)
            seen += days
    assert sorted([*seen, *periods._days(rest)]) == periods._days([(since, until)])


@pytest.fixture
def counted(accounts: list[ExchangeCredential]) -> Callable[[str], int]:
    client = Client()
    client.force_login(accounts[0].owner)

    def ask(url: str) -> int:
        client.get(url)  # what is noted of a session, once in a while
        with CaptureQueriesContext(
            connection,
        ) as asked:
            assert client.get(url).status_code == 200
        return len(asked)

    return ask


@pytest.mark.parametrize(
    "url",
    [
        "/",
        "/?range=2y&by=market",
        "/series/?by=account",
        "/api/v1/volume/daily/?group_by=day,market",
        "/day/2026-11-20/",
    ],
)
def test_more_accounts_markets_and_days_ask_no_more_of_the_database(
    accounts: list[ExchangeCredential], counted: Callable[[str], int], url: str
) -> None:
    for account in accounts:
        periods.add_up(account, today=TODAY)
    few = counted(url)
    for number in range(5):
        more = account_of(f"More {number}", owner=accounts[0].owner)
        at = NOW - timedelta(days=20 + number)
        store(more, *(fill(more, place, at - timedelta(days=place), symbol=f"M{place}") for place in range(60)))
        periods.add_up(more, today=TODAY)
    assert counted(url) <= few


@pytest.mark.parametrize("granularity", ["day", "week", "month"])
@pytest.mark.parametrize(
    "by",
    [("day", "market"), ("day", "venue", "market"), ("day", "market", "credential"), ("market", "day"), ("day",), ()],
)
def test_a_page_of_rows_is_cut_from_the_whole(
    accounts: list[ExchangeCredential], by: tuple[str, ...], granularity: str
) -> None:
    periods.add_up(accounts[0], today=TODAY)
    for since, until, markets in ((None, None, ()), (date(2026, 7, 3), date(2026, 9, 15), ("BTC", "ETH"))):
        wanted = Filter(owner_id=accounts[0].owner_id, since=since, until=until, markets=markets)
        whole = queries.volume(wanted, by=by, granularity=granularity, now=NOW)
        rows = queries.VolumeRows(wanted, by=by, granularity=granularity, now=NOW)
        assert len(rows) == len(whole)
        for start in (0, 1, len(whole) // 2, max(0, len(whole) - 3), len(whole), len(whole) + 5):
            assert rows[start : start + 7] == whole[start : start + 7]
    assert list(queries.VolumeRows(Filter(owner_id=0), by=by, now=NOW)[:5]) == []
