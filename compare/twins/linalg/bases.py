"""Bases of a matrix of rank two, whose third column depends on the first two."""

import numpy as np

from compare.twins.linalg import together

# Whole numbers: what is zero is zero in float32, too.
_deficient = np.array([[2, 1, 3, 1], [5, 3, 8, -1], [9, 5, 14, 1]], np.float32)

bases = together(
    "linalg/bases",
    {
        "reduced_row_echelon": (_deficient,),
        "rank": (_deficient,),
        "column_space": (_deficient,),
        "null_space": (_deficient,),
    },
)
