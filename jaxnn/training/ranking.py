"""Losses with a margin, of scores, pairs and triplets.

At the bend itself, where a score stands exactly on its margin, the gradient is 0, as torch's is
since 2.14 (before, it was 1 in all but hinge and multi_margin). `jnp.maximum(x, 0)`, which optax's
`hinge_loss` takes, gives a half.
"""

import jax
import jax.numpy as jnp

from jaxnn.training.losses import EPSILON, reduce

__all__ = [
    "hinge",
    "hinge_embedding",
    "multi_margin",
    "margin_ranking",
    "triplet_margin",
    "cosine_embedding",
]


def hinge(outputs: jax.Array, targets: jax.Array, reduction: str = "mean") -> jax.Array:
    """max(0, 1 - t o): the loss of a linear support vector machine; the gradient at the bend is 0.

    Args:
      outputs: scores, any shape.
      targets: -1 or 1, the same shape, float.
      reduction: as in `reduce`.

    Reference:
      Cortes and Vapnik, Support-Vector Networks, 1995.
    """
    return reduce(jax.nn.relu(1 - targets * outputs), reduction)


def hinge_embedding(
    outputs: jax.Array, targets: jax.Array, *, margin: float = 1.0, reduction: str = "mean"
) -> jax.Array:
    """The distance d of a similar pair, max(0, margin - d) of a dissimilar one.

    Args:
      outputs: distances, any shape.
      targets: 1 for similar, -1 for dissimilar, the same shape; any other gives both terms.
      margin: beyond it a dissimilar pair costs nothing.
      reduction: as in `reduce`.
    """
    near = jnp.where(targets != -1, outputs, 0)
    return reduce(near + jnp.where(targets != 1, jax.nn.relu(margin - outputs), 0), reduction)


def multi_margin(
    outputs: jax.Array,
    targets: jax.Array,
    *,
    p: int = 1,
    margin: float = 1.0,
    weight: jax.Array | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """sum over k != t of weight[t] max(0, margin - o[t] + o[k])^p / K: the hinge of many classes.

    Args:
      outputs: scores (N, K).
      targets: labels (N,), integers in 0..K-1.
      p: 1 or 2.
      margin: by which the label's score is to lead.
      weight: of the classes (K,); does not enter the divisor of the mean.
      reduction: as in `reduce`; the mean over no example is NaN. torch: memory that it never wrote.

    Raises:
      ValueError: if p is neither.

    Reference:
      Crammer and Singer, On the Algorithmic Implementation of Multiclass Kernel-based Vector
      Machines, 2001 (who take the largest term and not the sum: Weston and Watkins, 1999).
    """
    if p not in (1, 2):
        raise ValueError(f"p={p} is neither 1 nor 2")
    own = jnp.take_along_axis(outputs, targets[:, None], axis=1)
    terms = jax.nn.relu(margin - own + outputs) ** p
    if weight is not None:
        terms *= weight[targets][:, None]
    others = jnp.arange(outputs.shape[1]) != targets[:, None]
    return reduce(jnp.where(others, terms, 0).sum(1) / outputs.shape[1], reduction)


def margin_ranking(
    first: jax.Array,
    second: jax.Array,
    targets: jax.Array,
    *,
    margin: float = 0.0,
    reduction: str = "mean",
) -> jax.Array:
    """max(0, margin - t (first - second)): the first is to rank higher where t = 1, lower at -1.

    Args:
      first, second: scores of one shape.
      targets: 1 or -1, the same shape.
      margin: by which the higher is to lead.
      reduction: as in `reduce`.
    """
    return reduce(jax.nn.relu(margin - targets * (first - second)), reduction)


def triplet_margin(
    anchor: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    *,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> jax.Array:
    """max(0, margin + d(anchor, positive) - d(anchor, negative)), d(a, b) = ||a - b + eps||_p.

    optax's `triplet_margin_loss` adds eps inside of the root, to the sum of squares.

    Args:
      anchor, positive, negative: embeddings (N, D).
      margin: by which the negative is to be farther away.
      p: order of the norm.
      eps: added to every difference, so that the norm has a gradient.
      swap: take d(positive, negative) where that is the smaller one.
      reduction: as in `reduce`.

    Raises:
      ValueError: if margin <= 0.

    Reference:
      Balntas et al., Learning shallow convolutional feature descriptors with triplet losses, 2016.
    """
    if margin <= 0:
        raise ValueError(f"margin={margin} is not positive")

    def distance(a, b):
        return jnp.linalg.norm(a - b + eps, ord=p, axis=-1)

    far = distance(anchor, negative)
    if swap:
        far = jnp.minimum(far, distance(positive, negative))
    return reduce(jax.nn.relu(margin + distance(anchor, positive) - far), reduction)


def cosine_embedding(
    first: jax.Array,
    second: jax.Array,
    targets: jax.Array,
    *,
    margin: float = 0.0,
    reduction: str = "mean",
) -> jax.Array:
    """1 - cos of a similar pair, max(0, cos - margin) of a dissimilar one.

    cos = a.b / sqrt((a.a + e) (b.b + e)) with e = 1e-12, so that a vector of zeros has a gradient.
    optax's `cosine_similarity` bounds the squared norms instead, by 0 unless told otherwise.

    Args:
      first, second: embeddings (N, D).
      targets: 1 for similar, -1 for dissimilar (N,); any other costs nothing.
      margin: the cosine below which a dissimilar pair costs nothing.
      reduction: as in `reduce`.
    """
    squares = ((first * first).sum(-1) + EPSILON) * ((second * second).sum(-1) + EPSILON)
    cosine = (first * second).sum(-1) / jnp.sqrt(squares)
    near = jnp.where(targets == 1, 1 - cosine, 0)
    return reduce(near + jnp.where(targets == -1, jax.nn.relu(cosine - margin), 0), reduction)
