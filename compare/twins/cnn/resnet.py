"""Residual networks on crops of photographs.

Adam with an eps above rounding and a small rate: batch norm over two images amplifies a larger step
until the trajectory is chaotic, and then nothing could be told from it.
"""

from functools import partial

from compare import Image, Labels, Twin
from compare.data.photographs import photographs


def _sized(batch: int, size: int, classes: int, width: int, rate: float = 1e-4) -> dict:
    return {
        "config": {"num_classes": classes, "width": width},
        "inputs": {"x": Image(batch, 3, size, size)},
        "targets": {"labels": Labels(batch, classes)},
        "data": partial(photographs, batch=batch, size=size),
        "loss": "cross_entropy",
        "optimizer": ("adam", {"lr": rate, "eps": 1e-4}),
    }


PUBLISHED = _sized(2, 224, 1000, 64, rate=3e-5)

resnet18 = Twin(**PUBLISHED)
resnet34 = Twin(**_sized(8, 64, 10, 8), full=PUBLISHED)
resnet50 = Twin(**_sized(16, 64, 10, 8), full=PUBLISHED)
resnet101 = Twin(**_sized(16, 64, 10, 8), full=PUBLISHED)
resnet152 = Twin(**_sized(32, 64, 10, 8), full=PUBLISHED)
