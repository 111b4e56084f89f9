"""Open pages and programs are told at once that their session or token ended: each socket then looks, and closes."""

from functools import partial
from typing import Any

from allauth.usersessions.models import UserSession
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from accounts.models import ApiToken, User
from volume import live

SIGN_IN = frozenset({"last_login"})  # what a sign-in saves: it ends nothing


@receiver(post_delete, sender=UserSession)
def tell_of_session(instance: UserSession, **_: Any) -> None:
    transaction.on_commit(partial(live.push, instance.user_id))


@receiver(post_delete, sender=ApiToken)
def tell_of_token(instance: ApiToken, **_: Any) -> None:
    transaction.on_commit(partial(live.push, instance.owner_id))


@receiver(post_save, sender=User)
def tell_of_person(instance: User, created: bool, update_fields: frozenset[str] | None, **_: Any) -> None:
    """They may be shut out now, or have another password."""
    if not created and update_fields != SIGN_IN:
        transaction.on_commit(partial(live.push, instance.pk))
