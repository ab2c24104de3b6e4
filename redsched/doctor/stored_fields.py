"""What redsched keeps in the fields of its hashes: by it `redsched doctor` tells what another program wrote.

Pure. The scripts do not read this: each of them checks what it reads, and takes what has no sense as if it were not
there (`whole` in `lua/include/clock.lua`). A field that a script writes and that is not here would be reported as
foreign, so the tests look for each field of the scripts here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from redsched.codec.values import unpack_foreign
from redsched.declarations.definition import Entry
from redsched.errors import EncodingError
from redsched.schedules import MAX_MS

__all__ = ["FIELDS", "FORMS", "is_text", "is_whole", "odd_fields"]

LARGEST = 2**53 - 1
OFFSET_MS = 6_300_000_000_000
TEXT_BYTES = 65_536

Form = Callable[[bytes], bool]


def is_whole(value: bytes, least: int, most: int) -> bool:
    """Whether it is a whole number of that range, as Redis writes one."""
    return len(value) <= 16 and value.removeprefix(b"-").isdigit() and least <= int(value) <= most


def is_text(value: bytes, longest: int = TEXT_BYTES) -> bool:
    """Whether it is a text that a name, an id or a word of redsched can be."""
    try:
        return len(value) <= longest and value.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _whole(least: int, most: int) -> Form:
    return lambda value: is_whole(value, least, most)


def _word(*words: bytes) -> Form:
    return lambda value: value in words


def _packed(kind: type) -> Form:
    def holds(value: bytes) -> bool:
        try:
            return isinstance(unpack_foreign(value), kind)
        except EncodingError:
            return False

    return holds


def _outcome(value: bytes) -> bool:
    """As `lua/include/outcomes.lua` says: four words of text, the last of which may be any, or a packed list."""
    numbers = value.split(b" ", 3)[:3]
    return (len(numbers) == 3 and all(is_whole(number, -LARGEST, LARGEST) for number in numbers)) or _list(value)


def _any(_: bytes) -> bool:
    return True


_count, _instant, _offset = _whole(0, LARGEST), _whole(0, MAX_MS), _whole(-OFFSET_MS, OFFSET_MS)
_flag, _list, _map = _word(b"1"), _packed(list), _packed(dict)

_JOB_COUNTS = (
    "plan_fence", "claim_fence", "runs_left", "max_runs", "max_instances", "max_recoveries", "committed", "generation",
)  # fmt: skip
_RUN: dict[str, Form] = {
    **dict.fromkeys(
        ("fence", "attempt", "recoveries", "excused", "postponed", "version", "dead_bytes", "begun"), _count
    ),
    **dict.fromkeys(("fire_ms", "next_ms", "after_ms", "dead_ms"), _instant),
    **dict.fromkeys(("cancel", "leave"), _flag),
    **dict.fromkeys(("owner", "lost", "queue", "job", "reason", "parked", "needs"), is_text),
    "state": _word(b"paused", b"dead"),
    "fires": _list,
    "record": _any,  # it is read as a worker reads it
    "progress": _packed(object),
    "error": _any,
    "traceback": _any,
}
FIELDS: Mapping[str, Mapping[str, Form]] = {
    "clock": {
        **dict.fromkeys(("events_bytes", "dead_bytes", "outcomes", "outcomes_bytes", "layout"), _count),
        # How far ahead they may be, depends on the server's time.
        **dict.fromkeys(("now_us", "fence"), _count),
        **dict.fromkeys(("outcomes_ms", "outcomes_from"), _instant),
        "offset_ms": _offset,
        "shards": _whole(1, 1024),
        "lock_prefix": is_text,
        "events_marks": _list,
    },
    "run": _RUN,
    "job": {
        **_RUN,
        **dict.fromkeys(_JOB_COUNTS, _count),
        **dict.fromkeys(("paused_ms", "paused_from", "blocked_ms"), _instant),
        **dict.fromkeys(("periodic", "has_runs", "beside"), _flag),
        **dict.fromkeys(("application", "modified", "wish", "blocked", "committed_outcome"), is_text),
        "delivery": _word(b"at_least_once", b"at_most_once"),
        "declared": lambda value: bool(re.fullmatch(rb"[0-9a-f]{1,128}", value)),
        "tags": _list,
        "parts": _map,
    },
    "worker": {
        "info": _map,
        "parks": _flag,
        "sequence": _count,
        "last": _list,
        "claimed": lambda value: value == b"" or _list(value),
        "vouched_ms": _instant,
        "blocker": is_text,
    },
    "idle": {**dict.fromkeys(("leader", "deputy"), is_text), **dict.fromkeys(("until_ms", "deputy_ms"), _instant)},
    "circuit": {"open_until": _instant},
    "requests": {"confirmed": _count},
    "generations": {"last": _count},
    "declared": {},
    "ended": {},
    "batches": {},
}
"""By the kind of key: of each field, whether a value has the form that redsched gives it."""
FORMS: Mapping[str, Callable[[bytes], Form | None]] = {
    "circuit": lambda name: {b"f:": _flag, b"s:": _flag, b"t:": _instant}.get(name[:2]),
    "requests": lambda name: _list if name.isdigit() else None,
    "generations": lambda name: _list if name.startswith(b"ids ") else _count,  # or the name is a digest
    "declared": lambda name: (lambda value: Entry.unpack(value) is not None) if is_text(name) else None,
    "batches": lambda name: _list if re.fullmatch(rb"(except )?\d{1,16}", name) else None,
    "ended": lambda name: _outcome if is_text(name) else None,
}
"""By the kind of key: the form of the fields whose names are not fixed, by their names."""


def odd_fields(kind: str, fields: Mapping[bytes, bytes]) -> list[str]:
    """The fields of a hash of this kind that redsched does not write, or not with such a value."""
    odd: list[str] = []
    for name, value in fields.items():
        form = FIELDS[kind].get(name.decode(errors="replace")) or (FORMS[kind](name) if kind in FORMS else None)
        if form is None or not form(value):
            odd.append(name[:80].decode(errors="backslashreplace"))
    return sorted(odd)
