"""Seals what second factors are made of with the keys that also seal the secrets of accounts at venues."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from cryptography.fernet import InvalidToken
from django.core.exceptions import ValidationError
from django.db import transaction

from exchanges.fields import Secret, cipher
from exchanges.rotation import Kept

SEALED = {Authenticator.Type.TOTP: "secret", Authenticator.Type.RECOVERY_CODES: "seed"}
NAMES = {Authenticator.Type.TOTP: "The authenticator app", Authenticator.Type.RECOVERY_CODES: "The recovery codes"}


class Adapter(DefaultMFAAdapter):  # type: ignore[misc]
    error_messages = DefaultMFAAdapter.error_messages | {
        "incorrect_code": "That code is not right. Enter the one the app shows now: each works once.",
        "incorrect_passkey": "This passkey was not accepted. Try again, or take another.",
    }

    def encrypt(self, text: str) -> str:
        return cipher().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        try:
            return cipher().decrypt(encrypted_text.encode()).decode()
        except InvalidToken:
            raise ValidationError(
                "Your second step can't be checked: this installation's keys changed. Whoever runs perpdash finds out "
                "what to do with manage.py doctor, and lets you in meanwhile with manage.py sign_in_link."
            ) from None

    def generate_authenticator_name(self, user: Any, type: Authenticator.Type) -> str:
        count = Authenticator.objects.filter(user_id=user.pk, type=type).count()
        return f"Passkey {count + 1}" if count else "Passkey"

    def get_totp_label(self, user: Any) -> str:
        return str(user.get_username())

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        return dict(super().get_public_key_credential_rp_entity()) | {"name": "perpdash"}


def kept() -> Iterator[Kept]:
    """What is sealed of every second factor, for whoever looks over the secrets or puts them under a new key."""
    for factor in Authenticator.objects.filter(type__in=SEALED).select_related("user").order_by("pk"):
        kind = Authenticator.Type(factor.type)
        name = f"{NAMES[kind]} of {factor.user}"
        unreadable = (
            f"{name} can't be read with this installation's SECRET_KEY and SALT_KEY. Start perpdash with the keys of "
            f"before; or let them in with manage.py sign_in_link --owner {factor.user}, to remove the second step on "
            "the page You and set it up anew."
        )
        sealed = factor.data[SEALED[kind]]
        yield Kept(name, Secret(sealed=sealed), unreadable, partial(_replace, factor.pk, SEALED[kind], sealed))


def _replace(pk: int, field: str, sealed: str, renewed: Secret) -> None:
    """Only what was read, and nothing beside it: a recovery code may be used at this moment."""
    with transaction.atomic():
        factor = Authenticator.objects.select_for_update().filter(pk=pk).first()
        if factor and factor.data[field] == sealed:
            factor.data[field] = renewed.sealed
            factor.save(update_fields=["data"])
