"""One unit that learns from its score, not from its step: Adaline, and the logistic unit.

Reference: B. Widrow, M. Hoff, "Adaptive switching circuits", IRE WESCON Convention Record 4 (1960);
D. Cox, "The regression analysis of binary sequences", Journal of the Royal Statistical Society B 20
(1958).
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["delta_rule", "Adaline", "adaline_loss", "LogisticUnit", "logistic_loss"]


def delta_rule(
    weight: jax.Array, bias: jax.Array, x: jax.Array, labels: jax.Array, lr: float = 0.01
) -> tuple[jax.Array, jax.Array]:
    """One pass of Widrow and Hoff's rule: every example moves the score towards its label.

    It is stochastic gradient descent on `adaline_loss`, one example a step. Rosenblatt's rule moves
    the weights on a mistake only, and as far however large the mistake is.

    Args:
      weight: float (D,).
      bias: float ().
      x: float (N, D), the examples in the order of their visit.
      labels: (N,), -1 or +1, or any wanted score.
      lr: learning rate; the scores run away where it is above 2 / (|x|^2 + 1).

    Returns: the weight (D,) and the bias () after the pass.
    """
    chex.assert_shape(x, (None, *weight.shape))

    def visit(params, example):
        weight, bias = params
        x_n, label = example
        # delta = label - (w.x + b):  w <- w + lr delta x,  b <- b + lr delta
        delta = label - (x_n @ weight + bias)
        return (weight + lr * delta * x_n, bias + lr * delta), None

    # torch: a Python loop; scan compiles its body once.
    (weight, bias), _ = jax.lax.scan(visit, (weight, bias), (x, labels.astype(x.dtype)))
    return weight, bias


class Adaline(nn.Module):
    """The adaptive linear neuron: a weighted sum that is trained as it is, and then a step.

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
        """The unit's class: float (N, D) -> int (N,), -1 or +1."""
        return jnp.where(self(x) > 0, 1, -1)


def adaline_loss(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean of (label - score)^2 / 2: a score beyond its label counts as an error, too.

    Args:
      scores: float (N,).
      labels: (N,), -1 or +1.

    Returns: the loss, float ().
    """
    chex.assert_equal_shape([scores, labels])
    # d/dscore = -(label - score) / N
    return jnp.square(labels - scores).mean() / 2


class LogisticUnit(nn.Module):
    """A weighted sum and a sigmoid: the probability of the class +1, which has a gradient.

    Args:
      in_features: D, inputs of the unit.
    """

    in_features: int

    def setup(self) -> None:
        self.linear = nn.Dense(1)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """P(+1 | x) = 1 / (1 + exp(-(w.x + b))): float (N, D) -> float (N,)."""
        return nn.sigmoid(self.score(x))

    def score(self, x: jax.Array) -> jax.Array:
        """The log of the odds, w.x + b: float (N, D) -> float (N,)."""
        chex.assert_shape(x, (None, self.in_features))
        return self.linear(x).squeeze(-1)

    def predict(self, x: jax.Array) -> jax.Array:
        """The likelier class: float (N, D) -> int (N,), -1 or +1."""
        return jnp.where(self.score(x) > 0, 1, -1)


def logistic_loss(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean of -log P(label) = log(1 + exp(-label * score)): the cross-entropy of labels -1 and +1.

    It takes scores, whose logarithm of the sigmoid cannot overflow. The gradient has the form of
    the delta rule: d/dscore = -([label = 1] - P(+1)) / N.

    Args:
      scores: of `LogisticUnit.score`, float (N,).
      labels: (N,), -1 or +1.

    Returns: the loss, float ().
    """
    chex.assert_equal_shape([scores, labels])
    return -nn.log_sigmoid(labels * scores).mean()
