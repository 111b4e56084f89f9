"""Figures are written exactly: rounding is half-even, on decimals, and only for the eye."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from volume.templatetags import volume_format as shown


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Decimal("1234567.89"), "$1,234,567.89"),
        ("64475338.473459", "$64,475,338.47"),
        ("0.125", "$0.12"),
        ("0.135", "$0.14"),
        ("2.675", "$2.68"),  # a binary float would say 2.67
        (Decimal("0E-8"), "$0.00"),
        ("-12.5", "−$12.50"),
        ("-0.001", "$0.00"),
        ("92233720368547758079999.99", "$92,233,720,368,547,758,079,999.99"),
        (None, ""),
    ],
)
def test_dollars_are_shown_to_the_cent(amount, text):
    assert shown.usd(amount) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (Decimal(1), Decimal(3), "33.3%"),
        ("0", "5", "0.0%"),
        ("0.0001", "5", "<0.1%"),
        ("5", "5", "100.0%"),
        ("5", "0", ""),
        (None, "1", ""),
    ],
)
def test_a_share_of_nothing_is_not_a_number(part, whole, text):
    assert shown.share(part, whole) == text


def test_the_exact_value_has_no_exponent():
    assert shown.plain(Decimal("6179478.90702000")) == "6179478.90702"
    assert shown.plain(Decimal("1E+3")) == "1000"


def test_a_column_is_summed_without_rounding():
    rows = [{"usd": Decimal("92233720368547758079999.99999999")}, {"usd": Decimal("0.00000001")}]
    assert shown.total(rows, "usd") == Decimal(92233720368547758080000)


def test_times_are_utc():
    assert shown.utc("2026-05-19T07:13:49.745000+02:00") == "2026-05-19 05:13 UTC"
    assert shown.utc_day("2026-05-19") == "19 May 2026"
    assert shown.utc_day(date(2026, 1, 2)) == "2 Jan 2026"
    assert shown.utc_day(datetime(2026, 1, 2, tzinfo=UTC)) == "2 Jan 2026"
    assert shown.utc(None) == ""


def test_counts_have_separators():
    assert shown.count(11512) == "11,512"


def test_progress_reaches_100_only_at_the_end():
    assert [shown.percent(value) for value in (0, 0.4266, 0.9999, 1.0)] == [0, 42, 99, 100]


def account(**changes):
    return {
        "is_enabled": True,
        "health": {"state": "works", "reason": ""},
        "may_trade": False,
        "may_withdraw": False,
        "expires_at": None,
        "held": 0,
        "lacks": [],
        "history_from": (timezone.now() - timedelta(days=100)).isoformat(),
    } | changes


def lack(state, since, until):
    now = timezone.now()
    return {
        "state": state,
        "from": (now - timedelta(days=since)).isoformat(),
        "until": (now - timedelta(days=until)).isoformat(),
    }


@pytest.mark.parametrize(
    ("changes", "tone"),
    [
        ({}, "ok"),
        ({"is_enabled": False}, "off"),
        ({"health": {"state": "rejected"}}, "bad"),
        ({"health": {"state": "unavailable"}}, "warn"),
        ({"held": 1}, "warn"),
        ({"lacks": [lack("gap", 5, 4)]}, "warn"),
        ({"lacks": [lack("out_of_reach", 5, 4)]}, "note"),
        ({"expires_at": (timezone.now() + timedelta(days=13)).isoformat()}, "warn"),
        ({"expires_at": (timezone.now() + timedelta(days=15)).isoformat()}, "ok"),
    ],
)
def test_what_an_account_lacks_sets_its_tone(changes, tone):
    assert shown.tone(account(**changes)) == tone


def test_the_main_lack_is_the_one_closest_to_now():
    near, far = lack("gap", 10, 5), lack("out_of_reach", 100, 50)
    assert shown.main_lack(account(lacks=[near, far])) is near
    assert shown.main_lack(account()) is None


def test_what_two_streams_lack_is_said_once():
    one = {"why": "Not read yet.", "remedy": "Wait."}
    other = {"why": "Not kept.", "remedy": ""}
    assert shown.distinct([one, other, dict(one)]) == [one, other]


def test_what_is_out_of_reach_is_not_offered_to_be_read():
    gone = lack("out_of_reach", 100, 50)
    assert not shown.can_be_read(account(lacks=[gone]))
    assert shown.can_be_read(account(lacks=[gone, lack("gap", 10, 5)]))


def test_the_bar_of_an_account_is_whole_and_shows_the_worst_of_its_streams():
    lacks = [lack("out_of_reach", 100, 50), lack("out_of_reach", 100, 60), lack("gap", 20, 10)]
    parts = shown.coverage_parts(account(lacks=lacks))
    assert [part["state"] for part in parts] == ["out_of_reach", "covered", "gap", "covered"]
    assert sum(part["width"] for part in parts) == pytest.approx(1000, abs=0.1)
    assert parts[0]["width"] == pytest.approx(500, abs=0.1)


def test_the_chart_as_a_table_has_the_newest_first():
    series = {
        "days": ["2026-01-01", "2026-01-02"],
        "venues": [{"notional_usd": ["1.1", "0"]}, {"notional_usd": ["2.2", "5"]}],
        "complete": [True, False],
        "why": [[], ["Not read."]],
    }
    newest, oldest = shown.periods(series)
    assert newest == {
        "day": "2026-01-02", "amounts": ["0", "5"], "total": Decimal(5), "complete": False, "why": ["Not read."],
    }  # fmt: skip
    assert oldest["total"] == Decimal("3.3")


def test_a_related_account_fills_the_form():
    assert shown.add_query({"label": "grid & co", "values": {"address": "0xa"}}) == "label=grid+%26+co&address=0xa"
