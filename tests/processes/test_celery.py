"""Celery's prefork pool, as users start it: each job that a task in a child scheduled is stored."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from redsched import BackgroundTaskScheduler
from redsched.testing import fresh_prefix
from tests.servers import ROOT, wait_until

pytest.importorskip("celery")

TASKS = 100
CHILDREN = 4
SEND = f"from tests.processes.celery_app import place\nfor number in range({TASKS}): place.delay(number)"


@pytest.mark.parametrize("connected", ["", "yes"], ids=["fresh", "connected"])
def test_each_job_that_tasks_in_prefork_children_schedule_is_stored(
    redsched_url: str, tmp_path: Path, connected: str
) -> None:
    for name in ("broker", "control", "processed"):
        (tmp_path / name).mkdir()
    prefix = fresh_prefix()
    given = {"SERVICE_URL": redsched_url, "SERVICE_PREFIX": prefix, "SERVICE_FOLDER": str(tmp_path)}
    env = {**os.environ, **given}
    subprocess.run([sys.executable, "-c", SEND], cwd=ROOT, env=env, check=True, timeout=60)
    env["SERVICE_CONNECTED"] = connected
    accepted = tmp_path / "accepted"
    command = [
        sys.executable, "-m", "celery", "-A", "tests.processes.celery_app", "worker", "-P", "prefork",
        "-c", str(CHILDREN), "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "INFO",
    ]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            wait_until(
                lambda: worker.poll() is not None
                or (accepted.exists() and len(accepted.read_text().splitlines()) >= TASKS),
                60, "all tasks have scheduled",
            )  # fmt: skip
        finally:
            worker.terminate()
            worker.wait(30)
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said, said
    rows = [json.loads(line) for line in accepted.read_text().splitlines()]
    assert sorted(row[0] for row in rows) == [*range(TASKS)]
    assert len({row[1] for row in rows}) == TASKS
    children = {row[2] for row in rows}
    assert len(children) > 1, "one child did all"
    assert len({(row[2], row[3]) for row in rows}) == len(children) == len({row[3] for row in rows})
    stored = asyncio.run(BackgroundTaskScheduler(redsched_url, prefix, declared_tasks=False).get_jobs())
    assert {row[1] for row in rows} <= {job.id for job in stored}
    assert len(stored) == TASKS + bool(connected)
