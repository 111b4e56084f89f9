"""How people get in: the first visit, an invitation, the one-time link, a forgotten password."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.account.views import LoginView, PasswordResetView
from allauth.decorators import rate_limit
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from accounts.forms import JoinForm, WelcomeForm
from accounts.joining import enter, may_make_owner, nobody_is_here
from accounts.models import Invitation, User
from accounts.passkeys import are_possible
from accounts.tokens import sign_in_links


class SignIn(LoginView):  # type: ignore[misc]
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        known = {"mail": settings.MAIL, "passkeys": are_possible(self.request)}
        return dict(super().get_context_data(**kwargs)) | known


@method_decorator(login_not_required, name="dispatch")
class Forgotten(PasswordResetView):  # type: ignore[misc]
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not settings.MAIL:
            return render(request, "accounts/no_mail.html")
        response: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        return response


@login_not_required
@never_cache
@rate_limit(action="signup")  # type: ignore[untyped-decorator]
@sensitive_post_parameters("password1", "password2")
def welcome(request: HttpRequest) -> HttpResponse:
    """Makes the owner's account. Open only as long as there is nobody, and only to who has the machine."""
    if User.objects.exists():
        return redirect("volume:dashboard")
    if not may_make_owner(request):
        return render(request, "accounts/welcome.html", {"form": None}, status=403)
    form = WelcomeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            if not nobody_is_here():
                return redirect("accounts:sign-in")
            user = form.save()
        return enter(request, user, "password")
    return render(request, "accounts/welcome.html", {"form": form})


@login_not_required
@never_cache
@rate_limit(action="signup")  # type: ignore[untyped-decorator]
@sensitive_post_parameters("password1", "password2")
def join(request: HttpRequest, token: str) -> HttpResponse:
    """Makes the account of somebody who was invited."""
    if request.user.is_authenticated:
        messages.info(request, "You are signed in. An invitation is for somebody who is not here yet.")
        return redirect("volume:dashboard")
    now = timezone.now()
    invitation = Invitation.working(token, now=now)
    form = JoinForm(request.POST or None)
    if invitation and request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                if invitation.use(now=now):
                    user = form.save()
                    Invitation.objects.filter(pk=invitation.pk).update(used_by=user)
                else:
                    invitation = None
        except IntegrityError:  # of two who joined under one name in the same moment, the later one
            form.add_error("username", "Somebody took this name just now.")
        else:
            if invitation:
                if address := form.cleaned_data.get("address"):
                    EmailAddress.objects.add_new_email(request, user, address)
                return enter(request, user, "password")
    if invitation is None:
        return render(request, "accounts/join.html", {"form": None}, status=410)
    return render(request, "accounts/join.html", {"form": form, "inviter": invitation.made_by})


@login_not_required
@never_cache
def sign_in_by_link(request: HttpRequest, pk: int, token: str) -> HttpResponse:
    """A link works once; opening it shows a button, so that a preview or a prefetch does not use it up.

    It comes from whoever has the machine, and so asks for no second factor.
    """
    with transaction.atomic():  # of several who open it at once, all but one wait here, and find it used
        user = User.objects.select_for_update().filter(pk=pk, is_active=True).first()
        is_good = user is not None and sign_in_links.check_token(user, token)
        if request.method == "POST" and user and is_good:
            return enter(request, user, "link")
    return render(request, "accounts/link.html", {"person": user if is_good else None}, status=200 if is_good else 410)
