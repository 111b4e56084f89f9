"""The proof of the whole: silent while all agrees, and naming each thing that does not."""

import io
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from django.core.management import call_command
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client
from django.utils import timezone
from kombu import Message

from exchanges.models import Coverage, ExchangeCredential, Fill, HeldRow, Reread, Retraction
from exchanges.sandbox import Sandbox
from exchanges.sandbox.hyperliquid import DEMO_BOT, DEMO_SUB
from perpdash.celery import app
from tests import factories
from tests.conftest import NOW
from volume import glance, holding, proof, queries, tasks
from volume.completeness import Completeness
from volume.models import AssetPrice, DailyVolume, Preferences, VolumeCheck
from volume.proof import prove
from volume.refresh import refresh
from volume.rollup import rebuild_all

pytestmark = pytest.mark.django_db

SINCE = datetime(2026, 11, 11, 7, 30, tzinfo=UTC)
CENT = Decimal("0.01")


@pytest.fixture
def sandbox(sandbox: Sandbox) -> Sandbox:
    return factories.shorten(sandbox, days=40, now=NOW)


@pytest.fixture
def account(sandbox: Sandbox) -> ExchangeCredential:
    """Ten days, read."""
    made = factories.credential(owner=factories.user("ada"), history_from=SINCE)
    refresh(made, now=timezone.now())
    return made


def findings(account: ExchangeCredential) -> list[str]:
    check = prove(account, timezone.now())
    assert check.found == len(check.findings)
    return check.findings


def covered(account: ExchangeCredential, stream: str = "fills") -> Coverage:
    return account.coverage.get(stream=stream)


# --- While all agrees ------------------------------------------------------------------------------------------------


def test_what_was_read_proves_itself_and_the_proof_is_kept(account, clock):
    check = prove(account, clock.now())
    assert (check.found, check.findings, check.checked_at) == (0, [], clock.now())
    assert check.fills == account.fills.count() > 0
    assert check.days == len(set(account.days.values_list("day", flat=True))) > 0
    assert account.checks.get() == check


def test_every_state_a_reading_leaves_behind_proves_itself_page_by_page(account, sandbox, clock):
    sandbox.hyperliquid.page = 20
    ExchangeCredential.objects.update(history_from=SINCE - timedelta(days=20))
    account.refresh_from_db()
    clock.move(3600 * 5)
    found = []
    refresh(account, now=clock.now(), on_page=lambda run, page: found.append(findings(account)))
    assert len(found) > 3
    assert not any(found)
    assert findings(account) == []


@pytest.mark.parametrize("how", ["killed", "unavailable", "stopped"])
def test_a_reading_that_broke_off_is_no_difference(account, sandbox, clock, how):
    sandbox.hyperliquid.page = 20
    ExchangeCredential.objects.update(history_from=SINCE - timedelta(days=20))
    account.refresh_from_db()
    clock.move(3600 * 5)
    venue, asked = sandbox.hyperliquid, []

    def breaks_off(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) >= 4 and how == "killed":
            raise KeyboardInterrupt
        if len(asked) >= 4 and how == "unavailable":
            return httpx.Response(502)
        if len(asked) == 4 and how == "stopped":
            holding.pause(ExchangeCredential.objects.get())
        return venue(request)

    breaks_off.now = venue.now
    sandbox.venues["hyperliquid"] = breaks_off
    before = account.fills.count()
    try:
        refresh(account, now=clock.now())
    except KeyboardInterrupt:
        assert how == "killed"
    assert account.runs.first().outcome in ("stopped", "unavailable")
    assert account.fills.count() > before or how == "stopped"
    assert findings(account) == []


def test_an_account_that_was_never_read_has_nothing_to_disagree(sandbox, clock):
    assert findings(factories.credential(owner=factories.user("ada"))) == []


@pytest.mark.parametrize("moment", [3600, 86400 * 30])
def test_an_account_not_read_for_long_agrees_with_its_own_staleness(account, clock, moment):
    clock.move(moment)
    assert findings(account) == []


def test_gaps_held_rows_and_what_is_out_of_reach_are_no_differences(account, sandbox, clock):
    day = timedelta(days=1)
    row = covered(account)
    Coverage.objects.filter(pk=row.pk).update(until_at=SINCE + day)
    Coverage.objects.create(
        credential=account, stream="fills", from_at=SINCE + day, until_at=SINCE + 2 * day, state="gap", retry_at=NOW
    )
    Coverage.objects.create(
        credential=account, stream="fills", from_at=SINCE + 4 * day, until_at=row.until_at, state="covered"
    )
    for moment in (NOW - 2 * day, None):
        HeldRow.objects.create(
            credential=account, stream="fills", digest=str(moment), raw="{}", executed_at=moment, seen_at=NOW
        )
        assert findings(account) == []
    bot = factories.credential(label="Bot", secrets={"address": DEMO_BOT})
    refresh(bot, now=clock.now())
    assert bot.coverage.filter(state="out_of_reach").exists()
    assert findings(bot) == []


def test_totals_agree_with_forced_fills_counted_and_with_stablecoins_at_market(account, sandbox, clock):
    forced = account.fills.filter(executed_at__gt=NOW - timedelta(hours=24)).first()
    Fill.objects.filter(pk=forced.pk).update(kind="liquidation")
    dear = account.fills.exclude(pk=forced.pk).filter(executed_at__gt=NOW - timedelta(hours=24)).first()
    Fill.objects.filter(pk=dear.pk).update(quote="HYPE")
    AssetPrice.objects.create(asset="HYPE", day=dear.day, usd="41.123456789", source="test")
    rebuild_all(account)
    assert findings(account) == []
    Preferences.objects.create(owner=account.owner, counts_forced=True)
    assert findings(account) == []
    for day in set(account.days.values_list("day", flat=True)):
        AssetPrice.objects.create(asset="USDC", day=day, usd="0.987654321987", source="test")
    Preferences.objects.update(stablecoins_at_market=True)
    assert any("wait to be recomputed" in finding for finding in prove(account, clock.now()).findings)
    rebuild_all(account)
    assert findings(account) == []


def test_a_retired_account_still_proves_itself(account, clock):
    clock.move(7200)
    holding.retire(account, now=clock.now())
    clock.move(86400)
    assert findings(account) == []


def test_an_account_of_a_venue_perpdash_no_longer_knows_does_not_keep_the_others(account, clock):
    other = factories.credential(label="Old", secrets={"address": DEMO_SUB})
    ExchangeCredential.objects.filter(pk=other.pk).update(venue="mtgox")
    assert findings(other) == findings(account) == []


# --- Each thing that may be wrong ------------------------------------------------------------------------------------


def change_a_figure(account: ExchangeCredential) -> str:
    row = account.days.filter(symbol="BTC").first()
    DailyVolume.objects.filter(pk=row.pk).update(maker_usd=row.maker_usd + Decimal("0.00000001"))
    return f"{row.day} BTC: maker_usd is {row.maker_usd + Decimal('0.00000001')}, the fills say {row.maker_usd}"


def lose_a_day(account: ExchangeCredential) -> str:
    row = account.days.filter(symbol="BTC").first()
    row.delete()
    return f"{row.day} BTC: notional_usd is missing, the fills say {row.notional_usd}"


def invent_a_day(account: ExchangeCredential) -> str:
    DailyVolume.objects.create(credential=account, day=date(2026, 11, 12), symbol="LUNA", notional_usd=5)
    return "2026-11-12 LUNA: notional_usd is 5.00000000, the fills say there is no such day"


def invent_a_day_to_come(account: ExchangeCredential) -> str:
    DailyVolume.objects.create(credential=account, day=date(2026, 11, 23), symbol="BTC")
    return "2026-11-23: there are figures of this day, and it was read only up to 2026-11-21 12:00:00 UTC"


def move_a_fill_to_another_day(account: ExchangeCredential) -> str:
    fill = account.fills.order_by("executed_at")[5]
    Fill.objects.filter(pk=fill.pk).update(day=fill.day - timedelta(days=40))
    return f"A fill of {fill.executed_at:%Y-%m-%d %H:%M:%S} UTC is kept under the day {fill.day - timedelta(days=40)}"


def read_a_fill_of_the_future(account: ExchangeCredential) -> str:
    fill = account.fills.first()
    Fill.objects.filter(pk=fill.pk).update(executed_at=NOW + timedelta(hours=1), day=NOW.date())
    rebuild_all(account)
    return "1 fill is of a time after 2026-11-21 12:00:00 UTC, up to which was read"


def misname_a_side(account: ExchangeCredential) -> str:
    Fill.objects.filter(pk=account.fills.first().pk).update(side="sold")
    rebuild_all(account)
    return "1 fill is of the side 'sold', which perpdash does not know"


def misname_a_kind(account: ExchangeCredential) -> str:
    Fill.objects.filter(pk__in=list(account.fills.values_list("pk", flat=True)[:2])).update(kind="gift")
    rebuild_all(account)
    return "2 fills are of the kind 'gift', which perpdash does not know"


def keep_what_was_taken_back(account: ExchangeCredential) -> str:
    fill = account.fills.first()
    Retraction.objects.create(credential=account, fill_id=fill.fill_id, why="bust", seen_at=NOW)
    return f"The fill {fill.fill_id} of {fill.executed_at:%Y-%m-%d %H:%M:%S} UTC was taken back by the venue, and is"


def overlap(account: ExchangeCredential) -> str:
    since, until = SINCE + timedelta(days=1), SINCE + timedelta(days=2)
    Coverage.objects.create(credential=account, stream="fills", from_at=since, until_at=until, state="gap")
    return (
        "Ledger: the ranges fills 2026-11-11 07:30:00 UTC to 2026-11-21 12:00:00 UTC and "
        "fills 2026-11-12 07:30:00 UTC to 2026-11-13 07:30:00 UTC overlap"
    )


def leave_neighbours_apart(account: ExchangeCredential) -> str:
    row = covered(account)
    middle = SINCE + timedelta(days=3)
    Coverage.objects.filter(pk=row.pk).update(until_at=middle)
    Coverage.objects.create(credential=account, stream="fills", from_at=middle, until_at=row.until_at, state="covered")
    return "2026-11-14 07:30:00 UTC to 2026-11-21 12:00:00 UTC are read, and are not one"


def empty_a_range(account: ExchangeCredential) -> str:
    without_constraint("exchanges_coverage", "a_range_is_not_empty")
    Coverage.objects.create(credential=account, stream="fills", from_at=NOW, until_at=NOW, state="gap")
    return "Ledger: the range fills 2026-11-21 12:00:00 UTC to 2026-11-21 12:00:00 UTC is empty"


def speak_of_an_unknown_list(account: ExchangeCredential) -> str:
    Coverage.objects.create(credential=account, stream="spot", from_at=SINCE, until_at=NOW, state="covered")
    return "Ledger: 1 ranges are of the list 'spot', which Hyperliquid does not have"


def read_the_future(account: ExchangeCredential) -> str:
    account.coverage.update(until_at=NOW + timedelta(hours=2))
    ExchangeCredential.objects.update(fresh_at=NOW + timedelta(hours=2))
    return "2026-11-21 14:00:00 UTC is said to be read, and ends after now"


def reread_an_unknown_list(account: ExchangeCredential) -> str:
    Reread.objects.create(credential=account, stream="spot", from_at=SINCE, until_at=NOW, asked_at=NOW)
    return "To be read again: spot 2026-11-11 07:30:00 UTC to 2026-11-21 12:00:00 UTC is of a list Hyperliquid does"


def reread_the_future(account: ExchangeCredential) -> str:
    later = NOW + timedelta(days=1)
    Reread.objects.create(credential=account, stream="fills", from_at=SINCE, until_at=later, asked_at=NOW)
    return "To be read again: fills 2026-11-11 07:30:00 UTC to 2026-11-22 12:00:00 UTC lies after now"


def reread_nothing(account: ExchangeCredential) -> str:
    without_constraint("exchanges_reread", "a_reread_is_not_empty")
    Reread.objects.create(credential=account, stream="fills", from_at=SINCE, until_at=SINCE, asked_at=NOW)
    return "To be read again: fills 2026-11-11 07:30:00 UTC to 2026-11-11 07:30:00 UTC is empty"


def claim_to_be_fresher(account: ExchangeCredential) -> str:
    account.coverage.update(until_at=NOW - timedelta(days=2))
    return "It is said to be read until 2026-11-21 12:00:00 UTC, the ledger says 2026-11-19 12:00:00 UTC"


def forget_how_fresh_it_is(account: ExchangeCredential) -> str:
    ExchangeCredential.objects.update(fresh_at=NOW - timedelta(days=1))
    return "2026-11-21 is called not complete, the ledger says it is complete"


def count_from_before_what_was_asked_for(account: ExchangeCredential) -> str:
    fill = account.fills.first()
    moment = SINCE - timedelta(days=200)
    Fill.objects.filter(pk=fill.pk).update(executed_at=moment, day=moment.date())
    rebuild_all(account)
    return "Totals, all: $"


def without_constraint(table: str, name: str) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # or the table is said to be in use
            cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        else:
            cursor.execute("PRAGMA ignore_check_constraints = ON")


@pytest.fixture(autouse=True)
def with_constraints() -> Iterator[None]:
    yield
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA ignore_check_constraints = OFF")


FAULTS: list[Callable[[ExchangeCredential], str]] = [
    change_a_figure, lose_a_day, invent_a_day, invent_a_day_to_come, move_a_fill_to_another_day,
    read_a_fill_of_the_future, misname_a_side, misname_a_kind, keep_what_was_taken_back, overlap,
    leave_neighbours_apart, empty_a_range, speak_of_an_unknown_list, read_the_future, reread_an_unknown_list,
    reread_the_future, reread_nothing, claim_to_be_fresher, forget_how_fresh_it_is,
    count_from_before_what_was_asked_for,
]  # fmt: skip


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_fault_is_found_and_named(account, plant):
    assert findings(account) == []
    says = plant(account)
    found = findings(account)
    assert any(says in finding for finding in found), found


@pytest.mark.parametrize("span", ["24h", "7d", "14d", "30d", "all"])
@pytest.mark.parametrize(
    ("figure", "wrong"), [("notional_usd", "1.00000001"), ("forced_usd", "0.00000001"), ("fills", 3)]
)
def test_a_total_that_is_not_what_its_parts_come_to_is_named(account, clock, span, figure, wrong):
    now = clock.now()
    summary = glance.summary(account.owner_id, now=now)
    rows = queries.volume(queries.Filter(owner_id=account.owner_id), by=("day", "credential"), now=now)
    last_24h = proof.rolling(account.owner_id, now - timedelta(hours=24))
    assert list(proof.summary_findings(summary, rows, last_24h, now)) == []
    summary["totals"][span][figure] = wrong
    (found,) = proof.summary_findings(summary, rows, last_24h, now)
    assert found.startswith(f"Totals, {span}: ")
    assert str(wrong) in found


def test_a_venues_total_that_is_wrong_is_named_with_the_venue(account, clock):
    summary = glance.summary(account.owner_id, now=clock.now())
    summary["venues"][0]["totals"]["7d"]["fills"] += 1
    rows = queries.volume(queries.Filter(owner_id=account.owner_id), by=("day", "credential"), now=clock.now())
    last_24h = proof.rolling(account.owner_id, clock.now() - timedelta(hours=24))
    (found,) = proof.summary_findings(summary, rows, last_24h, clock.now())
    assert found.startswith("Totals, 7d at Hyperliquid: ")


def test_a_day_called_complete_that_is_not_read_whole_is_named(account, clock):
    shown = Completeness([account], now=clock.now())
    ledger = list(account.coverage.all())
    assert list(proof.completeness_findings(account, ledger, shown)) == []
    fills = next(row for row in ledger if row.stream == "fills")
    fills.from_at = datetime(2026, 11, 13, 0, 0, 1, tzinfo=UTC)
    assert list(proof.completeness_findings(account, ledger, shown)) == [
        "2026-11-12 is called complete, the ledger says it is not complete",
        "2026-11-13 is called complete, the ledger says it is not complete",
    ]


def test_days_far_apart_are_all_looked_at(account):
    for day in (date(2015, 1, 1), date(2021, 6, 1), date(2026, 11, 1)):
        DailyVolume.objects.create(credential=account, day=day, symbol="LUNA")
    assert sum("LUNA: notional_usd is 0.00000000" in finding for finding in findings(account)) == 3


def test_the_first_fifty_are_kept_and_all_are_counted(account, clock):
    for number in range(70):
        DailyVolume.objects.create(credential=account, day=date(2026, 11, 12), symbol=f"X{number}")
    check = prove(account, clock.now())
    assert (check.found, len(check.findings)) == (70, 50)


def test_an_account_removed_meanwhile_leaves_no_proof(account, clock):
    left = ExchangeCredential.objects.get()
    holding.remove(account)
    with pytest.raises(ExchangeCredential.DoesNotExist):
        prove(left, clock.now())
    tasks.prove_account(left.pk or 1)
    assert not VolumeCheck.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_proof_outside_any_transaction_is_of_one_moment_and_leaves_none_open(account, clock):
    with proof.snapshot():
        assert account.fills.exists()
    assert findings(account) == []
    assert connection.get_autocommit() and not connection.in_atomic_block
    account.label = "Renamed"
    account.save(update_fields=["label"])
    assert ExchangeCredential.objects.get().label == "Renamed"


# --- By command, by night, on the page, by the API -------------------------------------------------------------------


def check_volume() -> tuple[int, list[str]]:
    out = io.StringIO()
    try:
        call_command("check_volume", stdout=out, stderr=io.StringIO())
    except SystemExit as end:
        return int(end.code or 0), out.getvalue().splitlines()
    return 0, out.getvalue().splitlines()


def test_the_command_names_everything_and_says_a_total_of_all_accounts_once(account, clock):
    other = factories.credential(label="Other", secrets={"address": DEMO_SUB}, history_from=SINCE)
    refresh(other, now=clock.now())
    assert check_volume() == (0, ["Every day agrees with its fills."])
    assert VolumeCheck.objects.filter(found=0).count() == 2
    count_from_before_what_was_asked_for(account)
    code, lines = check_volume()
    assert code == 1
    assert all(line.startswith("Hyperliquid · Main (#") for line in lines[:-1])
    assert len(set(lines)) == len(lines)
    assert lines[-1] == f"{len(lines) - 1} differences. manage.py rebuild_volume puts days right."
    assert set(VolumeCheck.objects.order_by("-pk").values_list("found", flat=True)[:2]) == {len(lines) - 1}


def test_the_command_says_how_many_more_there_are(account):
    for number in range(70):
        DailyVolume.objects.create(credential=account, day=date(2026, 11, 12), symbol=f"X{number}")
    code, lines = check_volume()
    assert (code, len(lines)) == (1, 52)
    assert lines[-2:] == [
        f"{account} (#{account.pk}) and 20 more",
        "70 differences. manage.py rebuild_volume puts days right.",
    ]


@pytest.fixture
def queue() -> Iterator[Callable[[], list[Message]]]:
    """The embedded broker, empty; takes what waits for a worker."""
    name = app.conf.task_default_queue

    def taken() -> list[Message]:
        with app.connection_for_read() as broker:
            return list(iter(lambda: broker.default_channel.basic_get(name, no_ack=True), None))

    taken()
    yield taken
    taken()


def handed_out(messages: list[Message]) -> list[int]:
    assert {message.headers["task"] for message in messages} <= {"volume.tasks.prove_account"}
    return [message.decode()[0][0] for message in messages]


def test_every_account_is_proved_once_a_night_and_made_up_for_by_day(account, clock, queue):
    tasks.prove_due()
    assert handed_out(queue()) == [account.pk]
    tasks.prove_account(account.pk)
    for _ in range(15):
        tasks.prove_due()
        assert queue() == []
        clock.move(3600)
    clock.move(600)  # 03:10 of the next day
    tasks.prove_due()
    (message,) = queue()
    assert handed_out([message]) == [account.pk]
    assert message.headers["expires"] == (clock.now() + timedelta(seconds=600)).isoformat()


def test_proofs_of_many_accounts_are_handed_out_some_at_a_time(account, clock, queue, monkeypatch):
    more = [factories.credential("hyperliquid", secrets={"address": f"0x{number:040x}"}) for number in range(1, 4)]
    monkeypatch.setattr(tasks, "PROOFS_A_ROUND", 3)
    tasks.prove_due()
    first = handed_out(queue())
    assert first == [account.pk, *(other.pk for other in more[:2])]
    for pk in first:
        tasks.prove_account(pk)
    tasks.prove_due()
    assert handed_out(queue()) == [more[2].pk]


def test_what_does_not_agree_is_looked_at_again_and_then_told(account, clock, queue):
    change_a_figure(account)
    tasks.prove_account(account.pk)
    (message,) = queue()
    assert message.decode()[:2] == [[account.pk], {"again": True}]
    assert message.headers["eta"] == (clock.now() + timedelta(seconds=400)).isoformat()
    clock.move(600)
    rebuild_all(account)  # as is done for days that are computed otherwise from now on
    tasks.prove_account(account.pk, again=True)
    assert [check.found for check in account.checks.all()] == [0, 1]
    change_a_figure(account)
    tasks.prove_account(account.pk, again=True)
    assert queue() == []


def test_the_page_says_how_the_last_proof_ended(account, clock):
    shown = " ".join(render_to_string("volume/_check.html", {"check": None}).split())
    assert "Not proved yet." in shown
    check = prove(account, clock.now())
    shown = " ".join(render_to_string("volume/_check.html", {"check": check}).split())
    assert "2026-11-21 12:00 UTC</time>: " in shown
    assert f"{check.days} days agree with {check.fills:,} fills, and so do the ledger and all totals." in shown
    says = change_a_figure(account)
    shown = " ".join(render_to_string("volume/_check.html", {"check": prove(account, clock.now())}).split())
    assert "1 thing does not agree" in shown
    assert "<code>manage.py rebuild_volume</code> puts days right" in shown
    assert says in shown


def test_proofs_are_told_by_the_api_to_their_owner_alone(account, clock):
    prove(account, clock.now())
    change_a_figure(account)
    clock.move(60)
    prove(account, clock.now())
    client = Client()
    client.force_login(account.owner)
    found = client.get("/api/v1/checks/", {"credential": account.pk}).json()["results"]
    assert [row["found"] for row in found] == [1, 0]
    assert set(found[0]) == {"id", "credential", "checked_at", "fills", "days", "found", "findings"}
    assert client.get("/api/v1/checks/", {"credential": "x"}).status_code == 400
    client.force_login(factories.user("eve"))
    assert client.get("/api/v1/checks/").json()["results"] == []
    assert client.get(f"/api/v1/checks/{found[0]['id']}/").status_code == 404
