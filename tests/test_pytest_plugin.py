"""The fixtures in each mode of the plugins that run coroutine tests, each in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

TEST = """
import datetime
import pytest

ran = []


async def note(value):
    ran.append(value)


{mark}
async def test_time_travel(redsched_kit, redsched_scheduler):
    assert redsched_kit.scheduler is redsched_scheduler
    await redsched_scheduler.schedule_delayed_task("job", note, 3600, args=["x"])
    await redsched_kit.advance(minutes=59)
    assert ran == []
    await redsched_kit.travel_to(await redsched_kit.now() + datetime.timedelta(minutes=1))
    assert await redsched_kit.run_due() == 1
    assert ran == ["x"]
"""
SCOPE = ["-o", "asyncio_default_fixture_loop_scope=function"]
"""Without it some versions of pytest-asyncio warn, and each warning is an error here."""
MODES = {
    "strict": ("@pytest.mark.asyncio", [*SCOPE, "-o", "asyncio_mode=strict"]),
    "auto": ("", [*SCOPE, "-o", "asyncio_mode=auto"]),
    "anyio": ("@pytest.mark.anyio", ["-p", "no:asyncio"]),
    "anyio beside strict": ("@pytest.mark.anyio", [*SCOPE, "-o", "asyncio_mode=strict"]),
}
BACKEND = "import pytest\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"


@pytest.mark.parametrize("mode", [*MODES])
def test_the_kit_works(mode: str, redsched_url: str, tmp_path: Path) -> None:
    mark, options = MODES[mode]
    (tmp_path / "conftest.py").write_text(BACKEND if "anyio" in mode else "")
    (tmp_path / "test_it.py").write_text(TEST.replace("{mark}", mark))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *options, str(tmp_path)],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "REDSCHED_TEST_URL": redsched_url, "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
