"""Singular values by Jacobi and by Golub and Kahan, of matrices of every kind."""

import numpy as np
import pytest

from tests.linalg.matrices import SHAPED, SIDES, TALL, error, rotated, run, size, skew


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("a", SHAPED)
@pytest.mark.parametrize("name", ["jacobi_svd", "golub_kahan_svd"])
def test_svd(side, a, name):
    u, s, vh = run(side, "svd", name, a)
    assert error(s, np.linalg.svd(a, compute_uv=False), size(a)) < 8
    assert error(u * s @ vh, a) < 16
    # Jacobi leaves to chance what belongs to a singular value of rounding size.
    known = np.ones(len(s), bool) if name == "golub_kahan_svd" else s > 1e-8 * size(s)
    assert skew(u[:, known]) < 16
    assert skew(vh[known].T) < 16


@pytest.mark.parametrize("name", ["jacobi_svd", "golub_kahan_svd"])
def test_svd_at_thirty_columns(name):
    """As many sweeps and steps as are promised; compiled, for a Python loop takes seconds."""
    for values in (np.logspace(0, -14, 30), np.repeat([1, 1e-3, 1e-6], 10)):
        u, s, vh = run("jax", "svd", name, rotated(values, 30, 30))
        assert error(s, values) < 8
        assert max(skew(u), skew(vh.T)) < 8


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", TALL)
def test_bidiagonalise(side, name):
    a = TALL[name]
    m, n = a.shape
    whole = run(side, "svd", "bidiagonalise", a)
    b, u, v = whole[:m, :n], whole[:m, n:].T, whole[m:, :n]
    assert error(b, np.triu(np.tril(b, 1)), size(a)) < 16
    assert error(u @ b @ v.T, a) < 16
    assert max(skew(u), skew(v)) < 16
