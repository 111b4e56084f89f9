"""manage.py check_volume: proves every account's fills, days, ledger and totals, and reports what does not agree."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from exchanges.models import ExchangeCredential
from volume.proof import prove


class Command(BaseCommand):
    help = (
        "Proves the whole: days against fills, completeness against ledger, totals against days. Names what does not "
        "agree, and changes nothing. Exit code 1 if there is anything."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        found = fills = days = accounts = 0
        said: set[tuple[int, str]] = set()
        for credential in ExchangeCredential.objects.all():
            check = prove(credential, timezone.now())
            accounts, fills, days, found = accounts + 1, fills + check.fills, days + check.days, found + check.found
            for finding in check.findings:
                if (credential.owner_id, finding) in said:  # totals of all accounts, said with another of them
                    found -= 1
                    continue
                if finding.startswith("Totals, "):
                    said.add((credential.owner_id, finding))
                self.stdout.write(f"{credential} (#{credential.pk}) {finding}")
            if more := check.found - len(check.findings):
                self.stdout.write(f"{credential} (#{credential.pk}) and {more:,} more")
        if found:
            count = "1 difference" if found == 1 else f"{found:,} differences"
            self.stdout.write(f"{count}. manage.py rebuild_volume puts days right.")
            raise SystemExit(1)
        self.stdout.write("Every day agrees with its fills.")
        self.stderr.write(
            f"So do the ledgers and all totals: {accounts:,} accounts, {days:,} days of them, {fills:,} fills."
        )
