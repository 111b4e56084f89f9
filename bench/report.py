"""What was measured, beside what, and how it is told: lines of JSON between processes, tables for people."""

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One figure. Where it stands beside another, both were taken in the same run, on the same rows."""

    section: str  # parse, store, ...
    what: str  # "Bybit, 100,000 rows, SQLite"
    value: float
    unit: str  # "fills/s", "ms", "MB", "x"
    beside: str = ""  # what it is compared with: "ccxt parse_trades", "COPY of the same rows"
    beside_value: float | None = None  # in the same unit
    ratio: float | None = None  # as the goal means it
    goal: str = ""  # "at least 8", "at most 2.5": of the ratio, or of the value where there is no ratio
    is_met: bool | None = None
    note: str = ""
    more: dict[str, Any] = field(default_factory=dict)  # for the JSON alone


def at_most(figure: float, bound: float) -> dict[str, Any]:
    """The goal and whether it is met, for a Measurement."""
    return {"goal": f"at most {bound:g}", "is_met": figure <= bound}


def at_least(figure: float, bound: float) -> dict[str, Any]:
    """The goal and whether it is met, for a Measurement."""
    return {"goal": f"at least {bound:g}", "is_met": figure >= bound}


def tell(measurement: Measurement) -> None:
    """From a section's process to the one that collects."""
    print(json.dumps(asdict(measurement)), flush=True)


def say(words: str) -> None:
    """Where the benchmark is, for whoever waits."""
    print(words, file=sys.stderr, flush=True)


def heard(line: str) -> Measurement:
    """The other end of `tell`."""
    return Measurement(**json.loads(line))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that `share` of them do not exceed. `values` is not empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine() -> dict[str, str]:
    """What it was measured on."""
    return {
        "processor": f"{_processor()}, {_cores()} cores",
        "memory": f"{_memory_gib():.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


HEAD = ("", "measured", "beside", "ratio", "goal", "met")


def table(rows: Iterable[Measurement]) -> str:
    """As Markdown."""
    cells = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEAD))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "".join(f"| {line} |\n" for line in lines)


def _cells(row: Measurement) -> tuple[str, ...]:
    beside = "" if row.beside_value is None else f"{_number(row.beside_value)} {row.unit}"
    return (
        f"{row.what}{f' ({row.note})' if row.note else ''}",
        f"{_number(row.value)} {row.unit}",
        f"{row.beside}: {beside}" if beside else row.beside,
        "" if row.ratio is None else f"{row.ratio:.2f}",
        row.goal,
        {True: "yes", False: "no", None: ""}[row.is_met],
    )


def document(told: Mapping[str, Any]) -> str:
    """What the JSON file holds, as the part of docs/benchmarks.md that is not written by hand."""
    parts = []
    for section, found in told.items():
        machine = ", ".join(found["machine"].values())
        rows = [Measurement(**item) for item in found["measurements"]]
        parts.append(f"### {section}\n\n{machine}; size {found['size']}.\n\n{table(rows)}")
    return "\n".join(parts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    print(document(json.loads(Path(sys.argv[1]).read_text())))
