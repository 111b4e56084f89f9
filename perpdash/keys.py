"""The keys of an installation that was given none: made once, kept in a file only its owner can read."""

import json
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path


def kept_keys(folder: Path) -> dict[str, str]:
    """SECRET_KEY and SALT_KEY from `folder`/keys.json, made on the first call.

    Losing this file loses every stored venue key, so it lives beside the database.
    """
    path = folder / "keys.json"
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the database beside it is nobody else's either
        keys = {"SECRET_KEY": secrets.token_urlsafe(50), "SALT_KEY": secrets.token_urlsafe(32)}
        number, draft = tempfile.mkstemp(dir=folder, prefix="keys.")  # readable by its owner only
        with os.fdopen(number, "w") as file:
            json.dump(keys, file)
        with suppress(FileExistsError):
            os.link(draft, path)  # of two processes that start at once, one wins and both read its keys
        os.unlink(draft)
    kept: dict[str, str] = json.loads(path.read_text())
    return kept
