"""The exit codes of commands, and the mapping of errors to them."""

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
    """The exit codes, each with the sentence that `redsched --help` shows."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "done; for a worker: it was asked to stop, and did"
    NOTHING = 1, "the id does not exist, or nothing matched"
    USAGE = 2, "a wrong option, argument or target"
    UNAVAILABLE = 3, "Redis did not answer, or could not carry out the request"
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
