"""Marks of run ids: `lua/include/found.lua` uses them to find the rows in which a worker reported a run.

Thousands of ids a second are put down, and few are looked for. So only four bytes of each are kept, in strings to which
each poll appends; what they are cannot be forged into a wrong answer, since the rows have the whole id.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from struct import Struct
from zlib import crc32

__all__ = ["PARTS", "index_of", "mark_of"]

PARTS = 8
"""The number of strings, each with the marks of a range: a search reads only one of them."""
_PART_BITS = 29
_STARTS = [part << _PART_BITS for part in range(1, PARTS)]
_COUNTS = Struct(f">{PARTS}I")
_NO_LINE_ENDS = bytes.maketrans(b"\n", b"\v")
"""A line's end ends the marks of a poll."""


def index_of(ids: Sequence[str]) -> bytes:
    """How many of the ids are in each part, then their marks."""
    try:
        hashes = sorted(map(crc32, map(str.encode, ids)))
    except UnicodeEncodeError:
        hashes = sorted(crc32(_bytes(run_id)) for run_id in ids)
    marks = array("I", hashes)
    if sys.byteorder == "little":
        marks.byteswap()
    ends = [bisect_left(hashes, start) for start in _STARTS]
    counts = [end - start for start, end in zip([0, *ends], [*ends, len(hashes)], strict=True)]
    return _COUNTS.pack(*counts) + marks.tobytes().translate(_NO_LINE_ENDS)


def mark_of(run_id: str) -> tuple[int, bytes]:
    """The part in which the id would be, counted from 1, and its mark, backwards as the search goes."""
    number = crc32(_bytes(run_id))
    return (number >> _PART_BITS) + 1, number.to_bytes(4, "little").translate(_NO_LINE_ENDS)


def _bytes(run_id: str) -> bytes:
    return run_id.encode(errors="surrogateescape")
