"""The header of a script is its contract: what breaks it is refused before Redis sees it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from redsched.store import scripts
from redsched.store.scripts import ScriptError, load, lua_folder, parse_header, script_names
from redsched.testing import Kit

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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of scripts of its own."""
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "piece.lua").write_text("--- @include deeper\nlocal function shared(x) return x end\n")
    (tmp_path / "include" / "deeper.lua").write_text("-- why\nlocal deeper = 1\n")
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
    assert source.count("local deeper = 1") == 1
    assert source.count("local function shared") == 1
    assert "--" not in source


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
    (folder / "include" / "deeper.lua").write_text("local deeper = ARGV[1]\n")
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
    included = set(re.findall(r"return (?:answer\()?\{ '([A-Z]+)'", source))
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
    built = set(re.findall(r"prefix \.\. '(\w+):", script.source))
    unnamed = {
        kind
        for kind in built - named
        if any(f"'{kind}:" in line and "local function" not in line for line in reachable(script.source))
    }
    assert unnamed == set()


def reachable(source: str) -> list[str]:
    """The lines of a script without functions that it never calls (an include brings several)."""
    lines = source.splitlines()
    while True:
        for at, line in enumerate(lines):
            match = re.match(r"local function (\w+)\(", line)
            if match and len(re.findall(rf"\b{match[1]}\(", "\n".join(lines))) == 1:
                end = lines.index("end", at)
                del lines[at : end + 1]
                break
        else:
            return lines


@pytest.mark.parametrize("path", sorted((LUA / "include").glob("*.lua")), ids=lambda p: p.stem)
def test_every_include_is_included_and_says_what_it_needs_and_gives(path: Path) -> None:
    users = [p for p in LUA.rglob("*.lua") if f"--- @include {path.stem}\n" in p.read_text()]
    assert users
    head = path.read_text()
    assert head.startswith(f"-- {path.stem}: ")
    assert re.search(r"^-- Needs   ", head, re.MULTILINE)
    assert re.search(r"^-- Gives   ", head, re.MULTILINE)


@pytest.mark.skipif(not (LUA.parent / "docs").is_dir(), reason="not a checkout")
def test_the_generated_tables_of_the_pages_are_what_the_generator_makes() -> None:
    spec = importlib.util.spec_from_file_location("generate", LUA.parent / "docs" / "generate.py")
    assert spec and spec.loader
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for path in generate.PAGES:
        page = path.read_text()
        assert page == generate.generated(page), "run docs/generate.py"
