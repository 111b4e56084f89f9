"""manage.py doctor: finds what is wrong with an installation, says what to do, and shows no secret."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings
from django.utils import timezone

from exchanges.models import ExchangeCredential, SyncRun
from exchanges.sandbox import Sandbox, bybit
from tests import factories
from tests.conftest import NOW
from volume import holding, tasks
from volume.models import DailyVolume, VolumeCheck
from volume.refresh import refresh

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
WRONG_KEY = override_settings(SALT_KEY=["another salt, long enough to be one"])


@pytest.fixture(autouse=True)
def signs_of_life() -> None:
    cache.set_many({tasks.BEAT_SEEN: 1.0, tasks.WORKER_SEEN: 1.0})


@pytest.fixture
def account(sandbox: Sandbox) -> ExchangeCredential:
    """Read a moment ago, and sound."""
    made = factories.credential(
        "bybit", owner=factories.user("ada"), secrets=dict(bybit.MAIN), history_from=NOW - timedelta(days=5)
    )
    refresh(made, now=NOW)
    made.refresh_from_db()
    assert made.health_state == "works"
    return made


def change(account: ExchangeCredential, **values: Any) -> None:
    ExchangeCredential.objects.filter(pk=account.pk).update(**values)


def doctor() -> list[str]:
    """What it says, line by line; checks that the exit code fits."""
    out, code = StringIO(), 0
    try:
        call_command("doctor", stdout=out, stderr=out)
    except SystemExit as end:
        code = int(end.code or 0)
    found = out.getvalue().splitlines()
    if found == ["Nothing needs doing."]:
        assert code == 0
        return []
    assert code == 1
    assert [line.split(".")[0] for line in found] == [str(number) for number in range(1, len(found) + 1)]
    return [line.split(" ", 1)[1] for line in found]


def test_where_all_is_well_nothing_needs_doing(account):
    assert doctor() == []


def test_an_installation_without_accounts_needs_nothing(db):
    assert doctor() == []


def test_secrets_that_cannot_be_read_are_named_with_what_to_do(account):
    other = factories.credential(owner=factories.user("eve"), label="Other")
    with WRONG_KEY:
        one, two = doctor()
    assert one.startswith(f"Bybit · Main (#{account.pk}) of ada: The secrets of this account can't be read")
    assert two.startswith(f"Hyperliquid · Other (#{other.pk}) of eve: ")
    assert one.endswith("Start perpdash with the keys they were stored with, or put in the account's key again.")


def test_secrets_of_another_row_are_found(account):
    other = factories.credential("bybit", label="Other", secrets=dict(bybit.SUB))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE exchanges_exchangecredential SET secrets ="
            " (SELECT secrets FROM exchanges_exchangecredential WHERE id = %s) WHERE id = %s",
            [account.pk, other.pk],
        )
    (said,) = doctor()
    assert said == (
        f"Bybit · Other (#{other.pk}) of ada: The stored secrets belong to another account. "
        "Put in the account's key again."
    )


def test_secrets_under_an_older_key_want_a_rotation_and_after_it_nothing(account, settings):
    factories.credential(label="Other")
    settings.SALT_KEY = ["a new salt, long enough to be one", *settings.SALT_KEY]
    assert doctor() == [
        "The secrets of 2 accounts are under an older key. Run manage.py rotate_secrets, and keep the older key until "
        "then."
    ]
    call_command("rotate_secrets", stdout=StringIO())
    assert doctor() == []
    settings.SALT_KEY = settings.SALT_KEY[:1]
    assert doctor() == []


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"SALT_KEY": []}, "SALT_KEY is missing or shorter than 16 characters. Set it in the environment"),
        ({"SALT_KEY": ["fifteen-letters"]}, "SALT_KEY is missing or shorter than 16 characters."),
        ({"SALT_KEY": ["x" * 40]}, "SALT_KEY can be guessed. Make a new one"),
        ({"SECRET_KEY": "fifteen-letters"}, "SECRET_KEY is missing or shorter than 32 characters."),
        ({"SECRET_KEY": "ab" * 30}, "SECRET_KEY can be guessed."),
        ({"SECRET_KEY": "django-insecure-k2l3h5k2j3h5kj2h35kjh23k5jh2k3"}, "SECRET_KEY can be guessed."),
    ],
)
def test_a_key_that_is_missing_or_weak_is_named_and_not_shown(keys, says):
    with override_settings(**keys):
        said = doctor()
    assert said[0].startswith(says)
    for key in [*keys.get("SALT_KEY", []), keys.get("SECRET_KEY")]:
        assert not key or key not in " ".join(said)


def test_what_is_to_be_done_about_a_weak_key_loses_nothing_that_is_stored(account):
    with override_settings(SECRET_KEY="ab" * 30):
        (said,) = [line for line in doctor() if "guessed" in line]
    assert said.endswith(
        "move the old one to SECRET_KEY_FALLBACKS, restart every process, and run manage.py rotate_secrets."
    )


def test_a_weak_key_is_no_matter_where_somebody_develops(db):
    with override_settings(SALT_KEY=["x" * 40], DEBUG=True):
        assert doctor() == []


def test_without_a_secret_key_it_says_so_and_ends(db):
    with override_settings(SECRET_KEY=""):
        assert doctor() == [
            "SECRET_KEY is missing or shorter than 32 characters. Set it in the environment or in .env; "
            "see .env.example.",
            "Nothing else can be looked at before that.",
        ]


def test_migrations_that_are_not_applied_come_before_all_that_needs_them(account):
    MigrationRecorder.Migration.objects.filter(app="volume", name="0003_periods").delete()
    (said,) = doctor()
    assert said.startswith("The database is older than this perpdash: 1 migration is not applied. Make a backup,")


def test_accounts_that_need_their_owner_say_why_in_their_own_words(account, sandbox, clock):
    sandbox.bybit.revoke(bybit.MAIN_UID)
    clock.move(60)
    account.due_at = clock.now()
    refresh(account, now=clock.now())
    account.refresh_from_db()
    (said,) = doctor()
    assert said == f"Bybit · Main (#{account.pk}) of ada: {account.health_text}"
    assert "Make a new key and put it in" in said


def test_paused_and_retired_accounts_need_nobody(account):
    change(account, health_state="rejected", health_text="No.", due_at=NOW - timedelta(days=9))
    assert doctor()
    change(account, is_enabled=False)
    assert doctor() == []
    account.refresh_from_db()
    holding.retire(account, now=NOW)
    with WRONG_KEY:
        assert doctor() == []


@pytest.mark.parametrize(
    ("left", "says"),
    [(timedelta(days=13), "its key expires on 2026-12-04."), (timedelta(days=-1), "its key expired on 2026-11-20.")],
)
def test_a_key_that_ends_soon_wants_a_new_one_in_time(account, left, says):
    change(account, expires_at=NOW + left)
    (said,) = doctor()
    assert f"{says} ada makes a new one" in said
    change(account, expires_at=NOW + timedelta(days=15))
    assert doctor() == []


def test_a_clock_far_off_a_venues_is_told_as_the_venue_was_found_to_disagree(account, sandbox, clock):
    skewed = sandbox.bybit.now
    sandbox.bybit.now = lambda: skewed() + timedelta(minutes=10)
    clock.move(60)
    refresh(ExchangeCredential.objects.get(), now=clock.now())
    (said,) = doctor()
    assert "This machine's clock is 10 minutes behind of Bybit's. Set it right." in said


def test_a_venue_that_does_not_answer_is_nobodys_turn(account, sandbox, clock):
    sandbox.bybit.fail(status=502)
    clock.move(60)
    refresh(ExchangeCredential.objects.get(), now=clock.now())
    assert ExchangeCredential.objects.get().health_state == "unavailable"
    assert doctor() == []


# --- Whether anybody reads -------------------------------------------------------------------------------------------


def test_where_nothing_that_is_due_is_read_worker_and_beat_are_missed(account, clock):
    clock.move(4 * 60)
    assert doctor() == []
    clock.move(10 * 60)
    (said,) = doctor()
    assert said.startswith("Nobody reads: 1 account is due since 2026-11-21 12:00 UTC.")
    assert "The last fills were asked for at 2026-11-21 12:00 UTC." in said
    assert said.endswith("nothing is lost meanwhile.")


def test_how_it_is_started_depends_on_how_it_runs(account, clock):
    clock.move(20 * 60)
    with override_settings(EMBEDDED=True):
        assert "Start perpdash (make run);" in doctor()[0]
    with override_settings(EMBEDDED=False):
        assert "celery -A perpdash worker, celery -A perpdash beat" in doctor()[0]


def test_an_account_in_line_while_others_are_read_is_no_sign_of_death(account, clock):
    clock.move(20 * 60)
    other = factories.credential(label="Other", history_from=NOW - timedelta(hours=1))
    run = refresh(other, now=clock.now())
    assert doctor() == []
    SyncRun.objects.filter(pk=run.pk).update(trigger=SyncRun.Trigger.COMMAND)  # read by hand: that is no worker
    assert doctor()[0].startswith("Nobody reads: 1 account is due")


def test_an_account_that_is_being_read_right_now_is_alive(account, clock):
    clock.move(20 * 60)
    change(account, leased_until=clock.now() + MINUTE)
    assert doctor() == []


def test_of_a_stack_each_process_that_gives_no_sign_of_life_is_named(account, clock, settings):
    cache.delete_many([tasks.BEAT_SEEN, tasks.WORKER_SEEN])
    if not settings.REDIS_URL:
        assert doctor() == [], "one process can't hear another"
        settings.REDIS_URL = "redis://somewhere"
    clock.move(20 * 60)
    beat, worker = doctor()  # and not once more what follows from it
    assert beat.startswith("No sign of life of the beat for a minute: accounts are not read. Start celery -A perpdash")
    assert worker.startswith("No sign of life of the worker for a minute")
    cache.set(tasks.BEAT_SEEN, 1.0)
    (said,) = doctor()
    assert said == worker


def test_a_redis_that_is_gone_is_told_instead_of_what_it_would_tell(account, settings):
    away = "redis://127.0.0.1:1/0"
    settings.REDIS_URL = away
    settings.CACHES = {"default": {"BACKEND": "perpdash.caching.SteadyCache", "LOCATION": away}}
    (said,) = doctor()
    assert said.startswith("perpdash's Redis does not answer.")


# --- The numbers -----------------------------------------------------------------------------------------------------


def test_days_that_wait_to_be_recomputed_are_counted(account):
    DailyVolume.objects.filter(credential=account).update(is_at_market=None)
    count = DailyVolume.objects.count()
    assert count > 1
    (said,) = doctor()
    assert said.startswith(f"{count} days and markets wait to be recomputed.")
    call_command("rebuild_volume", stdout=StringIO(), stderr=StringIO())
    assert doctor() == []


def test_only_the_last_proof_counts(account):
    VolumeCheck.objects.create(credential=account, checked_at=NOW - timedelta(days=1), found=3, findings=["x"])
    (said,) = doctor()
    assert said.startswith(
        f"Bybit · Main (#{account.pk}) of ada: at its last proof, 2026-11-20 12:00 UTC, 3 things do not agree."
    )
    VolumeCheck.objects.create(credential=account, checked_at=NOW)
    assert doctor() == []


def test_accounts_of_a_venue_that_is_gone_do_not_stop_it(account):
    change(account, venue="mtgox", health_state="rejected")
    assert doctor() == []
    with WRONG_KEY:
        (said,) = doctor()
    assert said.startswith(f"mtgox · Main (#{account.pk}) of ada: The secrets of this account can't be read")


def test_no_secret_and_nothing_stored_of_one_is_said(account):
    change(account, health_state="rejected", health_text="No.", due_at=timezone.now() - timedelta(days=1))
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM exchanges_exchangecredential")
        ((ciphertext,),) = cursor.fetchall()
    with WRONG_KEY:
        said = " ".join(doctor())
    assert not any(text in said for text in (*bybit.MAIN.values(), ciphertext, str(account.uuid)))
