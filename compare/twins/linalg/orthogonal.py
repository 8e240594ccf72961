"""Projections, and the three ways to an orthogonal basis."""

from compare.twins.linalg import together

orthogonal = together(
    "linalg/orthogonal",
    {
        "project": ((4,), (4,)),
        "classical_gram_schmidt": ((5, 3),),
        "modified_gram_schmidt": ((5, 3),),
        "householder_qr": ((3, 5),),
        "projector": ((5, 3),),
    },
)
