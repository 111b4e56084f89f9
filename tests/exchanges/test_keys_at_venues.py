"""The doctor at every venue: what is wrong with a key, the one thing to do about it, and that reading goes on after."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.utils import timezone

from exchanges import doctor
from exchanges.fields import Secret
from exchanges.models import ExchangeCredential, Fill, Health, SyncRun
from exchanges.sandbox import Sandbox, bybit, hyperliquid, paradex, woox
from exchanges.venues import VENUES
from exchanges.venues.base import CredentialsRejected, Reason, to_ms
from perpdash.celery import app
from tests import factories
from tests.conftest import NOW
from volume import holding
from volume.refresh import Wanted, refresh
from volume.tasks import refresh_due

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
KEYED = ("bybit", "woox", "paradex")
ALL = (*KEYED, "hyperliquid")
NOBODY = "0xde3000000000000000000000000000000000a0ff"
NEW_BYBIT = {"api_key": "EXAMPLEKEY00000NEW", "api_secret": "example-secret-not-real-put-in-anew1"}
NEW_WOOX = replace(woox.KEY_MAIN, api_key="wooxDemoNewKey0000000A==", secret="WOOXDEMONEWSECRET00000000001")
SUBKEY = {"account": paradex.DEMO_MAIN, "subkey": hex(paradex.DEMO_SUBKEY)}
MAIN_KEY = {"account": paradex.DEMO_MAIN, "subkey": hex(paradex.DEMO_MAIN_KEY)}
REFS = {
    "bybit": bybit.MAIN_UID, "woox": woox.DEMO_MAIN, "paradex": paradex.DEMO_MAIN,
    "hyperliquid": hyperliquid.DEMO_TRADER,
}  # fmt: skip
GOOD = {
    "bybit": bybit.MAIN, "woox": {"api_key": woox.KEY_MAIN.api_key, "api_secret": woox.KEY_MAIN.secret},
    "paradex": {"token": paradex.DEMO_TOKEN}, "hyperliquid": {"address": hyperliquid.DEMO_TRADER},
}  # fmt: skip
# Where the fills are asked for; anything else is about the key, the clock or markets.
FILL_PATHS = ("/v5/execution/list", "/v5/pre-upgrade/execution/list", "/v3/trade/transactionHistory", "/v1/fills")


@pytest.fixture
def sandbox(sandbox: Sandbox, clock: Any) -> Sandbox:
    """With accounts that were opened not long ago, which makes them quick to draw."""
    apps.get_app_config("exchanges").sandbox = young = Sandbox(
        clock.now, metered=False, **{venue: {"opened_at": NOW - 70 * DAY} for venue in KEYED}
    )
    return young


@pytest.fixture(autouse=True)
def queue(sandbox: Sandbox) -> Iterator[None]:
    """The embedded broker, empty."""
    with app.connection_for_write() as connection:
        connection.SimpleQueue(app.conf.task_default_queue).clear()
        yield
        connection.SimpleQueue(app.conf.task_default_queue).clear()


def work() -> int:
    """Does what waits for a worker, and says how many accounts that were."""
    before = SyncRun.objects.count()
    with app.connection_for_read() as connection:
        while (message := connection.default_channel.basic_get(app.conf.task_default_queue, no_ack=True)) is not None:
            arguments, options, _ = message.decode()
            app.tasks[message.headers["task"]](*arguments, **options)
    return SyncRun.objects.count() - before


def at_work() -> int:
    refresh_due()
    return work()


def secrets_of(key: woox.Key) -> dict[str, str]:
    return {"api_key": key.api_key, "api_secret": key.secret}


def account(venue: str, secrets: dict[str, str] | None = None, **fields: Any) -> ExchangeCredential:
    """A stored account with ten days of history to read."""
    options = {"history_from": timezone.now() - 10 * DAY} | fields
    return factories.credential(venue, secrets=secrets or GOOD[venue], **options)


def offered(venue: str, secrets: dict[str, str], *, insist: bool = False, verify: bool = True) -> ExchangeCredential:
    credentials = VENUES[venue].credentials_type.parse(secrets)
    return holding.add(
        get_user_model().objects.first() or factories.user(), venue, "Main", credentials, now=timezone.now(),
        verify=verify, allow_trading_key=insist,
    )  # fmt: skip


def examined(credential: ExchangeCredential) -> ExchangeCredential:
    holding.reverify(credential, now=timezone.now())
    credential.refresh_from_db()
    return credential


def read(credential: ExchangeCredential) -> SyncRun:
    credential.refresh_from_db()
    run = refresh(credential, now=timezone.now(), wanted=Wanted())
    credential.refresh_from_db()
    return run


def asked(sandbox: Sandbox, venue: str) -> int:
    return sandbox.venues[venue].calls.total()


# --- What is wrong with a key ----------------------------------------------------------------------------------------


def expired_token(venue: paradex.Paradex) -> dict[str, str]:
    return {"token": venue.token(paradex.DEMO_MAIN, expires_at=NOW - DAY)}


def bound_token(venue: paradex.Paradex) -> dict[str, str]:
    return {"token": venue.token(paradex.DEMO_MAIN, cidrs=["203.0.113.0/24"])}


def foreign_token(venue: paradex.Paradex) -> dict[str, str]:
    return {"token": venue.token(paradex.DEMO_MAIN, environment="testnet")}


def narrow_token(venue: paradex.Paradex) -> dict[str, str]:
    body = {"error": "INVALID_TOKEN_SCOPE", "message": "no", "data": None}
    venue.fail(403, json.dumps(body).encode())
    return GOOD["paradex"]


def forged_token(venue: paradex.Paradex) -> dict[str, str]:
    return {"token": paradex.DEMO_TOKEN[:-4] + "AAAA"}


def late_woox_key(venue: woox.Woox) -> dict[str, str]:
    key = replace(NEW_WOOX, expires_at=NOW - DAY)
    venue.add(woox.DEMO_MAIN, key)
    return secrets_of(key)


TABLE: list[tuple[str, dict[str, str] | Callable[[Any], dict[str, str]], Reason, str]] = [
    ("bybit", GOOD["bybit"] | {"api_key": "EXAMPLEKEYNOBODYHAS"}, Reason.WRONG_KEY, "Copy it again"),
    ("bybit", GOOD["bybit"] | {"api_secret": "not-the-secret"}, Reason.WRONG_KEY, "Copy both again"),
    ("bybit", bybit.EXPIRED, Reason.EXPIRED, "Extend it on Bybit's API page"),
    ("bybit", bybit.SPOT_ONLY, Reason.MISSING_PERMISSION, "Tick Contract: Orders and Positions"),
    ("bybit", bybit.OTHER_IP, Reason.IP_NOT_ALLOWED, "Add the one perpdash runs at"),
    ("bybit", bybit.TESTNET, Reason.WRONG_ENVIRONMENT, "a key of Bybit's testnet. Choose that as the site"),
    (
        "bybit", GOOD["bybit"] | {"host": "api-testnet.bybit.com"}, Reason.WRONG_ENVIRONMENT,
        "a key of bybit.com. Choose that as the site",
    ),
    ("woox", GOOD["woox"] | {"api_key": "wooxNobodyHasThisA=="}, Reason.WRONG_KEY, "Look at it under API management"),
    ("woox", GOOD["woox"] | {"api_secret": "NOTTHESECRET"}, Reason.WRONG_KEY, "Copy both again"),
    ("woox", GOOD["woox"] | {"api_key": "9f8e7d6c5b4a"}, Reason.WRONG_VENUE, "WOO X Pro (wooxpro.com)"),
    ("woox", secrets_of(woox.KEY_STAGING), Reason.WRONG_ENVIRONMENT, "Make one on woox.io"),
    ("woox", secrets_of(woox.KEY_OTHER_IP), Reason.IP_NOT_ALLOWED, "Add the one perpdash runs at"),
    ("woox", secrets_of(woox.KEY_TRADE_ONLY), Reason.WRONG_KEY, "the READ permission"),  # WOO X does not tell it apart
    ("woox", late_woox_key, Reason.WRONG_KEY, "expired"),  # nor this
    ("woox", GOOD["woox"] | {"application_id": woox.DEMO_SUB}, Reason.WRONG_ACCOUNT, "Copy both from one account"),
    ("paradex", forged_token, Reason.WRONG_KEY, "Make a new read-only token"),
    ("paradex", expired_token, Reason.EXPIRED, "make a new read-only one"),
    ("paradex", bound_token, Reason.IP_NOT_ALLOWED, "Make one that allows the address perpdash runs at"),
    ("paradex", foreign_token, Reason.WRONG_ENVIRONMENT, "a token of Paradex's testnet"),
    ("paradex", narrow_token, Reason.MISSING_PERMISSION, "Make a read-only token"),
    ("paradex", SUBKEY | {"subkey": "0x1234"}, Reason.WRONG_KEY, "Make a new read-only token"),
    ("paradex", SUBKEY | {"account": "0x999"}, Reason.UNKNOWN_ACCOUNT, "Copy the address of the main account again"),
    ("paradex", MAIN_KEY, Reason.MAIN_KEY, "Make a read-only token instead"),
    ("hyperliquid", {"address": NOBODY}, Reason.UNKNOWN_ACCOUNT, ""),
    ("hyperliquid", {"address": hyperliquid.DEMO_AGENT}, Reason.AGENT, hyperliquid.DEMO_TRADER),
]  # fmt: skip


@pytest.mark.parametrize(("venue", "secrets", "reason", "says"), TABLE)
def test_a_key_that_does_not_do_is_not_stored_and_the_same_is_said(
    sandbox: Sandbox, venue: str, secrets: Any, reason: Reason, says: str
) -> None:
    secrets = secrets(sandbox.venues[venue]) if callable(secrets) else secrets
    with pytest.raises(CredentialsRejected) as told:
        offered(venue, secrets)
    assert told.value.reason == reason
    assert says in str(told.value)
    assert not ExchangeCredential.objects.exists()


@pytest.mark.parametrize(("venue", "secrets", "reason", "says"), TABLE)
def test_what_is_wrong_with_a_stored_key_has_its_own_reason_and_the_one_thing_to_do_and_it_is_left_alone(
    sandbox: Sandbox, venue: str, secrets: Any, reason: Reason, says: str
) -> None:
    secrets = secrets(sandbox.venues[venue]) if callable(secrets) else secrets
    credential = account(venue, secrets)
    assert at_work() == 1
    credential.refresh_from_db()
    assert (credential.health.state, credential.health.reason) == (Health.REJECTED, reason), credential.health.text
    assert says in credential.health.text
    assert credential.health.text.endswith(".")
    for name in ("api_key", "api_secret", "token", "subkey"):
        assert name not in secrets or secrets[name] not in credential.health.text
    assert credential.runs.get().outcome == SyncRun.Outcome.REJECTED
    assert not credential.fills.exists()
    before = asked(sandbox, venue)
    assert at_work() == 0
    assert asked(sandbox, venue) == before
    assert examined(credential).health.reason == reason  # nor has it ever worked
    assert credential.verified_at is None


def test_no_two_of_these_states_share_a_sentence() -> None:
    """Of one venue, but for what the venue itself does not tell apart."""
    told = [(venue, says) for venue, _, reason, says in TABLE if says and reason != Reason.WRONG_KEY]
    assert len(told) - len(set(told)) <= 1  # the two ways of Bybit's environments differ in the site's name


@pytest.mark.parametrize("url", ["https://api.testnet.paradex.trade"])
def test_a_mainnet_key_at_a_testnet_is_told(sandbox: Sandbox, settings: Any, url: str) -> None:
    settings.VENUE_URLS = settings.VENUE_URLS | {"paradex": url}
    credential = examined(account("paradex"))
    assert credential.health.reason == Reason.WRONG_ENVIRONMENT
    assert "a token of Paradex's mainnet" in credential.health.text


@pytest.mark.parametrize("venue", ALL)
def test_a_good_key_works_and_says_what_it_is(sandbox: Sandbox, venue: str) -> None:
    credential = examined(account(venue))
    assert credential.health.state == Health.WORKS
    assert credential.account_ref == REFS[venue]
    assert credential.verified_at and timezone.now() - credential.verified_at < timedelta(seconds=1)
    assert credential.description.endswith(".")
    assert not (credential.may_trade or credential.may_withdraw)


# --- A key that can do more than read --------------------------------------------------------------------------------


POWERS = [
    ("bybit", bybit.TRADING, (True, False), "can trade."),
    ("bybit", bybit.WITHDRAWING, (True, True), "can trade and withdraw."),
    ("woox", secrets_of(woox.KEY_TRADE), (True, False), "can trade."),
    ("woox", secrets_of(woox.KEY_WITHDRAWAL), (False, True), "can withdraw."),
    ("paradex", SUBKEY, (True, False), "can trade."),
]


@pytest.mark.parametrize(("venue", "secrets", "powers", "says"), POWERS)
def test_a_key_with_powers_is_refused_unless_insisted_on_and_stays_marked(
    sandbox: Sandbox, clock: Any, venue: str, secrets: dict[str, str], powers: tuple[bool, bool], says: str
) -> None:
    with pytest.raises(CredentialsRejected, match=says) as told:
        offered(venue, secrets)
    assert told.value.reason == Reason.CAN_TRADE
    assert not ExchangeCredential.objects.exists()
    credential = offered(venue, secrets, insist=True)
    for _ in range(2):
        credential.refresh_from_db()
        assert (credential.may_trade, credential.may_withdraw) == powers
        assert credential.allows_trading_key
        clock.move(25 * 3600)
        examined(credential)
        assert credential.health.state == Health.WORKS


@pytest.mark.parametrize(("venue", "secrets", "powers", "says"), POWERS)
def test_a_key_with_powers_that_nobody_examined_reads_nothing(
    sandbox: Sandbox, venue: str, secrets: dict[str, str], powers: tuple[bool, bool], says: str
) -> None:
    credential = account(venue, secrets)
    assert at_work() == 1
    credential.refresh_from_db()
    assert credential.health.reason == Reason.CAN_TRADE
    assert says in credential.health.text
    assert not credential.coverage.exists()


def test_the_main_private_key_of_paradex_is_refused_even_when_insisted_on(sandbox: Sandbox) -> None:
    for insist in (False, True):
        with pytest.raises(CredentialsRejected, match="main private key") as told:
            offered("paradex", MAIN_KEY, insist=insist)
        assert told.value.reason == Reason.MAIN_KEY
    credential = account("paradex", MAIN_KEY, allows_trading_key=True)
    assert at_work() == 1
    credential.refresh_from_db()
    assert (credential.health.reason, credential.coverage.count()) == (Reason.MAIN_KEY, 0)


def test_insisting_is_for_one_key_only(sandbox: Sandbox) -> None:
    credential = offered("bybit", bybit.TRADING, insist=True)
    credentials = VENUES["bybit"].credentials_type.parse
    holding.take_key(credential, credentials(bybit.MAIN), now=timezone.now())
    credential.refresh_from_db()
    assert (credential.may_trade, credential.allows_trading_key) == (False, False)
    with pytest.raises(CredentialsRejected, match="can trade"):
        holding.take_key(credential, credentials(bybit.TRADING), now=timezone.now())
    credential.refresh_from_db()
    assert credential.open_secrets() == credentials(bybit.MAIN)


def give_powers(sandbox: Sandbox, venue: str) -> None:
    """The key the account has is changed at the venue."""
    if venue == "bybit":
        sandbox.bybit.add(
            bybit.MAIN_UID, bybit.Key(bybit.MAIN, read_only=False, ips=("127.0.0.1",), permissions=bybit.CONTRACTS)
        )
    else:
        sandbox.woox.add(woox.DEMO_MAIN, replace(woox.KEY_MAIN, permissions=("READ", "TRADE")))


@pytest.mark.parametrize("venue", ["bybit", "woox"])
@pytest.mark.parametrize("hours", [1, 25])
def test_the_daily_check_notices_a_key_that_was_given_powers(
    sandbox: Sandbox, clock: Any, venue: str, hours: int
) -> None:
    credential = account(venue)
    read(credential)
    give_powers(sandbox, venue)
    clock.move(hours * 3600)
    before = credential.fills.count()
    run = read(credential)
    if hours < 24:  # once a day is enough: the venues meter these questions more than others
        assert run.outcome == SyncRun.Outcome.COMPLETE
        return
    assert credential.health.reason == Reason.CAN_TRADE
    assert credential.fills.count() == before
    clock.move(25 * 3600)
    assert at_work() == 0


@pytest.mark.parametrize("venue", ["bybit", "woox"])
def test_the_daily_check_marks_what_the_owner_had_insisted_on(sandbox: Sandbox, clock: Any, venue: str) -> None:
    credential = account(venue, allows_trading_key=True)
    read(credential)
    assert not credential.may_trade
    give_powers(sandbox, venue)
    clock.move(25 * 3600)
    read(credential)
    assert (credential.health.state, credential.may_trade) == (Health.WORKS, True)


# --- When a key dies -------------------------------------------------------------------------------------------------


def dying(sandbox: Sandbox, venue: str, left: timedelta) -> dict[str, str]:
    if venue == "paradex":
        return {"token": sandbox.paradex.token(paradex.DEMO_MAIN, expires_at=NOW + left)}
    sandbox.bybit.add(bybit.MAIN_UID, bybit.Key(bybit.MAIN, created_at=NOW + left - bybit.KEY_LIFE))
    return bybit.MAIN


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (timedelta(days=15), "Works."),
        (timedelta(days=14), "Works."),
        (timedelta(days=14, seconds=-1), "Works, and expires in 13 days (2026-12-05). Make a new key in time."),
        (timedelta(days=13), "Works, and expires in 13 days (2026-12-04). Make a new key in time."),
        (timedelta(days=1), "Works, and expires in 1 day (2026-11-22). Make a new key in time."),
        (timedelta(hours=5), "Works, and expires in less than a day (2026-11-21). Make a new key in time."),
    ],
)
def test_the_end_of_a_key_is_warned_of_from_two_weeks_before(clock: Any, left: timedelta, says: str) -> None:
    credential = account("paradex", expires_at=NOW + left)
    doctor.note_success(credential, now=NOW)
    assert credential.health.text == says


@pytest.mark.parametrize("venue", ["bybit", "paradex"])
def test_the_warning_comes_by_itself_and_the_end_is_said(sandbox: Sandbox, clock: Any, venue: str) -> None:
    credential = account(venue, dying(sandbox, venue, timedelta(days=15, minutes=1)))
    read(credential)
    assert credential.health.text == "Works."
    assert credential.expires_at == NOW + timedelta(days=15, minutes=1)
    clock.move(2 * 86_400)
    read(credential)
    assert "expires in 13 days" in credential.health.text
    clock.move(13 * 86_400 + 61)
    read(credential)
    assert (credential.health.state, credential.health.reason) == (Health.REJECTED, Reason.EXPIRED)
    assert "has expired" in credential.health.text
    before = asked(sandbox, venue)
    clock.move(86_400)
    assert at_work() == 0
    assert asked(sandbox, venue) == before


def test_a_key_that_dies_in_the_middle_of_a_day_is_said_to_have_expired_not_to_be_deleted(
    sandbox: Sandbox, clock: Any
) -> None:
    """Hours after the last check, by the list of fills itself."""
    credential = account("paradex", dying(sandbox, "paradex", timedelta(hours=3)))
    read(credential)
    clock.move(4 * 3600)
    read(credential)
    assert (credential.health.reason, "has expired" in credential.health.text) == (Reason.EXPIRED, True)


# --- A clock that is off ---------------------------------------------------------------------------------------------


def set_clock(sandbox: Sandbox, clock: Any, venue: str, off: timedelta) -> None:
    """The venue's clock is ahead of ours by so much."""
    sandbox.venues[venue].now = lambda: clock.now() + off


@pytest.mark.parametrize("venue", ALL)
@pytest.mark.parametrize("seconds", [-20, 20])
def test_a_clock_that_is_20_seconds_off_is_made_up_for(sandbox: Sandbox, clock: Any, venue: str, seconds: int) -> None:
    set_clock(sandbox, clock, venue, timedelta(seconds=seconds))
    credential = account(venue)
    assert read(credential).outcome == SyncRun.Outcome.COMPLETE
    assert credential.health.text == "Works."


@pytest.mark.parametrize("secrets", [*GOOD.items(), ("paradex", SUBKEY)], ids=[*GOOD, "paradex subkey"])
@pytest.mark.parametrize(("minutes", "was_read"), [(-10, False), (10, True)])
def test_a_clock_that_is_off_is_not_a_rejected_key_and_heals_by_itself(
    sandbox: Sandbox, clock: Any, secrets: tuple[str, dict[str, str]], minutes: int, was_read: bool
) -> None:
    venue, known = secrets
    credential = account(venue, known, allows_trading_key=True)
    if was_read:
        read(credential)
        assert credential.health.state == Health.WORKS
    clock.move(3600)
    # Ours goes wrong, and later is set right; the venue's goes on as ever.
    clock.move(-60 * minutes)
    set_clock(sandbox, clock, venue, timedelta(minutes=minutes))
    fills = credential.fills.count()
    read(credential)
    assert (credential.health.state, credential.health.reason) == (Health.UNAVAILABLE, Reason.CLOCK)
    way = "ahead" if minutes < 0 else "behind"
    assert f"clock is 10 minutes {way} of {credential.venue_name}'s. Set it right." in credential.health.text
    assert credential.fills.count() == fills
    assert credential.due_at > timezone.now()
    clock.move(60 * minutes)
    set_clock(sandbox, clock, venue, timedelta())
    clock.move(max(0.0, (credential.due_at - timezone.now()).total_seconds()) + 1)
    assert at_work() == 1
    credential.refresh_from_db()
    assert (credential.health.state, credential.health.text) == (Health.WORKS, "Works."), credential.health.text


# --- The same account twice ------------------------------------------------------------------------------------------


def second_key(sandbox: Sandbox, venue: str) -> dict[str, str]:
    """Another key of the same account."""
    if venue == "bybit":
        known = sandbox.bybit.accounts[bybit.MAIN_UID]
        known.keys = (*known.keys, bybit.Key(NEW_BYBIT, ips=("127.0.0.1",)))
        return NEW_BYBIT
    if venue == "woox":
        known = sandbox.woox.accounts[woox.DEMO_MAIN]
        known.keys = (*known.keys, NEW_WOOX)
        return secrets_of(NEW_WOOX)
    return {"token": sandbox.paradex.token(paradex.DEMO_MAIN)}


@pytest.mark.parametrize("venue", ["bybit", "woox"])
def test_an_account_that_is_here_already_under_another_key_is_refused_in_words_at_its_first_reading(
    sandbox: Sandbox, venue: str
) -> None:
    """Neither key was examined when it was added, so nobody knew whose they are."""
    owner, parse = factories.user("ada"), VENUES[venue].credentials_type.parse
    first, second = (
        holding.add(owner, venue, label, parse(secrets), now=timezone.now(), verify=False)
        for label, secrets in (("Main", GOOD[venue]), ("Also main", second_key(sandbox, venue)))
    )
    for credential in (first, second):
        ExchangeCredential.objects.filter(pk=credential.pk).update(history_from=NOW - 3 * DAY)
    assert read(first).outcome == SyncRun.Outcome.COMPLETE
    assert read(second).outcome == SyncRun.Outcome.REJECTED
    assert (second.health.state, second.health.reason) == (Health.REJECTED, Reason.WRONG_ACCOUNT)
    assert "This account is here already, as “Main”: read twice, it would count twice." in second.health.text
    assert (second.account_ref, second.fills.count(), second.coverage.count()) == ("", 0, 0)
    assert not examined(second).verified_at
    assert second.health.reason == Reason.WRONG_ACCOUNT
    assert read(first).outcome == SyncRun.Outcome.COMPLETE
    # Once the other is gone, this one is read.
    holding.remove(first)
    assert holding.reverify(second, now=timezone.now())
    assert read(second).outcome == SyncRun.Outcome.COMPLETE
    assert second.fills.exists()


@pytest.mark.parametrize("venue", KEYED)
def test_an_account_that_is_here_already_is_not_added_under_another_key(sandbox: Sandbox, venue: str) -> None:
    first = account(venue)
    examined(first)
    credentials = VENUES[venue].credentials_type.parse(second_key(sandbox, venue))
    with pytest.raises((holding.AlreadyAdded, CredentialsRejected), match="here already"):
        holding.add(first.owner, venue, "Again", credentials, now=timezone.now())
    assert ExchangeCredential.objects.count() == 1


@pytest.mark.parametrize("venue", KEYED)
def test_two_people_may_watch_the_same_account(sandbox: Sandbox, venue: str) -> None:
    for name in ("ada", "bob"):
        credential = account(venue, owner=factories.user(name), history_from=NOW - DAY)
        assert read(credential).outcome == SyncRun.Outcome.COMPLETE


@pytest.mark.parametrize("venue", KEYED)
def test_a_key_of_another_account_is_not_put_in(sandbox: Sandbox, venue: str) -> None:
    others = {"bybit": bybit.SUB, "woox": secrets_of(woox.KEY_SUB), "paradex": {"token": paradex.DEMO_SUB_TOKEN}}
    credential = examined(account(venue))
    credentials = VENUES[venue].credentials_type.parse
    with pytest.raises(CredentialsRejected) as told:
        holding.take_key(credential, credentials(others[venue]), now=timezone.now())
    assert told.value.reason == Reason.WRONG_ACCOUNT
    credential.refresh_from_db()
    assert (credential.account_ref, credential.open_secrets()) == (REFS[venue], credentials(GOOD[venue]))


# --- A key that was deleted ------------------------------------------------------------------------------------------


def new_key(sandbox: Sandbox, venue: str) -> dict[str, str]:
    """The venue makes a new key for the account whose keys are all gone."""
    secrets = second_key(sandbox, venue)
    if venue != "paradex":
        known = sandbox.venues[venue].accounts[REFS[venue]]  # type: ignore[attr-defined]
        known.keys, known.is_revoked = known.keys[-1:], False
    return secrets


def revoke(sandbox: Sandbox, venue: str) -> None:
    sandbox.venues[venue].revoke(REFS[venue])  # type: ignore[attr-defined]


def restore(sandbox: Sandbox, venue: str) -> None:
    sandbox.venues[venue].restore(REFS[venue])  # type: ignore[attr-defined]


def fill_requests(sandbox: Sandbox, venue: str) -> int:
    return sum(sandbox.venues[venue].calls[path] for path in FILL_PATHS)


@pytest.mark.parametrize("hours", [1, 25])
@pytest.mark.parametrize("venue", KEYED)
def test_a_deleted_key_is_told_as_one_that_worked_before_and_is_not_tried_again(
    sandbox: Sandbox, clock: Any, venue: str, hours: int
) -> None:
    """Noticed by the next reading and by the daily check alike."""
    credential = account(venue)
    assert at_work() == 1
    credential.refresh_from_db()
    assert credential.health.state == Health.WORKS
    revoke(sandbox, venue)
    clock.move(hours * 3600)
    assert at_work() == 1
    credential.refresh_from_db()
    assert (credential.health.state, credential.health.reason) == (Health.REJECTED, Reason.REVOKED)
    assert "This key worked on 2026-11-21 and no longer does." in credential.health.text
    assert "Make a new key and put it in" in credential.health.text
    before = sandbox.venues[venue].calls.copy()
    for _ in range(5):
        clock.move(3600)
        assert at_work() == 0
    assert sandbox.venues[venue].calls == before


@pytest.mark.parametrize("way", ["restored", "a new key"])
@pytest.mark.parametrize("venue", KEYED)
def test_with_a_key_again_reading_goes_on_from_the_ledger(sandbox: Sandbox, clock: Any, venue: str, way: str) -> None:
    credential = account(venue, history_from=NOW - 30 * DAY)
    at_work()
    fills, known = credential.fills.count(), list(credential.coverage.values_list("stream", "from_at"))
    assert fills
    revoke(sandbox, venue)
    clock.move(3600)
    at_work()
    clock.move(2 * 3600)
    credential.refresh_from_db()
    assert credential.health.reason == Reason.REVOKED
    assert not holding.reverify(credential, now=timezone.now())
    if way == "restored":
        restore(sandbox, venue)
        assert holding.reverify(credential, now=timezone.now())
    else:
        secrets = VENUES[venue].credentials_type.parse(new_key(sandbox, venue))
        holding.take_key(credential, secrets, now=timezone.now())
    before, seen = fill_requests(sandbox, venue), len(sandbox.venues[venue].requests)
    read_until = to_ms(NOW - credential.venue_type.overlap)
    assert at_work() == 1
    credential.refresh_from_db()
    run = credential.runs.first()
    assert run and run.outcome == SyncRun.Outcome.COMPLETE
    assert credential.health.text.startswith("Works")
    least = len(credential.streams) + (8 if venue == "bybit" else 0)  # where its older lists end is looked for anew
    assert fill_requests(sandbox, venue) - before <= least
    starts = [re.search(r"(?:startTime|start_at)=(\d+)", asked) for asked in sandbox.venues[venue].requests[seen:]]
    assert min(int(start[1]) for start in starts if start and "limit=1&" not in start.string) >= read_until - 1
    assert list(credential.coverage.values_list("stream", "from_at")) == known  # one range still, only longer
    assert credential.fresh_at == run.started_at
    assert credential.fills.count() >= fills


@pytest.mark.parametrize("venue", KEYED)
def test_a_key_deleted_in_the_middle_of_a_backfill_leaves_what_was_read_and_the_rest_is_read_with_the_next(
    sandbox: Sandbox, clock: Any, venue: str
) -> None:
    since = NOW - timedelta(days=300 if venue == "woox" else 30)  # some windows for each
    whole = account(venue, owner=factories.user("bob"), history_from=since)
    requests = read(whole).requests
    credential = account(venue, owner=factories.user("ada"), history_from=since)
    sandbox.venues[venue].after(max(3, requests // 2), lambda: revoke(sandbox, venue))
    run = read(credential)
    assert (run.outcome, credential.health.state) == (SyncRun.Outcome.REJECTED, Health.REJECTED)
    restore(sandbox, venue)
    assert holding.reverify(credential, now=timezone.now())
    again = read(credential)
    assert again.outcome == SyncRun.Outcome.COMPLETE
    assert again.requests <= requests
    ids = [set(Fill.objects.filter(credential=one).values_list("fill_id", flat=True)) for one in (whole, credential)]
    assert ids[0] == ids[1]


# --- Secrets at rest -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("venue", "secrets"), [*GOOD.items(), ("paradex", SUBKEY), ("bybit", bybit.MAIN | {"host": "api.bybit.eu"})]
)
def test_every_credential_comes_back_as_it_was_put_in(db: Any, venue: str, secrets: dict[str, str]) -> None:
    """Whatever its fields are called."""
    credential = ExchangeCredential.objects.get(pk=account(venue, secrets).pk)
    assert credential.open_secrets() == VENUES[venue].credentials_type.parse(secrets)


def test_secrets_of_the_first_form_are_still_read(db: Any) -> None:
    credential = account("hyperliquid")
    document = {"v": 1, "account": str(credential.uuid)} | GOOD["hyperliquid"]
    credential.secrets = Secret(json.dumps(document))
    credential.save()
    stored = ExchangeCredential.objects.get(pk=credential.pk).open_secrets()
    assert stored == VENUES["hyperliquid"].credentials_type.parse(GOOD["hyperliquid"])
