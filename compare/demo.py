"""The demonstration: a small transformer encoder in PyTorch, and a port to Flax with one slip."""

from __future__ import annotations

import flax.linen as fnn
import jax
import jax.numpy as jnp
import torch
from torch import nn

from compare.twin import Array, Twin

DIM, HEADS, DEPTH = 16, 2, 2


class TorchBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.query, self.key = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
        self.value, self.out = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
        self.fc1, self.act, self.fc2 = nn.Linear(DIM, 4 * DIM), nn.GELU(), nn.Linear(4 * DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm1(x)
        q, k, v = (
            f(h).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for f in (self.query, self.key, self.value)
        )
        h = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(h.transpose(1, 2).flatten(2))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


class TorchEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(TorchBlock() for _ in range(DEPTH)))
        self.head = nn.Linear(DIM, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(x).mean(1))


class FlaxBlock(fnn.Module):
    exact: bool = True

    @fnn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = fnn.LayerNorm(epsilon=1e-5, name="norm1")(x)
        q, k, v = (
            fnn.Dense(DIM, name=name)(h).reshape(*h.shape[:2], HEADS, -1)
            for name in ("query", "key", "value")
        )
        weights = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(q.shape[-1])
        h = jnp.einsum("bhqk,bkhd->bqhd", fnn.softmax(weights), v).reshape(x.shape)
        x = x + fnn.Dense(DIM, name="out")(h)
        h = fnn.Dense(4 * DIM, name="fc1")(fnn.LayerNorm(epsilon=1e-5, name="norm2")(x))
        h = fnn.gelu(h, approximate=not self.exact)
        return x + fnn.Dense(DIM, name="fc2")(h)


class FlaxEncoder(fnn.Module):
    exact: tuple[bool, ...] = (True,) * DEPTH

    @fnn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, exact in enumerate(self.exact):
            x = FlaxBlock(exact, name=f"blocks_{i}")(x)
        return fnn.Dense(4, name="head")(x.mean(1))


RENAME = {r"blocks\.(\d+)": r"blocks_\1"}
INPUTS = {"x": Array((2, 8, DIM))}

slip = Twin(
    torch=TorchEncoder, jax=FlaxEncoder((True, False)), inputs=INPUTS, rename=RENAME, name="demo"
)
mended = Twin(torch=TorchEncoder, jax=FlaxEncoder(), inputs=INPUTS, rename=RENAME, name="demo")
