"""What must be true of the keys before a secret is stored."""

import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

START = "start"  # the tag of what keeps every process from starting
# What stands in examples, and in keys that were meant to be changed.
PLACEHOLDERS = (
    "changeme", "change-me", "change_me", "insecure", "password", "example", "placeholder", "your-", "secret-key",
    "qwerty", "battery",
)  # fmt: skip
FEWEST_STEPS = 6
MAKE_NEW = "Make a new one (python3 -c 'import secrets; print(secrets.token_urlsafe(50))')"
THEN_ROTATE = "restart every process, and run manage.py rotate_secrets."
IN_FRONT = "put it in front of the old one, with a comma between"


@register(START)
def keys_are_safe(**_: Any) -> list[CheckMessage]:
    """Refuses to start without keys, or with ones that can be guessed: what they encrypt would be open to others."""
    try:
        secret_key = settings.SECRET_KEY
    except ImproperlyConfigured:  # it is empty
        secret_key = ""
    found = [
        *_faults("SALT_KEY", settings.SALT_KEY, 16, "E001", "E003", IN_FRONT),
        *_faults("SECRET_KEY", [secret_key], 32, "E002", "E004", "move the old one to SECRET_KEY_FALLBACKS"),
    ]
    if not found and not settings.DEBUG and secret_key == settings.SALT_KEY[0]:
        hint = f"Make a new SALT_KEY, {IN_FRONT}, {THEN_ROTATE}"
        found.append(Error("SECRET_KEY and SALT_KEY are the same.", hint=hint, id="exchanges.E005"))
    return found


def _faults(
    name: str, keys: Sequence[Any], shortest: int, missing: str, weak: str, what_of_the_old: str
) -> Iterator[CheckMessage]:
    if not keys or not all(isinstance(key, str) and len(key) >= shortest for key in keys):
        where = "in the environment or in .env" + (" (a comma list, newest first)" if name == "SALT_KEY" else "")
        yield Error(
            f"{name} is missing or shorter than {shortest} characters.",
            hint=f"Set it {where}; see .env.example.",
            id=f"exchanges.{missing}",
        )
    # Only the first one encrypts, and the way out of a weak key leads over keeping it behind the new one.
    elif not settings.DEBUG and can_be_guessed(keys[0]):
        hint = f"{MAKE_NEW}, {what_of_the_old}, {THEN_ROTATE}"
        yield Error(f"{name} can be guessed.", hint=hint, id=f"exchanges.{weak}")


def can_be_guessed(key: str) -> bool:
    """Whether this is a placeholder, the same over and over, or a run of the alphabet. Nothing made at random is."""
    steps = {ord(after) - ord(before) for before, after in pairwise(key)}
    packed = len(zlib.compress(key.encode(), wbits=-15))  # what repeats takes no room
    return any(word in key.lower() for word in PLACEHOLDERS) or len(steps) < FEWEST_STEPS or packed < len(key) / 2
