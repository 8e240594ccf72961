"""Twins of linear algebra: each calls every function of its file, each on inputs of its own."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from compare import Array, Twin
from compare.twins import functions


def together(
    room: str, given: Mapping[str, tuple], options: Mapping[str, dict[str, Any]] | None = None
) -> Twin:
    """One twin of all functions of a file.

    Args:
      room: the relative path of the mirrored files.
      given: by function, its inputs in the order of the call: shapes or real arrays.
      options: by function, keywords that are no arrays.
    """
    inputs = {
        f"{name}.{place}": Array(value) if isinstance(value, tuple) else value
        for name, values in given.items()
        for place, value in enumerate(values)
    }

    @functions(room, **inputs)
    def every(module, *arrays):
        rest = iter(arrays)
        return {
            name: getattr(module, name)(
                *islice(rest, len(given[name])), **(options or {}).get(name, {})
            )
            for name in module.__all__
        }

    return every
