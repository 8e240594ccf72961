"""Its port to Flax, as a porter has it; `exact` is where the slip goes in."""

from __future__ import annotations

import flax.linen as fnn
import jax
import jax.numpy as jnp

DIM, HEADS, DEPTH = 16, 2, 2


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
