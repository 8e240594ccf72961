"""Three updates of each optimizer from the same gradients."""

from compare import Array
from compare.twins import functions
from compare.twins.training import updated


@functions("training/optimizers", p=Array((3, 4)), g=Array((3, 3, 4)))
def optimizers(module, p, g):
    sgd = {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1}
    return {
        "sgd": updated(module, "sgd", p, g, **sgd),
        "adam": updated(module, "adam", p, g, lr=0.1, weight_decay=0.1, amsgrad=True),
        "adamw": updated(module, "adamw", p, g, lr=0.1, weight_decay=0.1),
    }
