"""manage.py up: the whole application in one process - web, worker and beat - for a machine without services."""

import os
import socket
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from filelock import FileLock, Timeout

EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  # to be bound to; nobody opens a page there
GRACE = 8.0  # seconds a running task gets to finish its page


class Command(BaseCommand):
    help = "Migrates, then serves web, worker and beat in this one process. Ctrl-C ends it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.EMBEDDED:
            raise CommandError(
                "REDIS_URL is set, so web, worker and beat run apart: daphne perpdash.asgi:application, "
                "celery -A perpdash worker, celery -A perpdash beat."
            )
        lock = FileLock(settings.VAR_DIR / "up.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise CommandError(f"perpdash runs already on {settings.VAR_DIR}: end that one first.") from None
        self._check_port(options["host"], options["port"])
        call_command("migrate", interactive=False, verbosity=0)
        # A task that parses would hold Python's lock for 5 ms at a time, and the page would wait in line.
        sys.setswitchinterval(0.0005)
        self._serve(options["host"], options["port"])

    def _check_port(self, host: str, port: int) -> None:
        try:
            with socket.create_server((host, port)):
                pass
        except (OSError, OverflowError):
            raise CommandError(f"Port {port} on {host} can't be had: take another, as make run PORT=8080.") from None

    def _serve(self, host: str, port: int) -> None:
        from daphne.endpoints import build_endpoint_description_strings
        from daphne.server import Server

        from perpdash.asgi import application
        from perpdash.celery import app

        self.failed = self.is_stopping = False
        self.server = Server(
            application,
            endpoints=build_endpoint_description_strings(host=host, port=port),
            signal_handlers=True,
            verbosity=0,
            server_name="perpdash",
            ready_callable=lambda: self._say_where(host, port),
        )
        stop_work = self._start_work(app)
        try:
            self.server.run()
        finally:
            stop_work()
        # Celery's threads do not all end by themselves; what matters is in the database.
        sys.stdout.flush()
        os._exit(1 if self.failed else 0)

    def _start_work(self, app: Any) -> Callable[[], None]:
        from celery.beat import Service

        from exchanges.venues import VENUES
        from perpdash.beat import Scheduler
        from volume.tasks import WORKERS_PER_VENUE

        app.finalize()
        app.loader.import_default_modules()
        worker = app.WorkController(
            pool="threads",
            concurrency=WORKERS_PER_VENUE * len(VENUES) + 2,
            hostname="embedded",
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
        )
        beat = Service(app, max_interval=1, scheduler_cls=Scheduler)
        self._guard("worker", worker.start)
        self._guard("beat", beat.start)

        def stop() -> None:
            self.is_stopping = True
            beat.stop()
            ending = threading.Thread(target=worker.stop, daemon=True)
            ending.start()
            ending.join(GRACE)

        return stop

    def _guard(self, name: str, work: Callable[[], None]) -> None:
        """Without its worker or beat the application would look alive and read nothing: then it ends, loudly."""

        def run() -> None:
            why = "it stopped by itself"
            try:
                work()
            except BaseException as fault:
                why = f"{type(fault).__name__}: {fault}"
            if self.is_stopping:
                return
            from twisted.internet import reactor

            self.failed = True
            self.stderr.write(f"The {name} ended: {why}")
            reactor.callFromThread(reactor.stop)  # type: ignore[misc]

        threading.Thread(target=run, name=name, daemon=True).start()

    def _say_where(self, host: str, port: int) -> None:
        from accounts.audit import note
        from accounts.joining import is_loopback, welcome_link
        from accounts.management.commands.sign_in_link import link_for
        from accounts.models import User
        from accounts.origin import ORIGIN_FILE

        name = settings.ALLOWED_HOSTS[0].lstrip(".") if host in EVERY_ADDRESS else host
        origin = f"http://{name}:{port}"
        (settings.VAR_DIR / ORIGIN_FILE).write_text(origin)  # for links that are read elsewhere
        is_seen_by_one = self.stdout.isatty() or settings.SANDBOX  # where no log keeps what lets people in
        owner = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
        self.stdout.write(f"perpdash is at {origin}/")
        if owner is None and is_loopback(host):
            self.stdout.write("Open it to make your account.")
        elif not is_seen_by_one:
            self.stdout.write("A link that lets you in: manage.py sign_in_link")
        elif owner is None:
            self.stdout.write(f"Open it to make your account: {welcome_link(origin)}")
        else:
            note(owner.pk, "link_made")
            self.stdout.write(f"Sign in once, as {owner.username}: {link_for(owner, origin)}")
        self.stdout.flush()
