"""Promises about the repository itself."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\n") if name and (ROOT / name).is_file()]


def test_every_setting_the_environment_may_hold_stands_in_the_example() -> None:
    source = (ROOT / "perpdash/settings.py").read_text() + (ROOT / "docker-compose.yml").read_text()
    asked = set(re.findall(r'env\.\w+\("(\w+)"', source)) | set(re.findall(r"\$\{(\w+)", source))
    offered = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert asked == offered


def test_every_direct_requirement_is_pinned_and_agrees_with_the_constraints() -> None:
    constraints = dict(
        re.findall(
            r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text().lower().replace("_", "-"), re.MULTILINE
        )
    )
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().lower().splitlines():
            if line and not line.startswith(("#", "-r")):
                package, version = line.split("==")
                assert constraints[package.split("[")[0]] == version


def test_a_venue_has_its_sandbox_and_its_setting() -> None:
    from django.conf import settings

    from exchanges.sandbox import SANDBOXES
    from exchanges.venues import VENUES

    assert set(VENUES) == set(SANDBOXES) == set(settings.VENUE_URLS)


def test_no_page_holds_an_inline_script_or_style() -> None:
    for path in tracked():
        if path.suffix == ".html":
            text = path.read_text()
            assert not re.search(r"<script(?![^>]*\b(src|type=\"application/json\")\b)[^>]*>\s*\S", text), path
            assert not re.search(r"\sstyle=|\son\w+=|<style", text), path


def test_no_file_speaks_of_a_machine_it_was_made_on() -> None:
    words = re.compile("/(wor" + "k|roo" + "t)/|/tm" + "p/")
    mine = {".py", ".md", ".html", ".js", ".css", ".toml", ".yml", ".txt", ".json", ""}
    found = [
        path for path in tracked() if path.suffix in mine and path != Path(__file__) and words.search(path.read_text())
    ]
    assert not found
