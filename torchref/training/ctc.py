"""Connectionist temporal classification: torch's own.

`log_probs` (T, N, K) must come from a log_softmax, for the gradient is that of the logits (softmax
minus the posterior). "mean" divides every loss by the length of its labels first. Labels that do
not fit the steps cost inf, with a gradient of NaN, or 0 with `zero_infinity`. An empty batch raises
RuntimeError. jax: optax's takes logits (N, T, K) and paddings, and gives 1e5 where labels do not
fit.
"""

from torch.nn.functional import ctc_loss as ctc

__all__ = ["ctc"]
