"""manage.py demo: an owner whose accounts live at the sandbox venues, in a database of its own."""

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

OWNER = "demo"


class Command(BaseCommand):
    help = "Fills an empty database with a demo owner, so that `up` opens on a dashboard full of numbers."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.SANDBOX:
            raise CommandError("The demo needs SANDBOX=1, so that no account of it is looked up at a real venue.")
        from accounts.models import User
        from exchanges.sandbox import SANDBOXES
        from exchanges.venues import VENUES
        from volume import holding, prices, proof, reconcile
        from volume.refresh import Wanted, refresh

        call_command("migrate", interactive=False, verbosity=0)
        owner, is_new = User.objects.get_or_create(username=OWNER, defaults={"is_staff": True, "is_superuser": True})
        if not is_new:
            return
        owner.set_unusable_password()
        owner.save()
        for venue, sandbox in SANDBOXES.items():
            for label, values in sandbox.demo_accounts:
                credentials = VENUES[venue].credentials_type.parse(values)
                credential = holding.add(owner, venue, label, credentials, now=timezone.now())
                run = refresh(credential, now=timezone.now(), wanted=Wanted(patience=60))
                self.stdout.write(f"{credential}: {run.new:,} fills")
        prices.fetch(now=timezone.now())
        for credential in owner.credentials.all():
            reconcile.fetch(credential, now=timezone.now())
            proof.prove(credential, now=timezone.now())
