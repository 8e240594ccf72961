"""Gram-Schmidt, Householder and projections: by residual and orthogonality."""

import functools

import numpy as np
import pytest

from tests.linalg.matrices import (
    EPS,
    REGULAR,
    SIDES,
    TALL,
    error,
    rotated,
    run,
    skew,
)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", TALL)
def test_orthogonal(side, name):
    a = TALL[name]
    call = functools.partial(run, side, "orthogonal")
    for shaped in (a, a.T):
        q, r = call("householder_qr", shaped)
        assert skew(q) < 8
        assert error(q @ r, shaped) < 8
        assert (np.tril(r, -1) == 0).all()
    if name in REGULAR:
        condition = np.linalg.cond(a) if a.size else 1
        for method, power in (("classical_gram_schmidt", 2), ("modified_gram_schmidt", 1)):
            q, r = call(method, a)
            assert error(q @ r, a) < 8
            assert skew(q) < 8 * min(condition**power, 1 / EPS)
            assert (np.diagonal(r) > 0).all()
            assert (np.tril(r, -1) == 0).all()
        p, u = call("projector", a), np.linalg.svd(a, full_matrices=False)[0]
        # The space itself moves by eps times the condition.
        assert error(p, u @ u.T) < 8 * condition


def test_modified_gram_schmidt_is_the_better_one():
    ill = rotated(np.logspace(0, -7, 5), 8, 5)
    for side in SIDES:
        classical, modified, householder = (
            skew(run(side, "orthogonal", name, ill)[0])
            for name in ("classical_gram_schmidt", "modified_gram_schmidt", "householder_qr")
        )
        assert classical > 100 * modified > 1e4 * householder


@pytest.mark.parametrize("side", SIDES)
def test_project(side, normal):
    b, a = normal(0, 2, 5)
    found = run(side, "orthogonal", "project", b, a)
    assert error(found, np.outer(a, a) @ b / (a @ a), float(np.linalg.norm(b))) < 8
    assert np.isnan(run(side, "orthogonal", "project", b, np.zeros(5))).all()
