"""The same work from a shell: what is printed, how it ends, and that twice is the same as once."""

import csv
import hashlib
import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from exchanges.fields import Secret
from exchanges.models import ExchangeCredential, Fill, HeldRow, SyncRun
from exchanges.sandbox import Sandbox
from exchanges.sandbox.base import to_ms
from exchanges.sandbox.hyperliquid import (
    DEMO_AGENT,
    DEMO_BOT,
    DEMO_EMPTY,
    DEMO_SUB,
    DEMO_TRADER,
    UNKNOWN_DIR,
)
from exchanges.venues import VENUES
from tests import factories
from tests.conftest import NOW
from volume.models import DailyVolume
from volume.queries import COLUMNS
from volume.refresh import refresh

pytestmark = pytest.mark.django_db

WRONG_KEY = override_settings(SALT_KEY=["another salt, long enough to be one"])
FILL = {
    "coin": "BTC", "px": "84000.5", "sz": "0.01", "side": "B", "startPosition": "0.0", "dir": "Open Long",
    "closedPnl": "0.0", "hash": "0x" + "0" * 64, "oid": 7, "crossed": True, "fee": "0.37", "feeToken": "USDC",
    "tid": 99,
}  # fmt: skip
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command: its exit code, standard output and standard error."""

    def command(name: str, *arguments: Any, stdin: str = "") -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        try:
            call_command(name, *map(str, arguments), stdout=out, stderr=err)
        except SystemExit as end:
            return int(end.code or 0), out.getvalue(), err.getvalue()
        return 0, out.getvalue(), err.getvalue()

    return command


@pytest.fixture
def sandbox(sandbox: Sandbox) -> Sandbox:
    return factories.shorten(sandbox, days=40, now=NOW)


def days_ago(days: int) -> datetime:
    return datetime(2026, 11, 21, tzinfo=UTC) - timedelta(days=days)


@pytest.fixture
def account(sandbox: Sandbox) -> ExchangeCredential:
    """An account of which a month is wanted and nothing is read."""
    return factories.credential(owner=factories.user("ada"), history_from=days_ago(30))


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def table(out: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(out)))


def everything() -> tuple[list[Any], list[Any]]:
    """All fills and days there are."""
    days = DailyVolume.objects.order_by("credential", "day", "symbol")
    return list(Fill.objects.order_by("pk").values()), [
        {name: value for name, value in day.items() if name != "id"} for day in days.values()
    ]


# --- add_credential --------------------------------------------------------------------------------------------------


def add(run: Run, *options: str, venue: str = "hyperliquid", stdin: str | None = None) -> tuple[int, str, str]:
    said = json.dumps({"address": DEMO_TRADER}) if stdin is None else stdin
    return run("add_credential", venue, "--label", "Main", *(options or ("--owner", "ada")), stdin=said)


@pytest.fixture
def ada() -> Any:
    return factories.user("ada")


def test_an_account_is_added_and_its_number_printed(run, ada, sandbox):
    code, out, err = add(run)
    made = ExchangeCredential.objects.get()
    assert (code, json.loads(out), err) == (0, {"id": made.pk}, "")
    assert (made.owner, made.venue, made.label) == (ada, "hyperliquid", "Main")
    assert made.health_state == "works"
    assert made.open_secrets().address == DEMO_TRADER


def test_no_verify_asks_nobody(run, ada, sandbox):
    code, out, _ = add(run, "--owner", "ada", "--no-verify")
    assert (code, list(json.loads(out))) == (0, ["id"])
    assert not sandbox.hyperliquid.requests
    assert ExchangeCredential.objects.get().health_state == "new"


@pytest.mark.parametrize("text", ["", "{", "hunter2", "[]", '"hunter2"', "null", "{'address': 'hunter2'}"])
def test_what_is_no_json_object_is_refused_and_not_repeated(run, ada, sandbox, text):
    with pytest.raises(CommandError) as fault:
        add(run, stdin=text)
    assert str(fault.value) == "Standard input is not a JSON object."
    assert fault.value.__cause__ is None
    assert not ExchangeCredential.objects.exists()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"address": DEMO_AGENT}, f"of {DEMO_TRADER}. It has no fills of its own: add that address instead."),
        ({"address": "0x12"}, "Not a Hyperliquid address"),
        ({"address": 12}, "address must be text."),
        ({}, "Missing: address."),
        ({"addres": DEMO_TRADER}, "Not known here: addres. This venue takes: address."),
    ],
)
def test_an_account_the_venue_does_not_take_is_refused(run, ada, sandbox, values, says):
    with pytest.raises(CommandError) as fault:
        add(run, stdin=json.dumps(values))
    assert says in str(fault.value)
    assert str(fault.value).endswith("Nothing was stored.")
    assert not ExchangeCredential.objects.exists()


def test_the_same_account_is_not_added_twice(run, ada, sandbox):
    add(run)
    with pytest.raises(CommandError, match=r"This account is here already, as “Main”\. Nothing was stored\."):
        add(run)
    assert ExchangeCredential.objects.count() == 1


def test_a_venue_that_is_down_adds_nothing(run, ada, sandbox):
    sandbox.hyperliquid.fail(status=502)
    with pytest.raises(CommandError, match=r"trouble of its own \(HTTP 502\).* Nothing was stored."):
        add(run)
    assert not ExchangeCredential.objects.exists()


def test_an_unknown_venue_or_owner_is_told_so(run, ada):
    with pytest.raises(CommandError, match=rf"does not know the venue 'mtgox'\. It knows: {', '.join(VENUES)}"):
        add(run, venue="mtgox")
    with pytest.raises(CommandError, match="There is nobody named 'eve'"):
        add(run, "--owner", "eve")


# --- backfill --------------------------------------------------------------------------------------------------------


def test_a_complete_backfill_ends_with_0_and_says_what_it_read(run, account):
    code, out, err = run("backfill")
    assert (code, out) == (0, "")
    assert f"{account}: complete. {Fill.objects.count():,} new fills, 0 seen before" in err


def test_a_backfill_prints_one_object_per_account(run, account, sandbox):
    second = factories.credential(label="Grid", secrets={"address": DEMO_SUB}, history_from=days_ago(3))
    code, out, _ = run("backfill", "--json")
    assert code == 0
    found = {item["credential"]: item for item in lines(out)}
    assert found.keys() == {account.pk, second.pk}
    told = found[account.pk]
    assert (told["venue"], told["label"], told["outcome"], told["works"]) == ("hyperliquid", "Main", "complete", True)
    assert (told["since"], told["until"]) == ("2026-10-22T00:00:00+00:00", "2026-11-21T12:00:00+00:00")
    assert (told["gaps"], told["out_of_reach"], told["held"], told["message"]) == ([], [], 0, "")
    assert told["new"] == account.fills.count()
    assert told["rows"] == told["new"] + told["seen"] + sum(told["skipped"].values())


def test_a_backfill_reads_what_the_venue_knows(run, account, sandbox):
    run("backfill")
    truth = sandbox.hyperliquid.truth(DEMO_TRADER, days_ago(30))
    found = {(day.day, day.symbol): (day.fills, day.notional_usd) for day in account.days.all()}
    assert found == {key: (day.fills, day.notional) for key, day in truth.items()}


def test_a_second_backfill_finds_nothing_new(run, account):
    run("backfill")
    before = everything()
    code, out, _ = run("backfill", "--json")
    assert code == 0
    assert [item["new"] for item in lines(out)] == [0]
    assert everything() == before


def test_reading_again_changes_nothing(run, account):
    run("backfill")
    before = everything()
    code, out, _ = run("backfill", "--again", "--json")
    (told,) = lines(out)
    assert (code, told["new"]) == (0, 0)
    assert told["seen"] == Fill.objects.count() > 0
    assert everything() == before


def test_out_of_reach_ends_with_3_and_says_from_when_it_can_be_read(run, sandbox):
    bot = factories.credential(secrets={"address": DEMO_BOT})
    code, out, _ = run("backfill", "--json")
    (told,) = lines(out)
    assert (code, told["outcome"], told["works"]) == (3, "incomplete", True)
    assert told["message"].startswith("Hyperliquid keeps an account's last 10,000 fills: nothing before 2026-")
    gone = next(part for part in told["out_of_reach"] if part["stream"] == "fills")
    assert gone["from"] == bot.history_from.isoformat()
    reach = datetime.fromisoformat(gone["until"])
    truth = sandbox.hyperliquid.truth(DEMO_BOT, within_memory=True)
    first = reach.date() + timedelta(days=1)
    found = {(day.day, day.symbol): day.notional_usd for day in bot.days.filter(day__gte=first)}
    assert found == {key: day.notional for key, day in truth.items() if key[0] >= first}


def test_held_rows_end_with_3(run, account, sandbox):
    row = FILL | {"dir": UNKNOWN_DIR, "time": to_ms(timezone.now()) - 1000}
    sandbox.hyperliquid.add(DEMO_TRADER, rows=[row])
    code, out, _ = run("backfill", "--json")
    (told,) = lines(out)
    assert (code, told["held"], told["message"]) == (3, 1, "1 row held, not understood.")


def test_an_agent_stored_unverified_ends_with_4(run, sandbox):
    factories.credential(secrets={"address": DEMO_AGENT})
    code, out, _ = run("backfill", "--json")
    (told,) = lines(out)
    assert (code, told["outcome"], told["works"]) == (4, "rejected", False)
    assert DEMO_TRADER in told["message"]


def test_secrets_that_cannot_be_read_end_with_4(run, account):
    with WRONG_KEY:
        code, out, _ = run("backfill", "--json")
    (told,) = lines(out)
    assert (code, told["outcome"]) == (4, "rejected")
    assert "SALT_KEY" in told["message"]


def test_a_venue_that_is_down_ends_with_5(run, account, sandbox):
    sandbox.hyperliquid.time_out(times=None)
    code, out, _ = run("backfill", "--json")
    (told,) = lines(out)
    assert (code, told["outcome"], told["works"]) == (5, "unavailable", False)
    assert told["message"].startswith("Hyperliquid does not answer.")
    assert told["requests"] > told["retries"] > 0


def test_one_account_in_trouble_does_not_keep_the_others(run, account, sandbox):
    factories.credential(label="Broken", secrets={"address": DEMO_EMPTY})
    ExchangeCredential.objects.filter(label="Broken").update(secrets=Secret(sealed="not a token"))
    code, out, _ = run("backfill", "--json")
    assert code == 4
    assert sorted(item["outcome"] for item in lines(out)) == ["complete", "rejected"]
    assert account.fills.exists()


def test_a_backfill_stopped_by_hand_keeps_what_it_read(run, account, sandbox):
    sandbox.hyperliquid.page = 50
    venue, asked = sandbox.hyperliquid, []

    def impatient(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) == 7:
            raise KeyboardInterrupt
        return venue(request)

    impatient.now = venue.now  # the clock its answers are dated by
    sandbox.venues["hyperliquid"] = impatient
    code, _, err = run("backfill", "--json")
    assert code == 130
    assert "All that was read is kept" in err
    kept = account.fills.count()
    assert kept > 0
    assert SyncRun.objects.get().outcome == "stopped"
    account.refresh_from_db()
    assert account.lease is None
    assert run("backfill")[0] == 0
    truth = sandbox.hyperliquid.truth(DEMO_TRADER, days_ago(30))
    assert account.fills.count() == sum(day.fills + day.forced_fills for day in truth.values()) > kept


def test_only_the_accounts_asked_for_are_read(run, account, sandbox):
    second = factories.credential(label="Grid", secrets={"address": DEMO_SUB}, history_from=days_ago(3))
    _, out, _ = run("backfill", "--credential", second.pk, "--json")
    assert [item["credential"] for item in lines(out)] == [second.pk]
    assert not account.fills.exists()


def test_since_goes_further_back_and_until_ends_before_its_day(run, account):
    run("backfill", "--since", "2026-10-15", "--until", "2026-10-20")
    days = set(account.days.values_list("day", flat=True))
    assert min(days) >= date(2026, 10, 15)
    assert max(days) < date(2026, 10, 20) or max(days) > date(2026, 10, 22)
    account.refresh_from_db()
    assert account.history_from == datetime(2026, 10, 15, tzinfo=UTC)


def test_a_stopped_backfill_goes_on_when_asked(run, account):
    ExchangeCredential.objects.update(is_backfilling=False)
    assert run("backfill")[0] == 0
    account.refresh_from_db()
    assert account.is_backfilling


def test_a_paused_account_is_left_out_and_told_when_named(run, account):
    ExchangeCredential.objects.update(is_enabled=False)
    assert run("backfill", "--json")[:2] == (0, "")
    with pytest.raises(CommandError, match=r"Paused: Hyperliquid · Main\. Resume it first\."):
        run("backfill", "--credential", account.pk)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--since", "yesterday"], "'yesterday' is not a date. Write it as 2025-01-31; days are UTC."),
        (["--since", "2026-02-30"], "'2026-02-30' is not a date."),
        (["--until", "31.01.2025"], "'31.01.2025' is not a date."),
        (["--since", "2026-11-22"], "--since 2026-11-22 is in the future"),
        (["--until", "2027-01-01"], "--until 2027-01-01 is in the future"),
        (["--since", "2026-11-02", "--until", "2026-11-02"], "--until must be after --since: the range is empty."),
        (["--venue", "mtgox"], "does not know the venue 'mtgox'"),
        (["--credential", "999"], "There is no credential 999."),
    ],
)
def test_a_backfill_that_makes_no_sense_is_refused(run, account, options, says):
    with pytest.raises(CommandError) as fault:
        run("backfill", *options)
    assert says in str(fault.value)
    assert not SyncRun.objects.exists()


# --- volume ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(account: ExchangeCredential) -> ExchangeCredential:
    refresh(account, now=timezone.now())
    return account


@pytest.mark.parametrize("keys", ["day", "venue", "market", "credential", "day,venue,market", "credential,market,day"])
def test_csv_has_the_keys_and_then_the_columns_of_the_design(run, filled, keys):
    _, out, _ = run("volume", "--by", keys, "--format", "csv")
    columns = (
        "fills,base_qty,notional_usd,maker_usd,taker_usd,buy_usd,sell_usd,forced_fills,forced_usd,fees_usd,complete"
    )
    assert out.splitlines()[0] == f"{keys},{columns}"
    assert len({tuple(row[key] for key in keys.split(",")) for row in table(out)}) == len(table(out)) > 0


def test_amounts_are_plain_decimals(run, filled):
    DailyVolume.objects.filter(symbol="BTC").update(fees_usd=Decimal("0.00000001"), base_qty=Decimal("1E-8"))
    _, out, _ = run("volume", "--by", "day,market", "--format", "csv")
    amounts = {row[column] for row in table(out) for column in COLUMNS if column != "complete"}
    assert "0.00000001" in amounts
    assert all(set(amount) <= set("-0123456789.") and amount for amount in amounts)
    assert {row["complete"] for row in table(out)} <= {"true", "false"}


def test_volume_is_what_the_venue_knows_to_the_last_digit(run, filled, sandbox):
    truth = sandbox.hyperliquid.truth(DEMO_TRADER, days_ago(30))
    _, out, _ = run("volume", "--by", "day,market", "--format", "csv")
    found = {(date.fromisoformat(row["day"]), row["market"]): row for row in table(out)}
    assert found.keys() == truth.keys()
    for key, day in truth.items():
        row = found[key]
        assert (int(row["fills"]), Decimal(row["notional_usd"])) == (day.fills, day.notional)
        assert (int(row["forced_fills"]), Decimal(row["forced_usd"])) == (day.forced_fills, day.forced_notional)


def test_forced_fills_stand_apart(run, account, sandbox):
    at = to_ms(timezone.now()) - 1000
    forced = {"dir": "Auto-Deleveraging", "side": "A", "tid": 100, "time": at + 1}
    sandbox.hyperliquid.add(DEMO_TRADER, rows=[FILL | {"time": at}, FILL | forced])
    refresh(account, now=timezone.now())
    _, out, _ = run("volume", "--by", "market", "--format", "csv")
    (row,) = table(out)
    assert (row["fills"], row["notional_usd"], row["base_qty"]) == ("1", "840.005", "0.01")
    assert (row["forced_fills"], row["forced_usd"]) == ("1", "840.005")


@pytest.mark.parametrize("by", ["day", "market", "venue", "day,venue", ""])
def test_every_grouping_adds_up_to_the_same(run, filled, by):
    _, out, _ = run("volume", "--by", by, "--format", "csv")
    total = sum((day.notional_usd for day in DailyVolume.objects.all()), Decimal(0))
    assert sum(Decimal(row["notional_usd"]) for row in table(out)) == total


def test_json_says_the_same_as_csv(run, filled):
    _, as_csv, _ = run("volume", "--by", "day,market", "--format", "csv")
    _, as_json, _ = run("volume", "--by", "day,market", "--format", "json")
    rows = json.loads(as_json)
    assert [list(row) for row in rows] == [["day", "market", *COLUMNS]] * len(rows)
    shown = [
        {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in row.items()}
        for row in rows
    ]
    assert shown == table(as_csv)
    assert all(isinstance(row["notional_usd"], str) for row in rows)


def test_the_table_lines_up_and_tells_what_is_missing(run, filled):
    HeldRow.objects.create(
        credential=filled, stream="fills", digest="1", raw="{}", why="?", seen_at=timezone.now(),
    )  # fmt: skip
    _, out, _ = run("volume", "--by", "venue")
    head, row, *rest = out.splitlines()
    assert head.split() == ["venue", *COLUMNS]
    assert row.split()[0] == "hyperliquid"
    assert row.split()[-1] == "false"
    assert f"- {filled}: 1 row held, not understood and not counted." in rest


def test_volume_keeps_to_its_range_owner_and_venue(run, filled, sandbox):
    eves = factories.credential(owner=factories.user("eve"), secrets={"address": DEMO_SUB}, history_from=days_ago(10))
    refresh(eves, now=timezone.now())

    def days(*options: str) -> list[str]:
        return [row["day"] for row in table(run("volume", "--by", "day", "--format", "csv", *options)[1])]

    own = [day.isoformat() for day in sorted(set(filled.days.values_list("day", flat=True)))]
    assert days("--owner", "ada") == own
    assert days("--owner", "ada", "--since", own[2], "--until", own[4]) == own[2:4]
    assert days("--owner", "eve", "--venue", "hyperliquid") == [
        day.isoformat() for day in sorted(set(eves.days.values_list("day", flat=True)))
    ]
    _, out, _ = run("volume", "--by", "credential", "--format", "csv")
    assert [row["credential"] for row in table(out)] == [str(filled.pk), str(eves.pk)]


def test_volume_of_nothing_is_a_head_without_rows(run):
    _, out, _ = run("volume", "--format", "csv")
    assert out == f"day,venue,{','.join(COLUMNS)}\n"
    assert json.loads(run("volume", "--format", "json")[1]) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--by", "weekday"], "Can't group by weekday: only by day, venue, market, credential."),
        (["--by", "day,day"], "twice"),
        (["--since", "soon"], "'soon' is not a date."),
        (["--since", "2026-11-02", "--until", "2026-11-01"], "the range is empty"),
        (["--owner", "nobody"], "There is nobody named 'nobody'."),
        (["--venue", "mtgox"], "perpdash does not know mtgox."),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(run, options, says):
    with pytest.raises(CommandError) as fault:
        run("volume", *options)
    assert says in str(fault.value)


# --- check_volume, rebuild_volume ------------------------------------------------------------------------------------


def test_days_that_agree_with_their_fills_check_out(run, filled):
    assert run("check_volume")[:2] == (0, "Every day agrees with its fills.\n")


def test_a_figure_that_was_changed_is_found_and_repaired(run, filled):
    before = everything()
    day = filled.days.filter(symbol="BTC").first()
    honest = day.notional_usd
    DailyVolume.objects.filter(pk=day.pk).update(notional_usd=honest + Decimal("0.00000001"))
    code, out, _ = run("check_volume")
    assert code == 1
    first, last = out.splitlines()
    assert first.startswith(f"{filled} (#{filled.pk}) {day.day} BTC: notional_usd is ")
    assert f"the fills say {honest}" in first
    assert last.startswith("1 difference. manage.py rebuild_volume")
    assert run("rebuild_volume")[0] == 0
    assert run("check_volume")[0] == 0
    assert everything() == before


def test_a_day_that_is_missing_or_invented_is_found_and_repaired(run, filled):
    before = everything()
    gone = filled.days.filter(symbol="BTC").first()
    gone.delete()
    DailyVolume.objects.create(credential=filled, day=date(2020, 1, 1), symbol="LUNA", fills=1, notional_usd=5)
    code, out, _ = run("check_volume")
    assert code == 1
    assert f"{gone.day} BTC: notional_usd is missing" in out
    assert "2020-01-01 LUNA: notional_usd is 5" in out
    run("rebuild_volume")
    assert run("check_volume")[0] == 0
    assert everything() == before


def test_an_invented_day_of_nothing_is_found_too(run, filled):
    DailyVolume.objects.create(credential=filled, day=date(2020, 1, 1), symbol="LUNA")
    assert run("check_volume")[0] == 1


def test_rebuilding_any_number_of_times_gives_the_same(run, filled):
    before = everything()
    outs = [run("rebuild_volume")[1] for _ in range(3)]
    assert set(outs) == {f"{filled} (#{filled.pk}): {len(before[1])} days and markets rebuilt\n"}
    assert everything() == before


# --- reparse_held ----------------------------------------------------------------------------------------------------


def hold(credential: ExchangeCredential, row: dict[str, Any], why: str = "unknown dir") -> HeldRow:
    raw = json.dumps(row)
    return HeldRow.objects.create(
        credential=credential, stream="fills", digest=hashlib.sha256(raw.encode()).hexdigest(), raw=raw, why=why,
        executed_at=timezone.now(), seen_at=timezone.now(),
    )  # fmt: skip


def test_a_row_nobody_understands_stays_held(run, account):
    hold(account, FILL | {"dir": UNKNOWN_DIR, "time": to_ms(timezone.now()) - 1000})
    assert run("reparse_held")[:2] == (0, f"{account} (#{account.pk}): 0 understood now, 1 still held\n")
    assert HeldRow.objects.count() == 1
    assert not Fill.objects.exists()


def test_a_row_that_is_understood_now_becomes_a_fill_once(run, account):
    hold(account, FILL | {"time": to_ms(timezone.now()) - 1000})
    assert "1 understood now, 0 still held" in run("reparse_held")[1]
    assert run("reparse_held")[1] == ""
    assert not HeldRow.objects.exists()
    assert Fill.objects.get().notional == Decimal("840.005")
    assert DailyVolume.objects.get().notional_usd == Decimal("840.005")
    assert run("check_volume")[0] == 0


def test_a_held_row_that_was_read_meanwhile_is_counted_once(run, account, sandbox):
    row = FILL | {"time": to_ms(timezone.now()) - 1000}
    sandbox.hyperliquid.add(DEMO_TRADER, rows=[row])
    refresh(account, now=timezone.now())
    hold(account, row)
    run("reparse_held")
    assert Fill.objects.count() == 1
    assert DailyVolume.objects.get().notional_usd == Decimal("840.005")


def test_a_held_row_that_is_no_perpetual_goes_without_a_fill(run, account):
    hold(account, FILL | {"coin": "@107", "dir": "Buy", "time": to_ms(timezone.now()) - 1000})
    assert "1 understood now" in run("reparse_held")[1]
    assert not HeldRow.objects.exists()
    assert not Fill.objects.exists()


def test_one_account_that_cannot_be_opened_does_not_keep_the_others(run, account):
    row = FILL | {"time": to_ms(timezone.now()) - 1000}
    broken = factories.credential(label="Broken", venue="hyperliquid", secrets={"address": DEMO_EMPTY})
    ExchangeCredential.objects.filter(pk=broken.pk).update(secrets=Secret(sealed="not a token"))
    hold(broken, row)
    hold(account, row)
    run("reparse_held")
    assert account.fills.count() == 1
    assert broken.held_rows.count() == 1
