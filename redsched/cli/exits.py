"""What the exit code of a command says, and which error leads to which."""

from __future__ import annotations

from enum import IntEnum

from redsched import (
    InvalidInputError,
    JobLookupError,
    RedschedError,
    SchedulerStateError,
    StoreAccessError,
    StoreError,
)

__all__ = ["ExitCode", "exit_code_of"]


class ExitCode(IntEnum):
    """Each with its sentence, which `redsched --help` shows."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "done; for a worker: it was asked to stop, and did"
    NOTHING = 1, "what was asked for does not exist, or nothing matched"
    USAGE = 2, "a wrong option, argument or target"
    UNAVAILABLE = 3, "Redis gave no answer, or could not do what was asked"
    REFUSED = 4, "Redis refused access: wrong password, or an ACL"
    UNHEALTHY = 5, "doctor: something is wrong with the server"


def exit_code_of(error: RedschedError) -> ExitCode:
    """The exit code of a command that ended with this error."""
    match error:
        case StoreAccessError():
            return ExitCode.REFUSED
        case StoreError():
            return ExitCode.UNAVAILABLE
        case JobLookupError() | SchedulerStateError():
            return ExitCode.NOTHING
        case InvalidInputError():
            return ExitCode.USAGE
        case _:
            return ExitCode.NOTHING
