"""DCGAN on digits, its two players in turn."""

from functools import partial

from compare import Array, Image, Phase, Twin
from compare.data.digits import digits

# Radford et al.: momentum 0.5 keeps the game from oscillating
ADAM = ("adam", {"lr": 2e-4, "betas": (0.5, 0.999)})

DCGAN = Twin(
    config={"latent_dim": 100, "features": 8, "channels": 1, "image_size": 16},
    inputs={"x": Image(32, 1, 16, 16), "z": Array((32, 100))},
    call="discriminate",
    loss="discriminator_loss",
    data=partial(digits, batch=32, size=16, scale="signed"),
    phases=(
        Phase(
            "discriminator",
            trains=r"^discriminator\.",
            call="discriminate",
            loss="discriminator_loss",
            optimizer=ADAM,
        ),
        Phase(
            "generator",
            trains=r"^generator\.",
            call="fool",
            loss="generator_loss",
            optimizer=ADAM,
        ),
    ),
    full={
        "config": {"latent_dim": 100, "features": 64, "channels": 3, "image_size": 64},
        "inputs": {"x": Image(8, 3, 64, 64), "z": Array((8, 100))},
        "data": partial(digits, batch=8, size=64, channels=3, scale="signed"),
    },
)
