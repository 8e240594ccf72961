"""The normalised multilayer perceptron on digits, with either norm."""

from functools import partial

from compare import Array, Labels, Twin
from compare.data.digits import digits

NormalizedMLP = Twin(
    config={"in_features": 64, "hidden": (12,), "out_features": 10},
    inputs={"x": Array((16, 64))},
    targets={"labels": Labels(16, 10)},
    loss="cross_entropy",
    optimizer=("sgd", {"lr": 0.05, "momentum": 0.9}),
    data=partial(digits, batch=16, flat=True),
    full={
        "config": {"in_features": 784, "hidden": (100, 100, 100), "out_features": 10},
        "inputs": {"x": Array((60, 784))},
        "targets": {"labels": Labels(60, 10)},
        "data": partial(digits, batch=60, size=28, flat=True),
    },
)

NormalizedMLP_layer = Twin(
    of="NormalizedMLP",
    config={"in_features": 64, "hidden": (12,), "out_features": 10, "norm": "layer"},
    inputs={"x": Array((16, 64))},
    targets={"labels": Labels(16, 10)},
    loss="cross_entropy",
    optimizer=("sgd", {"lr": 0.05, "momentum": 0.9}),
    data=partial(digits, batch=16, flat=True),
)
