"""manage.py create_token --owner NAME --name TEXT: a key for the API, shown once."""

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from accounts.audit import note
from accounts.models import ApiToken, User


class Command(BaseCommand):
    help = "Makes an API token and prints it. It is stored as a digest and can't be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--owner", required=True, help="whose volume the token may read")
        parser.add_argument("--name", default="API", help="what it is for")
        parser.add_argument(
            "--scope", choices=ApiToken.Scope.values, default=ApiToken.Scope.READ,
            help="read: nothing can be changed with it (if left out); manage: all that its owner may",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> str:
        owner = User.objects.filter(username=options["owner"]).first()
        if owner is None:
            raise CommandError(f"There is nobody named {options['owner']!r}.")
        try:
            ApiToken._meta.get_field("name").clean(options["name"], None)
        except ValidationError as wrong:
            raise CommandError(f"This is no name for a token. {' '.join(wrong.messages)}") from None
        text = ApiToken.issue(owner, options["name"], options["scope"])
        note(owner.pk, "token_made", options["name"])
        return text
