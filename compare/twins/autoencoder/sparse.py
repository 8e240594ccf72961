"""The sparse autoencoder on digits, with each of its penalties."""

from functools import partial

from compare import Array, Twin
from compare.data.digits import digits

SparseAutoencoder = Twin(
    config={"in_features": 64, "hidden": 16},
    inputs={"x": Array((8, 64))},
    targets={"x": Array((8, 64))},
    loss="sparse_kl_loss",
    optimizer=("sgd", {"lr": 0.01, "momentum": 0.9}),
    data=partial(digits, batch=8, flat=True, scale="unit"),
    full={
        "config": {},
        "inputs": {"x": Array((128, 64))},
        "targets": {"x": Array((128, 64))},
        "data": partial(digits, batch=128, flat=True, scale="unit"),
    },
)

SparseAutoencoder_l1 = Twin(
    of="SparseAutoencoder",
    config={"in_features": 64, "hidden": 16},
    inputs={"x": Array((8, 64))},
    targets={"x": Array((8, 64))},
    loss="sparse_l1_loss",
    optimizer=("sgd", {"lr": 0.01, "momentum": 0.9}),
    data=partial(digits, batch=8, flat=True, scale="unit"),
)
