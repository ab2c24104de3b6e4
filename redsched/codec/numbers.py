"""Numbers as Redis stores them: text, which another program may have written. Pure."""

from __future__ import annotations

__all__ = ["whole"]

MOST = 2**53 - 1
"""What Lua, whose numbers are floats, holds exactly."""


def whole(data: bytes | None) -> int | None:
    """The number that some digits stand for; None if they are not a whole number from 0 to 2^53 - 1.

    The rule of `whole` in `lua/include/clock.lua`: the scripts and the client read one number where one is stored.
    """
    if not data or len(data) > 16 or not data.isdigit():
        return None
    number = int(data)
    return number if number <= MOST else None
