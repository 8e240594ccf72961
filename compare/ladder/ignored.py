"""Tensors that are left out: those of no elements, and those that a twin ignores."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from compare.errors import DiptychError
from compare.twin import Twin


def ignored(twin: Twin, names: Iterable[tuple[Any, str, tuple[int, ...]]]) -> dict[Any, str]:
    """What is left out of both sides, with the reason.

    Args:
      names: per tensor its key, its name and its shape.

    Raises:
      DiptychError: an expression of `Twin(ignore=...)` fits no name.
    """
    found: dict[Any, str] = {}
    unused = set(twin.ignore)
    for key, name, shape in names:
        fitting = {pattern for pattern in twin.ignore if re.fullmatch(pattern, name)}
        unused -= fitting
        if fitting:
            found[key] = f"{name} {shape}: ignored, as Twin(ignore=...) says"
        elif not math.prod(shape):
            found[key] = f"{name} {shape}: no elements"
    if unused:
        fits = f"fits no tensor of either side: {min(unused)!r}"
        raise DiptychError(f"{twin.name or 'twin'}: an expression of Twin(ignore=...) {fits}")
    return found
