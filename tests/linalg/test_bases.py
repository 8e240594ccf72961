"""Echelon forms, ranks, column and null spaces: by what defines them."""

import functools

import numpy as np
import pytest

from tests.linalg.matrices import SIDES, SQUARE, error, run, size

# A zero column before the pivots, one between, one that depends on others; and its transpose.
STAIRS = np.array([[0, 2, 4, 1, 3.0], [0, 1, 2, 5, 6], [0, 3, 6, 6, 9], [0, 0, 0, 0, 0]])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("a", [STAIRS, STAIRS.T, *SQUARE.values(), np.zeros((0, 3))])
def test_bases(side, a):
    # An elimination judges ranks less surely than singular values do.
    options = {"tol": 1e-12} if a is SQUARE["deficient"] else {}
    call = functools.partial(run, side, "bases", **options)
    form, pivots = call("reduced_row_echelon", a)
    wanted = np.linalg.matrix_rank(a) if a.size else 0
    assert call("rank", a) == pivots.sum() == wanted
    assert (form[:, pivots] == np.eye(len(a))[:, :wanted]).all()
    assert (form[wanted:] == 0).all()
    scale = max(1, size(form))
    columns = call("column_space", a)
    # A = (its pivot columns) (the rows of its form), and the null space is orthogonal to the rows.
    assert error(columns[:, pivots] @ form[:wanted], a, size(a) * scale) < 16
    null = call("null_space", a)
    assert (null[:, pivots] == 0).all()
    assert (null[:, ~pivots][~pivots] == np.eye((~pivots).sum())).all()
    assert error(a @ null, np.zeros(a.shape), size(a) * scale) < 16
