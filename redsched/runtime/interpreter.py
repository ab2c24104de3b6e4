"""The Python program to start child processes with: what runs this process may be a server with Python built in."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["python_program"]

_IS_PYTHON = re.compile(r"(python|pypy)[\d.]*[tdw]*(\.exe)?", re.IGNORECASE)


def python_program() -> str:
    """The path of the Python program of this installation.

    `sys.executable` is the server's own program under uWSGI, and may be empty in an embedded interpreter. To start it
    with Python's options would start a further server.

    Raises:
        OSError: there is none.
    """
    if sys.executable and _IS_PYTHON.fullmatch(Path(sys.executable).name):
        return sys.executable
    for path in _candidates():
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    raise OSError(
        f"no Python program was found: this process runs as {sys.executable or 'an embedded interpreter'}, and there "
        f"is none in {' or '.join(dict.fromkeys(map(str, _folders())))}"
    )


def _folders() -> Iterator[Path]:
    # A virtual environment first: what is installed in it is found by its own program.
    for prefix in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix):
        yield Path(prefix) if sys.platform == "win32" else Path(prefix) / "bin"


def _candidates() -> Iterator[Path]:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    names = ("python.exe",) if sys.platform == "win32" else (f"python{version}", f"pypy{version}")
    for folder in _folders():
        for name in names:  # one of another version could not read what this one has installed
            yield folder / name
