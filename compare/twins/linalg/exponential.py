"""Two exponentials of a matrix; the second is large enough to be scaled."""

import numpy as np

from compare.twins.linalg import together

_large = np.float32(4 * np.random.default_rng(0).standard_normal((3, 3)))

exponential = together(
    "linalg/exponential",
    {"taylor_exponential": ((3, 3),), "matrix_exponential": (_large,)},
    {"taylor_exponential": {"terms": 12}},
)
