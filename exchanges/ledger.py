"""The ledger of a credential: which ranges of time are covered, could not be read, or are out of reach.

It is the resume point of every sync and the proof behind every "complete". Its ranges never overlap within a stream.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max, Q, QuerySet

from exchanges.models import Coverage, ExchangeCredential
from exchanges.venues.base import Missing, Window, subtract

State = Coverage.State


def settled(credential: ExchangeCredential, *, now: datetime) -> dict[str, list[Window]]:
    """By stream, the ranges that are not to be read now: all but the gaps whose time has come."""
    found: dict[str, list[Window]] = defaultdict(list)
    rows = Coverage.objects.filter(~Q(state=State.GAP, retry_at__lte=now), credential=credential)
    for stream, since, until in rows.values_list("stream", "from_at", "until_at"):
        found[stream].append(Window(since, until))
    return found


def covered_until(credential: ExchangeCredential) -> dict[str, datetime]:
    """By stream, the end of the newest covered range; streams without one are not there."""
    covered = Coverage.objects.filter(credential=credential, state=State.COVERED)
    return dict(covered.order_by().values_list("stream").annotate(end=Max("until_at")))


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of one stream. Writing belongs inside the transaction that stores the rows it speaks of."""

    credential: ExchangeCredential
    stream: str

    def cover(self, window: Window) -> None:
        """`window` is read: whatever was said of it before no longer holds. Neighbouring covered ranges become one."""
        rows = list(self._touching(window))
        covered = [row for row in rows if row.state == State.COVERED]
        since = min([window.since, *(row.from_at for row in covered)])
        until = max([window.until, *(row.until_at for row in covered)])
        for row in rows:
            if row.state != State.COVERED and row.from_at < window.until and row.until_at > window.since:
                self._cut(row, window)
        if not covered:
            self._rows().create(
                credential=self.credential, stream=self.stream, from_at=since, until_at=until, state=State.COVERED
            )
            return
        grown, *swallowed = covered
        if swallowed:
            self._rows().filter(pk__in=[row.pk for row in swallowed]).delete()
        if (since, until) != (grown.from_at, grown.until_at):
            self._rows().filter(pk=grown.pk).update(from_at=since, until_at=until)

    def mark_gap(self, missing: Missing, *, retry_at: datetime) -> None:
        """What of the window is not covered could not be read and will be tried again."""
        self._mark(missing, State.GAP, retry_at)

    def mark_out_of_reach(self, missing: Missing) -> None:
        """What of the window is not covered is no longer at the venue."""
        self._mark(missing, State.OUT_OF_REACH, None)

    def missing(self, window: Window, *, now: datetime) -> list[Window]:
        """What of `window` is still to be read, oldest first. Gaps count once their time has come."""
        rows = self._touching(window).filter(~Q(state=State.GAP, retry_at__lte=now))
        return subtract(window, [Window(row.from_at, row.until_at) for row in rows])

    def forget_after(self, moment: datetime) -> None:
        """What is said of the time after `moment` no longer holds."""
        for row in self._rows().filter(until_at__gt=moment):
            self._cut(row, Window(moment, row.until_at))

    def _mark(self, missing: Missing, state: Coverage.State, retry_at: datetime | None) -> None:
        window = missing.window
        for row in self._touching(window):
            if row.state != State.COVERED and row.from_at < window.until and row.until_at > window.since:
                self._cut(row, window)
        covered = [Window(row.from_at, row.until_at) for row in self._touching(window).filter(state=State.COVERED)]
        for left in subtract(window, covered):
            self._rows().create(
                credential=self.credential, stream=self.stream, from_at=left.since, until_at=left.until, state=state,
                reason=missing.why[:500], remedy=missing.remedy[:300], retry_at=retry_at,
            )  # fmt: skip

    def _cut(self, row: Coverage, window: Window) -> None:
        """Leaves of `row` only what lies outside `window`."""
        row.delete()
        for left in subtract(Window(row.from_at, row.until_at), [window]):
            row.pk, row.from_at, row.until_at = None, left.since, left.until
            row.save(force_insert=True)

    def _rows(self) -> QuerySet[Coverage]:
        return Coverage.objects.filter(credential=self.credential, stream=self.stream)

    def _touching(self, window: Window) -> QuerySet[Coverage]:
        return self._rows().filter(from_at__lte=window.until, until_at__gte=window.since)
