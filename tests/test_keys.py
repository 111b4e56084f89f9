"""The keys of an installation: made once, kept to its owner, and never missing."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from exchanges.checks import can_be_guessed
from perpdash.keys import kept_keys

MAKE = "import json, sys; from pathlib import Path; from perpdash.keys import kept_keys; input(); "
PRINT = "print(json.dumps(kept_keys(Path(sys.argv[1]))))"


def test_keys_are_made_once(tmp_path):
    keys = kept_keys(tmp_path)
    assert sorted(keys) == ["SALT_KEY", "SECRET_KEY"]
    assert kept_keys(tmp_path) == keys
    assert json.loads((tmp_path / "keys.json").read_text()) == keys


def test_keys_are_long_and_of_this_installation_alone(tmp_path):
    here, there = kept_keys(tmp_path / "here"), kept_keys(tmp_path / "there")
    assert len({*here.values(), *there.values()}) == 4
    assert all(len(key) >= 43 for key in here.values())


def test_the_folder_is_made_where_there_is_none(tmp_path):
    assert kept_keys(tmp_path / "deep" / "var")


def test_only_their_owner_may_read_them_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        kept_keys(tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600


def test_nothing_else_is_left_in_the_folder(tmp_path):
    kept_keys(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


def test_two_processes_that_start_at_once_agree(tmp_path):
    python = [sys.executable, "-c", MAKE + PRINT, str(tmp_path)]
    started = [
        subprocess.Popen(python, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=settings.BASE_DIR)
        for _ in range(2)
    ]
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [json.loads(process.communicate()[0]) for process in started]
    assert said == [kept_keys(tmp_path)] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


def test_a_start_that_was_killed_does_not_keep_the_next_from_making_keys(tmp_path):
    (tmp_path / f"keys.{os.getpid()}.tmp").write_text("{")
    keys = kept_keys(tmp_path)
    assert kept_keys(tmp_path) == keys


def test_keys_that_are_there_are_never_written_over(tmp_path):
    keys = tmp_path / "keys.json"
    keys.write_text("not JSON")
    with pytest.raises(ValueError):
        kept_keys(tmp_path)
    assert keys.read_text() == "not JSON"


def faults() -> list[str]:
    return [fault.id for fault in run_checks() if fault.id.startswith("exchanges.")]


def test_the_settings_of_this_checkout_pass():
    assert faults() == []


@pytest.mark.parametrize(
    "salts", [[], [""], ["short"], ["", "long enough to be a salt"], ["long enough to be one", "no"]]
)
def test_a_salt_that_is_none_is_an_error(salts):
    with override_settings(SALT_KEY=salts):
        assert faults() == ["exchanges.E001"]


@pytest.mark.parametrize("key", ["short", "x" * 31])
def test_a_secret_key_that_is_none_is_an_error(key):
    with override_settings(SECRET_KEY=key):
        assert faults() == ["exchanges.E002"]


@pytest.mark.parametrize(
    "key",
    [
        "django-insecure-k2l3h5k2j3h5kj2h35kjh23k5jh2k3",
        "changeme-changeme-changeme-changeme",
        "please-CHANGE-ME-before-you-go-live-with-this",
        "x" * 40,
        "ab" * 30,
        "passw0rd" * 5,
        "0123456789" * 5,
        "qwertyuiop" * 4,
        "abcdefghijklmnopqrstuvwxyz0123456789",
    ],
)
def test_a_key_that_can_be_guessed_is_an_error_and_is_not_shown(key):
    with override_settings(SECRET_KEY=key):
        (fault,) = [fault for fault in run_checks() if fault.id.startswith("exchanges.")]
    assert fault.id == "exchanges.E004"
    assert key not in f"{fault.msg} {fault.hint}"
    with override_settings(SALT_KEY=[key]):
        assert faults() == ["exchanges.E003"]


def test_keys_made_at_random_are_never_taken_for_guessable():
    for _ in range(2000):
        assert not can_be_guessed(secrets.token_urlsafe(50))
        assert not can_be_guessed(secrets.token_hex(16))
        assert not can_be_guessed(secrets.token_urlsafe(12))


def test_an_older_key_may_be_weak_or_nobody_could_get_away_from_it():
    newest = settings.SALT_KEY[0]
    with override_settings(SALT_KEY=[newest, "x" * 40], SECRET_KEY_FALLBACKS=["x" * 40]):
        assert faults() == []


def test_one_key_for_both_is_an_error():
    with override_settings(SALT_KEY=[settings.SECRET_KEY]):
        assert faults() == ["exchanges.E005"]


def test_weak_keys_are_no_matter_where_somebody_develops():
    with override_settings(SECRET_KEY="x" * 40, SALT_KEY=["x" * 40], DEBUG=True):
        assert faults() == []


def test_commands_refuse_to_run_without_keys():
    with override_settings(SALT_KEY=[]), pytest.raises(SystemCheckError, match="SALT_KEY is missing"):
        call_command("check")


def start(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Loads the settings in a process of its own."""
    code = "from django.conf import settings; print(settings.SALT_KEY, bool(settings.SECRET_KEY))"
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"DJANGO_SETTINGS_MODULE": "perpdash.settings", "VAR_DIR": str(folder)} | environment,
        cwd=settings.BASE_DIR, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_environment_wins_over_the_kept_keys(tmp_path):
    said = start(tmp_path, SALT_KEY="the newest salt of all,an older salt than that", SECRET_KEY="x" * 50)
    assert said.stdout == "['the newest salt of all', 'an older salt than that'] True\n", said.stderr


def test_no_keys_are_made_where_a_stack_must_be_given_them(tmp_path):
    start(tmp_path, REDIS_URL="redis://127.0.0.1:1/0")
    assert not (tmp_path / "keys.json").exists()
