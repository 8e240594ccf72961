"""Averages of weights: ASGD's updates, and an average of two after three."""

from compare import Array
from compare.twins import functions
from compare.twins.training import constant, updated


@functions("training/averaging", p=Array((3, 4)), g=Array((3, 3, 4)))
def averaging(module, p, g):
    p, g = constant(module, p, g)  # torch averages without a gradient
    return {
        "asgd": updated(module, "asgd", p, g, lr=0.1, lambd=0.1, t0=1, weight_decay=0.1),
        "ema": module.get_ema_avg_fn(0.9)(p, g[0], 3),
        "swa": module.get_swa_avg_fn()(p, g[1], 3),
    }
