"""manage.py add_credential VENUE --owner NAME --label TEXT: secrets as a JSON object on standard input."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from exchanges.forms import secrets_from_json
from exchanges.venues import VENUES
from exchanges.venues.base import VenueError
from volume import holding


class Command(BaseCommand):
    help = 'Adds an account at a venue. Reads its secrets, as {"address": "0x..."}, from standard input.'

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("venue", help=f"one of: {', '.join(VENUES)}")
        parser.add_argument("--owner", required=True, help="user name of whom the account belongs to")
        parser.add_argument("--label", required=True, help="your own name for the account")
        parser.add_argument("--no-verify", action="store_true", help="store it without asking the venue")
        parser.add_argument("--allow-trading-key", action="store_true", help="accept a key that can trade or withdraw")

    def handle(self, *args: Any, **options: Any) -> str:
        if options["venue"] not in VENUES:
            raise CommandError(f"perpdash does not know the venue {options['venue']!r}. It knows: {', '.join(VENUES)}.")
        if not options["label"].strip():
            raise CommandError("--label is empty: a nameless account would not be found again.")
        people = get_user_model()
        owner = people.objects.filter(username=options["owner"]).first()
        if owner is None:
            raise CommandError(f"There is nobody named {options['owner']!r}. Open the page once to make the owner.")
        if sys.stdin.isatty():
            self.stderr.write("Secrets as a JSON object, then Ctrl-D:")
        try:
            values = secrets_from_json(sys.stdin.read())
        except ValueError:
            raise CommandError("Standard input is not a JSON object.") from None
        try:
            credential = holding.add(
                owner, options["venue"], options["label"], VENUES[options["venue"]].credentials_type.parse(values),
                now=timezone.now(), verify=not options["no_verify"], allow_trading_key=options["allow_trading_key"],
            )  # fmt: skip
        except (VenueError, holding.AlreadyAdded) as fault:
            raise CommandError(f"{fault} Nothing was stored.") from None
        return json.dumps({"id": credential.pk})
