"""The functions of draws in one program, each on its own; JAX's kernels transposed."""

import importlib
from collections.abc import Callable
from functools import partial

import numpy as np

from compare import Array, Twin


def every(package: str) -> Callable:
    """The functions of one side, as one."""
    module = importlib.import_module(f"{package}.layers.structured")

    def own(matrix):
        return matrix.T if package == "jaxnn" else matrix

    def call(order, z):
        return {
            "tall": own(module.orthogonal(own(z[0]))),
            "wide": own(module.orthogonal(own(z[1].T), gain=2.0)),
            "sparse": own(module.sparse(own(z[2]), own(order), sparsity=0.3)),
        }

    return call


structured = Twin(
    torch=partial(every, "torchref"),
    jax=partial(every, "jaxnn"),
    inputs={"order": np.arange(24).reshape(6, 4) * 7 % 24, "z": Array((3, 6, 4))},
)
