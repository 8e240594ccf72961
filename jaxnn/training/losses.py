"""The plain losses of regression and of classification, averaged as torch averages them.

optax returns one value per example; here every loss takes `reduction`, which is "mean" (the
default), "sum" or "none". Of an empty batch the mean is NaN and the sum 0, as in torch. Options
come by keyword only: torch's functions have two deprecated arguments among them.
"""

import jax
import jax.numpy as jnp
import optax

__all__ = [
    "reduce",
    "mse",
    "nll",
    "cross_entropy",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
]


def reduce(values: jax.Array, reduction: str = "mean") -> jax.Array:
    """Mean or sum over all values, or the values themselves.

    Raises:
      ValueError: if reduction is not "mean", "sum" or "none".
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction={reduction!r} is not 'mean', 'sum' or 'none'")
    return values if reduction == "none" else getattr(jnp, reduction)(values)


def mse(outputs: jax.Array, targets: jax.Array, *, reduction: str = "mean") -> jax.Array:
    """Squared error (outputs - targets)^2. (`optax.l2_loss` is half of it.)

    Args:
      outputs: predictions, any shape.
      targets: the same shape. torch: broadcasts (N,) against (N, 1), with a warning.
      reduction: as in `reduce`.

    Raises:
      ValueError: if the shapes differ.
    """
    return reduce(optax.squared_error(outputs, targets), reduction)


def nll(
    outputs: jax.Array,
    targets: jax.Array,
    *,
    weight: jax.Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> jax.Array:
    """Negative log likelihood: -weight[t] outputs[t] of the label t.

    Args:
      outputs: log-probabilities (..., K), classes last. torch: classes on axis 1.
      targets: labels (...), integers in 0..K-1; any other gives NaN. torch: raises.
      weight: of the classes (K,); the mean divides by the sum of the weights of the labels.
      ignore_index: a label that counts as nothing, inside of 0..K-1 or not; the mean over nothing
        is NaN.
      reduction: as in `reduce`.
    """
    counts = targets != ignore_index
    labels = jnp.where(counts, targets, 0)
    found = jnp.take_along_axis(outputs, labels[..., None], axis=-1)[..., 0]
    known = (labels >= 0) & (labels < outputs.shape[-1])  # a negative index counts from the end
    weights = counts.astype(outputs.dtype) if weight is None else counts * weight[labels]
    values = jnp.where(counts, -weights * jnp.where(known, found, jnp.nan), 0)
    if reduction == "mean":
        return values.sum() / weights.sum()
    return reduce(values, reduction)


def cross_entropy(
    outputs: jax.Array,
    targets: jax.Array,
    *,
    weight: jax.Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Softmax cross entropy: -sum_k weight[k] t[k] log softmax(outputs)[k].

    t is one at the label or, with soft targets, their probabilities; smoothing by e makes
    (1 - e) t + e / K of it.

    Args:
      outputs: logits (..., K), classes last. torch: classes on axis 1.
      targets: labels (...) as in `nll`, or probabilities (..., K), float.
      weight: of the classes (K,). The mean over labels divides by the sum of the weights of the
        labels, that over probabilities by their number.
      ignore_index: a label that counts as nothing; not for probabilities.
      reduction: as in `reduce`.
      label_smoothing: e, in [0, 1].

    Raises:
      ValueError: if label_smoothing is outside. torch: RuntimeError.

    Reference:
      Szegedy et al., Rethinking the Inception Architecture, 2015, https://arxiv.org/abs/1512.00567
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing={label_smoothing} is outside [0, 1]")
    log_p = jax.nn.log_softmax(outputs)
    weighted = log_p if weight is None else log_p * weight
    if jnp.issubdtype(targets.dtype, jnp.floating):
        targets = optax.smooth_labels(targets, label_smoothing) if label_smoothing else targets
        return reduce(-(weighted * targets).sum(-1), reduction)
    options = {"weight": weight, "ignore_index": ignore_index, "reduction": reduction}
    value = nll(log_p, targets, **options)
    if not label_smoothing:
        return value
    # The uniform part weighs every class, but is averaged as the labels are.
    counts = targets != ignore_index
    uniform = jnp.where(counts, -weighted.mean(-1), 0)
    if reduction == "mean":
        divisor = counts if weight is None else counts * weight[jnp.where(counts, targets, 0)]
        uniform = uniform.sum() / divisor.sum()
    else:
        uniform = reduce(uniform, reduction)
    return (1 - label_smoothing) * value + label_smoothing * uniform


EPSILON = 9.999999960041972e-13  # torch's kernels hold 1e-12 in float32, whatever the dtype


@jax.custom_jvp
def _bernoulli(p: jax.Array, t: jax.Array) -> jax.Array:
    return -t * jnp.maximum(jnp.log(p), -100) - (1 - t) * jnp.maximum(jnp.log1p(-p), -100)


@_bernoulli.defjvp
def _bernoulli_jvp(primals, tangents):
    (p, t), (dp, dt) = primals, tangents
    slope = (p - t) / jnp.maximum(p * (1 - p), EPSILON)
    return _bernoulli(p, t), slope * dp + (jnp.log1p(-p) - jnp.log(p)) * dt


def binary_cross_entropy(
    outputs: jax.Array,
    targets: jax.Array,
    *,
    weight: jax.Array | None = None,
    reduction: str = "mean",
) -> jax.Array:
    """-weight (t log p + (1 - t) log(1 - p)), logarithms bounded by -100, of probabilities p.

    The gradient (p - t) / (p (1 - p)) has its divisor bounded by 1e-12, so that p = 0 and p = 1
    give 1e12 and not NaN. Prefer the form `binary_cross_entropy_with_logits`, which needs neither.

    Args:
      outputs: probabilities, any shape; outside [0, 1] the value is NaN. torch: raises.
      targets: probabilities, the same shape and dtype.
      weight: broadcasts against them; does not enter the divisor of the mean.
      reduction: as in `reduce`.
    """
    values = _bernoulli(outputs, targets)
    return reduce(values if weight is None else values * weight, reduction)


def binary_cross_entropy_with_logits(
    outputs: jax.Array,
    targets: jax.Array,
    *,
    weight: jax.Array | None = None,
    reduction: str = "mean",
    pos_weight: jax.Array | None = None,
) -> jax.Array:
    """-weight (pos_weight t log sigmoid(o) + (1 - t) log(1 - sigmoid(o))).

    Args:
      outputs: logits, any shape.
      targets: probabilities in [0, 1], the same shape and dtype.
      weight: broadcasts against them; does not enter the divisor of the mean.
      reduction: as in `reduce`.
      pos_weight: of the positive class, broadcasts against them.
    """
    values = optax.sigmoid_binary_cross_entropy(outputs, targets)
    if pos_weight is not None:
        values -= (pos_weight - 1) * targets * jax.nn.log_sigmoid(outputs)
    return reduce(values if weight is None else values * weight, reduction)
