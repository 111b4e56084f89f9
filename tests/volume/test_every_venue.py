"""What holds for every venue: two years come to its own truth, within its limits, in any weather, however often."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps

from exchanges.connect import budget
from exchanges.models import Coverage, ExchangeCredential, Fill, Health, SyncRun
from exchanges.sandbox import SANDBOXES, Sandbox
from exchanges.sandbox.base import SandboxVenue
from exchanges.venues import VENUES
from exchanges.venues.base import Reason
from tests import factories
from tests.conftest import NOW
from volume import holding
from volume.models import DailyVolume
from volume.refresh import Wanted, refresh
from volume.rollup import differences

pytestmark = pytest.mark.django_db
Outcome = SyncRun.Outcome
Cells = dict[tuple[date, str], tuple[int, Decimal, int, Decimal]]
KEYED = sorted(set(SANDBOXES) - {"hyperliquid"})  # a public address can be neither revoked nor mistyped


# What is between venue and reader. How it is stored on every database, the two years of each venue tell.
ON_ONE_DATABASE = pytest.mark.serviceless


@pytest.fixture
def serve(clock: SimpleNamespace) -> Iterator[Callable[..., SandboxVenue]]:
    """A venue with its documented limits, under the test's clock, with options of its own."""
    app = apps.get_app_config("exchanges")

    def start(slug: str, **options: Any) -> SandboxVenue:
        app.sandbox, app.sleep = Sandbox(clock.now, **{slug: options}), clock.move
        budget.cache_clear()
        return app.sandbox.venues[slug]

    yield start
    app.sandbox, app.sleep = None, app.__class__.sleep


def main_account(venue: SandboxVenue, slug: str, **fields: Any) -> ExchangeCredential:
    return factories.credential(slug, secrets=venue.demo_accounts[0][1], **fields)


def read(credential: ExchangeCredential, clock: Any, **wanted: Any) -> SyncRun:
    credential.refresh_from_db()
    return refresh(credential, now=clock.now(), wanted=Wanted(**{"patience": 70} | wanted))


def read_to_the_end(credential: ExchangeCredential, clock: Any) -> list[SyncRun]:
    """As beat would: again and again, until nothing is left to read."""
    runs: list[SyncRun] = []
    while not runs or runs[-1].outcome in (Outcome.UNAVAILABLE, Outcome.WAITING):
        runs.append(read(credential, clock))
        clock.move(60)
        assert len(runs) < 40, runs[-1].message
    return runs


def stored(credential: ExchangeCredential) -> Cells:
    days = DailyVolume.objects.filter(credential=credential)
    return {(day.day, day.symbol): (day.fills, day.notional_usd, day.forced_fills, day.forced_usd) for day in days}


def truth(venue: Any, credential: ExchangeCredential) -> Cells:
    """The venue's own sums of the time the account says it has read."""
    credential.refresh_from_db()
    found = venue.truth(credential.account_ref, since=credential.history_from, until=credential.fresh_at)
    return {cell: tuple(sums) for cell, sums in found.items()}


@pytest.mark.parametrize("slug", SANDBOXES)
def test_two_years_come_to_the_venues_own_truth_without_a_single_request_too_many(
    slug: str, serve: Any, clock: Any
) -> None:
    venue = serve(slug)
    credential = main_account(venue, slug)
    run = read(credential, clock)
    assert run.outcome == Outcome.COMPLETE
    assert stored(credential) == truth(venue, credential)
    assert set(venue.statuses) == {200}
    assert (run.retries, venue.too_early) == (0, 0)
    assert not differences(credential)

    before = stored(credential)
    again = read(credential, clock, again=True)
    assert (again.new, again.retracted) == (0, 0)
    assert stored(credential) == before


@ON_ONE_DATABASE
@pytest.mark.parametrize("slug", SANDBOXES)
def test_bad_weather_delays_and_changes_nothing(slug: str, serve: Any, clock: Any) -> None:
    odd = {"unknown_dir": True} if slug == "hyperliquid" else {"odd": True, "duplicates": True}
    venue = serve(slug, skew=timedelta(seconds=20), **odd) if slug != "hyperliquid" else serve(slug, **odd)
    credential = main_account(venue, slug)
    venue.after(3, lambda: None)
    venue.html(times=2)
    venue.html(times=1, status=500)
    venue.truncate(times=2)
    venue.after(2, lambda: None)
    venue.hang_up(times=1)
    venue.time_out(times=6)
    venue.rate_limit(times=2)
    venue.after(1, lambda: None)
    venue.rate_limit(times=1, retry_after=7)
    venue.fail(502, times=3)
    venue.maintain(times=7)
    runs = read_to_the_end(credential, clock)
    assert stored(credential) == truth(venue, credential)
    assert sum(run.held for run in runs) == credential.held_rows.count() > 0
    assert venue.too_early < VENUES[slug].in_flight  # none but those under way when one of them was told to wait
    assert not differences(credential)
    assert read(credential, clock, again=True).new == 0


@ON_ONE_DATABASE
@pytest.mark.parametrize("slug", SANDBOXES)
def test_a_clock_that_is_20_seconds_behind_does_not_matter(slug: str, serve: Any, clock: Any) -> None:
    if slug == "hyperliquid":
        pytest.skip("Hyperliquid signs nothing, so it minds no clock")
    venue = serve(slug, skew=timedelta(seconds=-20))
    credential = main_account(venue, slug, history_from=NOW - timedelta(days=60))
    assert read(credential, clock).outcome == Outcome.COMPLETE
    assert stored(credential) == truth(venue, credential)


@ON_ONE_DATABASE
@pytest.mark.parametrize("slug", KEYED)
def test_a_key_revoked_in_the_middle_is_no_longer_tried_and_a_repaired_one_goes_on(
    slug: str, serve: Any, clock: Any
) -> None:
    venue = serve(slug)
    credential = main_account(venue, slug, history_from=NOW - timedelta(days=300))
    assert doctor_says_works(credential, clock)
    venue.after(2, lambda: venue.revoke(credential.account_ref))
    assert read(credential, clock).outcome == Outcome.REJECTED
    credential.refresh_from_db()
    assert (credential.health_state, credential.health_reason) == (Health.REJECTED, Reason.REVOKED)
    kept = Fill.objects.count()

    venue.restore(credential.account_ref)
    assert holding.reverify(credential, now=clock.now())
    run = read(credential, clock)
    assert run.outcome == Outcome.COMPLETE
    assert run.seen <= kept
    assert stored(credential) == truth(venue, credential)


def doctor_says_works(credential: ExchangeCredential, clock: Any) -> bool:
    return holding.reverify(credential, now=clock.now(), patience=70)


@ON_ONE_DATABASE
def test_a_jwt_that_dies_in_the_middle_of_a_walk_is_renewed(serve: Any, clock: Any) -> None:
    from exchanges.sandbox import paradex

    venue = serve("paradex", fills_per_day=30)
    secrets = {"account": paradex.DEMO_MAIN, "subkey": hex(paradex.DEMO_SUBKEY)}
    credential = factories.credential("paradex", secrets=secrets, allows_trading_key=True)
    for requests in (4, 5):
        venue.after(requests, venue.expire_jwts)
    run = read(credential, clock)
    assert run.outcome == Outcome.COMPLETE
    assert stored(credential) == truth(venue, credential)
    assert venue.statuses[401] == 2
    assert credential.may_trade


@ON_ONE_DATABASE
def test_an_account_upgraded_in_the_middle_is_read_from_both_of_its_lists(serve: Any, clock: Any) -> None:
    from exchanges.sandbox import bybit

    venue = serve("bybit")
    credential = factories.credential("bybit", secrets=bybit.UPGRADED)
    run = read(credential, clock)
    assert stored(credential) == truth(venue, credential)
    # What nobody can read any more is said, and only of the time of which the old list holds anything.
    assert (run.outcome, run.message[:45]) == (Outcome.INCOMPLETE, "Bybit keeps USDC perpetuals from before an ac")
    lost = credential.coverage.filter(state=Coverage.State.OUT_OF_REACH)
    assert set(lost.values_list("stream", flat=True)) == {"linear before upgrade"}
    assert max(lost.values_list("until_at", flat=True)) <= clock.now() - timedelta(days=180)
    assert venue.calls[bybit.OLD_FILLS] > 50


@ON_ONE_DATABASE
@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
@pytest.mark.parametrize(("cap", "total"), [(500, "true"), (100, "absent"), (1000, "page"), (500, "wrong")])
def test_woo_x_may_order_cut_and_count_as_it_likes(serve: Any, clock: Any, order: str, cap: int, total: str) -> None:
    venue = serve("woox", fills_per_day=4, order=order, cap=cap, total=total, per_second=10**6)
    credential = main_account(venue, "woox")
    assert read(credential, clock).outcome == Outcome.COMPLETE
    assert stored(credential) == truth(venue, credential)
