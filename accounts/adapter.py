"""Where django-allauth asks for our ways: what an address is, what is mailed, what happens to whom tries too often."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY, get_authentication_records
from allauth.account.models import EmailAddress
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.core.internal.httpkit import clean_client_ip
from django.conf import settings
from django.core.mail import EmailMessage
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from accounts.current import address_of
from accounts.limits import too_often, wait_after_failures
from accounts.models import User
from accounts.origin import origin

logger = logging.getLogger("perpdash.accounts")
TOO_OFTEN = {"too_many_login_attempts", "rate_limited"}
WAYS = {
    "reauthenticate": "Use your password",
    "mfa_reauthenticate": "Use a code",
    "mfa_reauthenticate:webauthn": "Use a passkey",
}
UNKNOWN_ADDRESS = "0.0.0.0"  # noqa: S104  # of a client behind a Unix socket

# Mail goes out behind the page: one that sends takes no longer than one that does not, which would tell who is here.
post = ThreadPoolExecutor(1, "mail")


class Adapter(DefaultAccountAdapter):  # type: ignore[misc]
    error_messages = DefaultAccountAdapter.error_messages | {
        "username_password_mismatch": "The username or the password is not right.",
        "incorrect_password": "This is not your password.",
        "enter_current_password": "This is not your current password.",
        "duplicate_email": "This is your address already.",
    }

    def validation_error(self, code: str, *args: Any) -> Any:
        if code in TOO_OFTEN:
            return ImmediateHttpResponse(too_often(self.request, wait_after_failures()))
        return super().validation_error(code, *args)

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def is_safe_url(self, url: str) -> bool:
        """Pages of this very host: not of all hosts we may be opened under."""
        own = {self.request.get_host()}
        return url_has_allowed_host_and_scheme(url, allowed_hosts=own, require_https=self.request.is_secure())

    def login(self, request: HttpRequest, user: Any) -> None:
        """Who signed in just now said who they are, and is not asked again for a while."""
        super().login(request, user)
        if records := get_authentication_records(request, user):
            newest = records[-1] | {"reauthenticated": True}
            request.session[AUTHENTICATION_METHODS_SESSION_KEY] = [*records[:-1], newest]

    def get_client_ip(self, request: HttpRequest) -> str:
        return clean_client_ip(address_of(request)) or UNKNOWN_ADDRESS

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """By name alone: whoever may choose the Host header would else have the tries of each host."""
        return str(credentials.get("username", "")).lower()

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("accounts:you")

    def get_email_verification_redirect_url(self, email_address: EmailAddress) -> str:
        return reverse("accounts:you" if self.request.user.is_authenticated else "accounts:sign-in")

    def get_reset_password_from_key_url(self, key: str) -> str:
        address: str = super().get_reset_password_from_key_url(key)
        return origin(self.request) + urlsplit(address).path

    def get_email_confirmation_url(self, request: HttpRequest, emailconfirmation: Any) -> str:
        address: str = super().get_email_confirmation_url(request, emailconfirmation)
        return origin(request) + urlsplit(address).path

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        return [way | {"description": WAYS[way["id"]]} for way in super().get_reauthentication_methods(user)]

    def confirm_email(self, request: HttpRequest, email_address: EmailAddress) -> bool:
        """Who reads an address has it: somebody else who only claims it, put in by an admin, loses it."""
        if email_address.can_set_verified():
            User.objects.filter(email=email_address.email).exclude(pk=email_address.user_id).update(email=None)
        return bool(super().confirm_email(request, email_address))

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        if settings.MAIL:
            known = {"request": self.request, "email": email, "host": urlsplit(origin(self.request)).netloc}
            post.submit(send, self.render_mail(template_prefix, email, known | context))


def send(message: EmailMessage) -> None:
    try:
        message.send()
    except OSError as fault:  # also of SMTP; its text may hold the address
        logger.warning("A mail was not sent (%s). Look whether EMAIL_URL is right.", type(fault).__name__)
