"""Substitution, elimination, LU and Cholesky: by their residuals."""

import functools

import numpy as np
import pytest

from tests.linalg.matrices import REGULAR, SIDES, SQUARE, error, run, size


@pytest.mark.parametrize("side", SIDES)
def test_substitution_and_elimination(side, normal):
    call = functools.partial(run, side, "elimination")
    for name in REGULAR:
        a = SQUARE[name]
        for b in (a.sum(1), normal(0, len(a), 2)):
            x = call("gaussian_elimination", a, b)
            assert error(a @ x, b, size(a) * size(x) + size(b)) < 8, name
        spoilt = np.where(np.tri(len(a)) == 1, a, np.nan)
        x = call("forward_substitution", spoilt, b)
        assert error(np.tril(a) @ x, b, size(a) * size(x) + size(b)) < 8, name
        x = call("back_substitution", spoilt.T, b)
        assert error(np.tril(a).T @ x, b, size(a) * size(x) + size(b)) < 8, name
    singular = call("gaussian_elimination", SQUARE["zero"], np.ones(5))
    assert not np.isfinite(singular).any()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", SQUARE)
def test_lu_and_cholesky(side, name):
    a = SQUARE[name]
    p, l, u = run(side, "elimination", "lu", a)
    assert sorted(p) == list(range(len(a)))
    assert error(l @ u, a[p]) < 8
    assert size(l) <= 1
    assert (np.triu(l) == np.eye(len(a))).all()
    assert (np.tril(u, -1) == 0).all()
    if name in REGULAR:
        definite = a @ a.T + np.eye(len(a))
        l = run(side, "elimination", "cholesky", np.where(np.tri(len(a)) == 1, definite, np.nan))
        assert error(l @ l.T, definite) < 8
        assert (np.triu(l, 1) == 0).all()
    indefinite = -np.eye(5)
    assert np.isnan(run(side, "elimination", "cholesky", indefinite)).any()
