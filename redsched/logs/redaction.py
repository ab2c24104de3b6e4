"""What of a setting may stand in a message, a log or a `repr`. Pure.

A password may be anywhere: in a URL of any form, in the wrong argument, under a name that is mistyped. So a value is
shown where it is known to be no secret, and left out elsewhere: who reads the message has the setting itself.
"""

from __future__ import annotations

import re
from typing import Any, Final

__all__ = ["HIDDEN", "shown_name", "shown_value", "without_credentials"]

HIDDEN: Final = "***"


def shown_value(value: Any) -> str:
    """A wrong value of a setting: numbers, and words that are too simple for a password; of all else nothing."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)[:30]
    if isinstance(value, str):
        return repr(value) if re.fullmatch(r"[A-Za-z]{0,8}|[0-9.,+-]{1,6}", value) else HIDDEN
    return f"of type {type(value).__qualname__}"


def shown_name(name: Any) -> str:
    """The name of a setting that is not known: shown if it looks like one."""
    return name if isinstance(name, str) and re.fullmatch(r"[A-Za-z_-]{1,40}", name) else HIDDEN


_QUOTED = re.compile(r"""(['"])([^'"]{0,200}?[A-Za-z][A-Za-z0-9+.-]*://)(?:(?!\1)[^\\]|\\.)*@""", re.DOTALL)
_BARE = re.compile(r"""((?<!['"A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*://)[^\s'"]*@""")


def without_credentials(text: str) -> str:
    """A message without what stands before the @ of a URL in it."""
    if "://" not in text or "@" not in text:
        return text
    return _BARE.sub(rf"\1{HIDDEN}@", _QUOTED.sub(rf"\1\2{HIDDEN}@", text))
