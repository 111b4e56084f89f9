"""Which index answers the questions that are asked of very many rows. `exchanges` pins that of storing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import Sum

from exchanges.models import Coverage, Fill
from tests import factories
from volume.models import DailyVolume, HourVolume, PeriodVolume

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAYS = [NOW.date() - timedelta(days=number) for number in range(3)]


@pytest.mark.parametrize(
    ("rows", "index"),
    [
        (lambda pk: Fill.objects.filter(credential=pk, executed_at__gte=NOW).order_by("executed_at"), "fills_by_time"),
        (
            lambda pk: Fill.objects.filter(credential=pk, executed_at__gte=NOW, day__in=DAYS).values("symbol")
            .annotate(sum=Sum("notional")).order_by(), "fills_by_time",
        ),
        (
            lambda pk: DailyVolume.objects.filter(credential=pk, day__gte=DAYS[-1]).order_by(),
            "a_day_and_market_once|sqlite_autoindex_volume_dailyvolume_1 (credential_id=? AND day>?)",
        ),
        (
            lambda pk: DailyVolume.objects.filter(credential=pk, symbol="BTC", day__gte=DAYS[-1]).order_by(),
            "volume_by_market",
        ),
        (
            lambda pk: PeriodVolume.objects.filter(credential=pk, step="month", day__in=DAYS).order_by(),
            "a_period_and_market_once|sqlite_autoindex_volume_periodvolume_1 (credential_id=? AND step=? AND day=?)",
        ),
        (
            lambda pk: HourVolume.objects.filter(credential=pk, hour_at__gte=NOW).order_by(),
            "an_hour_and_quote_once|sqlite_autoindex_volume_hourvolume_1 (credential_id=? AND hour_at>?)",
        ),
        (
            lambda pk: Coverage.objects.filter(credential=pk, stream="fills").order_by(),
            "a_range_starts_once|sqlite_autoindex_exchanges_coverage_1 (credential_id=? AND stream=?)",
        ),
    ],
    ids=["fills by time", "fills of days", "days", "days of a market", "periods", "hours", "ledger"],
)  # fmt: skip
def test_an_index_answers(rows: Any, index: str) -> None:
    if connection.vendor == "postgresql":
        pytest.skip("of a table with hardly a row PostgreSQL takes whatever index there is")
    plan = rows(factories.credential().pk).explain()
    assert any(name in plan for name in index.split("|")), plan
