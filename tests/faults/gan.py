"""Generator and discriminator of vectors, trained in turns."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Phase, Twin
from tests.faults import OPTIMIZER, table
from tests.faults.parts import BatchNorm, graded, same, trained

N, D, H, Z = 4, 6, 8, 3


class TorchGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.bn, self.fc2 = nn.Linear(Z, H), nn.BatchNorm1d(H), nn.Linear(H, D)

    def forward(self, z):
        return torch.tanh(self.fc2(F.relu(self.bn(self.fc1(z)))))


class TorchDiscriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(D, H), nn.Linear(H, 1)

    def forward(self, x):
        return self.fc2(F.leaky_relu(self.fc1(x), 0.2)).squeeze(1)


class TorchGAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator, self.discriminator = TorchGenerator(), TorchDiscriminator()

    def discriminate(self, x, z):
        return self.discriminator(x), self.discriminator(self.generator(z).detach())

    def fool(self, x, z):
        return self.discriminator(self.generator(z))


class JaxGenerator(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, z, *, train: bool = False):
        fault, on = self.fault, self.fault.__eq__
        if on("noise of another scale"):
            z = 2 * z - 1
        x = fnn.Dense(H, name="fc1")(z)
        x = fnn.relu(BatchNorm(fault, name="bn")(x, train=train))
        x = fnn.Dense(D, name="fc2")(x)
        return {"tanh left out": same, "sigmoid for tanh": fnn.sigmoid}.get(fault, jnp.tanh)(x)


class JaxDiscriminator(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        on = self.fault.__eq__
        if on("gradient of the discriminator's input turned"):
            x = graded(x, jnp.negative)
        x = fnn.Dense(H, name="fc1")(x)
        x = fnn.leaky_relu(x, 0.3 if on("slope of Keras") else 0.2)
        x = fnn.Dense(1, name="fc2")(x)[:, 0]
        return fnn.sigmoid(x) if on("sigmoid at the end") else x


class JaxGAN(fnn.Module):
    fault: str = ""

    def setup(self):
        self.generator = JaxGenerator(self.fault)
        self.discriminator = JaxDiscriminator(self.fault)

    def __call__(self, x, z, *, train: bool = False):
        return self.fool(x, z, train=train)

    def discriminate(self, x, z, *, train: bool = False):
        fault, on = self.fault, self.fault.__eq__
        batch = train and not on("fakes from the running statistics")
        fake = jax.lax.stop_gradient(self.generator(z, train=batch))
        real = self.discriminator(jax.lax.stop_gradient(x) if on("real input detached") else x)
        logits = self.discriminator(fake)
        return {
            "real and fake swapped": lambda: (logits, real),
            "fake logits detached": lambda: (real, jax.lax.stop_gradient(logits)),
            "real logits twice": lambda: (real, real),
        }.get(fault, lambda: (real, logits))()

    def fool(self, x, z, *, train: bool = False):
        on = self.fault.__eq__
        fake = self.generator(z, train=train)
        if on("generator detached"):
            fake = jax.lax.stop_gradient(fake)
        if on("real mixed into the fakes"):
            fake = 0.9 * fake + 0.1 * x
        return self.discriminator(fake)


def entropy(logits: Any, label: float) -> Any:
    return optax.sigmoid_binary_cross_entropy(logits, jnp.full_like(logits, label)).mean()


def discriminator_loss(fault: str) -> tuple[Any, Any]:
    def ours(outputs):
        real, fake = outputs
        loss = F.binary_cross_entropy_with_logits
        return loss(real, torch.ones_like(real)) + loss(fake, torch.zeros_like(fake))

    return ours, {
        "labels swapped": lambda o: entropy(o[0], 0.0) + entropy(o[1], 1.0),
        "labels of one side smoothed": lambda o: entropy(o[0], 0.9) + entropy(o[1], 0.0),
        "losses averaged": lambda o: (entropy(o[0], 1.0) + entropy(o[1], 0.0)) / 2,
        "fakes left out of the loss": lambda o: entropy(o[0], 1.0),
        "Wasserstein's loss": lambda o: o[1].mean() - o[0].mean(),
    }.get(fault, lambda o: entropy(o[0], 1.0) + entropy(o[1], 0.0))


def generator_loss(fault: str) -> tuple[Any, Any]:
    def ours(outputs):
        return F.binary_cross_entropy_with_logits(outputs, torch.ones_like(outputs))

    return ours, {
        "saturating loss": lambda o: -entropy(o, 0.0),
        "generator's labels zero": lambda o: entropy(o, 0.0),
        "generator's loss summed": lambda o: len(o) * entropy(o, 1.0),
    }.get(fault, lambda o: entropy(o, 1.0))


def adam(fault: str, player: str) -> tuple[Any, Any]:
    """Adam with the betas of DCGAN; each player has its own."""
    on = fault.__eq__
    first = 0.9 if on(f"{player}'s beta of the default") else 0.5
    rate = -0.02 if on(f"{player}'s rate doubled") else -0.01
    chain = (optax.scale_by_adam(first, 0.99, 1e-3), optax.scale(rate))
    if on(f"{player}'s bias frozen"):
        chain += (optax.masked(optax.set_to_zero(), _biases),)
    return trained("Adam", *chain, lr=0.01, betas=(0.5, 0.99), eps=1e-3)


def _biases(params: Any) -> Any:
    return jax.tree.map(lambda x: x.ndim == 1, params)


def twin(fault: str = "") -> Twin:
    turn = {"call": "discriminate", "loss": discriminator_loss(fault)}
    other = {"call": "fool", "loss": generator_loss(fault)}
    return Twin(
        torch=TorchGAN,
        jax=JaxGAN(fault),
        inputs={"x": Array((N, D)), "z": Array((N, Z))},
        call="discriminate",
        phases=(
            Phase("d", trains=r"^discriminator\.", optimizer=adam(fault, "discriminator"), **turn),
            Phase("g", trains=r"^generator\.", optimizer=adam(fault, "generator"), **other),
        ),
        name="gan",
    )


FAULTS = table(
    __name__,
    twin,
    {
        "noise of another scale": ("forward", ("the input", "generator.fc1"), None),
        "momentum of TensorFlow": ("forward", "generator.bn.running_mean", "BN-01"),
        "biased running variance": ("forward", "generator.bn.running_var", "BN-02"),
        "unbiased variance to normalise": ("forward", "generator.bn", "LN-04"),
        "fakes from the running statistics": ("forward", "generator.bn", "BN-06"),
        "tanh left out": ("forward", "generator", "ACT-10"),
        "sigmoid for tanh": ("forward", "generator", "ACT-08"),
        "slope of Keras": ("forward", "discriminator.leaky_relu", "ACT-03"),
        "sigmoid at the end": ("forward", "discriminator", "ACT-11"),
        "real and fake swapped": ("forward", ("discriminator", "the output"), None),
        "real logits twice": ("forward", ("discriminator#1", "the output"), None),
        "real mixed into the fakes": ("forward", ("generator", "discriminator"), None),
        "labels swapped": ("forward", "the loss", None),
        "labels of one side smoothed": ("forward", "the loss", None),
        "losses averaged": ("forward", "the loss", None),
        "fakes left out of the loss": ("forward", "the loss", None),
        "Wasserstein's loss": ("forward", "the loss", None),
        "saturating loss": ("forward", "the loss", None),
        "generator's labels zero": ("forward", "the loss", "LOSS-16"),
        "generator's loss summed": ("forward", "the loss", "LOSS-14"),
        "gradient of the discriminator's input turned": (
            "gradients",
            "discriminator",
            None,
        ),
        "real input detached": ("gradients", ("the input", "discriminator"), "GRAD-13"),
        "fake logits detached": ("gradients", ("discriminator#1", "the loss"), "GRAD-13"),
        "generator detached": ("gradients", ("generator", "discriminator"), "GRAD-13"),
        "discriminator's beta of the default": ("step", OPTIMIZER, "OPT-17"),
        "generator's rate doubled": ("step", OPTIMIZER, "OPT-30"),
        "generator's bias frozen": ("step", OPTIMIZER, "OPT-24"),
    },
)
