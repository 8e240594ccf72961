"""Every loss of the file in one program: masks and images, channels where each side has them."""

import importlib
from collections.abc import Callable
from functools import partial

from compare import Array, Image, Twin


def every(package: str) -> Callable:
    """The functions of one side, as one."""
    module = importlib.import_module(f"{package}.training.images")

    def call(x, y, logits, labels):
        p, t = 1 / (1 + x * x), 1 / (1 + y * y)
        return {
            "focal": module.focal(logits, 1 / (1 + labels * labels)),
            "dice": module.dice(p, t, reduction="none"),
            "ssim": module.ssim(p, t, reduction="none"),
        }

    return call


images = Twin(
    torch=partial(every, "torchref"),
    jax=partial(every, "jaxnn"),
    inputs={
        "x": Image(3, 2, 13, 12),
        "y": Image(3, 2, 13, 12),
        "logits": Array((5, 4)),
        "labels": Array((5, 4)),
    },
)
