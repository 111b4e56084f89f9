"""From the commit of a fill to the message in the client, what an open socket weighs, and what is spent on nothing.

`python -m bench.live small|full [idle] [sockets]`. Without a REDIS_URL all of perpdash runs in one process, else web,
worker and beat apart. Fills appear at a sandbox venue, a Celery worker reads them, and its process tells when it had
committed them. `python -m bench.live serve ...` is that process.
"""

import asyncio
import json
import os
import queue
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TextIO, cast

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from bench.report import Measurement, at_most, percentile, say, tell
from bench.setting_up import set_up

SECTION = "live"
ROOT = Path(__file__).resolve().parents[1]
IN_ONE_PROCESS = not os.environ.get("REDIS_URL")
ON = "one process, SQLite" if IN_ONE_PROCESS else "Redis, PostgreSQL"
MOST_SOCKETS = 30  # of one person in one process, as volume.consumers says
PATIENCE = 90.0  # seconds; then it is not slow but broken


@dataclass(frozen=True, slots=True)
class Size:
    owners: int  # with a socket each
    fills: int  # of the busy one
    samples: int
    idle_accounts: int
    idle_seconds: float


SIZES = {"small": Size(100, 20_000, 20, 20, 40), "full": Size(1000, 1_000_000, 200, 100, 300)}


@dataclass(slots=True)
class Owner:
    """A person with a live account, and what their open sockets were told."""

    pk: int
    credential: int
    address: str
    cookie: str
    fills: int = 0  # of all time, as shown
    rows: list[dict[str, Any]] = field(default_factory=list)
    # When, by which socket, how many fills, and whether the account is being read.
    told: list[tuple[float, int, int, bool]] = field(default_factory=list)

    def arrivals(self, fills: int) -> list[float]:
        """When each socket first showed so many."""
        first: dict[int, float] = {}
        for at, line, shown, _ in self.told:
            if shown == fills:
                first.setdefault(line, at)
        return list(first.values())

    def is_done(self, fills: int, sockets: int) -> bool:
        """Whether that many sockets were told of the end of the reading that brought so many."""
        return len({line for _, line, shown, is_read in self.told if shown == fills and not is_read}) >= sockets


def main() -> None:
    size, parts = SIZES[sys.argv[1]], sys.argv[2:] or ["idle", "sockets"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * size.owners + 500)), hard))
    set_up()
    from exchanges.sandbox.hyperliquid import Hyperliquid
    from exchanges.sandbox.server import serve

    venue = Hyperliquid(weight_per_minute=10**9)  # what the venue allows is no part of this
    owners = people(size)
    for owner in owners:
        venue.add(owner.address)
    with serve(venue) as server, running(server.url) as perpdash:
        if "idle" in parts:
            measure_idle(perpdash, venue, size)
        if "sockets" in parts:
            asyncio.run(measure_sockets(perpdash, venue, owners, size))


# --- The people ------------------------------------------------------------------------------------------------------


def people(size: Size) -> list[Owner]:
    """The busy one first. Each has an account more, at the venue that trades live; nothing of theirs is due."""
    from django.utils import timezone

    from bench import history

    now = timezone.now()
    wanted = history.Size(fills=size.fills, markets=100, small_owners=size.owners, small_fills=200)
    busy = history.build(wanted, now=now)
    others = list(type(busy).objects.exclude(pk=busy.pk).order_by("pk"))
    return [_owner(person, number) for number, person in enumerate([busy, *others])]


def _owner(person: Any, number: int) -> Owner:
    address = f"0x{number:040x}"
    account = live_account(person, "Live", address, due_in=timedelta(days=1))
    return Owner(person.pk, account.pk, address, session_of(person))


def live_account(person: Any, label: str, address: str, *, due_in: timedelta) -> Any:
    """As one that was read to its end just now."""
    from django.utils import timezone

    from exchanges.models import Coverage, ExchangeCredential
    from exchanges.venues import VENUES

    now = timezone.now()
    since = now - timedelta(days=1)
    account = ExchangeCredential(
        owner=person, venue="hyperliquid", label=label, health_state="works", history_from=since, due_at=now + due_in,
        fresh_at=now, verified_at=now,
    )  # fmt: skip
    account.set_secrets(VENUES["hyperliquid"].credentials_type.parse({"address": address}))
    account.save()
    Coverage.objects.bulk_create(
        Coverage(credential=account, stream=stream.name, from_at=since, until_at=now, state=Coverage.State.COVERED)
        for stream in account.streams
    )
    return account


def session_of(person: Any) -> str:
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    session = SessionStore()
    session[SESSION_KEY] = str(person.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = person.get_session_auth_hash()
    session.save()
    return f"sessionid={session.session_key}"


def trade(venue: Any, owner: Owner) -> None:
    """The owner's account fills one more order."""
    owner.fills += 1
    owner.rows.append(
        {
            "coin": "BTC", "px": "50000", "sz": "0.01", "side": "B", "time": int(time.time() * 1000) - 100,
            "startPosition": "0.0", "dir": "Open Long", "closedPnl": "0.0", "hash": "0x" + "0" * 64, "oid": 1,
            "crossed": True, "fee": "0.2", "feeToken": "USDC", "tid": len(owner.rows) + 1, "twapId": None,
        }
    )  # fmt: skip
    venue.add(owner.address, rows=owner.rows)


# --- perpdash, running -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Perpdash:
    """Its processes, and the line to the one with the worker in it."""

    port: int
    processes: list[subprocess.Popen[str]]
    commits: "queue.Queue[tuple[int, float]]" = field(default_factory=queue.Queue)  # (owner, when)
    counts: "queue.Queue[dict[str, int]]" = field(default_factory=queue.Queue)

    @property
    def web(self) -> subprocess.Popen[str]:
        return self.processes[-1]

    def order(self, what: str, *numbers: int) -> None:
        """`read` accounts by a task each, `store` a fill of each at once, `count` what was done so far."""
        line = cast(TextIO, self.processes[0].stdin)
        line.write(" ".join([what, *map(str, numbers)]) + "\n")
        line.flush()

    def listen(self) -> None:
        for line in self.processes[0].stdout or ():
            if line.startswith("{"):
                heard = json.loads(line)
                if "owner" in heard:
                    self.commits.put((heard["owner"], heard["at"]))
                else:
                    self.counts.put(heard)

    def cpu_seconds(self) -> float:
        return sum(_cpu_seconds(process.pid) for process in self.processes)

    def memory_kb(self) -> int:
        """Of the process that holds the sockets."""
        status = Path(f"/proc/{self.web.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def _cpu_seconds(pid: int) -> float:
    """Of a process and the children it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(venue_url: str) -> Iterator[Perpdash]:
    """perpdash as it is deployed. Our budget with the venue is lifted too: fills come as often as we like."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "perpdash.settings", "HYPERLIQUID_API_URL": venue_url, "VENUE_BUDGET_SHARE": "1000",
        "LOG_LEVEL": "WARNING",
    }  # fmt: skip
    me = [sys.executable, "-m", "bench.live", "serve"]
    programs = [[*me, "up", str(port)]]
    if not IN_ONE_PROCESS:
        bin_dir = Path(sys.executable).parent
        endpoint = f"tcp:port={port}:interface=127.0.0.1:backlog=1024"
        programs = [
            [*me, "worker"],
            [str(bin_dir / "celery"), "-A", "perpdash", "beat", "-s", f"{os.environ['VAR_DIR']}/beat"],
            [str(bin_dir / "daphne"), "-e", endpoint, "perpdash.asgi:application"],
        ]
    processes = [
        subprocess.Popen(
            program, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if place == 0 else subprocess.DEVNULL,
        )
        for place, program in enumerate(programs)
    ]  # fmt: skip
    perpdash = Perpdash(port, processes)
    threading.Thread(target=perpdash.listen, daemon=True).start()
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/health/"))
        yield perpdash
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2).is_success
    return False


def until(happens: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not happens():
        if time.monotonic() > end:
            sys.exit("bench.live: it did not happen in time.")
        time.sleep(0.1)


# --- The process with the worker in it -------------------------------------------------------------------------------


def serve(role: str, *arguments: str) -> None:
    """`up` or a worker, as they are, with an ear at each commit and at each query."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import transaction
    from django.db.backends.signals import connection_created
    from django.db.models.signals import post_save

    from exchanges.models import SyncRun

    done = {"queries": 0, "runs": 0}

    def counted(execute: Any, *of: Any) -> Any:
        done["queries"] += 1
        return execute(*of)

    def watch(connection: Any, **_: object) -> None:
        if counted not in connection.execute_wrappers:  # the same one connects again and again
            connection.execute_wrappers.append(counted)

    def note_run(instance: Any, created: bool, **_: object) -> None:
        """A page is about to be committed where its run is saved; what is to be pushed comes after this."""
        done["runs"] += created
        if not created and instance.new:
            transaction.on_commit(partial(_tell_commit, instance.credential.owner_id))

    connection_created.connect(watch, weak=False)
    post_save.connect(note_run, sender=SyncRun, weak=False)
    threading.Thread(target=_obey, args=(done,), daemon=True).start()
    if role == "up":
        call_command("up", port=int(arguments[0]))
    else:
        from perpdash.celery import app

        app.worker_main(["worker", "--pool", "threads", "--concurrency", "16", "--loglevel", "ERROR"])


def _obey(done: dict[str, int]) -> None:
    from exchanges.models import ExchangeCredential
    from volume.tasks import refresh_credential

    for line in sys.stdin:
        what, *numbers = line.split()
        if what == "count":
            print(json.dumps(done), flush=True)
        elif what == "read":
            for number in numbers:
                refresh_credential.apply_async((int(number),), {"trigger": "user"})
        else:
            for account in ExchangeCredential.objects.filter(pk__in=numbers):
                _store_one(account)


def _store_one(account: Any) -> None:
    """One more fill, as a worker stores a page of it."""
    from django.db import transaction
    from django.utils import timezone

    from exchanges.venues.base import FillReport, Kind, Liquidity, Page, Side
    from volume import live
    from volume.refresh import store_page

    now = timezone.now()
    report = FillReport(
        fill_id=f"burst-{time.monotonic_ns()}", symbol="BTC", base="BTC", quote="USDC", side=Side.BUY,
        liquidity=Liquidity.TAKER, kind=Kind.TRADE, price=Decimal(50_000), qty=Decimal("0.01"), notional=Decimal(500),
        fee=Decimal("0.2"), fee_asset="USDC", realized_pnl=None, executed_at=now,
    )  # fmt: skip
    with transaction.atomic():
        account.lock()
        store_page(account, account.streams[0], Page(rows=[report]), now=now)
        transaction.on_commit(partial(_tell_commit, account.owner_id))
        transaction.on_commit(partial(live.push, account.owner_id))


def _tell_commit(owner_id: int) -> None:
    print(json.dumps({"owner": owner_id, "at": time.monotonic()}), flush=True)


# --- Sockets ---------------------------------------------------------------------------------------------------------


async def measure_sockets(perpdash: Perpdash, venue: Any, owners: Sequence[Owner], size: Size) -> None:
    busy, *others = owners
    async with opened(perpdash, [busy]):
        await told_times(perpdash, venue, busy, 3)  # the first ones load what the later ones find loaded
        say_latency("1 socket", await told_times(perpdash, venue, busy, size.samples), goal=100)
    async with opened(perpdash, [busy] * MOST_SOCKETS):
        found = await told_times(perpdash, venue, busy, size.samples // 4, sockets=MOST_SOCKETS)
        say_latency(f"{MOST_SOCKETS} sockets of one owner", found)
    before = perpdash.memory_kb()
    async with opened(perpdash, others):
        weight = (perpdash.memory_kb() - before) / len(others)
        what = f"{len(others):,} sockets: memory of each, {ON}"
        tell(Measurement(section=SECTION, what=what, value=weight, unit="KB"))
        chosen = Random(7).sample(list(others), 20)
        found = []
        for number in range(size.samples):
            found += await told_times(perpdash, venue, chosen[number % len(chosen)], 1)
        if wrongly := [owner for owner in others if owner not in chosen and owner.told]:
            sys.exit(f"bench.live: {len(wrongly)} were told of what is not theirs.")
        say_latency(f"{len(others):,} sockets of as many owners", found, goal=500, note="nobody else was told")
        await measure_burst(perpdash, others)


async def told_times(perpdash: Perpdash, venue: Any, owner: Owner, times: int, sockets: int = 1) -> list[float]:
    """Milliseconds from the commit of a fill to each client's message that shows it."""
    found: list[float] = []
    for _ in range(times):
        trade(venue, owner)
        perpdash.order("read", owner.credential)
        committed = await asyncio.to_thread(perpdash.commits.get, timeout=PATIENCE)
        if committed[0] != owner.pk:
            sys.exit("bench.live: somebody else's fill was read.")
        async with asyncio.timeout(PATIENCE):
            # To the end of the reading, which is told as well: the next one would find the account taken.
            while not owner.is_done(owner.fills, sockets):
                await asyncio.sleep(0.005)
        found += [1000 * (at - committed[1]) for at in owner.arrivals(owner.fills)]
        owner.told.clear()
    return found


async def measure_burst(perpdash: Perpdash, owners: Sequence[Owner]) -> None:
    for owner in owners:
        owner.told.clear()
        owner.fills += 1
    perpdash.order("store", *(owner.credential for owner in owners))
    commits = dict([await asyncio.to_thread(perpdash.commits.get, timeout=PATIENCE) for _ in owners])
    end = time.monotonic() + PATIENCE
    while waiting := [owner for owner in owners if not owner.arrivals(owner.fills)]:
        if time.monotonic() > end:
            sys.exit(f"bench.live: {len(waiting)} were not told of their fill, as owner {waiting[0].pk}.")
        await asyncio.sleep(0.05)
    took = max(commits.values()) - min(commits.values())
    found = [1000 * (owner.arrivals(owner.fills)[0] - commits[owner.pk]) for owner in owners]
    say_latency(f"{len(owners):,} owners each get a fill within {took:.1f} s", found)


@asynccontextmanager
async def opened(perpdash: Perpdash, owners: Sequence[Owner]) -> AsyncIterator[None]:
    """A socket for each, which has got its first summary."""
    address, few = f"ws://127.0.0.1:{perpdash.port}/ws/volume/", asyncio.Semaphore(4)
    lines: list[ClientConnection] = []
    listening: list[asyncio.Task[None]] = []

    async def open_one(owner: Owner) -> None:
        async with few:
            line = await connect(
                address, additional_headers={"Cookie": owner.cookie}, compression=None, ping_interval=None,
                open_timeout=PATIENCE,
            )  # fmt: skip
            hear(owner, line, await asyncio.wait_for(line.recv(), PATIENCE))
            lines.append(line)
            listening.append(asyncio.create_task(listen(owner, line)))

    started = time.monotonic()
    await asyncio.gather(*map(open_one, owners))
    say(f"{len(owners):,} sockets opened within {time.monotonic() - started:.1f} s")
    for owner in {owner.pk: owner for owner in owners}.values():
        owner.fills = owner.told[-1][2]
        owner.told.clear()
    yield
    for task in listening:
        task.cancel()
    await asyncio.gather(*(line.close() for line in lines))


async def listen(owner: Owner, line: ClientConnection) -> None:
    try:
        async for message in line:
            hear(owner, line, message)
    except ConnectionClosedError as fault:
        say(f"bench.live: a socket was closed: {fault}")


def hear(owner: Owner, line: ClientConnection, message: str | bytes) -> None:
    at = time.monotonic()
    told = json.loads(message)
    reading = any(account["is_reading"] for account in told["accounts"] if account["id"] == owner.credential)
    owner.told.append((at, id(line), told["totals"]["all"]["fills"], reading))


def say_latency(what: str, found: Sequence[float], *, goal: float | None = None, note: str = "") -> None:
    """The p95 is what the goal speaks of."""
    p50, p95 = percentile(found, 0.5), percentile(found, 0.95)
    say(f"{what}: p50 {p50:.1f} ms, p95 {p95:.1f} ms, longest {max(found):.1f} ms")
    words = f"p50 {p50:.3g} ms" + (f"; {note}" if note else "")
    tell(
        Measurement(
            section=SECTION, what=f"commit to message, p95: {what}, {ON}", value=p95, unit="ms", note=words,
            more={"p50": p50, "longest": max(found), "samples": len(found)},
            **(at_most(p95, goal) if goal else {}),
        )
    )  # fmt: skip


# --- Nothing happens -------------------------------------------------------------------------------------------------


def measure_idle(perpdash: Perpdash, venue: Any, size: Size) -> None:
    """Accounts without a new fill are polled for a while: what each poll takes, and each account in an hour."""
    from django.contrib.auth import get_user_model

    from exchanges.models import ExchangeCredential

    person = get_user_model().objects.create(username="idle")
    for number in range(size.idle_accounts):
        address = f"0x{number:038x}ff"
        venue.add(address)
        live_account(person, f"Idle {number}", address, due_in=timedelta())
    time.sleep(min(10, size.idle_seconds))  # what is done once is done
    before, started = _spent(perpdash, venue), time.monotonic()
    time.sleep(size.idle_seconds)
    spent = [after - earlier for after, earlier in zip(_spent(perpdash, venue), before, strict=True)]
    seconds = time.monotonic() - started
    ExchangeCredential.objects.filter(owner=person).update(is_enabled=False)
    polls, requests, queries, cpu = spent
    hourly = 3600 / seconds / size.idle_accounts
    say(f"{polls:.0f} polls in {seconds:.0f} s")
    for what, value, unit in (
        ("polls", polls, ""), ("requests", requests, "requests"), ("database queries", queries, "queries"),
        ("processor time", cpu, "s"),
    ):  # fmt: skip
        tell(
            Measurement(
                section=SECTION, what=f"idle, {size.idle_accounts} accounts: {what} of each in an hour, {ON}",
                value=value * hourly, unit=unit, note=f"{value / polls:.3g} {unit} a poll" if polls and unit else "",
            )
        )  # fmt: skip


def _spent(perpdash: Perpdash, venue: Any) -> tuple[float, float, float, float]:
    perpdash.order("count")
    done = perpdash.counts.get(timeout=PATIENCE)
    return done["runs"], sum(venue.calls.values()), done["queries"], perpdash.cpu_seconds()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        serve(*sys.argv[2:])
    else:
        main()
