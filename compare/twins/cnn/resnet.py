"""Residual networks.

Generic images: batch norm over a few nearly equal ones, as enlarged digits are, amplifies rounding
until a trajectory is chaotic. The deeper networks need Adam for the same reason: their first
layers' gradients dwarf the last ones', and an eps below the gradients keeps the update smooth.
"""

from compare import Image, Labels, Twin

SGD = ("sgd", {"lr": 0.01, "momentum": 0.9})
ADAM = ("adam", {"lr": 1e-4, "eps": 1e-4})
SMALL = {"num_classes": 10, "width": 8}
PUBLISHED = {
    "config": {"num_classes": 1000, "width": 64},
    "inputs": {"x": Image(2, 3, 224, 224)},
    "targets": {"labels": Labels(2, 1000)},
}

resnet18 = Twin(**PUBLISHED, loss="cross_entropy", optimizer=SGD)

resnet34 = Twin(
    config=SMALL,
    inputs={"x": Image(8, 3, 64, 64)},
    targets={"labels": Labels(8, 10)},
    loss="cross_entropy",
    optimizer=SGD,
    full=PUBLISHED | {"optimizer": ("sgd", {"lr": 3e-3, "momentum": 0.9})},
)

resnet50 = Twin(
    config=SMALL,
    inputs={"x": Image(16, 3, 64, 64)},
    targets={"labels": Labels(16, 10)},
    loss="cross_entropy",
    optimizer=ADAM,
    full=PUBLISHED,
)

resnet101 = Twin(
    config=SMALL,
    inputs={"x": Image(16, 3, 64, 64)},
    targets={"labels": Labels(16, 10)},
    loss="cross_entropy",
    optimizer=ADAM,
    full=PUBLISHED | {"optimizer": ("adam", {"lr": 3e-5, "eps": 1e-4})},
)

resnet152 = Twin(
    config=SMALL,
    inputs={"x": Image(32, 3, 64, 64)},
    targets={"labels": Labels(32, 10)},
    loss="cross_entropy",
    optimizer=ADAM,
    full=PUBLISHED | {"optimizer": ("adam", {"lr": 3e-5, "eps": 1e-4})},
)
