"""The ledger: ranges that never overlap, merge where covered, and answer what is missing."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchanges.ledger import Ledger, State, covered_until
from exchanges.models import Coverage
from exchanges.venues.base import Missing, Window, subtract
from tests import factories

START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = START + timedelta(days=365)


def hours(since: int, until: int) -> Window:
    return Window(START + timedelta(hours=since), START + timedelta(hours=until))


@pytest.fixture
def ledger(db: Any) -> Ledger:
    return Ledger(factories.credential(), "fills")


def rows() -> list[tuple[str, Window]]:
    return [(row.state, Window(row.from_at, row.until_at)) for row in Coverage.objects.order_by("from_at")]


def test_what_is_covered_in_pieces_becomes_one_range(ledger: Ledger) -> None:
    for piece in (hours(0, 2), hours(4, 6), hours(2, 4), hours(5, 9)):
        ledger.cover(piece)
    assert rows() == [(State.COVERED, hours(0, 9))]


def test_what_is_covered_grows_where_it_stands(ledger: Ledger) -> None:
    """A row that is written anew with every poll would leave the old one behind for the database to clear away."""
    ledger.cover(hours(4, 6))
    first = Coverage.objects.get()
    for piece in (hours(6, 8), hours(2, 4), hours(3, 5)):
        ledger.cover(piece)
    assert rows() == [(State.COVERED, hours(2, 8))]
    assert Coverage.objects.get().pk == first.pk


def test_the_newest_covered_end_is_told_of_each_list(ledger: Ledger) -> None:
    other = Ledger(ledger.credential, "other")
    ledger.cover(hours(0, 2))
    ledger.cover(hours(4, 6))
    ledger.mark_gap(Missing(hours(6, 9), "down"), retry_at=LATER)
    other.mark_gap(Missing(hours(0, 2), "down"), retry_at=LATER)
    assert covered_until(ledger.credential) == {"fills": hours(4, 6).until}


def test_covering_cuts_a_gap_and_leaves_its_ends(ledger: Ledger) -> None:
    ledger.mark_gap(Missing(hours(0, 10), "down"), retry_at=LATER)
    ledger.cover(hours(3, 5))
    assert rows() == [(State.GAP, hours(0, 3)), (State.COVERED, hours(3, 5)), (State.GAP, hours(5, 10))]


def test_a_gap_takes_nothing_from_what_is_covered(ledger: Ledger) -> None:
    ledger.cover(hours(3, 5))
    ledger.mark_gap(Missing(hours(0, 10), "down"), retry_at=LATER)
    assert rows() == [(State.GAP, hours(0, 3)), (State.COVERED, hours(3, 5)), (State.GAP, hours(5, 10))]


def test_out_of_reach_replaces_a_gap(ledger: Ledger) -> None:
    ledger.mark_gap(Missing(hours(0, 10), "down"), retry_at=LATER)
    ledger.mark_out_of_reach(Missing(hours(0, 6), "gone", "an export"))
    assert rows() == [(State.OUT_OF_REACH, hours(0, 6)), (State.GAP, hours(6, 10))]


def test_a_gap_is_missing_again_once_its_time_has_come(ledger: Ledger) -> None:
    ledger.mark_gap(Missing(hours(2, 4), "down"), retry_at=START + timedelta(hours=20))
    assert ledger.missing(hours(0, 6), now=START) == [hours(0, 2), hours(4, 6)]
    assert ledger.missing(hours(0, 6), now=START + timedelta(hours=20)) == [hours(0, 6)]


def test_a_clock_set_right_takes_back_what_was_claimed_of_the_future(ledger: Ledger) -> None:
    ledger.cover(hours(0, 10))
    ledger.forget_after(START + timedelta(hours=4))
    assert rows() == [(State.COVERED, hours(0, 4))]


def test_streams_and_accounts_keep_their_own_ledgers(ledger: Ledger) -> None:
    ledger.cover(hours(0, 5))
    assert Ledger(ledger.credential, "twap").missing(hours(0, 5), now=START) == [hours(0, 5)]


spans = st.tuples(st.integers(0, 40), st.integers(1, 12)).map(lambda pair: hours(pair[0], pair[0] + pair[1]))
deeds = st.lists(st.tuples(st.sampled_from(["cover", "gap", "gone"]), spans), max_size=12)


@pytest.mark.django_db
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deeds=deeds)
def test_whatever_is_done_the_ledger_agrees_with_a_drawing_of_it_hour_by_hour(deeds: list[tuple[str, Window]]) -> None:
    Coverage.objects.all().delete()
    ledger = Ledger(factories.credential(owner=_somebody()), "fills")
    drawing: dict[int, str] = {}
    for deed, window in deeds:
        touched = range(_hour(window.since), _hour(window.until))
        if deed == "cover":
            ledger.cover(window)
            drawing |= dict.fromkeys(touched, State.COVERED)
        else:
            state = State.GAP if deed == "gap" else State.OUT_OF_REACH
            missing = Missing(window, "why")
            ledger.mark_gap(missing, retry_at=LATER) if deed == "gap" else ledger.mark_out_of_reach(missing)
            drawing |= {hour: state for hour in touched if drawing.get(hour) != State.COVERED}
    found: dict[int, str] = {}
    covered: list[Window] = []
    for state, window in rows():
        for hour in range(_hour(window.since), _hour(window.until)):
            assert hour not in found, "ranges overlap"
            found[hour] = state
        if state == State.COVERED:
            covered.append(window)
    assert found == drawing
    assert all(first.until < second.since for first, second in pairwise(covered)), "not merged"
    ledger.credential.delete()


def _hour(moment: datetime) -> int:
    return int((moment - START).total_seconds() // 3600)


def _somebody() -> Any:
    from django.contrib.auth import get_user_model

    return get_user_model().objects.first() or factories.user()


def test_subtracting_leaves_what_nobody_took() -> None:
    assert subtract(hours(0, 10), [hours(8, 20), hours(2, 3), hours(3, 5)]) == [hours(0, 2), hours(5, 8)]
    assert subtract(hours(0, 10), []) == [hours(0, 10)]
    assert subtract(hours(0, 10), [hours(0, 10)]) == []
