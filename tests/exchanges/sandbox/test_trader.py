from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from random import Random

import pytest

from exchanges.sandbox.trader import SWEEP, TIERS, Execution, Market, Trader, price_of

BTC = Market("BTC", "BTC", "USDC", Decimal("0.1"), Decimal("0.00001"), significant=5, weight=3)
ETH = Market("ETH", "ETH", "USDC", Decimal("0.01"), Decimal("0.0001"), significant=5)
PEPE = Market("kPEPE", "kPEPE", "USDC", Decimal("0.000001"), Decimal(1), significant=5)
BYBIT_BTC = Market("BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"))
HYPE_SPOT = Market("HYPE/USDC", "HYPE", "USDC", Decimal("0.0001"), Decimal("0.01"), "spot", significant=5)
MARKETS = (BTC, ETH, PEPE, BYBIT_BTC, HYPE_SPOT)
SINCE = datetime(2025, 3, 1, tzinfo=UTC)
UNTIL = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def year() -> list[Execution]:
    return list(Trader("seed", 40, MARKETS).executions(SINCE, UNTIL))


def test_any_part_of_the_time_is_that_part_of_the_whole(year: list[Execution]) -> None:
    random = Random(1)
    trader = Trader("seed", 40, MARKETS, kept=200)
    for _ in range(40):
        since = SINCE + timedelta(milliseconds=random.randrange(300 * 86_400_000))
        until = since + timedelta(milliseconds=random.randrange(1, 10 * 86_400_000))
        expected = [execution for execution in year if since <= execution.executed_at < until]
        assert list(trader.executions(since, until)) == expected


def test_a_range_includes_its_start_and_excludes_its_end(year: list[Execution]) -> None:
    trader, first = Trader("seed", 40, MARKETS), year[0].executed_at
    assert list(trader.executions(SINCE, first)) == []
    assert list(trader.executions(first, first)) == []
    assert next(trader.executions(first, first + timedelta(milliseconds=1))) == year[0]


def test_another_seed_is_another_trader(year: list[Execution]) -> None:
    other = list(Trader("another", 40, MARKETS).executions(SINCE, UNTIL))
    assert not {execution.number for execution in year} & {execution.number for execution in other}


def test_time_and_numbers_grow(year: list[Execution]) -> None:
    for one, following in pairwise(year):
        assert one.executed_at <= following.executed_at
        assert one.number < following.number
        assert one.order <= following.order
    assert all(execution.executed_at.microsecond % 1000 == 0 for execution in year)


def test_every_day_begins_and_ends_flat_and_positions_follow_one_another(year: list[Execution]) -> None:
    days: dict[tuple[object, str], list[Execution]] = defaultdict(list)
    for execution in year:
        days[execution.executed_at.date(), execution.market.symbol].append(execution)
    for fills in days.values():
        position = Decimal(0)
        for fill in fills:
            assert fill.start_position == position
            position += fill.qty if fill.side == "buy" else -fill.qty
            assert fill.market.kind == "perp" or position >= 0
        assert position == 0


def test_prices_and_sizes_are_those_a_venue_allows(year: list[Execution]) -> None:
    for execution in year:
        market = execution.market
        assert execution.qty > 0 and execution.price > 0
        assert execution.price % market.tick == 0 and execution.qty % market.lot == 0
        if market.significant:
            digits = execution.price.normalize().as_tuple()
            assert execution.price % 1 == 0 or len(digits.digits) <= market.significant
            assert int(execution.notional.normalize().as_tuple().exponent) >= -6


def test_prices_stay_in_their_range_and_move() -> None:
    prices = [price_of("BTC", 739_000 + day) for day in range(730)]
    assert 60_000 <= min(prices) < 80_000 and 95_000 < max(prices) <= 120_000
    moves = [abs(one / other - 1) for one, other in pairwise(prices)]
    assert 0.005 < sum(moves) / len(moves) < 0.05


def test_there_are_about_as_many_fills_as_asked_for_and_fewer_on_weekends(year: list[Execution]) -> None:
    assert len(year) / 365 == pytest.approx(40, rel=0.15)
    days = Counter(execution.executed_at.date() for execution in year)
    weekend = sum(fills for day, fills in days.items() if day.weekday() >= 5) / 2
    week = sum(fills for day, fills in days.items() if day.weekday() < 5) / 5
    assert weekend < week / 2
    assert max(days.values()) > 100  # busy days; and quiet ones
    assert min(days.values()) < 10


def test_all_kinds_of_fills_occur(year: list[Execution]) -> None:
    kinds = Counter(execution.kind for execution in year)
    assert set(kinds) == {"trade", "twap", "liquidation", "adl"}
    assert kinds["liquidation"] + kinds["adl"] < len(year) / 100
    assert max(Counter(execution.executed_at for execution in year).values()) >= SWEEP
    assert 0.3 < sum(execution.is_maker for execution in year) / len(year) < 0.7
    assert all(execution.fee == 0 for execution in year if execution.kind in ("liquidation", "adl"))


def test_fees_follow_the_tier_of_the_month(year: list[Execution]) -> None:
    trader = Trader("seed", 40, MARKETS)
    assert {trader.rates(day) for day in range(739_000, 739_120)} == set(TIERS)
    assert any(execution.fee < 0 for execution in year)
    for execution in year:
        if execution.kind in ("trade", "twap"):
            rates = trader.rates(execution.executed_at.toordinal())
            rate = rates.maker if execution.is_maker else rates.taker
            assert execution.fee == pytest.approx(execution.notional * rate, abs=Decimal("0.000001"))


def test_what_is_gained_is_what_was_sold_for_less_what_was_paid(year: list[Execution]) -> None:
    cash, gains = Decimal(0), Decimal(0)
    for execution in year:
        cash += execution.notional if execution.side == "sell" else -execution.notional
        gains += execution.realized_pnl
    assert gains == pytest.approx(cash, abs=Decimal("0.01"))


def test_the_other_side_of_a_match_mirrors_it(year: list[Execution]) -> None:
    fill = next(execution for execution in year if execution.realized_pnl)
    other = Trader("sub", 3, MARKETS).other_side(fill)
    same = ("number", "executed_at", "price", "qty")
    assert [getattr(other, name) for name in same] == [getattr(fill, name) for name in same]
    assert other.side != fill.side and other.is_maker != fill.is_maker and other.order != fill.order
    assert (other.start_position, other.realized_pnl) == (-fill.start_position, -fill.realized_pnl)
