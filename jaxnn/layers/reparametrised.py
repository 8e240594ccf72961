"""Weights that are computed from other parameters: weight norm and spectral norm.

Both wrap a layer and give it a kernel made of the stored one: `WeightNorm(nn.Dense(4), name="fc")`.
The layer's own parameters stand under `layer`, those of the wrapper beside it. torch: the same name
is a function that changes the layer it is given, and hands it back.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["WeightNorm", "SpectralNorm"]


class WeightNorm(nn.Module):
    """Learns a kernel's length and its direction apart: w = g v / ||v||.

    Each output feature has a length of its own: the norm runs over every axis of the kernel v but
    the last. g starts as ||v||, so that the layer starts as it would alone.

    Flax's own `nn.WeightNorm` starts every length at 1, and adds 1e-12 to the squared norm.

    Variables: params `g` (out,), and `layer`, the wrapped layer's own, whose `kernel` is v.

    Args:
      module: a layer with a `kernel` (..., in, out), of one input.

    Raises:
      ValueError: if the layer has no kernel.

    Reference:
      Salimans and Kingma, Weight Normalization, 2016, https://arxiv.org/abs/1602.07868
    """

    module: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """What the layer makes of x with the kernel g v / ||v||."""
        layer, params = _inner(self, x)
        v = params["kernel"]
        length = jnp.sqrt(jnp.sum(jnp.square(v), tuple(range(v.ndim - 1))))
        g = self.param("g", lambda _: length)
        return layer.apply({"params": {**params, "kernel": v * (g / length)}}, x)


class SpectralNorm(nn.Module):
    """Divides a kernel by its largest singular value: w = W / (u' W v).

    W (out, in * positions) is the kernel as a matrix, in torch's order; u and v are its first
    singular vectors as far as power iteration knows them:

      u <- W v / max(||W v||, eps),  v <- W' u / max(||W' u||, eps)

    in training, `n_power_iterations` times a call; never in evaluation. They start random, with 15
    iterations. No gradient flows through u and v; it does through W in u' W v.

    Flax's own `nn.SpectralNorm` keeps u alone, makes the half steps in the other order, iterates in
    evaluation too, and not at the start.

    Variables: params `layer`, the wrapped layer's own; batch_stats `u` (out,) and
    `v` (in * positions,).

    Args:
      module: a layer with a `kernel` (..., in, out), of one input.
      n_power_iterations: for each call in training.
      eps: the smallest length that is divided by.

    Raises:
      ValueError: if the layer has no kernel, or n_power_iterations is not positive.

    Reference:
      Miyato et al., Spectral Normalization for GANs, 2018, https://arxiv.org/abs/1802.05957
    """

    module: nn.Module
    n_power_iterations: int = 1
    eps: float = 1e-12

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """What the layer makes of x with the kernel divided by u' W v."""
        if self.n_power_iterations < 1:
            raise ValueError(f"n_power_iterations={self.n_power_iterations} is not positive")
        layer, params = _inner(self, x)
        kernel = params["kernel"]
        matrix = jnp.moveaxis(kernel, (-1, -2), (0, 1)).reshape(kernel.shape[-1], -1)

        start: tuple = ()  # where variables are given, nothing starts
        if self.is_initializing():
            keys = jax.random.split(self.make_rng("params"))
            u, v = map(jax.random.normal, keys, [(n,) for n in matrix.shape])
            start = self._iterated(matrix, u, _unit(v, self.eps), 15)
        u = self.variable("batch_stats", "u", lambda: start[0])
        v = self.variable("batch_stats", "v", lambda: start[1])
        if train and not self.is_initializing():
            u.value, v.value = self._iterated(matrix, u.value, v.value, self.n_power_iterations)

        sigma = u.value @ matrix @ v.value
        return layer.apply({"params": {**params, "kernel": kernel / sigma}}, x)

    def _iterated(self, matrix, u, v, times):
        """u and v after so many steps of power iteration."""
        matrix = jax.lax.stop_gradient(matrix)
        for _ in range(times):
            u = _unit(matrix @ v, self.eps)
            v = _unit(matrix.T @ u, self.eps)
        return u, v


def _inner(wrapper, x):
    """The wrapped layer, bound to nothing, and its parameters, which the wrapper holds."""
    layer = wrapper.module.clone(parent=None, name=None)
    params = wrapper.param("layer", lambda key: layer.init(key, x)["params"])
    if "kernel" not in params:
        raise ValueError(f"module={type(layer).__name__} has no parameter 'kernel'")
    return layer, params


def _unit(x, eps):
    return x / jnp.maximum(jnp.linalg.norm(x), eps)
