"""Averages of the weights themselves: of all steps (ASGD, SWA), or of the latest (EMA).

The average is evaluated, the weights are trained. `asgd` keeps its average as `state[p]["ax"]`.
`AveragedModel(model, avg_fn=get_ema_avg_fn(0.999))` holds a copy of the model, which
`update_parameters(model)` changes in place; `torch.optim.swa_utils.update_bn` takes the statistics
of batch norm anew. optax's `ema` averages updates, and starts from zero with a correction.
"""

from torch.optim import ASGD as asgd
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_swa_avg_fn

__all__ = ["asgd", "get_ema_avg_fn", "get_swa_avg_fn", "AveragedModel"]
