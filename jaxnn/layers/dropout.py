"""Dropout of elements and of channels, each with its mask given and drawn.

The functions take the mask: mathematics without chance. The modules draw one in training, from the
"dropout" stream of random numbers (`apply(..., rngs={"dropout": key})`), with torch's names and
defaults; channels come last, and there is always a batch axis.

What is dropped is selected, so that an infinite element is dropped too. torch: multiplies, and it
becomes NaN. Flax's own `nn.Dropout` has `rate` for `p` and `deterministic` for `train`, and drops
channels through `broadcast_dims`. It has no alpha dropout.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = [
    "dropout",
    "feature_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "AlphaDropout",
    "FeatureAlphaDropout",
]

ALPHA = 1.7580993408473766  # selu's lower bound is -ALPHA


def dropout(x: jax.Array, mask: jax.Array, p: float = 0.5) -> jax.Array:
    """Drops single elements and lengthens the others: y = x mask / (1 - p), so that E[y] = x.

    Args:
      x: any shape.
      mask: what is kept, of x's shape (or one that broadcasts): booleans, or 0 and 1.
      p: probability with which the mask was made to drop; nothing is left where it is 1.

    Raises:
      ValueError: if p is not between 0 and 1.

    Reference:
      Srivastava et al., Dropout, 2014, https://jmlr.org/papers/v15/srivastava14a.html
    """
    return jnp.where(mask, x, 0) * _scale(p)


def feature_dropout(x: jax.Array, mask: jax.Array, p: float = 0.5) -> jax.Array:
    """Drops whole channels, whose neighbouring positions tell too much of a single one.

    Args:
      x: (N, ..., C). torch: (N, C, ...).
      mask: (N, C), which channels are kept; else as in `dropout`.
      p: as in `dropout`.

    Reference:
      Tompson et al., Efficient Object Localization Using Convolutional Networks, 2015,
      https://arxiv.org/abs/1411.4280
    """
    return dropout(x, _per_channel(mask, x), p)


def alpha_dropout(x: jax.Array, mask: jax.Array, p: float = 0.5) -> jax.Array:
    """Sets elements to selu's lower bound, and keeps a mean of 0 and a variance of 1.

    y = a (x mask + alpha (mask - 1)) + b, with a = ((1 - p) (1 + p alpha^2))^-1/2, b = a alpha p.

    Args:
      x: any shape, standardised, as selu's outputs are.
      mask, p: as in `dropout`; everything is 0 where p is 1.

    Reference:
      Klambauer et al., Self-Normalizing Neural Networks, 2017, https://arxiv.org/abs/1706.02515
    """
    a = _scale(p) ** 0.5 * (1 + p * ALPHA**2) ** -0.5
    return a * (jnp.where(mask, x, -ALPHA) + p * ALPHA)


def feature_alpha_dropout(x: jax.Array, mask: jax.Array, p: float = 0.5) -> jax.Array:
    """Does to whole channels what `alpha_dropout` does to elements.

    Args:
      x: (N, ..., C). torch: (N, C, ...).
      mask: (N, C), which channels are kept; else as in `dropout`.
      p: as in `alpha_dropout`.
    """
    return alpha_dropout(x, _per_channel(mask, x), p)


def _scale(p):
    """1 / (1 - p), and 0 where nothing is kept."""
    if not 0 <= p <= 1:
        raise ValueError(f"p={p} is not between 0 and 1")
    return 0.0 if p == 1 else 1 / (1 - p)


def _per_channel(mask, x):
    """(N, C) -> (N, ..., 1, C), for an x of (N, ..., C)."""
    return jnp.expand_dims(mask, tuple(range(1, x.ndim - 1)))


class Dropout(nn.Module):
    """`dropout` with a mask of its own for every call in training; nothing in evaluation.

    Args:
      p: probability of dropping an element.

    Raises:
      ValueError: if p is not between 0 and 1.
    """

    p: float = 0.5

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """x of any shape -> the same shape."""
        return _drawn(self, dropout, x, x.shape, train)


class Dropout1d(nn.Module):
    """`feature_dropout` of sequences (N, L, C). Args: as `Dropout`."""

    p: float = 0.5

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """(N, L, C) -> the same shape."""
        chex.assert_rank(x, 3)
        return _drawn(self, dropout, x, _channels(x), train)


class Dropout2d(nn.Module):
    """`feature_dropout` of images (N, H, W, C). Args: as `Dropout`."""

    p: float = 0.5

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """(N, H, W, C) -> the same shape."""
        chex.assert_rank(x, 4)
        return _drawn(self, dropout, x, _channels(x), train)


class Dropout3d(nn.Module):
    """`feature_dropout` of volumes (N, D, H, W, C). Args: as `Dropout`."""

    p: float = 0.5

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """(N, D, H, W, C) -> the same shape."""
        chex.assert_rank(x, 5)
        return _drawn(self, dropout, x, _channels(x), train)


class AlphaDropout(nn.Module):
    """`alpha_dropout` with a mask of its own for every call in training. Args: as `Dropout`."""

    p: float = 0.5

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """x of any shape -> the same shape."""
        return _drawn(self, alpha_dropout, x, x.shape, train)


class FeatureAlphaDropout(nn.Module):
    """`feature_alpha_dropout` with a mask of its own for every call. Args: as `Dropout`."""

    p: float = 0.5

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """(N, ..., C) -> the same shape."""
        return _drawn(self, alpha_dropout, x, _channels(x), train)


def _channels(x):
    """(N, 1, ..., C): one number for each channel of every example."""
    return (x.shape[0], *[1] * (x.ndim - 2), x.shape[-1])


def _drawn(module, function, x, shape, train):
    """In training, `function` of x and a mask drawn in `shape`; torch draws none at 0 and 1."""
    _scale(module.p)
    if not train or module.p == 0:
        return x
    if module.p == 1:
        return function(x, jnp.zeros(shape, bool), 1.0)
    mask = jax.random.bernoulli(module.make_rng("dropout"), 1 - module.p, shape)
    return function(x, mask, module.p)
