"""manage.py invite: a link with which one person more may join."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse
from django.utils import timezone

from accounts.audit import note
from accounts.management.commands.sign_in_link import add_origin
from accounts.models import Invitation, User
from accounts.origin import served_at


class Command(BaseCommand):
    help = "Prints a link with which one person may join, within seven days. It is stored as a digest, so shown once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--note", default="", help="for whom it is; the page People shows it to the owner")
        add_origin(parser)

    def handle(self, *args: Any, **options: Any) -> str:
        owner = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
        if owner is None:
            raise CommandError("Nobody is here yet: manage.py sign_in_link prints the link that makes the owner.")
        text = Invitation.issue(owner, options["note"][:80], now=timezone.now())
        note(owner.pk, "invited", options["note"][:80])
        return (options["origin"] or served_at()).rstrip("/") + reverse("accounts:join", args=[text])
