"""The log's traceback of a failed run begins with the task's own frame."""

from __future__ import annotations

import logging

import pytest

from redsched.testing import Kit


def broken() -> None:
    raise ValueError("as it should")


async def broken_coroutine() -> None:
    try:
        broken()
    except ValueError as error:
        raise KeyError("second") from error


@pytest.mark.parametrize(("task", "frames"), [(broken, ["broken"]), (broken_coroutine, ["broken_coroutine"])])
async def test_a_traceback_begins_with_the_task(
    redsched_kit: Kit, caplog: pytest.LogCaptureFixture, task: object, frames: list[str]
) -> None:
    caplog.set_level(logging.ERROR)
    await redsched_kit.scheduler.schedule_immediate_task("job", task)  # type: ignore[arg-type]
    await redsched_kit.run_due()
    [record] = [record for record in caplog.records if "failed" in record.getMessage()]
    assert record.exc_info is not None
    found, traceback = [], record.exc_info[2]
    while traceback is not None:
        found.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert found == frames
    assert (record.exc_info[1].__cause__ is not None) == (task is broken_coroutine)
