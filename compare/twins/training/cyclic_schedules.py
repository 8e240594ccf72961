"""The first rates of each schedule."""

from compare import Array
from compare.twins import functions
from compare.twins.training import rates


@functions("training/cyclic_schedules", scale=Array(()))
def cyclic_schedules(module, scale):
    restarts = "cosine_annealing_warm_restarts"
    return {
        "cosine_annealing_lr": rates(module, scale, "cosine_annealing_lr", 5, 0.01),
        "cosine_annealing_warm_restarts": rates(module, scale, restarts, 3, 2),
        "cyclic_lr": rates(module, scale, "cyclic_lr", 0.1, 0.5, 3, mode="triangular2"),
        "one_cycle_lr": rates(module, scale, "one_cycle_lr", 0.5, 12),
        "swa_lr": rates(module, scale, "swa_lr", 0.05, 4),
    }
