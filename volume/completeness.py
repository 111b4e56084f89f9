"""How complete a figure is: what of its range was not read, why, and what would help."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from exchanges.models import STOPPED, Coverage, ExchangeCredential, HeldRow
from exchanges.venues.base import Window, subtract

# New fills are asked for every few seconds; an account not read for so long makes its numbers stale.
STALE_AFTER = timedelta(minutes=5)
State = Coverage.State


@dataclass(frozen=True, slots=True)
class Lack:
    """A range of one account in which fills may be missing."""

    credential_id: int
    account: str
    window: Window
    state: str  # "unread", "stale", or a state of Coverage
    why: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a figure is complete, and if not, why in sentences."""

    complete: bool
    why: tuple[str, ...] = ()


class Completeness:
    """What an owner's accounts lack, read once and asked often."""

    def __init__(self, credentials: Iterable[ExchangeCredential], *, now: datetime) -> None:
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
        self.held: dict[int, list[datetime | None]] = defaultdict(list)
        held = HeldRow.objects.filter(credential__in=self.credentials).order_by("pk")
        for pk, executed_at in held.values_list("credential_id", "executed_at"):
            self.held[pk].append(executed_at)

    def of(
        self,
        window: Window,
        credential_ids: Iterable[int] | None = None,
        *,
        not_priced: int = 0,
        fees_not_priced: int = 0,
        is_all: bool = False,
    ) -> Verdict:
        """The verdict on a figure over `window` of these accounts (all, if not said).

        `is_all` is a figure of all there is of each account, however far back that was asked for.
        """
        why: list[str] = []
        for pk in self.credentials if credential_ids is None else credential_ids:
            account, history_from = str(self.credentials[pk]), self.credentials[pk].history_from
            if window.since < history_from and not is_all:
                why.append(f"{account}: Asked for only from {history_from:%Y-%m-%d %H:%M} UTC on.")
            why += [
                f"{lack.account}: {lack.why}"
                for lack in self.lacks[pk]
                if lack.window.since < window.until and lack.window.until > window.since
            ]
            held = sum(1 for at in self.held[pk] if at is None or window.since <= at < window.until)
            if held:
                why.append(f"{account}: {held} {'row' if held == 1 else 'rows'} held, not understood and not counted.")
        if not_priced:
            why.append(
                f"{not_priced} {'fill' if not_priced == 1 else 'fills'} without a price in dollars, not counted."
            )
        if fees_not_priced:
            fills = "1 fill" if fees_not_priced == 1 else f"{fees_not_priced} fills"
            why.append(f"The fees of {fills} have no price in dollars and are not in the fees.")
        return Verdict(not why, tuple(dict.fromkeys(why)))

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

    def progress(self, pk: int) -> float:
        """The share of the wanted time, over all streams, that is settled: covered, or known to be out of reach."""
        credential = self.credentials[pk]
        wanted = (self.now - credential.history_from) * len(credential.streams)
        unread = (lack.window for lack in self.lacks[pk] if lack.state == "unread")
        return 1 - sum((window.until - window.since for window in unread), timedelta()) / wanted

    def _lacks(self, credential: ExchangeCredential, rows: list[Coverage]) -> Iterable[Lack]:
        account = str(credential)
        is_fresh = credential.fresh_at is not None and self.now - credential.fresh_at <= STALE_AFTER
        if credential.fresh_at and not is_fresh:
            remedy = _turn(credential) or "Read new fills now."
            why = f"Not read since {credential.fresh_at:%Y-%m-%d %H:%M} UTC."
            yield Lack(credential.pk, account, Window(credential.fresh_at, self.now), "stale", why, remedy)
        for row in rows:
            if row.state != State.COVERED:
                window = Window(row.from_at, row.until_at)
                yield Lack(credential.pk, account, window, row.state, row.reason, row.remedy)
        known = [Window(row.from_at, row.until_at) for row in rows]
        # What came after the last reading is a matter of freshness, not of gaps.
        end = credential.fresh_at or (known[-1].until if known else self.now)
        going_on = "It is being read." if credential.is_backfilling else "“Read what is missing” on its page reads it."
        unread_remedy = _turn(credential) or going_on
        for window in subtract(Window(credential.history_from, max(end, credential.history_from)), known):
            yield Lack(credential.pk, account, window, "unread", _unread(window), unread_remedy)


def _turn(credential: ExchangeCredential) -> str:
    """What the owner has to do before anything is read; empty where nothing."""
    if not credential.is_enabled:
        return "The account is paused: resume it."
    return "The account needs you first." if credential.health_state in STOPPED else ""


def _unread(window: Window) -> str:
    return f"{window.since:%Y-%m-%d %H:%M} to {window.until:%Y-%m-%d %H:%M} UTC is not read yet."


def as_json(lack: Lack) -> dict[str, Any]:
    return {
        "state": lack.state,
        "from": lack.window.since.isoformat(),
        "until": lack.window.until.isoformat(),
        "why": lack.why,
        "remedy": lack.remedy,
    }
