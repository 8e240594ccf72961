"""A normalising flow: an affine layer, two couplings, a square map between them; Adam."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Twin
from tests.faults import OPTIMIZER, table
from tests.faults.parts import trained

HELD_OUT = True
N, D, H = 4, 6, 8


class TorchAffine(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.rand(D) + 0.5), nn.Parameter(torch.randn(D))

    def forward(self, x):
        return x * self.scale + self.bias, self.scale.abs().log().sum()


class TorchCoupling(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(D // 2, H), nn.Linear(H, D)

    def forward(self, x):
        a, b = x.chunk(2, -1)
        scale, shift = self.fc2(F.relu(self.fc1(a))).chunk(2, -1)
        scale = torch.tanh(scale)
        return torch.cat([a, b * scale.exp() + shift], -1), scale.sum(-1)


class TorchMix(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(D) + 0.3 * torch.randn(D, D))

    def forward(self, x):
        return F.linear(x, self.weight), torch.linalg.slogdet(self.weight)[1]


class TorchFlow(nn.Module):
    def __init__(self):
        super().__init__()
        self.affine, self.first = TorchAffine(), TorchCoupling()
        self.mix, self.second = TorchMix(), TorchCoupling()

    def forward(self, x):
        x, one = self.affine(x)
        x, two = self.first(x)
        x, three = self.mix(x)
        z, four = self.second(x.flip(-1))
        return z, one + two + three + four


class JaxAffine(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        scale = self.param("scale", fnn.initializers.ones, (D,))
        bias = self.param("bias", fnn.initializers.zeros, (D,))
        y = {
            "affine scale taken for its logarithm": lambda: x * jnp.exp(scale) + bias,
            "affine bias before its scale": lambda: (x + bias) * scale,
            "affine layer the other way": lambda: (x - bias) / scale,
        }.get(self.fault, lambda: x * scale + bias)()
        return y, jnp.log(jnp.abs(scale)).sum()


class JaxCoupling(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        fault, on = self.fault, self.fault.__eq__
        a, b = jnp.split(x, 2, -1)
        if on("halves by even and odd"):
            a, b = x[..., ::2], x[..., 1::2]
        h = fnn.Dense(H, name="fc1")(b if on("conditioned on the other half") else a)
        h = fnn.Dense(D, name="fc2")(fnn.elu(h) if on("elu for relu") else fnn.relu(h))
        if on("conditioner detached"):
            h = jax.lax.stop_gradient(h)
        scale, shift = jnp.split(h, 2, -1)
        if on("scale and shift swapped"):
            scale, shift = shift, scale
        if on("scale and shift interleaved"):
            scale, shift = h[..., ::2], h[..., 1::2]
        scale = scale if on("tanh of the scale left out") else jnp.tanh(scale)
        b = {
            "shift before the scale": lambda: (b + shift) * jnp.exp(scale),
            "scale not raised": lambda: b * scale + shift,
            "coupling the other way": lambda: (b - shift) * jnp.exp(-scale),
        }.get(fault, lambda: b * jnp.exp(scale) + shift)()
        y = [b, a] if on("halves put back the wrong way") else [a, b]
        axis = 0 if on("determinant over the batch") else -1
        logdet = scale.sum(axis)
        if axis == 0:
            logdet = jnp.full(len(x), logdet.mean())
        return jnp.concatenate(y, -1), logdet


class JaxMix(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        on = self.fault.__eq__
        weight = self.param("weight", fnn.initializers.orthogonal(), (D, D))
        logdet = jnp.linalg.slogdet(weight)[1]
        if on("determinant without its logarithm"):
            logdet = jnp.abs(jnp.linalg.det(weight))
        return x @ (weight if on("square map not transposed") else weight.T), logdet


def flipped(x: jax.Array) -> jax.Array:
    return x[..., ::-1]


class JaxFlow(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        fault = self.fault
        x, one = JaxAffine(fault, name="affine")(x)
        x, two = JaxCoupling(fault, name="first")(x)
        if fault == "first determinant detached":
            two = jax.lax.stop_gradient(two)
        x, three = JaxMix(fault, name="mix")(x)
        unturned = jax.custom_vjp(flipped)
        unturned.defvjp(lambda x: (flipped(x), None), lambda _, g: (g,))
        x = {
            "flip left out": lambda: x,
            "flip along the batch": lambda: x[::-1],
            "halves rolled for the flip": lambda: jnp.roll(x, D // 2, -1),
            "gradient not flipped": lambda: unturned(x),
        }.get(fault, lambda: flipped(x))()
        z, four = JaxCoupling(name="second")(x)
        logdet = {
            "determinant of the map forgotten": lambda: one + two + four,
            "last determinant subtracted": lambda: one + two + three - four,
        }.get(fault, lambda: one + two + three + four)()
        return z, logdet


def losses(fault: str) -> tuple[Any, Any]:
    constant = 0.5 * D * math.log(2 * math.pi)

    def ours(outputs):
        z, logdet = outputs
        return (0.5 * (z**2).sum(-1) + constant - logdet).mean()

    def loss(outputs):
        z, logdet = outputs
        square = 0.5 * (z**2).sum(-1)
        return {
            "constant forgotten": lambda: (square - logdet).mean(),
            "half of the square forgotten": lambda: (2 * square + constant - logdet).mean(),
            "determinant added": lambda: (square + constant + logdet).mean(),
            "square averaged over the features": lambda: (square / D + constant - logdet).mean(),
            "bits by the dimension": lambda: (
                (square + constant - logdet).mean() / (D * math.log(2.0))
            ),
        }.get(fault, lambda: (square + constant - logdet).mean())()

    return ours, loss


def _absolute() -> Any:
    """Adam whose second moment is the mean of |g|, taken for the root."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(jnp.zeros([], jnp.int32), zeros, zeros)

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * jnp.abs(g), state.nu, updates)
        steps = jax.tree.map(
            lambda m, v: (m / (1 - 0.9**count)) / (v / (1 - 0.99**count) + 1e-3), mu, nu
        )
        return steps, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def optimizer(fault: str) -> tuple[Any, Any]:
    adam, rate = optax.scale_by_adam(0.9, 0.99, 1e-3), optax.scale(-0.01)
    chain = {
        "gradients clipped one by one": (optax.clip(0.01), adam, rate),
        "absolute for the square": (_absolute(), rate),
        "decay of AdamW unasked": (adam, optax.add_decayed_weights(0.05), rate),
        "warm-up unasked": (
            adam,
            optax.scale_by_schedule(lambda count: -0.01 * jnp.minimum(1.0, (count + 1) / 5)),
        ),
    }.get(fault, (adam, rate))
    return trained("Adam", *chain, lr=0.01, betas=(0.9, 0.99), eps=1e-3)


def twin(fault: str = "") -> Twin:
    return Twin(
        torch=TorchFlow,
        jax=JaxFlow(fault),
        inputs={"x": Array((N, D))},
        loss=losses(fault),
        optimizer=optimizer(fault),
        name="flow",
    )


FLIP, END = ("mix", "second.fc1"), ("second", "the output")
FAULTS = table(
    __name__,
    twin,
    {
        "affine scale taken for its logarithm": ("forward", "affine", None),
        "affine bias before its scale": ("forward", "affine", None),
        "affine layer the other way": ("forward", "affine", None),
        "halves by even and odd": ("forward", ("affine", "first.fc1"), None),
        "conditioned on the other half": ("forward", ("affine", "first.fc1"), None),
        "elu for relu": ("forward", ("first.fc1", "first.fc2"), "ACT-08"),
        "scale and shift swapped": ("forward", "first", None),
        "scale and shift interleaved": ("forward", "first", None),
        "tanh of the scale left out": ("forward", "first", "ACT-10"),
        "shift before the scale": ("forward", "first", None),
        "scale not raised": ("forward", "first", None),
        "coupling the other way": ("forward", "first", None),
        "halves put back the wrong way": ("forward", "first", None),
        "determinant over the batch": ("forward", "first", None),
        "conditioner detached": ("gradients", "first", "GRAD-13"),
        "square map not transposed": ("forward", "mix", "LIN-01"),
        "determinant without its logarithm": ("forward", "mix", None),
        "flip left out": ("forward", FLIP, None),
        "flip along the batch": ("forward", FLIP, None),
        "halves rolled for the flip": ("forward", FLIP, None),
        "gradient not flipped": ("gradients", FLIP, None),
        "determinant of the map forgotten": ("forward", END, None),
        "last determinant subtracted": ("forward", END, None),
        "first determinant detached": ("gradients", ("first", "the output"), "GRAD-13"),
        "constant forgotten": ("forward", "the loss", "LOSS-17"),
        "half of the square forgotten": ("forward", "the loss", None),
        "determinant added": ("forward", "the loss", None),
        "square averaged over the features": ("forward", "the loss", None),
        "bits by the dimension": ("forward", "the loss", None),
        "gradients clipped one by one": ("step", OPTIMIZER, "OPT-27"),
        "absolute for the square": ("step", OPTIMIZER, None),
        "decay of AdamW unasked": ("step", OPTIMIZER, ("OPT-03", "OPT-04")),
        "warm-up unasked": ("step", OPTIMIZER, None),
    },
)
