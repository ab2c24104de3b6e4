"""The header of a script is its contract: what breaks it is refused before Redis sees it."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest

from redsched.errors import StoreError
from redsched.store import scripts
from redsched.store.includes import given
from redsched.store.scripts import ScriptError, load, lua_folder, parse_header, script_names
from redsched.testing import Kit
from tests.store.lua_code import BUILTINS, COMPILE, Function, read

LUA = Path(str(lua_folder()))
GOOD = """-- good: what it does.
-- Flags   none
-- State   (none)
-- KEYS    clock       HASH   the instant
--         events      STREAM what happened
-- ARGV    prefix      str    hash tag
--         count       int    how many
-- Reply   OK now_us | GONE
-- Again   the same
-- Cost    O(1)
--- @include piece
return { 'OK', shared(prefix), count }
"""

PIECE = """-- piece: what two scripts share.
-- Needs   deeper
-- Gives   shared(x) -> its argument; unused()
--         last, least: two numbers,
--           which are small
--- @include deeper
local least, own, last = deeper, 2, 3
local function private()
  return own -- shared by none
end
local function unused()
  return private()
end
local function shared(x)
  return x
end
"""
DEEPER = "-- deeper: why\n-- Needs   (nothing)\n-- Gives   deeper\nlocal deeper = 1\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate folder of scripts."""
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "piece.lua").write_text(PIECE)
    (tmp_path / "include" / "deeper.lua").write_text(DEEPER)
    monkeypatch.setattr(scripts, "lua_folder", lambda: tmp_path)
    load.cache_clear()
    yield tmp_path
    load.cache_clear()


def put(folder: Path, text: str) -> None:
    (folder / "good.lua").write_text(text)


def test_a_script_gets_its_keys_and_arguments_as_named_locals(folder: Path) -> None:
    put(folder, GOOD)
    script = load("good")
    assert script.purpose == "what it does."
    assert (script.keys, script.args) == (("clock", "events"), ("prefix", "count"))
    assert script.arg_types == ("str", "int")
    assert script.replies == ("OK", "GONE")
    assert script.source.splitlines()[:5] == [
        "#!lua",
        "local clock = KEYS[1]",
        "local events = KEYS[2]",
        "local prefix = ARGV[1]",
        "local count = ARGV[2]",
    ]


def test_includes_are_put_in_once_each_with_what_they_include(folder: Path) -> None:
    put(folder, GOOD.replace("--- @include piece", "--- @include deeper\n--- @include piece\n--- @include piece"))
    source = load("good").source
    assert source.count("deeper = 1") == 1
    assert source.count("function shared") == 1


def test_an_include_is_a_block_and_only_what_it_gives_to_others_is_declared_before_it(folder: Path) -> None:
    put(folder, GOOD.replace("count }", "count, last }"))
    assert load("good").source.splitlines()[5:] == [
        "local deeper",
        "do",
        "deeper = 1",
        "end",
        "local shared, last",
        "do",
        "local least, own",
        "least, own, last = deeper, 2, 3",
        "function shared(x)",
        "  return x",
        "end",
        "end",
        "return { 'OK', shared(prefix), count, last }",
    ]


def test_a_function_that_a_script_never_calls_is_left_out_with_those_that_only_it_calls(folder: Path) -> None:
    put(folder, GOOD)
    assert "private" not in load("good").source
    put(folder, GOOD.replace("count }", "unused() }"))
    load.cache_clear()
    assert "return private()" in load("good").source


async def test_a_local_that_an_include_does_not_give_is_not_visible_to_a_script(
    folder: Path, redsched_kit: Kit
) -> None:
    link = (await redsched_kit.scheduler.store()).shards[0].link
    put(folder, GOOD.replace("count }", "own }"))
    with pytest.raises(StoreError, match="nonexistent global variable 'own'"):
        await link.command("EVAL", load("good").source, 2, "c", "e", "p", 1)
    put(folder, GOOD.replace("count }", "unused() }"))
    load.cache_clear()
    assert await link.command("EVAL", load("good").source, 2, "c", "e", "p", 1) == [b"OK", b"p", 2]


def test_an_include_that_does_not_set_what_it_gives_is_refused(folder: Path) -> None:
    (folder / "include" / "deeper.lua").write_text(DEEPER.replace("local deeper", "local depth"))
    put(folder, GOOD)
    with pytest.raises(ScriptError, match=r"include/deeper.lua: no top-level local of it is \['deeper'\]"):
        load("good")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("-- Gives   what it has\n", "cannot read 'what it has'"),
        ("-- Gives   deeper; and more\n", "cannot read 'and more'"),
        ("-- Gives   deeper (see why)\n", "cannot read"),
        ("", "the header has no Gives"),
    ],
)
def test_a_row_of_gives_that_cannot_be_read_is_refused(folder: Path, row: str, problem: str) -> None:
    (folder / "include" / "deeper.lua").write_text(DEEPER.replace("-- Gives   deeper\n", row))
    put(folder, GOOD)
    with pytest.raises(ScriptError, match=f"include/deeper.lua: .*{problem}"):
        load("good")


@pytest.mark.parametrize("section", ["Flags", "State", "KEYS", "ARGV", "Reply", "Again", "Cost"])
def test_a_missing_section_is_refused_by_name(section: str) -> None:
    text = re.sub(rf"^-- {section}.*\n(--  .*\n)*", "", GOOD, flags=re.MULTILINE)
    with pytest.raises(ScriptError, match=f"good.lua: the header has no .*{section}"):
        parse_header("good", text)


def test_an_unknown_flag_is_refused(folder: Path) -> None:
    put(folder, GOOD.replace("Flags   none", "Flags   allow-everything"))
    with pytest.raises(ScriptError, match=r"allow-everything.*allow-oom"):
        load("good")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("clock       HASH   the instant", "clock       HASHES the instant"),
        ("clock       HASH   the instant", "clock"),
        ("prefix      str    hash tag", "prefix      text   hash tag"),
        ("prefix      str    hash tag", "pre-fix"),
        ("count       int    how many", "count       number how many"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused(folder: Path, old: str, new: str) -> None:
    put(folder, GOOD.replace(old, new))
    with pytest.raises(ScriptError, match=f"cannot read '{new}'"):
        load("good")


@pytest.mark.parametrize("literal", ["KEYS[1]", "ARGV[2]", "KEYS[i]"])
def test_an_index_literal_in_a_body_is_refused(folder: Path, literal: str) -> None:
    put(folder, GOOD + f"redis.call('GET', {literal})\n")
    with pytest.raises(ScriptError, match="index literal"):
        load("good")


def test_an_index_literal_in_an_include_is_refused(folder: Path) -> None:
    (folder / "include" / "deeper.lua").write_text(DEEPER.replace("1", "ARGV[1]"))
    put(folder, GOOD)
    with pytest.raises(ScriptError, match="index literal"):
        load("good")


KEYS = {"clock": "c", "events": "e"}


def test_names_are_put_in_the_order_of_the_header(folder: Path) -> None:
    put(folder, GOOD)
    assert load("good").pack(KEYS, {"count": 2, "prefix": "p"}) == ["c", "e", "p", 2]


@pytest.mark.parametrize(
    "args",
    [{"prefix": "p"}, {"prefix": "p", "count": 1, "more": 2}, {"prefix": "p", "number": 1}, {}],
    ids=["missing", "unknown", "misspelt", "none"],
)
def test_wrong_argument_names_are_refused(folder: Path, args: dict[str, str | int | bytes]) -> None:
    put(folder, GOOD)
    with pytest.raises(ScriptError, match=r"good\.lua"):
        load("good").pack(KEYS, args)


def test_a_missing_key_is_refused(folder: Path) -> None:
    put(folder, GOOD)
    with pytest.raises(ScriptError, match="events"):
        load("good").pack({"clock": "c"}, {"prefix": "p", "count": 1})


# -- the scripts as they are ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", script_names())
async def test_the_server_takes_every_script_under_the_hash_that_it_is_called_by(name: str, redsched_kit: Kit) -> None:
    shard = (await redsched_kit.scheduler.store()).shards[0]
    script = load(name)
    assert (await shard.link.command("SCRIPT", "LOAD", script.source)).decode() == script.sha


@pytest.mark.parametrize("name", script_names())
def test_the_reply_words_of_the_header_are_those_of_the_body(name: str) -> None:
    text = (LUA / f"{name}.lua").read_text()
    body = text.partition("--- @include")[2] or text
    source = load(name).source
    own = set(re.findall(r"return (?:answer\()?\{ '([A-Z]+)'", body))
    if "first_reply" in body:
        own.add("LATE")  # of include/once
    included = set(re.findall(r"(?:return (?:answer\()?|first_reply = )\{ '([A-Z]+)'", source))
    assert own == set(load(name).replies)
    assert included == own, "an include answers with a word that the header does not name"


@pytest.mark.parametrize("name", script_names())
def test_a_script_uses_every_key_and_argument_that_it_names(name: str) -> None:
    script = load(name)
    body = "\n".join(line for line in script.source.splitlines() if not re.search(r"= (KEYS|ARGV)\[\d+\]$", line))
    assert [word for word in (*script.keys, *script.args) if not re.search(rf"\b{word}\b", body)] == []


@pytest.mark.parametrize("name", script_names())
def test_a_script_touches_only_the_kinds_of_keys_that_it_derives(name: str) -> None:
    script = load(name)
    named = set(script.sections.get("Derives", "").split())
    lines = script.source.splitlines()
    built = set(re.findall(r"prefix \.\. '(\w+):", script.source))
    unnamed = {
        kind
        for kind in built - named
        if any(f"'{kind}:" in line and not line.startswith(("local function", "function")) for line in lines)
    }
    assert unnamed == set()


MAX_LOCALS = 150
"""Lua's limit is 200; what is added to an include that is everywhere must not come near it."""


@pytest.mark.parametrize("name", script_names())
async def test_a_script_keeps_clear_of_the_limit_of_locals_and_reads_no_name_that_nothing_gives(
    name: str, redsched_kit: Kit
) -> None:
    main = await compiled(load(name).source.partition("\n")[2], redsched_kit)
    assert main.locals <= MAX_LOCALS
    assert main.reads - BUILTINS == {"KEYS", "ARGV"}
    assert main.sets == set()


async def compiled(source: str, kit: Kit) -> Function:
    link = (await kit.scheduler.store()).shards[0].link
    return read(await link.command("EVAL", COMPILE, 0, source))


INCLUDES = sorted((LUA / "include").glob("*.lua"))
NEEDS = re.compile(r"^-- Needs   (.*\n(?:--         .*\n)*)", re.MULTILINE)


@pytest.mark.parametrize("path", INCLUDES, ids=lambda p: p.stem)
def test_every_include_is_included_and_says_what_it_needs_and_gives(path: Path) -> None:
    users = [p for p in LUA.rglob("*.lua") if f"--- @include {path.stem}\n" in p.read_text()]
    assert users
    head = path.read_text()
    assert head.startswith(f"-- {path.stem}: ")
    assert NEEDS.search(head)
    locals_ = re.findall(r"^local (?:function )?(\w+(?:, \w+)*)", head, re.MULTILINE)
    assert set(given(path.stem, head)) <= {name for row in locals_ for name in row.split(", ")}


@pytest.mark.parametrize("path", INCLUDES, ids=lambda p: p.stem)
async def test_an_include_names_all_that_it_needs_of_others(path: Path, redsched_kit: Kit) -> None:
    """The clock is in every script, and what it gives needs no word."""
    givers = {name: p.stem for p in INCLUDES for name in given(p.stem, p.read_text())}
    needed = (await compiled(path.read_text(), redsched_kit)).reads & givers.keys()
    match = NEEDS.search(path.read_text())
    assert match
    named = set(re.findall(r"\w+", match[1])) | {"clock"}
    assert {f"{givers[name]}: {name}" for name in needed if not {name, givers[name]} & named} == set()


def test_no_two_includes_give_the_same_name() -> None:
    names = Counter(name for path in INCLUDES for name in given(path.stem, path.read_text()))
    assert [name for name, times in names.items() if times > 1] == []


@pytest.mark.skipif(not (LUA.parent / "docs").is_dir(), reason="not a checkout")
def test_the_generated_tables_of_the_pages_are_what_the_generator_makes() -> None:
    spec = importlib.util.spec_from_file_location("generate", LUA.parent / "docs" / "generate.py")
    assert spec and spec.loader
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for path in generate.PAGES:
        page = path.read_text()
        assert page == generate.generated(page), "run docs/generate.py"
