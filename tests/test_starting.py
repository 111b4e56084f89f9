"""No process of perpdash starts with settings that are not safe, and each says so in words."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.test import override_settings

from perpdash.environment import Environment

NOWHERE = "redis://127.0.0.1:1/0"
SAFE = {
    "SECRET_KEY": "for-this-run-only-and-long-enough-to-pass-the-check", "SALT_KEY": "for-this-run-only-salt",
    "REDIS_URL": NOWHERE, "DATABASE_URL": "", "DEBUG": "0",
}  # fmt: skip
PROGRAMS = {
    "daphne": ["daphne", "-p", "0", "perpdash.asgi:application"],
    "worker": ["celery", "-A", "perpdash", "worker", "--pool", "threads"],
    "beat": ["celery", "-A", "perpdash", "beat"],
    "manage": ["python", "manage.py", "migrate"],
}


def start(program: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    command, *arguments = PROGRAMS[program]
    return subprocess.run(
        [str(Path(sys.executable).with_name(command)), *arguments], cwd=settings.BASE_DIR, text=True,
        env=os.environ | SAFE | {"VAR_DIR": str(folder)} | environment, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


NONE = ({"SECRET_KEY": "", "SALT_KEY": ""}, "SECRET_KEY is missing or shorter than 32 characters.")
GUESSED = ({"SECRET_KEY": "changeme-changeme-changeme-changeme"}, "SECRET_KEY can be guessed.")
ANYWHERE = ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS is *")


@pytest.mark.parametrize(
    ("program", "environment", "says"),
    [*((program, *GUESSED) for program in PROGRAMS), ("manage", *NONE), ("daphne", *ANYWHERE)],
)
def test_no_process_starts_with_what_is_not_safe(
    program: str, environment: dict[str, str], says: str, tmp_path: Path
) -> None:
    done = start(program, tmp_path, **environment)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "changeme" not in done.stderr + done.stdout


def problems(**changed: Any) -> list[str]:
    with override_settings(**changed):
        return [message.id for message in run_checks(tags=["start"])]


def test_debug_is_warned_of_where_others_may_come() -> None:
    assert problems(DEBUG=True, REDIS_URL="", ALLOWED_HOSTS=["127.0.0.1", "localhost"]) == []
    assert problems(DEBUG=True, REDIS_URL="", ALLOWED_HOSTS=["perpdash.example.org"]) == ["perpdash.W001"]
    assert problems(DEBUG=True, REDIS_URL=NOWHERE, ALLOWED_HOSTS=["127.0.0.1"]) == ["perpdash.W001"]


def test_a_host_must_be_named() -> None:
    assert problems(ALLOWED_HOSTS=["perpdash.example.org"]) == []
    assert problems(ALLOWED_HOSTS=["perpdash.example.org", "*"]) == ["perpdash.E001"]


def read(folder: Path, code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", f"from django.conf import settings; print(({code}))"], cwd=settings.BASE_DIR, text=True,
        env=os.environ | SAFE | {"VAR_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "perpdash.settings"} | environment,
        capture_output=True, check=False,
    )  # fmt: skip


def test_a_secret_may_come_as_a_file_and_its_last_newline_is_no_part_of_it(tmp_path: Path) -> None:
    secret = tmp_path / "salt_key"
    secret.write_text("a new salt of all salts,an older salt than that\n")
    said = read(tmp_path, "settings.SALT_KEY", SALT_KEY_FILE=str(secret), SALT_KEY="what the file says wins")
    assert said.stdout == "['a new salt of all salts', 'an older salt than that']\n", said.stderr


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    said = read(
        tmp_path, "settings.SALT_KEY, settings.SECRET_KEY_FALLBACKS",
        SALT_KEY_FILE=str(empty), SECRET_KEY_FALLBACKS_FILE=str(empty),
    )  # fmt: skip
    assert said.stdout == "(['for-this-run-only-salt'], [])\n", said.stderr


def test_an_empty_file_leaves_the_setting_to_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / ".env").write_text("A_KEY=of the file\n")
    monkeypatch.setenv("A_KEY_FILE", str(tmp_path / "empty"))
    monkeypatch.delenv("A_KEY", raising=False)
    env = Environment()
    env.read_env(tmp_path / ".env")
    assert env.str("A_KEY", default="") == "of the file"
    monkeypatch.delenv("A_KEY")


@pytest.mark.parametrize("password", ["$ecret", r"a\$b$", "pa$$word"])
def test_a_password_may_have_dollars_in_it(password: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(password)
    for environment in ({"DATABASE_PASSWORD": password}, {"DATABASE_PASSWORD_FILE": str(tmp_path / "password")}):
        url = "postgres://perpdash@127.0.0.1/perpdash"
        said = read(tmp_path, "settings.DATABASES['default']['PASSWORD']", DATABASE_URL=url, **environment)
        assert said.stdout == f"{password}\n", said.stderr


def test_redis_may_know_us_by_a_name(tmp_path: Path) -> None:
    said = read(tmp_path, "settings.REDIS_URL", REDIS_URL="redis://app@127.0.0.1:1/0", REDIS_PASSWORD="p@ss")
    assert said.stdout == "redis://app:p%40ss@127.0.0.1:1/0\n", said.stderr


@pytest.mark.parametrize("program", ["daphne", "beat", "manage"])
def test_a_file_that_is_not_there_is_named_by_its_setting(program: str, tmp_path: Path) -> None:
    done = start(program, tmp_path, SECRET_KEY_FILE=str(tmp_path / "gone"))
    assert done.returncode == 1
    assert "perpdash does not start: the file that SECRET_KEY_FILE names can't be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_passwords_come_apart_from_the_addresses(tmp_path: Path) -> None:
    said = read(
        tmp_path, "settings.DATABASES['default']['PASSWORD'], settings.REDIS_URL, settings.CELERY_BROKER_URL",
        DATABASE_URL="postgres://perpdash@postgres:5432/perpdash", DATABASE_PASSWORD="p@ss/word",
        REDIS_URL="redis://redis:6379/0", REDIS_PASSWORD="p@ss/word",
    )  # fmt: skip
    redis_url = "redis://:p%40ss%2Fword@redis:6379/0"
    assert said.stdout == f"('p@ss/word', '{redis_url}', '{redis_url}')\n", said.stderr


def test_a_report_of_a_fault_shows_no_password_of_ours(tmp_path: Path) -> None:
    said = read(
        tmp_path, "__import__('perpdash.reports').reports.ReportFilter().get_safe_settings()",
        DATABASE_URL="postgres://perpdash:MARKED@postgres:5432/perpdash", REDIS_URL="redis://redis:6379/0",
        REDIS_PASSWORD="MARKED", SECRET_KEY="MARKED-and-long-enough-to-pass-the-check", SALT_KEY="MARKED-and-long",
    )  # fmt: skip
    assert "'ROOT_URLCONF'" in said.stdout, said.stderr
    assert "MARKED" not in said.stdout


def test_behind_tls_django_finds_nothing_to_mend(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "INFO"], cwd=settings.BASE_DIR, text=True,
        env=os.environ | SAFE | {"HTTPS": "1", "ALLOWED_HOSTS": "perpdash.example.org", "VAR_DIR": str(tmp_path)},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "System check identified no issues (0 silenced).\n"
