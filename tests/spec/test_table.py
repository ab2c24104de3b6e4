"""docs/specification.md is complete: each name and each snippet of the page has its row, and each row is true."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import redsched
from tests.spec.snippets import SNIPPETS, names_of_the_page

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "specification.md"


def rows(heading: str) -> list[list[str]]:
    section = TABLE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_name_has_its_row_and_lives_where_that_says() -> None:
    found = {row[0].strip("`"): row for row in rows("Names")}
    assert sorted(found) == names_of_the_page()
    for name, row in found.items():
        link = re.search(r"\((.+?)\)", row[2])
        assert link
        module = ast.parse((TABLE.parent / link[1]).read_text())
        defined = {n.name for n in module.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
        assert name in defined
        assert name in redsched.__all__


def test_every_snippet_has_its_row_with_all_its_tests() -> None:
    module = ast.parse((ROOT / "tests" / "spec" / "test_page.py").read_text())
    tests = {n.name for n in module.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    for snippet, row in zip(SNIPPETS, rows("Snippets"), strict=True):
        assert row[:2] == [str(snippet.number), snippet.heading]
        own = {name for name in tests if name.startswith(f"test_{snippet.number:02d}_")}
        assert set(re.findall(r"`(\w+)`", row[2])) == own
