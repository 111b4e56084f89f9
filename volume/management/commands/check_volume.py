"""manage.py check_volume: recomputes every day from its fills and reports what differs."""

from typing import Any

from django.core.management.base import BaseCommand

from exchanges.models import ExchangeCredential
from volume.rollup import differences


class Command(BaseCommand):
    help = "Recomputes every day from its fills and reports differences. Exit code 1 if there are any."

    def handle(self, *args: Any, **options: Any) -> None:
        found = 0
        for credential in ExchangeCredential.objects.all():
            for item in differences(credential):
                found += 1
                self.stdout.write(
                    f"{credential} (#{credential.pk}) {item.day} {item.symbol}: {item.column} is "
                    f"{'missing' if item.stored is None else item.stored}, the fills say "
                    f"{'there is no such day' if item.computed is None else item.computed}"
                )
        if found:
            count = "1 difference" if found == 1 else f"{found} differences"
            self.stdout.write(f"{count}. manage.py rebuild_volume puts them right.")
            raise SystemExit(1)
        self.stdout.write("Every day agrees with its fills.")
