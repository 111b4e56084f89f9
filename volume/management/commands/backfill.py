"""manage.py backfill: reads what is missing, in the foreground, to the end."""

import json
import logging
import signal
import time
from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from tqdm import tqdm

from exchanges.connect import PATIENT
from exchanges.models import STOPPED, Coverage, ExchangeCredential, Health, SyncRun
from exchanges.venues import VENUES
from exchanges.venues.base import Page
from volume import holding, prices
from volume.completeness import Completeness
from volume.periods import start_of
from volume.refresh import NotOurs, Wanted, refresh

logger = logging.getLogger("perpdash.backfill")
COMPLETE, INCOMPLETE, REJECTED, UNAVAILABLE, STOPPED_BY_HAND = 0, 3, 4, 5, 130
EXIT = {
    SyncRun.Outcome.COMPLETE: COMPLETE,
    SyncRun.Outcome.INCOMPLETE: INCOMPLETE,
    SyncRun.Outcome.WAITING: UNAVAILABLE,
    SyncRun.Outcome.STOPPED: INCOMPLETE,
    SyncRun.Outcome.FAILED: INCOMPLETE,
    SyncRun.Outcome.REJECTED: REJECTED,
    SyncRun.Outcome.UNAVAILABLE: UNAVAILABLE,
}
IMPATIENT = 0.5  # seconds
URGENCY = (COMPLETE, INCOMPLETE, UNAVAILABLE, REJECTED)  # of several accounts, the worst decides


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is not a date. Write it as 2025-01-31; days are UTC.") from None


class Command(BaseCommand):
    help = (
        "Reads all fills that are missing, gaps included. Exit code 0: complete; 3: finished with gaps, rows held or "
        "ranges out of reach; 4: a key was not accepted; 5: a venue was unavailable; 130: stopped by hand "
        "(what was read is kept)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--credential", type=int, action="append", default=[], metavar="ID")
        parser.add_argument("--venue", action="append", default=[], metavar="VENUE")
        parser.add_argument("--since", metavar="DATE", help="from this UTC day on (two years back if never said)")
        parser.add_argument("--until", metavar="DATE", help="up to, not including, this UTC day (now if left out)")
        parser.add_argument("--again", action="store_true", help="read also what was read before; harmless")
        parser.add_argument("--json", action="store_true", help="print one JSON object per credential at the end")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        since = max(start_of(day(options["since"])), holding.FIRST_MOMENT) if options["since"] else None
        until = start_of(day(options["until"])) if options["until"] else None
        if since and since > now:
            raise CommandError(f"--since {options['since']} is in the future: there is nothing to read yet.")
        if until and until > now + timedelta(days=1):
            raise CommandError(f"--until {options['until']} is in the future.")
        if since and until and since >= until:
            raise CommandError("--until must be after --since: the range is empty.")
        # A terminated run ends like one stopped by hand: its lease is given back.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
        runs: list[SyncRun] = []
        try:
            for credential in self._chosen(options):
                if credential.health_state in STOPPED and credential.pk not in options["credential"]:
                    runs.append(_not_tried(credential, now))
                    continue
                if since:
                    holding.want_from(credential, since)
                credential.is_backfilling = True
                credential.save(update_fields=["is_backfilling"])
                try:
                    runs.append(self._read(credential, since, until, options))
                except Exception:
                    logger.exception("%s could not be read", credential)
                    failed = credential.runs.filter(outcome=SyncRun.Outcome.FAILED).first()
                    if failed is None:
                        raise
                    runs.append(failed)
        except KeyboardInterrupt:
            stopped = SyncRun.objects.filter(outcome=SyncRun.Outcome.STOPPED, started_at__gte=now).first()
            self._report([*runs, stopped] if stopped else runs, options, now)
            self.stderr.write("Stopped. All that was read is kept; the same command goes on from there.")
            raise SystemExit(STOPPED_BY_HAND) from None
        self._price([run.credential for run in runs])
        self._report(runs, options, now)
        code = max((EXIT[SyncRun.Outcome(run.outcome)] for run in runs), key=URGENCY.index, default=COMPLETE)
        if code:
            raise SystemExit(code)

    def _chosen(self, options: dict[str, Any]) -> list[ExchangeCredential]:
        for venue in options["venue"]:
            if venue not in VENUES:
                raise CommandError(f"perpdash does not know the venue {venue!r}. It knows: {', '.join(VENUES)}.")
        found = ExchangeCredential.objects.all()
        if options["credential"]:
            found = found.filter(pk__in=options["credential"])
            if unknown := sorted(set(options["credential"]) - set(found.values_list("pk", flat=True))):
                raise CommandError(f"There is no credential {', '.join(map(str, unknown))}.")
        else:
            for left_out in found.filter(retired_at=None).filter(
                is_enabled=False, **({"venue__in": options["venue"]} if options["venue"] else {})
            ):
                self.stderr.write(f"{left_out} is paused: left out.")
            found = found.filter(is_enabled=True)
        if options["venue"]:
            found = found.filter(venue__in=options["venue"])
        chosen = list(found)
        if retired := [item for item in chosen if item.retired_at]:
            raise CommandError("; ".join(f"{item}: {holding.retired_words(item)}" for item in retired))
        if paused := [str(credential) for credential in chosen if not credential.is_enabled]:
            raise CommandError(f"Paused: {', '.join(paused)}. Resume it first.")
        return chosen

    def _read(
        self, credential: ExchangeCredential, since: datetime | None, until: datetime | None, options: dict[str, Any]
    ) -> SyncRun:
        wanted = Wanted(
            trigger=SyncRun.Trigger.COMMAND,
            since=since,
            until=until and min(until, timezone.now()),
            again=options["again"],
            gaps_too=True,
            patience=PATIENT,
        )
        with tqdm(total=100, desc=str(credential), unit="%", disable=None, bar_format=BAR, file=self.stderr) as bar:

            def show(run: SyncRun, page: Page) -> None:
                if not bar.disable:
                    completeness = Completeness([credential], now=timezone.now())
                    bar.n = round(100 * completeness.progress(credential.pk), 1)
                    bar.set_postfix_str(f"{run.new:,} new fills, {run.requests} requests")

            said = False
            while True:
                try:
                    return refresh(credential, now=timezone.now(), wanted=wanted, on_page=show)
                except NotOurs:
                    if not said:
                        self.stderr.write(f"{credential} is being read by another process; waiting for it.")
                        said = True
                    time.sleep(0.5)

    def _price(self, credentials: list[ExchangeCredential]) -> None:
        """What is no dollar gets its price, without making anybody wait for it."""
        if prices.waiting(credentials, now=timezone.now()):
            prices.fetch(now=timezone.now(), patience=IMPATIENT)
            if prices.not_priced(credentials):
                self.stderr.write(
                    "Not everything has a price in dollars: manage.py fetch_prices asks again and says why."
                )

    def _report(self, runs: Iterable[SyncRun], options: dict[str, Any], now: datetime) -> None:
        for run in runs:
            if options["json"]:
                self.stdout.write(json.dumps(_as_json(run)))
            else:
                self.stderr.write(
                    f"{run.credential}: {SyncRun.Outcome(run.outcome).label.lower()}. {run.new:,} new fills, "
                    f"{run.seen:,} seen before, {run.requests} requests. {run.message}".rstrip()
                )


def _not_tried(credential: ExchangeCredential, now: datetime) -> SyncRun:
    """What is said, and not stored, of an account whose key is not accepted until someone acts."""
    message = f"{credential.health_text} Not tried again; --credential {credential.pk} does."
    since, outcome = credential.history_from, SyncRun.Outcome.REJECTED
    return SyncRun(credential=credential, since=since, until=now, outcome=outcome, message=message)


BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left {postfix}"


def _as_json(run: SyncRun) -> dict[str, Any]:
    credential = run.credential
    lacks = Coverage.objects.filter(credential=credential, until_at__gt=run.since, from_at__lt=run.until)
    return {
        "credential": credential.pk,
        "venue": credential.venue,
        "label": credential.label,
        "account": credential.account_ref,
        "outcome": run.outcome,
        "message": run.message,
        "since": run.since.isoformat(),
        "until": run.until.isoformat(),
        "requests": run.requests,
        "retries": run.retries,
        "waited_seconds": round(run.waited_seconds, 3),
        "rows": run.rows,
        "new": run.new,
        "seen": run.seen,
        "skipped": run.skipped,
        "held": credential.held_rows.count(),
        "retracted": run.retracted,
        "gaps": _ranges(lacks.filter(state=Coverage.State.GAP)),
        "out_of_reach": _ranges(lacks.filter(state=Coverage.State.OUT_OF_REACH)),
        "works": credential.health_state == Health.WORKS,
    }


def _ranges(rows: Iterable[Coverage]) -> list[dict[str, str]]:
    return [
        {
            "stream": row.stream,
            "from": row.from_at.isoformat(),
            "until": row.until_at.isoformat(),
            "reason": row.reason,
        }
        for row in rows
    ]
