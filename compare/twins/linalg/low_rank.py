"""What is made of a singular value decomposition."""

from compare.twins.linalg import together

low_rank = together(
    "linalg/low_rank",
    {
        "low_rank": ((5, 4),),
        "randomised_svd": ((5, 4), (4, 2)),
        "pca": ((5, 3),),
        "pseudo_inverse": ((4, 3),),
    },
    {"low_rank": {"rank": 2}, "pca": {"components": 2}},
)
