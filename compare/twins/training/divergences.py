"""Every function of the file in one program, each on its own rows of x and y."""

from compare import Array
from compare.twins import functions


@functions("training/divergences", x=Array((5, 5, 4)), y=Array((5, 5, 4)))
def divergences(module, x, y):
    q, p = ((1 + z * z) / (1 + z * z).sum(-1)[..., None] for z in (x, y))
    return {
        "kl_div": module.kl_div(x[0], p[0], reduction="batchmean"),
        "js_div": module.js_div(q[1], p[1], reduction="batchmean"),
        "poisson_nll": module.poisson_nll(x[2], 4 * p[2], full=True),
        "gaussian_nll": module.gaussian_nll(x[3], y[3], q[4], reduction="none"),
    }
