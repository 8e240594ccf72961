"""Every function of draws in one program, each on its own; JAX's kernels transposed."""

import importlib
from collections.abc import Callable
from functools import partial

from compare import Array, Twin

OF_UNIFORM = ("uniform", "trunc_normal", "xavier_uniform", "kaiming_uniform")
OF_NORMAL = ("normal", "xavier_normal", "kaiming_normal")


def every(package: str) -> Callable:
    """The functions of one side, as one."""
    module = importlib.import_module(f"{package}.layers.initialisers")

    def own(matrix):
        return matrix.T if package == "jaxnn" else matrix

    def call(u, z):
        u = 1 / (1 + u * u)  # uniform enough: between 0 and 1
        made = {name: getattr(module, name)(own(u[i])) for i, name in enumerate(OF_UNIFORM)}
        made |= {name: getattr(module, name)(own(z[i])) for i, name in enumerate(OF_NORMAL)}
        return {name: own(weight) for name, weight in made.items()}

    return call


initialisers = Twin(
    torch=partial(every, "torchref"),
    jax=partial(every, "jaxnn"),
    inputs={"u": Array((4, 6, 4)), "z": Array((3, 6, 4))},
)
