"""Initial weights with the distributions of torch.nn.init, as functions of standard draws.

Noise is an input: the same draws give the same weights on both sides, in each side's layout.
`initialiser` makes of such a function what Flax takes as `kernel_init`. jax.nn.initializers has
functions of the same names whose normal ones are truncated at two standard deviations; its
`variance_scaling(1 / 3, "fan_in", "uniform")` is what torch.nn.Linear starts with.

`zeros`, `ones` and `constant` (jnp.full) are jax.numpy's.
"""

import math
from collections.abc import Callable

import jax
from jax.numpy import full as constant
from jax.numpy import ones, zeros
from jax.scipy.special import ndtri

__all__ = [
    "zeros",
    "ones",
    "constant",
    "fans",
    "calculate_gain",
    "initialiser",
    "uniform",
    "normal",
    "trunc_normal",
    "xavier_uniform",
    "xavier_normal",
    "kaiming_uniform",
    "kaiming_normal",
]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (..., in, out): its inputs and outputs, times its pixels.

    Raises:
      ValueError: if shape has fewer than two axes.
    """
    if len(shape) < 2:
        raise ValueError(f"shape={tuple(shape)} has fewer than two axes")
    pixels = math.prod(shape[:-2])
    return shape[-2] * pixels, shape[-1] * pixels


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which a nonlinearity shrinks what passes through, inverted.

    Args:
      nonlinearity: "linear", "conv1d" to "conv_transpose3d", "sigmoid", "tanh", "relu",
        "leaky_relu" or "selu".
      param: the negative slope of "leaky_relu"; None is 0.01.

    Raises:
      ValueError: if the nonlinearity is none of these.
    """
    gains = {"linear": 1, "sigmoid": 1, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    gains |= {f"{conv}{n}d": 1 for conv in ("conv", "conv_transpose") for n in (1, 2, 3)}
    gains["leaky_relu"] = math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in gains:
        raise ValueError(f"nonlinearity={nonlinearity!r} is not one of {', '.join(gains)}")
    return gains[nonlinearity]


def initialiser(weights: Callable, *noise: str, **options) -> Callable:
    """An initialiser of Flax, which draws the noise itself. torch: one that fills in place.

    Example: `initialiser(xavier_uniform, "uniform", gain=2.0)`.

    Args:
      weights: a function of standard draws, as those below.
      noise: "uniform" or "normal" for each of its draws.
      options: what else it takes.

    Returns: init(key, shape, dtype) -> array, for `kernel_init` and `bias_init`.

    Raises:
      ValueError: if noise is anything else.
    """
    if not noise or set(noise) - {"uniform", "normal"}:
        raise ValueError(f"noise={noise} is not of 'uniform' and 'normal'")

    def init(key: jax.Array, shape: tuple[int, ...], dtype=float) -> jax.Array:
        keys = jax.random.split(key, len(noise))
        draws = [getattr(jax.random, n)(k, shape, dtype) for n, k in zip(noise, keys, strict=True)]
        return weights(*draws, **options)

    return init


def uniform(draw: jax.Array, a: float = 0.0, b: float = 1.0) -> jax.Array:
    """Uniform between a and b, of draws between 0 and 1."""
    return a + (b - a) * draw


def normal(draw: jax.Array, mean: float = 0.0, std: float = 1.0) -> jax.Array:
    """Normal with a mean and a standard deviation, of standard normal draws."""
    return mean + std * draw


def trunc_normal(
    draw: jax.Array, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> jax.Array:
    """Normal between a and b, of uniform draws: the inverse of the distribution function.

    a and b are absolute: at std = 0.02 they cut nothing off.
    jax: `nn.initializers.truncated_normal` cuts at 2 std, which shrinks it to 0.88 std.
    """
    below, above = (math.erfc((mean - bound) / std / math.sqrt(2)) / 2 for bound in (a, b))
    return mean + std * ndtri(below + (above - below) * draw)


def xavier_uniform(draw: jax.Array, gain: float = 1.0) -> jax.Array:
    """Uniform in +-gain sqrt(6 / (fan_in + fan_out)), of uniform draws.

    Reference: Glorot and Bengio, Understanding the difficulty of training deep networks, 2010.
    """
    bound = gain * math.sqrt(6 / sum(fans(draw.shape)))
    return uniform(draw, -bound, bound)


def xavier_normal(draw: jax.Array, gain: float = 1.0) -> jax.Array:
    """Normal with std = gain sqrt(2 / (fan_in + fan_out)), of normal draws."""
    return gain * math.sqrt(2 / sum(fans(draw.shape))) * draw


def kaiming_uniform(
    draw: jax.Array,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> jax.Array:
    """Uniform with the variance of `kaiming_normal`, of uniform draws."""
    bound = math.sqrt(3) * _kaiming(draw.shape, a, mode, nonlinearity)
    return uniform(draw, -bound, bound)


def kaiming_normal(
    draw: jax.Array,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> jax.Array:
    """Normal with std = gain / sqrt(fan), of normal draws. jax.nn's `he_normal` is truncated.

    Args:
      draw: standard normal, of the weight's shape.
      a: the negative slope of a leaky ReLU.
      mode: "fan_in" keeps the variance forward, "fan_out" backward.
      nonlinearity: whose `calculate_gain` is taken.

    Raises:
      ValueError: if mode is neither or the nonlinearity is unknown.

    Reference: He et al., Delving Deep into Rectifiers, 2015, https://arxiv.org/abs/1502.01852
    """
    return _kaiming(draw.shape, a, mode, nonlinearity) * draw


def _kaiming(shape: tuple[int, ...], a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode={mode!r} is neither 'fan_in' nor 'fan_out'")
    fan = fans(shape)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)
