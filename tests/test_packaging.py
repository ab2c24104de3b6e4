"""The wheel alone is enough: what is built from this checkout runs a job on a machine that has no checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import redsched
from redsched.store.scripts import script_names

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import asyncio, json, sys
import redsched
from redsched import BackgroundTaskScheduler
from redsched.store.scripts import lua_folder
from redsched.testing import fresh_prefix

ran = []

async def greet(name):
    ran.append(name)
    return f"hello {name}"

async def main(url):
    async with BackgroundTaskScheduler(url, fresh_prefix(), declared_tasks=False) as scheduler:
        handle = await scheduler.schedule_immediate_task("greeting", greet, args=["wheel"], result_ttl=60)
        result = await handle.result(timeout=10)
        await scheduler.clear_all_jobs()
    print(json.dumps({"result": result.result, "ran": ran, "lua": str(lua_folder()), "file": redsched.__file__}))

asyncio.run(main(sys.argv[1]))
"""

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Without this checkout's environment."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "REDSCHED"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


def test_the_sdist_holds_all_that_its_readme_names(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--sdist", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (made,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(made) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (root,) = (tmp_path / "unpacked").iterdir()
    pages = [root / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
    for page in [*pages, *(root / "docs").rglob("*.md")]:
        text = page.read_text()
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            assert "://" in link or (page.parent / link).exists(), f"{page.name} links to {link}"
    scripts = re.findall(r"^sh (\S+\.sh)", (root / "README.md").read_text(), re.MULTILINE)
    assert len(scripts) == 3
    for script in scripts:
        text = (root / script).read_text()
        for named in re.findall(r"\.ci/[\w/.-]+\w", text):
            assert (root / named).exists(), f"{script} uses {named}"


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel and what it depends on, and no more."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    made = folder / "bin" / "python"
    run(made, "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return made


def test_the_wheel_holds_the_scripts_the_types_and_the_licence_and_nothing_else_of_the_checkout(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    scripts = {n.removeprefix("redsched/store/lua/") for n in names if n.startswith("redsched/store/lua/")}
    here = {str(path.relative_to(ROOT / "lua")) for path in (ROOT / "lua").rglob("*.lua")}
    assert scripts == here
    assert "redsched/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"redsched"}
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


def test_every_module_and_data_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = Path(redsched.__file__).parent
    here = {f"redsched/{p.relative_to(package)}" for p in package.rglob("*") if p.is_file()}
    assert {name for name in here if "__pycache__" not in name} <= names


def test_the_wheel_offers_users_the_extras_of_its_features_and_none_of_its_development(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA")]
    extras = set(re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE))
    assert extras == {"all", "cli", "crypto", "embedded", "fast", "metrics", "neuroglia", "web"}
    assert not re.findall(r"^Requires-Dist: (?:pytest|ruff|pyright|mypy|matplotlib)\b", metadata, re.MULTILINE)
    assert f"\nVersion: {redsched.__version__}\n" in metadata


def test_a_job_runs_from_the_wheel_outside_the_checkout(python: Path, redsched_url: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    told = json.loads(run(python, "program.py", redsched_url, cwd=tmp_path).stdout)
    assert (told["result"], told["ran"]) == ("hello wheel", ["wheel"])
    installed = python.parents[1]
    assert Path(told["lua"]).is_relative_to(installed)
    assert told["lua"].endswith("redsched/store/lua")
    assert Path(told["file"]).is_relative_to(installed)


def test_every_script_of_the_wheel_loads(python: Path, tmp_path: Path) -> None:
    code = "from redsched.store.scripts import load, script_names; print(*[load(n).name for n in script_names()])"
    assert tuple(run(python, "-c", code, cwd=tmp_path).stdout.split()) == script_names()


def test_the_command_says_what_to_install_without_its_extra_and_works_with_it(
    python: Path, wheel: Path, tmp_path: Path
) -> None:
    command = python.parent / "redsched"
    assert run(command, "--version", cwd=tmp_path).stdout.strip() == f"redsched {redsched.__version__}"
    bare = subprocess.run([command, "jobs"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert bare.returncode != 0
    assert "redsched[cli]" in bare.stderr
    assert "Traceback" not in bare.stderr
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[cli]", cwd=tmp_path)
    assert "Usage" in run(command, "--help", cwd=tmp_path).stdout
