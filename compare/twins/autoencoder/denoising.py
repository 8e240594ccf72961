"""The denoising autoencoder on digits of which a quarter of the pixels is destroyed."""

from collections.abc import Iterator

import numpy as np

from compare import Array, Twin
from compare.data.digits import digits


def destroyed(rng: np.random.Generator, batch: int, size: int) -> Iterator[dict[str, np.ndarray]]:
    """Batches of digits (B, S*S) in [0, 1], each with a mask of its own."""
    for each in digits(rng, batch=batch, size=size, flat=True, scale="unit"):
        yield {"x": each["x"], "mask": (rng.random(each["x"].shape) > 0.25).astype(np.float32)}


DenoisingAutoencoder = Twin(
    config={"in_features": 64, "hidden": 16},
    inputs={"x": Array((8, 64)), "mask": Array((8, 64))},
    targets={"x": Array((8, 64))},
    loss="denoising_loss",
    optimizer=("sgd", {"lr": 0.01, "momentum": 0.9}),
    data=lambda rng: destroyed(rng, 8, 8),
    full={
        "config": {},
        "inputs": {"x": Array((64, 784)), "mask": Array((64, 784))},
        "targets": {"x": Array((64, 784))},
        "data": lambda rng: destroyed(rng, 64, 28),
    },
)
