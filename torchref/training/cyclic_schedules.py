"""Learning-rate schedules that turn back: torch's own.

Cosines, triangles and the one cycle, and the last stretch of weight averaging. `cyclic_lr` and
`one_cycle_lr` also turn the optimizer's momentum the other way, unless `cycle_momentum=False`.
"""

from torch.optim.lr_scheduler import CosineAnnealingLR as cosine_annealing_lr
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts as cosine_annealing_warm_restarts
from torch.optim.lr_scheduler import CyclicLR as cyclic_lr
from torch.optim.lr_scheduler import OneCycleLR as one_cycle_lr
from torch.optim.swa_utils import SWALR as swa_lr

__all__ = [
    "cosine_annealing_lr",
    "cosine_annealing_warm_restarts",
    "cyclic_lr",
    "one_cycle_lr",
    "swa_lr",
]
