"""`python -m bench [section ...]`: runs the sections, each in a process of its own, prints tables, writes JSON.

What the JSON file holds of other sections stays, so that the parts of a long run can be measured one at a time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql

from bench.report import Measurement, heard, machine, say, table

# Each section is a module of this package whose `python -m bench.<section>` prints measurements, and the databases it
# is run on: it finds its own, empty and not yet migrated, in DATABASE_URL, and a Redis in REDIS_URL where there is one.
SECTIONS: dict[str, tuple[str, ...]] = {
    "parse": ("",),
    "store": ("sqlite", "postgresql"),
    "end_to_end": ("sqlite", "postgresql"),
    "pages": ("sqlite", "postgresql"),
    "live": ("sqlite", "postgresql"),
    "scale": ("postgresql",),
}
KEYS = {"SECRET_KEY": "for-this-benchmark-only-and-long-enough-for-it", "SALT_KEY": "for-this-benchmark-only-salt"}


def main() -> None:
    options = _options()
    told: dict[str, Any] = json.loads(options.json.read_text()) if options.json.exists() else {}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    for section in options.sections or SECTIONS:
        found: list[Measurement] = []
        for database in SECTIONS[section]:
            if database == "postgresql" and not options.postgres:
                say(f"{section} on PostgreSQL is left out: BENCH_DATABASE_URL is not set.")
                continue
            say(f"{section}{f' on {database}' if database else ''} ...")
            with _environment(database, options) as environment:
                found += _run(section, environment, size=options.size)
        if not found:
            continue
        # After each: hours of measuring are not lost with the last section.
        told[section] = {"size": options.size, "machine": machine(), "measurements": [asdict(item) for item in found]}
        options.json.write_text(json.dumps(told, indent=1) + "\n")
        print(table(found))
    say(f"As JSON, beside what was measured before: {options.json}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument(
        "--size", choices=("small", "full"), default=os.environ.get("BENCH_SIZE", "full"),
        help="small ends within minutes and says nothing of what only shows in the large",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, default=Path("var/bench.json"))
    parser.add_argument("--postgres", default=os.environ.get("BENCH_DATABASE_URL", ""), metavar="URL")
    parser.add_argument("--redis", default=os.environ.get("BENCH_REDIS_URL", ""), metavar="URL")
    options = parser.parse_args()
    if unknown := [name for name in options.sections if name not in SECTIONS]:
        parser.error(f"no section of the benchmark: {', '.join(unknown)}")
    return options


@contextmanager
def _environment(database: str, options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """The variables of a section's process, with a directory and a database of its own."""
    with tempfile.TemporaryDirectory(prefix="perpdash-bench-") as var_dir:
        own = {"LOG_LEVEL": "WARNING", **os.environ, **KEYS, "VAR_DIR": var_dir, "DATABASE_URL": "", "REDIS_URL": ""}
        if database != "postgresql":
            yield own
            return
        name = sql.Identifier(f"perpdash_bench_{uuid4().hex[:8]}")
        with psycopg.connect(options.postgres, autocommit=True) as server:
            server.execute(sql.SQL("CREATE DATABASE {}").format(name))
            try:
                url = options.postgres.rpartition("/")[0] + f"/{name.as_string().strip(chr(34))}"
                yield own | {"DATABASE_URL": url, "REDIS_URL": options.redis}
            finally:
                server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _run(section: str, environment: dict[str, str], *, size: str) -> list[Measurement]:
    """What a section's process tells. One that fails ends the benchmark: a table with a hole would look whole."""
    command = [sys.executable, "-m", f"bench.{section}", size]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        told = [heard(line) for line in process.stdout or ()]
    if process.returncode:
        sys.exit(f"bench.{section} failed ({process.returncode}).")
    return told


if __name__ == "__main__":
    main()
