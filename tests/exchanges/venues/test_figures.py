"""What venues say themselves of an account's volume: every form of it, and what can't be told."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from exchanges.sandbox import paradex as paradex_sandbox
from exchanges.sandbox.paradex import DEMO_SUB_TOKEN, DEMO_TOKEN
from exchanges.venues import VENUES
from exchanges.venues.base import (
    EPOCH,
    Figure,
    Inclusion,
    PayloadError,
    VenueError,
    VenueUnavailable,
    Window,
    from_ms,
    to_ms,
)
from exchanges.venues.http import Budget
from exchanges.venues.hyperliquid import Hyperliquid, HyperliquidCredentials
from exchanges.venues.paradex import History, Paradex, ParadexCredentials, history_figures
from tests.conftest import NOW

PAYLOADS = Path(__file__).resolve().parents[2] / "payloads"
ME = "0x00000000000000000000000000000000000000aa"
DAY = timedelta(days=1)
MIDNIGHT = NOW.replace(hour=0)
SPOT, RELATED, WEIGHTED, APPROXIMATE = Inclusion


def payload(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text())["response"]


def by_name(figures: Any) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}


@dataclass
class Hyper:
    """Hyperliquid with these answers, whole or as bytes."""

    portfolio: Any = None
    fees: Any = None
    limit: Any = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)["type"]
        answer = {
            "portfolio": self.portfolio if self.portfolio is not None else payload("hyperliquid/portfolio"),
            "userFees": self.fees if self.fees is not None else payload("hyperliquid/user_fees"),
            "userRateLimit": self.limit if self.limit is not None else payload("hyperliquid/user_rate_limit"),
        }[asked]
        return httpx.Response(200, content=answer if isinstance(answer, bytes) else json.dumps(answer))

    def figures(self, now: datetime) -> list[Figure]:
        with Hyperliquid(
            HyperliquidCredentials(address=ME), transport=httpx.MockTransport(self), budget=Budget(share=1000),
            sleep=lambda seconds: None,
        ) as venue:  # fmt: skip
            return list(venue.fetch_figures(now=now))


# --- Hyperliquid -----------------------------------------------------------------------------------------------------

SHEET = from_ms(1794993322601)  # when the sheet's answers are from: 2026-11-18


def test_the_days_of_the_sheet_are_the_sums_of_taken_and_made() -> None:
    days = [
        figure for figure in Hyper().figures(datetime(2026, 11, 20, 9, tzinfo=UTC)) if figure.name == "dailyUserVlm"
    ]
    assert [(day.window.since.day, day.usd) for day in days] == [
        (18, Decimal("16604.89798")), (19, Decimal("0.0")), (20, Decimal("120.5")),
    ]  # fmt: skip
    assert [day.window.until - day.window.since for day in days] == [DAY, DAY, timedelta(hours=9)]
    assert set(days[0].includes) == {SPOT, RELATED, WEIGHTED}


def test_the_rows_of_a_market_maker_are_read_as_well() -> None:
    days = Hyper(fees=payload("hyperliquid/user_fees_maker")).figures(datetime(2026, 11, 20, 9, tzinfo=UTC))
    assert [day.usd for day in days if day.name == "dailyUserVlm"] == [Decimal("5210334.1"), Decimal("901223.4")]


def test_a_day_that_has_not_begun_here_is_left_for_later() -> None:
    days = Hyper().figures(datetime(2026, 11, 19, 23, 59, 59, tzinfo=UTC))
    assert [day.window.since.day for day in days if day.name == "dailyUserVlm"] == [18, 19]


def test_the_periods_of_the_sheet_end_when_the_venue_answered() -> None:
    figures = by_name(Hyper().figures(SHEET + timedelta(seconds=2)))
    assert figures["portfolio.perpDay"].usd == Decimal("16604.89798")
    assert figures["portfolio.perpDay"].window == Window(SHEET - DAY, SHEET)
    assert figures["portfolio.perpMonth"].window == Window(SHEET - 30 * DAY, SHEET)
    assert figures["portfolio.perpAllTime"].window == Window(EPOCH, SHEET)
    assert figures["portfolio.week"].usd - figures["portfolio.perpWeek"].usd == Decimal("4585.68")
    assert figures["userRateLimit.cumVlm"].usd == Decimal("2854574.593578")
    assert figures["userRateLimit.cumVlm"].window == Window(EPOCH, SHEET)


def test_what_is_inside_a_period_is_said() -> None:
    figures = by_name(Hyper().figures(SHEET))
    assert figures["portfolio.perpDay"].includes == (APPROXIMATE,)
    assert set(figures["portfolio.day"].includes) == {SPOT, APPROXIMATE}
    assert figures["portfolio.perpAllTime"].includes == (WEIGHTED,)
    assert set(figures["userRateLimit.cumVlm"].includes) == {SPOT, WEIGHTED}
    assert not any(RELATED in figure.includes for name, figure in figures.items() if name != "dailyUserVlm")


def test_a_venue_whose_word_on_when_it_answered_is_far_off_is_not_believed() -> None:
    assert by_name(Hyper().figures(NOW))["portfolio.perpDay"].window == Window(NOW - DAY, NOW)


def test_an_address_that_never_traded_has_figures_of_nothing() -> None:
    answers = Hyper(
        payload("hyperliquid/portfolio_new"), {"dailyUserVlm": []}, payload("hyperliquid/user_rate_limit_new")
    )
    figures = answers.figures(NOW)
    assert len(figures) == 9
    assert not any(figure.usd for figure in figures)
    assert {figure.window.until for figure in figures} == {NOW}


def test_a_recorded_portfolio_is_read_to_the_last_digit(shared_data: Path) -> None:
    recorded = json.loads((shared_data / "hyperliquid/api_userFills/portfolio.json").read_text())
    answered = datetime(2025, 8, 22, 11, 45, 21, 304_000, tzinfo=UTC)
    figures = by_name(Hyper(recorded["response"]).figures(answered - timedelta(seconds=1)))
    life = figures["portfolio.perpAllTime"]
    assert (life.usd, life.window) == (Decimal("170043719297.2099914551"), Window(EPOCH, answered))
    assert figures["portfolio.perpMonth"].usd == Decimal("2365106649.8600001335")
    assert figures["portfolio.month"].usd == figures["portfolio.perpMonth"].usd


def test_a_period_nobody_has_heard_of_is_nothing() -> None:
    known = payload("hyperliquid/portfolio")
    assert by_name(Hyper([*known, ["perpYear", {"vlm": "1.0"}]]).figures(SHEET)) == by_name(Hyper().figures(SHEET))


def test_three_requests_of_weight_20_are_all_it_takes() -> None:
    asked: list[str] = []
    answers = Hyper()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content)["type"])
        return answers(request)

    venue = Hyperliquid(HyperliquidCredentials(address=ME), transport=httpx.MockTransport(answer))
    venue.fetch_figures(now=SHEET)
    assert asked == ["portfolio", "userFees", "userRateLimit"]
    assert venue.traffic.waited_seconds == 0


@pytest.mark.parametrize(
    "answers",
    [
        Hyper(portfolio=b"null"),
        Hyper(portfolio=b"[]]"),
        Hyper(portfolio=[["perpDay", {"vlm": "NaN"}]]),
        Hyper(portfolio=[["perpDay", {"vlm": "-1"}]]),
        Hyper(portfolio=[["perpDay", {}]]),
        Hyper(fees={}),
        Hyper(fees={"dailyUserVlm": [{"date": "18.11.2026", "userCross": "1", "userAdd": "1"}]}),
        Hyper(fees={"dailyUserVlm": [{"date": "2026-11-18", "userCross": "Infinity", "userAdd": "1"}]}),
        Hyper(fees={"dailyUserVlm": [{"date": "2026-11-18", "userCross": "sNaN", "userAdd": "1"}]}),
        Hyper(fees={"dailyUserVlm": [{"date": "2026-11-18", "userCross": "1"}]}),
        Hyper(limit={"cumVlm": "lots"}),
        Hyper(limit={"cumVlm": "1e99"}),
    ],
)
def test_rubbish_is_told_and_never_a_figure(answers: Hyper) -> None:
    with pytest.raises(VenueError):
        answers.figures(datetime(2026, 11, 20, 9, tzinfo=UTC))


# --- Paradex ---------------------------------------------------------------------------------------------------------


def history(data: list[Any], *, first: datetime = MIDNIGHT - 5 * DAY, step: timedelta = DAY, unit: int = 1) -> History:
    """Amounts at steps from `first` on; `unit` is how many milliseconds one of the venue's is."""
    times = [to_ms(first + number * step) // unit for number in range(len(data))]
    return History(data=[Decimal(str(amount)) for amount in data], timestamps=times)


def windows(told: History) -> list[tuple[Window, Decimal]]:
    return [(figure.window, figure.usd) for figure in history_figures(told, now=NOW)]


def days(*amounts: str) -> list[tuple[Window, Decimal]]:
    """Whole UTC days from five days ago on; today's ends now."""
    begins = [MIDNIGHT + (number - 5) * DAY for number in range(len(amounts))]
    return [(Window(at, min(at + DAY, NOW)), Decimal(usd)) for at, usd in zip(begins, amounts, strict=True)]


def test_amounts_that_fall_are_of_a_step_each_and_todays_ends_now() -> None:
    assert windows(history([5, 3.25, 0, 7, 1, 2])) == days("5", "3.25", "0", "7", "1", "2")


def test_amounts_that_rise_and_rise_are_levels_of_which_two_make_a_window() -> None:
    levels = history([100, 101, 103, 103, 110.5, 111, 120, 121], first=MIDNIGHT - 7 * DAY)
    found = windows(levels)
    assert [usd for _, usd in found] == [Decimal(text) for text in ("1", "2", "0", "7.5", "0.5", "9", "1")]
    assert found[0][0] == Window(MIDNIGHT - 7 * DAY, MIDNIGHT - 6 * DAY)
    assert found[-1][0] == Window(MIDNIGHT - DAY, MIDNIGHT)


@pytest.mark.parametrize("amounts", [[0, 15230.5, 48211.02], [0, 0, 0, 0, 0, 5], [7, 7, 7, 7], [1, 2]])
def test_amounts_that_may_be_either_are_compared_with_nothing(amounts: list[float]) -> None:
    assert windows(history(amounts)) == []


def test_the_sheets_example_is_too_short_to_tell_and_says_nothing() -> None:
    told = payload("paradex/account_history_volume")
    example = History(data=[Decimal(str(item)) for item in told["data"]], timestamps=told["timestamps"])
    assert history_figures(example, now=NOW) == []


def test_nothing_traded_is_nothing_whichever_way_it_is_meant() -> None:
    assert windows(history([0, 0, 0])) == days("0", "0", "0")


@pytest.mark.parametrize("unit", [1, 1000], ids=["milliseconds", "seconds"])
def test_the_size_of_a_time_tells_its_unit(unit: int) -> None:
    assert windows(history([5, 3, 4], unit=unit)) == days("5", "3", "4")


def test_steps_may_be_hours_and_times_may_come_newest_first() -> None:
    hourly = history([5, 3, 4], first=NOW - timedelta(hours=3), step=timedelta(hours=1))
    hourly.data.reverse()
    hourly.timestamps.reverse()
    found = windows(hourly)
    assert [usd for _, usd in found] == [5, 3, 4]
    assert found[-1][0] == Window(NOW - timedelta(hours=1), NOW)


def test_a_step_that_is_left_out_is_not_guessed() -> None:
    told = history([5, 3, 4, 2])
    del told.data[1], told.timestamps[1]
    assert [window.since.day for window, _ in windows(told)] == [16, 18, 19]
    assert {window.until - window.since for window, _ in windows(told)} == {DAY}


def test_times_without_a_step_tell_nothing() -> None:
    told = history([5, 3, 4])
    told.timestamps[1] += 60_000
    assert windows(told) == []


def test_the_same_time_twice_tells_nothing() -> None:
    told = history([5, 3, 4])
    told.timestamps[1] = told.timestamps[0]
    assert windows(told) == []


def test_an_empty_history_is_no_figure() -> None:
    assert windows(History(data=[], timestamps=[])) == []


def test_what_a_history_may_hold_beside_perpetuals_is_said() -> None:
    figures = history_figures(history([5, 3, 4]), now=NOW)
    assert {figure.includes for figure in figures} == {(SPOT, APPROXIMATE)}


@dataclass
class Para:
    """Paradex with these answers, in the form of bytes or not."""

    info: Any
    history: Any

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = self.history if request.url.path == "/v1/account/history" else self.info
        return httpx.Response(200, content=answer if isinstance(answer, bytes) else json.dumps(answer))

    def figures(self) -> list[Figure]:
        return list(paradex(self, SHEET_TOKEN).fetch_figures(now=NOW))


SHEET_ACCOUNT = "0x129f3dc1b8962d8a87abc692424c78fda963ade0e1cd17bf3d1c26f8d41ee7a"


def paradex(answer: Callable[[httpx.Request], httpx.Response], token: str) -> Paradex:
    return Paradex(
        ParadexCredentials(token=token), transport=httpx.MockTransport(answer), budget=Budget(share=1000),
        sleep=lambda seconds: None,
    )  # fmt: skip


SHEET_TOKEN = paradex_sandbox.Paradex(lambda: NOW).add(SHEET_ACCOUNT)
NOTHING: dict[str, list[Any]] = {"data": [], "timestamps": []}


def test_the_tiers_of_the_sheet_tell_14_days_of_the_whole_family() -> None:
    (figure,) = Para(payload("paradex/account_info"), payload("paradex/account_history_none")).figures()
    assert (figure.name, figure.usd, figure.window) == (
        "volume_tiers", Decimal("1873220.41"), Window(NOW - 14 * DAY, NOW),
    )  # fmt: skip
    assert set(figure.includes) == {SPOT, RELATED, APPROXIMATE}


def test_kinds_of_tiers_that_name_different_volumes_tell_nothing() -> None:
    info = payload("paradex/account_info")
    info["results"][0]["volume_tiers"]["retail"]["volume"] = "1.5"
    assert Para(info, NOTHING).figures() == []


def test_the_tiers_of_a_sub_account_and_of_others_tell_nothing() -> None:
    info = payload("paradex/account_info")
    info["results"][0]["parent_account"] = "0xbb"
    assert Para(info, NOTHING).figures() == []
    info["results"][0] |= {"parent_account": "", "account": "0xcc"}
    assert Para(info, NOTHING).figures() == []


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b"null",
        {"data": [1], "timestamps": []},
        {"data": ["x", 1], "timestamps": [1763424000000, 1763510400000]},
        {"data": [1, -1], "timestamps": [1763424000000, 1763510400000]},
        {"data": [1, 2], "timestamps": [0, 1763510400000]},
        {"data": [1, 2], "timestamps": [1763424000000000000, 1763510400000000000]},
        b'{"data": [1e99, 1], "timestamps": [1763424000000, 1763510400000]}',
        b'{"data": [null, 1], "timestamps": [1763424000000, 1763510400000]}',
    ],
)
def test_a_history_of_rubbish_is_told_and_never_a_figure(answer: Any) -> None:
    with pytest.raises(PayloadError):
        Para({"results": []}, answer).figures()


def test_a_number_of_the_history_is_read_from_its_text() -> None:
    data = b'{"data": [48211.020000000004, 1.1], "timestamps": [1794960000000, 1795046400000]}'
    first, _ = Para({"results": []}, data).figures()
    assert first.usd == Decimal("48211.020000000004")


def test_the_sandbox_tells_the_days_of_an_account_and_the_14_days_of_a_family() -> None:
    sandbox = paradex_sandbox.Paradex(lambda: NOW)
    figures = paradex(sandbox, DEMO_TOKEN).fetch_figures(now=NOW)
    daily = [figure for figure in figures if figure.name == "account/history"]
    assert len(daily) > 700
    assert daily[-1].window == Window(MIDNIGHT, NOW)
    assert [figure.name for figure in figures if RELATED in figure.includes] == ["volume_tiers"]
    sub = paradex(sandbox, DEMO_SUB_TOKEN).fetch_figures(now=NOW)
    assert {figure.name for figure in sub} == {"account/history"}


def test_a_venue_that_is_down_is_unavailable() -> None:
    with pytest.raises(VenueUnavailable):
        paradex(lambda request: httpx.Response(502), SHEET_TOKEN).fetch_figures(now=NOW)


# --- The others ------------------------------------------------------------------------------------------------------


def test_every_venue_says_what_it_publishes() -> None:
    assert all(venue.figures_note.endswith(".") for venue in VENUES.values())
    assert "no volume" in VENUES["bybit"].figures_note
    assert "no volume" in VENUES["woox"].figures_note
