"""Connectionist temporal classification: the loss of labels whose places are not known."""

import jax
import jax.numpy as jnp
import optax

from jaxnn.training.losses import reduce

__all__ = ["ctc"]


def ctc(
    log_probs: jax.Array,
    targets: jax.Array,
    input_lengths: jax.Array,
    target_lengths: jax.Array,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> jax.Array:
    """-log of the probability of all paths that spell the labels, repeats merged, blanks removed.

    `optax.ctc_loss` sums over the same paths; it takes logits, the batch first, and paddings, and
    gives 1e5 where no path is long enough. Both frameworks' gradient is that of the logits (softmax
    minus the posterior), so that log_probs must come from a log_softmax.

    Args:
      log_probs: logarithms of the probabilities (T, N, K), one for every step.
      targets: labels (N, S), padded on the right. torch: also concatenated, (sum of lengths,).
      input_lengths: steps that count (N,), at most T.
      target_lengths: labels that count (N,), at most S.
      blank: the class that spells nothing.
      reduction: as in `reduce`; "mean" divides every loss by the length of its labels first.
      zero_infinity: 0 in place of the infinite loss of labels that do not fit the steps. Without it
        such an example has a gradient of 0. torch: NaN.

    Raises:
      ValueError: if reduction is none of these. torch: also on an empty batch, RuntimeError.

    Reference:
      Graves et al., Connectionist Temporal Classification, 2006.
    """
    steps, labels = jnp.arange(log_probs.shape[0]), jnp.arange(targets.shape[1])
    unused = (labels >= target_lengths[:, None]).astype(log_probs.dtype)
    values = optax.ctc_loss(
        log_probs.swapaxes(0, 1),
        (steps >= input_lengths[:, None]).astype(log_probs.dtype),
        targets,
        unused,
        blank_id=blank,
    )
    # A blank has to stand between equal labels.
    repeats = (targets[:, 1:] == targets[:, :-1]) & (labels[1:] < target_lengths[:, None])
    fits = input_lengths >= target_lengths + repeats.sum(1)
    values = jnp.where(fits, values, 0 if zero_infinity else jnp.inf)
    if reduction == "mean":
        values = values / jnp.maximum(target_lengths, 1)
    return reduce(values, reduction)
