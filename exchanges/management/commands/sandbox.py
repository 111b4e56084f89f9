"""manage.py sandbox: the sandbox venues, and CoinGecko, on loopback, one port each."""

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from exchanges.sandbox import SANDBOXES, Sandbox
from exchanges.sandbox.server import serve

NAMES = (*SANDBOXES, "coingecko")


class Command(BaseCommand):
    help = "Serves the sandbox venues and CoinGecko on 127.0.0.1 until stopped; prints the settings that point at them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("venues", nargs="*", help=f"of {', '.join(NAMES)} (all if left out)")
        parser.add_argument("--port", type=int, default=9101, help="of the first venue; the others follow")

    def handle(self, *args: Any, **options: Any) -> None:
        slugs = options["venues"] or list(NAMES)
        if unknown := [slug for slug in slugs if slug not in NAMES]:
            raise CommandError(f"No sandbox for {', '.join(unknown)}. There is: {', '.join(NAMES)}.")
        sandbox, stop = Sandbox(), threading.Event()
        try:
            servers = [
                serve(getattr(sandbox, slug), "127.0.0.1", options["port"] + index) for index, slug in enumerate(slugs)
            ]
        except OSError:
            ports = f"{options['port']} to {options['port'] + len(slugs) - 1}"
            raise CommandError(f"A port of {ports} is taken. Choose others with --port.") from None
        for slug, server in zip(slugs, servers, strict=True):
            server.start()
            self.stdout.write(f"{slug.upper()}_API_URL={server.url}")
        for word in (signal.SIGINT, signal.SIGTERM):
            signal.signal(word, lambda *_: stop.set())
        stop.wait()
        for server in servers:
            server.stop()
