"""What happens to gradients between the backward pass and the optimizer.

A clip is a transformation before the optimizer: `optax.chain(clip_grad_norm(1.0), sgd(0.1))`.
torch: a call between `backward()` and `step()`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState
from optax import clip as clip_grad_value

__all__ = ["clip_grad_value", "clip_grad_norm", "grouped", "accumulated_step"]


def clip_grad_norm(max_norm: float, norm_type: float = 2.0) -> optax.GradientTransformation:
    """Clipping by the norm of all gradients together, as `torch.nn.utils.clip_grad_norm_`.

    g <- g * min(1, max_norm / (||g|| + 1e-6))

    Args:
      max_norm: the largest norm that passes.
      norm_type: p of the norm; math.inf for the largest element.

    `optax.clip_by_global_norm` leaves the 1e-6 out, and has p = 2 only. A gradient that is not
    finite makes all of them NaN on both sides.

    Raises:
      ValueError: if `max_norm` is negative or `norm_type` not positive.
    """
    if max_norm < 0:
        raise ValueError(f"max_norm is {max_norm}: it must not be negative")
    if not norm_type > 0:
        raise ValueError(f"norm_type is {norm_type}: it must be positive")

    def update(updates, state, params=None):
        del params
        flat = jnp.concatenate([jnp.ravel(g) for g in jax.tree.leaves(updates)])
        factor = max_norm / (jnp.linalg.norm(flat, norm_type) + 1e-6)
        return jax.tree.map(lambda g: g * jnp.minimum(factor, 1).astype(g.dtype), updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def grouped(
    make: Callable[..., optax.GradientTransformation],
    groups: Mapping[str, Mapping[str, Any]],
    **keywords: Any,
) -> optax.GradientTransformation:
    """One optimizer with other keywords for some parameters: no decay of biases, say.

    `grouped(adamw, {"bias$": {"weight_decay": 0.0}}, lr=1e-3)`

    Args:
      make: the optimizer.
      groups: regular expression on a parameter's name -> keywords; the first that is found in the
        name counts. A name is the path joined by dots ("fc1.kernel"; torch: "fc1.weight").
      keywords: what all groups share.

    torch: a list of `param_groups`, dicts that an optimizer reads.
    """
    names = {str(i): pattern for i, pattern in enumerate(groups)}

    def labels(params):
        def label(path, _):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            return next((i for i, pattern in names.items() if re.search(pattern, name)), "rest")

        return jax.tree_util.tree_map_with_path(label, params)

    makes = {i: make(**{**keywords, **groups[pattern]}) for i, pattern in names.items()}
    return optax.partition({**makes, "rest": make(**keywords)}, labels)


def accumulated_step(
    state: TrainState, inputs: tuple, targets: tuple, loss: Callable, parts: int = 1
) -> tuple[TrainState, jax.Array]:
    """One update from a batch that is too large for one pass: the mean gradient of its parts.

    Equal to the step on the whole batch where the loss is a mean over examples and no layer mixes
    them (batch norm does). `optax.MultiSteps` spreads the same over calls of `update`; it sums in
    float32 unless `accumulator_dtype` says otherwise.

    Args:
      state: parameters and optimizer state; without running statistics.
      inputs: what the model takes, each (N, ...).
      targets: what the loss takes after the outputs, each (N, ...).
      loss: loss(outputs, *targets) -> scalar, a mean over the examples.
      parts: K, which divides N.

    Returns:
      (state after the step, mean loss before it). torch: the loss; the model changes in place.

    Raises:
      ValueError: if `parts` does not divide the batch.
    """
    size = len(inputs[0])
    if parts < 1 or size % parts:
        raise ValueError(f"parts is {parts}: it must divide the batch of {size}")
    inputs, targets = jax.tree.map(
        lambda x: x.reshape(parts, size // parts, *x.shape[1:]), (inputs, targets)
    )

    def objective(params, inputs, targets):
        return loss(state.apply_fn({"params": params}, *inputs), *targets) / parts

    def add(total, part):
        return jax.tree.map(
            jnp.add, total, jax.value_and_grad(objective)(state.params, *part)
        ), None

    first = jax.tree.map(lambda x: x[0], (inputs, targets))
    others = jax.tree.map(lambda x: x[1:], (inputs, targets))
    start = jax.value_and_grad(objective)(state.params, *first)
    (value, grads), _ = jax.lax.scan(add, start, others)
    return state.apply_gradients(grads=grads), value
