"""The pages on which people see what is stored of them, take it with them, and remove it."""

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.db.models import Max, Min
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from exchanges.events import act
from exchanges.models import ExchangeCredential, Fill, HeldRow, SyncRun
from volume import holding
from volume.export import pieces
from volume.models import DailyVolume
from volume.tables import Awaited
from volume.views import owner_of


def stored(**whose: Any) -> dict[str, Any]:
    """How much is kept of these accounts, in rows, and from when to when its fills are."""
    fills = Fill.objects.filter(**whose)
    return fills.aggregate(first_fill_at=Min("executed_at"), last_fill_at=Max("executed_at")) | {
        "fills": fills.count(),
        "days": DailyVolume.objects.filter(**whose).order_by().values("credential_id", "day").distinct().count(),
        "runs": SyncRun.objects.filter(**whose).count(),
        "held_rows": HeldRow.objects.filter(**whose).count(),
    }


def stored_of(owner_id: int) -> dict[str, Any]:
    accounts = list(ExchangeCredential.objects.filter(owner_id=owner_id).values_list("pk", flat=True))
    return {"accounts": len(accounts)} | stored(credential_id__in=accounts)


def zipped(owner: Any, now: datetime) -> StreamingHttpResponse:
    """The export of a person, sent as it is made."""
    act(owner.pk, "exported")
    name = f"perpdash-{now:%Y-%m-%d}.zip"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "no-store",
        "Content-Encoding": "identity",  # it is compressed already
    }
    return StreamingHttpResponse(Awaited(pieces(owner, now)), content_type="application/zip", headers=headers)


@require_GET
def remove(request: HttpRequest, pk: int) -> HttpResponse:
    """What goes and what stays, before anything does."""
    credential = get_object_or_404(ExchangeCredential, pk=pk, owner_id=owner_of(request))
    context = {
        "credential": credential,
        "needs_key": holding.needs_key(credential.venue_type),
        "stored": stored(credential=credential),
    }
    return render(request, "volume/remove.html", context)


@require_http_methods(["GET", "POST"])
def data(request: HttpRequest) -> HttpResponse:
    """What is stored, a way to take it along, and a way to be rid of it: POST with one's own name as `confirm`."""
    fault = ""
    if request.method == "POST":
        if request.POST.get("confirm", "").strip() == request.user.get_username():
            holding.remove_all(owner_of(request))
            messages.success(request, "All accounts and everything that was read from them are removed.")
            return redirect("volume:data")
        fault = f"Nothing is removed: type {request.user.get_username()}, the name you sign in with."
    return render(request, "volume/data.html", {"stored": stored_of(owner_of(request)), "fault": fault})


@require_GET
def export(request: HttpRequest) -> StreamingHttpResponse:
    return zipped(request.user, timezone.now())
