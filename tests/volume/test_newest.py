"""The summary is computed once for all who look, and never lags behind what is committed."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from exchanges.models import ExchangeCredential
from exchanges.sandbox.hyperliquid import DEMO_TRADER
from exchanges.venues.base import FillReport, Held, Kind, Liquidity, Page, Side
from tests import factories
from tests.conftest import NOW
from volume import holding, prices, rollup, trouble
from volume.glance import summary
from volume.newest import newest_summary
from volume.prices import Price
from volume.refresh import refresh, reparse, store_page

pytestmark = pytest.mark.django_db(transaction=True)
ELSEWHERE = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "another process"}}
AWAY = {"default": {"BACKEND": "perpdash.caching.SteadyCache", "LOCATION": "redis://127.0.0.1:1/0"}}
NONE = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}


@pytest.fixture
def account(sandbox: Any, clock: Any) -> ExchangeCredential:
    """Read to its end; nothing was traded yet."""
    made = factories.credential(owner=factories.user("ada"), history_from=NOW - timedelta(hours=20))
    sandbox.hyperliquid.add(DEMO_TRADER)
    refresh(made, now=NOW)
    made.refresh_from_db()
    return made


@pytest.fixture
def trade(sandbox: Any, account: ExchangeCredential) -> Callable[[], None]:
    """The account fills one more order, of 100,000 USDC, and is read."""
    rows: list[dict[str, Any]] = []

    def one_more() -> None:
        rows.append(factories.hyperliquid_row(NOW - timedelta(minutes=1), tid=len(rows) + 1))
        sandbox.hyperliquid.add(DEMO_TRADER, rows=rows)
        holding.read_again(account, None, now=NOW)
        refresh(account, now=NOW)

    return one_more


def store(account: ExchangeCredential, *, quote: str = "USDC", notional: int = 7) -> None:
    """A page with one fill, within a transaction."""
    report = FillReport(
        fill_id=quote, symbol="BTC", base="BTC", quote=quote, side=Side.BUY, liquidity=Liquidity.TAKER,
        kind=Kind.TRADE, price=Decimal(notional), qty=Decimal(1), notional=Decimal(notional), fee=Decimal(0),
        fee_asset=quote, realized_pnl=None, executed_at=NOW - timedelta(minutes=2),
    )  # fmt: skip
    account.lock()
    store_page(account, account.streams[0], Page(rows=[report]), now=NOW)


def shown(account: ExchangeCredential) -> str:
    return str(newest_summary(account.owner_id, now=timezone.now())["totals"]["24h"]["notional_usd"])


@contextmanager
def queries() -> Iterator[list[str]]:
    asked: list[str] = []

    def note(execute: Any, sql: str, *of: Any) -> Any:
        asked.append(sql)
        return execute(sql, *of)

    with connection.execute_wrapper(note):
        yield asked


def test_it_is_what_is_computed_without_a_cache(account, trade):
    trade()
    for _ in range(2):
        assert newest_summary(account.owner_id, now=NOW) == summary(account.owner_id, now=NOW)


def test_who_looks_again_has_nothing_computed_anew(account):
    first = newest_summary(account.owner_id, now=NOW)
    with queries() as asked:
        assert newest_summary(account.owner_id, now=NOW + timedelta(seconds=1)) == first
    assert len(asked) == 2
    assert "secrets" not in "".join(asked)


def test_page_and_api_share_it(account):
    client = Client()
    client.force_login(account.owner)
    kept = newest_summary(account.owner_id, now=NOW - timedelta(seconds=2))
    assert client.get("/api/v1/volume/summary/").json() == kept
    assert client.get("/").context["summary"] == kept


def test_a_committed_fill_is_in_the_very_next_one(account, trade):
    for expected in ("0", "100000", "200000"):
        assert shown(account) == expected
        trade()


def test_a_fill_that_was_rolled_back_never_is(account):
    assert shown(account) == "0"
    for looks_after in (True, False):
        with transaction.atomic():
            store(account)
            assert shown(account) == "7"  # whoever stores it sees it, and puts what they see into the cache
            transaction.set_rollback(True)
        assert not looks_after or shown(account) == "0"
    with transaction.atomic():
        store(account, notional=8)
    assert shown(account) == "8"


def test_what_another_process_has_computed_before_is_not_shown_after(account, trade, settings):
    ours = settings.CACHES
    for expected in ("0", "100000", "200000"):
        for caches in (ours, ELSEWHERE, ours):
            settings.CACHES = caches
            assert shown(account) == expected
        trade()


@pytest.mark.parametrize("caches", [AWAY, NONE], ids=["away", "none"])
def test_without_a_cache_it_only_takes_longer(account, trade, settings, caches):
    settings.CACHES = caches
    for expected in ("0", "100000", "200000"):
        assert shown(account) == expected
        trade()


def test_whatever_is_committed_while_it_is_computed_is_in_the_next(account):
    """Before each of the queries in turn."""
    with queries() as asked:
        newest_summary(account.owner_id, now=NOW - timedelta(hours=1))  # nothing is kept of that time
    for place in range(len(asked)):
        left = iter(range(len(asked)))

        def commit(execute: Any, sql: str, *of: Any, at: int = place, left: Iterator[int] = left) -> Any:
            if next(left, None) == at:
                with transaction.atomic():
                    store(account, quote=["USDC", "USDT", "USD"][at % 3], notional=at + 1)
            return execute(sql, *of)

        account.fills.all().delete()
        rollup.rebuild_all(account)
        with connection.execute_wrapper(commit):
            newest_summary(account.owner_id, now=NOW)
        assert shown(account) == str(place + 1)


def test_the_hours_slide_though_nothing_is_stored(account, clock):
    first = newest_summary(account.owner_id, now=NOW)
    clock.move(4)
    assert newest_summary(account.owner_id, now=clock.now()) == first
    clock.move(2)
    later = newest_summary(account.owner_id, now=clock.now())
    assert later == summary(account.owner_id, now=clock.now())
    assert later["as_of"] > first["as_of"]


def test_a_new_day_begins_at_once(account):
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    assert newest_summary(account.owner_id, now=midnight - timedelta(seconds=1))["day"] == "2026-11-21"
    assert newest_summary(account.owner_id, now=midnight)["day"] == "2026-11-22"


def test_a_clock_that_was_set_back_brings_nothing_of_the_time_to_come(account):
    newest_summary(account.owner_id, now=NOW + timedelta(hours=1))
    assert newest_summary(account.owner_id, now=NOW)["as_of"] == NOW.isoformat()


def test_what_ails_perpdash_is_told_at_once(account, monkeypatch):
    assert newest_summary(account.owner_id, now=NOW)["trouble"] == ""
    monkeypatch.setattr(trouble, "now", lambda: "The disk is full.")
    assert newest_summary(account.owner_id, now=NOW)["trouble"] == "The disk is full."


def test_what_comes_back_is_of_its_own_time(account, clock):
    """A page that was told of the time between would take an answer of the time before for overtaken."""
    newest_summary(account.owner_id, now=clock.now())
    for choice in (True, False):
        clock.move(1)
        holding.prefer(account.owner, counts_forced=choice)
        assert newest_summary(account.owner_id, now=clock.now())["as_of"] == clock.now().isoformat()


DEEDS: dict[str, Callable[[ExchangeCredential], object]] = {
    "preferences": lambda account: holding.prefer(account.owner, stablecoins_at_market=True),
    "rename": lambda account: holding.rename(account, "Other"),
    "pause": holding.pause,
    "stop": holding.stop_backfill,
    "more history": lambda account: holding.want_from(account, NOW - timedelta(days=9)),
    "lease": lambda account: account.claim(now=NOW),
    "another account": lambda account: factories.credential("woox", owner=account.owner, secrets=KEY),
    "retire": lambda account: holding.retire(account, now=NOW),
    "remove": holding.remove,
    "remove all": lambda account: holding.remove_all(account.owner_id),
    "poll": lambda account: refresh(account, now=NOW + timedelta(seconds=30)),
    "price": lambda account: prices.store({("ARB", NOW.date()): Price(Decimal(2), "by hand", NOW)}, by_hand=True),
    "rebuild": rollup.rebuild_all,
    "reparse": lambda account: reparse(account, now=NOW),
}
KEY = {"api_key": "key", "api_secret": "secret"}


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_whatever_is_done_shows_at_once(account, deed, sandbox):
    """With a held row that is understood now, a fill without a price, and a day that is wrong."""
    factories.credential("bybit", owner=account.owner, label="Beside", secrets=KEY, is_enabled=False)
    with transaction.atomic():
        store(account, quote="ARB", notional=5)
        held = Held(json.dumps(factories.hyperliquid_row(NOW - timedelta(minutes=3))), "unknown", NOW)
        store_page(account, account.streams[0], Page(rows=[held]), now=NOW)
    account.days.update(notional_usd=1)
    owner_id = account.owner_id
    before = newest_summary(owner_id, now=NOW)
    deed(account)
    after = newest_summary(owner_id, now=NOW)
    assert after == summary(owner_id, now=NOW)
    assert after != before
