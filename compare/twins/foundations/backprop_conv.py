"""Convolution and pooling, forward and back by hand, in one program; dy is y squared."""

import importlib
from collections.abc import Callable
from functools import partial

from compare import Array, Image, Twin

OPTIONS = {"stride": 2, "padding": 1}


def every(package: str, to_kernel: tuple[int, ...], to_weight: tuple[int, ...]) -> Callable:
    """The functions of one side, as one.

    Args:
      to_kernel: the axes of the side's kernel, from torch's weight.
      to_weight: back, for what returns four axes is taken for an image.
    """
    module = importlib.import_module(f"{package}.foundations.backprop_conv")

    def call(x, weight, bias):
        given = {
            "conv2d": ((x[:2], transposed(weight, to_kernel), bias), OPTIONS),
            "max_pool2d": ((x[2:4],), {"kernel_size": 3, **OPTIONS}),
            "avg_pool2d": ((x[4:],), {"kernel_size": 2}),
        }
        values = {}
        for name in module.__all__[::2]:
            layer = name.removesuffix("_forward")
            args, options = given[layer]
            y, cache = getattr(module, name)(*args, **options)
            grads = getattr(module, f"{layer}_backward")(y * y, cache, **options)
            if "weight" in grads:
                grads["weight"] = transposed(grads["weight"], to_weight)
            values[layer] = y, grads
        return values

    return call


def transposed(array, axes):
    return array.permute(axes) if hasattr(array, "permute") else array.transpose(axes)


backprop_conv = Twin(
    torch=partial(every, "torchref", (0, 1, 2, 3), (0, 1, 2, 3)),
    jax=partial(every, "jaxnn", (2, 3, 1, 0), (3, 0, 1, 2)),
    inputs={"x": Image(6, 3, 7, 6), "weight": Array((4, 3, 3, 2)), "bias": Array((4,))},
)
