"""Rosenblatt's perceptron on two digits, 0 against 1."""

from functools import partial

import numpy as np

from compare import Array, Twin
from compare.data.digits import binary_digits

rosenblatt = Twin(
    inputs={
        "weight": Array((64,)),
        "bias": Array(()),
        "x": Array((16, 64)),
        "labels": np.repeat([-1, 1], [4, 12]),
    },
)

Perceptron = Twin(
    config={"in_features": 64},
    inputs={"x": Array((16, 64))},
    targets={"labels": np.repeat([-1, 1], [4, 12])},
    loss="perceptron_loss",
    optimizer=("sgd", {"lr": 0.01}),
    data=partial(binary_digits, batch=16),
)
