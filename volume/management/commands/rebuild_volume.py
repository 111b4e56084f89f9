"""manage.py rebuild_volume: drops every day and computes it anew from the fills."""

from typing import Any

from django.core.management.base import BaseCommand

from exchanges.models import ExchangeCredential
from volume import live
from volume.rollup import rebuild_all


class Command(BaseCommand):
    help = "Drops every stored day and computes it anew from the fills. Any number of times gives the same."

    def handle(self, *args: Any, **options: Any) -> None:
        for credential in ExchangeCredential.objects.all():
            days = rebuild_all(credential)
            live.push(credential.owner_id)
            self.stdout.write(f"{credential} (#{credential.pk}): {days:,} days and markets rebuilt")
