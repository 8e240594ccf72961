"""Networks in mixed precision, judged in bfloat16 beside float64; a loss that is scaled."""

from dataclasses import replace

import numpy as np

from compare import Array, Image, Labels, Twin
from compare.twins import functions
from compare.twins.training import constant

ConvNet = Twin(
    inputs={"x": Image(4, 3, 12, 12)},
    targets={"labels": Labels(4, 10)},
    loss="cross_entropy",
    optimizer=("sgd", {"lr": 0.1, "momentum": 0.9}),
    autocast="bfloat16",
)

Block = Twin(
    inputs={"x": Array((2, 6, 32))},
    loss="mse",
    optimizer=("adamw", {"lr": 1e-3}),
    autocast="bfloat16",
)


def _scaled(module, weight, inputs, targets, finite):
    weight, inputs, targets = constant(module, weight, inputs, targets)
    overflowing = inputs / finite[:, None, None]
    weights, scales = module.scaled_training(weight, overflowing, targets)
    return {"weights": weights, "scales": scales}


scaled_training = replace(
    functions(
        "training/mixed_precision",
        weight=Array((4,)),
        inputs=Array((6, 5, 4)),
        targets=Array((6, 5)),
        finite=np.array([1, 1, 1, 0, 1, 1]),
    )(_scaled),
    autocast="bfloat16",
)
