"""examples/pizzeria: the whole application, as its README says."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.integrations.harness import environment
from tests.servers import ROOT

FOLDER = ROOT / "examples" / "pizzeria"


@pytest.mark.slow
def test_the_pizzeria_opens_serves_two_orders_and_closes() -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "run.py", "--once"],
        env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    told = done.stdout
    assert done.returncode == 0, told + done.stderr
    assert "payment of order-1 failed" in told + done.stderr
    steps = [line.split(maxsplit=1) for line in told.splitlines()]
    kitchen = [step for order, step in (s for s in steps if len(s) == 2) if order == "order-1" and "paid" not in step]
    assert kitchen[1:] == [
        "inventory checked", "in the kitchen's queue", "preparation started", "quality checked", "ready for delivery",
        "delivery reminded", "is out for delivery",
    ]  # fmt: skip
    assert "order-2  is cancelled: 3 jobs were stopped; jobs left of both: 0" in told
    assert told.splitlines()[-1] == "closed"


def test_its_script_is_one_of_a_plain_shell() -> None:
    shell = shutil.which("dash") or "sh"
    assert subprocess.run([shell, "-n", FOLDER / "run.sh"], check=False).returncode == 0
