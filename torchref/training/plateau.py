"""A learning rate that falls when a metric no longer improves: torch's own.

`scheduler.step(metrics)` after each epoch. jax: `state = plateau.update(state, metrics=metrics)`.
"""

from torch.optim.lr_scheduler import ReduceLROnPlateau as reduce_lr_on_plateau

__all__ = ["reduce_lr_on_plateau"]
