"""Words that the texts of the project avoid: the number of each in each room may only shrink. Spelling, by codespell.

`python -m tests.test_english` shows where they are. After a pass, `python -m tests.test_english --write` lowers the
numbers in tests/words_to_avoid.json. It never raises one.
"""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(__file__).with_name("words_to_avoid.json")
AVOID = {
    "is no X": r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b|later\b|earlier\b|other\b|one\b)[a-z]",
    "anew": r"\banew\b",
    "of its own": r"\bof (?:its|their|our|his) own\b",
    "nobody, somebody": r"\b(?:no|some)body\b",
    "told": r"\btold\b",
    "so many": r"\bso many\b",
    "whoever": r"\bwhoever\b",
}
PRONOUN = "docstring of one line that begins with a pronoun"
PRONOUNS = re.compile(r"(?:It|Its|They|Them|Their|He|She|His|Her|This|That|These|Those|What|Which|Who|Whoever|Whose)\b")
NOT_OURS = {"tests/test_english.py", "tests/words_to_avoid.json"}
"""They name the words."""


def files() -> list[Path]:
    kinds = (".py", ".pyi", ".lua", ".sh", ".md", ".toml", ".yml", ".yaml")
    kept = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "pyproject.toml")]
    for room in ("redsched", "lua", "tests", "docs", "examples", "benchmarks", "news", ".ci", ".github"):
        hidden = {"__pycache__", ".environments", "out"}
        kept += [path for path in (ROOT / room).rglob("*") if path.is_file() and not hidden & {*path.parts}]
    return sorted(path for path in kept if path.suffix in kinds and str(path.relative_to(ROOT)) not in NOT_OURS)


def room_of(path: Path) -> str:
    first, *rest = path.relative_to(ROOT).parts
    return first if rest else "pages"


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that people read; of Python only comments and texts, not names."""
    text = path.read_text()
    if path.suffix not in (".py", ".pyi"):
        yield from enumerate(text.splitlines(), 1)
        return
    texts = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in texts:
            yield from enumerate(token.string.splitlines(), token.start[0])


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Of one line each."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text and "\n" not in text:
                yield node.body[0].lineno, text


def found(path: Path) -> Iterator[tuple[str, int, str]]:
    """(word, line, text) for each place in a file."""
    for number, line in prose(path):
        for word, pattern in AVOID.items():
            for _ in re.finditer(pattern, line, re.IGNORECASE):
                yield word, number, line.strip()
    if path.suffix == ".py":
        for number, text in docstrings(path):
            if PRONOUNS.match(text):
                yield PRONOUN, number, text


def counts() -> dict[str, dict[str, int]]:
    """Room -> word -> how often."""
    counted: dict[str, Counter[str]] = {}
    for path in files():
        counted.setdefault(room_of(path), Counter()).update(word for word, _, _ in found(path))
    return {room: dict(sorted(words.items())) for room, words in sorted(counted.items()) if words}


def test_no_room_has_more_of_the_words_to_avoid_than_before() -> None:
    allowed = json.loads(FILE.read_text())
    more = {
        f"{room}: {word}": f"{number}, allowed {allowed.get(room, {}).get(word, 0)}"
        for room, words in counts().items()
        for word, number in words.items()
        if number > allowed.get(room, {}).get(word, 0)
    }
    assert more == {}, "python -m tests.test_english shows where; rewrite the sentence, with a subject and a verb"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("it is no executor", "is no X"),
        ("it is no longer there", None),
        ("there is no job with this id", None),
        ("read anew", "anew"),
        ("a process of its own", "of its own"),
        ("Nobody waits", "nobody, somebody"),
        ("the client is told", "told"),
        ("at most so many", "so many"),
        ("Whoever asks", "whoever"),
    ],
)
def test_a_word_to_avoid_is_found_in_texts_and_comments_but_not_in_names(
    tmp_path: Path, text: str, word: str | None
) -> None:
    file = tmp_path / "module.py"
    file.write_text(f'told = "{text}"\n# {text}\n')
    assert [one for one, _, _ in found(file)] == [word] * 2 * (word is not None)
    file.write_text('def f():\n    """It waits."""\n\ndef g():\n    """Wait for it."""\n')
    assert [(one, line) for one, line, _ in found(file)] == [(PRONOUN, 2)]


def test_the_spelling_is_that_of_codespell() -> None:
    pytest.importorskip("codespell_lib", reason="codespell is of the group `dev`")
    names = [str(path.relative_to(ROOT)) for path in files()]
    command = [sys.executable, "-m", "codespell_lib", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def main() -> None:
    """Show the places, or lower the numbers."""
    now = counts()
    if "--write" not in sys.argv:
        for path in files():
            for word, line, text in found(path):
                sys.stdout.write(f"{path.relative_to(ROOT)}:{line}: {word}: {text[:100]}\n")
        return
    before = json.loads(FILE.read_text()) if FILE.exists() else now
    lower = {
        room: {word: min(number, now.get(room, {}).get(word, 0)) for word, number in words.items()}
        for room, words in before.items()
    }
    FILE.write_text(json.dumps(lower, indent=2) + "\n")


if __name__ == "__main__":
    main()
