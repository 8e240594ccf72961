"""Products from the definition, against NumPy's."""

import functools

import numpy as np
import pytest

from tests.linalg.matrices import SIDES, error, run, size


@pytest.mark.parametrize("side", SIDES)
def test_products(side, normal):
    x, y = normal(0, 2, 4)
    a, b = normal(1, 3, 4), normal(2, 4, 2)
    call = functools.partial(run, side, "products")
    # A sum's rounding errors are of the size of its terms: the sum itself may be far smaller.
    assert error(call("inner", x, y), np.inner(x, y), np.abs(x) @ np.abs(y)) < 8
    assert error(call("outer", x, y[:3]), np.outer(x, y[:3])) == 0
    assert error(call("hadamard", a, a), a * a) == 0
    for name in ("matmul", "matmul_by_columns", "matmul_by_outer"):
        assert error(call(name, a, b), a @ b, size(np.abs(a) @ np.abs(b))) < 8
    empty = np.zeros((3, 0)), np.zeros((0, 2))
    assert (call("matmul", *empty) == np.zeros((3, 2))).all()
    assert (call("matmul_by_outer", *empty) == np.zeros((3, 2))).all()
    assert error(call("kronecker", a, b), np.kron(a, b)) == 0
