"""Every layer of the file, forward and back by hand, in one program; dy is y squared."""

import importlib
from collections.abc import Callable
from functools import partial

from compare import Array, Labels, Twin


def every(package: str) -> Callable:
    """The functions of one side, as one."""
    module = importlib.import_module(f"{package}.foundations.backprop")

    def call(x, weight, bias, labels):
        given = {
            "linear": (x[0], weight, bias),
            "relu": (x[1],),
            "batch_norm": (x[2], weight[0], weight[1]),
            "softmax_cross_entropy": (x[3], labels),
        }
        values = {}
        for name in module.__all__[::2]:
            layer = name.removesuffix("_forward")
            y, cache = getattr(module, name)(*given[layer])
            values[layer] = y, getattr(module, f"{layer}_backward")(y * y, cache)
        return values

    return call


backprop = Twin(
    torch=partial(every, "torchref"),
    jax=partial(every, "jaxnn"),
    inputs={
        "x": Array((4, 6, 5)),
        "weight": Array((3, 5)),
        "bias": Array((3,)),
        "labels": Labels(6, 5),
    },
)
