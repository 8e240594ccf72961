"""Adam's relatives: another norm, another momentum, another start. torch.optim's own.

`nadam` keeps the product of its momenta in the default dtype, float32 even for float64 parameters
unless `torch.set_default_dtype(torch.float64)`. optax's `nadam` keeps the momentum constant, its
`radam` places eps after the correction and rectifies from a length of exactly 5 on.
"""

from torch.optim import Adamax as adamax
from torch.optim import NAdam as nadam
from torch.optim import RAdam as radam

__all__ = ["adamax", "nadam", "radam"]
