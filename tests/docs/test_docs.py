"""The examples in the docs run, and their links lead to existing files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redsched.testing import fresh_prefix
from tests.servers import ROOT, LocalServer

PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
DEFINITION = re.compile(r"^\[([^\]]+)\]: (\S+)$", re.MULTILINE)
REFERENCE = re.compile(r"\]\[([^\]]+)\]")


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_python_block_is_python(page: Path) -> None:
    for block in blocks(page):
        compile(block, str(page), "exec")


def test_the_names_of_the_tours_links_are_those_of_its_list() -> None:
    text = (ROOT / "docs" / "tour.md").read_text()
    assert set(REFERENCE.findall(text)) == {name for name, _ in DEFINITION.findall(text)}


def test_the_picture_in_readme_shows_a_demo_whose_account_adds_up() -> None:
    text = (ROOT / "docs" / "demo.svg").read_text().replace("&#160;", " ")
    assert "It adds up:" in text
    assert "0 lost, 0 doubled" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    named = dict(DEFINITION.findall(text))
    for link in [*LINK.findall(text), *named.values()]:
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_readme_example_runs_as_it_stands(redsched_url: str, tmp_path: Path) -> None:
    [example] = blocks(ROOT / "README.md")
    script = tmp_path / "example.py"
    script.write_text(example.replace("redis://localhost:6379", redsched_url))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "start preparing order order-1" in done.stdout
    assert "Outcome.DONE" in done.stdout


@pytest.fixture
def own_server() -> Iterator[str]:
    """A server with no prefixes of other tests: a hint names only the first of them."""
    with LocalServer() as server:
        yield server.url


def test_the_readme_example_is_a_target_of_worker_and_of_jobs_list(own_server: str, tmp_path: Path) -> None:
    """Both as printed: the jobs of the one are shown by the other, and run by a worker that only has the file."""
    redsched_url = own_server
    [example] = blocks(ROOT / "README.md")
    prefix = fresh_prefix()
    text = example.replace("redis://localhost:6379", redsched_url).replace("mario_pizzeria", prefix)
    (tmp_path / "shop.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "redsched.cli", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    worker = subprocess.Popen(
        [sys.executable, "-m", "redsched.cli", "worker", "shop:scheduler"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert worker.stderr is not None
        for line in worker.stderr:
            if "serves default" in line:
                break
        for arguments in (["--app", "shop:scheduler", "jobs", "list"], ["jobs", "list", "--app", "shop:scheduler"]):
            listed = command(*arguments)
            assert "daily_inventory_check" in listed.stdout, listed
            assert "no live worker" not in listed.stdout
        shown = command("--url", redsched_url, "--prefix", "nonsense", "jobs", "list")
        assert "nothing is stored under the prefix 'nonsense'" in shown.stderr
        assert f"--prefix may be '{prefix}'" in shown.stderr
        ran = subprocess.run(
            [sys.executable, "shop.py"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "Outcome.DONE" in ran.stdout, ran
    finally:
        worker.terminate()
        worker.communicate(timeout=30)


def test_the_quickstart_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "quickstart.py"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "order-1 reminded" in done.stdout


def test_the_program_of_the_middleware_guide_runs_and_prints_what_the_guide_says(
    redsched_url: str, tmp_path: Path
) -> None:
    page = ROOT / "docs" / "guide" / "middleware.md"
    [example] = blocks(page)
    script = tmp_path / "example.py"
    text = example.replace("redis://localhost:6379", redsched_url).replace("mario_pizzeria", fresh_prefix())
    script.write_text(text)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said = re.search(r"It prints `(.*?)`, then `(.*?)`, then `(.*?)`", page.read_text())
    assert said
    assert done.stdout.splitlines() == list(said.groups())


def test_the_testing_guide_example_passes_as_a_users_test(tmp_path: Path) -> None:
    example, *_ = blocks(ROOT / "docs" / "guide" / "testing.md")  # the others: tests/test_kit_of_users.py
    (tmp_path / "test_users.py").write_text(
        "import pytest\nreminded = []\n\nasync def remind(order):\n    reminded.append(order)\n\n" + example
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\naddopts = -p no:valkey\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_testing_guide_breaks_things_as_a_user_would(tmp_path: Path) -> None:
    [example] = [block for block in blocks(ROOT / "docs" / "guide" / "testing.md") if "redsched_proxy" in block]
    (tmp_path / "test_users.py").write_text(
        "from redsched import BackgroundTaskScheduler, testing\n"
        "booked = []\n\nasync def book(order):\n    booked.append(order)\n\n" + example
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\naddopts = -p no:valkey\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", tmp_path],
        capture_output=True, text=True, timeout=90, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_generated_tables_are_those_of_the_code() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], check=False)
    assert done.returncode == 0, "run: python docs/generate.py"
