"""Determinants and cofactors."""

from compare.twins.linalg import together

determinants = together(
    "linalg/determinants",
    {
        "determinant": ((4, 4),),
        "cofactors": ((3, 3),),
        "laplace": ((3, 3),),
    },
)
