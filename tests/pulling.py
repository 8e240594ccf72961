"""A port as a plain function whose forward pass is right; a fault changes its gradients alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import torch
import torch.nn.functional as F
from torch import nn

from compare import Tokens, Twin
from tests.free import dense, tree


class Mean(torch.autograd.Function):
    """The identity, whose gradient is divided by the number of rows."""

    @staticmethod
    def forward(ctx, x):
        ctx.rows = len(x)
        return x.clone()

    @staticmethod
    def backward(ctx, *gradients):
        return gradients[0] / ctx.rows


class Net(nn.Module):
    """Tied embeddings around a block that rounds, gates and limits."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.up, self.gate, self.down = nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, 8)

    def forward(self, tokens):
        x = self.embed(tokens)
        h = self.up(x)
        size = h.norm(dim=-1, keepdim=True)
        h = 4 * h / size
        rounded = h + (h.round() - h).detach()
        active = F.relu(rounded)
        still = h.detach()
        gate = torch.sigmoid(self.gate(still))
        y = torch.clamp(active * gate, max=1.2)
        y = Mean.apply(y)
        z = x + self.down(y)
        return z @ self.embed.weight.T


@jax.custom_vjp
def looked_up(table, tokens):
    return table[tokens]


looked_up.defvjp(
    lambda table, tokens: (table[tokens], (table, tokens)),
    lambda kept, g: (jnp.zeros_like(kept[0]).at[kept[1]].set(g), None),
)


@jax.custom_vjp
def mean(x, factor):
    return x


mean.defvjp(lambda x, factor: (x, factor), lambda factor, g: (g * factor, None))


@jax.custom_vjp
def sigmoid(x):
    return jax.nn.sigmoid(x)


sigmoid.defvjp(
    lambda x: (jax.nn.sigmoid(x), x),
    lambda x, g: (2 * g * jax.nn.sigmoid(x) * (1 - jax.nn.sigmoid(x)),),
)


@jax.custom_jvp
def halved(x):
    return x


halved.defjvp(lambda x, dx: (x[0], 0.5 * dx[0]))


def net(p: Any, tokens: Any, fault: str) -> Any:
    on, stop = fault.__eq__, jax.lax.stop_gradient
    table = p["embed"]["kernel"].T
    x = looked_up(table, tokens) if on("duplicates lost") else table[tokens]
    if on("embedding cut"):
        x = stop(table)[tokens]
    h = dense(p["up"], x)
    size = jnp.linalg.norm(h, axis=-1, keepdims=True)
    if on("norm cut"):
        size = stop(size)
    h = 4 * h / size
    if on("halved"):
        h = halved(h)
    rounded = h + stop(jnp.round(h) - h)
    if on("not straight through"):
        rounded = jnp.round(h)
    active = jnp.maximum(rounded, 0.0) if on("ties") else jax.nn.relu(rounded)
    still = h if on("gate not cut") else stop(h)
    still = dense(p["gate"], still)
    gate = sigmoid(still) if on("factor") else jax.nn.sigmoid(still)
    if on("gate cut"):
        gate = stop(gate)
    y = active * gate
    y = y + stop(jnp.minimum(y, 1.2) - y) if on("clamp") else jnp.minimum(y, 1.2)
    y = mean(y, 1.0 if on("sum") else 1 / len(tokens))
    z = (stop(x) if on("residual cut") else x) + dense(p["down"], y)
    table = stop(table) if on("head cut") else halved(table) if on("head halved") else table
    return z @ table.T


def port(fault: str = "") -> Twin:
    """A module, and its port as a plain function of the same weights."""
    torch.manual_seed(0)
    model = Net()
    apply = lambda p, tokens: net(p, tokens, fault)  # noqa: E731
    return Twin(
        torch=model,
        jax=(apply, tree(model)),
        inputs={"tokens": Tokens(3, 5, 7)},
        name=f"pulled {fault}",
    )
