"""The contractive autoencoder on digits, its penalty in closed form; and the Jacobian itself."""

from functools import partial

from compare import Array, Twin
from compare.data.digits import digits

ContractiveAutoencoder = Twin(
    config={"in_features": 64, "hidden": 16},
    inputs={"x": Array((8, 64))},
    targets={"x": Array((8, 64))},
    loss="contractive_loss",
    optimizer=("sgd", {"lr": 0.01, "momentum": 0.9}),
    data=partial(digits, batch=8, flat=True, scale="unit"),
    full={
        "config": {},
        "inputs": {"x": Array((64, 784))},
        "targets": {"x": Array((64, 784))},
        "data": partial(digits, batch=64, size=28, flat=True, scale="unit"),
    },
)

encoder_jacobian = Twin(
    inputs={"x": Array((4, 5)), "weight": Array((3, 5)), "bias": Array((3,))},
)
