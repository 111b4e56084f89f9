"""What the environment says: NAME itself, or, where NAME_FILE is set, the text of the file it names."""

import sys

import environ
from environ.fileaware_mapping import FileAwareMapping


class _Environment(FileAwareMapping):  # type: ignore[misc]
    def __getitem__(self, key: str) -> str:
        try:
            value: str = super().__getitem__(key)
        except (OSError, UnicodeDecodeError) as fault:
            # Every process reads its settings before it does anything else: this is how each of them ends.
            reason = getattr(fault, "strerror", None) or "it is not UTF-8 text"
            sys.exit(f"perpdash does not start: the file that {key}_FILE names can't be read: {reason}.")
        # An editor ends a file with a newline, which is part of no key. An empty file says nothing.
        said = value.strip() or str(self.env[key])
        # Django-environ takes what begins with $ for the name of another setting; a password may well begin so.
        return said.replace("$", r"\$")


class Environment(environ.FileAwareEnv):  # type: ignore[misc]
    """Every setting may come as a file: how Docker and others hand over secrets, seen by no `docker inspect`."""

    ENVIRON = _Environment()

    def __init__(self) -> None:
        super().__init__()
        self.escape_proxy = True  # as `_Environment` writes a dollar
