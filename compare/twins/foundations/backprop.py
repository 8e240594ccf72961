"""Every layer of the file, forward and back by hand, in one program; dy is y squared."""

from compare import Array, Labels
from compare.twins import functions


@functions(
    "foundations/backprop",
    x=Array((4, 6, 5)),
    weight=Array((3, 5)),
    bias=Array((3,)),
    labels=Labels(6, 5),
)
def backprop(module, x, weight, bias, labels):
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
