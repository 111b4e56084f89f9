"""The pages of accounts: what is said of each, and what a person who adds one gets to see."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from accounts.forms import WelcomeForm
from exchanges.models import ExchangeCredential, SyncRun
from exchanges.sandbox import Sandbox
from tests import factories
from tests.conftest import NOW
from volume.refresh import refresh

pytestmark = pytest.mark.django_db
ME = "0x00000000000000000000000000000000000000aa"
SUB = "0x00000000000000000000000000000000000000bb"
DAY = timedelta(days=1)


@pytest.fixture
def account(clock: Any, sandbox: Sandbox) -> ExchangeCredential:
    sandbox.hyperliquid.add(ME, rows=[factories.hyperliquid_row(NOW - DAY)])
    return factories.credential(secrets={"address": ME}, history_from=NOW - 30 * DAY)


@pytest.fixture
def mine(account: ExchangeCredential, client: Client) -> Client:
    client.force_login(account.owner)
    return client


def page(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_the_days_of_an_account_are_not_read_at_first_and_then_have_their_volume(mine: Client, account: Any) -> None:
    before = page(mine, f"/accounts/{account.pk}/")
    assert "Its first days appear here" in before
    assert "$0.00" not in before
    refresh(account, now=NOW)
    after = page(mine, f"/accounts/{account.pk}/")
    assert "Its last days" in after
    assert f"/day/{NOW - DAY:%Y-%m-%d}/?account={account.pk}" in after
    assert "$100,000.00" in after


def test_the_list_says_of_each_account_its_last_run_with_news(mine: Client, account: Any, clock: Any) -> None:
    assert "Last run with news" not in page(mine, "/accounts/")
    refresh(account, now=NOW)
    clock.move(60)
    refresh(ExchangeCredential.objects.get(pk=account.pk), now=clock.now())
    assert account.runs.count() == 2
    shown = page(mine, "/accounts/")
    assert "2026-11-21 12:00 UTC</time>" in shown
    assert "1 new fill." in shown


def test_checked_is_when_the_venue_was_asked_about_the_key_not_when_it_was_read(mine: Client, account: Any) -> None:
    mine.post(f"/accounts/{account.pk}/verify/")
    SyncRun.objects.all().delete()
    ExchangeCredential.objects.update(health_at=NOW + DAY)
    shown = page(mine, f"/accounts/{account.pk}/")
    assert "Checked" in shown
    assert "2026-11-21 12:00 UTC" in shown
    assert "2026-11-22" not in shown


def test_another_account_of_yours_that_is_added_says_so(mine: Client, account: Any) -> None:
    account.related = [{"label": "grid", "values": {"address": SUB}}, {"label": "0x" + "ab" * 32, "values": {}}]
    account.save(update_fields=["related"])
    assert f"/accounts/add/hyperliquid/?label=grid&amp;address={SUB}" in page(mine, f"/accounts/{account.pk}/")
    other = factories.credential(owner=account.owner, label="Night grid", secrets={"address": SUB})
    shown = page(mine, f"/accounts/{account.pk}/")
    assert "label=grid" not in shown
    assert f'Added, as <a href="/accounts/{other.pk}/">Night grid</a>' in shown
    assert f'title="0x{"ab" * 32}"' in shown  # shortened by the browser, whole for who copies it


def test_what_is_wrong_with_a_password_stands_beside_it_and_a_mismatch_beside_its_repetition(db: Any) -> None:
    common = WelcomeForm({"username": "ada", "password1": "password", "password2": "password"})
    assert list(common.errors) == ["password1"]
    differing = WelcomeForm({"username": "ada", "password1": factories.PASSWORD, "password2": "other"})
    assert list(differing.errors) == ["password2"]
