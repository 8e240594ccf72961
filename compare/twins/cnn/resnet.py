"""Residual networks on crops of photographs.

The deeper networks need Adam: their first layers' gradients dwarf the last ones', and an eps below
the gradients keeps the update smooth, where a larger step would make the trajectory chaotic.
"""

from functools import partial

from compare import Image, Labels, Twin
from compare.data.photographs import photographs

SGD = ("sgd", {"lr": 0.01, "momentum": 0.9})
ADAM = ("adam", {"lr": 1e-4, "eps": 1e-4})


def _sized(batch: int, size: int, classes: int, width: int) -> dict:
    return {
        "config": {"num_classes": classes, "width": width},
        "inputs": {"x": Image(batch, 3, size, size)},
        "targets": {"labels": Labels(batch, classes)},
        "data": partial(photographs, batch=batch, size=size),
        "loss": "cross_entropy",
    }


PUBLISHED = _sized(2, 224, 1000, 64)

resnet18 = Twin(**PUBLISHED, optimizer=SGD)

resnet34 = Twin(
    **_sized(8, 64, 10, 8),
    optimizer=SGD,
    full=PUBLISHED | {"optimizer": ("sgd", {"lr": 3e-3, "momentum": 0.9})},
)

resnet50 = Twin(**_sized(16, 64, 10, 8), optimizer=ADAM, full=PUBLISHED)

resnet101 = Twin(
    **_sized(16, 64, 10, 8),
    optimizer=ADAM,
    full=PUBLISHED | {"optimizer": ("adam", {"lr": 3e-5, "eps": 1e-4})},
)

resnet152 = Twin(
    **_sized(32, 64, 10, 8),
    optimizer=ADAM,
    full=PUBLISHED | {"optimizer": ("adam", {"lr": 3e-5, "eps": 1e-4})},
)
