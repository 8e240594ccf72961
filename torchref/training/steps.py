"""One step of training, one of evaluation: the model and the optimizer change in place."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

__all__ = ["train_step", "eval_step"]


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: tuple,
    targets: tuple,
    loss: Callable,
) -> torch.Tensor:
    """Gradient of the loss in training mode, one optimizer update, new running statistics.

    Args:
      model: holds parameters and buffers; is put into training mode. jax: part of `state`.
      optimizer: holds the optimizer state of the model's parameters. jax: part of `state`.
      inputs: what the model takes, in call order.
      targets: what the loss takes after the outputs.
      loss: loss(outputs, *targets) -> scalar.

    Returns:
      The loss before the step. jax: (new state, loss).
    """
    model.train()
    optimizer.zero_grad()
    value = loss(model(*inputs), *targets)
    value.backward()
    optimizer.step()
    return value.detach()


@torch.no_grad()
def eval_step(
    model: nn.Module, inputs: tuple, targets: tuple, loss: Callable
) -> tuple[Any, torch.Tensor]:
    """Outputs and loss in evaluation mode, with the running statistics.

    Args:
      model: is put into evaluation mode.
      inputs: what the model takes, in call order.
      targets: what the loss takes after the outputs.
      loss: loss(outputs, *targets) -> scalar.

    Returns:
      (outputs, loss).
    """
    model.eval()
    outputs = model(*inputs)
    return outputs, loss(outputs, *targets)
