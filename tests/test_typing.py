"""A wrong argument is an error in the editor: pyright and mypy refuse each marked line, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import redsched

HERE = Path(__file__).parent / "typing"
ROOT = HERE.parents[1]


def pyright(file: Path) -> dict[int, str]:
    """The first error of each line, counted from 1."""
    pytest.importorskip("pyright", reason="pyright is of the group `dev`")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(file)]
    reply = json.loads(subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout)
    found: dict[int, str] = {}
    for problem in reply["generalDiagnostics"]:
        if problem["severity"] == "error":
            found.setdefault(problem["range"]["start"]["line"] + 1, problem["message"])
    return found


def mypy(file: Path) -> dict[int, str]:
    """The same by mypy, in its strict mode; of redsched itself it shows no errors, as of any installed package."""
    pytest.importorskip("mypy", reason="mypy is of the group `dev`")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    found: dict[int, str] = {}
    for line in done.stdout.splitlines():
        if match := re.match(rf"[^:]*{re.escape(file.name)}:(\d+): error: (.*)", line):
            found.setdefault(int(match[1]), match[2])
    return found


def is_public(symbol: str) -> bool:
    """Of the public names, their members, and the modules that users import from."""
    if symbol.rpartition(".")[0] == "redsched" or symbol.startswith(OPEN_MODULES):
        return True
    return any(f"{symbol}.".startswith(f"{home}.{name}.") for name, home in redsched._HOMES.items())


OPEN_MODULES = ("redsched.errors.", "redsched.integrations.", "redsched.testing.pytest_plugin.", "redsched.testing.")


def test_the_types_of_the_public_api_are_complete() -> None:
    """`pyright --verifytypes`: every parameter, return value and attribute has a type that no checker has to guess.

    What redis-py and others leave open is theirs; what is private counts as far as public names refer to it.
    """
    pytest.importorskip("pyright", reason="pyright is of the group `dev`")
    command = [sys.executable, "-m", "pyright", "--verifytypes", "redsched", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    public = {symbol["name"]: symbol for symbol in symbols if is_public(symbol["name"])}
    assert {f"redsched.{name}" for name in redsched._HOMES} <= set(public), "pyright has seen another package"
    incomplete = {
        name: [problem["message"] for problem in symbol["diagnostics"] if problem["severity"] == "error"]
        for name, symbol in public.items()
        if symbol["isTypeAmbiguous"] or not symbol["isTypeKnown"]
    }
    assert incomplete == {}


CHECKERS = pytest.mark.parametrize("errors_of", [pyright, mypy])


@CHECKERS
def test_the_type_checker_refuses_each_marked_line_and_no_other(errors_of: Callable[[Path], dict[int, str]]) -> None:
    file = HERE / "refused.py"
    marked = {n for n, line in enumerate(file.read_text().splitlines(), 1) if line.endswith("# refused")}
    errors = errors_of(file)
    assert marked - set(errors) == set(), "accepted, though it is wrong"
    assert {n: errors[n] for n in set(errors) - marked} == {}, "refused, though it is right"
    assert len(marked) > 35


@CHECKERS
def test_the_type_checker_accepts_what_is_right(errors_of: Callable[[Path], dict[int, str]]) -> None:
    assert errors_of(HERE / "accepted.py") == {}
