"""A wrong argument is an error in the editor: pyright refuses each marked line, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "typing"
pytest.importorskip("pyright", reason="pyright is of the extra `dev`")


def errors_of(file: Path) -> dict[int, str]:
    """The first error of each line, counted from 1."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(file)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parents[1]).stdout)
    found: dict[int, str] = {}
    for problem in told["generalDiagnostics"]:
        if problem["severity"] == "error":
            found.setdefault(problem["range"]["start"]["line"] + 1, problem["message"])
    return found


def test_the_type_checker_refuses_each_marked_line_and_no_other() -> None:
    file = HERE / "refused.py"
    marked = {n for n, line in enumerate(file.read_text().splitlines(), 1) if line.endswith("# refused")}
    errors = errors_of(file)
    assert marked - set(errors) == set(), "accepted, though it is wrong"
    assert {n: errors[n] for n in set(errors) - marked} == {}, "refused, though it is right"
    assert len(marked) > 20


def test_the_type_checker_accepts_what_is_right() -> None:
    assert errors_of(HERE / "accepted.py") == {}
