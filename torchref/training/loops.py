"""What goes around the steps: when to stop, and with which learning rate to begin.

Splits into folds are indices only, the same for both frameworks: `compare.data.folds`.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn

from torchref.training.steps import train_step

__all__ = ["EarlyStopping", "lr_range_test", "suggest_lr"]

DIVERGED = 4  # times the lowest loss so far


class EarlyStopping:
    """Stop when the validation loss has not improved for a while, with the weights of its best.

    A loss improves if best - loss > min_delta; NaN never does. After `patience` evaluations in a
    row without improvement it is time to stop. To look at an accuracy, pass its negative.

    After each epoch `if stopping.update(loss, model): break`, and at the end
    `stopping.restore(model)`. jax: the same as pure functions of a state.

    Args:
      patience: evaluations without improvement that end the training, at least 1.
      min_delta: a gain that is not larger does not count; not negative.

    Raises:
      ValueError: if patience is less than 1 or min_delta negative.

    Reference:
      Prechelt, Early Stopping - But When?, 1998
    """

    def __init__(self, patience: int = 10, min_delta: float = 0.0) -> None:
        if patience < 1:
            raise ValueError(f"patience must be at least 1, and is {patience}")
        if min_delta < 0:
            raise ValueError(f"min_delta must not be negative, and is {min_delta}")
        self.patience, self.min_delta = patience, min_delta
        self.loss, self.waited = float("inf"), 0
        self.best: dict[str, torch.Tensor] = {}

    def update(self, loss: float, model: nn.Module) -> bool:
        """Looks at an evaluation's loss and keeps the model's weights and buffers if it improved.

        Returns: whether it is time to stop.
        """
        # jax: a traced condition selects leaf by leaf.
        if self.loss - loss > self.min_delta:
            self.loss, self.waited = float(loss), 0
            # state_dict holds the tensors themselves, which the next step changes
            self.best = copy.deepcopy(model.state_dict())
        else:
            self.waited += 1
        return self.waited >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Loads the best weights; without any improvement the model remains as it is."""
        if self.best:
            model.load_state_dict(self.best)


def lr_range_test(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[tuple[tuple, tuple]],
    loss: Callable,
    start: float = 1e-7,
    end: float = 10.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Trains one step per batch while the learning rate grows exponentially, and notes the losses.

    Step t of T takes start * (end / start)^(t / (T - 1)). The losses stay where they are, fall,
    and at some rate explode: the test ends there, before the loss that is NaN or more than four
    times the lowest one.

    Args:
      model, optimizer: are put back after the test; the optimizer's own rate does not matter. jax:
        a state whose optimizer has the learning rate 1.
      batches: (inputs, targets) for each step, at least two.
      loss: loss(outputs, *targets) -> scalar, positive.
      start, end: the rates of the first and the last step.

    Returns: rates and losses (before each step), float (S,) with S <= T.

    Raises:
      ValueError: if there are fewer than two batches, or not 0 < start < end.

    Reference:
      Smith, Cyclical Learning Rates for Training Neural Networks, 2015,
      https://arxiv.org/abs/1506.01186
    """
    if len(batches) < 2:
        raise ValueError(f"batches must be at least two, not {len(batches)}")
    if not 0 < start < end:
        raise ValueError(f"start must lie between 0 and end {end}, and is {start}")
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    training, rates, losses = model.training, [], []
    try:
        for step, (inputs, targets) in enumerate(batches):
            rate = start * (end / start) ** (step / (len(batches) - 1))
            for group in optimizer.param_groups:
                group["lr"] = rate
            value = train_step(model, optimizer, inputs, targets, loss)
            if not value <= DIVERGED * min(losses, default=float("inf")):
                break
            rates.append(rate)
            losses.append(value.item())
    finally:
        model.load_state_dict(before[0])
        optimizer.load_state_dict(before[1])
        optimizer.zero_grad()
        model.train(training)
    dtype = next(model.parameters()).dtype
    return torch.tensor(rates, dtype=dtype), torch.tensor(losses, dtype=dtype)


def suggest_lr(rates: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    """The rate at which the loss falls most steeply against log(rate).

    Args:
      rates, losses: of `lr_range_test`, float (S,) with S at least 2; noisy losses are better
        smoothed before.

    Returns: one of the rates, float ().

    Raises:
      ValueError: if there are fewer than two losses.
    """
    if len(losses) < 2:
        raise ValueError(f"losses must be at least two, not {len(losses)}")
    # dloss / dlog(rate) by central differences, one-sided at the ends
    (slope,) = torch.gradient(losses, spacing=(rates.log(),))
    return rates[slope.argmin()]
