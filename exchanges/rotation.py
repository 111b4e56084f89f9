"""Puts stored secrets under the newest key, one by one, while everything else goes on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from exchanges.fields import Secret, SecretError
from exchanges.models import ExchangeCredential


class Outcome(Enum):
    RENEWED = "renewed"
    CURRENT = "current"  # under the newest key before
    UNREADABLE = "unreadable"  # none of the keys opens it: left as it is


@dataclass(frozen=True, slots=True)
class Kept:
    """A secret that is no account's, and is kept elsewhere."""

    name: str
    secret: Secret
    unreadable: str  # what to say where none of the keys opens it
    replace: Callable[[Secret], None]


keepers: list[Callable[[], Iterator[Kept]]] = []  # whoever keeps such secrets puts itself here


def rotate_kept() -> Iterator[tuple[Kept, Outcome]]:
    """As `rotate`, of all that keepers have."""
    for kept in (kept for keeper in keepers for kept in keeper()):
        if kept.secret.is_current:
            yield kept, Outcome.CURRENT
            continue
        try:
            kept.replace(kept.secret.renewed())
        except SecretError:
            yield kept, Outcome.UNREADABLE
        else:
            yield kept, Outcome.RENEWED


def rotate() -> Iterator[tuple[ExchangeCredential, Outcome]]:
    """Each account with what came of it. Each is stored on its own, so this may be ended anywhere and begun again."""
    with_secrets = ExchangeCredential.objects.filter(retired_at=None)
    for pk in list(with_secrets.order_by("pk").values_list("pk", flat=True)):
        while credential := with_secrets.filter(pk=pk).first():
            if outcome := rotate_one(credential):
                yield credential, outcome
                break


def rotate_one(credential: ExchangeCredential) -> Outcome | None:
    """None where the stored secrets changed since `credential` was read: then what was put in stays."""
    if credential.secrets.is_current:
        return Outcome.CURRENT
    try:
        renewed = credential.secrets.renewed()
    except SecretError:
        return Outcome.UNREADABLE
    as_read = ExchangeCredential.objects.filter(pk=credential.pk, secrets__sealed=credential.secrets.sealed)
    return Outcome.RENEWED if as_read.update(secrets=renewed) else None
