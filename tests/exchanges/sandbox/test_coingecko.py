"""CoinGecko's sandbox: readings as dense, as late and as far back as those of the real one."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from exchanges.sandbox import SANDBOXES, Sandbox
from exchanges.sandbox.coingecko import COINS, DEMO_KEY, PRO_KEY, CoinGecko, market_price
from exchanges.sandbox.server import serve
from exchanges.sandbox.trader import PRICE_RANGES

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
PRO = {"x-cg-pro-api-key": PRO_KEY}
DEMO = {"x-cg-demo-api-key": DEMO_KEY}


@pytest.fixture
def gecko() -> CoinGecko:
    return CoinGecko(lambda: NOW)


def get(
    gecko: CoinGecko, path: str, headers: dict[str, str] | None = None, host: str = "api.coingecko.com"
) -> httpx.Response:
    return gecko(httpx.Request("GET", f"https://{host}/api/v3/{path}", headers=headers))


def ask(gecko: CoinGecko, since: datetime, until: datetime, coin: str = "bitcoin", **kwargs: Any) -> httpx.Response:
    span = f"from={int(since.timestamp())}&to={int(until.timestamp())}"
    return get(gecko, f"coins/{coin}/market_chart/range?vs_currency=usd&{span}", **kwargs)


def moments(answer: httpx.Response) -> list[datetime]:
    assert answer.status_code == 200
    return [datetime.fromtimestamp(ms / 1000, UTC) for ms, _ in answer.json()["prices"]]


def test_the_last_day_is_told_every_five_minutes(gecko: CoinGecko) -> None:
    found = moments(ask(gecko, NOW - 3 * HOUR, NOW))
    assert 34 <= len(found) <= 37
    assert found == sorted(found)
    assert found[-1] <= NOW < found[-1] + 6 * MINUTE


@pytest.mark.parametrize("length", [3 * HOUR, DAY, 90 * DAY])
def test_up_to_ninety_days_are_told_by_the_hour_and_some_minutes_late(gecko: CoinGecko, length: timedelta) -> None:
    since = NOW - 100 * DAY
    found = moments(ask(gecko, since, since + length))
    assert abs(len(found) - length / HOUR) <= 1
    assert all(at.minute < 5 for at in found)
    assert len({(at.minute, at.second) for at in found}) > 1


def test_more_than_ninety_days_are_told_at_midnight_and_the_latest_is_half_a_day_old(gecko: CoinGecko) -> None:
    found = moments(ask(gecko, NOW - 100 * DAY, NOW))
    assert len(found) == 101
    assert {at.time() for at in found[:-1]} == {NOW.min.time()}
    assert found[-1] == NOW - 12 * HOUR + 7 * MINUTE
    later = CoinGecko(lambda: NOW + 2 * HOUR)
    assert moments(ask(later, NOW - 100 * DAY, NOW + 2 * HOUR))[-1] == NOW + 7 * MINUTE


def test_the_same_is_told_twice(gecko: CoinGecko) -> None:
    answers = [ask(gecko, NOW - DAY, NOW - HOUR).content for _ in range(2)]
    assert answers[0] == answers[1]


def test_free_plans_tell_the_last_365_days_and_a_paid_one_everything(gecko: CoinGecko) -> None:
    assert ask(gecko, NOW - 365 * DAY, NOW).status_code == 200
    for headers in (None, DEMO):
        refused = ask(gecko, NOW - 366 * DAY, NOW, headers=headers)
        assert refused.status_code == 401
        assert refused.json()["error"]["status"]["error_code"] == 10012
    assert ask(gecko, NOW - 2000 * DAY, NOW, headers=PRO, host="pro-api.coingecko.com").status_code == 200


@pytest.mark.parametrize(
    ("headers", "host", "code"),
    [
        (None, "pro-api.coingecko.com", 10002),
        ({"x-cg-demo-api-key": "wrong"}, "api.coingecko.com", 10002),
        ({"x-cg-pro-api-key": DEMO_KEY}, "pro-api.coingecko.com", 10002),
        (PRO, "api.coingecko.com", 10010),
        (DEMO, "pro-api.coingecko.com", 10011),
    ],
)
def test_a_key_is_good_at_its_own_host_only(
    gecko: CoinGecko, headers: dict[str, str] | None, host: str, code: int
) -> None:
    refused = get(gecko, "coins/list", headers, host)
    assert (refused.status_code, refused.json()["status"]["error_code"]) == (401, code)


@pytest.mark.parametrize(("headers", "limit"), [(None, 5), (DEMO, 30)])
def test_who_asks_too_much_is_told_for_how_long_to_wait(headers: dict[str, str] | None, limit: int) -> None:
    now = NOW
    gecko = CoinGecko(lambda: now)
    assert {get(gecko, "coins/list", headers).status_code for _ in range(limit)} == {200}
    now += timedelta(seconds=20)
    refused = get(gecko, "coins/list", headers)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "40")
    assert gecko.too_early == 0
    now += timedelta(seconds=10)
    assert get(gecko, "coins/list", headers).status_code == 429
    assert gecko.too_early == 1
    now += timedelta(seconds=90)
    assert get(gecko, "coins/list", headers).status_code == 200


def test_a_coin_nobody_knows_is_not_found(gecko: CoinGecko) -> None:
    answer = ask(gecko, NOW - DAY, NOW, coin="bitcorn")
    assert (answer.status_code, answer.json()) == (404, {"error": "coin not found"})


@pytest.mark.parametrize("query", ["", "vs_currency=usd", "vs_currency=usd&from=a&to=b", "vs_currency=eur&from=1&to=2"])
def test_a_question_that_makes_no_sense_is_refused(gecko: CoinGecko, query: str) -> None:
    assert get(gecko, f"coins/bitcoin/market_chart/range?{query}").status_code == 422


def test_two_coins_share_the_symbol_dime(gecko: CoinGecko) -> None:
    listed = get(gecko, "coins/list").json()
    assert len(listed) == len(COINS)
    assert {coin["name"] for coin in listed if coin["symbol"] == "dime"} == {"Dimecoin", "Paradex"}


def test_prices_are_those_the_traders_trade_at(gecko: CoinGecko) -> None:
    for _, symbol, _ in COINS:
        usd = market_price(symbol.upper(), date(2026, 1, 1).toordinal())
        low, high = PRICE_RANGES.get(symbol.upper(), (Decimal("0.001"), 10))
        assert low <= usd <= high


def test_usdc_lost_its_peg_in_march_2023_and_found_it_again() -> None:
    ends = {day: market_price("USDC", date(2023, 3, day).toordinal() + 1.0) for day in range(8, 16)}
    assert ends[11] == Decimal("0.9715")
    assert ends[12] < 1 and ends[10] < Decimal("0.96")
    assert all(abs(ends[day] - 1) < Decimal("0.001") for day in (8, 9, 13, 14, 15))


def test_given_prices_are_told_digit_by_digit_and_others_not_at_all() -> None:
    usd = Decimal("16625.0800781250000000000001")
    gecko = CoinGecko(lambda: NOW, prices={"BTC": {NOW.date() - 2 * DAY: usd}})
    midnight = datetime(2026, 11, 20, tzinfo=UTC)
    answer = ask(gecko, midnight - HOUR * 1.5, midnight + HOUR * 1.4)
    assert len(moments(answer)) == 3
    assert answer.text.count("16625.0800781250000000000001]") == 3
    assert moments(ask(gecko, midnight + 2 * HOUR, midnight + DAY)) == []
    assert moments(ask(gecko, midnight - DAY, midnight + DAY, coin="ethereum")) == []


def test_it_stands_beside_the_venues_and_is_none() -> None:
    sandbox = Sandbox(lambda: NOW, coingecko={"per_minute": 1})
    assert "coingecko" not in SANDBOXES and "coingecko" not in sandbox.venues
    with httpx.Client(transport=sandbox.transport("coingecko"), base_url="https://api.coingecko.com") as client:
        answers = [client.get("/api/v3/coins/list") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[0].headers["Date"] == "Sat, 21 Nov 2026 12:00:00 GMT"


def test_it_answers_on_loopback_and_keeps_no_key_in_its_log() -> None:
    gecko = CoinGecko(lambda: NOW)
    with serve(gecko) as server:
        answer = httpx.get(f"{server.url}/api/v3/coins/list", headers=PRO)
    assert answer.status_code == 200
    assert gecko.requests == ["/api/v3/coins/list"]
