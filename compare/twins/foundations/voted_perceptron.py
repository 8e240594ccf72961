"""Vote, mean and pocket in one program: two passes over classes that no line separates."""

import numpy as np

from compare import Array
from compare.twins import functions


@functions(
    "foundations/voted_perceptron",
    weight=Array((5,)),
    bias=Array(()),
    x=Array((12, 5)),
    labels=np.tile([-1, 1, 1], 4),
    order=np.tile(np.arange(12), 2),
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
