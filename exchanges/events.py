"""What a person did to their accounts, for whoever keeps a log of it."""

from django.dispatch import Signal

# Sent with owner_id (None: it concerns the whole installation), what (for programs) and about (in words for people).
acted = Signal()


def act(owner_id: int | None, what: str, about: object = "") -> None:
    acted.send(sender=None, owner_id=owner_id, what=what, about=str(about))
