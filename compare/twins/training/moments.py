"""Eight updates of each optimizer from the same gradients: RAdam rectifies after the fifth."""

from compare import Array
from compare.twins import functions
from compare.twins.training import updated


@functions("training/moments", p=Array((3, 4)), g=Array((8, 3, 4)))
def moments(module, p, g):
    return {name: updated(module, name, p, g, lr=0.1, weight_decay=0.1) for name in module.__all__}
