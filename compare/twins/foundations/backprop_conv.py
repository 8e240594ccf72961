"""Convolution and pooling, forward and back by hand, in one program; dy is y squared."""

from compare import Array, Image
from compare.twins import functions, in_torch

OPTIONS = {"stride": 2, "padding": 1}


@functions(
    "foundations/backprop_conv",
    x=Image(6, 3, 7, 6),
    weight=Array((4, 3, 3, 2)),
    bias=Array((4,)),
)
def backprop_conv(module, x, weight, bias):
    jax = not in_torch(module)
    kernel = weight.transpose(2, 3, 1, 0) if jax else weight
    given = {
        "conv2d": ((x[:2], kernel, bias), OPTIONS),
        "max_pool2d": ((x[2:4],), {"kernel_size": 3, **OPTIONS}),
        "avg_pool2d": ((x[4:],), {"kernel_size": 2}),
    }
    values = {}
    for name in module.__all__[::2]:
        layer = name.removesuffix("_forward")
        args, options = given[layer]
        y, cache = getattr(module, name)(*args, **options)
        grads = getattr(module, f"{layer}_backward")(y * y, cache, **options)
        if jax and "weight" in grads:  # four axes that are returned are taken for an image
            grads["weight"] = grads["weight"].transpose(3, 0, 1, 2)
        values[layer] = y, grads
    return values
