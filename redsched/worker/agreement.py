"""Whether the fields that the scripts go by say what was signed. Pure.

A seal covers a job's record. But whether a run may start again, how many instances there may be and how many fires are
left, the scripts read from fields of the job's hash beside it, which anybody who can write to Redis can change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redsched.errors import UntrustedRecordError
from redsched.jobs.options import DEFAULT_MAX_RECOVERIES, DEFAULT_OPTIONS, SIGNED_RUNS, Delivery
from redsched.jobs.record import Job

__all__ = ["FIELDS", "BegunBeforeError", "check_agreement", "differences"]

FIELDS = ("delivery", "max_instances", "max_recoveries", "runs_left", "periodic")
"""As `lua/include/claim.lua` sends them; there one more follows: whether a worker lost the run."""
NOTHING = (None,) * len(FIELDS)


class BegunBeforeError(UntrustedRecordError):
    """A run that must not start twice was begun before, though its fields let it start again."""


def differences(job: Job, said: Sequence[Any]) -> list[str]:
    """Each field that says something else than the job's record, in words."""
    delivery, instances, recoveries, left, periodic = said[: len(FIELDS)]
    options = job.options
    wanted: list[tuple[str, Any, Any, Any]] = [
        ("delivery", delivery, options.delivery.value, Delivery.AT_LEAST_ONCE.value),
        ("max_instances", instances, options.max_instances, 1),
        ("max_recoveries", recoveries, options.max_recoveries, DEFAULT_MAX_RECOVERIES),
    ]
    found = [
        f"{name} is {_shown(stored, default)}, signed is {signed!r}"
        for name, stored, signed, default in wanted
        if (stored is not None or signed != default) and _text(stored, default) != str(signed)
    ]
    most = job.record.options.get(SIGNED_RUNS)
    if type(most) is int and job.schedule is not None:
        text = _text(left, "")
        if not (text.isdecimal() and text.isascii() and len(text) <= 16 and int(text) <= most):
            found.append(f"runs_left is {_shown(left, None)}, signed are at most {most}")
    if periodic is not None and job.schedule is None:
        found.append("it is stored as periodic, signed is a job that runs once")
    return found


def check_agreement(job: Job, said: Sequence[Any] = NOTHING) -> None:
    """Compare what a claim brought of the fields with the record, whose seal was checked.

    Args:
        job: the job as its record says.
        said: what is beside the seal, as `lua/include/claim.lua` sends it: the fields, as `FIELDS` names them, and
            whether a worker lost the run; or this alone. A job that has nothing but its record has no such fields.

    Raises:
        UntrustedRecordError: a field says something else than what was signed.
        BegunBeforeError: `delivery="at_most_once"` was signed, and a worker lost the run.
    """
    if said is NOTHING and job.options is DEFAULT_OPTIONS and SIGNED_RUNS not in job.record.options:
        return  # the usual case
    if len(said) >= len(FIELDS) and (found := differences(job, said)):
        raise UntrustedRecordError(f"its fields are not those of its signed record: {'; '.join(found)}")
    is_lost = len(said) != len(FIELDS) and bool(said[-1])
    if is_lost and job.options.delivery == Delivery.AT_MOST_ONCE:
        raise BegunBeforeError(
            "a worker lost this run, and delivery='at_most_once' is signed: it is not started again, though its "
            "fields let it"
        )


def _text(stored: Any, default: Any) -> str:
    if stored is None:
        return str(default)
    return stored.decode(errors="backslashreplace") if isinstance(stored, bytes) else str(stored)


def _shown(stored: Any, default: Any) -> str:
    return repr(default) if stored is None else repr(_text(stored, default)[:40])
