"""manage.py delete_data: removes everything of one person but the sign-in; or that too."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from exchanges.events import act
from volume import holding
from volume.data_views import stored_of


class Command(BaseCommand):
    help = (
        "Removes all accounts of one person with their keys, fills, days, ledgers and runs, for good. The sign-in "
        "stays unless --sign-in-too is given. Without --yes it only says what would go."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--owner", metavar="NAME", required=True)
        parser.add_argument("--sign-in-too", action="store_true", help="also the person, with tokens and log")
        parser.add_argument("--yes", action="store_true", help="do it")

    def handle(self, *args: Any, **options: Any) -> None:
        owner = get_user_model().objects.filter(username=options["owner"]).first()
        if owner is None:
            raise CommandError(f"There is nobody named {options['owner']!r}.")
        stored = stored_of(owner.pk)
        what = f"{stored['accounts']:,} accounts, {stored['fills']:,} fills and {stored['runs']:,} runs of {owner}"
        if options["sign_in_too"]:
            what += ", and the sign-in with its tokens and its part of the log"
        if not options["yes"]:
            raise CommandError(f"Nothing is removed. --yes removes {what}, for good; export_data takes them along.")
        holding.remove_all(owner.pk)
        if options["sign_in_too"]:
            owner.delete()
            act(None, "person_removed", owner)
        self.stdout.write(f"Removed: {what}." if options["sign_in_too"] else f"Removed: {what}. The sign-in stays.")
