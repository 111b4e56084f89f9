"""Volume over time, of any scope: what an address asks for, and that every part of a page agrees with the others."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from exchanges.models import ExchangeCredential, Fill
from exchanges.sandbox import Sandbox, bybit, hyperliquid
from exchanges.venues.base import FORCED
from tests import factories
from tests.conftest import NOW
from volume import fills as listing
from volume.fills import FillList, fills_of
from volume.glance import SPANS, change, summary
from volume.history import History, calendar, period_rows, share_of
from volume.models import DailyVolume, Preferences
from volume.queries import Filter
from volume.refresh import refresh
from volume.rollup import rebuild_all
from volume.scope import Scope

pytestmark = pytest.mark.django_db
ME = "0x00000000000000000000000000000000000000aa"
DAY = timedelta(days=1)


@pytest.fixture
def owner(clock: Any, sandbox: Sandbox) -> Any:
    """Forty days of two venues, read."""
    factories.shorten(sandbox, days=40, now=NOW)
    made = factories.user()
    since = NOW.replace(hour=0) - 40 * DAY
    for venue, secrets in (("hyperliquid", {"address": hyperliquid.DEMO_TRADER}), ("bybit", bybit.MAIN)):
        account = factories.credential(venue, owner=made, secrets=secrets, history_from=since)
        refresh(account, now=NOW)
    return made


def scope(owner: Any, **query: str) -> Scope:
    return Scope.parse(query, owner.pk, now=NOW)


def history(owner: Any, **query: str) -> History:
    return History(scope(owner, **query), now=NOW)


def total(amounts: Any) -> Decimal:
    return sum(map(Decimal, amounts), Decimal(0))


# --- The address -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "first", "last", "step"),
    [
        ({}, date(2026, 8, 24), date(2026, 11, 21), "day"),
        ({"range": "7d"}, date(2026, 11, 15), date(2026, 11, 21), "day"),
        ({"range": "1y"}, date(2025, 11, 17), date(2026, 11, 21), "week"),
        ({"range": "2y", "step": "month"}, date(2024, 11, 1), date(2026, 11, 21), "month"),
        ({"range": "never"}, date(2026, 8, 24), date(2026, 11, 21), "day"),
        ({"from": "2026-03-03", "to": "2026-03-05"}, date(2026, 3, 3), date(2026, 3, 5), "day"),
        ({"from": "2026-03-05", "to": "2026-03-03"}, date(2026, 3, 3), date(2026, 3, 5), "day"),
        ({"from": "2026-11-01", "to": "2030-01-01"}, date(2026, 11, 1), date(2026, 11, 21), "day"),
        ({"from": "0001-01-01", "step": "day"}, date(2014, 12, 29), date(2026, 11, 21), "week"),
        ({"from": "2010-01-01", "to": "2010-02-01"}, date(2015, 1, 1), date(2015, 1, 1), "day"),
        ({"from": "2026-11-31"}, date(2026, 8, 24), date(2026, 11, 21), "day"),
    ],
)
def test_an_address_says_which_days_are_meant_and_nonsense_is_as_usual(
    query: dict[str, str], first: date, last: date, step: str, db: Any
) -> None:
    found = Scope.parse(query, 1, now=NOW)
    assert (found.first, found.last, found.step) == (first, last, step)
    assert found.periods[0] == first or found.step != "day"
    assert found.window(found.periods[-1], now=NOW).until <= NOW


def test_a_market_of_any_length_is_none_and_fills_no_memory(db: Any) -> None:
    found = Scope.parse({"market": "x" * 8_000}, 1, now=NOW)
    longest = Fill._meta.get_field("symbol").max_length
    assert len(found.market) == longest + 1
    assert len(calendar(History(found, now=NOW))["url"]) < 200


def test_days_of_the_readers_zone_begin_there_and_only_where_the_fills_can_be_added_up(db: Any) -> None:
    query = {"range": "30d", "days": "local", "tz": "Asia/Kolkata"}
    local = Scope.parse(query, 1, now=NOW)
    assert local.is_local
    assert local.start_of(date(2026, 11, 21)) == datetime(2026, 11, 20, 18, 30, tzinfo=UTC)
    assert not Scope.parse({**query, "range": "1y"}, 1, now=NOW).is_local
    assert not Scope.parse({**query, "tz": "../../etc/passwd"}, 1, now=NOW).is_local
    assert not Scope.parse({**query, "tz": "Mars/Olympus"}, 1, now=NOW).is_local


# --- The parts of the page -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["venue", "market", "account"])
@pytest.mark.parametrize("step", ["day", "week", "month"])
def test_however_it_is_cut_it_adds_up_to_the_same(owner: Any, by: str, step: str) -> None:
    part = history(owner, by=by, step=step, **{"from": "2026-11-01", "to": "2026-11-21"})
    shown = part.series()
    days = DailyVolume.objects.filter(day__gte=part.scope.floor)
    expected = sum((day.notional_usd for day in days), Decimal(0))
    assert total(shown["total_usd"]) == expected > 0
    assert sum((total(stack["notional_usd"]) for stack in shown["stacks"]), Decimal(0)) == expected
    assert total(shown["maker_usd"]) + total(shown["taker_usd"]) == expected
    assert Decimal(shown["cumulative_usd"][-1]) == expected
    assert sum(row["notional_usd"] for row in part.markets()) == expected
    assert sum(shown["fills"]) == sum(day.fills for day in days)
    assert {len(shown[name]) for name in ("days", "total_usd", "fills", "state", "why", "next")} == {len(shown["days"])}
    assert len(shown["stacks"]) <= 11


def test_local_days_come_to_the_same_as_utc_days_over_a_zone_without_a_shift(owner: Any) -> None:
    utc = history(owner, range="7d").series()
    same = history(owner, range="7d", days="local", tz="Africa/Abidjan")  # UTC all year
    assert same.scope.is_local
    shown = same.series()
    assert [Decimal(one) for one in shown["total_usd"]] == [Decimal(one) for one in utc["total_usd"]]
    assert [Decimal(one) for one in shown["fees_usd"]] == [Decimal(one) for one in utc["fees_usd"]]
    markets = {row["market"]: row["notional_usd"] for row in same.markets()}
    assert markets == {row["market"]: row["notional_usd"] for row in history(owner, range="7d").markets()}


def test_a_fill_of_the_evening_in_utc_is_of_the_next_day_in_india(clock: Any, sandbox: Sandbox) -> None:
    at = NOW.replace(hour=20, minute=0) - DAY
    sandbox.hyperliquid.add(ME, rows=[factories.hyperliquid_row(at)])
    account = factories.credential(secrets={"address": ME}, history_from=NOW - 10 * DAY)
    refresh(account, now=NOW)
    utc, local = (
        dict(zip(shown["days"], shown["total_usd"], strict=True))
        for shown in (
            factories.series(account.owner_id, now=NOW, range="7d"),
            factories.series(account.owner_id, now=NOW, range="7d", days="local", tz="Asia/Kolkata"),
        )
    )
    assert (utc["2026-11-20"], utc["2026-11-21"]) == ("100000", "0")
    assert (local["2026-11-20"], local["2026-11-21"]) == ("0", "100000")


@pytest.mark.parametrize("tz", ["Asia/Kolkata", "America/New_York", "Asia/Kathmandu"])
def test_days_of_another_zone_add_up_from_their_fills_on_every_part(owner: Any, client: Client, tz: str) -> None:
    part = history(owner, days="local", tz=tz, **{"from": "2026-11-10", "to": "2026-11-19"})
    window = part.scope.whole(now=NOW)
    fills = Fill.objects.filter(executed_at__gte=window.since, executed_at__lt=window.until).exclude(kind__in=FORCED)
    expected = sum(fill.notional for fill in fills)
    shown = part.series()
    assert total(shown["total_usd"]) == expected > 0
    assert sum(row["notional_usd"] for row in part.markets()) == expected
    assert part.series() == shown  # both are made of the same rows, which neither changes
    assert sum(shown["fills"]) == fills.count()
    day = max(zip(map(Decimal, shown["total_usd"]), shown["next"], strict=True))
    client.force_login(owner)
    listed = rows_of(client.get(f"{day[1]}&table=fills&format=csv"))
    assert total(row["notional"] for row in listed if row["kind"] not in ("liquidation", "adl")) == day[0]
    assert part.kinds() == []


def test_two_accounts_of_one_name_are_told_apart(owner: Any, sandbox: Sandbox, clock: Any) -> None:
    sandbox.hyperliquid.add(ME, rows=[factories.hyperliquid_row(NOW - DAY)])
    twin = factories.credential(owner=owner, secrets={"address": ME}, history_from=NOW - 40 * DAY)
    refresh(twin, now=NOW)
    names = [stack["name"] for stack in history(owner, by="account", range="30d").series()["stacks"]]
    assert len(set(names)) == 3
    rows = period_rows(history(owner, by="account", range="30d").series())
    assert all(total(row[name] for name in names) == Decimal(row["total_usd"]) for row in rows)


def test_an_account_that_is_not_here_has_nothing_that_could_be_complete(owner: Any) -> None:
    part = history(owner, account="999", range="7d")
    assert set(part.series()["state"]) == {"not_asked"}
    assert "complete" not in calendar(part)["state"][:-7]


def test_free_days_are_not_widened_by_the_step(owner: Any) -> None:
    part = history(owner, step="week", **{"from": "2026-11-04", "to": "2026-11-17"})
    days = DailyVolume.objects.filter(day__gte="2026-11-04", day__lte="2026-11-17")
    assert total(part.series()["total_usd"]) == sum(day.notional_usd for day in days)
    assert part.series()["days"][0] == "2026-11-02"


def test_filters_narrow_every_part(owner: Any) -> None:
    part = history(owner, range="30d", venue="bybit", by="market")
    assert {stack["venue"] for stack in part.series()["stacks"]} - {""} == {"bybit"}
    market = part.markets()[0]["market"]
    narrow = history(owner, range="30d", venue="bybit", market=market)
    assert total(narrow.series()["total_usd"]) == part.markets()[0]["notional_usd"]
    assert [chip["label"] for chip in narrow.scope.filters] == ["Bybit", market]
    shown = calendar(narrow)
    whole = DailyVolume.objects.filter(symbol=market, credential__venue="bybit")
    assert total(filter(None, shown["days"])) == sum(day.notional_usd for day in whole)
    assert shown["url"] == f"/day/{{day}}/?venue=bybit&market={market}"


def test_a_period_that_is_not_read_is_drawn_as_such_and_not_as_nothing(clock: Any, sandbox: Sandbox) -> None:
    account = factories.credential(history_from=NOW - 10 * DAY)
    shown = factories.series(account.owner_id, now=NOW, range="7d")
    assert set(shown["state"]) == {"unread"}
    assert all(shown["why"])


def test_the_calendar_has_two_years_from_a_monday_on(owner: Any) -> None:
    shown = calendar(History(scope(owner), now=NOW))
    first = date.fromisoformat(shown["first"])
    assert first.weekday() == 0
    assert len(shown["days"]) == len(shown["state"]) == 7 * 105
    today = (NOW.date() - first).days
    assert shown["days"][today] is not None
    assert set(shown["days"][today + 1 :]) == {None}


@pytest.mark.parametrize("sort", ["notional_usd", "-fills", "market", "-fee_rate", "maker_share", "-average_usd"])
def test_the_table_is_sorted_by_what_is_asked(owner: Any, sort: str) -> None:
    rows = history(owner, range="30d", sort=sort).markets()
    column = sort.removeprefix("-")
    values = [row[column] for row in rows]
    if column == "fee_rate":
        values = [row["fees_usd"] / row["notional_usd"] if row["notional_usd"] else 0 for row in rows]
    if column == "maker_share":
        values = [row["maker_usd"] / row["notional_usd"] if row["notional_usd"] else 0 for row in rows]
    if column == "market":
        values = [value.lower() for value in values]
    assert values == sorted(values, reverse=sort.startswith("-"))
    assert rows[0]["average_usd"] == (rows[0]["notional_usd"] / rows[0]["fills"]).quantize(Decimal("0.01"))


@pytest.mark.parametrize("days", ["utc", "local"])
def test_the_first_rows_of_the_table_are_those_of_the_whole_one(owner: Any, days: str) -> None:
    part = history(owner, range="30d", sort="-fills", days=days, tz="Asia/Kolkata")
    whole = part.markets()
    assert len(whole) == part.market_count > 3
    assert part.markets(most=3) == whole[:3]


def test_fifty_markets_are_shown_at_first_and_all_of_them_when_asked(owner: Any, client: Client, clock: Any) -> None:
    client.force_login(owner)
    day = DailyVolume.objects.latest("day", "pk")
    for number in range(60):
        day.pk, day.symbol, day.notional_usd = None, f"C{number}USDT", Decimal(number)
        day.save(force_insert=True)
    of_day = f"/day/{day.day}/"
    for address, whole in (("/?range=7d", None), (of_day, of_day)):
        page = client.get(address)
        count = page.context["market_count"]
        assert len(page.context["markets"]) == 50 < count
        assert f"The first 50 of {count} markets, as sorted." in page.content.decode()
        more = client.get(f"{address}{'&' if '?' in address else '?'}markets=all")
        assert len(more.context["markets"]) == count
        assert len(rows_of(client.get(f"{whole or '/'}?range=7d&format=csv"))) == count
    shown = client.get("/series/?range=7d").json()
    assert (len(shown["markets"]), shown["market_count"]) == (50, client.get("/?range=7d").context["market_count"])
    assert len(client.get("/series/?range=7d&markets=all").json()["markets"]) == shown["market_count"]


@pytest.mark.parametrize("at_once", [200, 1])
def test_fills_are_listed_newest_first_over_all_accounts_however_far_down(
    owner: Any, at_once: int, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(listing, "MOST_AT_ONCE", at_once)  # with more accounts it is one plain question
    accounts = list(ExchangeCredential.objects.all())
    first, second = (account.fills.order_by("executed_at", "pk") for account in accounts)
    second.update(executed_at=first[5].executed_at, day=first[5].day)  # the same moment in both, very often
    for account in accounts:
        rebuild_all(account)
    days = Filter(owner_id=owner.pk, since=NOW.date() - 30 * DAY, until=NOW.date() + DAY)
    for wanted in (days, replace(days, markets=(first[0].symbol,)), replace(days, venues=("bybit",))):
        listed, expected = FillList(wanted), list(fills_of(wanted))
        assert listed.count() == len(expected) > 20
        for start in (0, 7, len(expected) // 2, len(expected) - 3):
            found = listed[start : start + 5]
            assert [vars_of(fill) for fill in found] == [vars_of(fill) for fill in expected[start : start + 5]]
            with django_assert_num_queries(0):
                assert all(fill.credential.venue_name for fill in found)


def vars_of(fill: Fill) -> dict[str, Any]:
    return {field.attname: getattr(fill, field.attname) for field in Fill._meta.concrete_fields}


def test_a_day_says_which_of_its_fills_are_not_in_its_volume(browser: Client, owner: Any) -> None:
    fill = Fill.objects.latest("executed_at")
    words, page = "of which 1 forced and not in the volume", f"/day/{fill.day}/"
    assert words not in browser.get(page).content.decode()
    Fill.objects.filter(pk=fill.pk).update(kind="liquidation")
    rebuild_all(fill.credential)
    assert words in browser.get(page).content.decode()
    Preferences.objects.create(owner=owner, counts_forced=True)
    assert words not in browser.get(page).content.decode()


# --- At a glance -----------------------------------------------------------------------------------------------------


def test_every_span_is_compared_with_the_same_stretch_before(owner: Any) -> None:
    totals = summary(owner.pk, now=NOW)["totals"]
    assert list(totals) == list(SPANS)
    assert totals["all"]["before"] is None
    week = totals["7d"]["before"]
    assert (week["since"], week["until"]) == ("2026-11-08T00:00:00+00:00", "2026-11-14T12:00:00+00:00")
    account_ids = [account.pk for account in ExchangeCredential.objects.all()]
    fills = Fill.objects.filter(
        credential__in=account_ids, executed_at__gte=week["since"], executed_at__lt=week["until"]
    ).exclude(kind__in=FORCED)
    expected = sum((fill.notional for fill in fills), Decimal(0))
    assert Decimal(week["notional_usd"]) == expected
    month = totals["month"]
    assert (month["since"], month["before"]["since"]) == ("2026-11-01T00:00:00+00:00", "2026-10-01T00:00:00+00:00")
    assert totals["7d"]["before"]["change"] == change(Decimal(totals["7d"]["notional_usd"]), expected)


def test_the_last_day_with_volume_is_known_however_long_ago_it_was(owner: Any) -> None:
    last = DailyVolume.objects.latest("day").day
    for now in (NOW, NOW + 500 * DAY):
        assert summary(owner.pk, now=now)["last_changed_day"] == last.isoformat()
    Fill.objects.all().delete()
    DailyVolume.objects.all().delete()
    assert summary(owner.pk, now=NOW)["last_changed_day"] is None


@pytest.mark.parametrize(
    ("now_usd", "before_usd", "said"),
    [("112.34", "100", "+12.3%"), ("5", "10", "−50.0%"), ("9", "9", "0.0%"), ("5", "0", ""), ("30", "1", "+2,900.0%")],
)  # fmt: skip
def test_a_change_is_said_in_per_cent(now_usd: str, before_usd: str, said: str) -> None:
    assert change(Decimal(now_usd), Decimal(before_usd)) == said


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [("1", "3", "33.3%"), ("0", "5", "0.0%"), ("0.0001", "5", "<0.1%"), ("5", "5", "100.0%"), ("5", "0", "")],
)
def test_a_share_of_nothing_is_not_a_number(part: str, whole: str, text: str) -> None:
    assert share_of(Decimal(part), Decimal(whole)) == text


# --- Down and out ----------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(owner: Any, client: Client) -> Client:
    client.force_login(owner)
    return client


def rows_of(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 200
    assert "attachment" in answer["Content-Disposition"]
    content = answer.content if not answer.streaming else streamed(answer)
    return list(csv.DictReader(io.StringIO(content.decode())))


def streamed(answer: Any) -> bytes:
    with pytest.warns(Warning, match="must consume asynchronous iterators"):  # this client is no async one
        return b"".join(answer)


def test_what_is_on_screen_comes_out_as_csv_and_json_alike(browser: Client, owner: Any) -> None:
    markets = rows_of(browser.get("/?range=30d&format=csv"))
    shown = history(owner, range="30d").markets()
    assert [row["market"] for row in markets] == [row["market"] for row in shown]
    assert total(row["notional_usd"] for row in markets) == sum(row["notional_usd"] for row in shown)
    assert json.loads(browser.get("/?range=30d&format=json").content)[0]["market"] == shown[0]["market"]
    periods = rows_of(browser.get("/?range=30d&table=periods&format=csv"))
    assert total(row["total_usd"] for row in periods) == total(history(owner, range="30d").series()["total_usd"])
    assert browser.get("/?format=xls").status_code == 404


def test_a_day_is_followed_down_to_its_fills(browser: Client, owner: Any) -> None:
    series = history(owner, range="7d").series()
    day = max(zip(series["total_usd"], series["days"], strict=True), key=lambda pair: Decimal(pair[0]))[1]
    at = series["days"].index(day)
    assert series["next"][at] == f"/day/{day}/"
    markets = rows_of(browser.get(f"/day/{day}/?format=csv"))
    assert total(row["notional_usd"] for row in markets) == Decimal(series["total_usd"][at])
    market = markets[0]
    fills = rows_of(
        browser.get(f"/day/{day}/?venue={market['venue']}&market={market['market']}&table=fills&format=csv")
    )
    volume = total(row["notional"] for row in fills if row["kind"] not in ("liquidation", "adl"))
    assert volume == Decimal(market["notional_usd"])
    assert browser.get("/day/2030-01-01/").status_code == 404
    assert browser.get("/day/soon/").status_code == 404


def test_nobody_sees_the_days_of_others(browser: Client) -> None:
    browser.force_login(factories.user("eve"))
    assert browser.get("/day/2026-11-20/?format=json").json() == []
    account = ExchangeCredential.objects.first()
    assert browser.get(f"/?account={account.pk}&format=json").json() == []
