"""People and their API tokens. Elsewhere people are known only as settings.AUTH_USER_MODEL."""

import hashlib
import secrets
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A person. E-mail may be missing (wallet sign-in has none) and is unique where it is given."""

    email = models.EmailField("e-mail", null=True, blank=True, unique=True)  # type: ignore[assignment]

    class Meta(AbstractUser.Meta):
        pass

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.email = self.email or None  # two people without e-mail are not two people with the same one
        super().save(*args, **kwargs)


class ApiToken(models.Model):
    """A key for the API. Only its digest is kept: the token itself is shown once."""

    owner = models.ForeignKey(User, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def issue(cls, owner: User, name: str) -> str:
        """Makes a token and returns its text, which can't be had again."""
        text = f"perp_{secrets.token_urlsafe(32)}"
        cls.objects.create(owner=owner, name=name, digest=cls.digest_of(text))
        return text

    @staticmethod
    def digest_of(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()
