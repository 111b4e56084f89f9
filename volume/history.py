"""Volume over time: what the chart, the calendar and the tables of a page show, all of one scope."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cached_property
from itertools import accumulate
from operator import itemgetter
from typing import Any
from urllib.parse import quote, urlencode

from django.db.models import Sum
from django.urls import reverse

from exchanges.fields import plain
from exchanges.models import ExchangeCredential
from exchanges.venues.base import EXACT, Window
from volume import queries
from volume.completeness import shortened
from volume.periods import following, start_of
from volume.queries import USD_COLUMNS, without_price
from volume.rollup import Totals, totals_of_periods
from volume.scope import RANGES, Scope

MOST_STACKS = 10
MOST_MARKETS = 50  # rows of a page's table, as long as nobody asks for all
DRAWN = ("notional_usd", "maker_usd", "taker_usd", "fees_usd", "forced_usd")  # by the chart
STACKED = {"venue": ("venue",), "market": ("venue", "market"), "account": ("credential",)}
SHOWN = ("notional_usd", "maker_usd", "fees_usd", "forced_usd")  # by the table of markets
LOST = {"lost": Sum("fills_not_priced")}
ZERO = Decimal(0)
Row = dict[str, Any]


class History:
    """One scope's volume, read once and shaped for each part of the page."""

    def __init__(self, scope: Scope, *, now: datetime) -> None:
        self.scope, self.now = scope, now
        self.completeness, self.books = scope.standing.completeness, scope.standing.books
        self.names = {account.pk: account for account in scope.accounts}
        self.periods = scope.periods
        self.left_out = 0  # markets that are not among the largest

    def series(self) -> Row:
        """The chart: one entry per period in every list; amounts are text."""
        scope, periods = self.scope, self.periods
        stacks: dict[tuple[Any, ...], list[Decimal]] = defaultdict(lambda: [ZERO] * len(periods))
        sums = {column: [ZERO] * len(periods) for column in DRAWN}
        fills, not_priced = [0] * len(periods), [0] * len(periods)
        for row in self._rows_by_period():
            at = self._places[row["day"]]
            for column, amounts in sums.items():
                amounts[at] += row[column]
            fills[at] += row["fills"]
            not_priced[at] += row["not_priced"]
        for day, key, usd in self._stacked():
            stacks[key][self._places[day]] += usd
        verdicts = self._verdicts(not_priced)
        total, *others = sums.values()
        return {
            "granularity": scope.step,
            "by": scope.by,
            "days": [day.isoformat() for day in periods],
            "stacks": self._stacks(stacks, total),
            "total_usd": _plain(total),
            **{column: _plain(amounts) for column, amounts in zip(DRAWN[1:], others, strict=True)},
            "fills": fills,
            "cumulative_usd": _plain(accumulate(total)),
            "complete": [state == "complete" for state, _ in verdicts],
            "state": [state for state, _ in verdicts],
            "why": [why for _, why in verdicts],
            "next": self._next_down(),
        }

    def markets(self, *, whole: bool = False, most: int | None = None) -> list[Row]:
        """The table by venue and market, sorted as the scope says: its first `most` rows, or all. Amounts are Decimals:
        of the columns the page has, or the whole of them."""
        if self.scope.is_local:
            found = list(_grouped(self._local_by_period, ("venue", "market")))
        else:
            found = [dict(row) for row in (self._sums_by_market() if whole else self._shown_by_market)]
        whole_usd = sum((row["notional_usd"] for row in found), ZERO)
        names = {account.venue: account.venue_name for account in self.scope.accounts}
        rows = self._judged(_sorted(found, self.scope.sort, names)[:most])
        return [row | _worked_out(row, whole_usd) | {"venue_name": names[row["venue"]]} for row in rows]

    @property
    def market_count(self) -> int:
        """How many rows the table by venue and market has in all."""
        rows = self._local_by_period if self.scope.is_local else self._shown_by_market
        return len({(row["venue"], row["market"]) for row in rows})

    def kinds(self) -> list[Row]:
        """Volume by kind of fill; nothing for days that are not UTC, of which it is not kept."""
        return [] if self.scope.is_local else queries.kinds(self.scope.filter, self.books)

    # --- Rows --------------------------------------------------------------------------------------------------------

    def _rows_by_period(self) -> list[Row]:
        """Rows of sums by period."""
        if self.scope.is_local:
            return [row | {"day": self.periods[row["place"]]} for row in self._local_by_period]
        step = self.scope.step
        return queries.sums(self.scope.filter, self.books, by=("day",), granularity=step, usd=DRAWN, with_qty=False)

    def _stacked(self) -> Iterator[tuple[date, tuple[Any, ...], Decimal]]:
        """What is drawn in colours: (period, values of STACKED, volume)."""
        scope, keys = self.scope, STACKED[self.scope.by]
        if scope.is_local:
            for row in self._local_by_period:
                yield self.periods[row["place"]], tuple(row[key] for key in keys), row["notional_usd"]
            return
        wanted, shown = scope.filter, None
        if scope.by == "market":
            shown = self._largest_markets()
            wanted = replace(wanted, markets=tuple({market for _, market in shown}))
        if shown == set():
            return
        by = ("day", *keys)
        for at, usd in queries.amounts(wanted, self.books, by=by, granularity=scope.step).items():
            if shown is None or at[1:] in shown:
                yield at[0], at[1:], usd

    def _largest_markets(self) -> set[tuple[str, str]]:
        """Those that are stacked, where markets are."""
        whole = {(row["venue"], row["market"]): row["notional_usd"] for row in self._shown_by_market}
        largest = sorted(whole, key=lambda key: whole[key], reverse=True)[:MOST_STACKS]
        self.left_out = len(whole) - len(largest)
        return set(largest)

    @cached_property
    def _shown_by_market(self) -> list[Row]:
        return self._sums_by_market(usd=SHOWN, with_qty=False)

    def _sums_by_market(self, **columns: Any) -> list[Row]:
        return queries.sums(self.scope.filter, self.books, by=("venue", "market"), **columns)

    def _judged(self, rows: list[Row]) -> list[Row]:
        """Rows by venue and market with what they lack."""
        scope = self.scope
        if not scope.is_local:
            return queries.judged(rows, scope.filter, scope.standing, by=("venue", "market"), fees_apart=True)
        whole = scope.whole(now=self.now)
        for row in rows:
            verdict = self.completeness.of(
                whole, self._accounts_at(row["venue"]), unpriced=not_priced_words(row["not_priced"])
            )
            row |= {"complete": verdict.complete, "stale": verdict.stale, "why": list(verdict.why)}
            row |= {"fees_complete": not row["fees_lost"], "fills_not_priced": row["not_priced"]}
        return rows

    @cached_property
    def _local_by_period(self) -> list[Row]:
        return self._local_rows([self.scope.window(period, now=self.now) for period in self.periods])

    @cached_property
    def _places(self) -> dict[date, int]:
        """Which of the periods one is, by its first day."""
        return {period: place for place, period in enumerate(self.periods)}

    def _local_rows(self, windows: list[Window]) -> list[Row]:
        """Rows by account, market and `place` among the windows, added up from the fills themselves."""
        found = []
        for account in self.scope.accounts:
            for (place, symbol), totals in totals_of_periods(account, windows).items():
                if self.scope.market in ("", symbol):
                    found.append(self._row(account, symbol, totals) | {"place": place})
        return found

    def _row(self, account: ExchangeCredential, symbol: str, totals: Totals) -> Row:
        row = {column: getattr(totals, column) for column in USD_COLUMNS}
        row |= {"credential": account.pk, "venue": account.venue, "market": symbol, "fills": totals.fills}
        row |= {"base_qty": totals.base_qty, "forced_fills": totals.forced_fills}
        row |= {"not_priced": totals.fills_not_priced, "fees_lost": totals.fees_not_priced_fills}
        if account.pk in self.books.counting_forced:
            forced, maker, buy = totals.forced_usd, totals.forced_maker_usd, totals.forced_buy_usd
            more = {"notional": forced, "maker": maker, "taker": forced - maker, "buy": buy, "sell": forced - buy}
            row |= {f"{name}_usd": row[f"{name}_usd"] + amount for name, amount in more.items()}
            row["fills"] += totals.forced_fills
            row["base_qty"] = EXACT.add(row["base_qty"], totals.forced_qty)
        return row

    def _accounts_at(self, venue: str) -> list[int]:
        return [account.pk for account in self.scope.accounts if account.venue == venue]

    # --- Stacks ------------------------------------------------------------------------------------------------------

    def _stack_of(self, *at: Any) -> Row:
        """What names a stack, of the values of STACKED."""
        if self.scope.by == "account":
            account = self.names[at[0]]
            has_twin = sum(str(other) == str(account) for other in self.scope.accounts) > 1
            name = f"{account} …{account.account_ref[-4:] or account.pk}" if has_twin else str(account)
            return {"key": str(account.pk), "name": name, "venue": account.venue}
        venue = at[0]
        name = next(item.venue_name for item in self.scope.accounts if item.venue == venue)
        if self.scope.by == "market":
            return {"key": f"{venue}:{at[1]}", "name": f"{at[1]} at {name}", "venue": venue}
        return {"key": venue, "name": name, "venue": venue}

    def _stacks(self, found: Mapping[tuple[Any, ...], list[Decimal]], total: Sequence[Decimal]) -> list[Row]:
        """The largest first; what does not fit is one."""
        ordered = sorted(found.items(), key=lambda item: sum(item[1], ZERO), reverse=True)[:MOST_STACKS]
        shown = [self._stack_of(*at) | {"notional_usd": _plain(amounts)} for at, amounts in ordered]
        if others := self.left_out + len(found) - len(ordered):
            drawn = [sum(column, ZERO) for column in zip(*(amounts for _, amounts in ordered), strict=True)]
            rest = [plain(whole - part) for whole, part in zip(total, drawn, strict=True)]
            name = "1 other" if others == 1 else f"{others} others"
            shown.append({"key": "", "name": name, "venue": "", "notional_usd": rest})
        return shown

    def _verdicts(self, not_priced: Sequence[int]) -> list[tuple[str, list[str]]]:
        """Of each period, in a word and in sentences; `not_priced` are its fills without a price."""
        if not self.scope.accounts:
            return [("not_asked", ["There is no such account."])] * len(self.periods)
        scope = self.scope
        begins = [scope.start_of(max(period, scope.floor)) for period in self.periods]
        states = self.completeness.states([*begins, scope.whole(now=self.now).until])
        return [
            (
                "not_priced" if lost and state == "complete" else state,
                shortened([*why, *not_priced_words(lost)]),
            )
            for (state, why), lost in zip(states, not_priced, strict=True)
        ]

    def _next_down(self) -> list[str]:
        """Of each period, the address of the next step down: the day, or this period by days."""
        scope = self.scope
        narrowed = {name["name"]: name["value"] for name in scope.filters}
        if scope.is_local:
            narrowed |= {"days": "local", "tz": scope.tz}
        if scope.step == "day":
            before, after = reverse("volume:day", args=["{day}"]).split(quote("{day}"))
            query = f"?{urlencode(narrowed)}" if narrowed else ""
            return [f"{before}{period.isoformat()}{after}{query}" for period in self.periods]
        found = []
        for period in self.periods:
            last = min(following(period, scope.step) - timedelta(days=1), scope.last)
            query = urlencode({**narrowed, "from": period.isoformat(), "to": last.isoformat(), "by": scope.by})
            found.append(f"{reverse('volume:dashboard')}?{query}")
        return found


def calendar(history: History) -> Row:
    """Two years of UTC days, from a Monday on; None for days to come. Narrowed as the scope is."""
    scope, now = history.scope, history.now
    today = now.astimezone(UTC).date()
    first = today - timedelta(days=RANGES["2y"] - 1)
    first -= timedelta(days=first.weekday())
    wanted = replace(scope.filter, since=first, until=None)
    rows = queries.added(wanted, history.books, ("day",), "day", queries.volume_figures(history.books) | LOST)
    amounts = {day: (sum(usd, ZERO), lost) for (day,), (*usd, lost) in rows.items()}
    days = [first + timedelta(days=index) for index in range(7 * ((today - first).days // 7 + 1))]
    passed = days[: (today - first).days + 1]
    if scope.accounts:
        told = history.completeness.states([*map(start_of, passed), now])
        states = [
            "not_priced" if state == "complete" and amounts.get(day, (ZERO, 0))[1] else state
            for day, (state, _) in zip(passed, told, strict=True)
        ]
    else:
        states = ["not_asked"] * len(passed)
    to_come = len(days) - len(passed)
    narrowed = urlencode({chip["name"]: chip["value"] for chip in scope.filters})
    address = reverse("volume:day", args=["0000-00-00"]).replace("0000-00-00", "{day}")
    return {
        "first": first.isoformat(),
        "days": [*(plain(amounts.get(day, (ZERO, 0))[0]) for day in passed), *[None] * to_come],
        "state": [*states, *["complete"] * to_come],
        "url": f"{address}?{narrowed}" if narrowed else address,
    }


def not_priced_words(fills: int) -> list[str]:
    """The sentence on fills without a price, if there are any."""
    return [without_price(fills)] if fills else []


def _worked_out(row: Row, whole: Decimal) -> Row:
    usd = row["notional_usd"]
    rate = EXACT.divide(row["fees_usd"] * 10_000, usd) if usd and row["fees_complete"] else None
    return {
        "share": share_of(usd, whole),
        "average_usd": _average(usd, row["fills"] - row["fills_not_priced"]),
        "maker_share": share_of(row["maker_usd"], usd),
        "fee_rate": "" if rate is None else f"{rate.quantize(Decimal('0.01'), ROUND_HALF_EVEN):f} bp".replace("-", "−"),
    }


def _average(usd: Decimal, priced: int) -> Decimal:
    return (usd / priced).quantize(Decimal("0.01"), ROUND_HALF_EVEN) if priced > 0 else ZERO


def share_of(part: Decimal, whole: Decimal) -> str:
    """A part of a whole in per cent with one decimal; nothing where there is no whole."""
    if not whole:
        return ""
    percent = EXACT.divide(part * 100, whole)
    if 0 < percent < Decimal("0.1"):
        return "<0.1%"
    return f"{percent.quantize(Decimal('0.1'), ROUND_HALF_EVEN, EXACT):f}%"


SORTS: dict[str, Any] = {
    "market": lambda row: row["market"].lower(),
    "maker_share": lambda row: row["maker_usd"] / row["notional_usd"] if row["notional_usd"] else ZERO,
    "fee_rate": lambda row: row["fees_usd"] / row["notional_usd"] if row["notional_usd"] else ZERO,
    "average_usd": lambda row: _average(row["notional_usd"], row["fills"] - row["not_priced"]),
    "share": lambda row: row["notional_usd"],
} | {column: itemgetter(column) for column in ("notional_usd", "fills", "fees_usd", "forced_usd")}


def _sorted(rows: list[Row], sort: str, names: Mapping[str, str]) -> list[Row]:
    """`names` are those of the venues."""
    column = sort.removeprefix("-")
    sorts = SORTS | {"venue": lambda row: names[row["venue"]].lower()}
    key = sorts.get(column, SORTS["notional_usd"])
    rows.sort(key=SORTS["market"])
    rows.sort(key=key, reverse=sort.startswith("-") or column not in sorts)
    return rows


def _grouped(rows: Iterable[Row], keys: Sequence[str]) -> Iterable[Row]:
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        at = tuple(row[key] for key in keys)
        if at not in found:
            found[at] = dict(row)
            continue
        known = found[at]
        for column in (*USD_COLUMNS, "fills", "forced_fills", "not_priced", "fees_lost"):
            known[column] += row[column]
        known["base_qty"] = EXACT.add(known["base_qty"], row["base_qty"])
    return found.values()


def _plain(amounts: Iterable[Decimal]) -> list[str]:
    return [plain(amount) for amount in amounts]


def period_rows(series: Row) -> list[Row]:
    """The chart as rows: one per period, a column per stack."""
    rows = []
    for at, day in enumerate(series["days"]):
        row: Row = {"day": day, "total_usd": series["total_usd"][at]}
        row |= {stack["name"]: stack["notional_usd"][at] for stack in series["stacks"]}
        columns = ("maker_usd", "taker_usd", "fees_usd", "forced_usd", "cumulative_usd", "fills", "complete", "state")
        rows.append(row | {column: series[column][at] for column in columns})
    return rows


def total_row(rows: Iterable[Row]) -> Row:
    """Rows by market as one."""
    total: Row = dict.fromkeys(USD_COLUMNS, ZERO) | {"fills": 0, "forced_fills": 0, "fills_not_priced": 0}
    added = list(rows)
    for row in added:
        for column in total:
            total[column] += row[column]
    total["fees_complete"] = all(row["fees_complete"] for row in added)
    return total | {"maker_share": share_of(total["maker_usd"], total["notional_usd"])}


def by_venue(rows: Iterable[Row]) -> list[Row]:
    """Rows by market, added up by venue, largest first."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["venue"]].append(row)
    summed = [
        total_row(parts) | {"venue": venue, "venue_name": parts[0]["venue_name"]} for venue, parts in found.items()
    ]
    whole = sum((row["notional_usd"] for row in summed), ZERO)
    for row in summed:
        row["share"] = share_of(row["notional_usd"], whole)
    return sorted(summed, key=lambda row: row["notional_usd"], reverse=True)
