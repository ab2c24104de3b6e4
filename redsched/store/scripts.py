"""Finds `lua/`, puts the includes in, reads the headers, and checks each call against them.

A script's header is data, not prose: it names the KEYS and ARGV in order, with their types. From it this
module emits `local due = KEYS[2]`, so that no index is written by hand, and refuses a call with a missing or
unknown name before Redis sees it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from redsched.store.includes import IncludeError, assemble

__all__ = ["Script", "load", "lua_folder", "script_names"]

_SECTIONS = ("Flags", "State", "KEYS", "ARGV", "Derives", "Reply", "Again", "Cost")
_REQUIRED = ("Flags", "State", "KEYS", "ARGV", "Reply", "Again", "Cost")
_ROW = re.compile(r"^(?P<name>\w+)\s+(?P<type>\w+)\s*(?P<meaning>.*)$")
_FLAGS = {"none", "allow-oom", "no-writes"}
_KEY_TYPES = {"HASH", "ZSET", "SET", "LIST", "STREAM", "STRING"}
_ARG_TYPES = {"str", "int", "bytes"}


class ScriptError(RuntimeError):
    """A script's header or a call of it breaks the contract: a mistake in redsched, not of its user."""


@dataclass(frozen=True, slots=True)
class Script:
    """One transition: its contract, its source as Redis gets it, and the hash by which it is called."""

    name: str
    purpose: str
    sections: Mapping[str, str]
    keys: tuple[str, ...]
    args: tuple[str, ...]
    arg_types: tuple[str, ...]
    replies: tuple[str, ...]
    source: str
    sha: str

    def pack(self, keys: Mapping[str, str], args: Mapping[str, str | int | bytes]) -> list[str | int | bytes]:
        """KEYS and ARGV in the script's order.

        Raises:
            ScriptError: a name is missing or unknown.
        """
        if len(args) != len(self.args):
            missing, unknown = set(self.args) - set(args), set(args) - set(self.args)
            raise ScriptError(f"{self.name}.lua: missing arguments {sorted(missing)}, unknown {sorted(unknown)}")
        try:
            return [keys[name] for name in self.keys] + [args[name] for name in self.args]
        except KeyError as error:
            raise ScriptError(f"{self.name}.lua: no value for {error.args[0]!r}") from None


def lua_folder() -> Traversable:
    """The scripts: inside the installed package, or beside it in a checkout."""
    packaged = files("redsched.store") / "lua"
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).resolve().parents[2] / "lua"
    if (checkout / "poll.lua").is_file():
        return checkout
    raise ScriptError(f"the Lua scripts are neither in {packaged} nor in {checkout}: the installation is broken")


def script_names() -> tuple[str, ...]:
    """Every transition, by the name of its file."""
    return tuple(sorted(f.name.removesuffix(".lua") for f in lua_folder().iterdir() if f.name.endswith(".lua")))


def parse_header(name: str, text: str) -> tuple[str, dict[str, str]]:
    """Split a script's header into its purpose and its sections.

    Raises:
        ScriptError: a section is missing, or a line does not belong to one.
    """
    purpose: list[str] = []
    sections: dict[str, list[str]] = {}
    current = purpose
    for line in text.splitlines():
        if not line.startswith("-- ") or line.startswith("--- "):
            break
        body = line[3:]
        word = body.split(" ", 1)[0]
        if word in _SECTIONS:
            current = sections.setdefault(word, [])
            body = body[len(word) :]
        current.append(body.strip())
    missing = [section for section in _REQUIRED if section not in sections]
    if missing:
        raise ScriptError(f"{name}.lua: the header has no {', '.join(missing)}")
    joined = {section: "\n".join(line for line in lines if line) for section, lines in sections.items()}
    return " ".join(purpose).removeprefix(f"{name}: "), joined


def _rows(name: str, section: str, text: str, types: set[str]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for line in text.splitlines():
        match = _ROW.match(line)
        if not match or match["type"] not in types:
            if rows and not match:
                continue
            raise ScriptError(f"{name}.lua: {section}: cannot read {line!r}; types are {sorted(types)}")
        rows.append((match["name"], match["type"]))
    return rows


@cache
def load(name: str) -> Script:
    """Read, check and assemble one script.

    Raises:
        ScriptError: its header breaks the form, or its body has an index literal.
    """
    folder = lua_folder()
    text = (folder / f"{name}.lua").read_text("utf-8")
    purpose, sections = parse_header(name, text)
    keys = _rows(name, "KEYS", sections["KEYS"], _KEY_TYPES)
    args = _rows(name, "ARGV", sections["ARGV"], _ARG_TYPES)
    flags = sections["Flags"]
    if flags not in _FLAGS:
        raise ScriptError(f"{name}.lua: Flags {flags!r}; possible are {sorted(_FLAGS)}")
    try:
        body = assemble(text, folder)
    except IncludeError as error:
        raise ScriptError(f"{name}.lua: {error}") from None
    if literal := re.search(r"\b(KEYS|ARGV)\[", body):
        raise ScriptError(f"{name}.lua: index literal {literal[0]}…] in a body; name it in the header")
    preamble = [f"#!lua flags={flags}" if flags != "none" else "#!lua"]
    preamble += [f"local {key} = KEYS[{index}]" for index, (key, _) in enumerate(keys, 1)]
    preamble += [f"local {arg} = ARGV[{index}]" for index, (arg, _) in enumerate(args, 1)]
    if flags != "no-writes" and not text.startswith("-- quarantine:"):
        preamble += [f"redis.call('ZCARD', {key})" for key, kind in keys if kind == "ZSET"]
    source = "\n".join([*preamble, body])
    replies = tuple(dict.fromkeys(part.split()[0] for part in sections["Reply"].replace("\n", " ").split(" | ")))
    return Script(
        name=name,
        purpose=purpose,
        sections=sections,
        keys=tuple(key for key, _ in keys),
        args=tuple(arg for arg, _ in args),
        arg_types=tuple(kind for _, kind in args),
        replies=replies,
        source=source,
        sha=hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(),
    )
