"""The perceptron of several classes: a weight vector for each, and the largest score decides.

Reference: R. Duda, P. Hart, "Pattern classification and scene analysis" (1973), after C. Kesler;
K. Crammer, Y. Singer, "Ultraconservative online algorithms for multiclass problems", Journal of
Machine Learning Research 3 (2003).
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["multiclass_rosenblatt", "MultiClassPerceptron", "multiclass_perceptron_loss"]


def multiclass_rosenblatt(
    weight: jax.Array, bias: jax.Array, x: jax.Array, labels: jax.Array, lr: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """One pass of the rule: a mistake moves the right class towards x, and its rival away from it.

    The rival is the best of the other classes, the first of several; an example whose own score is
    not above the rival's is a mistake. Of two classes, the difference of the two weight vectors
    moves as in Rosenblatt's rule, at twice the rate.

    Args:
      weight: float (K, D), a row for each class. A Dense's kernel is its transpose.
      bias: float (K,).
      x: float (N, D), the examples in the order of their visit.
      labels: integers (N,) in 0..K-1.
      lr: learning rate.

    Returns: the weight (K, D) and the bias (K,) after the pass.
    """
    chex.assert_shape(x, (None, weight.shape[1]))
    classes = len(bias)

    def visit(params, example):
        weight, bias = params
        x_n, label = example
        scores = weight @ x_n + bias
        rival = jnp.argmax(scores.at[label].set(-jnp.inf))
        # own <= rival:  w_own <- w_own + lr x,  w_rival <- w_rival - lr x
        # torch: a Python `if`; a traced condition selects instead.
        mistaken = scores[label] <= scores[rival]
        own, other = jax.nn.one_hot(jnp.stack([label, rival]), classes, dtype=x.dtype)
        step = jnp.where(mistaken, lr * (own - other), 0)
        return (weight + jnp.outer(step, x_n), bias + step), None

    # torch: a Python loop; scan compiles its body once.
    (weight, bias), _ = jax.lax.scan(visit, (weight, bias), (x, labels))
    return weight, bias


class MultiClassPerceptron(nn.Module):
    """One linear unit for each class; the class is that of the largest score.

    Args:
      in_features: D, inputs.
      num_classes: K.
    """

    in_features: int
    num_classes: int

    def setup(self) -> None:
        self.linear = nn.Dense(self.num_classes)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """The scores w_k.x + b_k: float (N, D) -> float (N, K)."""
        chex.assert_shape(x, (None, self.in_features))
        return self.linear(x)

    def predict(self, x: jax.Array) -> jax.Array:
        """The class, the first of several: float (N, D) -> int (N,) in 0..K-1."""
        return self(x).argmax(1)


def multiclass_perceptron_loss(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean of max_k score_k - score_label, the criterion whose gradient step is the rule above.

    It is 0 where the label's score is the largest; elsewhere d/dw_label = -x and d/dw_k = x for the
    largest. Where several are the largest, each has an equal share of the gradient.

    Args:
      scores: float (N, K).
      labels: integers (N,) in 0..K-1.

    Returns: the loss, float ().
    """
    own = jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    return (scores.max(1) - own).mean()
