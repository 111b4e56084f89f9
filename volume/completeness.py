"""How complete a figure is: what of its range was not read, why, and what would help."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db import connection

from exchanges.models import STOPPED, Coverage, ExchangeCredential, Health, HeldRow
from exchanges.venues.base import Window, subtract
from volume.models import DailyVolume, Preferences

# New fills are asked for every few seconds; an account not read for so long makes its numbers stale.
STALE_AFTER = timedelta(minutes=5)
State = Coverage.State
MOST_REASONS = 12  # of one total; the accounts name them all
WORST_FIRST = ("gap", "unread", "held", "stale", "out_of_reach")


@dataclass(frozen=True, slots=True)
class Lack:
    """A range of one account in which fills may be missing."""

    credential_id: int
    account: str
    window: Window
    state: str  # "unread", "stale", or a state of Coverage
    why: str
    remedy: str = ""
    stream: str = ""
    retry_at: datetime | None = None  # of a gap


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a figure is complete, and if not, why in sentences.

    `stale`: nothing is missing but what came since an account was last read.
    """

    complete: bool
    why: tuple[str, ...] = ()
    stale: bool = False


COMPLETE = Verdict(True)
# Each account by the whole of an index: whether it has one such day, and not which. Written out, as every page asks it
# and Django takes longer to write it than a database to answer.
OF_IT = f"SELECT 1 FROM {DailyVolume._meta.db_table} WHERE credential_id = account.id"
BEHIND = (
    f"SELECT id FROM {ExchangeCredential._meta.db_table} AS account WHERE id IN ({{}}) "
    f"AND (EXISTS ({OF_IT} AND is_at_market IS NULL) OR EXISTS ({OF_IT} AND is_at_market = %s))"
)
EVER = Window(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


class Completeness:
    """What an owner's accounts lack, read once and asked often."""

    def __init__(
        self,
        credentials: Iterable[ExchangeCredential],
        *,
        now: datetime,
        preferences: Mapping[int, Preferences] | None = None,  # of their owners, where these were read already
    ) -> None:
        self.credentials = {credential.pk: credential for credential in credentials}
        self.now = now
        rows: dict[tuple[int, str], list[Coverage]] = defaultdict(list)
        for row in Coverage.objects.filter(credential__in=self.credentials).order_by("from_at"):
            rows[row.credential_id, row.stream].append(row)
        self.lacks: dict[int, list[Lack]] = {
            pk: [
                lack
                for stream in credential.streams
                for lack in self._lacks(credential, rows.get((pk, stream.name), []))
            ]
            for pk, credential in self.credentials.items()
        }
        owners = {credential.owner_id for credential in self.credentials.values()}
        self.recomputing = self._recomputing(Preferences.of_all(owners) if preferences is None else preferences)
        self.held: dict[int, list[datetime | None]] = defaultdict(list)
        held = HeldRow.objects.filter(credential__in=self.credentials).order_by("pk")
        for pk, executed_at in held.values_list("credential_id", "executed_at"):
            self.held[pk].append(executed_at)
        self._asked_from = max((item.history_from for item in self.credentials.values()), default=EVER.since)
        self._doubtful = merged([*self._lacking(), *self._holding()])

    def _lacking(self) -> Iterator[Window]:
        return (lack.window for lacks in self.lacks.values() for lack in lacks)

    def _holding(self) -> Iterator[Window]:
        """The moments of rows that are held; at any time, where that is not known."""
        return (Window(at, at) if at else EVER for moments in self.held.values() for at in moments)

    def _recomputing(self, preferences: Mapping[int, Preferences]) -> set[int]:
        """The accounts with days that were computed before their owner chose otherwise, or by an older perpdash."""
        found: set[int] = set()
        for at_market in (True, False):
            own = [
                pk
                for pk, credential in self.credentials.items()
                if preferences[credential.owner_id].stablecoins_at_market is at_market
            ]
            if own:
                with connection.cursor() as cursor:
                    cursor.execute(BEHIND.format(", ".join(["%s"] * len(own))), [*own, not at_market])
                    found.update(pk for (pk,) in cursor.fetchall())
        return found

    def of(
        self,
        window: Window,
        credential_ids: Iterable[int] | None = None,
        *,
        unpriced: Sequence[str] = (),
        is_all: bool = False,
    ) -> Verdict:
        """The verdict on a figure over `window` of these accounts (all, if not said).

        `unpriced` are sentences on what of it has no price. `is_all` is a figure of all there is of each account,
        however far back that was asked for.
        """
        if not unpriced and self._is_clean(window, is_all=is_all):
            return COMPLETE
        why: list[str] = []
        late: list[str] = []
        for pk in self.credentials if credential_ids is None else credential_ids:
            account, history_from = str(self.credentials[pk]), self.credentials[pk].history_from
            if window.since < history_from and not is_all:
                why.append(f"{account}: Asked for only from {history_from:%Y-%m-%d %H:%M} UTC on.")
            lacks = [
                lack for lack in self.lacks[pk] if lack.window.since < window.until and lack.window.until > window.since
            ]
            why += [f"{lack.account}: {lack.why} {lack.remedy}".rstrip() for lack in lacks]
            late += [f"{lack.account}: {lack.why} {lack.remedy}".rstrip() for lack in lacks if lack.state == "stale"]
            held = sum(1 for at in self.held[pk] if at is None or window.since <= at < window.until)
            if held:
                why.append(f"{account}: {held} {'row' if held == 1 else 'rows'} held, not understood and not counted.")
            if pk in self.recomputing:
                why.append(f"{account}: Its days are being recomputed, which takes some minutes.")
        why += unpriced
        return Verdict(not why, tuple(dict.fromkeys(why)), bool(why) and set(why) == set(late))

    def _is_clean(self, window: Window, *, is_all: bool) -> bool:
        """Whether nothing is to be said of the window, of any account: so it is of most of them."""
        if self.recomputing or (window.since < self._asked_from and not is_all):
            return False
        at = bisect_right(self._doubtful, window.until, key=lambda part: part.since)
        return at == 0 or self._doubtful[at - 1].until < window.since

    def state(self, window: Window) -> tuple[str, list[str]]:
        """The worst that is to be said of the window for all accounts, in a word for drawing, and why in sentences."""
        verdict = self.of(window)
        if verdict.complete:
            return "complete", []
        touching = {
            lack.state
            for lacks in self.lacks.values()
            for lack in lacks
            if lack.window.since < window.until and lack.window.until > window.since
        }
        held = any(at is None or window.since <= at < window.until for moments in self.held.values() for at in moments)
        states = touching | ({"held"} if held else set())
        # What is left is what nobody asked for: the time before the history that is wanted, and days being recomputed.
        rest = "unread" if self.recomputing else "not_asked"
        return next((state for state in WORST_FIRST if state in states), rest), list(verdict.why)

    def states(self, ends: Sequence[datetime]) -> list[tuple[str, list[str]]]:
        """`state` of each stretch between two of these moments, which are in order."""
        stretches = [Window(since, until) for since, until in pairwise(ends)]
        doubtful = set(range(len(stretches) if self.recomputing else bisect_left(ends, self._asked_from)))
        for part in self._doubtful:
            doubtful.update(range(bisect_left(ends, part.since) - 1, bisect_right(ends, part.until)))
        return [self.state(window) if at in doubtful else ("complete", []) for at, window in enumerate(stretches)]

    def complete_from(self, pk: int) -> datetime | None:
        """The first UTC day since which nothing is missing up to the last reading; None where even that day lacks some.

        Days are what people read: one of which only a part was read is not complete.
        """
        credential = self.credentials[pk]
        older = [lack.window.until for lack in self.lacks[pk] if lack.state != "stale"]
        start = max([credential.history_from, *older])
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
        day = midnight if midnight == start else midnight + timedelta(days=1)
        return day if credential.fresh_at and day < credential.fresh_at else None

    def complete_since(self, pks: Iterable[int]) -> datetime | None:
        """The first day since which all of these accounts are complete; None where one of them is not even today."""
        days = [self.complete_from(pk) for pk in pks]
        known = [day for day in days if day]
        return max(known) if known and len(known) == len(days) else None

    def unread(self, pk: int) -> timedelta:
        """How much time, over all streams, is still to be read."""
        windows = (lack.window for lack in self.lacks[pk] if lack.state == "unread")
        return sum((window.until - window.since for window in windows), timedelta())

    def progress(self, pk: int) -> float:
        """The share of the wanted time, over all streams, that is settled: covered, or known to be out of reach."""
        credential = self.credentials[pk]
        wanted = (self.now - credential.history_from) * len(credential.streams)
        return 1 - self.unread(pk) / wanted

    def _lacks(self, credential: ExchangeCredential, rows: list[Coverage]) -> Iterable[Lack]:
        account = str(credential)
        # What an account does after it was removed from here is no part of any total.
        until = credential.retired_at or self.now
        if credential.fresh_at and until - credential.fresh_at > patience(credential):
            remedy = _turn(credential) or "Read new fills now."
            why = f"Not read since {credential.fresh_at:%Y-%m-%d %H:%M} UTC."
            yield Lack(credential.pk, account, Window(credential.fresh_at, until), "stale", why, remedy)
        for row in rows:
            if row.state != State.COVERED:
                window, why = Window(row.from_at, row.until_at), row.reason
                if row.state == State.GAP:
                    why = f"{_range(window)} could not be read: {row.reason}"
                remedy = row.remedy or (_again(credential, row.retry_at) if row.state == State.GAP else "")
                yield Lack(credential.pk, account, window, row.state, why, remedy, row.stream, row.retry_at)
        known = [Window(row.from_at, row.until_at) for row in rows]
        # What came after the last reading is a matter of freshness, not of gaps. Before one has ended nothing is fresh.
        end = credential.fresh_at or until
        going_on = "It is being read." if credential.is_backfilling else "“Read what is missing” on its page reads it."
        unread_remedy = _turn(credential) or going_on
        for window in subtract(Window(credential.history_from, max(end, credential.history_from)), known):
            why = f"{_range(window)} is not read yet."
            yield Lack(credential.pk, account, window, "unread", why, unread_remedy)


def merged(windows: Iterable[Window]) -> list[Window]:
    """The windows in order, those that touch as one."""
    found: list[Window] = []
    for window in sorted(windows):
        if found and window.since <= found[-1].until:
            found[-1] = Window(found[-1].since, max(found[-1].until, window.until))
        else:
            found.append(window)
    return found


def patience(credential: ExchangeCredential) -> timedelta:
    """How long after its last reading an account still counts as up to date: not at all where nobody reads it."""
    is_left_alone = not credential.is_enabled or credential.health_state in STOPPED
    return timedelta() if is_left_alone and not credential.retired_at else STALE_AFTER


def _turn(credential: ExchangeCredential) -> str:
    """Whose turn it is before anything is read; empty where it is being read."""
    if credential.retired_at:
        return "Only its history is kept."
    if not credential.is_enabled:
        return "The account is paused: resume it."
    if credential.health_state == Health.UNAVAILABLE:
        return "It is tried again by itself."
    return "The account needs you first." if credential.health_state in STOPPED else ""


def _again(credential: ExchangeCredential, retry_at: datetime | None) -> str:
    at = f" at {retry_at:%Y-%m-%d %H:%M} UTC" if retry_at else ""
    going_on = (
        f"It is tried again{at}." if credential.is_backfilling else "“Read what is missing” on its page reads it."
    )
    return _turn(credential) or going_on


def _range(window: Window) -> str:
    return f"{window.since:%Y-%m-%d %H:%M} to {window.until:%Y-%m-%d %H:%M} UTC"


def shortened(why: Sequence[str]) -> list[str]:
    """What is missing, without the tail of a long list: every open page gets it with every change."""
    if len(why) <= MOST_REASONS:
        return list(why)
    return [*why[:MOST_REASONS], f"And {len(why) - MOST_REASONS:,} more; the pages of the accounts name them all."]


def as_json(lack: Lack) -> dict[str, Any]:
    return {
        "state": lack.state,
        "from": lack.window.since.isoformat(),
        "until": lack.window.until.isoformat(),
        "why": lack.why,
        "remedy": lack.remedy,
        "stream": lack.stream,
        "retry_at": lack.retry_at.isoformat() if lack.retry_at else None,
    }
