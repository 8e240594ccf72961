"""The multilayer perceptron with shortcuts on digits; at full size it is deep."""

from functools import partial

from compare import Array, Labels, Twin
from compare.data.digits import digits

ResidualMLP = Twin(
    config={"in_features": 64, "width": 12, "out_features": 10},
    inputs={"x": Array((16, 64))},
    targets={"labels": Labels(16, 10)},
    loss="cross_entropy",
    optimizer=("sgd", {"lr": 0.05, "momentum": 0.9}),
    data=partial(digits, batch=16, flat=True),
    full={
        "config": {"in_features": 784, "width": 128, "out_features": 10, "blocks": 12},
        "inputs": {"x": Array((64, 784))},
        "targets": {"labels": Labels(64, 10)},
        "data": partial(digits, batch=64, size=28, flat=True),
    },
)
