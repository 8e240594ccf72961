"""Shapes that do not fit are refused by name, on both sides."""

import numpy as np
import pytest

from tests.linalg.matrices import SIDES, run

BAD = [
    ("products", "inner", ((2,), (3,)), "y must"),
    ("products", "outer", ((2,), (3, 1)), "y must"),
    ("products", "hadamard", ((2, 2), (2, 3)), "b must"),
    ("products", "matmul", ((2, 3), (2, 3)), "b must"),
    ("products", "matmul_by_outer", ((2, 3), (3,)), "b must"),
    ("products", "kronecker", ((2,), (2, 2)), "a must"),
    ("elimination", "forward_substitution", ((2, 3), (2,)), "l must"),
    ("elimination", "back_substitution", ((2, 2), (3,)), "b must"),
    ("elimination", "gaussian_elimination", ((2, 2), (3,)), "b must"),
    ("elimination", "lu", ((2, 3),), "a must"),
    ("elimination", "cholesky", ((2,),), "a must"),
    ("bases", "rank", ((2,),), "a must"),
    ("determinants", "cofactors", ((2, 3),), "a must"),
    ("orthogonal", "project", ((2,), (3,)), "a must"),
    ("orthogonal", "projector", ((2, 3),), "a must"),
    ("eigen", "power_iteration", ((2, 2), (3,)), "v must"),
    ("eigen", "jacobi_eigh", ((2, 3),), "a must"),
    ("svd", "jacobi_svd", ((2,),), "a must"),
    ("svd", "golub_kahan_svd", ((2,),), "a must"),
    ("low_rank", "randomised_svd", ((4, 3), (3, 4)), "omega must"),
    ("low_rank", "pseudo_inverse", ((2,),), "a must"),
    ("exponential", "matrix_exponential", ((2, 3),), "a must"),
]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("room", "name", "shapes", "message"), BAD)
def test_bad_arguments(side, room, name, shapes, message):
    with pytest.raises(ValueError) as raised:
        run(side, room, name, *map(np.ones, shapes))
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("side", SIDES)
def test_a_rank_out_of_range(side):
    with pytest.raises(ValueError, match=r"^rank must be 0 to 3, not 4"):
        run(side, "low_rank", "low_rank", np.ones((3, 5)), rank=4)
    with pytest.raises(ValueError, match=r"^components must be 0 to 3, not -1"):
        run(side, "low_rank", "pca", np.ones((3, 5)), components=-1)
