"""Makes what docker compose needs, from a fresh clone and with Python alone: .env, and the keys and passwords as files.

What is there already stays as it is, so that it may run again at any time, after an upgrade for one.
"""

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path("var/secrets")
# What each file holds at first. An empty one is a setting that need not be set: put it in when you have it.
SECRETS = {
    "secret_key": secrets.token_urlsafe(50),
    "secret_key_fallbacks": "",
    "salt_key": secrets.token_urlsafe(50),
    "database_password": secrets.token_urlsafe(32),
    "redis_password": secrets.token_urlsafe(32),
    "metrics_token": secrets.token_urlsafe(32),
    "coingecko_api_key": "",
    "email_url": "",
    "sentry_dsn": "",
}
# NAME=value, and what compose takes for a comment after it.
LINE = r"^(\w+)=([^\n]+?)(?:\s+#.*)?$"
FORMER_NAMES = {"database_password": "POSTGRES_PASSWORD"}
ENV = """\
# Three values for docker compose. Keys and passwords are files under var/secrets/; all other settings: .env.example.

# The name under which the page is opened, as perpdash.example.org. It must lead to this machine.
PUBLIC_HOST=
# Whom the certificate authority tells when something is wrong with the certificate.
TLS_EMAIL=
# tls: certificates are fetched and renewed, and the page is served on ports 80 and 443.
# plain: a proxy of yours ends TLS in front of 127.0.0.1:8000 and sets X-Forwarded-For and -Proto; then add PROXIES=2.
COMPOSE_PROFILES=tls
"""


def make(here: Path) -> Iterator[str]:
    """Makes what is missing under `here`, and says what it did and what is left to do. Gives no secret away."""
    env = here / ".env"
    kept = dict(re.findall(LINE, env.read_text(), re.MULTILINE)) if env.exists() else {}
    folder = here / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    # The containers' users are nobody on this machine, and compose hands them the files as they are: so the files
    # are readable, and the folder around them lets in its owner alone.
    folder.chmod(0o700)
    for name, text in SECRETS.items():
        setting = FORMER_NAMES.get(name, name.upper())
        # An installation that had its keys in .env keeps them: with others it could not read what it stored.
        if _write(folder / name, kept.get(setting, "").strip("'\" ") or text, 0o644):
            taken = f"holds what {setting} in .env says: take that line out there, containers would show it."
            yield f"{FOLDER / name} {taken if setting in kept else 'is made.'}"
    if _write(env, ENV, 0o600):
        yield ".env is made."
        kept = {"COMPOSE_PROFILES": "tls"}
    if missing := [name for name in ("PUBLIC_HOST", "TLS_EMAIL", "COMPOSE_PROFILES") if not kept.get(name)]:
        yield f"Now fill in {' and '.join(missing)} in .env, and keep a copy of {FOLDER} in another place."


def _write(path: Path, text: str, mode: int) -> bool:
    """Whether the file was made: False where there is one already."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(number, "w") as file:
        file.write(text)
    path.chmod(mode)
    return True


if __name__ == "__main__":
    for line in make(Path(__file__).resolve().parent.parent):
        print(line)  # noqa: T201
