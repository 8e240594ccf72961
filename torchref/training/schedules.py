"""Learning-rate schedules that go one way: torch.optim.lr_scheduler's own.

A scheduler holds the optimizer, and overwrites its rate at each `step()`, which follows
`optimizer.step()`; the rate `lr` is the optimizer's own. jax: functions step -> rate. Those that
turn back are in `cyclic_schedules.py`, the one that reads a metric in `plateau.py`.
"""

from torch.optim.lr_scheduler import ChainedScheduler as chained_scheduler
from torch.optim.lr_scheduler import ConstantLR as constant_lr
from torch.optim.lr_scheduler import ExponentialLR as exponential_lr
from torch.optim.lr_scheduler import LambdaLR as lambda_lr
from torch.optim.lr_scheduler import LinearLR as linear_lr
from torch.optim.lr_scheduler import MultiplicativeLR as multiplicative_lr
from torch.optim.lr_scheduler import MultiStepLR as multi_step_lr
from torch.optim.lr_scheduler import PolynomialLR as polynomial_lr
from torch.optim.lr_scheduler import SequentialLR as sequential_lr
from torch.optim.lr_scheduler import StepLR as step_lr

__all__ = [
    "lambda_lr",
    "multiplicative_lr",
    "step_lr",
    "multi_step_lr",
    "constant_lr",
    "linear_lr",
    "exponential_lr",
    "polynomial_lr",
    "sequential_lr",
    "chained_scheduler",
]
