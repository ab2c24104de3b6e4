"""What a script is to Lua: its compiled form, as `string.dump` writes it (Lua 5.1, which Redis has in it)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

GETGLOBAL, SETGLOBAL = 5, 7
COMPILE = "local f, e = loadstring(ARGV[1]) if not f then return redis.error_reply(e) end return string.dump(f)"
"""A script that compiles its argument, and does not run it."""
BUILTINS = {
    "assert",
    "ipairs",
    "math",
    "next",
    "pairs",
    "pcall",
    "select",
    "string",
    "table",
    "tonumber",
    "tostring",
    "type",
}
BUILTINS |= {"unpack", "redis", "cmsgpack", "cjson"}


@dataclass
class Function:
    """One function: the globals that it and those in it read and set, and how many of its locals live at once."""

    reads: set[str] = field(default_factory=set[str])
    sets: set[str] = field(default_factory=set[str])
    locals: int = 0


class _Reader:
    def __init__(self, code: bytes) -> None:
        assert code[:6] == b"\x1bLua\x51\x00"
        assert code[6:12] == bytes([1, 4, 8, 4, 8, 0]), "another machine's form"
        self.code, self.at = code, 12

    def take(self, form: str) -> int:
        (value,) = struct.unpack_from("<" + form, self.code, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def text(self) -> str:
        size = self.take("Q")
        self.at += size
        return self.code[self.at - size : self.at - 1].decode("latin-1") if size else ""

    def constant(self) -> str:
        match self.take("B"):
            case 0:
                return ""
            case 1:
                return str(self.take("B"))
            case 3:
                return str(self.take("d"))
            case _:
                return self.text()

    def function(self) -> Function:
        self.text()
        self.at += 4 + 4 + 4  # its lines; how many upvalues, parameters, registers
        instructions = [self.take("I") for _ in range(self.take("i"))]
        constants = [self.constant() for _ in range(self.take("i"))]
        inner = [self.function() for _ in range(self.take("i"))]
        lines = self.take("i")
        self.at += 4 * lines
        spans: list[tuple[int, int]] = []
        for _ in range(self.take("i")):
            self.text()
            spans.append((self.take("i"), self.take("i")))
        for _ in range(self.take("i")):
            self.text()
        found = Function(locals=max((sum(a <= pc < b for a, b in spans) for pc, _ in spans), default=0))
        found.reads = {constants[code >> 14] for code in instructions if code & 63 == GETGLOBAL}
        found.sets = {constants[code >> 14] for code in instructions if code & 63 == SETGLOBAL}
        found.reads |= {name for function in inner for name in function.reads}
        found.sets |= {name for function in inner for name in function.sets}
        return found


def read(code: bytes) -> Function:
    """The main function of a compiled chunk."""
    return _Reader(code).function()
