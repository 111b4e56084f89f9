"""New keys for what is stored: everything opens with the newest key alone, while the app runs, however often ended."""

import os
import sqlite3
import subprocess
import sys
import time
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from accounts.models import ApiToken
from accounts.tokens import working_token
from exchanges.fields import Secret, SecretError, cipher
from exchanges.models import ExchangeCredential
from exchanges.rotation import Outcome, rotate, rotate_one
from exchanges.venues import VENUES
from tests import factories
from volume import holding

OLD_SALT, NEW_SALT = "an old salt and long enough to be one", "a new salt and long enough to be one"
OLD_KEY, NEW_KEY = "an old secret key, long enough to be one", "a new secret key, long enough to be one"
OLD = override_settings(SALT_KEY=[OLD_SALT], SECRET_KEY=OLD_KEY, SECRET_KEY_FALLBACKS=[])
BOTH = override_settings(SALT_KEY=[NEW_SALT, OLD_SALT], SECRET_KEY=NEW_KEY, SECRET_KEY_FALLBACKS=[OLD_KEY])
NEW = override_settings(SALT_KEY=[NEW_SALT], SECRET_KEY=NEW_KEY, SECRET_KEY_FALLBACKS=[])
LOST = override_settings(SALT_KEY=["a salt that nobody has any more"], SECRET_KEY="k" * 40, SECRET_KEY_FALLBACKS=[])
ROOT = Path(__file__).resolve().parents[2]


def values(number: int) -> dict[str, str]:
    return {"api_key": f"KEY{number}", "api_secret": f"HUNTER{number}"}


def made(number: int, **fields: Any) -> ExchangeCredential:
    return factories.credential("bybit", label=f"Account {number}", secrets=values(number), **fields)


def opened() -> list[str]:
    """The keys of all accounts, as far as the settings of the moment open them."""
    found = []
    for credential in ExchangeCredential.objects.order_by("pk"):
        try:
            found.append(credential.open_secrets().api_key)
        except SecretError:
            found.append("unreadable")
    return found


def sealed(credential: ExchangeCredential) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM exchanges_exchangecredential WHERE id = %s", [credential.pk])
        return str(cursor.fetchone()[0])


def run() -> tuple[str, int]:
    """What manage.py rotate_secrets says, and its exit code."""
    out = StringIO()
    try:
        call_command("rotate_secrets", stdout=out)
    except SystemExit as end:
        return out.getvalue(), int(end.code or 0)
    return out.getvalue(), 0


@pytest.fixture
def accounts(db: None) -> list[ExchangeCredential]:
    """Five, stored before anybody thought of new keys."""
    with OLD:
        return [made(number) for number in range(5)]


@pytest.mark.parametrize(
    ("both", "new"),
    [
        ({"SALT_KEY": [NEW_SALT, OLD_SALT]}, {"SALT_KEY": [NEW_SALT]}),
        ({"SECRET_KEY": NEW_KEY, "SECRET_KEY_FALLBACKS": [OLD_KEY]}, {"SECRET_KEY": NEW_KEY}),
        (
            {"SALT_KEY": [NEW_SALT, OLD_SALT], "SECRET_KEY": NEW_KEY, "SECRET_KEY_FALLBACKS": [OLD_KEY]},
            {"SALT_KEY": [NEW_SALT], "SECRET_KEY": NEW_KEY},
        ),
    ],
    ids=["salt", "secret key", "both"],
)
def test_after_a_rotation_everything_opens_with_the_newest_key_alone(accounts, both, new):
    everything = [f"KEY{number}" for number in range(5)]
    with OLD, override_settings(**both):
        assert run() == (
            "5 renewed, 0 under the newest key before, 0 unreadable.\n"
            "The newest key opens everything. The older ones can be taken out of SALT_KEY and SECRET_KEY_FALLBACKS "
            "once manage.py doctor finds nothing under them.\n",
            0,
        )
        assert opened() == everything
    with OLD, override_settings(**new):
        assert opened() == everything
    with OLD:
        assert opened() == ["unreadable"] * 5


def test_a_second_rotation_finds_nothing_to_do_and_writes_nothing(accounts):
    with BOTH:
        run()
        before = [sealed(account) for account in accounts]
        said, code = run()
    assert said.startswith("0 renewed, 5 under the newest key before, 0 unreadable.") and code == 0
    assert [sealed(account) for account in accounts] == before


def test_a_rotation_that_was_ended_in_the_middle_goes_on_where_it_was(accounts):
    with BOTH:
        assert [outcome for _, outcome in islice(rotate(), 2)] == [Outcome.RENEWED] * 2
        assert opened() == [f"KEY{number}" for number in range(5)]
        done = [sealed(account) for account in accounts[:2]]
        assert [outcome for _, outcome in rotate()] == [Outcome.CURRENT] * 2 + [Outcome.RENEWED] * 3
        assert [sealed(account) for account in accounts[:2]] == done
    with NEW:
        assert opened() == [f"KEY{number}" for number in range(5)]


def test_secrets_no_key_opens_are_named_left_as_they_are_and_stop_nothing(accounts):
    with LOST:
        lost = made(5)
    with OLD:
        last = made(6)
    before = sealed(lost)
    with BOTH:
        said, code = run()
        assert code == 1
        assert f"Bybit · Account 5 (#{lost.pk}): The secrets of this account can't be read" in said
        assert "6 renewed, 0 under the newest key before, 1 unreadable." in said
        assert "Keep the old keys" in said and "can be taken out" not in said
    assert sealed(lost) == before
    with NEW:
        assert ExchangeCredential.objects.get(pk=last.pk).open_secrets().api_key == "KEY6"
    with LOST:
        assert ExchangeCredential.objects.get(pk=lost.pk).open_secrets().api_key == "KEY5"


def test_a_key_that_is_put_in_meanwhile_wins(accounts):
    with BOTH:
        as_read = ExchangeCredential.objects.get(pk=accounts[0].pk)
        owners = ExchangeCredential.objects.get(pk=accounts[0].pk)
        owners.set_secrets(VENUES["bybit"].credentials_type.parse(values(99)))
        owners.save(update_fields=["secrets"])
        assert rotate_one(as_read) is None
        assert opened()[0] == "KEY99"
        assert [outcome for _, outcome in rotate()] == [Outcome.CURRENT] + [Outcome.RENEWED] * 4
    with NEW:
        assert opened() == ["KEY99", "KEY1", "KEY2", "KEY3", "KEY4"]


def test_one_put_in_under_the_old_key_meanwhile_is_taken_as_it_then_is(accounts):
    """As by a process that was not restarted yet."""
    with BOTH:
        rotation = rotate()
        assert next(rotation)[1] == Outcome.RENEWED
    with OLD:
        second = ExchangeCredential.objects.get(pk=accounts[1].pk)
        second.set_secrets(VENUES["bybit"].credentials_type.parse(values(98)))
        second.save(update_fields=["secrets"])
    with BOTH:
        assert [outcome for _, outcome in rotation] == [Outcome.RENEWED] * 4
    with NEW:
        assert opened() == ["KEY0", "KEY98", "KEY2", "KEY3", "KEY4"]


def test_nothing_else_of_an_account_is_touched(accounts):
    other = {field.attname for field in ExchangeCredential._meta.concrete_fields} - {"secrets"}
    before = list(ExchangeCredential.objects.values(*other))
    with BOTH:
        run()
    assert list(ExchangeCredential.objects.values(*other)) == before


def test_an_account_that_was_read_before_and_is_used_after_still_opens_and_may_be_saved(accounts):
    """As by a worker in the middle of a reading."""
    with BOTH:
        workers = ExchangeCredential.objects.get(pk=accounts[0].pk)
        run()
        assert workers.open_secrets().api_key == "KEY0"
        workers.save(update_fields=["health_text"])
    with NEW:
        assert opened()[0] == "KEY0"


def test_one_removed_in_the_middle_is_passed_over(accounts):
    with BOTH:
        rotation = rotate()
        next(rotation)
        accounts[1].delete()
        assert [account.label for account, _ in rotation] == ["Account 2", "Account 3", "Account 4"]


def test_an_account_without_a_key_needs_none(accounts):
    """Of a retired one only the history is here: nothing of it is to be opened ever again."""
    with OLD:
        holding.retire(accounts[0], now=timezone.now())
    with NEW:
        said, code = run()
    assert code == 1 and "Account 0" not in said
    assert "0 renewed, 0 under the newest key before, 4 unreadable." in said


def test_accounts_of_a_venue_that_is_gone_are_rotated_too(accounts):
    ExchangeCredential.objects.filter(pk=accounts[0].pk).update(venue="mtgox")
    with BOTH:
        assert run()[1] == 0
    with NEW:
        assert "KEY0" in ExchangeCredential.objects.get(pk=accounts[0].pk).secrets.reveal()


def test_api_tokens_go_on_working_for_they_are_digests(accounts):
    with OLD:
        text = ApiToken.issue(accounts[0].owner, "bot")
    with BOTH:
        run()
    with NEW:
        token = working_token(text, "")
    assert token and token.owner == accounts[0].owner


def test_nothing_that_is_said_holds_a_secret_or_what_is_stored_of_one(accounts):
    with LOST:
        made(5)
    before = [sealed(account) for account in ExchangeCredential.objects.all()]
    with BOTH:
        said, _ = run()
    for text in [*before, *(sealed(account) for account in accounts), "HUNTER", "KEY0", OLD_SALT, NEW_SALT, NEW_KEY]:
        assert text not in said


def test_a_secret_knows_whether_the_newest_key_opens_it(db):
    assert Secret("fresh").is_current
    with OLD:
        old = Secret(sealed=cipher().encrypt(b"hunter2").decode())
        assert old.is_current
    with BOTH:
        assert not old.is_current and old.renewed().is_current and old.renewed().reveal() == "hunter2"
    with NEW:
        assert not old.is_current
        with pytest.raises(SecretError):
            old.renewed()
        assert not Secret(sealed="no token").is_current
        assert not Secret(sealed=Fernet(Fernet.generate_key()).encrypt(b"x").decode()).is_current


def test_only_a_whole_ciphertext_can_be_looked_for(accounts):
    rows = ExchangeCredential.objects.filter(secrets__sealed=sealed(accounts[3]))
    assert [row.pk for row in rows] == [accounts[3].pk]
    assert not ExchangeCredential.objects.filter(secrets__sealed="KEY3").exists()


# --- Killed ----------------------------------------------------------------------------------------------------------

MANY = 3000
STORE = f"""
from exchanges.models import ExchangeCredential
from exchanges.venues import VENUES
from tests import factories
first = factories.credential("bybit", label="0", secrets={{"api_key": "KEY0", "api_secret": "HUNTER0"}})
moments = {{"history_from": first.history_from, "due_at": first.due_at}}
rows = [
    ExchangeCredential(owner=first.owner, venue="bybit", label=str(n), **moments) for n in range(1, {MANY})
]
for row in rows:
    values = {{"api_key": "KEY" + row.label, "api_secret": "HUNTER" + row.label}}
    row.set_secrets(VENUES["bybit"].credentials_type.parse(values))
ExchangeCredential.objects.bulk_create(rows)
"""
OPEN = """
from exchanges.models import ExchangeCredential
assert all(row.open_secrets().api_key == "KEY" + row.label for row in ExchangeCredential.objects.all())
"""


@pytest.mark.serviceless
def test_killed_in_the_middle_and_run_again_it_ends_with_all_under_the_new_key(tmp_path):
    path = tmp_path / "perpdash.sqlite3"

    def manage(*arguments: str, **keys: str) -> "subprocess.Popen[str]":
        environment = os.environ | {
            "DATABASE_URL": f"sqlite:///{path}", "REDIS_URL": "", "VAR_DIR": str(tmp_path), "SECRET_KEY": OLD_KEY,
            "SECRET_KEY_FALLBACKS": "",
        } | keys  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    finished(manage("migrate", "-v0", SALT_KEY=OLD_SALT))
    finished(manage("shell", "-v0", "-c", STORE, SALT_KEY=OLD_SALT))
    database = sqlite3.connect(path, timeout=30)
    before = dict(database.execute("SELECT id, secrets FROM exchanges_exchangecredential"))
    assert len(before) == MANY

    both = f"{NEW_SALT},{OLD_SALT}"
    killed = manage("rotate_secrets", SALT_KEY=both)
    while killed.poll() is None and renewed(database, before) < 50:
        time.sleep(0.005)
    killed.kill()
    killed.communicate()
    done = renewed(database, before)
    assert 0 < done < MANY, "it was to be killed in the middle"

    said = finished(manage("rotate_secrets", SALT_KEY=both))
    assert said.startswith(f"{MANY - done:,} renewed, {done:,} under the newest key before, 0 unreadable.")
    assert renewed(database, before) == MANY
    finished(manage("shell", "-v0", "-c", OPEN, SALT_KEY=NEW_SALT))
    database.close()


def finished(process: "subprocess.Popen[str]") -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def renewed(database: sqlite3.Connection, before: dict[int, str]) -> int:
    now = database.execute("SELECT id, secrets FROM exchanges_exchangecredential")
    return sum(before[pk] != text for pk, text in now)
