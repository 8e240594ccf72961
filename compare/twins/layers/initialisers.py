"""Every function of draws in one program, each on its own; JAX's kernels transposed."""

from compare import Array
from compare.twins import functions, own

OF_UNIFORM = ("uniform", "trunc_normal", "xavier_uniform", "kaiming_uniform")
OF_NORMAL = ("normal", "xavier_normal", "kaiming_normal")


@functions("layers/initialisers", u=Array((4, 6, 4)), z=Array((3, 6, 4)))
def initialisers(module, u, z):
    u = 1 / (1 + u * u)  # uniform enough: between 0 and 1
    draws = {**dict(zip(OF_UNIFORM, u, strict=True)), **dict(zip(OF_NORMAL, z, strict=True))}
    return {
        name: own(module, getattr(module, name)(own(module, draw))) for name, draw in draws.items()
    }
