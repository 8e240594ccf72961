"""Iterations for eigenvalues, of a symmetric matrix where the iteration is for one.

A few steps each: the same iterates, converged or not.
"""

import numpy as np

from compare.twins.linalg import together

_basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))
_symmetric = np.float32(_basis * [7, 4, 2, -1] @ _basis.T)

eigen = together(
    "linalg/eigen",
    {
        "power_iteration": (_symmetric, (4,)),
        "inverse_iteration": (_symmetric, (4,)),
        "qr_iteration": (_symmetric,),
        "jacobi_eigh": (_symmetric,),
    },
    {
        "power_iteration": {"steps": 6},
        "inverse_iteration": {"shift": 1.5, "steps": 3},
        "qr_iteration": {"steps": 3},
        "jacobi_eigh": {"sweeps": 5},
    },
)
