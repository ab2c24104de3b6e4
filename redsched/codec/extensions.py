"""The types that msgpack does not know: dates, times, UUIDs and decimals, as extension types. Pure."""

from __future__ import annotations

import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import msgpack

from redsched.errors import EncodingError

__all__ = ["MAX_DIGITS", "decode_extension", "encode_extension"]

_DATETIME, _DATE, _TIME, _TIMEDELTA, _UUID, _DECIMAL = 1, 2, 3, 4, 5, 6
MAX_DIGITS = 4096
"""Of a decimal: what reads or compares a number takes longer than its length."""


def encode_extension(value: Any) -> msgpack.ExtType:
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
            digits = str(value).encode()
            if len(digits) > MAX_DIGITS:
                raise ValueError(f"a Decimal may have {MAX_DIGITS:,} digits, and this one has {len(digits):,}")
            return msgpack.ExtType(_DECIMAL, digits)
        case _:
            raise TypeError(f"{type(value).__module__}.{type(value).__qualname__}")


def decode_extension(code: int, data: bytes) -> Any:
    if len(data) > MAX_DIGITS:
        raise EncodingError(f"extension type {code} has {len(data):,} bytes; at most {MAX_DIGITS:,} are read")
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
