"""A virtual environment for each peer, made once and kept in `benchmarks/.environments`.

The versions are pinned, so that a figure can be repeated; what is in an environment is told in the JSON. A peer that
does not take this process' Python gets the newest that is on PATH or under pyenv, or one in a root folder of Debian's
forky.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["HERE", "InstallError", "command_of", "folder_of", "install"]

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("REDSCHED_BENCH_ENVIRONMENTS") or HERE / ".environments")
CONTAINERS = HERE.parent / ".ci" / "containers"
LIMIT_S = 300.0

Version = tuple[int, int]
FORKY: tuple[Version, ...] = ((3, 13), (3, 14))
"""The Pythons that Debian's forky has."""


class InstallError(Exception):
    """It cannot be installed; the message is the installer's last line."""


def folder_of(name: str) -> Path:
    return FOLDER / name


def _python_in(name: str) -> str:
    return str(folder_of(name) / "bin" / "python")


def _enter() -> list[str]:
    """What runs a command in forky's root folder, with all that peers read and write at its usual place."""
    shared = dict.fromkeys(str(path) for path in (HERE.parent, FOLDER, tempfile.gettempdir()))
    return ["bash", str(CONTAINERS / "in-root.sh"), str(FOLDER / "forky-root"), *shared, "--"]


def command_of(name: str) -> list[str]:
    """The command that starts the interpreter of an environment."""
    kept = json.loads((folder_of(name) / "installed.json").read_text())
    return [*(_enter() if kept.get("in_root") else ()), _python_in(name)]


def interpreter(least: Version) -> list[str]:
    """The command of a Python of that version or newer: this one, if it is; else the newest that is here.

    Raises:
        InstallError: there is none.
    """
    if sys.version_info >= least:
        return [sys.executable]
    names = [f"python3.{minor}" for minor in range(20, least[1] - 1, -1)]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found: dict[Version, str] = {}
    for candidate in [*names, *map(str, pyenv.glob("3.*/bin/python3"))]:
        version = _version([candidate])
        if version is not None and version >= least:
            found.setdefault(version, candidate)
    if found:
        return [found[max(found)]]
    return _from_forky(least)


def _version(python: list[str]) -> Version | None:
    """None: it does not run (a shim of pyenv's for a version that is not chosen does not)."""
    question = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([*python, "-c", question], capture_output=True, text=True, check=False, timeout=20)
        major, minor = map(int, done.stdout.split())
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return major, minor


def _from_forky(least: Version) -> list[str]:
    version = next((each for each in FORKY if each >= least), None)
    wanted = "{}.{}".format(*least)
    script = CONTAINERS / "newer-debian.sh"
    if version is None or not script.exists():
        raise InstallError(f"needs Python {wanted}, which is neither on PATH nor under pyenv")
    name = "python{}.{}".format(*version)
    root = str(FOLDER / "forky-root")
    try:
        _call(["bash", str(script), "forky", root, name, f"{name}-venv"], HERE)
    except InstallError as error:
        why = str(error).removeprefix("cannot be installed: ")
        raise InstallError(f"needs Python {wanted}, which is neither on PATH nor under pyenv; {why}") from None
    return [*_enter(), f"/usr/bin/{name}"]


def install(name: str, requires: tuple[str, ...], least: Version = (3, 11)) -> dict[str, str]:
    """Make an environment if there is none with just these requirements. `node:bullmq@6.7.0` is one of npm's.

    Args:
        name: of its folder.
        requires: what pip, or npm, installs.
        least: the oldest Python that takes them.

    Returns:
        the versions of all that is in it, with that of the interpreter.

    Raises:
        InstallError: it cannot be installed.
    """
    folder = folder_of(name)
    done = folder / "installed.json"
    if done.exists():
        kept = json.loads(done.read_text())
        if kept["requires"] == list(requires) and ("python" in kept["versions"] or "node" in kept["versions"]):
            return dict(kept["versions"])
    shutil.rmtree(folder, ignore_errors=True)
    node = [each.removeprefix("node:") for each in requires if each.startswith("node:")]
    in_root = False
    if node:
        versions = _install_node(folder, node)
    else:
        python = interpreter(least)
        in_root = len(python) > 1
        _call([*python, "-m", "venv", str(folder)], HERE)
        inside = [*python[:-1], _python_in(name)]
        _call([*inside, "-m", "pip", "install", "--quiet", *requires], HERE)
        told = json.loads(_call([*inside, "-m", "pip", "list", "--format", "json"], HERE))
        versions = {row["name"]: row["version"] for row in told if row["name"] not in ("pip", "setuptools")}
        versions["python"] = _call([*inside, "-c", "import platform; print(platform.python_version())"], HERE).strip()
    done.write_text(json.dumps({"requires": list(requires), "versions": versions, "in_root": in_root}))
    return versions


def _install_node(folder: Path, packages: list[str]) -> dict[str, str]:
    folder.mkdir(parents=True)
    (folder / "package.json").write_text('{"private": true}')
    _call(["npm", "install", "--silent", "--no-audit", "--no-fund", *packages], folder)
    versions = {
        json.loads(each.read_text())["name"]: json.loads(each.read_text())["version"]
        for each in sorted((folder / "node_modules").glob("*/package.json"))
    }
    versions["node"] = _call(["node", "--version"], folder).strip()
    return versions


def _call(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"cannot be installed: {error}") from None
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines() or ["?"]
        raise InstallError(f"cannot be installed: {told[-1][-200:]}")
    return done.stdout
