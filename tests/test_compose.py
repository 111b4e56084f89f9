"""What the stack is made of, as far as it can be read without Docker, and the command that makes what it needs."""

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from perpdash.make_env import FOLDER, SECRETS, make

ROOT = settings.BASE_DIR
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ["web", "worker", "beat", "migrate"]
each = pytest.mark.parametrize("name", SERVICES)


@each
def test_a_service_starts_again_and_says_how_it_is(name: str) -> None:
    service = SERVICES[name]
    if name == "migrate":  # it ends; the others wait for that
        assert service["restart"].startswith("on-failure")
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]


@each
def test_a_service_may_do_as_little_as_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in ("0", "root")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name in ("tls", "plain") else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")


@each
def test_a_service_takes_no_more_than_its_share(name: str) -> None:
    service = SERVICES[name]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}


@each
def test_any_number_of_a_service_may_run(name: str) -> None:
    assert "container_name" not in SERVICES[name]
    assert bool(SERVICES[name].get("ports")) == (name in ("tls", "plain"))


@each
def test_no_secret_is_in_the_environment(name: str) -> None:
    service = SERVICES[name]
    for setting, value in (service.get("environment") or {}).items():
        assert not re.search("PASSWORD|SECRET|KEY|TOKEN", setting) or value.startswith("/run/secrets/")
    files = {value.removeprefix("/run/secrets/") for value in (service.get("environment") or {}).values()}
    mounted = set(service.get("secrets", []))
    if name != "redis":  # whose command reads it
        assert mounted == files & set(COMPOSE["secrets"])


def test_every_image_is_pinned() -> None:
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    images += re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(images) >= 5
    for image in images:
        assert re.search(r":\d+\.\d+", image), image


def test_only_the_proxy_is_reached_from_outside_and_the_data_reaches_nothing() -> None:
    assert COMPOSE["networks"]["back"]["internal"] is True
    for name in ("postgres", "redis"):
        assert SERVICES[name]["networks"] == ["back"]
    assert SERVICES["plain"]["ports"] == ["127.0.0.1:8000:8000"]


def test_every_process_waits_for_the_migrations_and_only_one_service_makes_them() -> None:
    for name in ("web", "worker", "beat"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert "migrate" not in str(SERVICES[name].get("command"))


def test_every_secret_is_a_setting_and_is_made() -> None:
    offered = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    environment = SERVICES["web"]["environment"]
    given = {name.removesuffix("_FILE"): value for name, value in environment.items() if name.endswith("_FILE")}
    assert set(given) <= offered
    assert given == {name.upper(): f"/run/secrets/{name}" for name in SECRETS}
    assert COMPOSE["secrets"] == {name: {"file": f"./{FOLDER / name}"} for name in SECRETS}


def test_redis_takes_its_password_from_the_file_and_shows_it_to_no_process_list(tmp_path: Path) -> None:
    if not shutil.which("redis-server"):
        pytest.skip("needs redis-server")
    (tmp_path / "redis_password").write_text("of-this-test-only")

    def here(text: str) -> str:
        return text.replace("$$", "$").replace("/run/secrets", str(tmp_path))

    listens = f"redis-server - --port 0 --unixsocket {tmp_path / 'socket'} --dir {tmp_path}"
    server = subprocess.Popen(
        ["sh", "-c", here(SERVICES["redis"]["command"][2]).replace("redis-server -", listens)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout
        assert any("Ready to accept" in line or "ready to accept" in line for line in server.stdout)
        healthy = here(SERVICES["redis"]["healthcheck"]["test"][1])
        check = healthy.replace("redis-cli", f"redis-cli -s {tmp_path / 'socket'}")
        assert subprocess.run(["sh", "-c", check], check=False).returncode == 0
        unnamed = check.split(" ", 1)[1].split(" ", 1)[1]  # without the password before it
        assert subprocess.run(["sh", "-c", unnamed], check=False, capture_output=True).returncode != 0
        seen = subprocess.run(["ps", "-o", "args", "-p", str(server.pid)], capture_output=True, text=True, check=False)
        assert "of-this-test-only" not in seen.stdout
    finally:
        server.terminate()
        server.wait(10)
        if server.stdout:
            server.stdout.close()


def test_the_image_holds_only_what_runs() -> None:
    ignore, *allowed = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert ignore == "*"
    kept = {line.removeprefix("!") for line in allowed if line.startswith("!")}
    assert not any(fnmatch(name, pattern) for name in (".env", ".git", "var", ".venv", "tests") for pattern in kept)
    assert all((ROOT / name).exists() for name in kept)
    assert {"manage.py", "perpdash", "accounts", "exchanges", "volume", "templates", "static", "pyproject.toml"} <= kept


def test_the_image_runs_as_nobody_and_has_no_tools_in_it() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = re.split(r"^FROM ", dockerfile, flags=re.MULTILINE)[1:]
    for stage in stages[1:]:
        assert re.search(r"^USER 10001:10001$", stage, re.MULTILINE)
        assert not re.search("apt-get|gcc|pip install", stage)


@pytest.mark.parametrize(
    ("site", "trusted"), [("perpdash.example.org", "127.0.0.0/8"), ("http://:8000", "private_ranges")]
)
def test_caddy_understands_its_file(site: str, trusted: str, tmp_path: Path) -> None:
    if not shutil.which("caddy"):
        pytest.skip("needs caddy")
    done = subprocess.run(
        ["caddy", "adapt", "--validate", "--config", ROOT / "Caddyfile", "--adapter", "caddyfile"],
        env=os.environ | {
            "SITE": site, "TRUSTED_PROXIES": trusted, "TLS_EMAIL": "ada@example.org", "XDG_DATA_HOME": str(tmp_path),
            "XDG_CONFIG_HOME": str(tmp_path),
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["apps"]["http"]


def texts(here: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (here / FOLDER).iterdir()}


def test_make_env_asks_for_three_values_and_makes_the_rest(tmp_path: Path) -> None:
    said = list(make(tmp_path))
    assert re.findall(r"^(\w+)=", (tmp_path / ".env").read_text(), re.MULTILINE) == [
        "PUBLIC_HOST", "TLS_EMAIL", "COMPOSE_PROFILES",
    ]  # fmt: skip
    assert said[-1].startswith("Now fill in PUBLIC_HOST and TLS_EMAIL in .env")
    made = texts(tmp_path)
    assert set(made) == set(SECRETS)
    assert not any(text and text in " ".join(said) for text in made.values())


def test_only_their_owner_reaches_what_make_env_made(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        list(make(tmp_path))
    finally:
        os.umask(before)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    # The containers' users read the files one by one; on this machine the folder keeps everybody else out.
    assert (tmp_path / FOLDER).stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / FOLDER).iterdir()} == {0o644}


def test_make_env_again_changes_nothing_and_adds_what_is_missing(tmp_path: Path) -> None:
    list(make(tmp_path))
    (tmp_path / ".env").write_text("PUBLIC_HOST=a.example.org\nTLS_EMAIL=ada@example.org\nCOMPOSE_PROFILES=plain\n")
    before = texts(tmp_path)
    (tmp_path / FOLDER / "metrics_token").unlink()
    assert list(make(tmp_path)) == [f"{FOLDER}/metrics_token is made."]
    assert {name: text for name, text in texts(tmp_path).items() if name != "metrics_token"} == {
        name: text for name, text in before.items() if name != "metrics_token"
    }
    assert "a.example.org" in (tmp_path / ".env").read_text()


def test_keys_that_an_installation_had_in_its_env_stay_its_keys(tmp_path: Path) -> None:
    env = "SECRET_KEY='the old key'\nSALT_KEY=new salt,old salt # of last year\nPOSTGRES_PASSWORD=pw\n"
    (tmp_path / ".env").write_text(env)
    said = list(make(tmp_path))
    made = texts(tmp_path)
    assert (made["secret_key"], made["salt_key"], made["database_password"]) == (
        "the old key",
        "new salt,old salt",
        "pw",
    )
    moved = "holds what POSTGRES_PASSWORD in .env says: take that line out there, containers would show it."
    assert f"var/secrets/database_password {moved}" in said


def test_make_env_needs_nothing_but_python(tmp_path: Path) -> None:
    (tmp_path / "perpdash").mkdir()
    shutil.copy(ROOT / "perpdash" / "make_env.py", tmp_path / "perpdash")
    subprocess.run([sys.executable, "-S", "perpdash/make_env.py"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / ".env").exists()


def test_run_stack_says_what_it_needs() -> None:
    done = subprocess.run(
        ["make", "run-stack", "-o", ".venv/installed"], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"DATABASE_URL": "", "REDIS_URL": ""},
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.startswith("Set DATABASE_URL (postgres://...) and REDIS_URL (redis://...) in the environment")
