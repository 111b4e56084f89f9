"""manage.py rotate_secrets: puts every secret under the newest SECRET_KEY and SALT_KEY."""

from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand

from exchanges.events import act
from exchanges.fields import UNREADABLE
from exchanges.rotation import Outcome, rotate, rotate_kept


class Command(BaseCommand):
    help = (
        "Encrypts all secrets, of accounts and second factors, anew with the newest key: SECRET_KEY with the first "
        "SALT_KEY. First give all processes the new key beside the old one (in front of SALT_KEY; or as SECRET_KEY, "
        "the old one in SECRET_KEY_FALLBACKS) and restart them. May run at any time, be ended and run again. Exit code "
        "1 if any secrets can't be read. API tokens are kept as digests, which no key is needed for."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        counts: Counter[Outcome] = Counter()
        for credential, outcome in rotate():
            counts[outcome] += 1
            if outcome == Outcome.UNREADABLE:
                self.stdout.write(f"{credential} (#{credential.pk}): {UNREADABLE}")
        for kept, outcome in rotate_kept():
            counts[outcome] += 1
            if outcome == Outcome.UNREADABLE:
                self.stdout.write(kept.unreadable)
        renewed, current, unreadable = (counts[outcome] for outcome in Outcome)
        act(None, "secrets_rotated", f"{renewed:,} renewed, {unreadable:,} unreadable")
        self.stdout.write(f"{renewed:,} renewed, {current:,} under the newest key before, {unreadable:,} unreadable.")
        if unreadable:
            self.stdout.write("Keep the old keys until everything can be read: without them it never can be.")
            raise SystemExit(1)
        self.stdout.write(
            "The newest key opens everything. The older ones can be taken out of SALT_KEY and SECRET_KEY_FALLBACKS "
            "once manage.py doctor finds nothing under them."
        )
