"""What a page has very many of, from rows of tables to squares of the calendar: written here piece by piece, which a
template takes ten times as long for.

What is not a number or a word of ours is escaped, as templates do it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, timedelta
from decimal import Decimal
from functools import cache, lru_cache
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

from django import template
from django.utils.safestring import SafeString, mark_safe

from exchanges.models import Fill
from volume.scope import Scope
from volume.templatetags.volume_format import STATES, aligned, dollars, periods, plain, shades, usd, utc_day

register = template.Library()

Row = Mapping[str, Any]
UNTABBED = ' tabindex="-1"'
FEES_LACK = "Fees in coins that have no price in dollars here are not in this sum."


def _joined(rows: Iterable[str]) -> SafeString:
    """Each of which is escaped where it has to be."""
    return mark_safe("".join(rows))  # noqa: S308  # nosec


@register.simple_tag(takes_context=True)
def market_rows(context: Mapping[str, Any], markets: Sequence[Row]) -> SafeString:
    """Of the table of markets. `url` of a row narrows the page to it."""
    query = context["request"].GET.copy()
    venues = {}
    for row in markets:
        if row["venue"] not in venues:
            query["venue"] = row["venue"]
            venues[row["venue"]] = escape(f"?{query.urlencode()}")
    return _joined(_market(row, venues[row["venue"]], f"{place}m") for place, row in enumerate(markets, 1))


def _market(row: Row, venue_url: str, key: str) -> str:
    venue, average, forced = escape(row["venue"]), row["average_usd"], row["forced_usd"]
    return (
        f'<tr><th scope="row"><a href="{escape(row["url"])}">{escape(row["market"])}</a></th>'
        f'<td data-venue="{venue}"><a href="{venue_url}">{escape(row["venue_name"])}</a></td>'
        f'<td class="number chief" data-label="Volume" title="{plain(row["notional_usd"])}">'
        f"{dollars(row['notional_usd'], row['fills_not_priced'])}</td>"
        f'<td class="number" data-label="Share">{escape(row["share"])}</td>'
        f'<td class="number" data-label="Fills">{row["fills"]:,}</td>'
        f'<td class="number" data-label="Average" title="{plain(average)}">{usd(average) if average else ""}</td>'
        f'<td class="number" data-label="Maker" title="{plain(row["maker_usd"])}">{escape(row["maker_share"])}</td>'
        f'<td class="number" data-label="Fees" title="{plain(row["fees_usd"])}">{_fees(row)}</td>'
        f'<td class="number" data-label="Fee rate">{row["fee_rate"]}</td>'
        f'<td class="number" data-label="Forced" title="{plain(forced)}">{usd(forced) if forced else ""}</td>'
        f'<td data-label="State">{_mark(row, key)}</td></tr>\n'
    )


def _fees(row: Row) -> str:
    fees: Decimal = row["fees_usd"]
    shown = usd(fees) if row["fees_complete"] or fees else ""
    if row["fees_complete"]:
        return shown
    return f'{shown}<abbr class="quiet" title="{FEES_LACK}">{"&thinsp;+" if fees else "not priced"}</abbr>'


@register.simple_tag
def mark(of: Row, key: str) -> SafeString:
    """Whether a figure (`complete`, `stale`, `why`, maybe `complete_from`) is complete; if not, a button opens the
    reasons. `key` tells marks of a page apart."""
    return mark_safe(_mark(of, key))  # noqa: S308  # nosec


def _mark(of: Row, key: str) -> str:
    """Where nothing is lacking, without what would say so: static/js/mark.js makes it when something is."""
    if of["complete"]:
        return f'<span class="mark" data-mark="{key}"><span class="mark-complete">complete</span></span>'
    words = "not up to date" if of["stale"] else "not complete"
    since = [f"Complete since {utc_day(of['complete_from'])}."] if of.get("complete_from") else []
    why = "".join(f'<span role="listitem">{escape(sentence)}</span>' for sentence in (*since, *of["why"]))
    return (
        f'<span class="mark" data-mark="{key}"><span class="mark-complete" hidden>complete</span>'
        f'<button class="mark-lacking" type="button" popovertarget="why-{key}">{words}</button>'
        f'<span class="why" id="why-{key}" popover role="dialog" aria-label="Why this is not complete">'
        f'<strong>N{words[1:]}</strong><span class="why-list" role="list">{why}</span></span></span>'
    )


@register.simple_tag
def venue_figures(venues: Iterable[Row], span: str, address: str) -> SafeString:
    """A span of each venue; `address` leads to a venue once its name is written behind it."""
    return _joined(_venue_figure(venue, venue["totals"][span], escape(address)) for venue in venues)


def _venue_figure(venue: Row, own: Row, address: str) -> str:
    slug, amount = escape(venue["venue"]), own["notional_usd"]
    lacking, words = ("", "") if own["complete"] else (" data-lacking", ", not complete")
    return (
        f'<li data-venue="{slug}"{lacking}><a href="{address}{slug}">{escape(venue["name"])}</a> '
        f'<b title="{amount} USD{words}">{dollars(amount, own["fills_not_priced"])}</b></li>\n'
    )


@register.simple_tag(takes_context=True)
def fill_rows(context: Mapping[str, Any], fills: Iterable[Fill], scope: Scope) -> SafeString:
    """Of the table of fills: each with the addresses that narrow the page to its account, and to its market."""
    query = context["request"].GET.copy()
    query.pop("page", None)
    zone = ZoneInfo(scope.tz) if scope.is_local else UTC

    @cache
    def narrowed(**changes: Any) -> str:
        own = query.copy()
        for name, value in changes.items():
            own[name] = value
        return escape(f"?{own.urlencode()}")

    def written(row: Row) -> str:
        fill: Fill = row["fill"]
        account, at = fill.credential, fill.executed_at
        market_url = narrowed(venue=account.venue, market=fill.symbol)
        return (
            f'<tr><th scope="row"><time datetime="{at.isoformat()}">{at.astimezone(zone):%H:%M:%S}</time></th>'
            f'<td data-venue="{escape(account.venue)}">'
            f'<a href="{narrowed(account=account.pk)}">{escape(str(account))}</a></td>'
            f'<td data-label="Market"><a href="{market_url}">{escape(fill.symbol)}</a></td>'
            f'<td data-label="Side">{fill.side}</td><td data-label="Role">{fill.liquidity}</td>'
            f'<td data-label="Kind">{fill.kind}</td><td class="number" data-label="Price">{row["price"]}</td>'
            f'<td class="number" data-label="Size">{row["qty"]}</td>'
            f'<td class="number chief" data-label="Notional">{row["notional"]} {escape(fill.quote)}</td>'
            f'<td class="number" data-label="Fee">{row["fee"]} {escape(fill.fee_asset)}</td></tr>\n'
        )

    return _joined(map(written, aligned(fills)))


@register.simple_tag
def period_rows(series: Row) -> SafeString:
    """Of the table behind the chart, newest first."""
    return _joined(map(_period, periods(series)))


def _period(row: Row) -> str:
    amounts = (*row["amounts"], row["cumulative"], row["maker"], row["taker"], row["fees"], row["forced"])
    words, why = STATES[row["state"]], escape(" ".join(row["why"]))
    state = f"<td>{words}</td>"
    if row["state"] != "complete":
        state = f'<td class="lack" title="{why}">{words}<span class="unseen">: {why}</span></td>'
    return (
        f'<tr><th scope="row"><a href="{escape(row["next"])}">{row["day"]}</a></th>'
        f'<td title="{row["total"]}">{usd(row["total"])}</td>'
        f"{''.join([f'<td>{usd(amount)}</td>' for amount in amounts])}<td>{row['fills']:,}</td>{state}</tr>\n"
    )


@register.simple_tag
def calendar_weeks(calendar: Row) -> SafeString:
    """A square for each day, in columns of weeks. Of the links only the last is reached by the Tab key."""
    first = date.fromisoformat(calendar["first"])
    squares = list(zip(calendar["days"], calendar["state"], shades(calendar["days"]), strict=True))
    return _joined(
        _week(
            first + timedelta(days=start),
            calendar["url"],
            *squares[start : start + 7],
            is_last=start + 7 >= len(squares),
        )
        for start in range(0, len(squares), 7)
    )


@lru_cache(4096)  # but for the last, those of a page are those it had before
def _week(monday: date, url: str, *squares: tuple[str | None, str, int], is_last: bool) -> str:
    """Of seven days: dollars (None of one that is to come), state and shade."""
    links, month = [], ""
    for place, (amount, state, shade) in enumerate(squares):
        day = monday + timedelta(days=place)
        if day.day == 1:
            month = f' data-month="{f"{day:%Y}" if day.month == 1 else f"{day:%b}"}"'
        if amount is not None:
            address, label = url.replace("{day}", day.isoformat()), f"{utc_day(day)}: {usd(amount)}, {STATES[state]}"
            links.append(f'<a href="{escape(address)}" class="s{shade} {state}" aria-label="{label}"{UNTABBED}></a>')
    if is_last and links:
        links[-1] = links[-1].replace(UNTABBED, "")
    return f'<div class="week"{month}>{"".join(links)}</div>'
