"""The shared ground of Diptych: one set of weights, two frameworks, one verdict."""

from typing import Any

from compare.errors import DiptychError
from compare.twin import Array, Image, Labels, Lengths, Phase, Tokens, Twin

__all__ = [
    "Array",
    "DiptychError",
    "Image",
    "Labels",
    "Lengths",
    "Phase",
    "Tokens",
    "Twin",
    "check",
    "find",
]


def __getattr__(name: str) -> Any:
    if name in ("check", "find"):  # what they need is imported when it is first asked for
        from compare import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} of diptych ({__file__}) has no attribute {name!r}")
