"""What a release will say: one fragment a change in news/, of which towncrier makes the section of CHANGELOG.md."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOWNCRIER = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
KINDS = {kind["directory"]: kind["name"] for kind in TOWNCRIER["type"]}


def problems(fragment: Path) -> list[str]:
    """What is wrong with a fragment; news/README.md says how one looks."""
    found: list[str] = []
    match = re.fullmatch(r"(?:\+[a-z0-9-]+|\d+)\.([a-z]+)\.md", fragment.name)
    if match is None:
        found.append("its name must be +<what>.<kind>.md")
    elif match[1] not in KINDS:
        found.append(f"its kind must be one of {', '.join(KINDS)}")
    text = fragment.read_text()
    if not re.match(r"[A-Z0-9`_]", text):
        found.append("it must begin with a sentence, without a bullet or a heading")
    if not text.rstrip().endswith((".", "`", "!", ")")) or not text.endswith("\n"):
        found.append("it must end with a full sentence and a line break")
    return found


def test_every_fragment_is_well_formed() -> None:
    fragments = [path for path in (ROOT / "news").iterdir() if path.name != "README.md"]
    assert {path.name: problems(path) for path in fragments if problems(path)} == {}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("+jitter.added.md", "Retries take a `jitter`.\n", None),
        ("17.fixed.md", "A job is no longer run twice.\n", None),
        ("jitter.added.md", "Retries take a `jitter`.\n", "its name must be"),
        ("+jitter.feature.md", "Retries take a `jitter`.\n", "its kind must be one of security, added"),
        ("+jitter.added.md", "- Retries take a `jitter`.\n", "without a bullet"),
        ("+jitter.added.md", "Retries take", "it must end with a full sentence"),
    ],
)
def test_a_fragment_that_is_not_well_formed_is_refused(
    tmp_path: Path, name: str, text: str, problem: str | None
) -> None:
    fragment = tmp_path / name
    fragment.write_text(text)
    found = problems(fragment)
    assert [problem in each for each in found] == ([] if problem is None else [True])


def test_the_page_on_fragments_names_every_kind() -> None:
    assert re.findall(r"^\| `(\w+)` \|", (ROOT / "news" / "README.md").read_text(), re.MULTILINE) == list(KINDS)


def test_a_release_moves_the_fragments_into_a_section_above_the_others(tmp_path: Path) -> None:
    pytest.importorskip("towncrier", reason="towncrier is of the group `dev`")
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    before = (tmp_path / "CHANGELOG.md").read_text()
    (tmp_path / "news").mkdir()
    (tmp_path / "news" / "README.md").write_text("stays")
    for kind in KINDS:
        (tmp_path / "news" / f"+one.{kind}.md").write_text(f"What was {kind}.\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    command = [sys.executable, "-m", "towncrier", "build", "--yes", "--version", "98.7.6", "--date", "2030-01-02"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    added = "".join(f"### {name}\n\n- What was {kind}.\n\n" for kind, name in KINDS.items())
    head, marker, rest = before.partition(TOWNCRIER["start_string"])
    assert marker, "CHANGELOG.md must have the line at which sections are put in"
    text = (tmp_path / "CHANGELOG.md").read_text()
    assert text.startswith(head + marker)
    assert f"## [98.7.6] - 2030-01-02\n\n{added.rstrip()}\n" in text
    assert text.endswith(rest.lstrip("\n"))
    assert [path.name for path in (tmp_path / "news").iterdir()] == ["README.md"]
