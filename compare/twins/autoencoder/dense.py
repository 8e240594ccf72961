"""The autoencoder of fully connected layers on digits; its two halves are checked as parts."""

from functools import partial

from compare import Array, Twin
from compare.data.digits import digits

Autoencoder = Twin(
    config={"in_features": 64, "hidden": (16,), "latent": 4},
    inputs={"x": Array((8, 64))},
    targets={"x": Array((8, 64))},
    loss="mse",
    optimizer=("adam", {"lr": 0.01, "eps": 1e-4}),
    data=partial(digits, batch=8, flat=True),
    full={
        "config": {},
        "inputs": {"x": Array((64, 784))},
        "targets": {"x": Array((64, 784))},
        "data": partial(digits, batch=64, size=28, flat=True),
    },
)
