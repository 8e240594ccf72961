"""What to keep of a perceptron that never settles: all of its weights, their mean, or the best.

Reference: Y. Freund, R. Schapire, "Large margin classification using the perceptron algorithm",
Machine Learning 37 (1999), for the vote and the mean; S. Gallant, "Perceptron-based learning
algorithms", IEEE Transactions on Neural Networks 1 (1990), for the pocket.
"""

import chex
import jax
import jax.numpy as jnp

__all__ = [
    "voted_perceptron",
    "voted_predict",
    "averaged_perceptron",
    "averaged_predict",
    "pocket_perceptron",
]


def voted_perceptron(
    weight: jax.Array, bias: jax.Array, x: jax.Array, labels: jax.Array, order: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rosenblatt's rule, which keeps every weight vector and how many visits it survived.

    Args:
      weight, bias: where it starts, float (D,) and (); Freund and Schapire's zeros.
      x: float (N, D).
      labels: (N,), -1 or +1.
      order: the examples in the order of their visit, integers (T,) in 0..N-1.

    Returns:
      The weights (T+1, D), the biases (T+1,) and the counts, integers (T+1,), which sum to T: the
      start, then one for each mistake, whose count begins with the visit that made it. What no
      mistake made is zero.
    """
    chex.assert_shape(x, (None, *weight.shape))
    labels = labels.astype(x.dtype)
    size = len(order) + 1

    def visit(kept, n):
        weights, biases, counts, k = kept
        mistaken = labels[n] * (x[n] @ weights[k] + biases[k]) <= 0
        # w_(k+1) = w_k + label x,  b_(k+1) = b_k + label
        step = jnp.where(mistaken, labels[n], 0)
        weight, bias = weights[k] + step * x[n], biases[k] + step
        k = k + mistaken
        return (weights.at[k].set(weight), biases.at[k].set(bias), counts.at[k].add(1), k), None

    # torch: lists that grow; what scan carries has its size before it begins.
    weights = jnp.zeros((size, *weight.shape), x.dtype).at[0].set(weight)
    biases = jnp.zeros(size, x.dtype).at[0].set(bias)
    kept = weights, biases, jnp.zeros(size, int), 0
    (weights, biases, counts, _), _ = jax.lax.scan(visit, kept, order)
    return weights, biases, counts


def voted_predict(
    weights: jax.Array, biases: jax.Array, counts: jax.Array, x: jax.Array
) -> jax.Array:
    """Every perceptron votes with its class, as often as it survived: float (N, D) -> int (N,).

    +1 where sum_k counts_k sign(w_k.x + b_k) > 0, otherwise -1.

    Args:
      weights, biases, counts: of `voted_perceptron`.
      x: float (N, D).
    """
    votes = jnp.sign(x @ weights.T + biases)  # (N, T+1)
    return jnp.where(votes @ counts.astype(x.dtype) > 0, 1, -1)


def averaged_perceptron(
    weight: jax.Array, bias: jax.Array, x: jax.Array, labels: jax.Array, order: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rosenblatt's rule, and the mean of the weights after every visit: nothing else is kept.

    It is the mean of `voted_perceptron`'s weights by their counts, one linear unit in place of
    many: their scores are averaged where the vote counts their signs.

    Args:
      weight, bias, x, labels, order: as of `voted_perceptron`.

    Returns: the mean weight (D,) and the mean bias ().
    """
    chex.assert_shape(x, (None, *weight.shape))
    labels = labels.astype(x.dtype)

    def visit(state, n):
        (weight, bias), (weight_sum, bias_sum) = state
        step = jnp.where(labels[n] * (x[n] @ weight + bias) <= 0, labels[n], 0)
        weight, bias = weight + step * x[n], bias + step
        return ((weight, bias), (weight_sum + weight, bias_sum + bias)), None

    nothing = jnp.zeros_like(weight), jnp.zeros_like(bias)
    (_, (weight, bias)), _ = jax.lax.scan(visit, ((weight, bias), nothing), order)
    return weight / len(order), bias / len(order)


def averaged_predict(weight: jax.Array, bias: jax.Array, x: jax.Array) -> jax.Array:
    """+1 where w.x + b > 0, otherwise -1: float (N, D) -> int (N,).

    Args:
      weight, bias: of `averaged_perceptron`, or of the pocket.
      x: float (N, D).
    """
    return jnp.where(x @ weight + bias > 0, 1, -1)


def pocket_perceptron(
    weight: jax.Array, bias: jax.Array, x: jax.Array, labels: jax.Array, order: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rosenblatt's rule, with the weights in the pocket that are right on the most examples.

    Gallant's ratchet: after every visit all examples are counted, and the pocket changes only for
    the better. (Without it, the longest run of right visits decides.)

    Args:
      weight, bias, x, labels: as of `voted_perceptron`.
      order: as there; Gallant's is random.

    Returns: the weight (D,) and the bias () in the pocket.
    """
    chex.assert_shape(x, (None, *weight.shape))
    labels = labels.astype(x.dtype)

    def right(weight, bias):
        return (labels * (x @ weight + bias) > 0).sum()

    def visit(state, n):
        (weight, bias), pocket = state
        step = jnp.where(labels[n] * (x[n] @ weight + bias) <= 0, labels[n], 0)
        weight, bias = weight + step * x[n], bias + step
        found = weight, bias, right(weight, bias)
        # torch: a Python `if`; a traced condition selects instead, each of the three.
        better = found[-1] > pocket[-1]
        pocket = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, pocket)
        return ((weight, bias), pocket), None

    state = (weight, bias), (weight, bias, right(weight, bias))
    (_, (weight, bias, _)), _ = jax.lax.scan(visit, state, order)
    return weight, bias
