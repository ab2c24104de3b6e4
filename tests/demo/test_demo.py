"""`redsched demo`, for real: an embedded server, worker processes, a day, a kill, an outage, and the account."""

import json
import subprocess
import sys

import pytest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "redsched.demo", *arguments], capture_output=True, text=True, timeout=170, check=False
    )


@pytest.mark.integration
@pytest.mark.slow
def test_the_demo_adds_up() -> None:
    done = run("--seconds", "15", "--plain", "--json", "--date", "2097-03-31")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    totals = told["totals"]
    assert told["adds_up"]
    assert told["hours"] == 23
    assert totals["due"] == totals["ran"] + totals["coalesced"] + totals["missed"] + totals["skipped"]
    assert totals["due"] > 5000
    assert totals["coalesced"] > 100
    assert totals["missed"] > 10
    assert [totals[column] for column in ("doubled", "lost", "extra", "contradicted")] == [0, 0, 0, 0]
    assert len(told["schedules"]) == 61
    [night] = [line for line in told["schedules"] if line["package"] == "opa-fastfabric"]
    assert (night["zone"], night["due"], night["ran"]) == ("Europe/Berlin", 1, 1)

    assert [len(order["ran"]) for order in told["orders"] if not order["cancelled"]] == [5] * 5
    [cancelled] = [order for order in told["orders"] if order["cancelled"]]
    assert cancelled["ran"] == ["inventory_check", "kitchen_queue", "preparation_start"]
    assert cancelled["stopped"] == ["quality_check", "delivery_ready"]

    assert sum(worker["state"] == "killed" for worker in told["workers"]) == 1
    assert "SIGKILL" in done.stderr
    assert "does not exist today" in done.stderr
    assert "It adds up" in told["verdict"]


@pytest.mark.integration
def test_a_day_that_has_passed_is_refused() -> None:
    done = run("--date", "2026-03-29", "--plain")
    assert done.returncode == 2
    assert "never" in done.stderr
    assert "goes back" in " ".join(done.stderr.replace("│", " ").split())
