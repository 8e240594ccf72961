"""Two singular value decompositions, of a matrix whose singular values stand apart."""

import numpy as np

from compare.twins.linalg import together

_left, _, _right = np.linalg.svd(np.random.default_rng(0).standard_normal((4, 3)), False)
_apart = np.float32(_left * [9, 3, 1] @ _right)

svd = together(
    "linalg/svd",
    {"jacobi_svd": (_apart,), "golub_kahan_svd": (_apart,)},
    {"jacobi_svd": {"sweeps": 5}},
)
