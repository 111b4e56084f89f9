"""The page People: who is here, and who may come. For the owner of the installation."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.decorators import reauthentication_required
from allauth.decorators import rate_limit
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts.audit import note
from accounts.forms import InviteForm
from accounts.models import Invitation, User
from accounts.origin import origin

View = Callable[..., HttpResponse]


def owner_only(view: View) -> View:
    """What changes something asks the owner once more who they are, if that was a while ago."""
    careful: View = reauthentication_required(view, allow_get=True)

    @wraps(view)
    def guarded(request: HttpRequest, **kwargs: int) -> HttpResponse:
        if not request.user.is_superuser:
            raise PermissionDenied
        return careful(request, **kwargs)

    return guarded


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@owner_only
@rate_limit(action="invite")  # type: ignore[untyped-decorator]
def people(request: HttpRequest) -> HttpResponse:
    """The lists; a POST makes an invitation, whose link the answer shows once."""
    owner: Any = request.user
    form, link = InviteForm(request.POST or None), ""
    now = timezone.now()
    if request.method == "POST" and form.is_valid():
        text = Invitation.issue(owner, form.cleaned_data["note"], now=now)
        note(owner.pk, "invited", form.cleaned_data["note"])
        link = origin(request) + reverse("accounts:join", args=[text])
        form = InviteForm()
    has_factor = Authenticator.objects.filter(user=OuterRef("pk")).exclude(type=Authenticator.Type.RECOVERY_CODES)
    return render(
        request,
        "accounts/people.html",
        {
            "form": form,
            "link": link,
            "people": User.objects.annotate(has_factor=Exists(has_factor)).order_by("-is_active", "pk"),
            "invitations": Invitation.open(now=now),
        },
    )


@require_POST
@owner_only
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    invitation = get_object_or_404(Invitation, pk=pk, used_at=None)
    invitation.delete()
    note(request.user.pk, "invitation_revoked", invitation.note)
    messages.success(request, "The invitation no longer works.")
    return redirect("accounts:people")


@require_POST
@owner_only
def shut_out(request: HttpRequest, pk: int) -> HttpResponse:
    """Ends all of a person's sessions, too: let in again, they sign in anew."""
    owner: Any = request.user
    person = get_object_or_404(User.objects.exclude(pk=owner.pk), pk=pk)
    person.is_active = False
    person.save(update_fields=["is_active"])
    for session in UserSession.objects.filter(user_id=person.pk):
        session.end()
    note(person.pk, "deactivated", person.username)
    messages.success(request, f"{person} no longer gets in. Accounts and volume stay as they are.")
    return redirect("accounts:people")


@require_POST
@owner_only
def let_in(request: HttpRequest, pk: int) -> HttpResponse:
    person = get_object_or_404(User, pk=pk)
    person.is_active = True
    person.save(update_fields=["is_active"])
    note(person.pk, "reactivated", person.username)
    messages.success(request, f"{person} may sign in again.")
    return redirect("accounts:people")
