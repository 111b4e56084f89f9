"""perpdash itself, as its users run it: all in one process, or workers and beat apart where there is a Redis."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.venues import Served

READY = 120.0  # seconds in which it must have come up
Process = subprocess.Popen[bytes]


@contextmanager
def running(venues: Sequence[Served], *, workers: int = 1) -> Iterator[list[Process]]:
    """Until the end of the block: `manage.py up`, or so many workers, and beat last, as the Procfile has them."""
    from django.conf import settings

    environment = os.environ | {"LOG_LEVEL": "WARNING"}
    environment |= {name: url for served in venues for name, url in served.environment.items()}

    def start(*command: str) -> Process:
        processes.append(subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.DEVNULL))
        return processes[-1]

    processes: list[Process] = []
    try:
        if settings.EMBEDDED:
            start("manage.py", "up", "--port", str(free_port()))
        else:
            celery = ("-m", "celery", "-A", "perpdash")
            for number in range(workers):
                start(
                    *celery, "worker", "--pool", "threads", "--concurrency", "16", "--loglevel", "warning",
                    "--hostname", f"bench{number}@%h",
                )  # fmt: skip
            await_workers(workers)
            start(*celery, "beat", "--loglevel", "warning")
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def await_workers(count: int) -> None:
    from perpdash.celery import app

    deadline = time.monotonic() + READY
    while len(app.control.ping(timeout=1) or ()) < count:
        if time.monotonic() > deadline:
            sys.exit("The workers did not come up.")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def peak_mb_of(pid: int) -> float:
    """The most memory a process ever had (VmHWM); 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def cpu_of(pid: int) -> float:
    """The processor time of a process so far, in seconds; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
