"""Residual networks on crops of photographs.

Every block starts near the identity (`zero_init_residual`, jittered): from the plain initialisation
batch norm over a few images amplifies rounding with depth, until nothing could be told from a
trajectory of the deeper networks. Adam's eps stands above rounding for the same reason.
"""

from functools import partial

from compare import Image, Labels, Twin
from compare.data.photographs import photographs


def _sized(batch: int, size: int, classes: int, width: int) -> dict:
    return {
        "config": {"num_classes": classes, "width": width, "zero_init_residual": True},
        "inputs": {"x": Image(batch, 3, size, size)},
        "targets": {"labels": Labels(batch, classes)},
        "data": partial(photographs, batch=batch, size=size),
        "loss": "cross_entropy",
        "optimizer": ("adam", {"lr": 1e-4, "eps": 1e-4}),
    }


SMALL, PUBLISHED = _sized(8, 64, 10, 8), _sized(2, 224, 1000, 64)

resnet18 = Twin(**PUBLISHED)
resnet34 = Twin(**SMALL, full=PUBLISHED)
resnet50 = Twin(**SMALL, full=PUBLISHED)
resnet101 = Twin(**SMALL, full=PUBLISHED)
resnet152 = Twin(**SMALL, full=PUBLISHED)
