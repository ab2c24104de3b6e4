"""The parameters of a callable, the same on every Python version."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["signature_of"]


def signature_of(function: Callable[..., Any], *, follow_wrapped: bool = True) -> inspect.Signature:
    """The parameters of a callable.

    Python 3.14 evaluates annotations lazily: one that names something imported only for type checkers would raise
    NameError here. Such a name stays a name, as it does where annotations are strings.

    Args:
        follow_wrapped: for a decorated function, use the parameters of the function inside, if the decorator names it.

    Raises:
        TypeError: it is not callable.
        ValueError: it has no signature (some functions written in C).
    """
    if sys.version_info >= (3, 14):
        import annotationlib

        return inspect.signature(
            function, follow_wrapped=follow_wrapped, annotation_format=annotationlib.Format.FORWARDREF
        )
    return inspect.signature(function, follow_wrapped=follow_wrapped)
