"""Text from anywhere, as it may reach a terminal, a log or a program that reads JSON. Pure.

What is stored in Redis, and what a task's error says, may hold escape sequences that steer a terminal, line ends that
forge a line of a log, and marks that turn the order of what is read. None of them gets out as it is.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

__all__ = ["block", "one_line", "plain", "to_json"]

_INDENT = "    "


def _escaped(character: str) -> str:
    return repr(character)[1:-1]


def one_line(value: object) -> str:
    """A value on one line: characters that are not printable (controls, line ends, marks of direction) are escaped."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def block(text: str) -> str:
    """Lines of text under a line of a log: indented, so that none of them looks like a line of the log itself."""
    return "\n".join(_INDENT + one_line(line.replace("\t", _INDENT)) for line in text.split("\n"))


def plain(value: Any) -> Any:
    """Convert to JSON types: dataclasses become objects; dates (ISO 8601), NaN, infinities and all else become text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in cast("list[Any]", value)]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)


def to_json(value: Any, *, indent: int | None = None) -> str:
    """One JSON document (RFC 8259: no NaN), with every character escaped that is not printable."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _json_escaped(c) for c in text)


def _json_escaped(character: str) -> str:
    """A character that stands inside a string of JSON: `json` itself has escaped all below U+0020."""
    return json.dumps(character)[1:-1]
