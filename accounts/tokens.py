"""Who is asking: API tokens in the Authorization header, and links that sign in once."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.models import ApiToken, User

SCHEME = "Bearer"
USE_NOTED_EVERY = timedelta(minutes=1)


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer perp_...`"""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        words = get_authorization_header(request).decode("latin-1").split()
        if not words or words[0].lower() != SCHEME.lower():
            return None
        token = working_token(words[1]) if len(words) == 2 else None
        if token is None:
            raise AuthenticationFailed("This token is not known. Make a new one with manage.py create_token.")
        now = timezone.now()
        if token.last_used_at is None or now - token.last_used_at > USE_NOTED_EVERY:
            ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
        return token.owner, token

    def authenticate_header(self, request: Request) -> str:
        return SCHEME


def working_token(text: str) -> ApiToken | None:
    """The token of this text with its owner, if it is known and its owner still active."""
    known = ApiToken.objects.select_related("owner")
    return known.filter(digest=ApiToken.digest_of(text), owner__is_active=True).first()


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.tokens.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class SignInLinks(PasswordResetTokenGenerator):
    """Tokens of links that sign a person in: signing in changes last_login, which ends every link made before."""

    key_salt = "accounts.tokens.SignInLinks"


sign_in_links = SignInLinks()
