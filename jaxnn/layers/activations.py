"""Activations: jax.nn's own where they are torch's, written out where they are not.

jax.nn's own, which act on every element alone: `sigmoid`, `tanh`, `relu`, `elu`, `selu`, `celu`,
`silu`, `mish`, `hardswish` (`hard_swish`), `hardsigmoid` (`hard_sigmoid`), `softsign`
(`soft_sign`); and along an axis: `softmax`, `log_softmax`, `logsumexp`, `glu`. What remains
different there:

  axis         `axis=-1`, and None for all of them in logsumexp. torch: `dim`, to be given.
  masks        `where=` leaves elements out. torch: none, and a row of -inf alone is NaN in both.
  glu          asserts an even size. torch: RuntimeError.
  NaN          has a gradient of 0 in relu. torch: 1.
  -0.0         becomes 0.0 in relu and celu. torch: stays.
  elu's tails  d/dx is expm1(x) + 1, which rounds to 0 below -37. torch: exp(x). So selu, celu.
  subnormals   are flushed to zero by XLA on the CPU. torch: kept.

In half precision every step of a formula rounds. torch: computes in float32 and rounds once; its
gelu of +inf is NaN in bfloat16.
"""

import jax
import jax.numpy as jnp
from jax.nn import celu, elu, glu, log_softmax, logsumexp, mish, relu, selu, sigmoid, silu, softmax
from jax.nn import hard_sigmoid as hardsigmoid
from jax.nn import hard_swish as hardswish
from jax.nn import soft_sign as softsign
from jax.numpy import tanh

__all__ = [
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "celu",
    "softplus",
    "silu",
    "swish",
    "gelu",
    "mish",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "softmax",
    "log_softmax",
    "logsumexp",
    "softsign",
    "glu",
]


def leaky_relu(x: jax.Array, negative_slope: float = 0.01) -> jax.Array:
    """x where x > 0, else negative_slope * x; the gradient at 0 is the slope.

    `jax.nn.leaky_relu` takes x >= 0, so that its gradient at 0 is 1.

    Args:
      x: any shape.
      negative_slope: of the negative half.

    Reference:
      Maas et al., Rectifier Nonlinearities Improve Neural Network Acoustic Models, 2013.
    """
    return jnp.where(x > 0, x, negative_slope * x)


def prelu(x: jax.Array, weight: jax.Array) -> jax.Array:
    """x where x > 0, else weight * x, with a slope that is learned.

    `flax.linen.PReLU` has one slope, which starts at 0.01, and a gradient of 1 at 0.

    Args:
      x: (..., C), channels last. torch: (N, C, ...).
      weight: (C,) or (1,); torch.nn.PReLU starts at 0.25.

    Raises:
      ValueError: if weight is neither.

    Reference:
      He et al., Delving Deep into Rectifiers, 2015, https://arxiv.org/abs/1502.01852
    """
    if weight.shape not in ((1,), (x.shape[-1],)):
        raise ValueError(f"weight of shape {weight.shape} fits no {x.shape[-1]} channels")
    return jnp.where(x > 0, x, weight * x)


def softplus(x: jax.Array, beta: float = 1.0, threshold: float = 20.0) -> jax.Array:
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold.

    `jax.nn.softplus` has neither: at 20 the difference is 2e-9, which float32 does not show.

    Args:
      x: any shape.
      beta: sharpness of the bend.
      threshold: where the line takes over.
    """
    scaled = beta * x
    return jnp.where(scaled > threshold, x, jax.nn.softplus(scaled) / beta)


def swish(x: jax.Array, beta: jax.Array | float = 1.0) -> jax.Array:
    """x sigmoid(beta x): silu at beta = 1, half of x at 0, relu in the limit; beta may be learned.

    Args:
      x: any shape.
      beta: a number, or an array that broadcasts against x.

    Reference:
      Ramachandran et al., Searching for Activation Functions, 2017,
      https://arxiv.org/abs/1710.05941
    """
    return x * sigmoid(beta * x)


def gelu(x: jax.Array, approximate: str = "none") -> jax.Array:
    """x Phi(x), with Phi the normal distribution function.

    `jax.nn.gelu` takes a boolean and approximates by default, which moves values by up to 5e-4.

    Args:
      x: any shape.
      approximate: "none", or "tanh" for x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Raises:
      ValueError: if approximate is neither. torch: RuntimeError.

    Reference:
      Hendrycks and Gimpel, Gaussian Error Linear Units, 2016, https://arxiv.org/abs/1606.08415
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate={approximate!r} is neither 'none' nor 'tanh'")
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def hardtanh(x: jax.Array, min_val: float = -1.0, max_val: float = 1.0) -> jax.Array:
    """x between two bounds, on which the gradient is 0.

    `jax.nn.hard_tanh` has a gradient of 1 on the bounds, `jnp.clip` one of a half.

    Args:
      x: any shape.
      min_val, max_val: the bounds.

    Raises:
      ValueError: if min_val > max_val.
    """
    if min_val > max_val:
        raise ValueError(f"min_val={min_val} is above max_val={max_val}")
    inside = (x > min_val) & (x < max_val)
    return jnp.where(inside, x, jax.lax.stop_gradient(jnp.clip(x, min_val, max_val)))
