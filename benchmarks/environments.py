"""A virtual environment for each peer, made once and kept in `benchmarks/.environments`.

The versions are pinned, so that a figure can be repeated; what is in an environment is told in the JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["HERE", "InstallError", "install", "python_of"]

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("REDSCHED_BENCH_ENVIRONMENTS") or HERE / ".environments")
LIMIT_S = 300.0


class InstallError(Exception):
    """It cannot be installed; the message is the installer's last line."""


def folder_of(name: str) -> Path:
    return FOLDER / name


def python_of(name: str) -> str:
    """The interpreter of an environment."""
    return str(folder_of(name) / "bin" / "python")


def install(name: str, requires: tuple[str, ...]) -> dict[str, str]:
    """Make an environment if there is none with just these requirements. `node:bullmq@6.7.0` is one of npm's.

    Returns:
        the versions of all that is in it.

    Raises:
        InstallError: it cannot be installed.
    """
    folder = folder_of(name)
    done = folder / "installed.json"
    if done.exists():
        kept = json.loads(done.read_text())
        if kept["requires"] == list(requires):
            return dict(kept["versions"])
    shutil.rmtree(folder, ignore_errors=True)
    node = [each.removeprefix("node:") for each in requires if each.startswith("node:")]
    if node:
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"private": true}')
        _call(["npm", "install", "--silent", "--no-audit", "--no-fund", *node], folder)
        versions = {
            json.loads(each.read_text())["name"]: json.loads(each.read_text())["version"]
            for each in sorted((folder / "node_modules").glob("*/package.json"))
        }
        versions["node"] = _call(["node", "--version"], folder).strip()
    else:
        _call([sys.executable, "-m", "venv", str(folder)], HERE)
        _call([python_of(name), "-m", "pip", "install", "--quiet", *requires], HERE)
        told = json.loads(_call([python_of(name), "-m", "pip", "list", "--format", "json"], HERE))
        versions = {row["name"]: row["version"] for row in told if row["name"] not in ("pip", "setuptools")}
    done.write_text(json.dumps({"requires": list(requires), "versions": versions}))
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
