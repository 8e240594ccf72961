"""The first rates of each schedule."""

from compare import Array
from compare.twins import functions
from compare.twins.training import rates


@functions("training/schedules", scale=Array(()))
def schedules(module, scale):
    return {
        "lambda_lr": rates(module, scale, "lambda_lr", lambda step: 1 / (1.0 + step)),
        "multiplicative_lr": rates(
            module, scale, "multiplicative_lr", lambda step: 1 - 1 / (2.0 + step)
        ),
        "step_lr": rates(module, scale, "step_lr", 3, 0.7),
        "multi_step_lr": rates(module, scale, "multi_step_lr", [2, 5, 5], gamma=0.3),
        "constant_lr": rates(module, scale, "constant_lr"),
        "linear_lr": rates(module, scale, "linear_lr"),
        "exponential_lr": rates(module, scale, "exponential_lr", 0.9),
        "polynomial_lr": rates(module, scale, "polynomial_lr", 7, 2.0),
    }
