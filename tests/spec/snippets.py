"""The specification page's snippets, as they stand there: nothing is changed but the imports of `IMPORTS`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

PAGE = Path(__file__).with_name("page.md")

IMPORTS: Mapping[str, str] = {
    # neuroglia-python has these modules, without these names (0.9.4); tests/spec/framework.py has the least of them.
    "from neuroglia.eventing import EventHandler": "from tests.spec.framework import EventHandler",
    "from neuroglia.reactive import Observable": "from tests.spec.framework import Observable",
    "from neuroglia.scheduling import": "from redsched import",
}
"""What changes in the snippets: how an import begins -> how it begins then."""


@dataclass(frozen=True)
class Snippet:
    """A block of Python on the page."""

    number: int
    """From 1, in the order of the page."""
    heading: str
    text: str

    @property
    def code(self) -> str:
        """The text with other imports."""
        code = self.text
        for old, new in IMPORTS.items():
            code = code.replace(old, new)
        return code


def _read() -> list[Snippet]:
    found: list[Snippet] = []
    heading = ""
    for part in re.finditer(r"^#+ (?P<heading>[^\n]+)$|^```python\n(?P<code>.*?)^```$", PAGE.read_text(), re.M | re.S):
        if part["heading"] and not part["code"]:
            heading = re.sub(r"[^\w -]", "", part["heading"]).strip()
        else:
            found.append(Snippet(len(found) + 1, heading, part["code"]))
    return found


SNIPPETS = _read()


def names_of_the_page() -> list[str]:
    """Every name that a snippet imports from `neuroglia.scheduling`."""
    lines = re.findall(r"^from neuroglia\.scheduling import (.+)$", PAGE.read_text(), re.M)
    return sorted({name.strip() for line in lines for name in line.split(",")})


def snippet(number: int) -> Snippet:
    return SNIPPETS[number - 1]


def load(number: int, **given: Any) -> Any:
    """Run a snippet as a module of its own, in which the given names are there already. Returns the module."""
    module = ModuleType(f"page_snippet_{number}")
    sys.modules[module.__name__] = module  # its functions are found by their path, as any module's
    vars(module).update(given)
    exec(compile(snippet(number).code, f"{PAGE.name}, snippet {number}", "exec"), vars(module))
    return module
