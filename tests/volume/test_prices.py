"""Dollars for what is not dollars: what is asked of CoinGecko, what is made of its answers, and what follows."""

import csv
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings as configured
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import DataError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from exchanges.models import ExchangeCredential, Fill
from exchanges.sandbox import Sandbox
from exchanges.sandbox.base import BAD_GATEWAY
from exchanges.sandbox.coingecko import DEMO_KEY, PRO_KEY, market_price
from exchanges.venues.base import Kind, Liquidity, Side
from perpdash.celery import app
from tests import factories
from volume import prices, tasks
from volume.models import AssetPrice, DailyVolume, Preferences
from volume.prices import Price
from volume.refresh import Wanted, refresh
from volume.rollup import differences, rebuild_all

pytestmark = pytest.mark.django_db

TODAY = date(2026, 11, 21)
YESTERDAY = TODAY - timedelta(days=1)
HOUR = timedelta(hours=1)
QUEUE = app.conf.task_default_queue


@pytest.fixture(autouse=True)
def nothing_remembered(settings: Any, clock: Any, sandbox: Sandbox) -> Iterator[None]:
    """A cache of this test's own, and an empty queue."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "prices"}}
    cache.clear()
    with app.connection_for_write() as broker:
        broker.SimpleQueue(QUEUE).clear()
        yield
        broker.SimpleQueue(QUEUE).clear()


@pytest.fixture
def account() -> ExchangeCredential:
    return factories.credential()


def end_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def fill(
    credential: ExchangeCredential,
    day: date,
    *,
    quote: str = "USDC",
    fee: str = "1",
    fee_asset: str = "",
    **fields: Any,
) -> None:
    """A taker's buy for 1,000 in the quote at noon, stored and counted."""
    values = {
        "fill_id": f"{day} {quote} {fee_asset} {Fill.objects.count()}", "executed_at": end_of(day) - 12 * HOUR,
        "day": day, "symbol": "ETH", "base": "ETH", "quote": quote, "side": Side.BUY, "liquidity": Liquidity.TAKER,
        "kind": Kind.TRADE, "price": Decimal(2000), "qty": Decimal("0.5"), "notional": Decimal(1000),
        "fee": Decimal(fee), "fee_asset": fee_asset or quote,
    }  # fmt: skip
    Fill.objects.create(credential=credential, **values | fields)
    rebuild_all(credential)


def of(day: date, credential: ExchangeCredential | None = None) -> DailyVolume:
    rows = DailyVolume.objects.filter(day=day)
    return (rows.filter(credential=credential) if credential else rows).get()


def fetch(**options: Any) -> prices.Fetched:
    return prices.fetch(now=timezone.now(), **options)


def spans(sandbox: Sandbox) -> list[tuple[str, datetime, datetime]]:
    """(coin, from, to) of each range CoinGecko was asked for."""
    found = []
    for target in sandbox.coingecko.requests:
        if target.endswith("/list"):
            continue
        parts = urlsplit(target)
        query = parse_qs(parts.query)
        since, until = (datetime.fromtimestamp(int(query[name][0]), UTC) for name in ("from", "to"))
        found.append((parts.path.split("/")[4], since, until))
    return found


def words(credential: ExchangeCredential) -> list[str]:
    return prices.missing_words([credential], now=timezone.now()).get(credential.pk, [])


def queued() -> list[str]:
    """The names of the tasks that wait for a worker, which they no longer do."""
    found = []
    with app.connection_for_read() as broker:
        while (message := broker.default_channel.basic_get(QUEUE, no_ack=True)) is not None:
            found.append(message.headers["task"].rpartition(".")[2])
    return found


# --- What is needed --------------------------------------------------------------------------------------------------


def test_dollars_need_no_price_and_nobody_is_asked(account, sandbox):
    fill(account, YESTERDAY, quote="USDC")
    fill(account, YESTERDAY, quote="USD", fee_asset="USDT", symbol="BTC")
    assert prices.needed() == {}
    assert not prices.waiting(now=timezone.now())
    fetch()
    assert not sandbox.coingecko.requests


def test_quotes_and_fee_assets_that_are_no_dollars_need_the_price_of_their_day(account):
    fill(account, YESTERDAY, quote="USDH", fee_asset="BTC")
    fill(account, TODAY, quote="BTC", fee_asset="DIME")
    assert prices.needed() == {"BTC": {YESTERDAY, TODAY}, "DIME": {TODAY}}


def test_stablecoins_need_one_only_where_their_owner_counts_them_at_market(account):
    fill(account, YESTERDAY)
    other = factories.credential(owner=factories.user("bob"), secrets={"address": "0x" + "2" * 40})
    fill(other, TODAY)
    Preferences.objects.create(owner=other.owner, stablecoins_at_market=True)
    assert prices.needed() == {"USDC": {TODAY}}


def test_what_is_needed_is_told_at_once_over_many_days(account):
    DailyVolume.objects.bulk_create(
        DailyVolume(
            credential=account, day=TODAY - timedelta(days=number % 1000), symbol=f"M{number // 1000}",
            assets=["BTC", "USDC"],
        )
        for number in range(2000)
    )  # fmt: skip
    with CaptureQueriesContext(connection) as asked:
        assert len(prices.needed()["BTC"]) == 1000
    assert len(asked) == 3


# --- What is asked, and what is made of the answer -------------------------------------------------------------------


def test_a_fee_in_bitcoin_is_priced_at_the_end_of_its_day(account, sandbox):
    usd = Decimal("84321.0123456789012345")
    sandbox.coingecko.prices = {"BTC": {YESTERDAY: usd}}
    fill(account, YESTERDAY, fee="0.001", fee_asset="BTC")
    assert of(YESTERDAY).fees_not_priced == {"BTC": "0.001"}
    found = fetch()
    assert (found.priced, found.rebuilt, found.trouble) == ({"BTC": 1}, 1, "")
    kept = AssetPrice.objects.get()
    assert (kept.asset, kept.day, kept.usd, kept.source, kept.is_final) == (
        "BTC", YESTERDAY, usd, "CoinGecko bitcoin", True,
    )  # fmt: skip
    assert abs(kept.observed_at - end_of(YESTERDAY)) < HOUR
    row = of(YESTERDAY)
    assert (row.fees_usd, row.fees_not_priced, row.fees_not_priced_fills) == (Decimal("84.32101235"), {}, 0)
    assert not differences(account)


def test_a_quote_is_priced_as_well(account, sandbox):
    sandbox.coingecko.prices = {"HYPE": {YESTERDAY: Decimal("40.5")}}
    fill(account, YESTERDAY, quote="HYPE", fee="2")
    assert of(YESTERDAY).fills_not_priced == 1
    fetch()
    row = of(YESTERDAY)
    assert (row.notional_usd, row.taker_usd, row.fees_usd, row.fills_not_priced) == (40_500, 40_500, 81, 0)


def test_what_is_final_is_never_asked_for_again(account, sandbox):
    fill(account, YESTERDAY, fee_asset="BTC")
    fetch()
    asked = len(sandbox.coingecko.requests)
    assert fetch().priced == {}
    assert len(sandbox.coingecko.requests) == asked == 1


def test_neighbouring_days_take_one_request_an_asset(account, sandbox):
    days = [YESTERDAY - timedelta(days=number) for number in range(80)]
    for day in (days[0], days[40], days[79]):
        fill(account, day, fee_asset="BTC")
    fill(account, days[3], fee_asset="HYPE")
    assert fetch().priced == {"BTC": 3, "HYPE": 1}
    assert [coin for coin, _, _ in spans(sandbox)] == ["bitcoin", "hyperliquid"]
    _, since, until = spans(sandbox)[0]
    assert (since, until) == (end_of(days[79]) - 1.5 * HOUR, end_of(days[0]) + 1.5 * HOUR)


def test_more_than_ninety_days_take_two_and_the_latest_is_still_fresh(account, sandbox):
    days = [TODAY - timedelta(days=number) for number in (0, 1, 50, 88, 89, 90, 91, 200, 360)]
    for day in days:
        fill(account, day, fee_asset="BTC")
    assert fetch().priced == {"BTC": len(days)}
    assert len(spans(sandbox)) == 2
    for kept in AssetPrice.objects.all():
        wanted = min(end_of(kept.day), timezone.now())
        assert abs(kept.observed_at - wanted) <= HOUR
        if wanted < timezone.now() - timedelta(days=90):
            assert kept.observed_at == wanted  # one a day, on the dot
            assert kept.usd == market_price("BTC", float(kept.day.toordinal() + 1))
    assert not differences(account)


def test_a_reading_far_from_midnight_is_no_price(account, sandbox):
    at_five = int((end_of(YESTERDAY) + 5 * HOUR).timestamp() * 1000)
    sandbox.coingecko.fail(200, f'{{"prices":[[{at_five},84000]]}}'.encode())
    fill(account, YESTERDAY, fee_asset="BTC")
    assert fetch().priced == {}
    assert not AssetPrice.objects.exists()
    assert words(account) == [
        "BTC has no price on 2026-11-20. CoinGecko has no price of it at that time; it is asked again later."
    ]


def test_the_nearest_reading_counts_whatever_their_order(account, sandbox):
    midnight = int(end_of(YESTERDAY).timestamp() * 1000)
    minutes = {-80: "1", 3: "3", -4: "2", 60: "4"}
    readings = ",".join(f"[{midnight + minute * 60_000},{usd}]" for minute, usd in minutes.items())
    sandbox.coingecko.fail(200, f'{{"prices":[{readings}]}}'.encode())
    fill(account, YESTERDAY, fee_asset="BTC")
    fetch()
    assert AssetPrice.objects.get().usd == 3


@pytest.mark.parametrize("text", ["0", "-84000", "null", '"NaN"', '"-Infinity"', "1e999999", "1e-999999", "10000001"])
def test_rubbish_is_not_stored(account, sandbox, text):
    midnight = int(end_of(YESTERDAY).timestamp() * 1000)
    sandbox.coingecko.fail(200, f'{{"prices":[[{midnight},{text}]]}}'.encode())
    fill(account, YESTERDAY, fee_asset="BTC")
    assert fetch().priced == {}
    assert not AssetPrice.objects.exists()
    assert of(YESTERDAY).fees_not_priced_fills == 1


@pytest.mark.parametrize("moment", ["-1", "1" + "0" * 18, "0"])
def test_a_reading_of_no_time_at_all_does_no_harm(account, sandbox, moment):
    sandbox.coingecko.fail(200, f'{{"prices":[[{moment},84000]]}}'.encode())
    fill(account, YESTERDAY, fee_asset="BTC")
    assert fetch().priced == {}


def test_a_day_without_a_reading_is_asked_for_again_a_day_later(account, sandbox, clock):
    sandbox.coingecko.prices = {"BTC": {}}
    fill(account, YESTERDAY, fee_asset="BTC")
    for _ in range(23):
        assert fetch().priced == {}
        assert not prices.waiting(now=timezone.now())
        clock.move(3600)
    assert len(sandbox.coingecko.requests) == 1
    sandbox.coingecko.prices = None
    clock.move(3601)
    assert fetch().priced == {"BTC": 1}


def test_a_person_who_asks_is_not_put_off_until_tomorrow(account, sandbox):
    sandbox.coingecko.prices = {"BTC": {}}
    fill(account, YESTERDAY, fee_asset="BTC")
    fetch()
    sandbox.coingecko.prices = None
    assert fetch(again=True).priced == {"BTC": 1}


# --- Today -----------------------------------------------------------------------------------------------------------


def test_a_day_that_is_not_over_has_the_latest_price_until_it_has_its_own(account, sandbox, clock):
    sandbox.coingecko.prices = {"BTC": {TODAY: Decimal(80_000)}}
    fill(account, TODAY, fee="0.001", fee_asset="BTC")
    fetch()
    kept = AssetPrice.objects.get()
    assert (kept.usd, kept.is_final) == (80_000, False)
    assert clock.now() - 10 * timedelta(minutes=1) < kept.observed_at <= clock.now()
    assert of(TODAY).fees_usd == 80

    sandbox.coingecko.prices = {"BTC": {TODAY: Decimal(81_000)}}
    clock.move(3600)
    fetch()
    assert of(TODAY).fees_usd == 81

    sandbox.coingecko.prices = {"BTC": {TODAY: Decimal(90_000)}}
    clock.move(11 * 3600 + 1800)  # 00:30: a nearer reading may still come
    fetch()
    assert (of(TODAY).fees_usd, AssetPrice.objects.get().is_final) == (90, False)
    clock.move(3600)
    fetch()
    assert AssetPrice.objects.get().is_final
    assert AssetPrice.objects.count() == 1
    asked = len(sandbox.coingecko.requests)
    clock.move(3600)
    fetch()
    assert len(sandbox.coingecko.requests) == asked
    assert not differences(account)


def test_todays_price_is_not_asked_for_with_every_fill(account, sandbox, clock):
    fill(account, TODAY, fee_asset="BTC")
    fetch()
    for _ in range(5):
        clock.move(60)
        fetch()
    assert len(sandbox.coingecko.requests) == 1
    assert not prices.waiting(now=timezone.now())


def test_a_price_of_today_that_does_not_come_is_asked_for_within_the_hour(account, sandbox, clock):
    sandbox.coingecko.prices = {"BTC": {}}
    fill(account, TODAY, fee_asset="BTC")
    fetch()
    assert not prices.waiting(now=timezone.now())
    sandbox.coingecko.prices = None
    clock.move(3600)
    assert fetch().priced == {"BTC": 1}


# --- Which coin ------------------------------------------------------------------------------------------------------


def test_dime_is_the_one_of_paradex_and_not_dimecoin(account, sandbox):
    fill(account, YESTERDAY, fee="100", fee_asset="DIME")
    assert fetch().priced == {"DIME": 1}
    assert AssetPrice.objects.get().source == "CoinGecko dime-2"
    assert of(YESTERDAY).fees_usd == 8


def test_an_asset_two_coins_may_be_is_not_priced_and_says_what_to_do(account, sandbox, settings):
    fill(account, YESTERDAY, fee_asset="ODDS")
    for _ in range(3):
        fetch()
    assert sandbox.coingecko.calls == {"list": 1}
    assert not AssetPrice.objects.exists()
    (said,) = words(account)
    assert said.startswith("ODDS has no price on 2026-11-20. ")
    assert "against-all-odds, odds-and-ends" in said
    assert "COINGECKO_IDS=ODDS=" in said
    settings.COINGECKO_IDS = configured.COINGECKO_IDS | {"ODDS": "odds-and-ends"}
    assert fetch().priced == {"ODDS": 1}
    assert words(account) == []


def test_an_asset_no_coin_is_called_says_so(account):
    fill(account, YESTERDAY, fee_asset="NOSUCH")
    fetch()
    (said,) = words(account)
    assert "CoinGecko lists no coin of that symbol" in said


def test_one_coin_of_that_symbol_is_taken(account, sandbox):
    fill(account, YESTERDAY, fee_asset="PURR")
    assert fetch().priced == {"PURR": 1}
    assert sandbox.coingecko.calls == {"list": 1, "range": 1}


def test_the_list_of_coins_is_asked_for_once_a_round(account, sandbox):
    for asset in ("PURR", "ODDS", "DIME", "NOSUCH"):
        fill(account, YESTERDAY, fee_asset=asset)
    fetch()
    assert sandbox.coingecko.calls["list"] == 1


def test_a_wrong_id_in_the_settings_is_told_and_does_not_keep_the_others(account, settings):
    settings.COINGECKO_IDS = {"BTC": "bitcorn", "HYPE": "hyperliquid"}
    for asset in ("BTC", "HYPE"):
        fill(account, YESTERDAY, fee_asset=asset)
    assert fetch().priced == {"HYPE": 1}
    assert words(account) == [
        "BTC has no price on 2026-11-20. CoinGecko knows no coin 'bitcorn'; COINGECKO_IDS names another."
    ]


# --- Trouble ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (lambda gecko: gecko.fail(500), "CoinGecko has trouble of its own (HTTP 500)."),
        (lambda gecko: gecko.html(times=None), "sent something that is not its API's answer"),
        (lambda gecko: gecko.truncate(times=None), "sent something that is not its API's answer"),
        (lambda gecko: gecko.hang_up(times=None), "CoinGecko cannot be reached."),
        (lambda gecko: gecko.time_out(times=None), "CoinGecko does not answer."),
        (
            lambda gecko: gecko.fail(403, b"<html>blocked"),
            "does not accept requests without a key (HTTP 403). Set COIN",
        ),
        (lambda gecko: gecko.fail(400, b"{}"), "did not accept our request (HTTP 400)"),
        (lambda gecko: gecko.fail(200, b'{"prices":"soon"}'), "in a form perpdash does not know"),
        (lambda gecko: gecko.fail(200, b'{"prices":[[1,NaN]]}'), "sent something that is not its API's answer"),
        (lambda gecko: gecko.rate_limit(times=None), "CoinGecko asks us to slow down."),
    ],
)
def test_a_failed_round_changes_nothing_is_told_once_and_is_made_up_for(
    account, sandbox, clock, caplog, order: Callable[[Any], None], says: str
):
    fill(account, YESTERDAY, fee="0.001", fee_asset="BTC")
    before = list(DailyVolume.objects.values())
    order(sandbox.coingecko)
    for _ in range(3):
        assert says in fetch().trouble
        clock.move(3600)
    assert list(DailyVolume.objects.values()) == before
    assert not AssetPrice.objects.exists()
    assert len(caplog.records) == 1
    assert says in caplog.text
    (said,) = words(account)
    assert says in said
    assert not prices.waiting(now=timezone.now())
    sandbox.coingecko.heal()
    assert fetch().trouble == ""
    assert of(YESTERDAY).fees_usd > 0
    assert words(account) == []


def test_a_short_trouble_is_sat_out(account, sandbox):
    fill(account, YESTERDAY, fee_asset="BTC")
    sandbox.coingecko.fail(502, BAD_GATEWAY, times=2)
    sandbox.coingecko.rate_limit(times=1, retry_after=4)
    found = fetch(patience=60)
    assert (found.priced, found.trouble) == ({"BTC": 1}, "")
    assert sandbox.coingecko.too_early == 0


def test_trouble_with_one_asset_does_not_keep_the_others(account, sandbox):
    for asset in ("BTC", "HYPE"):
        fill(account, YESTERDAY, fee_asset=asset)
    sandbox.coingecko.fail(200, b"[]", times=1)
    found = fetch()
    assert found.priced == {"HYPE": 1}
    assert "form perpdash does not know" in found.trouble


def test_no_more_is_asked_in_a_minute_than_a_keyless_client_may(account, clock):
    app_config = prices.apps.get_app_config("exchanges")
    app_config.sandbox = Sandbox(clock.now)
    for number in range(4):
        for asset in ("BTC", "ETH", "HYPE"):
            fill(account, TODAY - timedelta(days=1 + 100 * (number % 2)), fee_asset=asset)
    first = fetch()
    assert first.priced == {"BTC": 2, "ETH": 2}
    assert (first.retry_in or 0) > 50
    tasks.fetch_prices()
    assert queued() == ["fetch_prices"]  # for when it may
    clock.move((first.retry_in or 0) + 1)
    assert fetch().priced == {"HYPE": 2}
    assert app_config.sandbox.coingecko.too_early == 0
    assert set(app_config.sandbox.coingecko.statuses) == {200}


def test_what_free_plans_do_not_tell_is_not_asked_and_the_file_is_named(account, sandbox):
    old = TODAY - timedelta(days=400)
    for day in (YESTERDAY, old):
        fill(account, day, fee_asset="BTC")
    assert fetch().priced == {"BTC": 1}
    assert set(sandbox.coingecko.statuses) == {200}
    (said,) = words(account)
    assert said.startswith("BTC has no price on 2025-10-17. CoinGecko's free plans tell the last 365 days;")
    assert "manage.py import_prices" in said
    assert not prices.waiting(now=timezone.now())


def test_the_last_day_within_reach_is_asked_for(account, sandbox):
    for number in range(360, 370):
        fill(account, TODAY - timedelta(days=number), fee_asset="BTC")
    fetch()
    assert set(sandbox.coingecko.statuses) == {200}
    assert min(AssetPrice.objects.values_list("day", flat=True)) == TODAY - timedelta(days=365)


def test_of_a_day_at_the_edge_of_reach_only_what_is_within_is_asked(account, sandbox, clock):
    clock.move(12 * 3600 - 600)
    oldest = TODAY - timedelta(days=365)  # it ended ten minutes after what is still told
    fill(account, oldest, fee_asset="BTC")
    assert fetch().priced == {"BTC": 1}
    assert set(sandbox.coingecko.statuses) == {200}


def test_a_paid_key_reaches_further_back(account, sandbox, settings):
    settings.COINGECKO_API_KEY, settings.COINGECKO_PLAN = PRO_KEY, "pro"
    old = TODAY - timedelta(days=700)
    fill(account, old, fee_asset="BTC")
    assert fetch().priced == {"BTC": 1}


def test_a_paid_key_that_reaches_less_far_still_tells_what_every_plan_does(account, sandbox, settings):
    settings.COINGECKO_API_KEY, settings.COINGECKO_PLAN = PRO_KEY, "pro"
    too_far = (
        b'{"error":{"status":{"error_code":10012,"error_message":"Your request exceeds the allowed time range."}}}'
    )
    for number in (700, 300):
        fill(account, TODAY - timedelta(days=number), fee_asset="BTC")
    sandbox.coingecko.fail(401, too_far, times=1)
    assert fetch().priced == {"BTC": 1}
    assert AssetPrice.objects.get().day == TODAY - timedelta(days=300)
    assert "it is asked again later" in words(account)[0]


@pytest.mark.parametrize("plan", ["demo", "pro"])
def test_a_key_that_is_not_accepted_is_told_and_never_shown(account, sandbox, settings, caplog, plan, client):
    settings.COINGECKO_API_KEY, settings.COINGECKO_PLAN = "CG-very-secret", plan
    caplog.set_level(logging.DEBUG)
    fill(account, YESTERDAY, fee_asset="BTC")
    found = fetch()
    assert found.trouble == (
        "CoinGecko does not accept the key in COINGECKO_API_KEY (HTTP 401). Correct it, or COINGECKO_PLAN."
    )
    out = StringIO()
    call_command("fetch_prices", stdout=out)
    assert "very-secret" not in caplog.text + repr(found) + "".join(words(account)) + out.getvalue()


@pytest.mark.parametrize("trouble", ["fail", "html", "hang_up", "time_out", "rate_limit"])
def test_no_trouble_shows_the_key(account, sandbox, settings, caplog, trouble):
    settings.COINGECKO_API_KEY = DEMO_KEY
    caplog.set_level(logging.DEBUG)
    fill(account, YESTERDAY, fee_asset="BTC")
    getattr(sandbox.coingecko, trouble)(times=None)
    found = fetch()
    assert found.trouble
    assert DEMO_KEY not in caplog.text + found.trouble + "".join(words(account)) + str(sandbox.coingecko.requests)


def test_a_demo_key_is_sent_as_one(account, sandbox, settings):
    settings.COINGECKO_API_KEY = DEMO_KEY
    fill(account, YESTERDAY, fee_asset="BTC")
    assert fetch().priced == {"BTC": 1}
    settings.COINGECKO_PLAN = "pro"
    fill(account, YESTERDAY, fee_asset="HYPE")
    assert fetch().priced == {}


# --- What follows ----------------------------------------------------------------------------------------------------


def test_a_price_that_comes_later_touches_only_what_rests_on_it(account, sandbox):
    fill(account, YESTERDAY, fee_asset="BTC")
    fill(account, YESTERDAY, symbol="SOL")
    fill(account, TODAY, symbol="SOL")
    other = factories.credential(owner=factories.user("bob"), secrets={"address": "0x" + "2" * 40})
    fill(other, YESTERDAY, fee_asset="BTC")
    kept = dict(DailyVolume.objects.filter(symbol="SOL").values_list("pk", "fees_usd"))
    assert fetch().rebuilt == 2
    assert dict(DailyVolume.objects.filter(symbol="SOL").values_list("pk", "fees_usd")) == kept
    assert not DailyVolume.objects.exclude(fees_not_priced={}).exists()
    assert not differences(account) + differences(other)


def test_the_same_price_again_rebuilds_nothing(account):
    price = {("BTC", YESTERDAY): Price(Decimal(80_000), "by hand")}
    fill(account, YESTERDAY, fee_asset="BTC")
    assert prices.store(price, by_hand=True) == 1
    assert prices.store(price, by_hand=True) == 0


def test_a_price_by_hand_wins_over_coingeckos(account):
    key = ("BTC", YESTERDAY)
    prices.store({key: Price(Decimal(1), "CoinGecko bitcoin")})
    prices.store({key: Price(Decimal(2), "by hand")}, by_hand=True)
    prices.store({key: Price(Decimal(3), "CoinGecko bitcoin")})
    assert AssetPrice.objects.get().usd == 2


def test_a_price_is_kept_with_its_days_or_not_at_all(account):
    fill(account, YESTERDAY, quote="BTC", notional=Decimal(90_000_000_000))  # more dollars than a day can hold
    with pytest.raises((OverflowError, DataError)), transaction.atomic():
        fetch()
    assert not AssetPrice.objects.exists()
    assert prices.needed() == {"BTC": {YESTERDAY}}
    Fill.objects.update(notional=1)
    assert fetch().rebuilt == 1
    assert of(YESTERDAY).notional_usd == AssetPrice.objects.get().usd.quantize(Decimal("1e-8"))


@pytest.fixture
def march(shared_data: Path) -> dict[date, Decimal]:
    """What a USDC cost at the end of each day of March 2023."""
    with (shared_data / "prices/usd_daily.csv").open(newline="") as file:
        return {
            date.fromisoformat(row["date_utc"]): Decimal(row["usd"])
            for row in csv.DictReader(file)
            if row["asset"] == "USDC" and row["date_utc"].startswith("2023-03")
        }


def test_the_usdc_days_of_march_2023_show_once_their_owner_wants_market_value(account, sandbox, settings, march):
    settings.COINGECKO_API_KEY, settings.COINGECKO_PLAN = PRO_KEY, "pro"
    sandbox.coingecko.prices = {"USDC": march}
    for day in march:
        fill(account, day)
    assert {row.notional_usd for row in DailyVolume.objects.all()} == {1000}
    Preferences.objects.create(owner=account.owner, stablecoins_at_market=True)
    tasks.bring_up_to_date()
    assert len(march) > 25
    assert {row.day: row.notional_usd for row in DailyVolume.objects.all()} == {
        day: (1000 * usd).quantize(Decimal("1e-8")) for day, usd in march.items()
    }
    depegged = of(date(2023, 3, 11))
    assert Decimal("971.4") < depegged.notional_usd < Decimal("971.6")
    assert depegged.is_at_market
    assert not differences(account)
    Preferences.objects.update(stablecoins_at_market=False)
    tasks.bring_up_to_date()
    assert {row.notional_usd for row in DailyVolume.objects.all()} == {1000}
    assert not differences(account)


def test_a_stablecoin_at_market_without_a_price_is_not_counted_as_one(account, sandbox):
    fill(account, date(2023, 3, 11))
    Preferences.objects.create(owner=account.owner, stablecoins_at_market=True)
    tasks.bring_up_to_date()
    row = of(date(2023, 3, 11))
    assert (row.notional_usd, row.fills_not_priced, row.fees_not_priced) == (0, 1, {"USDC": "1"})
    assert not sandbox.coingecko.requests
    prices.store({("USDC", row.day): Price(Decimal("0.9715"), "by hand")}, by_hand=True)
    row = of(date(2023, 3, 11))
    assert (row.notional_usd, row.fills_not_priced, row.fees_usd) == (Decimal("971.5"), 0, Decimal("0.9715"))


def test_an_owners_choice_leaves_the_others_alone(account):
    fill(account, YESTERDAY)
    other = factories.credential(owner=factories.user("bob"), secrets={"address": "0x" + "2" * 40})
    fill(other, YESTERDAY)
    Preferences.objects.create(owner=other.owner, stablecoins_at_market=True)
    assert fetch().rebuilt == 1
    tasks.bring_up_to_date()
    assert of(YESTERDAY, account).notional_usd == 1000
    usd = AssetPrice.objects.get().usd
    assert usd != 1
    assert of(YESTERDAY, other).notional_usd == 1000 * usd


def test_days_an_older_perpdash_computed_are_brought_up_to_date(account):
    fill(account, YESTERDAY, fee_asset="BTC")
    DailyVolume.objects.update(is_at_market=None, assets=[], fees_not_priced={}, fees_not_priced_fills=0)
    tasks.bring_up_to_date()
    assert of(YESTERDAY).assets == ["BTC", "USDC"]
    assert queued() == ["fetch_prices"]
    tasks.fetch_prices()
    assert of(YESTERDAY).fees_usd > 0
    tasks.bring_up_to_date()
    assert queued() == []


def test_only_one_asks_at_a_time(account, sandbox):
    fill(account, YESTERDAY, fee_asset="BTC")
    cache.add(tasks.FETCHING, True)
    tasks.fetch_prices()
    assert not sandbox.coingecko.requests
    cache.delete(tasks.FETCHING)
    tasks.fetch_prices()
    tasks.fetch_prices()
    assert len(sandbox.coingecko.requests) == 1


def demo_account(sandbox: Sandbox, venue: str, days: int) -> ExchangeCredential:
    """The demo's account at a venue, of which some days are wanted."""
    ((_, secrets),) = sandbox.venues[venue].demo_accounts
    since = timezone.now() - timedelta(days=days)
    return factories.credential(venue, secrets=secrets, history_from=since)


@pytest.mark.parametrize(("venue", "asset"), [("paradex", "DIME"), ("bybit", "BTC")])
def test_what_a_venue_charges_in_its_own_coin_is_priced(sandbox, venue, asset):
    stored = demo_account(sandbox, venue, days=40)
    refresh(stored, now=timezone.now(), wanted=Wanted(patience=60))
    lacking = prices.not_priced([stored])[stored.pk]
    assert asset in lacking
    assert prices.waiting([stored], now=timezone.now())
    found = fetch()
    assert found.priced.keys() == lacking.keys()
    assert prices.not_priced() == {}
    assert not DailyVolume.objects.exclude(fees_not_priced={}).exists()
    assert not DailyVolume.objects.filter(fills_not_priced__gt=0).exists()
    assert not differences(stored)


def test_a_reading_that_leaves_something_without_a_price_asks_for_prices(sandbox):
    stored = demo_account(sandbox, "paradex", days=40)
    tasks.refresh_credential(stored.pk)
    assert "fetch_prices" in queued()
    tasks.fetch_prices()
    ExchangeCredential.objects.update(due_at=timezone.now())
    tasks.refresh_credential(stored.pk)
    assert queued() == []


# --- From a shell, and in the admin ----------------------------------------------------------------------------------


def run(name: str, *arguments: Any) -> str:
    out = StringIO()
    call_command(name, *map(str, arguments), stdout=out)
    return out.getvalue()


def test_fetch_prices_says_what_it_did_and_what_is_missing(account):
    fill(account, YESTERDAY, fee_asset="BTC")
    fill(account, YESTERDAY - timedelta(days=1), fee_asset="BTC")
    fill(account, YESTERDAY, fee_asset="NOSUCH", symbol="SOL")
    lines = run("fetch_prices").splitlines()
    assert lines[:2] == ["BTC: priced on 2 days", "2 days and markets computed anew"]
    assert lines[2].startswith(f"{account} (#{account.pk}): NOSUCH has no price on 2026-11-20. CoinGecko lists no coin")
    assert len(lines) == 3
    DailyVolume.objects.filter(symbol="SOL").delete()
    assert run("fetch_prices").splitlines() == ["0 days and markets computed anew", "Nothing lacks a price."]


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "prices.csv"
        path.write_text(text)
        return path

    return write


def test_prices_come_from_a_file_and_twice_is_the_same_as_once(account, file):
    fill(account, YESTERDAY, fee="0.5", fee_asset="BTC")
    path = file("\ufeffday,asset,usd,source\n2026-11-20,BTC,84000.5,my broker\n2026-11-19,BTC,1,\n\n")
    assert run("import_prices", path) == "2 prices stored; 1 days and markets computed anew\n"
    assert of(YESTERDAY).fees_usd == Decimal("42000.25")
    stored = list(AssetPrice.objects.values())
    assert {(row["source"], row["is_final"]) for row in stored} == {("my broker", True), ("prices.csv", True)}
    assert run("import_prices", path) == "2 prices stored; 0 days and markets computed anew\n"
    assert list(AssetPrice.objects.values()) == stored


def test_a_price_from_a_file_is_not_asked_for_and_replaces_coingeckos(account, file, sandbox, clock):
    fill(account, TODAY, fee_asset="BTC")
    fetch()
    run("import_prices", file("day,asset,usd\n2026-11-21,BTC,1\n"))
    assert of(TODAY).fees_usd == 1
    clock.move(86_400)
    fetch()
    assert (of(TODAY).fees_usd, len(sandbox.coingecko.requests)) == (1, 1)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("2026-11-31,BTC,1", "Line 3: '2026-11-31' is not a date like 2025-01-31."),
        ("20.11.2026,BTC,1", "Line 3: '20.11.2026' is not a date like 2025-01-31."),
        ("2026-11-22,BTC,1", "Line 3: 2026-11-22 is still to come."),
        ("2026-11-20,,1", "Line 3: '' is not an asset."),
        (f"2026-11-20,{'B' * 21},1", "is not an asset."),
        ("2026-11-20,BTC,", "Line 3: '' is not a price in dollars."),
        ("2026-11-20,BTC", "Line 3: '' is not a price in dollars."),
        ("2026-11-20,BTC,0", "Line 3: '0' is not a price in dollars."),
        ("2026-11-20,BTC,-1", "Line 3: '-1' is not a price in dollars."),
        ("2026-11-20,BTC,NaN", "Line 3: 'NaN' is not a price in dollars."),
        ("2026-11-20,BTC,1e400", "Line 3: '1e400' is not a price in dollars."),
        ("2026-11-20,BTC,\"84,000\"", "Line 3: '84,000' is not a price in dollars."),
        ("2026-11-19,BTC,2", "Line 3: BTC has another price on 2026-11-19 further up."),
    ],
)  # fmt: skip
def test_a_file_with_a_fault_is_not_stored_at_all(file, line, says):
    with pytest.raises(CommandError) as fault:
        run("import_prices", file(f"day,asset,usd\n2026-11-19,BTC,1\n{line}\n"))
    assert says in str(fault.value)
    assert str(fault.value).endswith("\nNothing was stored.")
    assert not AssetPrice.objects.exists()


def test_what_is_no_file_of_prices_is_refused(file, tmp_path):
    with pytest.raises(CommandError, match="The first line lacks the columns day, usd"):
        run("import_prices", file("asset,price\nBTC,1\n"))
    with pytest.raises(CommandError, match=r"can't be read: No such file or directory\."):
        run("import_prices", tmp_path / "nowhere.csv")
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(CommandError, match="is no CSV file in UTF-8"):
        run("import_prices", path)


def test_many_faults_are_not_all_named(file):
    with pytest.raises(CommandError) as fault:
        run("import_prices", file("day,asset,usd\n" + "x,BTC,1\n" * 50))
    assert str(fault.value).splitlines()[20:] == ["and 30 more", "Nothing was stored."]


def test_the_recorded_prices_of_three_years_are_taken_as_they_are(account, shared_data):
    path = shared_data / "prices/usd_daily.csv"
    fill(account, date(2023, 1, 1), fee="0.001", fee_asset="BTC")
    assert run("import_prices", path).endswith(" prices stored; 1 days and markets computed anew\n")
    with path.open(newline="") as source:
        rows = {(row["asset"], row["date_utc"]): (row["usd"], row["source"]) for row in csv.DictReader(source)}
    kept = {(row.asset, str(row.day)): (row.usd, row.source) for row in AssetPrice.objects.all()}
    assert kept == {key: (Decimal(usd), said) for key, (usd, said) in rows.items()}
    assert of(date(2023, 1, 1)).fees_usd == Decimal("16.62508008")


def test_the_admin_shows_prices_and_asks_for_them_again(account, client, sandbox):
    client.force_login(factories.user("root", is_staff=True, is_superuser=True))
    fill(account, YESTERDAY, fee_asset="BTC")
    prices.store({("BTC", YESTERDAY): Price(Decimal(1), "CoinGecko bitcorn")})
    url = reverse("admin:volume_assetprice_changelist")
    assert "CoinGecko bitcorn" in client.get(url).text
    chosen = [AssetPrice.objects.get().pk]
    answer = client.post(url, {"action": "ask_again", "_selected_action": chosen}, follow=True)
    assert "1 prices are asked for within the hour" in answer.text
    assert of(YESTERDAY).fees_usd == 1
    fetch()
    assert AssetPrice.objects.get().source == "CoinGecko bitcoin"
    assert of(YESTERDAY).fees_usd > 1
    staff = factories.user("looker", is_staff=True)
    assert not staff.has_perm("volume.change_assetprice")
