"""Pooling of every kind in one program, each on its own images of x.

Fixed, adaptive and inverse pooling share their code, and so one program: `adaptive` and `unpooling`
have no twin of their own.
"""

from importlib import import_module

from compare import Image
from compare.twins import functions

CEIL = {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}
CASES = {
    "max_pool1d": {"kernel_size": 3, "stride": 2, "dilation": 2},
    "max_pool2d": CEIL,
    "max_pool3d": {"kernel_size": (2, 3, 2), "padding": (1, 0, 1)},
    "avg_pool1d": {"kernel_size": 5, "stride": 3, "padding": 2},
    "avg_pool2d": {**CEIL, "count_include_pad": False},
    "avg_pool3d": {"kernel_size": 2, "divisor_override": 3},
    "adaptive_avg_pool1d": {"output_size": 7},
    "adaptive_avg_pool2d": {"output_size": (5, 1)},
    "adaptive_avg_pool3d": {"output_size": (1, 3, None)},
    "adaptive_max_pool1d": {"output_size": 7},
    "adaptive_max_pool2d": {"output_size": (4, 3)},
    "adaptive_max_pool3d": {"output_size": 2},
}


@functions("layers/pooling", x=Image(26, 2, 8, 6))
def pooling(module, x):
    """Sequences and volumes are images of another shape."""
    package, *_ = module.__name__.split(".")
    adaptive, unpooling = (
        import_module(f"{package}.layers.{file}") for file in ("adaptive", "unpooling")
    )
    first, values = package == "torchref", {}  # the channels
    for i, (name, more) in enumerate(CASES.items()):
        sizes = {"1": (48,), "2": (8, 6), "3": (2, 4, 6)}[name[-2]]
        images = x[2 * i : 2 * i + 2].reshape(2, *((2, *sizes) if first else (*sizes, 2)))
        y = getattr(adaptive if "adaptive" in name else module, name)(images, **more)
        values[name] = y if len(sizes) > 1 else y[..., None] if first else y[:, :, None]
    found, places = module.max_pool2d(x[-2:], 2, 2, return_indices=True)
    return {**values, "max_unpool2d": unpooling.max_unpool2d(found * found, places, 2, 2)}
