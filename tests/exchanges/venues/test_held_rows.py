"""A row that is not understood stands alone: it is held as the venue wrote it, and those around it are fills."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from exchanges.sandbox.paradex import DEMO_TOKEN
from exchanges.venues import VENUES
from exchanges.venues.base import FillReport, Held, Window, from_ms
from exchanges.venues.http import Budget

PAYLOADS = Path(__file__).resolve().parents[2] / "payloads"
HALF_AN_HOUR = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A list of fills of a venue, and what in its rows perpdash cannot understand."""

    slug: str
    stream: int = 0
    secrets: dict[str, str]
    example: str  # the payload whose first row is a fill
    rows: Callable[[Any], list[dict[str, Any]]]  # of the payload
    answer: str  # with %s for the rows
    id: Callable[[int], dict[str, Any]]  # that of a row
    at: int  # ms
    of_another_form: dict[str, Any]
    of_another_kind: dict[str, Any]


KEY = {"api_key": "EXAMPLEKEY0000000Z", "api_secret": "example-secret-not-real-mine-00000099"}
CASES = [
    Case(
        slug="bybit",
        secrets=KEY,
        example="execution_list_linear",
        rows=lambda told: told["response"]["result"]["list"],
        answer='{"retCode": 0, "result": {"nextPageCursor": "", "list": [%s]}}',
        id=lambda number: {"execId": f"e-{number}"},
        at=1794993322601,
        of_another_form={"execQty": 0.250},
        of_another_kind={"execType": "PortfolioRebalance"},
    ),
    Case(
        slug="woox",
        secrets=KEY,
        example="transaction_history",
        rows=lambda told: told["data"]["rows"],
        answer='{"success": true, "data": {"meta": {"total": 3, "recordsPerPage": 100}, "rows": [%s]}}',
        id=lambda number: {"id": 2114380551 + number},
        at=1763599200114,
        of_another_form={"fee": None},
        of_another_kind={"side": "HOLD"},
    ),
    Case(
        slug="paradex",
        secrets={"token": DEMO_TOKEN},
        example="fills",
        rows=lambda told: told["response"]["results"],
        answer='{"results": [%s], "next": ""}',
        id=lambda number: {"id": f"{number}"},
        at=1763599200114,
        of_another_form={"price": "much"},
        of_another_kind={"fill_type": "AUCTION"},
    ),
    Case(
        slug="hyperliquid",
        secrets={"address": "0x" + "ab" * 20},
        example="user_fills_by_time",
        rows=lambda told: told["response"],
        answer="[%s]",
        id=lambda number: {"tid": 294513737315391 + number},
        at=1794951605330,
        of_another_form={"crossed": "yes"},
        of_another_kind={"dir": "Split Stock"},
    ),
    Case(
        slug="hyperliquid",
        stream=1,
        secrets={"address": "0x" + "ab" * 20},
        example="user_fills_by_time",
        rows=lambda told: [{"twapId": 7, "fill": row} for row in told["response"]],
        answer="[%s]",
        id=lambda number: {"fill": {"tid": 294513737315391 + number}},
        at=1794951605330,
        of_another_form={"fill": {"sz": "NaN"}},
        of_another_kind={"fill": {"dir": "Split Stock"}},
    ),
]


def changed(row: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return row | {name: row[name] | value if isinstance(value, dict) else value for name, value in changes.items()}


@pytest.mark.parametrize("breaking", ["of_another_form", "of_another_kind"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.slug}-{case.stream}")
def test_one_broken_row_of_a_page_is_held_byte_for_byte_and_alone(
    clock: SimpleNamespace, case: Case, breaking: str
) -> None:
    whole = case.rows(json.loads((PAYLOADS / case.slug / f"{case.example}.json").read_text()))[0]
    before, row, after = (changed(whole, case.id(number)) for number in range(3))
    broken = changed(row, getattr(case, breaking)) | {"aFieldNobodyKnows": {"ä": [1.50, 1e-7, '\\ \u2028 " /']}}
    text = json.dumps(broken, indent=3, ensure_ascii=False)
    content = case.answer % ",\n ".join((json.dumps(before), text, json.dumps(after)))
    venue: Any = VENUES[case.slug]
    with venue(
        venue.credentials_type.parse(case.secrets),
        transport=httpx.MockTransport(lambda request: httpx.Response(200, content=content.encode())),
        budget=Budget(share=1000),
        sleep=clock.move,
    ) as venue:
        window = Window(from_ms(case.at) - HALF_AN_HOUR, from_ms(case.at) + HALF_AN_HOUR)
        found = [row for page in venue.fetch_fills(venue.streams[case.stream], window) for row in page.rows]
        held = [row for row in found if isinstance(row, Held)]
        fills = [row for row in found if isinstance(row, FillReport)]
        assert [row.row.encode() for row in held] == [text.encode()]
        assert len(fills) == len({fill.fill_id for fill in fills}) == 2
        assert {row.executed_at for row in (*held, *fills)} <= {from_ms(case.at), None}
        again = venue.parse_held(venue.streams[case.stream].name, text)
        assert again == held[0]
