"""SECURITY.md and docs/security.md: each line is held by a test, which stands beside it in a comment.

A paragraph, an item of a list or a row of a table ends with `<!-- tests/…/test_x.py::test_y, … -->`, or, where it
advises or says what is not promised, with `<!-- no promise -->`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("SECURITY.md", "docs/security.md")
NO_PROMISE = "no promise"


def claims(page: str) -> Iterator[str]:
    """The paragraphs, items and rows of a page: each in one piece, without headings and code."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^\|.*\|\n\|[-|]+\|$", "", text, flags=re.MULTILINE)  # the heads of tables
    for block in re.split(r"\n\s*\n", text):
        for claim in re.split(r"\n(?=- |\|)", block.strip()):
            if claim and not claim.startswith("#"):
                yield claim


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("page", PAGES)
def test_each_claim_has_a_test_that_exists(page: str) -> None:
    wrong: list[str] = []
    found = list(claims(page))
    for claim in found:
        held = re.search(r"<!-- (.*?) -->( \|)?$", claim, re.DOTALL)
        if held is None:
            wrong.append(f"nothing holds: {claim[:100]}")
            continue
        if held[1] == NO_PROMISE:
            continue
        for name in re.split(r",\s+", held[1]):
            path, _, function = name.partition("::")
            if not (ROOT / path).is_file():
                wrong.append(f"there is no file {path}: {claim[:60]}")
            elif not function.startswith("test_") or function not in functions(path):
                wrong.append(f"{path} has no test {function!r}: {claim[:60]}")
    assert not wrong, "\n".join(wrong)
    assert len(found) > 10
    assert sum(NO_PROMISE not in claim for claim in found) * 2 > len(found), "most of the page is held by tests"
