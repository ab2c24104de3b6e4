"""How values become bytes: msgpack with a few typed extensions, size limits, and a version in each record.

Pure. A record is what Redis keeps of a job; its payload (arguments) is a byte string inside the record, so
that it can be handed on to another process, checked or sealed without being decoded.

What is read may have been put there by anybody who can write to Redis. The scripts send no record that is too long
(`lua/include/readable.lua`); here nothing is made of bytes that claim more than they hold, or that nest too deep.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NoReturn, cast

import msgpack

from redsched.errors import EncodingError, PayloadTooLargeError, RecordVersionError
from redsched.nesting import MAX_NESTING, is_too_deep, may_nest_deep, walk_over

__all__ = [
    "MAX_PAYLOAD_BYTES",
    "RECORD_OVERHEAD_BYTES",
    "Record",
    "pack_payload",
    "pack_result",
    "unpack_foreign",
    "unpack_payload",
    "unpack_result",
]

RECORD_VERSION = 1
MAX_PAYLOAD_BYTES = 256 * 1024
"""Arguments of one job. Redis holds every pending job in memory; larger data belongs in a store of its own."""
RECORD_OVERHEAD_BYTES = 1024 * 1024
"""By how much a record may be longer than the largest arguments: room for tags, schedule and options."""
MAX_FOREIGN_BYTES = 16 * 1024 * 1024
"""Of what workers tell of themselves, and of one field of an event."""

_DATETIME, _DATE, _TIME, _TIMEDELTA, _UUID, _DECIMAL = 1, 2, 3, 4, 5, 6


def _encode_extension(value: Any) -> msgpack.ExtType:
    match value:
        case datetime():
            return msgpack.ExtType(_DATETIME, value.isoformat().encode())
        case date():
            return msgpack.ExtType(_DATE, value.isoformat().encode())
        case time():
            return msgpack.ExtType(_TIME, value.isoformat().encode())
        case timedelta():
            return msgpack.ExtType(_TIMEDELTA, f"{value.days},{value.seconds},{value.microseconds}".encode())
        case uuid.UUID():
            return msgpack.ExtType(_UUID, value.bytes)
        case Decimal():
            return msgpack.ExtType(_DECIMAL, str(value).encode())
        case _:
            raise TypeError(f"{type(value).__module__}.{type(value).__qualname__}")


def _decode_extension(code: int, data: bytes) -> Any:
    match code:
        case 1:
            return datetime.fromisoformat(data.decode())
        case 2:
            return date.fromisoformat(data.decode())
        case 3:
            return time.fromisoformat(data.decode())
        case 4:
            days, seconds, microseconds = map(int, data.split(b","))
            return timedelta(days, seconds, microseconds)
        case 5:
            return uuid.UUID(bytes=data)
        case 6:
            return Decimal(data.decode())
        case _:
            raise EncodingError(f"unknown extension type {code} in a stored value: written by a newer redsched?")


# One Packer for all: packing is synchronous, so no two uses overlap on one event loop; threads get their own
# through packb. Reuse saves the construction, which costs as much as packing small arguments.
def _pack(value: Any) -> bytes:
    return cast("bytes", msgpack.packb(value, default=_encode_extension, use_bin_type=True))


def _unpack(data: bytes, unicode_errors: str = "strict") -> Any:
    suspect = len(data) > MAX_NESTING and may_nest_deep(data)
    if suspect:
        walk_over(data)
    value = msgpack.unpackb(
        data, raw=False, strict_map_key=False, ext_hook=_decode_extension, unicode_errors=unicode_errors
    )
    if suspect and is_too_deep(value):
        raise EncodingError(f"lists and maps are nested more than {MAX_NESTING} deep", field="payload")
    return value


def unpack_foreign(data: bytes) -> Any:
    """Decode what another process told of itself (heartbeat, event, progress), with odd text replaced.

    Raises:
        EncodingError: it is no msgpack, too long, or nested too deep.
    """
    if len(data) > MAX_FOREIGN_BYTES:
        raise EncodingError(f"{len(data):,} bytes are stored where at most {MAX_FOREIGN_BYTES:,} are read")
    try:
        return _unpack(data, "replace")
    except EncodingError:
        raise
    except Exception as error:
        raise EncodingError(f"what is stored cannot be decoded: {type(error).__name__}: {error}") from error


def _refuse(what: str, value: Any, error: Exception) -> NoReturn:
    where = _find_unencodable(value, what) or f"{what}: {error}"
    raise EncodingError(
        f"cannot store {where}. Pass plain data (None, bool, int, float, str, bytes, list, dict, datetime, date, "
        "time, timedelta, UUID, Decimal), for example an id that the task looks up.",
        field=what,
    ) from None


def _find_unencodable(value: Any, path: str) -> str | None:
    """The first place in a nested value that msgpack cannot carry, as `args[0]['user']: object of type X`."""
    seen = 0

    def walk(value: Any, path: str, depth: int) -> str | None:
        nonlocal seen
        seen += 1
        if depth > MAX_NESTING or seen > 10_000:
            return f"{path}: nested more than {MAX_NESTING} deep, or in itself"
        if isinstance(value, Mapping):
            for key, item in cast("Mapping[Any, Any]", value).items():
                if found := walk(key, f"{path} key {key!r}", depth + 1) or walk(item, f"{path}[{key!r}]", depth + 1):
                    return found
            return None
        if isinstance(value, list | tuple):
            for index, item in enumerate(cast("Sequence[Any]", value)):
                if found := walk(item, f"{path}[{index}]", depth + 1):
                    return found
            return None
        try:
            _pack(value)
        except (TypeError, ValueError, OverflowError) as error:
            return f"{path}: {type(value).__qualname__} ({error})" if path else str(error)
        return None

    return walk(value, path, 0)


def pack_payload(args: Sequence[Any], kwargs: Mapping[str, Any], *, limit: int = MAX_PAYLOAD_BYTES) -> bytes:
    """Encode a task's arguments.

    Raises:
        EncodingError: a value is of a type that msgpack cannot carry; the message says where it is.
        PayloadTooLargeError: more than `limit` bytes.
    """
    try:
        payload = _pack((args, kwargs))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        if found := _find_unencodable(list(args), "args"):
            _refuse("args", list(args), EncodingError(found))
        _refuse("kwargs", dict(kwargs), error)
    if may_nest_deep(payload) and is_too_deep((args, kwargs)):
        raise EncodingError(f"the arguments are nested more than {MAX_NESTING} deep", field="args")
    if len(payload) > limit:
        raise PayloadTooLargeError(
            f"the arguments take {len(payload):,} bytes encoded, above the limit of {limit:,}. "
            "Store the data elsewhere and pass its key.",
            field="args",
        )
    return payload


def unpack_payload(payload: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Decode a task's arguments.

    Raises:
        EncodingError: the bytes are not what `pack_payload` makes.
    """
    try:
        args, kwargs = _unpack(payload)
    except EncodingError:
        raise
    except Exception as error:
        raise EncodingError(
            f"the stored arguments cannot be decoded: {type(error).__name__}: {error}", field="payload"
        ) from error
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise EncodingError("the stored arguments are not a list and a map", field="payload")
    return cast("list[Any]", args), cast("dict[str, Any]", kwargs)


def pack_result(value: Any, *, limit: int = MAX_PAYLOAD_BYTES) -> bytes:
    """Encode what a task returned. Raises as `pack_payload`."""
    try:
        data = _pack(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        _refuse("result", value, error)
    if may_nest_deep(data) and is_too_deep(value):
        raise EncodingError(f"the result is nested more than {MAX_NESTING} deep", field="result")
    if len(data) > limit:
        raise PayloadTooLargeError(f"the result takes {len(data):,} bytes encoded, above the limit of {limit:,}.")
    return data


def unpack_result(data: bytes) -> Any:
    """Decode what `pack_result` made.

    Raises:
        EncodingError: the bytes are something else.
    """
    try:
        return _unpack(data)
    except EncodingError:
        raise
    except Exception as error:
        raise EncodingError(f"the result cannot be decoded: {type(error).__name__}: {error}", field="result") from error


@dataclass(slots=True)
class Record:
    """What Redis keeps of a job, apart from what the scripts themselves need as fields of its hash.

    On the wire: `[version, task, name or nil, payload, options or nil]`. Options hold only what differs from
    the defaults, since every byte is paid once for each pending job.
    """

    task: str
    name: str
    payload: bytes
    options: dict[str, Any]

    def pack(self) -> bytes:
        """The record's bytes. The same record gives the same bytes."""
        name = None if self.name == self.task else self.name
        return _pack((RECORD_VERSION, self.task, name, self.payload, self.options or None))

    @classmethod
    def unpack(cls, data: bytes | int) -> Record:
        """Read a record of this or an older version. In place of one that is too long, the scripts give its length.

        Raises:
            RecordVersionError: it was written by a newer redsched.
            EncodingError: it is not a record, or too long.
        """
        if isinstance(data, int):
            raise EncodingError(
                f"the stored record takes {data:,} bytes, more than this process reads; "
                "max_payload_bytes must be the same for all that schedule and run the jobs of a prefix"
            )
        try:
            fields = _unpack(data)
            version = fields[0]
        except Exception as error:
            raise EncodingError(f"the stored record cannot be decoded: {type(error).__name__}: {error}") from error
        if version != RECORD_VERSION:
            raise RecordVersionError(
                f"the record has version {version!r}; this redsched reads up to {RECORD_VERSION}. Upgrade this process."
            )
        try:
            _, task, name, payload, options = fields
        except ValueError as error:
            raise EncodingError(f"the stored record has {len(fields)} fields instead of 5") from error
        if name is None:
            name = task
        if options is None:
            options = {}
        if not (
            isinstance(task, str) and isinstance(name, str) and isinstance(payload, bytes) and isinstance(options, dict)
        ):
            raise EncodingError("the stored record has fields of other types than a record's")
        return cls(task, name, payload, cast("dict[str, Any]", options))
