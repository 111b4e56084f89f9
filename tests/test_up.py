"""`manage.py up`: the whole application in one process, started, doubled, ended and killed."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[1]
Start = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `up` on a folder and a port of its own; what still runs at the end is ended."""
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


def test_it_serves_says_where_and_ends_when_told(start: Start) -> None:
    process = start()
    origin = address(process)
    assert httpx.get(f"{origin}health/").json() == {"status": "ok"}
    assert httpx.get(origin, follow_redirects=False).headers["location"] == "/welcome/"
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0


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
