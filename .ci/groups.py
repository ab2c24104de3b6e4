"""Prints what dependency groups of pyproject.toml require, a line each: `python .ci/groups.py GROUP...`.

For pip before 25.1, which does not read the groups by itself; Python 3.11 brings pip 23.
"""

import sys
import tomllib
from pathlib import Path
from typing import Any

TABLE: dict[str, list[Any]] = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())[
    "dependency-groups"
]


def requirements(group: str) -> list[str]:
    """The requirements of a group and of the groups that it includes."""
    if group not in TABLE:
        raise SystemExit(f"groups.py: pyproject.toml has no dependency group {group!r}; it has {', '.join(TABLE)}")
    found: list[str] = []
    for entry in TABLE[group]:
        found += [entry] if isinstance(entry, str) else requirements(entry["include-group"])
    return found


if __name__ == "__main__":
    for line in dict.fromkeys(line for group in sys.argv[1:] for line in requirements(group)):
        sys.stdout.write(f"{line}\n")
