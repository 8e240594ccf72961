"""Determinants and cofactors, and their gradient where the determinant is zero."""

import numpy as np
import pytest

from tests.linalg.matrices import SIDES, SQUARE, error, gradients, run


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", SQUARE)
def test_determinants(side, name):
    a = SQUARE[name]
    found, expanded = (run(side, "determinants", f, a) for f in ("determinant", "laplace"))
    # Hadamard's bound on the determinant is the scale of its rounding errors.
    bound = float(np.prod(np.linalg.norm(a, axis=1)))
    assert error(found, np.linalg.det(a), bound) < 16
    assert error(expanded, np.linalg.det(a), bound) < 16
    adjugate = run(side, "determinants", "cofactors", a).T
    assert error(a @ adjugate, np.linalg.det(a) * np.eye(len(a)), bound) < 64


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["determinant", "laplace"])
def test_gradient_of_a_determinant_that_is_zero(side, name):
    """The matrix of cofactors, where the last pivot is missing; `torch.linalg.det` gives zeros."""
    (found,) = gradients(side, "determinants", name, lambda x: x, np.array([[1, 2.0], [2, 4]]))
    assert (found == [[4, -2], [-2, 1]]).all()
