"""Who may become the owner, and how somebody who was let in is signed in."""

import ipaddress

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import record_authentication
from django.conf import settings
from django.contrib.auth import logout
from django.contrib.contenttypes.models import ContentType
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.models import User

SALT = "accounts.joining.owner"
# What proxies write. With any of these a request from our own machine may be a stranger's, handed on.
HANDED_ON = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PROTO", "HTTP_FORWARDED", "HTTP_VIA",
             "HTTP_X_REAL_IP")  # fmt: skip


def welcome_link(origin: str) -> str:
    """The address under which the owner's account is made from anywhere, for a day, as long as there is nobody."""
    return f"{origin.rstrip('/')}{reverse('accounts:welcome')}?key={signing.dumps('owner', salt=SALT)}"


def may_make_owner(request: HttpRequest) -> bool:
    """Who sits at this machine, or has the link that was printed on it."""
    try:
        age = settings.PASSWORD_RESET_TIMEOUT
        return bool(signing.loads(request.GET.get("key", ""), salt=SALT, max_age=age) == "owner")
    except signing.BadSignature:
        return is_from_this_machine(request)


def is_from_this_machine(request: HttpRequest) -> bool:
    if settings.PROXIES or any(header in request.META for header in HANDED_ON):
        return False
    return is_loopback(request.META.get("REMOTE_ADDR", ""))


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def nobody_is_here() -> bool:
    """Asked within a transaction, it holds to its end: of two first visitors, one waits here for the other."""
    ContentType.objects.select_for_update().get(app_label="accounts", model="user")  # a row that is always there
    return not User.objects.exists()


def enter(request: HttpRequest, user: User, method: str) -> HttpResponse:
    """Signs in who proved just now who they are, in a way no second factor is asked for; leads to the dashboard."""
    adapter = get_adapter()
    if request.user.is_authenticated:
        logout(request)  # another's session would take the record along when it ends
    record_authentication(request, user, method)  # first: whoever notes the sign-in reads it
    adapter.login(request, user)
    response: HttpResponse = adapter.post_login(
        request, user, email_verification="none", signal_kwargs=None, email=None, signup=False, redirect_url=None
    )
    return response
