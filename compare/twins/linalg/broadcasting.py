"""What is stretched, and summed back."""

from compare import Array
from compare.twins import functions


@functions("linalg/broadcasting", x=Array((3, 1)), y=Array((2, 3, 4)))
def broadcasting(module, x, y):
    shape = module.broadcast_shape(tuple(x.shape), (2, 1, 4))
    return {
        "broadcast_to": module.broadcast_to(x, shape),
        "unbroadcast": module.unbroadcast(y, (3, 1)),
    }
