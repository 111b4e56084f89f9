"""manage.py reparse_held: tries the rows that were not understood again, after an upgrade."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from exchanges.fields import SecretError
from exchanges.models import ExchangeCredential
from exchanges.venues.base import VenueError
from volume.refresh import reparse


class Command(BaseCommand):
    help = "Reads held rows again with today's knowledge. What is understood becomes fills; the rest stays held."

    def handle(self, *args: Any, **options: Any) -> None:
        for credential in ExchangeCredential.objects.filter(held_rows__isnull=False).distinct():
            try:
                understood, left = reparse(credential, now=timezone.now())
            except (VenueError, SecretError) as fault:
                self.stdout.write(f"{credential} (#{credential.pk}): {fault}")
                continue
            self.stdout.write(f"{credential} (#{credential.pk}): {understood} understood now, {left} still held")
