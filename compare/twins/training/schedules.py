"""The first rates of each schedule."""

from compare import Array
from compare.twins import functions
from compare.twins.training import rates


@functions("training/schedules", scale=Array(()))
def schedules(module, scale):
    found = {
        "lambda_lr": rates(module, "lambda_lr", lambda step: 1 / (1.0 + step)),
        "multiplicative_lr": rates(module, "multiplicative_lr", lambda step: 1 - 1 / (2.0 + step)),
        "step_lr": rates(module, "step_lr", 3, 0.7),
        "multi_step_lr": rates(module, "multi_step_lr", [2, 5, 5], gamma=0.3),
        "constant_lr": rates(module, "constant_lr"),
        "linear_lr": rates(module, "linear_lr"),
        "exponential_lr": rates(module, "exponential_lr", 0.9),
        "polynomial_lr": rates(module, "polynomial_lr", 7, 2.0),
    }
    return {name: scale * values for name, values in found.items()}
