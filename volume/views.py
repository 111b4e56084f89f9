"""The dashboard, what an owner traded and how far it can be trusted, and how they want it counted."""

from dataclasses import asdict
from datetime import date
from typing import Any, cast
from urllib.parse import quote_plus

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone

from volume import holding, prices, queries
from volume.fills import FillList, fills_of
from volume.history import MOST_MARKETS, History, by_venue, calendar, not_priced_words, period_rows, total_row
from volume.models import Preferences
from volume.newest import newest_summary
from volume.scope import RANGES, Scope
from volume.tables import as_file, fill_rows


def owner_of(request: HttpRequest) -> int:
    """The signed-in person; LoginRequiredMiddleware lets nobody else through."""
    return cast(int, request.user.pk)


def dashboard(request: HttpRequest) -> HttpResponseBase:
    now = timezone.now()
    standing = queries.Standing(queries.Filter(owner_id=owner_of(request)), now=now)
    form = request.GET.get("format")
    summary = {} if form else newest_summary(owner_of(request), now=now, standing=standing)
    scope = Scope.parse(request.GET.dict(), owner_of(request), now=now, standing=standing)
    history = History(scope, now=now)
    if form:
        table = "periods" if request.GET.get("table") == "periods" else "markets"
        rows = period_rows(history.series()) if table == "periods" else history.markets(whole=True)
        return as_file(rows, form, table, f"{scope.first}-{scope.last}")
    if not standing.accounts:
        return redirect("volume:choose-venue")
    context = {
        "scope": scope,
        "ranges": list(RANGES),
        "summary": summary,
        "series": history.series(),
        "markets": narrowing(history.markets(most=_most(scope)), request),
        "market_count": history.market_count,
        "kinds": history.kinds(),
        "calendar": calendar(history),
    }
    return render(request, "volume/dashboard.html", context)


def series(request: HttpRequest) -> JsonResponse:
    """What the dashboard shows of a scope, for a page that is open already."""
    now = timezone.now()
    scope = Scope.parse(request.GET.dict(), owner_of(request), now=now)
    history = History(scope, now=now)
    return JsonResponse(
        {
            "scope": scope.as_json(),
            "series": history.series(),
            "markets": [queries.as_strings(row) for row in narrowing(history.markets(most=_most(scope)), request)],
            "market_count": history.market_count,
            "kinds": history.kinds(),
            "calendar": calendar(history),
        }
    )


FILLS_A_PAGE = 100


def day(request: HttpRequest, day: str) -> HttpResponseBase:
    """One UTC day: what it comes to by venue and market, and its fills."""
    try:
        chosen = date.fromisoformat(day)
    except ValueError:
        raise Http404("This is no day.") from None
    now = timezone.now()
    scope = Scope.parse(request.GET.dict() | {"from": day, "to": day, "step": "day"}, owner_of(request), now=now)
    if scope.first != chosen:
        raise Http404("This day is still to come, or long before any perpetual.")
    form = request.GET.get("format")
    history = History(scope, now=now)
    markets = history.markets(whole=True)
    window = scope.window(chosen, now=now)
    if form or scope.is_local:
        fills: Any = fills_of(scope.filter, window=window).select_related("credential")
    else:
        fills = FillList(scope.filter, history.books)
    if form:
        table = "fills" if request.GET.get("table") == "fills" else "markets"
        return as_file(fill_rows(fills) if table == "fills" else markets, form, table, day)
    total = total_row(markets)
    unpriced = not_priced_words(total["fills_not_priced"])
    context = {
        "scope": scope,
        "day": chosen,
        "previous": scope.previous,
        "next": scope.next,
        "total": total,
        "by_venue": by_venue(markets),
        "markets": narrowing(markets[: _most(scope)], request),
        "market_count": len(markets),
        "fills": Paginator(fills, FILLS_A_PAGE).get_page(request.GET.get("page")),
        "verdict": asdict(history.completeness.of(window, unpriced=unpriced)),
        "filters": scope.filters,
    }
    return render(request, "volume/day.html", context)


def _most(scope: Scope) -> int | None:
    """How many rows the table of markets has; None for all."""
    return None if scope.all_markets else MOST_MARKETS


def narrowing(rows: list[dict[str, Any]], request: HttpRequest) -> list[dict[str, Any]]:
    """Each row with the address that narrows this very view to it."""
    query = request.GET.copy()
    for name in ("page", "venue", "market"):
        query.pop(name, None)
    kept = f"?{query.urlencode()}&" if query else "?"
    for row in rows:
        row["url"] = f"{kept}venue={quote_plus(row['venue'])}&market={quote_plus(row['market'])}"
    return rows


def preferences(request: HttpRequest) -> HttpResponse:
    """How the owner wants to count, and what of theirs has no price."""
    if request.method == "POST":
        chosen = {name: name in request.POST for name in ("counts_forced", "stablecoins_at_market")}
        holding.prefer(request.user, **chosen)
        messages.success(request, "Saved. Every view follows.")
        return redirect("volume:preferences")
    now = timezone.now()
    accounts = queries.Filter(owner_id=owner_of(request)).accounts()
    missing = prices.missing_words(accounts, now=now)
    context = {
        "preferences": Preferences.of(owner_of(request)),
        "dollars": [name for name in settings.DOLLARS if name != "USD"],
        "missing": [f"{account}: {words}" for account in accounts for words in missing.get(account.pk, ())],
    }
    return render(request, "volume/preferences.html", context)
