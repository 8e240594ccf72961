"""The functions of draws in one program, each on its own; JAX's kernels transposed."""

import numpy as np

from compare import Array
from compare.twins import functions, own


@functions("layers/structured", order=np.arange(24).reshape(6, 4) * 7 % 24, z=Array((3, 6, 4)))
def structured(module, order, z):
    tall, wide, sparse = (own(module, matrix) for matrix in (z[0], z[1].T, z[2]))
    made = {
        "tall": module.orthogonal(tall),
        "wide": module.orthogonal(wide, gain=2.0),
        "sparse": module.sparse(sparse, own(module, order), sparsity=0.3),
    }
    return {name: own(module, weight) for name, weight in made.items()}
