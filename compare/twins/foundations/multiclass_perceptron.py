"""The perceptron of several classes on digits."""

from functools import partial

from compare import Array, Labels, Twin
from compare.data.digits import digits

multiclass_rosenblatt = Twin(
    inputs={
        "weight": Array((4, 6)),
        "bias": Array((4,)),
        "x": Array((12, 6)),
        "labels": Labels(12, 4),
    },
)

MultiClassPerceptron = Twin(
    config={"in_features": 64, "num_classes": 10},
    inputs={"x": Array((16, 64))},
    targets={"labels": Labels(16, 10)},
    loss="multiclass_perceptron_loss",
    optimizer=("sgd", {"lr": 0.05}),
    data=partial(digits, batch=16, flat=True),
    full={
        "config": {"in_features": 784, "num_classes": 10},
        "inputs": {"x": Array((64, 784))},
        "targets": {"labels": Labels(64, 10)},
        "data": partial(digits, batch=64, size=28, flat=True),
    },
)
