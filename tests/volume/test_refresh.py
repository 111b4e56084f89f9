"""One account from venue to page: what is read, what trouble does to it, and that twice is the same as once."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from exchanges import sync
from exchanges.models import Coverage, ExchangeCredential, Fill, Health, SyncRun, history_start
from exchanges.sandbox import Sandbox, bybit, hyperliquid
from exchanges.venues.base import FillReport, to_ms
from tests import factories
from tests.conftest import NOW
from volume import holding
from volume.glance import summary
from volume.models import DailyVolume
from volume.queries import Filter, volume
from volume.refresh import NotOurs, Wanted, refresh
from volume.rollup import differences

pytestmark = pytest.mark.django_db
ME = "0x00000000000000000000000000000000000000aa"
Outcome = SyncRun.Outcome


def row(**changes: Any) -> dict[str, Any]:
    return factories.hyperliquid_row(NOW - timedelta(minutes=1), **changes)


def mine(**fields: Any) -> ExchangeCredential:
    return factories.credential(secrets={"address": ME}, **fields)


def read(credential: ExchangeCredential, clock: Any, **wanted: Any) -> SyncRun:
    credential.refresh_from_db()
    return refresh(credential, now=clock.now(), wanted=Wanted(**wanted))


def totals(credential: ExchangeCredential) -> dict[tuple[Any, str], tuple[int, Decimal]]:
    days = DailyVolume.objects.filter(credential=credential, fills__gt=0)
    return {(day.day, day.symbol): (day.fills, day.notional_usd) for day in days}


def truth(sandbox: Sandbox, address: str) -> dict[tuple[Any, str], tuple[int, Decimal]]:
    found = sandbox.hyperliquid.truth(address, since=history_start(NOW))
    return {key: (item.fills, item.notional) for key, item in found.items() if item.fills}


def test_two_years_of_the_sandboxs_trader_come_to_its_own_truth(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential()
    run = read(credential, clock)
    assert totals(credential) == truth(sandbox, hyperliquid.DEMO_TRADER)
    assert run.outcome == Outcome.COMPLETE
    assert run.skipped["spot"] > 0
    assert run.skipped["outcome"] > 0
    assert not differences(credential)


def test_a_second_reading_of_everything_changes_nothing(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential()
    first = read(credential, clock)
    before = list(DailyVolume.objects.values())
    again = read(credential, clock, again=True)
    assert (again.new, again.seen) == (0, first.new + first.seen)
    assert [{**day, "id": 0} for day in DailyVolume.objects.values()] == [{**day, "id": 0} for day in before]


def test_what_is_new_since_the_last_reading_is_added_by_a_poll_of_two_requests_a_list_at_most(
    clock: Any, sandbox: Sandbox
) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(), row(tid=2, time=to_ms(NOW) + 30_000)])
    credential = mine()
    assert read(credential, clock).new == 1
    clock.move(60)
    poll = read(credential, clock)
    assert (poll.new, poll.seen) == (1, 1)  # the overlap is read again
    assert poll.requests <= 4
    assert summary(credential.owner_id, now=clock.now())["totals"]["24h"]["notional_usd"] == "200000"


def test_a_fill_that_appears_late_is_still_found_by_the_overlap(clock: Any, sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row()])
    credential = mine()
    read(credential, clock)
    sandbox.hyperliquid.add(ME, rows=[row(), row(tid=2, time=to_ms(NOW) - 240_000)])
    clock.move(20)
    assert read(credential, clock).new == 1


def test_liquidations_are_kept_apart_and_out_of_the_headline(clock: Any, sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(), row(tid=2, dir="Liquidated Cross Long", side="A", sz="1")])
    credential = mine()
    read(credential, clock)
    (day,) = DailyVolume.objects.all()
    assert (day.fills, day.notional_usd, day.forced_fills, day.forced_usd) == (1, Decimal(100_000), 1, Decimal(50_000))
    assert (day.buy_usd, day.sell_usd, day.base_qty) == (Decimal(100_000), 0, Decimal(2))
    assert day.fees_usd == Decimal(90)


def test_a_quote_without_a_price_is_counted_as_not_priced_never_as_a_dollar(clock: Any, sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(coin="gone:X", feeToken="EURX")])
    credential = mine()
    read(credential, clock)
    (day,) = DailyVolume.objects.all()
    assert (day.notional_usd, day.fills_not_priced, day.fees_not_priced) == (0, 1, {"EURX": "45"})
    total = summary(credential.owner_id, now=clock.now())["totals"]["24h"]
    assert not total["complete"]
    assert "Hyperliquid · Main: 1 fill is not priced in dollars and not counted." in total["why"]


def test_a_fee_without_a_price_is_in_no_dollar_figure_and_is_said(clock: Any, sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(), row(tid=2, feeToken="HYPE", fee="3")])
    read(mine(), clock)
    (found,) = volume(Filter(), by=("day",), now=clock.now())
    assert (found["fees_usd"], found["notional_usd"], found["complete"]) == (Decimal(45), Decimal(200_000), False)
    assert found["why"] == [
        "Hyperliquid · Main: the fees of 1 fill (3 HYPE) are not priced in dollars and not in the fees."
    ]


def test_the_chart_shows_volume_and_does_not_mind_a_fee_without_a_price(clock: Any, sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row(feeToken="HYPE", fee="3")])
    credential = mine(history_from=NOW - timedelta(days=30))
    read(credential, clock)
    assert all(factories.series(credential.owner_id, range="7d", now=clock.now())["complete"])


# --- Trouble ---------------------------------------------------------------------------------------------------------


def test_a_failing_venue_moves_nothing_and_says_when_it_is_tried_again(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential()
    sandbox.hyperliquid.fail(status=502)
    run = read(credential, clock)
    credential.refresh_from_db()
    assert run.outcome == Outcome.UNAVAILABLE
    assert not credential.coverage.exists()
    assert credential.health.state == Health.UNAVAILABLE
    assert credential.health.text == (
        "Hyperliquid has trouble of its own (HTTP 502). Trying again in 1 minute; nothing is lost."
    )
    assert credential.due_at > clock.now()


def test_waits_grow_with_each_failure_and_end_with_the_first_success(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential()
    sandbox.hyperliquid.time_out(times=None)
    pauses = []
    for _ in range(6):
        read(credential, clock)
        credential.refresh_from_db()
        pauses.append(round((credential.due_at - clock.now()).total_seconds() / 60))
    assert pauses == [1, 2, 4, 8, 15, 15]
    sandbox.hyperliquid.heal()
    assert read(credential, clock).outcome == Outcome.COMPLETE
    credential.refresh_from_db()
    assert (credential.failures, credential.health.text) == (0, "Works.")


@pytest.mark.parametrize("fault", ["html", "truncate", "hang_up", "time_out", "rate_limit", "fail"])
def test_trouble_in_the_middle_of_a_walk_is_overcome_and_loses_nothing(
    clock: Any, sandbox: Sandbox, fault: str
) -> None:
    credential = factories.credential()
    ask = sandbox.hyperliquid.answer
    seen = 0

    def now_and_then(request: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen in (2, 4, 7):
            getattr(sandbox.hyperliquid, fault)(times=1)
        return ask(request)

    sandbox.hyperliquid.answer = now_and_then  # the weather, not the venue
    run = read(credential, clock, patience=60)
    assert run.outcome == Outcome.COMPLETE
    assert run.retries >= 2
    assert totals(credential) == truth(sandbox, hyperliquid.DEMO_TRADER)


def test_a_429_without_retry_after_leaves_the_rest_to_the_next_reading(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential()
    sandbox.hyperliquid.rate_limit(times=1)
    run = read(credential, clock, patience=5)
    assert run.outcome == Outcome.UNAVAILABLE
    assert "asks us to slow down" in run.message or "lets us ask again in" in run.message
    clock.move(15)
    assert read(credential, clock).outcome == Outcome.COMPLETE
    assert totals(credential) == truth(sandbox, hyperliquid.DEMO_TRADER)


def test_a_budget_used_up_by_others_is_no_trouble_of_the_venue(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential()
    sandbox.hyperliquid.rate_limit(times=1)
    read(credential, clock)
    other = factories.credential(label="Other", secrets={"address": hyperliquid.DEMO_SUB})
    run = read(other, clock)
    other.refresh_from_db()
    assert (run.outcome, run.requests) == (Outcome.WAITING, 0)
    assert other.health.state == Health.NEW
    assert clock.now() < other.due_at <= clock.now() + timedelta(seconds=11)


def test_a_422_is_told_as_ours_to_mend_and_is_not_hammered(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential()
    sandbox.hyperliquid.fail(status=422, body=b"Failed to deserialize the JSON body into the target type")
    read(credential, clock)
    credential.refresh_from_db()
    assert credential.health.state == Health.PUZZLED
    assert "HTTP 422" in credential.health.text
    assert round((credential.due_at - clock.now()).total_seconds() / 60) == 15


def test_rows_of_an_unknown_kind_are_held_and_shown_and_the_rest_goes_on(clock: Any) -> None:
    from django.apps import apps

    app: Any = apps.get_app_config("exchanges")
    app.sandbox, app.sleep = Sandbox(clock.now, metered=False, hyperliquid={"unknown_dir": True}), clock.move
    try:
        credential = factories.credential()
        run = read(credential, clock)
        again = read(credential, clock, again=True)
        assert totals(credential) == truth(app.sandbox, hyperliquid.DEMO_TRADER)
    finally:
        app.sandbox = None
    assert run.held > 0
    assert again.held == 0
    assert credential.held_rows.count() == run.held
    assert "unknown dir" in credential.held_rows.first().why
    assert run.outcome == Outcome.INCOMPLETE
    everything = summary(credential.owner_id, now=clock.now())["totals"]["all"]
    assert not everything["complete"]
    assert any("held, not understood and not counted" in reason for reason in everything["why"])


@override_settings(SALT_KEY=["another salt, long enough"])
def test_a_wrong_encryption_key_is_a_clear_error_and_changes_nothing(clock: Any, sandbox: Sandbox) -> None:
    with override_settings(SALT_KEY=["the salt it was stored with"]):
        credential = factories.credential()
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM exchanges_exchangecredential")
        stored = cursor.fetchone()
    run = refresh(ExchangeCredential.objects.get(), now=clock.now())
    assert run.outcome == Outcome.REJECTED
    assert "can't be read with this installation's SECRET_KEY and SALT_KEY" in run.message
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM exchanges_exchangecredential")
        assert cursor.fetchone() == stored
    with override_settings(SALT_KEY=["the salt it was stored with"]):
        assert read(credential, clock).outcome == Outcome.COMPLETE


def test_an_agent_address_stored_unverified_reads_as_empty_and_the_doctor_says_why(
    clock: Any, sandbox: Sandbox
) -> None:
    from exchanges import doctor

    credential = factories.credential(secrets={"address": hyperliquid.DEMO_AGENT})
    assert not doctor.verify(credential, now=clock.now(), patience=5)
    assert hyperliquid.DEMO_TRADER in credential.health.text


def test_a_fault_of_ours_is_told_and_not_tried_in_a_hot_loop(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential()

    def stumble(run: SyncRun, page: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        refresh(credential, now=clock.now(), on_page=stumble)
    credential.refresh_from_db()
    assert credential.health.state == Health.PUZZLED
    assert credential.due_at - clock.now() >= timedelta(minutes=10)
    assert credential.runs.get().outcome == Outcome.FAILED
    assert credential.leased_until is None


# --- Leases and stopping ---------------------------------------------------------------------------------------------


def test_only_one_reads_an_account_at_a_time(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential()
    other = ExchangeCredential.objects.get()
    assert other.claim(now=clock.now())
    with pytest.raises(NotOurs):
        read(credential, clock)
    clock.move(91)  # the other was killed
    assert read(credential, clock).outcome == Outcome.COMPLETE


def test_a_worker_that_lost_its_lease_writes_no_more(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential()

    def lose(run: SyncRun, page: Any) -> None:
        ExchangeCredential.objects.update(lease="00000000-0000-0000-0000-000000000000")

    run = refresh(credential, now=clock.now(), on_page=lose)
    assert run.outcome == Outcome.STOPPED
    assert Fill.objects.count() <= 2000


def test_a_stopped_backfill_keeps_what_it_read_and_goes_on_later(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential()

    def stop(run: SyncRun, page: Any) -> None:
        ExchangeCredential.objects.update(is_backfilling=False)

    run = refresh(credential, now=clock.now(), on_page=stop)
    assert run.outcome == Outcome.STOPPED
    assert 0 < Fill.objects.count() <= 2000
    clock.move(60)
    read(credential, clock)  # new fills only
    ExchangeCredential.objects.update(is_backfilling=True)
    clock.move(60)
    assert read(credential, clock).outcome == Outcome.COMPLETE
    assert totals(credential) == truth(sandbox, hyperliquid.DEMO_TRADER)


def test_a_paused_account_is_left_in_the_middle(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential()
    run = refresh(
        credential, now=clock.now(), on_page=lambda run, page: ExchangeCredential.objects.update(is_enabled=False)
    )  # fmt: skip
    assert run.outcome == Outcome.STOPPED


def test_ctrl_c_leaves_all_that_was_read_and_the_next_reading_completes_it(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential()

    def interrupt(run: SyncRun, page: Any) -> None:
        if run.rows > 4000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refresh(credential, now=clock.now(), on_page=interrupt)
    assert Fill.objects.count() > 3000
    credential.refresh_from_db()
    assert credential.leased_until is None
    assert read(credential, clock).outcome == Outcome.COMPLETE
    assert totals(credential) == truth(sandbox, hyperliquid.DEMO_TRADER)


def test_time_claimed_while_the_clock_was_ahead_is_read_again(clock: Any, sandbox: Sandbox) -> None:
    sandbox.hyperliquid.add(ME, rows=[row()])
    credential = mine()
    refresh(credential, now=clock.now() + timedelta(hours=2))
    sandbox.hyperliquid.add(ME, rows=[row(), row(tid=2, time=to_ms(NOW) + 600_000)])
    clock.move(3600)
    assert read(credential, clock).new == 1
    credential.refresh_from_db()
    assert credential.fresh_at == clock.now()


def test_a_venue_whose_clock_is_another_is_not_read(clock: Any, sandbox: Sandbox) -> None:
    credential = mine()
    sandbox.hyperliquid.fail(status=200, body=b"[]", headers={"Date": "Sat, 21 Nov 2026 14:00:00 GMT"})
    read(credential, clock)
    credential.refresh_from_db()
    assert credential.health.text.startswith("This machine's clock is 120 minutes behind of Hyperliquid's.")
    assert not credential.coverage.exists()


def test_a_gap_that_stays_ends_a_backfill_all_the_same(clock: Any, sandbox: Sandbox) -> None:
    at = to_ms(NOW) - 5000
    sandbox.hyperliquid.page = 500
    sandbox.hyperliquid.add(ME, rows=[row(tid=i, time=at) for i in range(3000)])
    sandbox.hyperliquid._shuffled = lambda rows: rows  # always the same part of the millisecond
    credential = mine()
    for _ in range(2):
        assert read(credential, clock, gaps_too=True).outcome == Outcome.INCOMPLETE
    assert credential.coverage.get(state=Coverage.State.GAP).from_at == NOW - timedelta(seconds=5)
    assert "1 gap left" in credential.runs.first().message


def test_an_account_removed_while_it_is_read_ends_its_reading(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential()
    refresh(credential, now=clock.now(), on_page=lambda run, page: holding.remove(ExchangeCredential.objects.get()))
    assert not ExchangeCredential.objects.exists()
    assert not Fill.objects.exists()


@pytest.mark.parametrize("share", [0.5, 0.2, 0.1])
def test_an_own_budget_used_up_in_the_middle_of_a_walk_is_waited_for(
    clock: Any, sandbox: Sandbox, share: float
) -> None:
    from exchanges.connect import budget

    budget(sandbox)._share = share  # the whole walk costs more than a minute lets us ask
    credential = factories.credential()
    run = read(credential, clock)
    if run.outcome == Outcome.WAITING:  # before the walk began
        clock.move(60)
        run = read(credential, clock)
    assert run.outcome == Outcome.COMPLETE
    assert run.waited_seconds > 0


def test_the_horizon_is_told_also_when_the_first_reading_was_cut_off(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential(secrets={"address": hyperliquid.DEMO_BOT})

    def interrupt(run: SyncRun, page: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refresh(credential, now=clock.now(), on_page=interrupt)
    read(credential, clock)
    gone = credential.coverage.filter(state=Coverage.State.OUT_OF_REACH, stream="fills").get()
    assert gone.from_at == credential.history_from
    assert gone.until_at <= Fill.objects.exclude(kind="twap").earliest("executed_at").executed_at + timedelta(days=1)


def test_what_an_old_key_comes_to_is_not_said_of_the_one_put_in_meanwhile(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential("bybit", secrets=dict(bybit.MAIN))

    def put_in_another(run: SyncRun, page: Any) -> None:
        fresh = ExchangeCredential.objects.get()
        holding.take_key(fresh, fresh.open_secrets(), now=clock.now())
        sandbox.bybit.revoke(fresh.account_ref)  # the venue now refuses what the running worker still uses

    run = refresh(credential, now=clock.now(), on_page=put_in_another)
    credential.refresh_from_db()
    assert run.outcome in (Outcome.STOPPED, Outcome.REJECTED)
    assert (credential.health_state, credential.lease) == (Health.WORKS, None)


def test_a_run_whose_worker_was_killed_is_said_to_be_broken_off_once_the_next_begins(
    clock: Any, sandbox: Sandbox
) -> None:
    sandbox.hyperliquid.add(ME, rows=[row()])
    credential = mine()
    lost = SyncRun.objects.create(credential=credential, started_at=NOW, since=NOW, until=NOW, trigger="schedule")
    read(credential, clock)
    lost.refresh_from_db()
    assert (lost.outcome, lost.ended_at) == (Outcome.STOPPED, clock.now())
    assert lost.message.startswith("Cut off in the middle")


def test_an_older_window_that_is_not_understood_is_a_gap_and_stops_nothing_else(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential("bybit", secrets=dict(bybit.MAIN), history_from=NOW - timedelta(days=40))
    sandbox.bybit.after(8, lambda: sandbox.bybit.fail(200, b'{"retCode": 10017, "result": {}}', times=1))
    run = read(credential, clock)
    (gap,) = credential.coverage.filter(state=Coverage.State.GAP)
    assert (run.outcome, credential.health_state) == (Outcome.INCOMPLETE, Health.WORKS)
    assert "did not accept our request" in gap.reason
    assert read(credential, clock, gaps_too=True).outcome == Outcome.COMPLETE


def test_what_can_not_be_stored_takes_nothing_else_of_the_same_moment_with_it(
    clock: Any, sandbox: Sandbox, monkeypatch: Any
) -> None:
    credential = factories.credential("bybit", secrets=dict(bybit.MAIN), history_from=NOW - timedelta(days=40))
    store, bad = sync.store, NOW - timedelta(days=20)

    def store_but_one(*args: Any, **options: Any) -> sync.Stored:
        if any(isinstance(row, FillReport) and row.executed_at.date() == bad.date() for row in args[2].rows):
            raise ArithmeticError("This page is too much.")
        return store(*args, **options)

    monkeypatch.setattr(sync, "store", store_but_one)
    with pytest.raises(ArithmeticError):
        read(credential, clock)
    run = SyncRun.objects.get()
    assert (run.outcome, run.new) == (Outcome.FAILED, Fill.objects.count())
    assert run.new > 0
    assert not differences(credential)
    monkeypatch.undo()
    clock.move(3600)
    assert read(credential, clock).outcome == Outcome.COMPLETE
    found = sandbox.bybit.truth(credential.account_ref, since=credential.history_from, until=clock.now())
    assert totals(credential) == {key: (item.fills, item.notional) for key, item in found.items() if item.fills}


def test_a_stopped_backfill_stores_nothing_older_that_arrived_beside_what_is_new(clock: Any, sandbox: Sandbox) -> None:
    credential = factories.credential("bybit", secrets=dict(bybit.MAIN), history_from=NOW - timedelta(days=300))
    reached: list[int] = []

    def stop(run: SyncRun, page: Any) -> None:
        ExchangeCredential.objects.update(is_backfilling=False)
        reached.append(Fill.objects.count())

    run = refresh(credential, now=clock.now(), on_page=stop)
    assert run.outcome == Outcome.STOPPED
    assert len(set(reached)) == 1
    assert reached[0] == Fill.objects.count() == run.new
