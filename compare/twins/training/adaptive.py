"""Three updates of each optimizer from the same gradients."""

from compare import Array
from compare.twins import functions
from compare.twins.training import updated


@functions("training/adaptive", p=Array((3, 4)), g=Array((3, 3, 4)))
def adaptive(module, p, g):
    rmsprop = {"lr": 0.1, "momentum": 0.9, "centered": True}
    return {
        "adagrad": updated(module, "adagrad", p, g, lr=0.1, lr_decay=0.1, weight_decay=0.1),
        "adadelta": updated(module, "adadelta", p, g, weight_decay=0.1),
        "rmsprop": updated(module, "rmsprop", p, g, **rmsprop),
        "rprop": updated(module, "rprop", p, g, lr=0.1),
    }
