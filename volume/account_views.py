"""The pages on which accounts at venues are added, looked at, given a new key, paused, renamed and removed."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import date, timedelta
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Min, OuterRef, Q, Subquery
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST
from rest_framework.exceptions import ValidationError

from exchanges.fields import SecretError
from exchanges.forms import CredentialForm
from exchanges.models import STOPPED, ExchangeCredential, Health, SyncRun
from exchanges.venues import VENUES
from exchanges.venues.base import CredentialsRejected, Reason, VenueError
from volume import glance, holding, queries, reconcile
from volume.completeness import Completeness
from volume.fills import FillList
from volume.history import History
from volume.refresh import AGAIN
from volume.scope import Scope
from volume.serializers import RereadSerializer
from volume.views import owner_of

# Polls that brought nothing new would push everything worth reading off the page.
NOTHING_NEW = Q(
    trigger=SyncRun.Trigger.SCHEDULE, outcome=SyncRun.Outcome.COMPLETE, new=0, held=0, retracted=0, amended=0
)
QUIET = NOTHING_NEW & ~Q(asked__contains=AGAIN)


def accounts(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    held = queries.Filter(owner_id=owner_of(request)).accounts()
    completeness = Completeness(held, now=now)
    shown = glance.accounts_json(held, completeness)
    if request.headers.get("Accept") == "application/json":
        return JsonResponse({"accounts": shown})
    runs = _last_runs(held)
    cards = [card | {"last_run": runs.get(card["id"])} for card in shown]
    return render(request, "volume/accounts.html", {"accounts": cards, "venues": VENUES.values()})


def _last_runs(accounts: Iterable[ExchangeCredential]) -> dict[int, SyncRun]:
    """By account, the newest run that is worth a word."""
    own = SyncRun.objects.filter(credential=OuterRef("pk")).exclude(QUIET).order_by("-started_at")
    newest = ExchangeCredential.objects.filter(pk__in=[account.pk for account in accounts])
    found = newest.annotate(run=Subquery(own.values("pk")[:1])).exclude(run=None).values_list("run", flat=True)
    return {run.credential_id: run for run in SyncRun.objects.filter(pk__in=list(found))}


def choose_venue(request: HttpRequest) -> HttpResponse:
    if len(VENUES) == 1:
        return redirect("volume:add", venue=next(iter(VENUES)))
    return render(request, "volume/choose_venue.html", {"venues": VENUES.values()})


def add(request: HttpRequest, venue: str) -> HttpResponse:
    if venue not in VENUES:
        raise Http404("perpdash does not know this venue.")
    initial = {name: value for name, value in request.GET.items() if name == "label" or name in _public_fields(venue)}
    form = CredentialForm(VENUES[venue], request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid() and form.credentials:
        with _refusals(form):
            owned = set(ExchangeCredential.objects.filter(owner_id=owner_of(request)).values_list("pk", flat=True))
            credential = holding.add(
                request.user, venue, form.cleaned_data["label"], form.credentials,
                now=timezone.now(), allow_trading_key=form.cleaned_data.get("allow_trading_key", False),
            )  # fmt: skip
            what = "is back, with its history" if credential.pk in owned else "is added"
            messages.success(request, f"{credential} {what}. {credential.description} Its fills are being read.")
            return redirect("volume:account", pk=credential.pk)
    return render(request, "volume/add.html", _form_context(form))


class KeyForm(CredentialForm):
    """The same for an account that has its name."""

    label = None  # type: ignore[assignment]


def key(request: HttpRequest, pk: int) -> HttpResponse:
    """Puts a new key into an account that stays what it is: its fills, its ledger, its name."""
    credential = get_object_or_404(ExchangeCredential, pk=pk, owner_id=owner_of(request))
    if not (holding.needs_key(credential.venue_type) or credential.health_state == Health.UNREADABLE):
        raise Http404("What names this account is public: there is no key to replace.")
    name, venue = str(credential), credential.venue_type
    form = KeyForm(venue, request.POST or None, initial=_public_values(credential))
    if request.method == "POST" and form.is_valid() and form.credentials:
        with _refusals(form):
            holding.take_key(
                credential, form.credentials,
                now=timezone.now(), allow_trading_key=form.cleaned_data.get("allow_trading_key", False),
            )  # fmt: skip
            then = "Reading goes on from where it stopped" if credential.is_enabled else "It is still paused"
            messages.success(request, f"{name} has its new key. {then}.")
            return redirect("volume:account", pk=pk)
    return render(request, "volume/key.html", _form_context(form) | {"name": name, "pk": pk})


def _form_context(form: CredentialForm) -> dict[str, Any]:
    needed = [item for item in fields(form.venue.credentials_type) if "optional" not in item.metadata]
    return {
        "form": form,
        "venue": form.venue,
        "needs_key": holding.needs_key(form.venue),
        "has_ways": not needed,  # one of several ways in is enough: no field alone is needed, or optional
    }


@contextmanager
def _refusals(form: CredentialForm) -> Iterator[None]:
    """A key that is not taken becomes an error of the form, with what to do."""
    try:
        yield
    except CredentialsRejected as fault:
        form.add_error(None, str(fault))
        if fault.reason == Reason.CAN_TRADE and "allow_trading_key" in form.fields:
            form.add_error("allow_trading_key", "To insist on this key, tick this as well.")
    except holding.AlreadyAdded as fault:
        form.add_error(None, str(fault))
    except VenueError as fault:
        form.add_error(None, f"{fault} Nothing was stored. Try again in a while.")


def account(request: HttpRequest, pk: int) -> HttpResponse:
    credential = get_object_or_404(ExchangeCredential, pk=pk, owner_id=owner_of(request))
    now = timezone.now()
    completeness = Completeness([credential], now=now)
    scope = Scope.parse({"range": "7d", "account": str(pk)}, owner_of(request), now=now)
    context = {
        "account": glance.accounts_json([credential], completeness)[0] | {"related": _related(credential)},
        "days": History(scope, now=now).series(),
        "needs_key": holding.needs_key(credential.venue_type) or credential.health_state == Health.UNREADABLE,
        "venue": credential.venue_type,
        "today": now.date(),
        "oldest": credential.fills.aggregate(at=Min("executed_at"))["at"],
        "rereads": credential.rereads.order_by("from_at").values("from_at", "until_at", "retry_at").distinct(),
        "figures": reconcile.compare(credential, now=now),
        "can_compare": credential.is_enabled and credential.venue_type.publishes_figures(),
        "check": credential.checks.first(),
        "amendments": credential.amendments.all()[:10],
        "amendment_count": credential.amendments.count(),
        "runs": credential.runs.exclude(QUIET)[:15],
        "held_rows": credential.held_rows.all()[:20],
    }
    return render(request, "volume/account.html", context)


def _related(credential: ExchangeCredential) -> list[dict[str, Any]]:
    """The accounts that the venue names beside this one; `added` is the owner's account of it, where there is one."""
    same = ExchangeCredential.objects.filter(owner_id=credential.owner_id, venue=credential.venue)
    known = {account.account_ref.lower(): account for account in same.exclude(account_ref="")}
    found = []
    for related in credential.related:
        names = (name.lower() for name in (related["label"], *related["values"].values()))
        found.append(related | {"added": next((known[name] for name in names if name in known), None)})
    return found


ASKING = frozenset({"sync", "backfill", "reread", "compare"})  # actions that need the venue
FILLS_A_PAGE = 100


def fills(request: HttpRequest, pk: int) -> HttpResponse:
    """The fills of an account, newest first; of one day or market where the address says so."""
    credential = get_object_or_404(ExchangeCredential, pk=pk, owner_id=owner_of(request))
    day, market = _day(request.GET.get("day", "")), request.GET.get("market", "").replace("\0", "")
    wanted = queries.Filter(
        owner_id=owner_of(request), credentials=(pk,), markets=(market,) if market else (),
        since=day, until=day + timedelta(days=1) if day else None,
    )  # fmt: skip
    listed: Any = FillList(wanted)
    page = Paginator(listed, FILLS_A_PAGE).get_page(request.GET.get("page"))
    days = queries.volume(wanted, by=("market",), now=timezone.now()) if day else []
    context = {"credential": credential, "day": day, "market": market, "page": page, "markets": days}
    return render(request, "volume/fills.html", context)


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text) if text else None
        return day if day is None or day < date.max else None
    except ValueError:
        raise Http404("This is no day: write it as 2025-01-31.") from None


@require_POST
def act(request: HttpRequest, pk: int, action: str) -> HttpResponse:
    credential = get_object_or_404(ExchangeCredential, pk=pk, owner_id=owner_of(request))
    if action not in ACTIONS:
        raise Http404("There is no such action.")
    if credential.retired_at and action not in {"rename", "delete"}:
        messages.warning(request, f"{credential}: {holding.retired_words(credential)}")
        return redirect("volume:account", pk=pk)
    if action in ASKING and not credential.is_enabled:
        messages.warning(request, f"{credential} is paused: resume it first.")
        return redirect("volume:account", pk=pk)
    if action in ASKING and credential.health_state in STOPPED:
        messages.warning(request, f"{credential} needs you first. {credential.health_text}")
        return redirect("volume:account", pk=pk)
    try:
        said = ACTIONS[action](credential, request)
    except (VenueError, Refused) as fault:
        said = str(fault) if isinstance(fault, Refused) else f"not looked at. {fault}"
        messages.warning(request, f"{credential}: {said}")
        return redirect("volume:account", pk=pk)
    messages.success(request, said)
    return redirect("volume:accounts") if action == "delete" else redirect("volume:account", pk=pk)


def _verify(credential: ExchangeCredential, request: HttpRequest) -> str:
    holding.reverify(credential, now=timezone.now())
    return f"{credential}: {credential.health_text}"


def _sync(credential: ExchangeCredential, request: HttpRequest) -> str:
    holding.ask_for_reading(credential, now=timezone.now())
    return f"{credential}: new fills are being read."


def _backfill(credential: ExchangeCredential, request: HttpRequest) -> str:
    holding.ask_for_reading(credential, now=timezone.now(), backfill=True)
    return f"{credential}: all that is missing is being read."


def _reread(credential: ExchangeCredential, request: HttpRequest) -> str:
    now = timezone.now()
    form = RereadSerializer(data={name: value for name in ("since", "until") if (value := request.POST.get(name))})
    try:
        form.is_valid(raise_exception=True)
        wanted = form.window(credential, now=now)
    except ValidationError:
        raise Refused("that is no range of days in the past, so nothing is read again.") from None
    read = holding.read_again(credential, wanted, now=now)
    if read is None:
        since = f"{credential.history_from:%Y-%m-%d %H:%M}"
        raise Refused(f"nothing is read again: its history is wanted only from {since} UTC on.")
    if wanted is None:
        return f"{credential}: everything is read once more."
    return f"{credential}: {read.since:%Y-%m-%d %H:%M} to {read.until:%Y-%m-%d %H:%M} UTC is read once more."


class Refused(Exception):
    """An action that was not done, in words for the page."""


def _compare(credential: ExchangeCredential, request: HttpRequest) -> str:
    reconcile.ask_now(credential, now=timezone.now())
    return f"{credential}: compared with {credential.venue_name}'s own figures."


def _stop(credential: ExchangeCredential, request: HttpRequest) -> str:
    holding.stop_backfill(credential)
    return f"{credential}: the backfill stops. What was read is kept; new fills are still read."


def _pause(credential: ExchangeCredential, request: HttpRequest) -> str:
    holding.pause(credential)
    return f"{credential} is paused. What was read stays; nothing new is read."


def _resume(credential: ExchangeCredential, request: HttpRequest) -> str:
    holding.resume(credential, now=timezone.now())
    return f"{credential} is read again."


def _rename(credential: ExchangeCredential, request: HttpRequest) -> str:
    label = request.POST.get("label", "").strip()[:80]
    if not label:
        return "The name stays: an empty one would not be found again."
    holding.rename(credential, label)
    return f"It is called {credential} now."


def _retire(credential: ExchangeCredential, request: HttpRequest) -> str:
    holding.retire(credential, now=timezone.now())
    gone = f"The key of {credential} is removed"
    if not holding.needs_key(credential.venue_type):
        gone = f"{credential} is no longer read"
    return f"{gone}. What was read from it stays, and counts."


def _delete(credential: ExchangeCredential, request: HttpRequest) -> str:
    name = str(credential)
    holding.remove(credential)
    return f"{name} and everything read from it are removed."


ACTIONS: dict[str, Callable[[ExchangeCredential, HttpRequest], str]] = {
    "verify": _verify,
    "sync": _sync,
    "backfill": _backfill,
    "reread": _reread,
    "compare": _compare,
    "stop": _stop,
    "pause": _pause,
    "resume": _resume,
    "rename": _rename,
    "retire": _retire,
    "delete": _delete,
}


def _public_fields(venue: str) -> set[str]:
    """Fields an address may fill in: never a secret one."""
    return {item.name for item in fields(VENUES[venue].credentials_type) if item.repr}


def _public_values(credential: ExchangeCredential) -> dict[str, str]:
    """What is stored and no secret; nothing where it can't be read."""
    try:
        stored = credential.open_secrets()
    except (SecretError, CredentialsRejected):
        return {}
    return {name: getattr(stored, name) for name in _public_fields(credential.venue)}
