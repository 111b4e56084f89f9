"""manage.py alive: whether the worker or the beat of this machine works; for health checks."""

import socket
from argparse import ArgumentParser
from typing import Any

from django.core.cache import cache
from django.core.management.base import BaseCommand, CommandError

from perpdash.celery import app
from volume.tasks import BEAT_SEEN

PATIENCE = 5  # seconds for a worker to answer


class Command(BaseCommand):
    help = "Exit code 0 while the part answers: the worker of this machine itself, beat by what it handed out."
    requires_system_checks = []  # asked every minute

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("part", choices=["worker", "beat"])
        parser.add_argument("--name", default=f"celery@{socket.gethostname()}", help="of the worker, as NAME@HOST")

    def handle(self, *args: Any, **options: Any) -> str:
        part = options["part"]
        if not (app.control.ping([options["name"]], timeout=PATIENCE) if part == "worker" else cache.get(BEAT_SEEN)):
            raise CommandError(f"No sign of life of the {part}.")
        return "ok"
