"""Optimizers: torch.optim's own. Others: `adaptive.py`, `moments.py`, `averaging.py` (ASGD),
`second_order.py`.

They hold the parameters and change them in place: `sgd(model.parameters(), lr=0.1)`; the learning
rate is a float in `param_groups`, which a scheduler overwrites. `sgd` and `adam` add weight decay
to the gradient, `adamw` (default 1e-2) decays the parameters directly.
"""

from torch.optim import SGD as sgd
from torch.optim import Adam as adam
from torch.optim import AdamW as adamw

__all__ = ["sgd", "adam", "adamw"]
