"""torch.nn.GRU in both directions, its states averaged over time, beside a loop; Adagrad."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import optax
import torch.nn.functional as F
from torch import nn

from compare import Array, Twin
from tests.faults import OPTIMIZER, table
from tests.faults.parts import graded, trained

N, L, D, H = 4, 5, 3, 4


class TorchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(D, D)
        self.gru = nn.GRU(D, H, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * H, 2)

    def forward(self, x):
        x, _ = self.gru(F.elu(self.embed(x)))
        return self.fc(x.mean(1))


class GRU(fnn.Module):
    """Both directions under torch's names."""

    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        fault, on = self.fault, self.fault.__eq__
        if on("batch taken for the time"):
            x = x.swapaxes(0, 1)
        forward, h = self._direction(x, "", fault)
        if on("second direction reads forward"):
            backward, g = self._direction(x, "_reverse", "")
        else:
            backward, g = self._direction(x[:, ::-1], "_reverse", "")
            backward = backward if on("second direction left reversed") else backward[:, ::-1]
        both = [backward, forward] if on("directions swapped") else [forward, backward]
        y = jnp.concatenate(both, -1)
        return y.swapaxes(0, 1) if on("batch taken for the time") else y, jnp.stack([h, g])

    def _direction(self, x, suffix, fault):
        on = fault.__eq__
        shapes = {"weight_ih": (3 * H, D), "weight_hh": (3 * H, H)}
        shapes |= {"bias_ih": (3 * H,), "bias_hh": (3 * H,)}
        normal = fnn.initializers.normal()
        p = {n: self.param(f"{n}_l0{suffix}", normal, shape) for n, shape in shapes.items()}
        h, seen = jnp.zeros((len(x), H), x.dtype), []
        for t in range(x.shape[1]):
            from_x = x[:, t] @ p["weight_ih"].T + p["bias_ih"]
            from_h = h @ p["weight_hh"].T + p["bias_hh"]
            r_x, z_x, n_x = jnp.split(from_x, 3, -1)
            r_h, z_h, n_h = jnp.split(from_h, 3, -1)
            r, z = jax.nn.sigmoid(r_x + r_h), jax.nn.sigmoid(z_x + z_h)
            if on("reset and update gate swapped"):
                r, z = z, r
            if on("update gate of the other sense"):
                z = 1 - z
            n = self._candidate(p, h, r, n_x, n_h, fault)
            n = jax.nn.relu(n) if on("relu for the candidate") else jnp.tanh(n)
            before = jax.lax.stop_gradient(h) if on("truncated back to one step") else h
            h = (
                before + (1 - z) * (n - before)
                if on("state as a step")
                else (1 - z) * n + z * before
            )
            if on("state reset half way") and t == 2:
                h = 0 * h
            seen.append(h)
        return jnp.stack(seen, 1), h

    def _candidate(self, p, h, r, n_x, n_h, fault):
        """What the tanh is taken of."""
        weight, bias = p["weight_hh"][2 * H :], p["bias_hh"][2 * H :]
        return {
            "reset before the product": lambda: n_x + (r * h) @ weight.T + bias,
            "bias outside the reset gate": lambda: n_x + r * (h @ weight.T) + bias,
            "reset gate left out": lambda: n_x + n_h,
        }.get(fault, lambda: n_x + r * n_h)()


class JaxNet(fnn.Module):
    fault: str = ""

    @fnn.compact
    def __call__(self, x):
        fault, on = self.fault, self.fault.__eq__
        x = fnn.Dense(D, name="embed")(x)
        if on("gradient through the wrong branch"):
            x = graded(x, lambda g: g.at[:, -1].set(0.0))
        x = fnn.elu(x, 0.5 if on("alpha of elu") else 1.0)
        x, _ = GRU(fault, name="gru")(x)
        x = {
            "last step for the mean": lambda: x[:, -1],
            "mean without the last step": lambda: x[:, :-1].mean(1),
            "sum over time": lambda: x.sum(1),
            "maximum over time": lambda: x.max(1),
        }.get(fault, lambda: x.mean(1))()
        return fnn.Dense(2, name="fc")(x)


def losses(fault: str) -> tuple[Any, Any]:
    def likelihood(x, y):
        return optax.sigmoid_binary_cross_entropy(x, y).mean()

    return F.binary_cross_entropy_with_logits, {
        "a penalty on the targets": lambda x, y: likelihood(x, y) + y.mean(),
        "positive examples alone": lambda x, y: -(y * jax.nn.log_sigmoid(x)).mean(),
        "sigmoid twice": lambda x, y: likelihood(jax.nn.sigmoid(x), y),
        "sum of the likelihoods": lambda x, y: optax.sigmoid_binary_cross_entropy(x, y).sum(),
        "logits and labels swapped": lambda x, y: likelihood(y, x),
    }.get(fault, likelihood)


def optimizer(fault: str) -> tuple[Any, Any]:
    """Adagrad; optax starts at 0.1 and has its eps inside the root, so it is written out."""
    start, eps = (0.1 if fault == "accumulator of optax" else 0.0), 1e-3

    def init(params):
        return optax.ScaleByRssState(jax.tree.map(lambda p: jnp.full_like(p, start), params))

    def update(updates, state, params=None):
        del params
        sums = jax.tree.map(lambda s, g: s + g * g, state.sum_of_squares, updates)
        if fault == "eps inside the root":
            steps = jax.tree.map(lambda s, g: g / jnp.sqrt(s + eps), sums, updates)
        elif fault == "accumulator a step behind":
            old = state.sum_of_squares
            steps = jax.tree.map(lambda s, g: g / (jnp.sqrt(s) + eps), old, updates)
        elif fault == "root left out":
            steps = jax.tree.map(lambda s, g: g / (s + eps), sums, updates)
        else:
            steps = jax.tree.map(lambda s, g: g / (jnp.sqrt(s) + eps), sums, updates)
        return steps, optax.ScaleByRssState(sums)

    chain = (optax.GradientTransformation(init, update), optax.scale(-0.01))
    return trained("Adagrad", *chain, lr=0.01, eps=1e-3)


def twin(fault: str = "") -> Twin:
    return Twin(
        torch=TorchNet,
        jax=JaxNet(fault),
        inputs={"x": Array((N, L, D))},
        targets={"y": Array((N, 2))},
        loss=losses(fault),
        optimizer=optimizer(fault),
        name="gru",
    )


FAULTS = table(
    __name__,
    twin,
    {
        "alpha of elu": ("forward", "elu", "ACT-04"),
        "batch taken for the time": ("forward", "gru", "RNN-13"),
        "reset before the product": ("forward", "gru", "RNN-07"),
        "bias outside the reset gate": ("forward", "gru", "RNN-06"),
        "reset gate left out": ("forward", "gru", None),
        "reset and update gate swapped": ("forward", "gru", "RNN-09"),
        "update gate of the other sense": ("forward", "gru", "RNN-09"),
        "relu for the candidate": ("forward", "gru", None),
        "state reset half way": ("forward", "gru", None),
        "second direction reads forward": ("forward", "gru", "RNN-10"),
        "second direction left reversed": ("forward", "gru", "RNN-10"),
        "directions swapped": ("forward", "gru", "RNN-10"),
        "last step for the mean": ("forward", ("gru.1", "fc"), None),
        "mean without the last step": ("forward", ("gru.1", "fc"), None),
        "sum over time": ("forward", ("gru.1", "fc"), None),
        "maximum over time": ("forward", ("gru.1", "fc"), None),
        "truncated back to one step": ("gradients", "gru", "GRAD-13"),
        "gradient through the wrong branch": ("gradients", ("embed", "elu"), None),
        "a penalty on the targets": ("forward", "the loss", None),
        "positive examples alone": ("forward", "the loss", "LOSS-16"),
        "sigmoid twice": ("forward", "the loss", ("LOSS-06", "LOSS-16")),
        "sum of the likelihoods": ("forward", "the loss", "LOSS-14"),
        "logits and labels swapped": ("forward", "the loss", "LOSS-24"),
        "accumulator of optax": ("step", OPTIMIZER, "OPT-10"),
        "eps inside the root": ("step", OPTIMIZER, "OPT-10"),
        "accumulator a step behind": ("step", OPTIMIZER, None),
        "root left out": ("step", OPTIMIZER, None),
    },
)
EQUIVALENT = {"state as a step": "h + (1 - z) (n - h) = (1 - z) n + z h"}
