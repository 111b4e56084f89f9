"""`manage.py up`: the whole application in one process, started, doubled, ended and killed."""

import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[1]
Start = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, migrated_file: Path) -> Iterator[Start]:
    """Starts `up` on a folder and a port of its own; what still runs at the end is ended."""
    shutil.copy(migrated_file, tmp_path)
    environment = os.environ | {"DATABASE_URL": "", "REDIS_URL": "", "SANDBOX": "1", "VAR_DIR": str(tmp_path)}
    running = []

    def begin() -> "subprocess.Popen[str]":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--port", str(port)],
            cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def address(process: "subprocess.Popen[str]") -> str:
    """What it says once it serves."""
    assert process.stdout
    for line in process.stdout:
        if found := re.search(r"http://\S+", line):
            return found.group(0)
    pytest.fail(f"it ended: {process.stderr.read() if process.stderr else ''}")


def test_it_serves_says_where_and_ends_when_told(start: Start, tmp_path: Path) -> None:
    (tmp_path / "perpdash.sqlite3").unlink()  # as on the first day
    process = start()
    origin = address(process)
    assert httpx.get(f"{origin}health/").json() == {"status": "ok"}
    assert httpx.get(origin, follow_redirects=False).headers["location"] == "/welcome/"
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0


@pytest.mark.parametrize(
    ("sandbox", "is_terminal", "is_shown"), [("1", False, True), ("", True, True), ("", False, False)]
)
def test_what_signs_in_is_shown_to_who_sits_there_and_kept_in_no_log(
    tmp_path: Path, migrated_file: Path, sandbox: str, is_terminal: bool, is_shown: bool
) -> None:
    environment = os.environ | {
        "DATABASE_URL": "", "REDIS_URL": "", "SANDBOX": sandbox, "VAR_DIR": str(tmp_path),
        "COINGECKO_API_URL": "http://127.0.0.1:9",
    }  # fmt: skip

    def manage(*command: str, **options: Any) -> "subprocess.Popen[str]":
        words = [sys.executable, "manage.py", *command]
        return subprocess.Popen(words, cwd=ROOT, env=environment, text=True, **options)

    def tell(code: str) -> str:
        return manage("shell", "-v0", "-c", code, stdout=subprocess.PIPE).communicate(timeout=60)[0].strip()

    shutil.copy(migrated_file, tmp_path)
    tell("from accounts.models import User; User.objects.create(username='ada', is_superuser=True)")
    ours, theirs = pty.openpty() if is_terminal else os.pipe()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = manage("up", "--port", str(port), stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    try:
        said = ""
        while "ign_in_link" not in said and "/sign-in/" not in said:
            said += os.read(ours, 4096).decode()
        assert httpx.get(f"http://127.0.0.1:{port}/health/live").status_code == 200
    finally:
        process.terminate()
        assert process.wait(20) == 0
        os.close(ours)
    assert ("/sign-in/" in said) == is_shown
    assert ("manage.py sign_in_link" in said) != is_shown
    noted = tell("from accounts.models import AuditEvent; print(AuditEvent.objects.filter(what='link_made').count())")
    assert noted.endswith(str(int(is_shown)))


def test_a_second_one_on_the_same_folder_is_refused(start: Start) -> None:
    address(start())
    second = start()
    _, said = second.communicate(timeout=30)
    assert second.returncode == 1
    assert "perpdash runs already on" in said


def test_after_kill_9_it_starts_again(start: Start) -> None:
    process = start()
    address(process)
    process.kill()
    process.wait(10)
    assert httpx.get(f"{address(start())}health/").status_code == 200


def test_a_port_that_is_taken_is_told_and_is_no_success(start: Start, tmp_path: Path) -> None:
    taken = httpx.URL(address(start())).port
    process = subprocess.run(
        [sys.executable, "manage.py", "up", "--port", str(taken)],
        cwd=ROOT, env=os.environ | {"DATABASE_URL": "", "REDIS_URL": "", "VAR_DIR": str(tmp_path / "other")},
        text=True, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert process.returncode == 1
    assert f"Port {taken} on 127.0.0.1 can't be had" in process.stderr


def test_a_socket_of_a_signed_in_program_ends_when_it_sends_too_much(start: Start, tmp_path: Path) -> None:
    process = start()
    origin = address(process)
    environment = os.environ | {"DATABASE_URL": "", "REDIS_URL": "", "VAR_DIR": str(tmp_path)}

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env=environment,
            text=True,
            capture_output=True,
            check=True,
        )
        return done.stdout.strip()

    run("shell", "-v0", "-c", "from accounts.models import User; User.objects.create(username='ada')")
    token = run("create_token", "--owner", "ada")
    with connect(
        f"{origin.replace('http', 'ws')}ws/volume/", additional_headers={"Authorization": f"Bearer {token}"}
    ) as program:
        assert program.recv(timeout=10)
        program.send("x" * 2**21)
        with pytest.raises(ConnectionClosed):
            program.recv(timeout=10)
