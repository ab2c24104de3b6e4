"""Suggests what to pass or return instead of a value whose type is not stored. Pure."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Any

__all__ = ["PLAIN_TYPES", "remedy_for"]

PLAIN_TYPES = "None, bool, int, float, str, bytes, list, dict, datetime, date, time, timedelta, UUID, Decimal"


def remedy_for(value: Any) -> str | None:
    """An equivalent plain value, in words; None if there is no obvious one."""
    if isinstance(value, int):
        return "an int from -2**63 to 2**64 - 1, or this one as a str or Decimal"
    if isinstance(value, type):
        return None
    if callable(getattr(value, "model_dump", None)):
        return "its model_dump(mode='json')"
    if dataclasses.is_dataclass(value):
        return "its dataclasses.asdict()"
    if hasattr(type(value), "__attrs_attrs__"):
        return "its attrs.asdict()"
    if isinstance(value, Enum):
        return "its value"
    if isinstance(value, set | frozenset):
        return "a list of its items"
    return None
