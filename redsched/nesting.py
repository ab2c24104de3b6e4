"""How deep lists and maps of msgpack may nest, and bytes that claim more than they hold. Pure.

Most arguments are a few bytes, which cannot nest deep: for them nothing of this runs.
"""

from __future__ import annotations

from typing import Any

import msgpack

__all__ = ["MAX_NESTING", "is_too_deep", "may_nest_deep", "walk_over"]

MAX_NESTING = 100
"""Lists and maps within each other, in arguments and results."""

_SCALARS = bytes(code for code in range(256) if not (0x80 <= code <= 0x9F or 0xDC <= code <= 0xDF))
"""Bytes with which no list and no map begins."""
_CONTAINERS = (list, tuple, dict)


def may_nest_deep(data: bytes) -> bool:
    """Whether there are enough bytes that might begin a list or a map."""
    return len(data) > MAX_NESTING and len(data.translate(None, _SCALARS)) > MAX_NESTING


def walk_over(data: bytes) -> None:
    """Go through the bytes without making anything of them.

    Raises:
        ValueError: they are cut, nested more than 1,024 deep, or no msgpack: a list that claims four billion items
            has none of them.
    """
    walker = msgpack.Unpacker(max_buffer_size=len(data))
    walker.feed(data)
    walker.skip()


def is_too_deep(value: Any) -> bool:
    """Whether decoded lists and maps nest more than `MAX_NESTING` deep."""
    level = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(MAX_NESTING):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, _CONTAINERS)
        ]
        if not level:
            return False
    return True
