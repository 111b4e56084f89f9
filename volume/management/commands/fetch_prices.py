"""manage.py fetch_prices: asks CoinGecko for every price that is needed, in the foreground."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from exchanges.connect import PATIENT
from exchanges.models import ExchangeCredential
from volume import prices


class Command(BaseCommand):
    help = (
        "Asks CoinGecko for every price that fills or fees lack, stores it and computes their days anew. Says what was "
        "priced, and what was not and why."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        found = prices.fetch(now=timezone.now(), patience=PATIENT, again=True)
        for asset, days in found.priced.items():
            self.stdout.write(f"{asset}: priced on {_count(days, 'day')}")
        self.stdout.write(f"{_count(found.rebuilt, 'day and market', 'days and markets')} computed anew")
        if found.trouble:
            self.stdout.write(found.trouble)
        credentials = list(ExchangeCredential.objects.all())
        missing = prices.missing_words(credentials, now=timezone.now())
        for credential in credentials:
            for sentence in missing.get(credential.pk, []):
                self.stdout.write(f"{credential} (#{credential.pk}): {sentence}")
        if not missing:
            self.stdout.write("Nothing lacks a price.")


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
