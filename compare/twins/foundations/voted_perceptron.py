"""Vote, mean and pocket in one program: three passes over classes that no line separates."""

import numpy as np

from compare import Array
from compare.twins import functions


@functions(
    "foundations/voted_perceptron",
    weight=Array((2,)),
    bias=Array(()),
    x=Array((9, 2)),
    labels=np.tile([-1, 1, 1], 3),
    order=np.tile(np.arange(9), 4),
)
def voted_perceptron(module, weight, bias, x, labels, order):
    given = weight, bias, x, labels, order
    voted, averaged = module.voted_perceptron(*given), module.averaged_perceptron(*given)
    return {
        "voted": voted,
        "voted_predict": module.voted_predict(*voted, x),
        "averaged": averaged,
        "averaged_predict": module.averaged_predict(*averaged, x),
        "pocket": module.pocket_perceptron(*given),
    }
