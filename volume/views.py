"""The dashboard, what an owner traded and how far it can be trusted, and how they want it counted."""

from datetime import date
from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from volume import glance, holding, prices, queries
from volume.completeness import Completeness
from volume.history import History, by_venue, calendar, not_priced_words, period_rows, total_row
from volume.models import Preferences
from volume.scope import RANGES, Scope
from volume.tables import as_file, fill_rows


def owner_of(request: HttpRequest) -> int:
    """The signed-in person; LoginRequiredMiddleware lets nobody else through."""
    return cast(int, request.user.pk)


def dashboard(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    scope = Scope.parse(request.GET.dict(), owner_of(request), now=now)
    history = History(scope, now=now)
    if form := request.GET.get("format"):
        table = "periods" if request.GET.get("table") == "periods" else "markets"
        rows = period_rows(history.series()) if table == "periods" else history.markets()
        return as_file(rows, form, table, f"{scope.first}-{scope.last}")
    summary = glance.summary(owner_of(request), now=now)
    if not summary["accounts"]:
        return redirect("volume:choose-venue")
    context = {
        "scope": scope,
        "ranges": list(RANGES),
        "summary": summary,
        "series": history.series(),
        "markets": narrowing(history.markets(), request),
        "kinds": history.kinds(),
        "calendar": calendar(scope, now=now),
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
            "markets": [queries.as_strings(row) for row in narrowing(history.markets(), request)],
            "kinds": history.kinds(),
            "calendar": calendar(scope, now=now),
        }
    )


FILLS_A_PAGE = 100


def day(request: HttpRequest, day: str) -> HttpResponse:
    """One UTC day: what it comes to by venue and market, and its fills."""
    try:
        chosen = date.fromisoformat(day)
    except ValueError:
        raise Http404("This is no day.") from None
    now = timezone.now()
    scope = Scope.parse(request.GET.dict() | {"from": day, "to": day, "step": "day"}, owner_of(request), now=now)
    if scope.first != chosen:
        raise Http404("This day is still to come, or long before any perpetual.")
    markets = History(scope, now=now).markets()
    window = scope.window(chosen, now=now)
    fills = queries.fills(scope.filter, window=window).select_related("credential")
    if form := request.GET.get("format"):
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
        "markets": narrowing(markets, request),
        "fills": Paginator(fills, FILLS_A_PAGE).get_page(request.GET.get("page")),
        "verdict": Completeness(scope.accounts, now=now).of(window, unpriced=unpriced),
        "filters": scope.filters,
    }
    return render(request, "volume/day.html", context)


def narrowing(rows: list[dict[str, Any]], request: HttpRequest) -> list[dict[str, Any]]:
    """Each row with the address that narrows this very view to it."""
    for row in rows:
        query = request.GET.copy()
        query.pop("page", None)
        query["venue"], query["market"] = row["venue"], row["market"]
        row["url"] = f"?{query.urlencode()}"
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
