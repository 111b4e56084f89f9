"""Figures are written exactly: rounding is half-even, on decimals, and only for the eye."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.test import RequestFactory
from django.utils import timezone

from exchanges.models import ExchangeCredential, Fill
from volume.templatetags import volume_format as shown
from volume.templatetags.volume_rows import calendar_weeks, fill_rows, market_rows


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


def test_the_exact_value_has_no_exponent():
    assert shown.plain(Decimal("6179478.90702000")) == "6179478.90702"
    assert shown.plain(Decimal("1E+3")) == "1000"


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
        "stacks": [{"notional_usd": ["1.1", "0"]}, {"notional_usd": ["2.2", "5"]}],
        "total_usd": ["3.3", "5"], "maker_usd": ["3.3", "0"], "taker_usd": ["0", "5"], "fees_usd": ["-0.1", "0.2"],
        "forced_usd": ["0", "0"], "cumulative_usd": ["3.3", "8.3"], "fills": [2, 1], "state": ["complete", "gap"],
        "why": [[], ["Not read."]], "next": ["/day/2026-01-01/", "/day/2026-01-02/"],
    }  # fmt: skip
    newest, oldest = shown.periods(series)
    assert newest == {
        "day": "2026-01-02", "amounts": ["0", "5"], "total": "5", "maker": "0", "taker": "5", "fees": "0.2",
        "forced": "0", "cumulative": "8.3", "fills": 1, "state": "gap", "why": ["Not read."],
        "next": "/day/2026-01-02/",
    }  # fmt: skip
    assert oldest["fees"] == "-0.1"


def test_a_chart_of_nothing_has_its_periods_all_the_same():
    names = ("total_usd", "maker_usd", "taker_usd", "fees_usd", "forced_usd", "cumulative_usd")
    series = {name: ["0"] for name in names} | {
        "days": ["2026-01-01"], "stacks": [], "fills": [0], "state": ["unread"], "why": [["Not read."]], "next": ["/"],
    }  # fmt: skip
    assert [row["amounts"] for row in shown.periods(series)] == [[]]


def test_the_calendar_is_shaded_by_how_days_compare_and_has_no_days_to_come():
    amounts = ["0", *(str(number) for number in range(1, 7)), "6", None, None, None, None, None, None]
    calendar = {"first": "2025-12-29", "days": amounts, "state": ["complete"] * 14, "url": "/day/{day}/"}
    first, second = re.findall(r'<div class="week".*?</div>', calendar_weeks(calendar))
    assert ['data-month="2026"' in week for week in (first, second)] == [True, False]
    assert [int(shade) for shade in re.findall(r'class="s(.) complete"', first)] == [0, 1, 2, 3, 4, 5, 6]
    assert first.count(' tabindex="-1"') == 7
    link = '<a href="/day/2026-01-05/" class="s6 complete" aria-label="5 Jan 2026: $6.00, complete"></a>'
    assert second == f'<div class="week">{link}</div>'


def test_the_points_of_numbers_stand_below_each_other():
    narrow, wide = shown._aligned([Decimal(12), Decimal("0.125")])
    assert narrow == f"12{shown.POINT_SPACE}{shown.FIGURE_SPACE * 3}"
    assert wide == "0.125"
    assert shown._aligned([Decimal(1), Decimal(2)]) == ["1", "2"]
    assert shown._aligned([]) == []


def test_the_page_and_its_script_call_states_the_same():
    script = (Path(__file__).parents[2] / "static/js/states.js").read_text()
    said = re.findall(r'^  (\w+): "([^"]+)",$', script, re.MULTILINE)
    assert dict(said) == shown.STATES


def test_a_column_is_sorted_one_way_then_the_other():
    assert shown.next_sort("-notional_usd", "fills") == "-fills"
    assert shown.next_sort("-fills", "fills") == "fills"
    assert shown.next_sort("fills", "fills") == "-fills"
    assert shown.next_sort("-fills", "market") == "market"
    assert shown.next_sort("market", "market") == "-market"
    assert shown.sorted_as("-fills", "fills") == "descending"
    assert shown.sorted_as("-fills", "market") == ""


def test_what_a_change_is_measured_against_is_said():
    before = {"since": "2026-11-07T00:00:00+00:00", "until": "2026-11-14T05:10:00+00:00", "notional_usd": "1"}
    assert shown.compared({"before": None}) == ""
    assert shown.compared({"before": before | {"complete": True}}) == (
        "Against $1.00 from 7 Nov 2026 00:00 to 14 Nov 2026 05:10 UTC, the same time before."
    )
    assert "something is missing" in shown.compared({"before": before | {"complete": False}})


def test_the_reading_of_the_past_is_one_figure():
    going, done = account(is_backfilling=True, progress=0.5), account(is_backfilling=True, progress=1)
    assert shown.being_read([done]) is None
    assert shown.being_read([going, done]) == {"accounts": [going], "progress": 0.5}


def test_a_related_account_fills_the_form():
    assert shown.add_query({"label": "grid & co", "values": {"address": "0xa"}}) == "label=grid+%26+co&address=0xa"


def test_what_a_venue_calls_its_market_is_text_and_no_markup():
    row = {
        "market": '<b>"&', "venue": "bybit", "venue_name": "<i>", "url": '?market="', "share": "1%", "fills": 1,
        "notional_usd": Decimal(1), "average_usd": Decimal(1), "maker_usd": Decimal(1), "maker_share": "1%",
        "fees_usd": Decimal(1), "forced_usd": Decimal(0), "fee_rate": "", "fees_complete": True,
        "fills_not_priced": 0, "complete": False, "stale": False, "why": ["<u>"],
    }  # fmt: skip
    written = market_rows({"request": RequestFactory().get("/", {"by": '"<'})}, [row])
    for text in ("<b>", "<i>", "<u>", '?market="', 'by="'):
        assert text not in written
    assert "&lt;b&gt;&quot;&amp;" in written


def test_a_fill_is_told_in_text_at_the_readers_time_and_leads_to_its_account_and_market():
    fill = Fill(
        credential=ExchangeCredential(pk=7, venue="bybit", label="<i>"), symbol='<b>"&', side="buy", liquidity="maker",
        kind="trade", price=Decimal("1.50"), qty=Decimal(2), notional=Decimal(3), fee=Decimal("-0.001"), quote="<q>",
        fee_asset="<u>", executed_at=datetime(2026, 11, 20, 20, 0, 0, 5000, tzinfo=UTC),
    )  # fmt: skip
    request = RequestFactory().get("/", {"days": '"local', "page": "3"})
    written, local = (
        fill_rows({"request": request}, [fill], SimpleNamespace(tz="Asia/Kolkata", is_local=is_local))
        for is_local in (False, True)
    )
    for text in ("<b>", "<i>", "<q>", "<u>", '"local', "page="):
        assert text not in written
    assert '<time datetime="2026-11-20T20:00:00.005000+00:00">20:00:00</time>' in written
    assert '<time datetime="2026-11-20T20:00:00.005000+00:00">01:30:00</time>' in local
    assert 'href="?days=%22local&amp;account=7"' in written
    assert 'href="?days=%22local&amp;venue=bybit&amp;market=%3Cb%3E%22%26"' in written
    assert "-0.001 &lt;u&gt;" in written
