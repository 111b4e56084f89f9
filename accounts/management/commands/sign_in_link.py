"""manage.py sign_in_link: an address that signs the owner in once."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from accounts.models import User
from accounts.tokens import sign_in_links

ORIGIN = "origin.txt"  # under VAR_DIR: where `up` serves


def link_for(user: User, origin: str) -> str:
    return origin.rstrip("/") + reverse("accounts:link", args=[user.pk, sign_in_links.make_token(user)])


class Command(BaseCommand):
    help = "Prints a link that signs a person in once, for the first start or a forgotten password."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--owner", help="user name; the first superuser if left out")
        parser.add_argument("--origin", help="as https://perpdash.example.org; where `up` serves if left out")

    def handle(self, *args: Any, **options: Any) -> str:
        people = User.objects.filter(is_active=True).order_by("pk")
        name = options["owner"]
        user = people.filter(username=name).first() if name else people.filter(is_superuser=True).first()
        if user is None:
            raise CommandError(f"There is nobody named {name!r}." if name else "Nobody is here yet: open the page.")
        kept = settings.VAR_DIR / ORIGIN
        origin = options["origin"] or (kept.read_text() if kept.exists() else "http://127.0.0.1:8000")
        return link_for(user, origin)
