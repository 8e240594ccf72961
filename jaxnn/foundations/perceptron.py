"""Rosenblatt's perceptron: a weighted sum, a bias and a step.

Reference: F. Rosenblatt, "The perceptron: a probabilistic model for information storage and
organization in the brain", Psychological Review 65 (1958).
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["rosenblatt", "Perceptron", "perceptron_loss"]


def rosenblatt(
    weight: jax.Array, bias: jax.Array, x: jax.Array, labels: jax.Array, lr: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """One pass of Rosenblatt's rule: each example that is misclassified moves the weights.

    If classes are linearly separable, passes end in a separation after finitely many moves
    (Novikoff 1962). The parameters are plain arrays: given, and returned anew.

    Args:
      weight: float (D,).
      bias: float ().
      x: float (N, D), the examples in the order of their visit.
      labels: (N,), -1 or +1.
      lr: learning rate.

    Returns: the weight (D,) and the bias () after the pass.
    """
    chex.assert_shape(x, (None, *weight.shape))

    def visit(params, example):
        weight, bias = params
        x_n, label = example
        # label * (w.x + b) <= 0:  w <- w + lr label x,  b <- b + lr label
        # torch: a Python `if`; a traced condition selects instead.
        mistaken = label * (x_n @ weight + bias) <= 0
        step = jnp.where(mistaken, lr * label, 0)
        return (weight + step * x_n, bias + step), None

    # torch: a Python loop; scan compiles its body once.
    (weight, bias), _ = jax.lax.scan(visit, (weight, bias), (x, labels.astype(x.dtype)))
    return weight, bias


class Perceptron(nn.Module):
    """A single unit with a step: +1 where w.x + b > 0, otherwise -1.

    Args:
      in_features: D, inputs of the unit.
    """

    in_features: int

    def setup(self) -> None:
        self.linear = nn.Dense(1)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """The score w.x + b before the step: float (N, D) -> float (N,)."""
        chex.assert_shape(x, (None, self.in_features))
        return self.linear(x).squeeze(-1)

    def predict(self, x: jax.Array) -> jax.Array:
        """The unit's class: float (N, D) -> int (N,), -1 or +1. The step has no useful gradient."""
        return jnp.where(self(x) > 0, 1, -1)


def perceptron_loss(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean of max(0, -label * score), the criterion whose gradient step is Rosenblatt's rule.

    For one example (x, y) with score s = w.x + b:

      y s > 0, right:    the loss is 0,     d/dw = 0
      y s < 0, mistaken: the loss is -y s,  d/dw = -y x,  d/db = -y

    so that w - lr d/dw = w + lr y x: Rosenblatt's rule. At the kink s = 0 any slope between the two
    is a subgradient. Rosenblatt counts it as a mistake; relu has derivative 0 there (as has
    torch's), so a perceptron trained on this loss must not start from zero weights.

    Args:
      scores: float (N,).
      labels: (N,), -1 or +1.

    Returns: the loss, float ().
    """
    chex.assert_equal_shape([scores, labels])
    return nn.relu(-labels * scores).mean()
