"""Variational autoencoders on digits: the pixels are both input and target."""

from functools import partial

from compare import Array, Image, Twin
from compare.data.digits import digits

VAE = Twin(
    config={"in_features": 64, "hidden": 32, "latent": 4},
    inputs={"x": Array((8, 64)), "eps": Array((8, 4))},
    targets={"x": Array((8, 64))},
    loss="elbo_loss",
    optimizer=("adam", {"lr": 0.002}),
    data=partial(digits, batch=8, flat=True, scale="unit"),
    full={
        "config": {"in_features": 784, "hidden": 400, "latent": 20},
        "inputs": {"x": Array((128, 784)), "eps": Array((128, 20))},
        "targets": {"x": Array((128, 784))},
        "data": partial(digits, batch=128, size=28, flat=True, scale="unit"),
    },
)

VAE_beta = Twin(
    of="VAE",
    config={"in_features": 64, "hidden": 16, "latent": 4},
    inputs={"x": Array((8, 64)), "eps": Array((8, 4))},
    targets={"x": Array((8, 64))},
    loss="beta_vae_loss",
    optimizer=("sgd", {"lr": 0.003, "momentum": 0.9}),
    data=partial(digits, batch=8, flat=True, scale="unit"),
)

ConvVAE = Twin(
    config={"image_size": 8, "channels": 1, "width": 4, "latent": 3},
    inputs={"x": Image(8, 1, 8, 8), "eps": Array((8, 3))},
    targets={"x": Image(8, 1, 8, 8)},
    loss="elbo_loss",
    optimizer=("sgd", {"lr": 0.003, "momentum": 0.9}),
    data=partial(digits, batch=8, scale="unit"),
    full={
        "config": {"image_size": 28, "channels": 1, "width": 32, "latent": 20},
        "inputs": {"x": Image(32, 1, 28, 28), "eps": Array((32, 20))},
        "targets": {"x": Image(32, 1, 28, 28)},
        "data": partial(digits, batch=32, size=28, scale="unit"),
    },
)
