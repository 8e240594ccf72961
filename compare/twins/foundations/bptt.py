"""Elman's network and the LSTM, forward and back by hand, in one program; dy is y squared."""

from compare import Array
from compare.twins import functions

H, D = 3, 2
# What each takes: its rows of the weights and biases, its states, its pieces.
LAYERS = {
    "elman": (slice(0, H), (0,), None),
    "lstm": (slice(H, 5 * H), (1, 2), 2),
}


@functions(
    "foundations/bptt",
    x=Array((2, 4, 5, D)),
    h=Array((3, 4, H)),
    weight_ih=Array((5 * H, D)),
    weight_hh=Array((5 * H, H)),
    bias_ih=Array((5 * H,)),
    bias_hh=Array((5 * H,)),
)
def bptt(module, x, h, *params):
    values = {}
    for index, name in enumerate(module.__all__[::2]):
        layer = name.removesuffix("_forward")
        rows, states, truncate = LAYERS[layer]
        given = [x[index], *(h[i] for i in states), *(p[rows] for p in params)]
        y, cache = getattr(module, name)(*given)
        values[layer] = y, getattr(module, f"{layer}_backward")(y * y, cache, truncate)
    return values
