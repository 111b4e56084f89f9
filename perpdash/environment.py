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
        return value.strip() or str(self.env.get(key, ""))


class Environment(environ.FileAwareEnv):  # type: ignore[misc]
    """Every setting may come as a file: how Docker and others hand over secrets, seen by no `docker inspect`."""

    ENVIRON = _Environment()
