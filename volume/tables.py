"""Tables as files: CSV and JSON with what a page shows, and all rows of it."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from itertools import islice
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.db.models import QuerySet
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from exchanges.models import Fill
from volume.export import FORMULA
from volume.queries import as_strings

AT_ONCE = 500  # rows written together
NUMBER = re.compile(r"-?\d+(\.\d+)?")

LEFT_OUT = ("url", "why", "place", "not_priced", "fees_lost")  # of the page, not of the table
# What a table without a row still says of itself.
HEADS = {
    "markets": ("venue", "market", "fills", "notional_usd", "share", "average_usd", "maker_share", "fees_usd"),
    "periods": ("day", "total_usd", "maker_usd", "taker_usd", "fees_usd", "forced_usd", "fills", "complete", "state"),
    "fills": ("executed_at", "venue", "account", "market", "side", "liquidity", "kind", "price", "qty", "notional"),
}


def as_file(rows: Iterable[Mapping[str, Any]], form: str, table: str, of: str) -> HttpResponseBase:
    """The rows of a table as CSV or JSON, fills as they are read. Amounts are plain decimals. Raises Http404 for
    another form."""
    if form not in ("csv", "json"):
        raise Http404("There is CSV and JSON.")
    shown = ({key: value for key, value in as_strings(dict(row)).items() if key not in LEFT_OUT} for row in rows)
    pieces = _as_json(shown) if form == "json" else _as_csv(shown, HEADS[table])
    kind = "application/json" if form == "json" else "text/csv; charset=utf-8"
    answer: HttpResponseBase
    if table == "fills":
        answer = StreamingHttpResponse(Awaited(pieces), content_type=kind)
    else:
        answer = HttpResponse(b"".join(pieces), content_type=kind)
    answer["Content-Disposition"] = f'attachment; filename="perpdash-{table}-{of}.{form}"'
    answer["Cache-Control"] = "no-store"
    return answer


def _as_csv(rows: Iterable[Mapping[str, Any]], heads: Sequence[str]) -> Iterator[bytes]:
    made = StringIO()
    writer = csv.writer(made, lineterminator="\n")
    is_empty = True
    for chunk in _chunks(rows):
        if is_empty:
            writer.writerow(map(_cell, chunk[0]))
        writer.writerows(map(_cell, row.values()) for row in chunk)
        yield made.getvalue().encode()
        made.seek(0)
        made.truncate()
        is_empty = False
    if is_empty:
        yield f"{','.join(heads)}\n".encode()


def _as_json(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    is_empty = True
    for chunk in _chunks(rows):
        written = json.dumps(chunk, indent=1)
        yield f"{'[' if is_empty else ','}{written[1:-2]}".encode()
        is_empty = False
    yield b"[]" if is_empty else b"\n]"


def _chunks(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    left = iter(rows)
    while chunk := list(islice(left, AT_ONCE)):
        yield chunk


class Awaited:
    """A generator's pieces for a server that awaits them. Given the generator itself, it would take all at once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> "Awaited":
        return self

    async def __anext__(self) -> bytes:
        if piece := await sync_to_async(self._next)():
            return piece
        raise StopAsyncIteration

    def _next(self) -> bytes:
        return next(self._pieces, b"")

    def close(self) -> None:
        """Called in the thread that made the pieces, also when nobody waits for the rest."""
        cast(Any, self._pieces).close()


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
