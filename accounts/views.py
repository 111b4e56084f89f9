"""How people get in: the first visit, the sign-in page, the one-time link."""

from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from accounts.forms import WelcomeForm
from accounts.models import User
from accounts.tokens import sign_in_links

BACKEND = "django.contrib.auth.backends.ModelBackend"


class SignIn(LoginView):
    template_name = "accounts/sign_in.html"
    redirect_authenticated_user = True


@login_not_required
@never_cache
def welcome(request: HttpRequest) -> HttpResponse:
    """Makes the owner's account. Open only as long as there is nobody."""
    if User.objects.exists():
        return redirect("volume:dashboard")
    form = WelcomeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            if User.objects.exists():  # two first visitors: one of them is too late
                return redirect("accounts:sign-in")
            user = form.save()
        login(request, user, backend=BACKEND)
        return redirect("volume:dashboard")
    return render(request, "accounts/welcome.html", {"form": form})


@login_not_required
@never_cache
def sign_in_by_link(request: HttpRequest, pk: int, token: str) -> HttpResponse:
    """A link works once; opening it shows a button, so that a preview or a prefetch does not use it up."""
    user = User.objects.filter(pk=pk, is_active=True).first()
    is_good = user is not None and sign_in_links.check_token(user, token)
    if request.method == "POST" and user and is_good:
        login(request, user, backend=BACKEND)
        return redirect("volume:dashboard")
    return render(request, "accounts/link.html", {"person": user if is_good else None}, status=200 if is_good else 410)
