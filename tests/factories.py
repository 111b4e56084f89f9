"""Rows for tests, made the way the product makes them."""

from typing import Any

from django.contrib.auth import get_user_model
from django.utils import timezone

from exchanges.models import ExchangeCredential, history_start
from exchanges.sandbox import hyperliquid
from exchanges.venues import VENUES

PASSWORD = "correct horse battery staple"


def user(username: str = "ada", **fields: Any) -> Any:
    """A person who signs in with client.force_login(); the password hash, slow on purpose, is left out."""
    return get_user_model().objects.create(username=username, **fields)


def credential(
    venue: str = "hyperliquid", *, owner: Any = None, label: str = "Main", secrets: dict[str, str] | None = None,
    **fields: Any,
) -> ExchangeCredential:  # fmt: skip
    """A stored account, by default of the sandbox's trader, that was not read yet."""
    now = timezone.now()
    made = ExchangeCredential(
        owner=owner or get_user_model().objects.first() or user(),
        venue=venue, label=label, **{"history_from": history_start(now), "due_at": now} | fields,
    )  # fmt: skip
    made.set_secrets(VENUES[venue].credentials_type.parse(secrets or {"address": hyperliquid.DEMO_TRADER}))
    made.save()
    return made
