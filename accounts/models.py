"""People, how others join them, their API tokens, and what was done. Elsewhere people are settings.AUTH_USER_MODEL."""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower

INVITED_FOR = timedelta(days=7)


def validate_one_line(text: str) -> None:
    """What the log repeats breaks none of its lines and turns none around."""
    if not text.isprintable():
        raise ValidationError("Take letters, digits, signs and spaces, in one line.")


class User(AbstractUser):
    """A person. E-mail may be missing (wallet sign-in has none) and is unique where it is given."""

    email = models.EmailField("e-mail", null=True, blank=True, unique=True)  # type: ignore[assignment]

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(
                Lower("username"), name="one_of_each_name", violation_error_message="Somebody has this name already."
            )
        ]

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.email = self.email or None  # two people without e-mail are not two people with the same one
        super().save(*args, **kwargs)


class ApiToken(models.Model):
    """A key for the API. Only its digest is kept: the token itself is shown once."""

    class Scope(models.TextChoices):
        READ = "read", "Read: volume, fills, accounts"
        MANAGE = "manage", "Manage: also add, change and remove accounts"

    owner = models.ForeignKey(User, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80, validators=[validate_one_line])
    scope = models.CharField(max_length=8, choices=Scope, default=Scope.READ)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def issue(cls, owner: User, name: str, scope: str = Scope.READ) -> str:
        """Makes a token and returns its text, which can't be had again."""
        text = f"perp_{secrets.token_urlsafe(32)}"
        cls.objects.create(owner=owner, name=name, scope=scope, digest=cls.digest_of(text))
        return text

    @staticmethod
    def digest_of(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()


class Invitation(models.Model):
    """A link with which one person more may join. Only its digest is kept: the link itself is shown once."""

    made_by = models.ForeignKey(User, models.CASCADE, related_name="invitations")
    note = models.CharField(max_length=80, blank=True, help_text="For whom it is; only you see this.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    used_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.note or f"Invitation of {self.created_at:%Y-%m-%d}"

    @classmethod
    def issue(cls, made_by: User, note: str = "", *, now: datetime) -> str:
        """Makes an invitation and returns the text its link ends in, which can't be had again."""
        text = secrets.token_urlsafe(32)
        expires_at = now + INVITED_FOR
        cls.objects.create(made_by=made_by, note=note, digest=ApiToken.digest_of(text), expires_at=expires_at)
        return text

    @classmethod
    def open(cls, *, now: datetime) -> models.QuerySet["Invitation"]:
        """Those that still let somebody in. Nobody joins by the word of who is no longer the owner."""
        return cls.objects.filter(used_at=None, expires_at__gt=now, made_by__is_active=True, made_by__is_superuser=True)

    @classmethod
    def working(cls, text: str, *, now: datetime) -> "Invitation | None":
        return cls.open(now=now).filter(digest=ApiToken.digest_of(text)).first()

    def use(self, *, now: datetime) -> bool:
        """Uses it up. False where somebody else did meanwhile."""
        # Of this row alone: whoever waited for another to let go of it looks at the row again, but not at a join.
        return Invitation.objects.filter(pk=self.pk, used_at=None).update(used_at=now) == 1


class AuditEvent(models.Model):
    """Something a person did, or somebody tried, that whoever it concerns may read later. Written once."""

    class Way(models.TextChoices):
        PAGE = "page", "Page"
        API = "api", "API"
        ADMIN = "admin", "Admin"
        COMMAND = "command", "Command line"

    at = models.DateTimeField()
    owner = models.ForeignKey(
        User, models.CASCADE, null=True, related_name="audit_events", db_index=False,
        help_text="Whom it concerns; empty where nobody of that name is here.",
    )  # fmt: skip
    actor = models.CharField(max_length=150, blank=True, help_text="Who did it, by name, as it was then.")
    way = models.CharField(max_length=8, choices=Way)
    token = models.CharField(max_length=80, blank=True, help_text="The API token it was done with, by name.")
    what = models.CharField(max_length=40)
    about = models.CharField(max_length=200, blank=True)
    address = models.GenericIPAddressField(null=True)
    client = models.CharField(max_length=200, blank=True, help_text="What the browser or program calls itself.")

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["owner", "-at"], name="audit_of_owner")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.what}"
