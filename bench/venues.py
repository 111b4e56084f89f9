"""Sandbox venues with accounts of any size, each in a process of its own: on loopback, as far away as one likes.

`python -m bench.venues VENUE JSON` serves one: it prints where it is and the secrets of its accounts, then, for each
line on standard input, what it was asked so far. It ends with its standard input.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO, cast

from exchanges.sandbox import SANDBOXES, bybit, hyperliquid, paradex, woox
from exchanges.sandbox.base import SandboxVenue, to_ms
from exchanges.sandbox.server import serve
from exchanges.sandbox.trader import Trader

NAMES = {"bybit": "Bybit", "hyperliquid": "Hyperliquid", "paradex": "Paradex", "woox": "WOO X"}
DAYS = 730
OLDER = timedelta(days=10)  # by which an account is older than what is read of it
KEPT = 200_000
# The real one keeps 10,000 fills.
UNFORGETTING: dict[str, dict[str, Any]] = {"hyperliquid": {"memory": 10**9, "twap_memory": 10**9}}
Secrets = dict[str, str]


@dataclass(frozen=True, slots=True)
class Served:
    """A venue that listens."""

    slug: str
    url: str
    secrets: list[Secrets]  # of each account
    process: subprocess.Popen[str]

    @property
    def environment(self) -> dict[str, str]:
        """What leads perpdash to it."""
        return {f"{self.slug.upper()}_API_URL": self.url}

    def asked(self) -> dict[str, Any]:
        """What it was asked so far: calls, statuses, and requests of those who had been told to wait."""
        print(file=self.process.stdin, flush=True)
        return heard(self.process)


@contextmanager
def venue(slug: str, *, fills: int, days: int = DAYS, accounts: int = 1, latency: float = 0.1) -> Iterator[Served]:
    """A venue with so many accounts that made about so many fills each in so many days, and its documented limits."""
    wanted = json.dumps({"fills": fills, "days": days, "accounts": accounts, "latency": latency})
    command = [sys.executable, "-m", "bench.venues", slug, wanted]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        told = heard(process)
        try:
            yield Served(slug, told["url"], told["secrets"], process)
        finally:
            cast(TextIO, process.stdin).close()


def heard(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line a process prints."""
    told: dict[str, Any] = json.loads(cast(TextIO, process.stdout).readline())
    return told


def main() -> None:
    slug, wanted = sys.argv[1], json.loads(sys.argv[2])
    now = datetime.now(UTC)
    opened_at = now - timedelta(days=wanted["days"]) - OLDER
    options: dict[str, Any] = {"opened_at": opened_at, "latency": wanted["latency"]} | UNFORGETTING.get(slug, {})
    made: Any = SANDBOXES[slug](**options)
    secrets = [ADD[slug](made, number, wanted["fills"] / wanted["days"]) for number in range(wanted["accounts"])]
    count_once(made, now)
    server = serve(cast(SandboxVenue, made)).start()
    print(json.dumps({"url": server.url, "secrets": secrets}), flush=True)
    for _ in sys.stdin:
        asked = {"calls": made.calls, "statuses": made.statuses, "too_early": made.too_early}
        print(json.dumps(asked), flush=True)
    server.stop()
    os._exit(0)  # not after a request that is being answered


def _bybit(made: bybit.Bybit, number: int, fills_per_day: float) -> Secrets:
    secrets = {"api_key": f"BENCHKEY{number:010}", "api_secret": f"bench-secret-not-real-{number:014}"}
    trader = Trader(f"bench {number}", fills_per_day, bybit.MARKETS, kept=KEPT)
    made.add(str(50_000_000 + number), bybit.Key(secrets, ips=(bybit.LOCAL,)), trader=trader)
    return secrets


def _hyperliquid(made: hyperliquid.Hyperliquid, number: int, fills_per_day: float) -> Secrets:
    address = f"0xbe{number:038x}"
    made.add(address, trader=Trader(f"bench {number}", fills_per_day, hyperliquid.MARKETS, kept=KEPT))
    return {"address": address}


def _paradex(made: paradex.Paradex, number: int, fills_per_day: float) -> Secrets:
    trader = Trader(f"bench {number}", fills_per_day, paradex.MARKETS, tiers=paradex.TIERS, kept=KEPT)
    return {"token": made.add(f"0xbe{number:058x}", trader=trader)}


def _woox(made: woox.Woox, number: int, fills_per_day: float) -> Secrets:
    key = woox.Key(api_key=f"wooxBenchKey{number:010}==", secret=f"WOOXBENCHSECRET{number:013}")
    made.add(
        f"3f0c7a52-6d1e-4b8a-9c41-{number:012x}", key, trader=Trader(f"bench {number}", fills_per_day, woox.MARKETS)
    )
    return {"api_key": key.api_key, "api_secret": key.secret}


ADD: dict[str, Callable[[Any, int, float], Secrets]] = {
    "bybit": _bybit, "hyperliquid": _hyperliquid, "paradex": _paradex, "woox": _woox,
}  # fmt: skip


def count_once(made: Any, now: datetime) -> None:
    """Venues that count draw all days at the first question, which would take longer than anybody waits."""
    for account in made.accounts.values():
        if isinstance(made, hyperliquid.Hyperliquid):
            for ordinal in account.ordinals(now.toordinal() - 1):
                account.count(ordinal, False), account.count(ordinal, True)
        elif isinstance(made, woox.Woox):
            account.count(0, to_ms(now))
        elif isinstance(made, paradex.Paradex):
            account.busted(to_ms(now))


if __name__ == "__main__":
    main()
