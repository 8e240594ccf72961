"""Every product of two vectors or matrices."""

from compare.twins.linalg import together

products = together(
    "linalg/products",
    {
        "inner": ((5,), (5,)),
        "outer": ((3,), (4,)),
        "hadamard": ((2, 3), (2, 3)),
        "matmul": ((3, 4), (4, 2)),
        "matmul_by_columns": ((3, 4), (4, 2)),
        "matmul_by_outer": ((3, 4), (4, 2)),
        "kronecker": ((2, 3), (3, 2)),
    },
)
