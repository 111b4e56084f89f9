"""What is said of a run while it goes on, and at its end: in the log, and to whoever counts."""

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from exchanges.tally import tally

if TYPE_CHECKING:
    from exchanges.models import SyncRun

# To which run whatever is written down belongs: the latest one, until the task that asked for it ends.
about: ContextVar[Mapping[str, Any]] = ContextVar("run", default=MappingProxyType({}))
logger = logging.getLogger("perpdash.runs")


def begin(run: "SyncRun") -> None:
    credential = run.credential
    about.set({"run": run.pk, "credential": credential.pk, "venue": credential.venue})


def end(run: "SyncRun", *, now: datetime) -> None:
    """One line, whatever came of it."""
    venue, seconds = run.credential.venue, (now - run.started_at).total_seconds()
    outcome = "broken_off" if run.outcome == run.Outcome.RUNNING else str(run.outcome)
    tally.add("runs", venue, outcome, str(run.trigger))
    tally.observe("run_seconds", venue, value=seconds)
    tally.add("venue_waited_seconds", venue, amount=run.waited_seconds)
    counts = {"new": run.new, "seen": run.seen, "skipped": sum(run.skipped.values()), "held": run.held}
    for kind, rows in counts.items():
        tally.add("rows", venue, kind, amount=rows)
    tally.hand_over()
    fields = counts | {
        "outcome": outcome, "trigger": str(run.trigger), "seconds": round(seconds, 3), "requests": run.requests,
        "retries": run.retries, "waited_seconds": round(run.waited_seconds, 3), "why": run.message,
    }  # fmt: skip
    logger.info("Run ended: %s", outcome, extra={"fields": fields})
