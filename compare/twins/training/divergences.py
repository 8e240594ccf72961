"""Every function of the file in one program, each on its own rows of x and y."""

import importlib
from collections.abc import Callable
from functools import partial

from compare import Array, Twin


def every(package: str) -> Callable:
    """The functions of one side, as one."""
    module = importlib.import_module(f"{package}.training.divergences")

    def call(x, y):
        q, p = ((1 + z * z) / (1 + z * z).sum(-1)[..., None] for z in (x, y))
        return {
            "kl_div": module.kl_div(x[0], p[0], reduction="batchmean"),
            "js_div": module.js_div(q[1], p[1], reduction="batchmean"),
            "poisson_nll": module.poisson_nll(x[2], 4 * p[2], full=True),
            "gaussian_nll": module.gaussian_nll(x[3], y[3], q[4], reduction="none"),
        }

    return call


divergences = Twin(
    torch=partial(every, "torchref"),
    jax=partial(every, "jaxnn"),
    inputs={"x": Array((5, 5, 4)), "y": Array((5, 5, 4))},
)
