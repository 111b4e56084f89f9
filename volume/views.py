"""The dashboard, what an owner traded and how far it can be trusted, and how they want it counted."""

from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from volume import holding, prices, queries
from volume.models import Preferences

DEFAULT_RANGE = "90d"


def owner_of(request: HttpRequest) -> int:
    """The signed-in person; LoginRequiredMiddleware lets nobody else through."""
    return cast(int, request.user.pk)


def dashboard(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    summary = queries.summary(owner_of(request), now=now)
    if not summary["accounts"]:
        return redirect("volume:choose-venue")
    chosen = _range(request)
    wanted = queries.Filter(owner_id=owner_of(request), since=queries.first_day(chosen, now=now))
    return render(
        request,
        "volume/dashboard.html",
        {
            "summary": summary,
            "series": queries.series(owner_of(request), range_name=chosen, now=now),
            "ranges": list(queries.RANGES),
            "range": chosen,
            "markets": queries.markets(wanted, now=now),
            "kinds": queries.kinds(wanted),
        },
    )


def series(request: HttpRequest) -> JsonResponse:
    """The chart's data and the table of the same range, for a page that is open already."""
    now, chosen = timezone.now(), _range(request)
    wanted = queries.Filter(owner_id=owner_of(request), since=queries.first_day(chosen, now=now))
    markets: list[dict[str, Any]] = [queries.as_strings(row) for row in queries.markets(wanted, now=now)]
    shown = queries.series(owner_of(request), range_name=chosen, now=now)
    return JsonResponse({"series": shown, "markets": markets, "kinds": queries.kinds(wanted)})


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


@login_not_required
def health(request: HttpRequest) -> JsonResponse:
    """For whatever watches over the process: 200 once the database answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok"})


def _range(request: HttpRequest) -> str:
    chosen = request.GET.get("range", DEFAULT_RANGE)
    return chosen if chosen in queries.RANGES else DEFAULT_RANGE
