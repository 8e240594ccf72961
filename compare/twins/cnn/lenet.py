"""LeNet-5 on digits."""

from functools import partial

from compare import Image, Labels, Twin
from compare.data.digits import digits

LeNet = Twin(
    config={"num_classes": 10, "in_channels": 1, "image_size": 28},
    inputs={"x": Image(8, 1, 28, 28)},
    targets={"labels": Labels(8, 10)},
    loss="cross_entropy",
    optimizer=("sgd", {"lr": 0.05, "momentum": 0.9}),
    data=partial(digits, batch=8, size=28),
)
