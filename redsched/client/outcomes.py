"""How a run ended, as `lua/include/outcomes.lua` keeps it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redsched.codec.values import unpack_foreign
from redsched.errors import EncodingError

__all__ = ["Ended"]


@dataclass(slots=True)
class Ended:
    """How a run ended."""

    run_id: str
    kind: str
    """done, dead, cancelled, removed, missed or skipped."""
    reason: str | None = None
    error: str | None = None
    attempt: int = 1
    fire_ms: int | None = None
    duration_ms: int = 0
    task: str = ""
    when_ms: int = 0
    result: bytes | int | None = None
    """What the task returned, encoded. Of what is longer than is read, its length."""

    @classmethod
    def of(cls, asked: str, answer: Sequence[Any]) -> Ended | None:
        """From an answer of `lua/outcome.lua`; None where it says nothing, or nothing that can be read."""
        _, packed, result, cause = answer
        ended = cls._read(asked, packed) if packed else None
        if ended is None and not cause:
            return None
        ended = ended or cls(asked, "dead")
        ended.result = result
        if cause:
            ended._add_cause(cause)
        return ended

    @classmethod
    def _read(cls, asked: str, packed: bytes | str) -> Ended | None:
        data = packed.encode(errors="surrogateescape") if isinstance(packed, str) else packed
        try:
            if data[:1].isdigit() or data[:1] == b"-":
                fire, late, duration, task = data.decode(errors="replace").split(" ", 3)
                when = int(fire) + int(late) + int(duration)
                return cls(asked, "done", None, None, 1, int(fire), int(duration), task, when)
            kind, reason, error, attempt, fire_ms, _, duration_ms, task, when_ms, run_id = unpack_foreign(data)
            return cls(
                str(run_id), str(kind), reason or None, error or None, int(attempt or 1),
                int(fire_ms) if fire_ms else None, int(duration_ms), str(task), int(when_ms),
            )  # fmt: skip
        except (EncodingError, ValueError, TypeError, OverflowError):
            return None  # anybody may have written it

    def _add_cause(self, cause: Sequence[Any]) -> None:
        """Add the details in a dead run's hash, which has more and is kept longer."""
        reason, error, attempt, fire_ms, record = cause
        self.kind = "dead"
        self.reason = reason.decode(errors="replace") if reason else self.reason
        self.error = error.decode(errors="replace") if error else self.error
        for name, value in (("attempt", attempt), ("fire_ms", fire_ms)):
            if value and value.isdigit():
                setattr(self, name, int(value))
        if not self.task and isinstance(record, bytes):
            try:
                parts = unpack_foreign(record)
                self.task = str(parts[1] if parts[0] == 1 else unpack_foreign(parts[2])[0])
            except (EncodingError, LookupError, TypeError):
                pass
