"""The cost of an import: a process pays for what it uses."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import redsched

ROOT = Path(redsched.__file__).parents[1]
ALLOWED_S = 0.05
"""What `import redsched` may take beside `import redis.asyncio`, on a quiet machine."""


def modules_after(code: str, *arguments: str) -> set[str]:
    """The modules of a fresh process that has run this."""
    program = f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def seconds_of(code: str, cache: Path) -> float:
    """Processor time of an import in a fresh process: other processes of the machine count little.

    Of compiled modules (`cache`), as every installation has them: a checkout may be one in which none are written.
    """
    program = f"import time\nbegan = time.process_time()\n{code}\nprint(time.process_time() - began)"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**env, "PYTHONPYCACHEPREFIX": str(cache)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


@pytest.mark.alone
@pytest.mark.parametrize("code", ["import redsched", "from redsched import BackgroundTaskScheduler"])
def test_an_import_costs_at_most_50_ms_more_than_that_of_redis(code: str, tmp_path: Path) -> None:
    ours, theirs = [], []
    seconds_of(f"{code}; import redis.asyncio", tmp_path)  # compiles
    for _ in range(9):
        theirs.append(seconds_of("import redis.asyncio", tmp_path))
        ours.append(seconds_of(code, tmp_path))
    # Both in one run, one after the other: a loaded machine makes both slower.
    assert min(ours) <= min(theirs) + ALLOWED_S, (statistics.median(ours), statistics.median(theirs))


def test_an_import_loads_nothing_of_the_package_but_itself() -> None:
    loaded = {name for name in modules_after("import redsched") if name.partition(".")[0] == "redsched"}
    assert loaded == {"redsched"}


FOR_FEW = [
    "redsched.doctor.examine", "redsched.embedded.server", "redsched.store.cluster", "redsched.store.sentinel",
    "redsched.reactive.processor",
    "redsched.reactive.streams", "redsched.metrics.standard", "redsched.config", "redsched.worker.worker",
    "redsched.worker.poll",
    "redsched.worker.executors.processes", "redsched.testing", "redsched.cli", "redsched.demo", "redsched.chaos",
    "typer", "rich",
    "prometheus_client", "starlette", "pytest", "croniter", "dateutil",
]  # fmt: skip


@pytest.mark.parametrize("module", FOR_FEW)
def test_a_scheduler_that_only_schedules_does_not_load_what_few_need(module: str) -> None:
    code = "from redsched import BackgroundTaskScheduler; BackgroundTaskScheduler('redis://localhost')"
    assert module not in modules_after(code)


def test_the_version_is_told_without_what_the_commands_need() -> None:
    loaded = modules_after("from redsched.cli.app import main; main()", "--version")
    assert {"redis", "asyncio", "typer", "rich"} & loaded == set()


def test_croniter_is_loaded_when_a_cron_schedule_is_asked_for_its_next_fire() -> None:
    code = "from redsched.schedules import CronSchedule; it = CronSchedule('0 8 * * mon-fri', 'Europe/Berlin')"
    assert "croniter" not in modules_after(code)
    assert "croniter" in modules_after(f"{code}; it.next(0)")


def test_ids_need_no_large_table() -> None:
    from redsched.jobs import ids

    assert max(len(value) for value in vars(ids).values() if isinstance(value, list | tuple | dict)) <= 4096


def test_every_public_name_is_imported_when_it_is_first_used() -> None:
    for name in redsched.__all__:
        assert getattr(redsched, name) is not None
        assert name in dir(redsched)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = redsched.nonsense


def test_modules_are_there_without_an_import_of_their_own() -> None:
    modules_after("import redsched\nassert redsched.errors.RedschedError and redsched.schedules.CronSchedule")


@pytest.mark.parametrize(
    ("command", "others"),
    [
        (
            "jobs",
            (
                "redsched.demo",
                "redsched.chaos",
                "redsched.cli.worker",
                "redsched.cli.service",
                "redsched.doctor.examine",
            ),
        ),
        ("worker", ("redsched.demo", "redsched.chaos", "redsched.cli.jobs", "redsched.doctor.examine")),
        ("events", ("redsched.demo", "redsched.chaos", "redsched.cli.service", "redsched.cli.jobs")),
        ("--version", ("redsched.demo", "redsched.chaos", "redsched.cli.service", "redsched.doctor.examine")),
    ],
)
def test_a_command_loads_its_own_modules_only(command: str, others: tuple[str, ...]) -> None:
    code = "import sys\nfrom redsched.cli import root\nroot.build(root.named(sys.argv[1:]))"
    loaded = modules_after(code, command)
    assert [name for name in loaded if any(name == other or name.startswith(f"{other}.") for other in others)] == []


def test_a_run_of_pytest_that_uses_no_fixture_loads_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n"
        "    plugin = {'redsched', 'redsched.testing', 'redsched.testing.pytest_plugin'}\n"
        "    assert {m for m in sys.modules if m.startswith('redsched')} <= plugin\n"
        "    assert 'redis' not in sys.modules\n"
    )
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "redsched.testing.pytest_plugin",
            str(tmp_path),
        ],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
