"""Tables as files: CSV and JSON with exactly what a page shows."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import Http404, HttpResponse

from exchanges.models import Fill
from volume.export import FORMULA
from volume.queries import as_strings

NUMBER = re.compile(r"-?\d+(\.\d+)?")

LEFT_OUT = ("url", "why", "place", "not_priced", "fees_lost")  # of the page, not of the table
# What a table without a row still says of itself.
HEADS = {
    "markets": ("venue", "market", "fills", "notional_usd", "share", "average_usd", "maker_share", "fees_usd"),
    "periods": ("day", "total_usd", "maker_usd", "taker_usd", "fees_usd", "forced_usd", "fills", "complete", "state"),
    "fills": ("executed_at", "venue", "account", "market", "side", "liquidity", "kind", "price", "qty", "notional"),
}


def as_file(rows: Iterable[Mapping[str, Any]], form: str, table: str, of: str) -> HttpResponse:
    """The rows of a table as CSV or JSON. Amounts are plain decimals. Raises Http404 for another form."""
    shown = ({key: value for key, value in as_strings(dict(row)).items() if key not in LEFT_OUT} for row in rows)
    if form == "json":
        answer = HttpResponse(json.dumps(list(shown), indent=1), content_type="application/json")
    elif form == "csv":
        answer = HttpResponse(content_type="text/csv; charset=utf-8")
        _write_csv(answer, shown, HEADS[table])
    else:
        raise Http404("There is CSV and JSON.")
    answer["Content-Disposition"] = f'attachment; filename="perpdash-{table}-{of}.{form}"'
    answer["Cache-Control"] = "no-store"
    return answer


def _write_csv(answer: HttpResponse, rows: Iterable[Mapping[str, Any]], heads: Sequence[str]) -> None:
    writer = None
    for row in rows:
        if writer is None:
            writer = csv.writer(answer, lineterminator="\n")
            writer.writerow(map(_cell, row))
        writer.writerow(map(_cell, row.values()))
    if writer is None:
        csv.writer(answer, lineterminator="\n").writerow(heads)


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    is_text = isinstance(value, str) and not NUMBER.fullmatch(value)
    return f"'{value}" if is_text and value.startswith(FORMULA) else value


def fill_rows(fills: QuerySet[Fill]) -> Iterator[dict[str, Any]]:
    """Fills with the columns the page shows, and their identity at the venue."""
    for fill in fills.iterator(2000):
        yield {
            "executed_at": fill.executed_at.isoformat(),
            "venue": fill.credential.venue,
            "account": fill.credential.label,
            "market": fill.symbol,
            "side": fill.side,
            "liquidity": fill.liquidity,
            "kind": fill.kind,
            "price": fill.price,
            "qty": fill.qty,
            "notional": fill.notional,
            "quote": fill.quote,
            "fee": fill.fee,
            "fee_asset": fill.fee_asset,
            "fill_id": fill.fill_id,
        }
