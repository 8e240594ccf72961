"""Linear systems, triangular and general; the matrix of Cholesky's factor is positive definite."""

import numpy as np

from compare.twins.linalg import together

_normal = np.random.default_rng(0).standard_normal((4, 4))
_definite = np.float32(_normal @ _normal.T + np.eye(4))

elimination = together(
    "linalg/elimination",
    {
        "forward_substitution": (np.float32(_normal + 4 * np.eye(4)), (4, 2)),
        "back_substitution": (np.float32(_normal + 4 * np.eye(4)), (4, 2)),
        "gaussian_elimination": ((4, 4), (4, 2)),
        "lu": ((4, 4),),
        "cholesky": (_definite,),
    },
)
