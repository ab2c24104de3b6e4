"""`redsched jobs`: look at jobs and change them."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from redsched import JobView, RetryPolicy
from redsched.cli.exits import ExitCode
from redsched.testing import Kit

from .harness import Shell


async def note(*args: Any, **kwargs: Any) -> None: ...


async def broken() -> None:
    raise ValueError("no \x1b[31mway")


async def test_a_listing_is_a_table_with_what_people_look_for(redsched_kit: Kit, shell: Shell) -> None:
    await redsched_kit.scheduler.schedule_cron("news", note, "0 8 * * *", timezone="Europe/Berlin", job_id="n1")
    result = await shell("jobs", "list")
    assert result.exit_code == 0
    head, row = result.stdout.splitlines()
    assert head.split()[:2] == ["ID", "NAME"]
    assert "n1" in row
    assert "cron 0 8 * * * (Europe/Berlin)" in row
    assert "scheduled" in row
    assert "there is no live worker" in row


async def test_json_has_the_fields_of_job_view_and_iso_times(redsched_kit: Kit, shell: Shell) -> None:
    await redsched_kit.scheduler.schedule_delayed_task("r", note, delay_minutes=5, job_id="a", args=[1], tags=["x"])
    (job,) = await shell.json("jobs", "list")
    assert set(job) == {field.name for field in dataclasses.fields(JobView)} | {"unserved"}
    assert datetime.fromisoformat(job["next_run_time"]).tzinfo is not None
    assert (job["id"], job["args"], job["tags"], job["state"]) == ("a", [1], ["x"], "scheduled")
    assert job["unserved"] == "there is no live worker"


async def test_a_listing_can_be_narrowed_and_cut(redsched_kit: Kit, shell: Shell) -> None:
    for number in range(3):
        await redsched_kit.scheduler.schedule_delayed_task(
            "r", note, timedelta(minutes=number + 1), job_id=f"j{number}", tags=[f"t{number}"], queue=f"q{number}"
        )
    assert [job["id"] for job in await shell.json("jobs", "list", "--tag", "t1")] == ["j1"]
    assert [job["id"] for job in await shell.json("jobs", "list", "--queue", "q2")] == ["j2"]
    assert [job["id"] for job in await shell.json("jobs", "list", "--state", "paused")] == []
    assert [job["id"] for job in await shell.json("jobs", "list", "--limit", "2")] == ["j0", "j1"]
    cut = await shell("jobs", "list", "--limit", "1")
    assert "and more" in cut.stderr


async def test_show_tells_all_of_a_job_and_what_happened_to_it(redsched_kit: Kit, shell: Shell) -> None:
    await redsched_kit.scheduler.schedule_interval("tick", note, minutes=1, job_id="t", kwargs={"a": 1})
    await redsched_kit.advance(minutes=1)
    shown = await shell("jobs", "show", "t")
    assert shown.exit_code == 0
    for text in ("every 1 minute", "next run", "{'a': 1}", "last events:", "done"):
        assert text in shown.stdout
    data = await shell.json("jobs", "show", "t")
    assert [event["kind"] for event in data["events"]] == ["scheduled", "claimed", "done"]
    assert data["kwargs"] == {"a": 1}


async def test_a_job_that_has_ended_is_told_with_what_is_known_of_it(redsched_kit: Kit, shell: Shell) -> None:
    await redsched_kit.scheduler.schedule_immediate_task("once", note, job_id="once")
    await redsched_kit.run_due()
    result = await shell("jobs", "show", "once")
    assert result.exit_code == 1
    assert "no job with id 'once'" in result.stderr
    assert "done" in result.stderr


async def test_jobs_are_paused_resumed_run_and_removed_by_id(redsched_kit: Kit, shell: Shell) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_interval("tick", note, hours=1, job_id="t")
    assert (await shell("jobs", "pause", "t")).stdout == "paused t\n"
    assert (await shell.json("jobs", "show", "t"))["state"] == "paused"
    assert (await shell("jobs", "resume", "t")).stdout.startswith("resumed t, next run ")
    assert (await shell("jobs", "run", "t")).stdout.startswith("t is due now, as run t@")
    assert await redsched_kit.run_due() == 1
    assert (await shell("jobs", "remove", "t")).stdout == "removed t\n"
    assert await scheduler.get_job("t") is None


async def test_a_tag_stands_for_all_its_jobs(redsched_kit: Kit, shell: Shell) -> None:
    scheduler = redsched_kit.scheduler
    for number in range(3):
        await scheduler.schedule_interval("tick", note, hours=1, job_id=f"t{number}", tags=["x"])
    done = await shell.json("jobs", "pause", "--tag", "x")
    assert sorted(done["done"]) == ["t0", "t1", "t2"]
    done = await shell.json("jobs", "cancel", "--tag", "x")
    assert sorted(done["done"]) == ["t0", "t1", "t2"]
    assert await scheduler.get_jobs() == []


@pytest.mark.parametrize("command", ["pause", "resume", "run", "cancel", "remove"])
async def test_what_is_missing_is_told_and_the_rest_is_done(redsched_kit: Kit, shell: Shell, command: str) -> None:
    await redsched_kit.scheduler.schedule_interval("tick", note, hours=1, job_id="t")
    result = await shell("jobs", command, "nope", "t", "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["done"] == ["t"]
    assert "no job with id 'nope'" in data["failed"]["nope"]


@pytest.mark.parametrize("command", ["pause", "resume", "run", "cancel", "remove"])
async def test_a_tag_that_no_job_has_matches_nothing(shell: Shell, command: str) -> None:
    result = await shell("jobs", command, "--tag", "nope")
    assert result.exit_code == 1
    assert "nothing matches" in result.stderr


@pytest.mark.parametrize("arguments", [(), ("a", "--tag", "b")], ids=["neither", "both"])
async def test_ids_or_a_tag_but_not_both(shell: Shell, arguments: tuple[str, ...]) -> None:
    result = await shell("jobs", "cancel", *arguments)
    assert result.exit_code == 2
    assert "either job ids or --tag" in result.stderr


async def test_dead_runs_are_listed_and_requeued(redsched_kit: Kit, shell: Shell) -> None:
    for number in range(2):
        await redsched_kit.scheduler.schedule_immediate_task("b", broken, job_id=f"b{number}", retry=RetryPolicy(1))
    await redsched_kit.run_due()
    dead = await shell.json("jobs", "dead")
    assert sorted(run["id"] for run in dead) == ["b0", "b1"]
    table = await shell("jobs", "dead")
    assert "attempts_used_up" in table.stdout
    assert "no \\x1b[31mway" in table.stdout, "what was stored may not steer the terminal"
    assert (await shell("jobs", "requeue", "b0")).stdout == "requeued b0\n"
    assert (await shell.json("jobs", "requeue", "--all"))["done"] == ["b1"]
    again = await shell("jobs", "requeue", "b0")
    assert again.exit_code == 1
    assert "no dead run with id 'b0'" in again.stderr
    assert (await shell("jobs", "requeue", "--all")).exit_code == 1


async def test_markup_in_names_is_only_text(redsched_kit: Kit, shell: Shell) -> None:
    await redsched_kit.scheduler.schedule_interval("[red]x[/red] :smile:", note, hours=1, job_id="m")
    assert "[red]x[/red] :smile:" in (await shell("jobs", "list")).stdout


async def test_the_traceback_of_a_dead_run_is_shown(redsched_kit: Kit, shell: Shell) -> None:
    await redsched_kit.scheduler.schedule_immediate_task("fail", broken, job_id="f")
    await redsched_kit.run_due()
    shown = await shell("jobs", "show", "f")
    assert "traceback of f:" in shown.stdout
    assert "in broken" in shown.stdout
    assert "in broken" in (await shell("jobs", "dead", "--tracebacks")).stdout
    assert "traceback" not in (await shell("jobs", "dead")).stdout
    assert "in broken" in (await shell.json("jobs", "dead"))[0]["traceback"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("show", "nope"), ExitCode.NOTHING),
        (("pause", "nope"), ExitCode.NOTHING),
        (("resume", "nope"), ExitCode.NOTHING),
        (("run", "nope"), ExitCode.NOTHING),
        (("cancel", "nope"), ExitCode.NOTHING),
        (("remove", "nope"), ExitCode.NOTHING),
        (("requeue", "nope"), ExitCode.NOTHING),
        (("list", "--tag", "nope"), ExitCode.OK),
        (("dead",), ExitCode.OK),
    ],
)
async def test_an_unknown_id_has_one_exit_code_everywhere_and_a_list_of_nothing_is_fine(
    redsched_kit: Kit, shell: Shell, arguments: tuple[str, ...], code: ExitCode
) -> None:
    await redsched_kit.scheduler.schedule_interval("tick", note, hours=1, job_id="t")
    result = await shell("jobs", *arguments)
    assert result.exit_code == code, result.output
    if code is ExitCode.NOTHING:
        assert "nope" in result.stderr
        assert result.stdout == ""
