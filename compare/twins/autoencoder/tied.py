"""The autoencoder with tied weights on digits: a matrix is one leaf, used twice on both sides."""

from functools import partial

from compare import Array, Twin
from compare.data.digits import digits

TiedAutoencoder = Twin(
    config={"in_features": 64, "hidden": 16, "latent": 4},
    inputs={"x": Array((8, 64))},
    targets={"x": Array((8, 64))},
    loss="mse",
    optimizer=("sgd", {"lr": 0.1, "momentum": 0.9}),
    data=partial(digits, batch=8, flat=True),
    full={
        "config": {},
        "inputs": {"x": Array((64, 784))},
        "targets": {"x": Array((64, 784))},
        "data": partial(digits, batch=64, size=28, flat=True),
    },
)
