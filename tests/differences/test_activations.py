"""Activations: wrong outputs and gradients of JAX's are recognised."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.differences.places import GRID, IMAGE, KINKS, X, Y, check, label, place

# code, kind, PyTorch's call, JAX's mistake, arguments[, keywords]
PLACES: list[tuple] = [
    ("ACT-01", "gelu", F.gelu, jax.nn.gelu, GRID),
    ("ACT-01", "gelu", F.gelu, lambda x: x * jax.nn.sigmoid(1.702 * x), GRID),
    ("ACT-01", "GELU", nn.GELU(), jax.nn.gelu, GRID),
    ("ACT-03", "LeakyReLU", nn.LeakyReLU(0.2), jax.nn.leaky_relu, GRID),
    ("ACT-03", "leaky_relu", F.leaky_relu, lambda x: jax.nn.leaky_relu(x, 0.3), GRID, 0.1),
    ("ACT-03", "rrelu", F.rrelu, jax.nn.leaky_relu, GRID),
    ("ACT-04", "elu", F.elu, jax.nn.elu, GRID, 0.5),
    ("ACT-04", "CELU", nn.CELU(0.5), lambda x: jax.nn.elu(x, 0.5), GRID),
    ("ACT-04", "selu", F.selu, jax.nn.elu, GRID),
    ("ACT-05", "softplus", F.softplus, jax.nn.softplus, GRID, 2.0),
    ("ACT-05", "Softplus", nn.Softplus(threshold=2.0), jax.nn.softplus, GRID),
    ("ACT-06", "softmax", F.softmax, jax.nn.softmax, X, 0),
    ("ACT-06", "LogSoftmax", nn.LogSoftmax(1), lambda x: jax.nn.log_softmax(x, 0), X),
    ("ACT-07", "log_softmax", F.log_softmax, jax.nn.softmax, X, -1),
    ("ACT-07", "softmax", F.softmax, jax.nn.log_softmax, X, -1),
    ("ACT-07", "LogSoftmax", nn.LogSoftmax(1), lambda x: jnp.log(jax.nn.softmax(x) + 1e-8), X),
    ("ACT-08", "silu", F.silu, jax.nn.gelu, GRID),
    ("ACT-08", "gelu", F.gelu, jax.nn.swish, GRID),
    ("ACT-08", "Tanh", nn.Tanh(), jax.nn.sigmoid, GRID),
    ("ACT-08", "sigmoid", torch.sigmoid, jnp.tanh, GRID),
    ("ACT-09", "hardsigmoid", F.hardsigmoid, lambda x: jnp.clip(0.2 * x + 0.5, 0, 1), GRID),
    ("ACT-09", "hardswish", F.hardswish, jax.nn.silu, GRID),
    ("ACT-09", "ReLU6", nn.ReLU6(), jax.nn.relu, GRID),
    ("ACT-10", "tanh", torch.tanh, lambda x: x, GRID),
    ("ACT-10", "Sigmoid", nn.Sigmoid(), lambda x: jax.nn.sigmoid(jax.nn.sigmoid(x)), GRID),
    ("ACT-11", "glue", torch.add, lambda x, y: jax.nn.relu(x + y), X, Y),
    ("ACT-12", "glu", F.glu, lambda x: jax.nn.sigmoid(x[:, :4]) * x[:, 4:], IMAGE[0, :, :, 0].T),
    ("ACT-12", "GLU", nn.GLU(1), lambda x: jax.nn.glu(x, 3), IMAGE[:, :, :, :].expand(1, 8, 6, 8)),
    (
        "ACT-13",
        "softmax",
        F.softmax,
        lambda x: jax.nn.softmax(x, where=jnp.isfinite(x)),
        torch.tensor([[-torch.inf, -torch.inf], [0.0, 1.0]], dtype=torch.float64),
        -1,
    ),
    (
        "ACT-14",
        "softshrink",
        F.softshrink,
        lambda x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - 1, 0),
        GRID,
    ),
    ("GRAD-11", "median", torch.median, jnp.median, GRID[:8]),
    ("GRAD-12", "sign", torch.sign, jnp.sign, torch.tensor([1.0, torch.nan]).double()),
]


@pytest.mark.parametrize("row", PLACES, ids=label)
def test_a_wrong_output_is_recognised(row: tuple):
    code, kind, call, wrong, *args = row
    check(code, place(kind, call, wrong, *args))


GRADIENTS: list[tuple] = [
    ("ACT-08", "silu", F.silu, jax.nn.gelu, GRID),
    ("ACT-07", "log_softmax", F.log_softmax, jax.nn.softmax, X, -1),
    ("GRAD-01", "abs", torch.abs, jnp.abs, KINKS),
    ("GRAD-01", "l1_loss", F.l1_loss, lambda x, y: jnp.abs(x - y).mean(), KINKS, KINKS.relu()),
    ("GRAD-02", "clamp", torch.clamp, lambda x: jnp.clip(x, 0, 1), KINKS, 0.0, 1.0),
    ("GRAD-03", "LeakyReLU", nn.LeakyReLU(0.2), lambda x: jax.nn.leaky_relu(x, 0.2), KINKS),
    ("GRAD-04", "hardtanh", F.hardtanh, jax.nn.hard_tanh, KINKS),
    ("GRAD-05", "relu", F.relu, lambda x: jnp.maximum(x, 0), KINKS),
    ("GRAD-05", "ReLU", nn.ReLU(), lambda x: jnp.where(x >= 0, x, 0), KINKS),
    ("GRAD-06", "max", torch.max, lambda x: jnp.max(x, 0), torch.ones(3, 2).double(), 0),
    ("GRAD-07", "vector_norm", torch.linalg.vector_norm, jnp.linalg.norm, torch.zeros(3).double()),
    ("GRAD-08", "std", torch.std, lambda x: jnp.std(x, ddof=1), torch.ones(3).double()),
    (
        "GRAD-09",
        "cdist",
        torch.cdist,
        lambda x, y: jnp.sqrt(((x[:, None] - y[None]) ** 2).sum(-1)),
        X,
        X.clone(),
    ),
    (
        "GRAD-13",
        "silu",
        F.silu,
        lambda x: jax.lax.stop_gradient(jax.nn.silu(x)),
        GRID,
    ),
]


@pytest.mark.parametrize("row", GRADIENTS, ids=label)
def test_a_wrong_gradient_is_recognised(row: tuple):
    code, kind, call, wrong, *args = row
    check(code, place(kind, call, wrong, *args, what="gradient"))
