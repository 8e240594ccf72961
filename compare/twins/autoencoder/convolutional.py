"""The convolutional autoencoder on digits."""

from functools import partial

from compare import Image, Twin
from compare.data.digits import digits

ConvAutoencoder = Twin(
    config={"channels": 1, "width": 4, "latent": 2},
    inputs={"x": Image(8, 1, 8, 8)},
    targets={"x": Image(8, 1, 8, 8)},
    loss="mse",
    optimizer=("adam", {"lr": 0.01, "eps": 1e-4}),
    data=partial(digits, batch=8),
    full={
        "config": {},
        "inputs": {"x": Image(32, 1, 28, 28)},
        "targets": {"x": Image(32, 1, 28, 28)},
        "data": partial(digits, batch=32, size=28),
    },
)
