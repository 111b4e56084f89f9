"""Rows of volume and kinds, as page, API and command line show them. Every query starts from the owner."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from functools import cache, cached_property
from typing import Any

from django.db.models import CharField, Count, F, Q, Sum, Value
from django.db.models.functions import Cast, Concat, Trunc

from exchanges.fields import DecimalSum, UsdSum, plain
from exchanges.models import ExchangeCredential
from exchanges.venues.base import EXACT, FORCED, Kind, Window
from volume import periods
from volume.completeness import Completeness, Verdict
from volume.kept import Sums, kept
from volume.models import DailyVolume, Preferences
from volume.periods import Books, Rows, Sources, following, start_of

KEYS = ("day", "venue", "market", "credential")
GRANULARITIES = ("day", "week", "month")
USD_COLUMNS = ("notional_usd", "maker_usd", "taker_usd", "buy_usd", "sell_usd", "forced_usd", "fees_usd")
COLUMNS = (
    "fills", "base_qty", "notional_usd", "maker_usd", "taker_usd", "buy_usd", "sell_usd", "forced_fills", "forced_usd",
    "fees_usd", "complete",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which of an owner's volume is meant. Days are UTC; `until` is exclusive; None is no bound."""

    owner_id: int | None = None  # None means everybody's: for the command line alone
    since: date | None = None
    until: date | None = None
    venues: tuple[str, ...] = ()
    markets: tuple[str, ...] = ()
    credentials: tuple[int, ...] = field(default=())

    def accounts(self) -> list[ExchangeCredential]:
        """Read anew with each call, without the secrets, which nothing that is shown needs."""
        found = ExchangeCredential.objects.defer("secrets")
        if self.owner_id is not None:
            found = found.filter(owner_id=self.owner_id)
        if self.venues:
            found = found.filter(venue__in=self.venues)
        if self.credentials:
            found = found.filter(pk__in=self.credentials)
        return list(found)

    def means(self, account: ExchangeCredential) -> bool:
        """Whether it would be among `accounts`."""
        return (
            self.owner_id in (None, account.owner_id)
            and (not self.venues or account.venue in self.venues)
            and (not self.credentials or account.pk in self.credentials)
        )


class Standing:
    """Accounts, how they are counted and what they lack: each is read once, when it is first looked at."""

    def __init__(self, wanted: Filter, *, now: datetime) -> None:
        self.wanted, self.now = wanted, now

    @cached_property
    def accounts(self) -> list[ExchangeCredential]:
        return self.wanted.accounts()

    @cached_property
    def preferences(self) -> dict[int, Preferences]:
        """By owner."""
        owner = [] if self.wanted.owner_id is None else [self.wanted.owner_id]
        return Preferences.of_all({*owner, *(account.owner_id for account in self.accounts)})

    @cached_property
    def completeness(self) -> Completeness:
        return Completeness(self.accounts, now=self.now, preferences=self.preferences)

    @cached_property
    def books(self) -> Books:
        # What is lacking is read before any figure: these may then be newer than what is said of them, never older.
        return Books.of([*self.completeness.credentials.values()], self.preferences)

    def narrowed(self, wanted: Filter) -> "Standing":
        """Of those accounts alone that are meant, which are some of these."""
        found = Standing(wanted, now=self.now)
        found.accounts = [account for account in self.accounts if wanted.means(account)]
        found.preferences = self.preferences
        return self if found.accounts == self.accounts else found


def volume(
    wanted: Filter, *, by: Sequence[str] = ("day",), granularity: str = "day", fees_apart: bool = False, now: datetime
) -> list[dict[str, Any]]:
    """One row per combination of the keys `by`, in their order: the keys, then COLUMNS. Amounts are Decimals.

    `base_qty` is None unless rows are per market: sizes of different coins do not add up. Forced fills are in the
    volume of the accounts whose owners count them. `why` says what an incomplete row lacks. With `fees_apart` that is
    said of the volume alone, and `fees_complete` of the fees.
    """
    standing = Standing(wanted, now=now)
    rows = sums(wanted, standing.books, by=by, granularity=granularity)
    return judged(rows, wanted, standing, by=by, granularity=granularity, fees_apart=fees_apart)


class VolumeRows(Sequence[dict[str, Any]]):
    """The rows of `volume`, of which only those that are asked for are summed up and shaped: where the first key is the
    day they are very many, and those of other days are only counted."""

    def __init__(self, wanted: Filter, *, by: Sequence[str], granularity: str = "day", now: datetime) -> None:
        self.wanted, self.by, self.granularity = wanted, by, granularity
        self.standing = Standing(wanted, now=now)
        self.books = self.standing.books

    def __len__(self) -> int:
        return sum(self._per_period.values()) if self._is_counted else len(self._all)

    def __getitem__(self, at: Any) -> Any:  # a slice gives a list
        if not isinstance(at, slice):
            return self[at : at + 1][0]
        start, stop, _ = at.indices(len(self))
        rows = self._of_periods(start, stop) if self._is_counted else self._all[start:stop]
        return judged(rows, self.wanted, self.standing, by=self.by, granularity=self.granularity)

    @property
    def _is_counted(self) -> bool:
        return "day" in self.by[:1]

    @cached_property
    def _all(self) -> list[dict[str, Any]]:
        return sums(self.wanted, self.books, by=self.by, granularity=self.granularity)

    @cached_property
    def _per_period(self) -> dict[date, int]:
        """How many rows each period has, oldest first."""
        if "market" not in self.by:
            few = added(self.wanted, self.books, self.by, self.granularity, {})
            return dict(sorted(Counter(period for period, *_ in few).items()))
        names = {"venue": F("credential__venue"), "credential": Cast("credential", CharField()), "market": F("symbol")}
        told = [part for key in self.by[1:] for part in (names[key], Value(" "))]
        days = DailyVolume.objects.filter(credential__in=[account.pk for account in self.books.accounts])
        if self.wanted.since:
            days = days.filter(day__gte=self.wanted.since)
        if self.wanted.until:
            days = days.filter(day__lt=self.wanted.until)
        if self.wanted.markets:
            days = days.filter(symbol__in=self.wanted.markets)
        by_day: Any = days.order_by().values_list(*_keys(("day",), self.granularity).values())
        return dict(sorted(by_day.annotate(rows=Count(Concat(*told), distinct=True))))

    def _of_periods(self, start: int, stop: int) -> list[dict[str, Any]]:
        """The rows from start to stop, by summing up no more than the periods they are in."""
        before, shown = 0, []
        for period, rows in self._per_period.items():
            if before + rows > start and before < stop:
                shown.append((period, before))
            before += rows
        if not shown or start >= stop:
            return []
        (first, skipped), (last, _) = shown[0], shown[-1]
        since, until = max(first, self.wanted.since or first), following(last, self.granularity)
        narrowed = replace(self.wanted, since=since, until=min(until, self.wanted.until or until))
        rows_of = sums(narrowed, self.books, by=self.by, granularity=self.granularity)
        return rows_of[start - skipped : stop - skipped]


def judged(
    rows: Sequence[dict[str, Any]], wanted: Filter, standing: Standing, *, by: Sequence[str],
    granularity: str = "day", fees_apart: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of `sums` as rows of `volume`: with what each lacks."""
    accounts, books, completeness = standing.accounts, standing.books, standing.completeness
    lost = any(row["not_priced"] or row["fees_lost"] for row in rows)
    unpriced = _unpriced(wanted, books, by, granularity, fees_apart=fees_apart) if lost else {}
    shaped = []

    @cache  # a row of each market is not judged anew
    def judge(day: date | None, venue: str | None, credential: int | None, *without: str) -> Verdict:
        window = _window_of(day, granularity, wanted, accounts, completeness.now)
        is_all = "day" not in by and wanted.since is None
        return completeness.of(window, _accounts_of(venue, credential, accounts), unpriced=without, is_all=is_all)

    for found in rows:
        row = dict(found)
        without = unpriced.get(tuple(row[key] for key in by), ())
        verdict = judge(row.get("day"), row.get("venue"), row.get("credential"), *without)
        fees_lost = row.pop("fees_lost")
        row["fills_not_priced"] = row.pop("not_priced")
        row |= {"complete": verdict.complete, "stale": verdict.stale, "why": list(verdict.why)}
        shaped.append(row | {"fees_complete": not fees_lost} if fees_apart else row)
    return shaped


def sums(
    wanted: Filter, books: Books, *, by: Sequence[str], granularity: str = "day",
    usd: Sequence[str] = USD_COLUMNS, with_qty: bool = True,
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of `volume` without a word on what they lack, but with how many fills (`not_priced`, `fees_lost`) are
    not priced. Of the dollars only the columns `usd`, if not all of them are wanted."""
    has_qty = with_qty and "market" in by
    figures: dict[str, Any] = {"base_qty": DecimalSum("base_qty")} if has_qty else {}
    figures |= {
        "fills": Sum("fills"),
        "forced_fills": Sum("forced_fills"),
        **{column: UsdSum(column) for column in usd},
    }
    figures |= {"not_priced": Sum("fills_not_priced"), "fees_lost": Sum("fees_not_priced_fills")}
    if books.counting_forced:
        counted = Q(credential__in=books.counting_forced)
        figures |= {
            "in_fills": Sum("forced_fills", filter=counted),
            "in_usd": UsdSum("forced_usd", filter=counted),
            "in_maker": UsdSum("forced_maker_usd", filter=counted),
            "in_buy": UsdSum("forced_buy_usd", filter=counted),
        }
        if has_qty:
            figures["in_qty"] = DecimalSum("forced_qty", filter=counted)
    # No annotation may have the name of a column of the days.
    found = added(wanted, books, by, granularity, {f"sum_{name}": figure for name, figure in figures.items()})
    names, qty = (*by, *([] if has_qty else ["base_qty"]), *figures), () if has_qty else (None,)
    rows = [dict(zip(names, (*at, *qty, *found[at]), strict=True)) for at in sorted(found)]
    if books.counting_forced:
        for row in rows:
            _count_forced_in(row)
    return rows


def amounts(
    wanted: Filter, books: Books, *, by: Sequence[str], granularity: str = "day"
) -> dict[tuple[Any, ...], Decimal]:
    """The volume alone, by the values of the keys: where many rows are wanted and nothing else of them."""
    found = added(wanted, books, by, granularity, volume_figures(books))
    return {at: parts[0] if len(parts) == 1 else sum(parts, Decimal(0)) for at, parts in found.items()}


def volume_figures(books: Books) -> dict[str, Any]:
    """What together is the volume."""
    figures: dict[str, Any] = {"usd": UsdSum("notional_usd")}
    if books.counting_forced:
        figures["forced"] = UsdSum("forced_usd", filter=Q(credential__in=books.counting_forced))
    return figures


def added(wanted: Filter, books: Books, by: Sequence[str], granularity: str, figures: Mapping[str, Any]) -> Sums:
    """By the values of the keys, what the figures come to."""
    keys = _keys(by, granularity) or _keys(("credential",), granularity)
    sources = _sources(wanted, books, by, granularity)

    def sums(of: Sequence[Rows]) -> Sums:
        asked = [rows.values(**keys).annotate(**figures).values_list(*keys, *figures) for rows in of]
        return _added(books, by, asked)

    question = (wanted, tuple(by), granularity, repr(figures))
    whole = dict(kept(books, question, lambda: sums(sources.lasting())))
    for at, more in sums(sources.passing()).items():
        whole[at] = _plus(whole[at], more) if at in whole else more
    return whole


def _added(books: Books, by: Sequence[str], asked: Sequence[Rows]) -> Sums:
    venues = {account.pk: account.venue for account in books.accounts}
    venue_at = by.index("venue") if "venue" in by else None
    found: dict[tuple[Any, ...], list[Any]] = {}
    for rows in asked:
        for row in rows:
            at, more = row[: len(by)], [0 if value is None else value for value in row[max(len(by), 1) :]]
            if venue_at is not None:
                at = (*at[:venue_at], venues[at[venue_at]], *at[venue_at + 1 :])
            found[at] = _plus(found[at], more) if at in found else more
    return found


def _plus(some: Sequence[Any], more: Sequence[Any]) -> list[Any]:
    return [
        EXACT.add(one, two) if isinstance(one, Decimal) and isinstance(two, Decimal) else one + two
        for one, two in zip(some, more, strict=True)
    ]


def _keys(by: Sequence[str], granularity: str) -> dict[str, Any]:
    names = {
        "day": Trunc("day", granularity) if granularity != "day" else F("day"),
        "venue": F("credential_id"),  # of which the venue is known
        "market": F("symbol"),
        "credential": F("credential_id"),
    }
    return {f"by_{key}": names[key] for key in by}


def _count_forced_in(row: dict[str, Any]) -> None:
    usd, maker, buy = row.pop("in_usd"), row.pop("in_maker"), row.pop("in_buy")
    row["fills"] += row.pop("in_fills")
    more = {"notional": usd, "maker": maker, "taker": usd - maker, "buy": buy, "sell": usd - buy}
    for name, amount in more.items():
        if f"{name}_usd" in row:
            row[f"{name}_usd"] += amount
    if "in_qty" in row:
        row["base_qty"] = EXACT.add(row["base_qty"], row.pop("in_qty"))


def _sources(wanted: Filter, books: Books, by: Sequence[str] = (), granularity: str = "day") -> Sources:
    """Rows that come to what is wanted, by these keys."""
    return Sources(
        books, wanted.since, wanted.until, wanted.markets,
        by_market="market" in by, by_day=granularity if "day" in by else "",
    )  # fmt: skip


def _unpriced(
    wanted: Filter, books: Books, by: Sequence[str], granularity: str, *, fees_apart: bool
) -> dict[tuple[Any, ...], list[str]]:
    """By the values of the keys, sentences on what has no price in dollars, an account at a time."""
    fills: dict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
    fees: dict[tuple[Any, ...], dict[int, _Fees]] = defaultdict(lambda: defaultdict(_Fees))
    keys = _keys(by, granularity)
    lost = Q(fills_not_priced__gt=0) | Q(fees_not_priced_fills__gt=0)
    columns = ("credential_id", "fills_not_priced", "fees_not_priced_fills", "fees_not_priced")
    venues = {account.pk: account.venue for account in books.accounts}
    sources = _sources(wanted, books, by, granularity)
    for source in (*sources.lasting(), *sources.passing()):
        rows: Any = source.filter(lost).annotate(**keys).values(*keys, *columns)
        for row in rows:
            pk = row["credential_id"]
            at = tuple(venues[pk] if key == "venue" else row[f"by_{key}"] for key in by)
            fills[at][pk] += row["fills_not_priced"]
            if not fees_apart and row["fees_not_priced_fills"]:
                fees[at][pk].add(row["fees_not_priced_fills"], row["fees_not_priced"])
    said: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for account in books.accounts:
        for at, counts in fills.items():
            if count := counts[account.pk]:
                said[at].append(f"{account}: {without_price(count)}")
    for account in books.accounts:
        for at, by_account in fees.items():
            if account.pk in by_account:
                said[at].append(by_account[account.pk].words(str(account)))
    return said


def without_price(fills: int) -> str:
    """The sentence on so many fills without a price."""
    return f"{'1 fill is' if fills == 1 else f'{fills:,} fills are'} not priced in dollars and not counted."


@dataclass(slots=True)
class _Fees:
    """Fees of an account that have no price in dollars."""

    fills: int = 0
    amounts: dict[str, Decimal] = field(default_factory=dict)

    def add(self, fills: int, amounts: dict[str, str]) -> None:
        self.fills += fills
        for asset, amount in amounts.items():
            self.amounts[asset] = EXACT.add(self.amounts.get(asset, Decimal(0)), Decimal(amount))

    def words(self, account: str) -> str:
        amounts = ", ".join(f"{plain(amount)} {asset}" for asset, amount in sorted(self.amounts.items()))
        fills = "1 fill" if self.fills == 1 else f"{self.fills:,} fills"
        return f"{account}: the fees of {fills} ({amounts}) are not priced in dollars and not in the fees."


def kinds(wanted: Filter, books: Books | None = None) -> list[dict[str, Any]]:
    """Fills and dollars by kind, plain trades first; `counts` says whether they are in the volume."""
    books = books or Books.of(wanted.accounts())
    sources = _sources(wanted, books)
    found: dict[str, _Kind] = {kind: _Kind() for kind in Kind}
    lasting = kept(books, (wanted, "kinds"), lambda: _kinds(sources.lasting()))
    for (pk, kind), (count, usd, lost) in [*lasting.items(), *_kinds(sources.passing()).items()]:
        is_counted = kind not in FORCED or pk in books.counting_forced
        found[kind].add(count, usd, lost, is_counted=is_counted)
    figures = {"count": Sum("fills"), "usd": UsdSum("notional_usd"), "lost": Sum("fills_not_priced")}
    fills, whole, unpriced = added(wanted, books, (), "day", figures).get((), (0, Decimal(0), 0))
    others = [item for kind, item in found.items() if kind not in FORCED]
    found[Kind.TRADE].add(
        fills - sum(item.fills for item in others),
        whole - sum((item.usd for item in others), Decimal(0)),
        unpriced - sum(item.not_priced for item in found.values()),
        is_counted=True,
    )
    return [
        {
            "kind": kind,
            "label": KIND_WORDS[Kind(kind)],
            "fills": item.fills,
            "usd": plain(item.usd),
            "fills_not_priced": item.not_priced,
            "counts": item.counts,
        }
        for kind, item in found.items()
        if item.fills
    ]


def _kinds(sources: Sequence[Rows]) -> Sums:
    """By account and kind, but for plain trades: [fills, dollars, how many have no price]."""
    found: Sums = {}
    for source in sources:
        for pk, parts in source.exclude(kinds={}).values_list("credential_id", "kinds"):
            for kind, part in parts.items():
                more = [part["fills"], Decimal(part["usd"]), part["not_priced"]]
                found[pk, kind] = _plus(found[pk, kind], more) if (pk, kind) in found else more
    return found


KIND_WORDS = {
    Kind.TRADE: "order book",
    Kind.BLOCK: "block trades",
    Kind.SPREAD: "legs of spreads",
    Kind.RPI: "retail price improvement",
    Kind.TWAP: "TWAP orders",
    Kind.LIQUIDATION: "liquidations",
    Kind.ADL: "auto-deleveraging",
}


@dataclass(slots=True)
class _Kind:
    fills: int = 0
    usd: Decimal = Decimal(0)
    not_priced: int = 0
    counts: bool = True

    def add(self, fills: int, usd: Decimal, not_priced: int, *, is_counted: bool) -> None:
        self.fills += fills
        self.usd += usd
        self.not_priced += not_priced
        self.counts = is_counted


def as_strings(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `volume` for JSON: amounts as plain decimal text, days as ISO text."""
    shown = {}
    for key, value in row.items():
        if isinstance(value, Decimal):
            value = plain(value)
        elif isinstance(value, date):
            value = value.isoformat()
        shown[key] = value
    return shown


def markets(wanted: Filter, *, now: datetime) -> list[dict[str, Any]]:
    """Volume by venue and market, largest first."""
    rows = volume(wanted, by=("venue", "market"), fees_apart=True, now=now)
    return sorted(rows, key=lambda row: row["notional_usd"], reverse=True)


def _window_of(
    day: date | None, granularity: str, wanted: Filter, accounts: Sequence[ExchangeCredential], now: datetime
) -> Window:
    if day is not None:
        return Window(start_of(day), min(now, start_of(periods.following(day, granularity))))
    since = start_of(wanted.since) if wanted.since else min((item.history_from for item in accounts), default=now)
    return Window(since, min(now, start_of(wanted.until)) if wanted.until else now)


def _accounts_of(venue: str | None, credential: int | None, accounts: Sequence[ExchangeCredential]) -> list[int]:
    return [account.pk for account in accounts if venue in (None, account.venue) and credential in (None, account.pk)]
