"""Every function of draws in one program, each on its own; JAX's kernels transposed."""

import importlib
from collections.abc import Callable
from functools import partial

from compare import Array, Twin


def every(package: str) -> Callable:
    """The functions of one side, as one."""
    module = importlib.import_module(f"{package}.layers.defaults")

    def own(matrix):
        return matrix.T if package == "jaxnn" else matrix

    def call(u, z):
        return {
            "linear_weight": own(module.linear_weight(own(u[0]))),
            "linear_bias": module.linear_bias(u[1, :, 0], own(u[0]).shape),
            "bilinear": module.bilinear(u[2], 3),
            "embedding": module.embedding(z, padding_idx=1),
            "recurrent": module.recurrent(u[3], 3),
        }

    return call


defaults = Twin(
    torch=partial(every, "torchref"),
    jax=partial(every, "jaxnn"),
    inputs={"u": Array((4, 6, 4)), "z": Array((5, 4))},
)
