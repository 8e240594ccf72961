"""Twins of linear algebra: each calls every function of its file, each on inputs of its own."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from itertools import islice
from typing import Any

from compare import Array, Twin


def together(
    room: str, given: Mapping[str, tuple], options: Mapping[str, dict[str, Any]] | None = None
) -> Twin:
    """One twin for a file of functions, so that they share its compiled programs.

    Args:
      room: the relative path of the mirrored files.
      given: by function, its inputs in the order of the call: shapes or real arrays.
      options: by function, keywords that are no arrays.
    """

    def build(package: str) -> Callable[..., dict[str, Any]]:
        module = import_module(f"{package}.{room.replace('/', '.')}")

        def every(*arrays):
            rest = iter(arrays)
            return {
                name: getattr(module, name)(
                    *islice(rest, len(given[name])), **(options or {}).get(name, {})
                )
                for name in module.__all__
            }

        return every

    inputs = {
        f"{name}.{place}": Array(value) if isinstance(value, tuple) else value
        for name, values in given.items()
        for place, value in enumerate(values)
    }
    return Twin(torch=partial(build, "torchref"), jax=partial(build, "jaxnn"), inputs=inputs)
