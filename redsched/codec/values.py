"""How values become bytes: msgpack with a few typed extensions, size limits, and a version in each record.

Pure. A record is what Redis keeps of a job; its payload (arguments) is a byte string inside the record, so
that it can be handed on to another process, checked or sealed without being decoded.

What is read may have been put there by anybody who can write to Redis. The scripts send no record that is too long
(`lua/include/readable.lua`); here nothing is made of bytes that claim more than they hold, or that nest too deep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast

import msgpack
from msgpack import unpackb

from redsched.codec.extensions import decode_extension, encode_extension
from redsched.codec.payload_security import LABEL_BYTES, Sealer, is_encrypted
from redsched.codec.remedies import PLAIN_TYPES, remedy_for
from redsched.codec.untrusted import MAX_NESTING, SCALARS, check_shape, no_extension, unpack
from redsched.errors import (
    EncodingError,
    PayloadTooLargeError,
    RecordVersionError,
    UnknownKeyError,
    UntrustedRecordError,
)

__all__ = [
    "MAX_PAYLOAD_BYTES",
    "RECORD_OVERHEAD_BYTES",
    "Record",
    "pack_payload",
    "pack_result",
    "unpack_foreign",
    "unpack_payload",
    "unpack_progress",
    "unpack_result",
]

RECORD_VERSION, SEALED_VERSION = 1, 2
_UNSEALED = bytes([RECORD_VERSION])
MAX_PAYLOAD_BYTES = 256 * 1024
"""Arguments of one job. Redis holds every pending job in memory; larger data belongs in a separate store."""
RECORD_OVERHEAD_BYTES = 1024 * 1024
"""By how much a record may be longer than the largest arguments: room for tags, schedule and options."""
MAX_FOREIGN_BYTES = 4 * 1024 * 1024
"""Of what workers tell of themselves, and of one field of an event."""


def _pack(value: Any) -> bytes:
    return cast("bytes", msgpack.packb(value, default=encode_extension, use_bin_type=True))


def _unpack(data: bytes, *, containers: int | None = None) -> Any:
    if containers is None and len(data) <= MAX_NESTING:  # the usual case, which is too short for any harm
        return unpackb(data, raw=False, strict_map_key=False, ext_hook=decode_extension)
    return unpack(data, decode_extension, containers=containers)


def unpack_foreign(data: bytes) -> Any:
    """Decode what another process wrote of itself (heartbeat, event), with odd text replaced: plain values only.

    Raises:
        EncodingError: it is not msgpack, too long, nested too deep, or has values that redsched does not put there.
    """
    _check_foreign(data)
    try:
        return unpack(data, no_extension, unicode_errors="replace")
    except EncodingError:
        raise
    except Exception as error:
        raise EncodingError(f"what is stored cannot be decoded: {type(error).__name__}: {error}") from error


def unpack_progress(data: bytes) -> Any:
    """Decode what a task reported as its progress. Raises as `unpack_foreign`."""
    _check_foreign(data)
    return unpack_result(data)


def _check_foreign(data: bytes) -> None:
    if len(data) > MAX_FOREIGN_BYTES:
        raise EncodingError(f"{len(data):,} bytes are stored where at most {MAX_FOREIGN_BYTES:,} are read")


def _refuse(what: str, value: Any, error: Exception) -> NoReturn:
    where, remedy = _find_unencodable(value, what) or (f"{what}: {error}", None)
    verb, reader = ("Return", "its reader") if what == "result" else ("Pass", "the task")
    remedy = remedy or f"plain data ({PLAIN_TYPES}), for example an id that {reader} looks up"
    raise EncodingError(f"cannot store {where}. {verb} {remedy}.", field=what) from None


def _find_unencodable(value: Any, path: str) -> tuple[str, str | None] | None:
    """The first place in a nested value that msgpack cannot carry, as `args[0]['user']: module.Type`; and what can
    stand there instead, where that is known.
    """
    seen = 0

    def walk(value: Any, path: str, depth: int) -> tuple[str, str | None] | None:
        nonlocal seen
        seen += 1
        if depth > MAX_NESTING or seen > 10_000:
            return f"{path}: nested more than {MAX_NESTING} deep, or in itself", None
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
            if isinstance(value, int):
                return f"{path}: int out of range", remedy_for(value)
            return f"{path}: {type(value).__qualname__} ({error})", remedy_for(value)
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
        if _find_unencodable(list(args), "args"):
            _refuse("args", list(args), error)
        _refuse("kwargs", dict(kwargs), error)
    if kwargs or not SCALARS.issuperset(map(type, args)):
        check_shape((args, kwargs), payload, "the arguments", "args", plain=3)  # the pair, the list, the map
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
    check_shape(value, data, "the values of the result", "result")
    if len(data) > limit:
        raise PayloadTooLargeError(
            f"the result takes {len(data):,} bytes encoded, above the limit of {limit:,}. "
            "Store the data elsewhere and return its key."
        )
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

    On the wire: `[1, task, name or nil, payload, options or nil]`. Options hold only what differs from the
    defaults, since every byte is paid once for each pending job. With payload keys: `[2, seal, body, payload]`, where
    the body is the bytes of `[task, name or nil, options or nil]`, and the payload may be encrypted.
    """

    task: str
    name: str
    payload: bytes
    options: dict[str, Any]
    label: bytes = b""
    """How it was sealed (`PayloadSecurity.label`); empty without a seal."""
    locked: Literal["", "signed", "encrypted"] = ""
    """It has a seal, and this process no keys: it cannot be changed; if encrypted, its payload cannot be read."""

    def pack(self, job_id: str = "", sealer: Sealer | None = None) -> bytes:
        """The record's bytes. The same record gives the same bytes, if it is not encrypted.

        Raises:
            UnknownKeyError: it has a seal, which this process could not renew.
        """
        if self.locked:
            raise UnknownKeyError(f"job {job_id!r} is {self.locked}, and this process has no keys to change it")
        name = None if self.name == self.task else self.name
        if sealer is None:
            return _pack((RECORD_VERSION, self.task, name, self.payload, self.options or None))
        body = _pack((self.task, name, self.options or None))
        seal, payload = sealer.seal_record(job_id, body, self.payload)
        return _pack((SEALED_VERSION, seal, body, payload))

    @classmethod
    def unpack(cls, data: bytes | int, job_id: str = "", sealer: Sealer | None = None) -> Record:
        """Read a record of this or an older version. In place of one that is too long, the scripts give its length.

        Raises:
            RecordVersionError: it was written by a newer redsched.
            EncodingError: it is not a record, or too long.
            UnknownKeyError: it was sealed with a key that is not among ours.
            UntrustedRecordError: it should have a seal and has none, or its seal does not match.
        """
        must_be_sealed = sealer is not None and not sealer.accept_unsigned
        if must_be_sealed and isinstance(data, bytes) and data[1:2] == _UNSEALED:
            raise UntrustedRecordError("its record is not signed, and this process takes only what is")
        try:
            # The outer list of a sealed record holds nothing but bytes: what they mean is read when the seal is true.
            fields = _unpack(data, containers=1 if must_be_sealed else None)  # type: ignore[arg-type]  # of a length: a TypeError
            version = fields[0]
        except Exception as error:
            if isinstance(data, int):
                raise EncodingError(
                    f"the stored record takes {data:,} bytes, more than this process reads; "
                    "max_payload_bytes must be the same for all that schedule and run the jobs of a prefix"
                ) from None
            raise EncodingError(f"the stored record cannot be decoded: {type(error).__name__}: {error}") from error
        if version != RECORD_VERSION:
            if version == SEALED_VERSION:
                return cls._unpack_sealed(fields, job_id, sealer)
            why = (
                f"the record has version {version!r}; this redsched reads up to {SEALED_VERSION}. Upgrade this process."
            )
            raise RecordVersionError(why, version=version if type(version) is int else None)
        if len(fields) != 5:
            raise EncodingError(f"the stored record has {len(fields)} fields instead of 5")
        return cls._checked(fields[1], fields[2], fields[3], fields[4])

    @classmethod
    def _unpack_sealed(cls, fields: Any, job_id: str, sealer: Sealer | None) -> Record:
        if len(fields) != 4 or not all(isinstance(part, bytes) for part in fields[1:]):
            raise EncodingError("the stored record is not what a sealed one is")
        _, seal, body, payload = fields
        if sealer is not None:
            payload = sealer.open_record(job_id, body, seal, payload)
        try:
            task, name, options = _unpack(body)
        except Exception as error:
            raise EncodingError(f"the stored record cannot be decoded: {type(error).__name__}: {error}") from error
        record = cls._checked(task, name, payload, options)
        record.label = seal[:LABEL_BYTES]
        if sealer is None:
            record.locked = "encrypted" if is_encrypted(seal) else "signed"
        return record

    @classmethod
    def _checked(cls, task: Any, name: Any, payload: Any, options: Any) -> Record:
        if name is None:
            name = task
        if type(task) is not str or type(name) is not str or type(payload) is not bytes:
            raise EncodingError("the stored record has fields of other types than a record's")
        if options is None:
            return cls(task, name, payload, {})
        if type(options) is not dict:
            raise EncodingError("the stored record has options that are not a map")
        return cls(task, name, payload, cast("dict[str, Any]", options))
