"""The order of a row is the same in Python and in the header of the script that takes or returns it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from redsched.store import rows
from redsched.store.scripts import lua_folder

LUA = Path(str(lua_folder()))


def described(script: str, title: str) -> list[str]:
    """The parts that a header lists after a title, up to the next line that is not indented as they are."""
    lines = iter((LUA / script).read_text().splitlines())
    text = next(line for line in lines if line.startswith(f"-- {title}:")).removeprefix(f"-- {title}:")
    for line in lines:
        if not line.startswith("--       "):
            break
        text += line.removeprefix("--")
    return re.split(r",\s+(?=\d+ )", text.strip())


ORDER = {
    "Settled": ("include/settle.lua", {
        "RUN_ID": "run id", "FENCE": "fence", "VERB": "verb", "FIRE_MS": "fire_ms", "ATTEMPT": "attempt",
        "LATENESS_MS": "lateness_ms", "DURATION_MS": "duration_ms", "TASK": "task", "REASON": "reason",
        "DELAY_MS": "delay_ms", "ERROR": "error", "REMAINING": "remaining fires", "POSTPONED": "postponements",
        "NEED": "what it needs",
    }),
    "Committed": ("commit.lua", {
        "JOB_ID": "job id", "FENCE": "plan fence", "FIRES": "fires", "NEXT_MS": "next_ms", "AFTER_MS": "after_ms",
        "MISSED": "missed", "COALESCED": "coalesced", "CUT": "cut", "ERROR": "the schedule's error",
        "POSTPONE": "postpone", "REASON": "the reason",
    }),
    "Scheduled": ("schedule.lua", {
        "ID": "id", "MODE": "mode", "QUEUE": "queue", "AT_MS": "at_ms", "DELAY_MS": "delay_ms", "RECORD": "record",
        "FIELDS": "further fields", "TAGS": "tags", "ACCOUNT": "account", "DECLARATION": "of declare",
    }),
    "Claimed": ("include/claim.lua", {
        "RUN_ID": "run id", "FENCE": "fence", "ATTEMPT": "attempt", "FIRE_MS": "fire_ms", "RECORD": "record",
        "QUEUE": "queue", "FIRES": "fires of its batch", "FOLLOWING_OF": "the fire that", "VERSION": "job version",
        "POSTPONED": "how often it was postponed", "BEGUN": "1 if it was started",
    }),
    "Planned": ("include/claim.lua", {
        "JOB_ID": "job id", "FENCE": "plan fence", "NEXT_MS": "next_ms", "VERSION": "version", "RUNNING": "running",
        "RUNS_LEFT": "runs left", "RECORD": "record", "QUEUE": "queue", "POSTPONED": "how often it was postponed",
    }),
}  # fmt: skip
TITLES = {"Claimed": "A claims row", "Planned": "A plans row"}


@pytest.mark.parametrize("name", ORDER)
def test_the_indices_are_those_of_the_header(name: str) -> None:
    script, words = ORDER[name]
    kind = getattr(rows, name)
    indices = {part: at for part, at in vars(kind).items() if part.isupper()}
    parts = described(script, TITLES.get(name, "A row"))
    assert sorted(indices.values()) == list(range(len(parts))), "each part of the header has a name"
    assert indices.keys() == words.keys()
    found = {part: parts[at] for part, at in indices.items()}
    wrong = {part: text for part, text in found.items() if not text.startswith(f"{indices[part] + 1} {words[part]}")}
    assert wrong == {}


def test_the_builders_put_each_part_at_its_index() -> None:
    usual = rows.done_row(run_id="r", fence=1, fire_ms=2, attempt=3, lateness_ms=4, duration_ms=5, task="t")
    row = rows.settle_row(
        run_id="r", fence=1, verb="done", fire_ms=2, attempt=3, lateness_ms=4, duration_ms=5, task="t",
        reason="busy", delay_ms=6, error="e", remaining=[7], postponed=8, need="n",
    )  # fmt: skip
    at = rows.Settled
    assert (row[at.RUN_ID], row[at.FENCE], row[at.VERB], row[at.FIRE_MS]) == ("r", 1, "done", 2)
    assert (row[at.ATTEMPT], row[at.LATENESS_MS], row[at.DURATION_MS], row[at.TASK]) == (3, 4, 5, "t")
    assert (row[at.REASON], row[at.DELAY_MS], row[at.ERROR], row[at.REMAINING]) == ("busy", 6, "e", [7])
    assert (row[at.POSTPONED], row[at.NEED]) == (8, "n")
    assert usual == rows.settle_row(
        run_id="r", fence=1, verb="done", fire_ms=2, attempt=3, lateness_ms=4, duration_ms=5, task="t",
        reason=None, delay_ms=0, error=None, remaining=None, postponed=0, need=None,
    )  # fmt: skip
    plan = rows.commit_row(
        job_id="j", fence=1, fires=[2], next_ms=3, after_ms=4, missed=[5], coalesced=[6], cut=[7], error="e",
        postpone=[8], reason="r",
    )  # fmt: skip
    of = rows.Committed
    assert (plan[of.JOB_ID], plan[of.FENCE], plan[of.FIRES], plan[of.NEXT_MS], plan[of.AFTER_MS]) == ("j", 1, [2], 3, 4)
    assert (plan[of.MISSED], plan[of.COALESCED], plan[of.CUT], plan[of.ERROR]) == ([5], [6], [7], "e")
    assert (plan[of.POSTPONE], plan[of.REASON]) == ([8], "r")
    job = rows.declare_row(job_id="j", queue="q", at_ms=1, record=b"r", fields=["f"], tags=["t"])
    its = rows.Scheduled
    assert (job[its.ID], job[its.MODE], job[its.QUEUE], job[its.AT_MS], job[its.DELAY_MS]) == (
        "j",
        "declare",
        "q",
        1,
        False,
    )
    assert (job[its.RECORD], job[its.FIELDS], job[its.TAGS]) == (b"r", ["f"], ["t"])
