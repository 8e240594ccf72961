"""Every function of draws in one program, each on its own; JAX's kernels transposed."""

from compare import Array
from compare.twins import functions, own


@functions("layers/defaults", u=Array((4, 6, 4)), z=Array((5, 4)))
def defaults(module, u, z):
    kernel = own(module, u[0])
    return {
        "linear_weight": own(module, module.linear_weight(kernel)),
        "linear_bias": module.linear_bias(u[1, :, 0], kernel.shape),
        "bilinear": module.bilinear(u[2], 3),
        "embedding": module.embedding(z, padding_idx=1),
        "recurrent": module.recurrent(u[3], 3),
    }
