"""Child processes are started with Python, also where what runs the application is a server with Python built in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from redsched.runtime.interpreter import python_program


def test_python_itself_is_taken_as_it_is() -> None:
    assert python_program() == sys.executable


@pytest.mark.parametrize("program", ["/usr/bin/uwsgi", "/usr/sbin/unitd", "", "/opt/app/pythonista"])
def test_of_a_server_with_python_built_in_the_python_of_its_installation_is_found(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    found = python_program()
    said = subprocess.run(
        [found, "-c", "import sys; print(sys.prefix, *sys.version_info[:2])"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert said == [sys.prefix, *map(str, sys.version_info[:2])], "of this version, and of this virtual environment"


def test_where_there_is_none_the_error_names_the_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    for name in ("prefix", "exec_prefix", "base_prefix", "base_exec_prefix"):
        monkeypatch.setattr(sys, name, str(tmp_path))
    with pytest.raises(OSError, match="this process runs as /usr/bin/uwsgi") as raised:
        python_program()
    assert str(tmp_path / "bin") in str(raised.value)
