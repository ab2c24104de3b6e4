"""Functions that the tests run in child processes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def add(a: int, b: int = 0) -> int:
    return a + b


async def add_async(a: int, b: int) -> int:
    return a + b


def fail() -> None:
    raise ValueError("of no use")


def die(status: int) -> None:
    os._exit(status)


def leave() -> None:
    raise SystemExit(3)


def pid() -> int:
    return os.getpid()


def unencodable() -> Any:
    return object()


def large(size: int) -> bytes:
    return b"x" * size


def talk() -> str:
    print("to stdout, which is nobody's protocol")
    os.write(1, b"\x00\x00\x00\x05hello")
    return "said"


def tell_and_hang(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def meet(mine: str, other: str) -> bool:
    """True once the other call has come as well: only if both run at once."""
    Path(mine).touch()
    deadline = time.monotonic() + 20
    while not Path(other).exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
