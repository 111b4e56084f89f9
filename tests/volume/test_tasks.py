"""What beat hands out, to whom, and that work nobody picked up is forgotten rather than piled up."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from celery.worker.request import Request
from django.conf import settings
from django.contrib.sessions.models import Session
from django.utils import timezone
from kombu import Message

from accounts.models import AuditEvent, Invitation
from exchanges.models import Coverage, ExchangeCredential, SyncRun
from exchanges.sandbox import Sandbox
from exchanges.sandbox.base import to_ms
from perpdash.celery import app
from perpdash.tasks import forget_people
from tests import factories
from volume import holding, tasks
from volume.models import VolumeCheck
from volume.proof import prove

pytestmark = pytest.mark.django_db

FILL = {
    "coin": "BTC", "px": "84000.5", "sz": "0.01", "side": "B", "startPosition": "0.0", "dir": "Open Long",
    "closedPnl": "0.0", "hash": "0x" + "0" * 64, "oid": 7, "crossed": True, "fee": "0.37", "feeToken": "USDC",
    "tid": 99,
}  # fmt: skip
QUEUE = app.conf.task_default_queue


@pytest.fixture(autouse=True)
def queue(clock: Any, sandbox: Sandbox) -> Iterator[None]:
    """The embedded broker, empty."""
    with app.connection_for_write() as connection:
        connection.SimpleQueue(QUEUE).clear()
        yield
        connection.SimpleQueue(QUEUE).clear()


def waiting() -> list[Message]:
    """Takes every message that waits for a worker."""
    found = []
    with app.connection_for_read() as connection:
        while (message := connection.default_channel.basic_get(QUEUE, no_ack=True)) is not None:
            found.append(message)
    return found


def handed_out(name: str) -> list[Any]:
    """What waits for this task, first come first."""
    messages = waiting()
    assert {message.headers["task"] for message in messages} <= {f"volume.tasks.{name}"}
    return [message.decode()[0][0] for message in messages]


def turns() -> list[str]:
    """The venues whose turns wait for a worker."""
    return handed_out("refresh_next")


def read_in_turn() -> list[int]:
    """Works until nothing waits any more; the accounts in the order they were read."""
    for venue in turns():
        tasks.refresh_next(venue)
        while turns():
            tasks.refresh_next(venue)
    return list(SyncRun.objects.order_by("pk").values_list("credential", flat=True))


def account(number: int, *, due: float = 0, **fields: Any) -> ExchangeCredential:
    """An account that was due so many seconds ago."""
    address = f"0x{number:040x}"
    due_at = timezone.now() - timedelta(seconds=due)
    return factories.credential(label=str(number), secrets={"address": address}, due_at=due_at, **fields)


# --- refresh_due -----------------------------------------------------------------------------------------------------


def test_a_venue_gets_a_turn_for_each_account_that_is_due_but_not_more_than_its_workers():
    account(1)
    tasks.refresh_due()
    assert turns() == ["hyperliquid"]
    for number in range(2, 6):
        account(number)
    tasks.refresh_due()
    assert turns() == ["hyperliquid"] * 2
    assert tasks.WORKERS_PER_VENUE == 2


def test_a_turn_goes_on_until_nothing_is_due_and_who_waits_longest_comes_first():
    due = [account(number, due=number) for number in range(1, 6)]
    account(6, due=-1)
    tasks.refresh_due()
    assert read_in_turn() == [one.pk for one in reversed(due)]


def test_who_found_the_budget_spent_keeps_its_place():
    now = timezone.now()
    read_before = account(1, due=30, fresh_at=now - timedelta(minutes=1))
    put_off = account(2, due=1, fresh_at=now - timedelta(minutes=5))
    new = account(3, due=20)
    newer = account(4, due=10)
    tasks.refresh_due()
    assert read_in_turn() == [new.pk, newer.pk, put_off.pk, read_before.pk]


def test_whose_accounts_are_being_read_lets_others_go_first():
    many = [account(number, due=100 + number) for number in range(1, 6)]
    factories.credential(
        owner=factories.user("grace"), secrets={"address": f"0x{9:040x}"}, due_at=timezone.now(), label="one"
    )
    hers = ExchangeCredential.objects.get(label="one")
    leased_until = timezone.now() + timedelta(seconds=30)
    ExchangeCredential.objects.filter(pk=many[0].pk).update(leased_until=leased_until)
    assert tasks.next_due("hyperliquid", now=timezone.now()) == hers
    ExchangeCredential.objects.filter(pk=hers.pk).update(leased_until=leased_until)
    assert tasks.next_due("hyperliquid", now=timezone.now()) == many[-1]


def test_of_a_workers_threads_a_venue_gets_no_more_than_its_places(sandbox):
    """Whoever is asked takes a turn meanwhile, as another thread of the same worker would."""
    accounts = [account(number, due=number) for number in range(1, 6)]
    at_work: list[list[int]] = []

    def meanwhile() -> None:
        leased = ExchangeCredential.objects.filter(leased_until__gt=timezone.now()).order_by("pk")
        at_work.append(list(leased.values_list("pk", flat=True)))
        tasks.refresh_next("hyperliquid")

    for _ in range(tasks.WORKERS_PER_VENUE):
        sandbox.hyperliquid.after(0, meanwhile)
    tasks.refresh_next("hyperliquid")
    assert at_work == [[accounts[4].pk], [accounts[3].pk, accounts[4].pk]]
    assert SyncRun.objects.count() == 2, "a third reading was begun"
    tasks.refresh_next("hyperliquid")  # its places are free again
    assert SyncRun.objects.count() == 3


def test_two_workers_never_read_one_account_and_the_slower_takes_the_next(monkeypatch):
    first, second = account(1, due=9), account(2, due=8)
    choose = tasks.next_due

    def choose_slowly(venue: str, *, now: Any) -> ExchangeCredential | None:
        chosen = choose(venue, now=now)
        if chosen == first:
            ExchangeCredential.objects.filter(pk=first.pk).update(leased_until=now + timedelta(seconds=30))
        return chosen

    monkeypatch.setattr(tasks, "next_due", choose_slowly)
    tasks.refresh_next("hyperliquid")
    assert SyncRun.objects.get().credential == second


def test_a_venue_that_has_no_answers_now_keeps_no_worker_busy(sandbox):
    for number in range(1, 5):
        account(number)
    sandbox.hyperliquid.rate_limit(retry_after=60)
    for outcome in ("unavailable", "waiting"):  # who is told, and who need not ask any more
        tasks.refresh_next("hyperliquid")
        assert SyncRun.objects.latest("pk").outcome == outcome
        assert turns() == []


def test_a_reading_that_fails_frees_its_place(sandbox, monkeypatch):
    for number in range(1, 2 + tasks.WORKERS_PER_VENUE):
        account(number)

    def fail(*args: object, **options: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr(tasks, "refresh", fail)
        for _ in range(2 * tasks.WORKERS_PER_VENUE):
            with pytest.raises(RuntimeError):
                tasks.refresh_next("hyperliquid")
    tasks.refresh_next("hyperliquid")
    assert SyncRun.objects.exists()
    waiting()


def test_the_lease_of_a_worker_that_is_gone_holds_nothing_up(clock):
    account(1, leased_until=timezone.now() + timedelta(seconds=settings.LEASE_SECONDS))
    tasks.refresh_due()
    assert turns() == []
    clock.move(settings.LEASE_SECONDS)
    tasks.refresh_due()
    assert turns() == ["hyperliquid"]


@pytest.mark.parametrize(
    "fields",
    [
        {"is_enabled": False},
        {"health_state": "rejected"},
        {"due": -1},
    ],
    ids=["paused", "rejected", "not due"],
)
def test_an_account_with_nothing_to_do_is_passed_over(fields):
    account(1, **fields)
    other = account(2)
    tasks.refresh_due()
    assert read_in_turn() == [other.pk]


@pytest.mark.parametrize("state", ["new", "works", "unavailable", "puzzled"])
def test_an_account_that_time_may_heal_is_tried_again(state):
    stored = account(1, health_state=state)
    tasks.refresh_due()
    assert read_in_turn() == [stored.pk]


def test_a_venue_perpdash_no_longer_knows_does_not_keep_the_others():
    account(1)
    ExchangeCredential.objects.update(venue="mtgox")
    other = account(2)
    tasks.refresh_due()
    assert read_in_turn() == [other.pk]


def test_no_account_means_no_work():
    tasks.refresh_due()
    assert waiting() == []


def test_what_is_handed_out_is_worth_nothing_once_the_next_round_is_there(clock):
    account(1)
    tasks.refresh_due()
    (message,) = waiting()
    request = Request(message, app=app, task=tasks.refresh_next)
    assert request.expires == clock.now() + timedelta(seconds=settings.DISPATCH_SECONDS)
    assert not request.maybe_expire()


def test_hours_without_a_worker_leave_no_work_behind(clock):
    for number in range(1, 4):
        account(number)
    for _ in range(20):
        tasks.refresh_due()
        clock.move(settings.DISPATCH_SECONDS)
    clock.move(3600)
    left = waiting()
    assert left
    requests = [Request(message, app=app, task=tasks.refresh_next) for message in left]
    assert all(request.maybe_expire() for request in requests)


def test_everything_beat_sends_expires_by_the_time_it_is_sent_again():
    for entry in settings.CELERY_BEAT_SCHEDULE.values():
        assert entry["task"] in app.tasks
        assert 0 < entry["options"]["expires"] <= entry["schedule"]


# --- refresh_credential ----------------------------------------------------------------------------------------------


def test_an_account_is_read_and_due_again(sandbox):
    stored = account(1)
    sandbox.hyperliquid.add(stored.account_ref, rows=[FILL | {"time": to_ms(timezone.now()) - 1000}])
    tasks.refresh_credential(stored.pk)
    run = SyncRun.objects.get()
    assert (run.credential, run.trigger, run.outcome) == (stored, "schedule", "complete")
    stored.refresh_from_db()
    assert stored.fills.count() == run.new == 1
    assert stored.due_at > timezone.now()
    assert stored.lease is None


def test_an_account_that_was_removed_is_left_alone():
    stored = account(1)
    number = stored.pk
    stored.delete()
    tasks.refresh_credential(number)
    assert not SyncRun.objects.exists()


@pytest.mark.parametrize(
    "fields", [{"is_enabled": False}, {"leased_until": timedelta(seconds=30)}], ids=["paused", "leased"]
)
def test_an_account_that_is_not_to_be_read_now_is_left_alone(sandbox, fields):
    if "leased_until" in fields:
        fields = {"leased_until": timezone.now() + fields["leased_until"]}
    stored = account(1, **fields)
    before = ExchangeCredential.objects.values("leased_until", "due_at", "health_state").get()
    tasks.refresh_credential(stored.pk)
    assert not SyncRun.objects.exists()
    assert not sandbox.hyperliquid.requests
    assert ExchangeCredential.objects.values("leased_until", "due_at", "health_state").get() == before


def test_a_venue_that_is_down_delays_its_account_and_raises_nothing(sandbox):
    sandbox.hyperliquid.time_out(times=None)
    stored = account(1)
    tasks.refresh_credential(stored.pk)
    stored.refresh_from_db()
    assert stored.health_state == "unavailable"
    assert stored.due_at > timezone.now()
    tasks.refresh_due()
    assert turns() == []


def test_who_asked_for_a_reading_is_noted():
    stored = account(1)
    tasks.refresh_credential(stored.pk, trigger="user", gaps_too=True)
    assert SyncRun.objects.get().trigger == "user"


def test_a_reading_that_is_asked_for_reaches_a_worker_after_the_commit(django_capture_on_commit_callbacks):
    stored = account(1, due=-60)
    with django_capture_on_commit_callbacks(execute=True):
        holding.ask_for_reading(stored, now=timezone.now(), backfill=True)
        assert waiting() == []
    (message,) = waiting()
    (number,), options, _ = message.decode()
    assert (number, options) == (stored.pk, {"trigger": "user", "gaps_too": True})
    assert message.headers["expires"]


# --- verify ----------------------------------------------------------------------------------------------------------


def test_an_account_whose_secrets_can_be_read_again_goes_on_by_itself():
    stored = account(1, health_state="unreadable")
    tasks.refresh_due()
    assert turns() == ["hyperliquid"]
    stored.refresh_from_db()
    assert stored.health_state == "new"


# --- forget_old_runs -------------------------------------------------------------------------------------------------


@pytest.fixture
def stored() -> ExchangeCredential:
    return account(1)


def run(credential: ExchangeCredential, age: timedelta, **fields: Any) -> SyncRun:
    at = timezone.now() - age
    return SyncRun.objects.create(
        credential=credential,
        started_at=at,
        since=at,
        until=at,
        **{"trigger": "schedule", "outcome": "complete"} | fields,
    )


@pytest.mark.parametrize(
    ("days", "fields", "is_kept"),
    [
        (1.9, {}, True),
        (2.1, {}, False),
        (2.1, {"new": 1}, True),
        (2.1, {"held": 1}, True),
        (2.1, {"outcome": "incomplete"}, True),
        (2.1, {"outcome": "unavailable"}, True),
        (179, {"new": 1}, True),
        (181, {"new": 1}, False),
        (181, {"outcome": "rejected"}, False),
    ],
)
def test_quiet_runs_go_after_two_days_and_all_after_half_a_year(stored, days, fields, is_kept):
    run(stored, timedelta(days=days), **fields)
    tasks.forget_old_runs()
    assert SyncRun.objects.exists() == is_kept


@pytest.mark.parametrize(
    ("setting", "age", "fields"),
    [("RUNS_DAYS", 20, {"new": 1}), ("QUIET_RUNS_DAYS", 1, {})],
)
def test_how_long_runs_are_kept_is_a_setting(stored, settings, setting, age, fields):
    run(stored, timedelta(days=age), **fields)
    setattr(settings, setting, age + 1)
    tasks.forget_old_runs()
    assert SyncRun.objects.exists()
    setattr(settings, setting, age)
    run(stored, timedelta(days=age, seconds=1), **fields)
    tasks.forget_old_runs()
    assert SyncRun.objects.count() == 1


def test_proofs_are_kept_as_long_as_the_setting_says(stored, settings):
    assert settings.CHECKS_DAYS == 400
    for days in (399, 401):
        VolumeCheck.objects.create(credential=stored, checked_at=timezone.now() - timedelta(days=days))
    tasks.forget_old_runs()
    assert VolumeCheck.objects.get().checked_at == timezone.now() - timedelta(days=399)
    prove(stored, timezone.now())
    assert VolumeCheck.objects.count() == 2


def test_nothing_is_forgotten_while_a_venue_says_that_the_clock_is_wrong(stored):
    run(stored, timedelta(days=1000))
    AuditEvent.objects.create(at=timezone.now() - timedelta(days=1000), owner=stored.owner, way="page", what="old")
    ExchangeCredential.objects.update(health_reason="clock")
    tasks.forget_old_runs()
    forget_people()
    assert SyncRun.objects.count() == AuditEvent.objects.filter(what="old").count() == 1


def test_what_a_clock_put_into_the_time_to_come_is_not_waited_for(stored):
    now = timezone.now()
    VolumeCheck.objects.create(credential=stored, checked_at=now + timedelta(days=3))
    Coverage.objects.create(
        credential=stored, stream="fills", state="gap", from_at=now - timedelta(days=2),
        until_at=now - timedelta(days=1), retry_at=now + timedelta(hours=25),
    )  # fmt: skip
    ExchangeCredential.objects.update(due_at=now + timedelta(hours=1))
    tasks.refresh_due()
    assert Coverage.objects.get().retry_at == now
    tasks.prove_due()
    assert handed_out("prove_account") == [stored.pk]


def test_what_was_done_long_ago_and_what_has_run_out_is_forgotten(stored, settings):
    now, owner = timezone.now(), stored.owner
    for days in (settings.AUDIT_DAYS - 1, settings.AUDIT_DAYS + 1):
        AuditEvent.objects.create(at=now - timedelta(days=days), owner=owner, way="page", what=f"after {days} days")
    for hours in (-1, 1):
        end = now + timedelta(hours=hours)
        Invitation.objects.create(made_by=owner, digest=str(hours), expires_at=end, used_at=now)
        Session.objects.create(session_key=str(hours), session_data="", expire_date=end)
        UserSession.objects.create(user=owner, session_key=str(hours), ip="203.0.113.7", user_agent="x")
    forget_people()
    assert AuditEvent.objects.filter(what__startswith="after").get().what == f"after {settings.AUDIT_DAYS - 1} days"
    assert Invitation.objects.get().digest == Session.objects.get().session_key == "1"
    assert UserSession.objects.get().session_key == "1"


def test_a_run_whose_worker_was_killed_is_told_to_have_stopped(stored):
    lost = run(stored, timedelta(hours=2), outcome="running")
    recent = run(stored, timedelta(minutes=30), outcome="running")
    tasks.forget_old_runs()
    lost.refresh_from_db()
    recent.refresh_from_db()
    assert (lost.outcome, lost.ended_at) == ("stopped", lost.started_at)
    assert lost.message.startswith("Cut off in the middle")
    assert recent.outcome == "running"


def test_a_run_that_goes_on_is_left_running(stored):
    ExchangeCredential.objects.update(leased_until=timezone.now() + timedelta(seconds=30))
    long = run(stored, timedelta(hours=5), outcome="running")
    tasks.forget_old_runs()
    long.refresh_from_db()
    assert long.outcome == "running"
