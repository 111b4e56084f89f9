"""Tables as files: CSV and JSON with exactly what a page shows."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.db.models import QuerySet
from django.http import Http404, HttpResponse

from exchanges.models import Fill
from volume.queries import as_strings

LEFT_OUT = ("url", "why")  # of the page, not of the table


def as_file(rows: Iterable[Mapping[str, Any]], form: str, name: str) -> HttpResponse:
    """The rows as `name`.csv or `name`.json. Amounts are plain decimals. Raises Http404 for another form."""
    shown = ({key: value for key, value in as_strings(dict(row)).items() if key not in LEFT_OUT} for row in rows)
    if form == "json":
        answer = HttpResponse(json.dumps(list(shown), indent=1), content_type="application/json")
    elif form == "csv":
        answer = HttpResponse(content_type="text/csv; charset=utf-8")
        _write_csv(answer, shown)
    else:
        raise Http404("There is CSV and JSON.")
    answer["Content-Disposition"] = f'attachment; filename="{name}.{form}"'
    answer["Cache-Control"] = "no-store"
    return answer


def _write_csv(answer: HttpResponse, rows: Iterable[Mapping[str, Any]]) -> None:
    writer = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(answer, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow({key: _cell(value) for key, value in row.items()})


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    # A spreadsheet would run a name that begins so.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "@", "\t", "\r") else value


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
