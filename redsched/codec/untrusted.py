"""Decoding msgpack that anybody with access to Redis may have written: time and memory are linear in its length. Pure.

Four things make a few bytes expensive, and each has a limit here:

- Nesting: a value may nest `MAX_NESTING` deep.
- Claims: a list that claims four billion items has none of them. The bytes are walked over before anything is made.
- Containers: an empty map takes one byte of msgpack and 64 bytes of memory. A value holds `MAX_CONTAINERS` at most.
- Hashes: UUIDs, decimals and timedeltas have hashes that are easy to collide, so that a map of them takes quadratic
  time. Keys of maps are text, bytes, numbers, booleans or None; those of Python are salted, or collide too seldom.

Most values are a few bytes, which can do none of this: only their length is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, cast

import msgpack

from redsched.errors import EncodingError

__all__ = ["MAX_CONTAINERS", "MAX_NESTING", "SCALARS", "check_shape", "no_extension", "unpack"]

MAX_NESTING = 100
"""Lists and maps within each other, in arguments and results."""
MAX_CONTAINERS = 100_000
"""Lists and maps in one value: 15 ms of decoding, some 8 MB."""

_CONTAINER_BYTES = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])
_EXTENSION_BYTES = bytes([*range(0xC7, 0xCA), *range(0xD4, 0xD9)])
_ALL_BYTES = bytes(range(256))
_NOT_CONTAINERS = _ALL_BYTES.translate(None, _CONTAINER_BYTES)
_NOT_EXTENSIONS = _ALL_BYTES.translate(None, _EXTENSION_BYTES)
_CONTAINERS = (list, tuple, dict)
SCALARS = frozenset({str, bytes, int, float, bool, type(None)})
"""What a key may be. Values of these types have no shape to check."""


def _may_begin_containers(data: bytes) -> int:
    """How many lists and maps there may be: the bytes that begin one, also where they stand in a text."""
    return len(data.translate(None, _NOT_CONTAINERS))


def no_extension(code: int, data: bytes) -> NoReturn:
    """Refuse extension types, as `ext_hook`: redsched stores none there.

    Raises:
        EncodingError: always.
    """
    raise EncodingError(f"extension type {code} stands where redsched stores none")


class _Budget:
    """Counts lists and maps while they are made, and looks at the keys of maps before they are hashed."""

    __slots__ = ("left",)

    def __init__(self, containers: int) -> None:
        self.left = containers

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise EncodingError(f"more than {MAX_CONTAINERS:,} lists and maps are in one value", field="payload")

    def list(self, made: list[Any]) -> list[Any]:
        self._spend()
        return made

    def map(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        self._spend()
        for key, _ in pairs:
            if type(key) not in SCALARS:
                raise EncodingError(f"a map has a key of type {type(key).__name__}", field="payload")
        return dict(pairs)


def unpack(
    data: bytes,
    extension: Callable[[int, bytes], Any],
    *,
    unicode_errors: str = "strict",
    containers: int | None = None,
    raw: bool = False,
) -> Any:
    """The value that some bytes of msgpack stand for.

    Args:
        extension: decodes extension types, as msgpack's `ext_hook`.
        containers: how many lists and maps it may hold, where that is less than `MAX_CONTAINERS`.
        raw: texts stay bytes, as the scripts pack texts and bytes alike.

    Raises:
        EncodingError: it nests too deep, or holds too much, or a map has a key that may not be one.
        Exception: it is not msgpack, as msgpack reports it.
    """
    if len(data) <= MAX_NESTING and containers is None:
        return msgpack.unpackb(data, raw=raw, strict_map_key=False, ext_hook=extension, unicode_errors=unicode_errors)
    count = _may_begin_containers(data)
    if count > MAX_NESTING:
        _walk_over(data)
    hooks: dict[str, Any] = {}
    limit = MAX_CONTAINERS if containers is None else containers
    if count > limit or (count and len(data.translate(None, _NOT_EXTENSIONS))):
        budget = _Budget(limit)
        hooks = {"list_hook": budget.list, "object_pairs_hook": budget.map}
    value = msgpack.unpackb(
        data, raw=raw, strict_map_key=False, ext_hook=extension, unicode_errors=unicode_errors, **hooks
    )
    if count > MAX_NESTING and _is_too_deep(value):
        raise EncodingError(f"lists and maps are nested more than {MAX_NESTING} deep", field="payload")
    return value


def check_shape(value: Any, data: bytes, what: str, field: str, *, plain: int = 0) -> None:
    """Refuse a value that could be written, and not be read back.

    Args:
        data: the value, encoded.
        what: the value in a message, a plural: "the arguments".
        plain: how many lists and maps are part of every such value, and need no look.

    Raises:
        EncodingError: it nests too deep, holds too many lists and maps, or a map has a key that may not be one.
    """
    if len(data.translate(None, _NOT_CONTAINERS)) <= plain:  # most have no more, and this is for each job
        return
    depth = count = 0
    level = [value] if isinstance(value, _CONTAINERS) else []
    while level:
        depth, count = depth + 1, count + len(level)
        if depth > MAX_NESTING:
            raise EncodingError(f"{what} nest lists and maps more than {MAX_NESTING} deep", field=field)
        if count > MAX_CONTAINERS:
            raise EncodingError(
                f"{what} hold more than {MAX_CONTAINERS:,} lists and maps. Store the data elsewhere and pass its key.",
                field=field,
            )
        for container in level:
            if isinstance(container, dict):
                _check_keys(cast("dict[Any, Any]", container), what, field)
        level = [item for container in level for item in _inner(container) if isinstance(item, _CONTAINERS)]


def _check_keys(container: dict[Any, Any], what: str, field: str) -> None:
    for key in container:
        if not isinstance(key, str) and not isinstance(key, tuple(SCALARS)):
            raise EncodingError(
                f"{what} hold a dict with the key {key!r} ({type(key).__qualname__}), which could not be read back: "
                "keys must be str, bytes, int, float, bool or None. Pass a list of pairs instead.",
                field=field,
            )


def _walk_over(data: bytes) -> None:
    """Go through the bytes without making anything of them.

    Raises:
        ValueError: they are cut, nested more than 1,024 deep, or no msgpack.
    """
    walker = msgpack.Unpacker(max_buffer_size=len(data))
    walker.feed(data)
    walker.skip()


def _inner(container: Any) -> Any:
    return cast("Any", container.values() if isinstance(container, dict) else container)


def _is_too_deep(value: Any) -> bool:
    """Whether decoded lists and maps nest more than `MAX_NESTING` deep."""
    level = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(MAX_NESTING):
        level = [item for container in level for item in _inner(container) if isinstance(item, _CONTAINERS)]
        if not level:
            return False
    return True
