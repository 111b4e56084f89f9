"""The benchmark tells what it measured, and nothing else. How fast things are is no test's business."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bench.__main__ import SECTIONS
from bench.report import Measurement, at_least, at_most, document, heard, machine, percentile, table, tell

ROOT = Path(__file__).resolve().parents[1]
FAST = Measurement(
    section="parse", what="Bybit", value=400_000, unit="fills/s", beside="ccxt", beside_value=40_000, ratio=10,
    **at_least(10, 8),
)  # fmt: skip
SLOW = Measurement(section="pages", what="dashboard, p95", value=61.2, unit="ms", note="cold", **at_most(61.2, 50))


def test_what_a_section_tells_arrives_whole(capsys: pytest.CaptureFixture[str]) -> None:
    tell(FAST)
    assert heard(capsys.readouterr().out) == FAST


def test_the_table_says_what_was_missed() -> None:
    fast, slow = table([FAST, SLOW]).splitlines()[2:]
    assert [cell.strip() for cell in fast.split("|")[1:-1]] == [
        "Bybit", "400,000 fills/s", "ccxt: 40,000 fills/s", "10.00", "at least 8", "yes",
    ]  # fmt: skip
    assert [cell.strip() for cell in slow.split("|")[1:-1]] == [
        "dashboard, p95 (cold)", "61.2 ms", "", "", "at most 50", "no",
    ]  # fmt: skip


def test_a_goal_that_is_just_reached_is_met() -> None:
    assert at_most(2.5, 2.5)["is_met"]
    assert at_least(8, 8)["is_met"]


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.95), percentile([7.0], 0.95)) == (51, 96, 7)


def test_the_document_names_machine_and_size_of_each_section() -> None:
    told = {"parse": {"size": "small", "machine": machine(), "measurements": [asdict(FAST)]}}
    text = document(json.loads(json.dumps(told)))
    assert text.startswith("### parse\n\n")
    assert machine()["processor"] in text
    assert "size small." in text
    assert "| Bybit |" in text


def test_every_section_is_a_module() -> None:
    assert {path.stem for path in (ROOT / "bench").glob("*.py")} >= set(SECTIONS)
