"""What every connector is built of: fill reports, times and numbers."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from exchanges.venues.base import (
    LARGEST_NOTIONAL,
    FillReport,
    Kind,
    Liquidity,
    Side,
    check,
    from_ms,
    moment,
    number,
    to_ms,
)

FILL = FillReport(
    fill_id="7", symbol="BTC-USD-PERP", base="BTC", quote="USD", side=Side.BUY, liquidity=Liquidity.TAKER,
    kind=Kind.TRADE, price=Decimal(50_000), qty=Decimal(2), notional=Decimal(100_000), fee=Decimal(45),
    fee_asset="USDC", realized_pnl=None, executed_at=datetime(2026, 11, 20, tzinfo=UTC),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "longest"), [("fill_id", 200), ("symbol", 64), ("base", 40), ("quote", 20), ("fee_asset", 20)]
)
def test_a_name_is_fit_up_to_its_length_and_without_a_zero_byte(name: str, longest: int) -> None:
    def why(text: str) -> str:
        return msgspec.structs.replace(FILL, **{name: text}).unfit()

    assert why("x" * longest) == ""
    assert why("x" * (longest + 1)) == why("x\0") == "a name that is too long or not printable"


def test_a_value_beyond_what_a_database_holds_is_unfit() -> None:
    assert msgspec.structs.replace(FILL, notional=LARGEST_NOTIONAL).unfit() == ""
    assert msgspec.structs.replace(FILL, notional=LARGEST_NOTIONAL + Decimal("1E-8")).unfit()


def test_a_report_is_a_value() -> None:
    same = msgspec.structs.replace(FILL)
    assert same == FILL
    assert hash(same) == hash(FILL)
    with pytest.raises(AttributeError):
        FILL.fee = Decimal(0)


@pytest.mark.parametrize("ms", [0, 1, 999, 1_000, 951_782_400_000 - 1, 1_794_993_322_601, 4_102_444_799_999])
def test_a_millisecond_is_exact_both_ways(ms: int) -> None:
    at = from_ms(ms)
    assert at == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ms // 1000, microseconds=ms % 1000 * 1000)
    assert at.tzinfo is UTC
    assert to_ms(at) == to_ms(at + timedelta(microseconds=999)) == ms
    assert ms == 0 or moment(ms) == moment(str(ms)) == at


@pytest.mark.parametrize("ms", [0, -1, 4_102_444_800_000, "1.5", ""])
def test_a_time_of_another_century_is_none(ms: Any) -> None:
    with pytest.raises(ValueError):
        moment(ms)


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "1E+40", "1E-40", "0E-40"])
def test_a_number_beyond_all_reason_is_none_however_it_came(text: str) -> None:
    for read in (number, check):
        with pytest.raises(ValueError, match="beyond all reason"):
            read(Decimal(text))
    with pytest.raises(ValueError, match="beyond all reason"):
        number(text)


def test_a_number_keeps_every_digit() -> None:
    for text in ("9.999999999999999999999999999999999999999E+39", "1E-39", "-0.0", "0.10"):
        assert str(number(text)) == str(number(Decimal(text))) == str(Decimal(text))
        check(Decimal(text))
