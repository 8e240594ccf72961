"""Every regulariser in one program; the critic and the encoder are products of arrays."""

from compare import Array
from compare.twins import functions


@functions(
    "training/regularisers",
    x=Array((5, 6, 4)),
    weight=Array((3, 4)),
    bias=Array((3,)),
    alpha=Array((6,)),
)
def regularisers(module, x, weight, bias, alpha):
    params = [3 * weight, 2 * bias]
    inside = 1 / (1 + x[0] ** 2)  # a sigmoid's range

    def f(x):
        return (weight @ x) ** 2 + bias

    given = {
        "l1_penalty": (params, 0.3),
        "l2_penalty": (params, 0.2),
        "elastic_net_penalty": (params, 0.3, 0.7),
        "soft_threshold": (x[1], 0.6),
        "proximal_step": (params, [weight**2, bias**2], 0.1, 0.5),
        "sparsity_penalty": (inside, 0.1),
        "jacobian_penalty": (f, x[2]),
        "contractive_penalty": (inside[:, :3], weight),
        "gradient_penalty": (lambda x: ((x @ weight.T) ** 3).sum(1), x[3], x[4], alpha),
    }
    return {name: getattr(module, name)(*given[name]) for name in module.__all__}
