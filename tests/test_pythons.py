"""redsched runs on the Pythons that it says: its scripts find them, and keep their environments apart."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import redsched

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def sourced(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run what .ci/venv.sh defines."""
    environment = {name: value for name, value in os.environ.items() if name != "REDSCHED_PYTHON"} | variables
    return subprocess.run(
        ["sh", "-c", f". .ci/venv.sh; {code}"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def a_python(folder: Path, version: str) -> Path:
    """A program that says that it is a Python of that version, for the scripts that ask for it."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "python3"
    made.write_text(f"#!/bin/sh\necho {version}\n")
    made.chmod(0o755)
    return made


def test_what_is_tested_is_what_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [each.rpartition(" ")[2] for each in project["classifiers"] if re.search(r":: 3\.\d+$", each)]
    assert declared == PYTHONS
    assert project["requires-python"] == f">={PYTHONS[0]}"
    assert f"for version in ${{*:-{' '.join(PYTHONS)}}}" in (ROOT / "tests" / "matrix.sh").read_text()


def test_each_python_is_found_once_path_first_and_pyenv_after_it(tmp_path: Path) -> None:
    path, pyenv = tmp_path / "bin", tmp_path / "pyenv"
    first = a_python(path, "3.12")
    a_python(pyenv / "versions" / "3.12.1" / "bin", "3.12")
    other = a_python(pyenv / "versions" / "3.13.0" / "bin", "3.13")
    variables = {"PATH": f"{path}:/usr/bin:/bin", "PYENV_ROOT": str(pyenv)}
    found = [line.split() for line in sourced("pythons", **variables).stdout.splitlines()]
    assert found[0] == ["3.12", str(first)], "the default is what PATH names"
    assert ["3.13", str(other)] in found
    assert len({version for version, _ in found}) == len(found)


def test_the_other_python_is_the_newest_that_is_not_the_default(tmp_path: Path) -> None:
    path, pyenv = tmp_path / "bin", tmp_path / "pyenv"
    a_python(path, "3.12")
    a_python(pyenv / "versions" / "3.9.0" / "bin", "3.09")
    newest = a_python(pyenv / "versions" / "3.97.0" / "bin", "3.97")
    a_python(pyenv / "versions" / "3.13.0" / "bin", "3.13")
    variables = {"PATH": f"{path}:/usr/bin:/bin", "PYENV_ROOT": str(pyenv)}
    assert sourced("another_python", **variables).stdout.strip() == str(newest)
    chosen = sourced("another_python", **variables, REDSCHED_PYTHON=str(newest)).stdout.strip()
    assert chosen not in ("", str(newest))


def test_an_older_python_is_not_taken(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")  # what the question for the version comes to
    old.chmod(0o755)
    done = sourced("venv_of .venv-test", REDSCHED_PYTHON=str(old))
    assert done.returncode == 2
    assert "must be a Python 3.11 or newer" in done.stderr


def test_the_environments_of_two_pythons_are_two_folders() -> None:
    version = "{}.{}".format(*sys.version_info)
    assert sourced("venv_of .venv-test").stdout == ".venv-test\n"
    assert sourced("venv_of .venv-test", REDSCHED_PYTHON=sys.executable).stdout == f".venv-test-{version}\n"


@pytest.mark.parametrize(
    "script", [
        "tests/run.sh", "tests/matrix.sh", "examples/demo.sh", ".ci/run", ".ci/containers/newer-debian.sh",
        ".ci/containers/in-root.sh",
    ],
)  # fmt: skip
def test_a_script_can_be_read_by_its_shell(script: str) -> None:
    path = ROOT / script
    shell = path.read_text().splitlines()[0].rpartition("/")[2].split()[-1]
    done = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_that_python_has_deprecated_is_used() -> None:
    """Without pytest's filters: what compiles or is imported with a warning here fails in a later Python."""
    code = (
        "import importlib, pkgutil, warnings, redsched\n"
        "names = [m.name for m in pkgutil.walk_packages(redsched.__path__, 'redsched.') if '__main__' not in m.name]\n"
        "for name in names: importlib.import_module(name)\n"
    )
    command = [sys.executable, "-B", "-X", "pycache_prefix=/dev/null", "-c", code]
    # Others' packages are their own affair: only what is raised for a module of ours counts.
    environment = {**os.environ, "PYTHONWARNINGS": "always", "PYTHONPATH": str(Path(redsched.__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    own = str(Path(redsched.__file__).parent)
    assert [line for line in done.stderr.splitlines() if line.startswith(own) and "Warning" in line] == []
