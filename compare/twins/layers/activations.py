"""Every activation of the file in one program, each on its own rows of x."""

import importlib
from collections.abc import Callable
from functools import partial

from compare import Array, Twin

# What a function takes after x.
ALONG = {"softmax": (-1,), "log_softmax": (-1,), "logsumexp": (-1,)}


def every(package: str) -> Callable:
    """The functions of one side, as one."""
    module = importlib.import_module(f"{package}.layers.activations")

    def call(x, weight, beta):
        more = {**ALONG, "prelu": (weight,), "swish": (beta,)}
        values = {
            name: getattr(module, name)(3 * x[i], *more.get(name, ()))
            for i, name in enumerate(module.__all__)
        }
        return {**values, "gelu_tanh": module.gelu(3 * x[-1], approximate="tanh")}

    return call


activations = Twin(
    torch=partial(every, "torchref"),
    jax=partial(every, "jaxnn"),
    inputs={"x": Array((22, 4, 6)), "weight": Array((6,)), "beta": Array((1,))},
)
