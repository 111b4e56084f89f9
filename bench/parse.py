"""Parse: from the bytes of a venue's answer to fill reports, on one core.

Beside ccxt's `parse_trades` of the same rows, decoded for it already, and beside the least there is to do: decoding the
JSON. The answers are whole pages of fills of perpetuals, row by row as the sandbox sent them.
"""

import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import ccxt
import httpx
import msgspec

from bench.report import Measurement, at_least, at_most, say, tell
from bench.venues import ADD, NAMES, UNFORGETTING
from exchanges.sandbox import SANDBOXES
from exchanges.venues import VENUES, bybit, paradex, woox
from exchanges.venues.base import FillReport, Row, Window, to_ms
from exchanges.venues.http import Budget, HttpVenue

FILLS = {"small": 2_000, "full": 20_000}
ROUNDS = {"small": 9, "full": 25}
FILLS_PER_DAY = 500
DONE = httpx.Response(200, request=httpx.Request("GET", "https://venue.example/fills"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a venue answers with: how it is read, and how it is made of rows."""

    length: int  # rows of the longest
    opened_as: Any  # what the connector decodes an answer as, once it is out of its envelope
    raws: Callable[[Any], list[msgspec.Raw]]  # of what was opened
    parse: Callable[[Any, list[msgspec.Raw]], Sequence[Row]]  # by a connector
    envelope: Callable[[Sequence[msgspec.Raw]], Any]
    rows: Callable[[Any], list[Any]]  # of plain JSON
    ccxt: str  # the venue's name there


def _parse_woox(venue: Any, raws: list[msgspec.Raw]) -> list[Row]:
    entries, placeless = woox.entries_of(raws, is_old=False)
    return [*placeless, *(entry.row for entry in entries)]


ANSWERS = {
    "bybit": Answer(
        length=bybit.PAGE,
        opened_as=bybit.Fills,
        raws=lambda opened: opened.list,
        parse=lambda venue, raws: venue.parse_rows("linear", raws),
        envelope=lambda rows: {"retCode": 0, "retMsg": "OK", "result": {"nextPageCursor": "", "list": rows}},
        rows=lambda answer: answer["result"]["list"],
        ccxt="bybit",
    ),
    "hyperliquid": Answer(
        length=2000,
        opened_as=list[msgspec.Raw],
        raws=lambda opened: opened,
        parse=lambda venue, raws: venue.parse_rows("fills", raws),
        envelope=lambda rows: rows,
        rows=lambda answer: answer,
        ccxt="hyperliquid",
    ),
    "paradex": Answer(
        length=paradex.PAGE,
        opened_as=paradex.Results,
        raws=lambda opened: opened.results,
        parse=lambda venue, raws: venue.parse_rows("fills", raws),
        envelope=lambda rows: {"next": "", "prev": "", "results": rows},
        rows=lambda answer: answer["results"],
        ccxt="paradex",
    ),
    "woox": Answer(
        length=woox.PAGE,
        opened_as=woox.Fills,
        raws=lambda opened: opened.rows,
        parse=_parse_woox,
        envelope=lambda rows: {"success": True, "data": {"meta": {"total": len(rows)}, "rows": rows}},
        rows=lambda answer: answer["data"]["rows"],
        ccxt="woo",
    ),
}


def main() -> None:
    size = sys.argv[1]
    for slug in VENUES:
        say(f"{NAMES[slug]} ...")
        measure(slug, fills=FILLS[size], rounds=ROUNDS[size])


def measure(slug: str, *, fills: int, rounds: int) -> None:
    answer, (venue, raws) = ANSWERS[slug], drawn(slug, fills=fills)
    parts = [raws[start : start + answer.length] for start in range(0, fills, answer.length)]
    pages = [msgspec.json.encode(answer.envelope(part)) for part in parts]
    decoded = [answer.rows(json.loads(page)) for page in pages]

    def read(page: bytes) -> Sequence[Row]:
        return answer.parse(venue, raws_of(venue, answer, page))

    reports = [row for page in pages for row in read(page) if isinstance(row, FillReport)]
    if len(reports) < fills:
        sys.exit(f"{NAMES[slug]}: only {len(reports):,} of {fills:,} fills were read.")
    theirs = theirs_for(answer.ccxt, reports)
    trades = [trade for rows in decoded for trade in theirs.parse_trades(rows)]
    ours, floor, plain, parsed, both = fastest(
        [
            lambda: each(read, pages),
            lambda: each(msgspec.json.decode, pages),
            lambda: each(json.loads, pages),
            lambda: each(theirs.parse_trades, decoded),
            lambda: each(lambda page: theirs.parse_trades(answer.rows(json.loads(page))), pages),
        ],
        rounds=rounds,
    )

    def beside(what: str, seconds: float, ratio: float, **more: Any) -> None:
        measured: dict[str, Any] = {
            "value": fills / ours,
            "unit": "fills/s",
            "beside": what,
            "beside_value": fills / seconds,
        }
        tell(Measurement(section="parse", what=NAMES[slug], **measured, ratio=ratio, **more))

    note = difference(reports, trades)
    beside("ccxt parse_trades", parsed, parsed / ours, **at_least(parsed / ours, 8), note=note)
    beside("json.loads and ccxt parse_trades", both, both / ours)
    beside("the JSON alone, msgspec", floor, ours / floor, **at_most(ours / floor, 3), note="times as long")
    beside("the JSON alone, json.loads", plain, ours / plain, note="times as long")


def raws_of(venue: HttpVenue, answer: Answer, content: bytes) -> list[msgspec.Raw]:
    """The rows of an answer, as the door hands them to the connector."""
    content.decode()
    opened = venue.open_answer(DONE, content)
    return answer.raws(msgspec.json.decode(opened, type=answer.opened_as))


def drawn(slug: str, *, fills: int) -> tuple[HttpVenue, list[msgspec.Raw]]:
    """A connector, and the rows of so many fills of perpetuals, newest pages first, each as the sandbox sent it."""
    answer, now = ANSWERS[slug], datetime.now(UTC)
    length = timedelta(days=3 * fills / FILLS_PER_DAY + 14)
    kind = SANDBOXES[slug]
    sandbox: Any = kind(**{"opened_at": now - length, **UNFORGETTING.get(slug, {}), **kind.unmetered})
    sent: list[bytes] = []

    def transport(request: httpx.Request) -> httpx.Response:
        response: httpx.Response = sandbox(request)
        sent.append(response.content)
        return response

    known: Any = VENUES[slug]
    credentials = known.credentials_type.parse(ADD[slug](sandbox, 0, FILLS_PER_DAY))
    unlimited = Budget(share=1e9)
    venue: HttpVenue = known(credentials, transport=httpx.MockTransport(transport), budget=unlimited)
    found: dict[str, msgspec.Raw] = {}
    until = now
    while len(found) < fills and until > now - length:
        window = Window(until - timedelta(days=7), until)
        for _ in venue.fetch_fills(known.streams[0], window):
            while sent:
                with suppress(msgspec.ValidationError):  # an answer to something else
                    for raw in raws_of(venue, answer, sent.pop()):
                        for row in answer.parse(venue, [raw]):
                            if isinstance(row, FillReport):
                                found[row.fill_id] = raw.copy()
        until = window.since
    return venue, list(found.values())[:fills]


def theirs_for(name: str, reports: Iterable[FillReport]) -> Any:
    """An exchange of ccxt that knows the markets of these fills, without asking anybody."""
    exchange = getattr(ccxt, name)()
    markets = {}
    for symbol, base, quote in {(report.symbol, report.base, report.quote) for report in reports}:
        code = symbol.replace(":", "-") if name == "hyperliquid" else base
        if ":" in symbol:  # as ccxt notes the markets of builders when it loads them
            exchange.options.setdefault("hip3TokensByName", {})[symbol] = {"quote": quote, "code": code}
        market = {
            "id": symbol, "symbol": f"{code}/{quote}:{quote}", "base": code, "quote": quote, "settle": quote,
            "type": "swap", "swap": True, "spot": False, "contract": True, "linear": True, "inverse": False,
            "contractSize": 1.0, "precision": {"price": 0.01, "amount": 0.001},
        }  # fmt: skip
        markets[market["symbol"]] = exchange.safe_market_structure(market)
    exchange.set_markets(markets)
    return exchange


def difference(reports: Sequence[FillReport], trades: Iterable[Any]) -> str:
    """How many fills ccxt tells otherwise; empty for none. Its numbers are floats."""
    ours = Counter((to_ms(fill.executed_at), float(fill.price), float(fill.qty), fill.side.value) for fill in reports)
    theirs = Counter((trade["timestamp"], trade["price"], trade["amount"], trade["side"]) for trade in trades)
    missing = (ours - theirs).total()
    return f"ccxt tells {missing:,} of {len(reports):,} fills otherwise" if missing else ""


def each(read: Callable[[Any], Any], pages: Iterable[Any]) -> None:
    """Page by page, as they come: what is read of one is let go before the next."""
    for page in pages:
        read(page)


def fastest(ways: Sequence[Callable[[], None]], *, rounds: int) -> list[float]:
    """The least processor time of each, in seconds. They take turns."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, taken in zip(ways, times, strict=True):
            gc.collect()
            started = time.process_time()
            way()
            taken.append(time.process_time() - started)
    return [min(taken) for taken in times]


if __name__ == "__main__":
    main()
