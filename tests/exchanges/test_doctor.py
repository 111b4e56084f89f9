"""What a key is and how an account fares, in sentences that say what to do."""

from datetime import datetime, timedelta

import pytest
from django.test import override_settings

from exchanges import doctor
from exchanges.connect import PATIENT
from exchanges.models import ExchangeCredential, Health, HealthReport
from exchanges.sandbox.hyperliquid import DEMO_AGENT, DEMO_EMPTY, DEMO_SUB, DEMO_TRADER
from exchanges.venues.base import CredentialsRejected, Reason, VenueUnavailable
from tests import factories

pytestmark = pytest.mark.django_db

VAULT = "0xde3000000000000000000000000000000000a0f1"
NOBODY = "0xde3000000000000000000000000000000000a0ff"


def account(address: str = DEMO_TRADER) -> ExchangeCredential:
    return factories.credential(secrets={"address": address})


def verify(credential: ExchangeCredential, now: datetime) -> bool:
    return doctor.verify(credential, now=now, patience=PATIENT)


def test_a_users_address_works(sandbox, clock):
    credential = account()
    assert verify(credential, clock.now())
    assert credential.health == HealthReport(Health.WORKS, "", "Works.", clock.now())
    assert credential.verified_at == clock.now()
    assert credential.account_ref == DEMO_TRADER
    assert credential.description == "Public address. Reading needs no key, so there is nothing that could trade."
    assert (credential.may_trade, credential.may_withdraw, credential.expires_at) == (False, False, None)


def test_an_address_that_never_traded_works(sandbox, clock):
    assert verify(account(DEMO_EMPTY), clock.now())


def test_the_address_is_taken_however_it_is_spelled(sandbox, clock):
    credential = account(f"  {DEMO_TRADER.upper().replace('X', 'x')} ")
    assert verify(credential, clock.now())
    assert credential.account_ref == DEMO_TRADER


def test_related_sub_accounts_are_found(sandbox, clock):
    credential = account()
    verify(credential, clock.now())
    assert credential.related == [{"label": "grid", "values": {"address": DEMO_SUB}}]


def test_an_account_without_sub_accounts_has_no_related_ones(sandbox, clock):
    credential = account(DEMO_EMPTY)
    verify(credential, clock.now())
    assert credential.related == []


def test_an_agent_is_told_the_address_of_its_account(sandbox, clock):
    credential = account(DEMO_AGENT)
    assert not verify(credential, clock.now())
    assert credential.health.state == Health.REJECTED
    assert credential.health.text == (
        f"This is the address of an agent wallet (an API wallet) of {DEMO_TRADER}. "
        "It has no fills of its own: add that address instead."
    )
    assert credential.verified_at is None


def test_a_sub_account_names_its_master(sandbox, clock):
    credential = account(DEMO_SUB)
    assert verify(credential, clock.now())
    assert credential.description == f"Sub-account of {DEMO_TRADER}. Reading needs no key."


def test_a_vault_is_told_to_be_one(sandbox, clock):
    sandbox.hyperliquid.add(VAULT, role="vault")
    credential = account(VAULT)
    assert verify(credential, clock.now())
    assert credential.description.startswith("Vault: its volume is the vault's")


def test_an_address_the_venue_has_never_seen_needs_the_user(sandbox, clock):
    credential = account(NOBODY)
    assert not verify(credential, clock.now())
    assert credential.health.state == Health.REJECTED
    assert credential.health.text.startswith("Hyperliquid has never seen this address.")


def test_a_role_nobody_has_heard_of_waits_for_an_update(sandbox, clock):
    sandbox.hyperliquid.add(VAULT, role="treasury")
    credential = account(VAULT)
    assert not verify(credential, clock.now())
    assert credential.health.state == Health.PUZZLED
    assert "treasury" in credential.health.text


def test_examine_raises_with_the_reason(sandbox):
    with pytest.raises(CredentialsRejected) as fault:
        doctor.examine(account(DEMO_AGENT), patience=PATIENT)
    assert fault.value.reason == Reason.AGENT
    sandbox.hyperliquid.time_out(times=None)
    with pytest.raises(VenueUnavailable, match="does not answer"):
        doctor.examine(account(DEMO_EMPTY), patience=PATIENT)


@pytest.mark.parametrize(
    ("fault", "arguments", "says"),
    [
        ("time_out", {}, "Hyperliquid does not answer."),
        ("hang_up", {}, "Hyperliquid cannot be reached."),
        ("fail", {"status": 502}, "Hyperliquid has trouble of its own (HTTP 502)."),
        ("html", {}, "Hyperliquid sent something that is not its API's answer (broken or cut off)."),
        ("truncate", {}, "Hyperliquid sent something that is not its API's answer (broken or cut off)."),
        ("rate_limit", {}, "Hyperliquid asks us to slow down."),
    ],
)
def test_a_venue_in_trouble_is_tried_again_and_nothing_is_lost(sandbox, clock, fault, arguments, says):
    credential = account()
    getattr(sandbox.hyperliquid, fault)(times=None, **arguments)
    assert not verify(credential, clock.now())
    assert credential.health.state == Health.UNAVAILABLE
    again = doctor.in_words(credential.due_at - credential.health.at)
    assert credential.health.text == f"{says} Trying again in {again}; nothing is lost."


@pytest.mark.parametrize("fault", ["time_out", "hang_up", "html", "truncate", "rate_limit"])
def test_a_short_fault_is_not_even_told(sandbox, clock, fault):
    credential = account()
    getattr(sandbox.hyperliquid, fault)(times=2)
    assert verify(credential, clock.now())
    assert credential.health.text == "Works."


def test_a_request_that_is_refused_waits_for_an_update(sandbox, clock):
    credential = account()
    sandbox.hyperliquid.fail(status=403)
    assert not verify(credential, clock.now())
    assert credential.health.state == Health.PUZZLED
    assert credential.health.text.startswith("Hyperliquid did not accept our request (HTTP 403).")
    assert credential.due_at == credential.health.at + doctor.LONGEST_RETRY


def test_the_pause_grows_with_every_failure_up_to_a_quarter_of_an_hour(sandbox, clock):
    credential = account()
    sandbox.hyperliquid.time_out(times=None)
    pauses = []
    for number in range(1, 9):
        verify(credential, clock.now())
        pause = credential.due_at - credential.health.at
        assert credential.failures == number
        assert f"Trying again in {doctor.in_words(pause)};" in credential.health.text
        pauses.append(pause)
    growing = pauses[: pauses.index(doctor.LONGEST_RETRY) + 1]
    assert growing == sorted(set(growing))
    assert set(pauses[len(growing) :]) == {doctor.LONGEST_RETRY}


def test_very_many_failures_do_not_break_the_pause(clock):
    credential = account()
    credential.failures = 100_000
    doctor.note_failure(credential, VenueUnavailable("Down."), now=clock.now())
    assert credential.due_at == clock.now() + doctor.LONGEST_RETRY


def test_a_venue_that_says_how_long_is_obeyed(sandbox, clock):
    credential = account()
    sandbox.hyperliquid.fail(status=503, headers={"Retry-After": "7200"})
    verify(credential, clock.now())
    assert credential.due_at == clock.now() + timedelta(hours=2)


def test_a_recovered_account_works_and_its_failures_are_forgotten(sandbox, clock):
    credential = account()
    sandbox.hyperliquid.time_out(times=None)
    verify(credential, clock.now())
    verify(credential, clock.now())
    sandbox.hyperliquid.heal()
    assert verify(credential, clock.now())
    assert credential.health.text == "Works."
    assert credential.health.state == Health.WORKS
    assert credential.failures == 0


def test_secrets_that_cannot_be_read_are_told_apart_from_a_wrong_key(sandbox, clock):
    credential = ExchangeCredential.objects.get(pk=account().pk)
    with override_settings(SALT_KEY=["another salt, long enough to be one"]):
        assert not verify(credential, clock.now())
    assert credential.health.state == Health.UNREADABLE
    assert "SALT_KEY" in credential.health.text
    assert not sandbox.hyperliquid.requests


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (timedelta(days=15), "Works."),
        (timedelta(days=13, hours=1), "Works, and expires in 13 days (2026-12-04). Make a new key in time."),
        (timedelta(days=1, hours=1), "Works, and expires in 1 day (2026-11-22). Make a new key in time."),
    ],
)
def test_a_key_about_to_expire_is_told_so(clock, left, says):
    credential = account()
    credential.expires_at = clock.now() + left
    doctor.note_success(credential, now=clock.now())
    assert credential.health.text == says


def test_a_fault_of_ours_shows_its_kind_and_no_more(clock):
    credential = account()
    doctor.note_bug(credential, KeyError("hunter2"), now=clock.now())
    assert credential.health.state == Health.PUZZLED
    assert "KeyError" in credential.health.text
    assert "hunter2" not in credential.health.text


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(seconds=1), "1 second"),
        (timedelta(seconds=30), "30 seconds"),
        (timedelta(seconds=60), "1 minute"),
        (timedelta(minutes=15), "15 minutes"),
    ],
)
def test_spans_are_told_in_words(span, words):
    assert doctor.in_words(span) == words
