"""Every loss of the file in one program, each on its own rows of x and y."""

import importlib
from collections.abc import Callable
from functools import partial

from compare import Array, Twin


def every(package: str) -> Callable:
    """The functions of one side, as one."""
    module = importlib.import_module(f"{package}.training.robust")

    def call(x, y):
        return {n: getattr(module, n)(2 * x[i], y[i]) for i, n in enumerate(module.__all__)}

    return call


robust = Twin(
    torch=partial(every, "torchref"),
    jax=partial(every, "jaxnn"),
    inputs={"x": Array((3, 5, 4)), "y": Array((3, 5, 4))},
)
