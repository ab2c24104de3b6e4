"""How the log of a worker looks: lines for people, or one JSON object a line for programs.

`setup` is for processes that are ours, such as `redsched worker`. A library must not touch the application's
logging, so nothing else calls it.
"""

from __future__ import annotations

import logging
import os
import time
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from redsched.context import run_fields
from redsched.logs.escaping import block, one_line, to_json

__all__ = [
    "JsonFormatter", "LogFormat", "RepeatFilter", "RunFields", "TextFormatter", "for_children", "setup",
    "setup_as_parent",
]  # fmt: skip

LogFormat = Literal["text", "json"]

_set_up = ""
"""How the log of this process looks, for its children; "" if that is the application's."""

REPEAT_S = 10.0
"""For how long the same warning is not written again: while Redis is away, each loop says so twice a second."""

_COLOURS = {
    logging.DEBUG: "2",
    logging.INFO: "32",
    logging.WARNING: "33",
    logging.ERROR: "31",
    logging.CRITICAL: "1;31",
}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "repeated", "taskName"}


class TextFormatter(logging.Formatter):
    """`2026-03-29 03:00:00.123 WARNING message`, in local time. The process id is shown where several share a log."""

    def __init__(self, *, colour: bool = False, process: bool = False) -> None:
        super().__init__()
        self._colour = colour
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line; what follows of its message, and a traceback, on indented lines."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:<7}"
        if self._colour:
            level = f"\x1b[{_COLOURS.get(record.levelno, '0')}m{level}\x1b[0m"
        process = f" [{record.process}]" if self._process else ""
        foreign = ""
        if record.name.partition(".")[0] != "redsched":  # redsched's own lines name the job where it matters
            _add_run_fields(record)
            job = getattr(record, "job", None)
            foreign = f"{record.name}: " if job is None else f"{record.name} [{job}]: "
        first, *more = (foreign + _message(record)).split("\n")
        lines = [f"{at}.{int(record.msecs):03d} {level}{process} {one_line(first)}", *map(block, more)]
        if record.exc_info:
            lines.append(block(record.exc_text or self.formatException(record.exc_info)))
        if record.stack_info:
            lines.append(block(self.formatStack(record.stack_info)))
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message, pid, traceback, and what `extra=` gave.

    A line that is written within a run, by its task too, also has job, run, task, attempt, worker, and, when its worker
    has cancelled it, reason. (It must be formatted where it was written. Behind a `QueueHandler`, put `RunFields()`
    before it.)
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        _add_run_fields(record)
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            "pid": record.process,
        }
        if record.exc_info:
            entry["traceback"] = record.exc_text or self.formatException(record.exc_info)
        entry.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        return to_json(entry)


def _message(record: logging.LogRecord) -> str:
    repeated = getattr(record, "repeated", 0)
    return f"{record.getMessage()} (and {repeated} times more)" if repeated else record.getMessage()


def _add_run_fields(record: logging.LogRecord) -> None:
    """Add the fields of the current run. The record's `extra=` takes precedence."""
    for name, value in run_fields().items():
        vars(record).setdefault(name, value)


class RunFields(logging.Filter):
    """Gives each record the fields of the run that it is written in: job, run, task, attempt, worker, and reason.

    For handlers of the application's own: `handler.addFilter(RunFields())`. It lets every record through, and changes
    nothing of one that is written outside of a run.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True."""
        _add_run_fields(record)
        return True


class RepeatFilter(logging.Filter):
    """Lets a warning of redsched through once in a while, and then tells how often it was held back."""

    def __init__(self, every: float = REPEAT_S) -> None:
        """`every`: seconds in which the same text is written once."""
        super().__init__()
        self._every = every
        self._said: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written."""
        if record.levelno != logging.WARNING or record.name.partition(".")[0] != "redsched":
            return True
        # The pause before the next try differs from line to line, and says nothing new.
        text = record.getMessage().partition("; sending again in")[0]
        now = time.monotonic()
        at, held_back = self._said.get(text, (-self._every, 0))
        if now - at < self._every:
            self._said[text] = (at, held_back + 1)
            return False
        if len(self._said) > 1000:
            self._said = {known: entry for known, entry in self._said.items() if now - entry[0] < self._every}
        self._said[text] = (now, 0)
        record.repeated = held_back
        return True


def setup(stream: TextIO, *, form: LogFormat = "text", level: str = "info", process: bool = False) -> None:
    """Log everything of this process to a stream; in colours if that is a terminal (and NO_COLOR is not set).

    Args:
        level: the lowest level that is written: debug, info, warning, error.
        process: whether lines of text carry the process id.
    """
    global _set_up
    _set_up = f"{form} {level}"
    handler = logging.StreamHandler(stream)
    colour = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(colour=colour, process=process))
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())


def for_children() -> str:
    """The log settings of this process, for `setup_as_parent` in a child process."""
    return _set_up


def setup_as_parent(stream: TextIO, given: str) -> None:
    """Log as the parent process does, if `setup` was called there. The application's logging stays its own."""
    form, _, level = given.partition(" ")
    if form in ("text", "json"):
        setup(stream, form=form, level=level, process=True)
