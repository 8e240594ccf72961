"""Low-rank approximation, principal components and the pseudo-inverse."""

import functools

import numpy as np
import pytest

from tests.linalg.matrices import EPS, SHAPED, SIDES, error, rotated, run, size, skew


@pytest.mark.parametrize("side", SIDES)
def test_low_rank(side, normal):
    call = functools.partial(run, side, "low_rank")
    a = rotated([4, 3, 2, 1], 6, 4)
    values = np.array([4, 3, 2, 1])
    for rank in (0, 2, 4):
        best = call("low_rank", a, rank=rank)
        assert error(np.linalg.svd(a - best)[1][0], np.append(values, 0)[rank], 4) < 64
        assert np.linalg.matrix_rank(best) == rank
    # Of a matrix of rank 2, three random directions find all.
    deficient = rotated([3, 1], 6, 4)
    u, s, vh = call("randomised_svd", deficient, normal(0, 4, 3))
    assert error(u * s @ vh, deficient) < 16
    assert max(skew(u), skew(vh.T)) < 16
    assert (vh.max(1) >= -vh.min(1)).all()
    # Power steps turn what is found towards the leading directions.
    omega = normal(0, 4, 2)
    errors = [
        np.linalg.norm(a - (u * s) @ vh, 2)
        for u, s, vh in (call("randomised_svd", a, omega, power=power) for power in (0, 40))
    ]
    assert errors[0] > 2.01 > errors[1] > 1.99


@pytest.mark.parametrize("side", SIDES)
def test_pca(side, normal):
    x = normal(0, 8, 3) * [1, 2, 4] + 5
    mean, directions, variances = run(side, "low_rank", "pca", x, components=2)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    assert error(mean, x.mean(0)) < 8
    assert error(variances, values[:0:-1]) < 16
    for found, wanted in zip(directions, vectors.T[:0:-1], strict=True):
        assert error(np.outer(found, found), np.outer(wanted, wanted)) < 64
        assert found.max() > -found.min()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("a", SHAPED)
def test_pseudo_inverse(side, a):
    inverse = run(side, "low_rank", "pseudo_inverse", a)
    # Penrose's equations define it. The scale: A+ moves by eps |A+|^2 |A|.
    p, q = a @ inverse, inverse @ a
    condition = max(1, size(a) * size(inverse))
    assert error(p @ a, a, size(a) * condition) < 32
    assert error(q @ inverse, inverse, size(inverse) * condition) < 32
    assert error(p, p.T, condition) < 32
    assert error(q, q.T, condition) < 32
    if a.size:
        assert (
            error(inverse, np.linalg.pinv(a, rcond=max(a.shape) * EPS), size(inverse) * condition)
            < 64
        )
