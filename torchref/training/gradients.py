"""What happens to gradients between the backward pass and the optimizer.

`clip_grad_value(parameters, clip_value)` and `clip_grad_norm(parameters, max_norm)` change the
gradients in place, between `backward()` and `step()`. jax: transformations, chained before the
optimizer.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_ as clip_grad_norm
from torch.nn.utils import clip_grad_value_ as clip_grad_value

__all__ = ["clip_grad_value", "clip_grad_norm", "grouped", "accumulated_step"]


def grouped(
    model: nn.Module,
    make: Callable[..., torch.optim.Optimizer],
    groups: Mapping[str, Mapping[str, Any]],
    **keywords: Any,
) -> torch.optim.Optimizer:
    """One optimizer with other keywords for some parameters: no decay of biases, say.

    `grouped(model, adamw, {"bias$": {"weight_decay": 0.0}}, lr=1e-3)`

    Args:
      model: holds the parameters. jax: `init` gets them.
      make: the optimizer.
      groups: regular expression on a parameter's name -> keywords; the first that is found in the
        name counts. A name is that of `named_parameters` ("fc1.weight"; jax: "fc1.kernel").
      keywords: what all groups share.

    jax: `optax.partition`, a transformation for every group.
    """
    members: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        found = next((pattern for pattern in groups if re.search(pattern, name)), "")
        members.setdefault(found, []).append(parameter)
    return make(
        [{"params": p, **groups.get(found, {})} for found, p in members.items()], **keywords
    )


def accumulated_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: tuple,
    targets: tuple,
    loss: Callable,
    parts: int = 1,
) -> torch.Tensor:
    """One update from a batch that is too large for one pass: the mean gradient of its parts.

    Equal to the step on the whole batch where the loss is a mean over examples and no layer mixes
    them (batch norm does). `backward` adds to the gradients that are there already.

    Args:
      model: holds the parameters. jax: part of `state`.
      optimizer: holds their state. jax: part of `state`.
      inputs: what the model takes, each (N, ...).
      targets: what the loss takes after the outputs, each (N, ...).
      loss: loss(outputs, *targets) -> scalar, a mean over the examples.
      parts: K, which divides N.

    Returns:
      The mean loss before the step. jax: (new state, loss).

    Raises:
      ValueError: if `parts` does not divide the batch.
    """
    size = len(inputs[0])
    if parts < 1 or size % parts:
        raise ValueError(f"parts is {parts}: it must divide the batch of {size}")
    optimizer.zero_grad()
    value = torch.zeros(())
    for part in zip(*(x.chunk(parts) for x in (*inputs, *targets)), strict=True):
        outputs = model(*part[: len(inputs)])
        fraction = loss(outputs, *part[len(inputs) :]) / parts
        fraction.backward()
        value = value + fraction.detach()
    optimizer.step()
    return value
