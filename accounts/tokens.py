"""Who is asking: API tokens in the Authorization header, and links that sign in once."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.db import DatabaseError
from django.urls import reverse
from django.utils import timezone
from drf_spectacular.authentication import SessionScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from accounts.current import address_of
from accounts.models import ApiToken, User
from accounts.throttles import StrangerThrottle, WrongTokenThrottle

SCHEME = "Bearer"
USE_NOTED_EVERY = timedelta(minutes=1)


class TokenAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer perp_...`. What a token may do is decided here, and so for every route alike."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        words = authentication.get_authorization_header(request).decode("latin-1").split()
        if not words or words[0].lower() != SCHEME.lower():
            return None
        token = working_token(words[1] if len(words) == 2 else "", address_of(request._request))
        where = request.build_absolute_uri(reverse("accounts:tokens"))
        if token is None:
            raise AuthenticationFailed(f"This token is not known. Make a new one at {where}")
        if token.scope != ApiToken.Scope.MANAGE and request.method not in SAFE_METHODS:
            StrangerThrottle(address_of(request._request)).take()  # what is refused here comes before other limits
            raise PermissionDenied(
                f"This token only reads. Make one that may manage at {where}", code="token_only_reads"
            )
        return token.owner, token

    def authenticate_header(self, request: Request) -> str:
        return SCHEME


def working_token(text: str, address: str) -> ApiToken | None:
    """The token of this text with its owner, if it is known and its owner still active. Its use is noted.

    Raises Throttled, before the database is asked, where too many wrong ones came from the address.
    """
    tries = WrongTokenThrottle(address)
    tries.take()
    known = ApiToken.objects.select_related("owner")
    token = known.filter(digest=ApiToken.digest_of(text), owner__is_active=True).first()
    if token is None:
        tries.note_wrong()
        return None
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at > USE_NOTED_EVERY:
        with suppress(DatabaseError):  # a full disk still reads
            ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


class SessionAuthentication(authentication.SessionAuthentication):
    """The browser's session. It is asked last: whom it does not know is a stranger, and strangers have a budget."""

    def authenticate(self, request: Request) -> Any:
        found = super().authenticate(request)
        if found is None:
            StrangerThrottle(address_of(request._request)).take()
        return found


class PageScheme(SessionScheme):  # type: ignore[no-untyped-call]
    target_class = "accounts.tokens.SessionAuthentication"


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.tokens.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "Tokens of the scope “read” may use GET, HEAD and OPTIONS; those of “manage” all methods.",
        }


class SignInLinks(PasswordResetTokenGenerator):
    """Tokens of links that sign a person in: signing in changes last_login, which ends every link made before."""

    key_salt = "accounts.tokens.SignInLinks"


sign_in_links = SignInLinks()
