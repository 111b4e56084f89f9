"""manage.py sign_in_link: an address that signs a person in once, or with which the first one makes their account."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from accounts.audit import note
from accounts.joining import welcome_link
from accounts.models import User
from accounts.origin import served_at
from accounts.tokens import sign_in_links


def link_for(user: User, origin: str) -> str:
    return origin.rstrip("/") + reverse("accounts:link", args=[user.pk, sign_in_links.make_token(user)])


def add_origin(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--origin",
        help="where the link is to lead, as https://perpdash.example.org; if left out, where perpdash is served as far "
        "as it knows: without HTTPS and `up` that is this machine at the port PORT of the environment, else 8000",
    )


class Command(BaseCommand):
    help = (
        "Prints a link that signs a person in once, within a day: for the first start, a forgotten password, or a lost "
        "second step, which the link does not ask for. While nobody is here, the link is one that makes the owner."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--owner", help="user name; the first superuser if left out")
        add_origin(parser)

    def handle(self, *args: Any, **options: Any) -> str:
        origin = options["origin"] or served_at()
        if not User.objects.exists():
            return welcome_link(origin)
        people = User.objects.filter(is_active=True).order_by("pk")
        name = options["owner"]
        user = people.filter(username=name).first() if name else people.filter(is_superuser=True).first()
        if user is None:
            raise CommandError(f"There is nobody named {name!r}." if name else "Nobody here is an owner: use --owner.")
        note(user.pk, "link_made")
        return link_for(user, origin)
