"""Single units on two digits, 0 against 1."""

from functools import partial

import numpy as np

from compare import Array, Twin
from compare.data.digits import binary_digits

LABELS = np.repeat([-1, 1], [4, 12])
UNIT = {
    "config": {"in_features": 64},
    "inputs": {"x": Array((16, 64))},
    "targets": {"labels": LABELS},
    "data": partial(binary_digits, batch=16),
}

delta_rule = Twin(
    inputs={"weight": Array((8,)), "bias": Array(()), "x": Array((16, 8)), "labels": LABELS},
)

Adaline = Twin(loss="adaline_loss", optimizer=("sgd", {"lr": 0.005}), **UNIT)

LogisticUnit = Twin(call="score", loss="logistic_loss", optimizer=("sgd", {"lr": 0.05}), **UNIT)
