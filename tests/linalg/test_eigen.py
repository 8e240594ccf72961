"""Eigenvalues by Jacobi's rotations and by iterations."""

import functools

import numpy as np
import pytest

from tests.linalg.matrices import SIDES, error, run, size, skew

SYMMETRIC = {
    "well": lambda q: q * [5, 4, 3, -1, -2] @ q.T,
    "ill": lambda q: q * [1, 1e-3, 1e-6, -1e-9, 1e-12] @ q.T,
    "repeated": lambda q: q * [2, 2, 2, 1, 1] @ q.T,
    "deficient": lambda q: q * [2, 1, 0, 0, 0] @ q.T,
    "diagonal": lambda q: np.diag([1.0, 3, 2, 3, 0]),
    "one": lambda q: np.array([[-2.0]]),
    "empty": lambda q: np.zeros((0, 0)),
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", SYMMETRIC)
def test_jacobi_eigh(side, name, normal):
    q, _ = np.linalg.qr(normal(0, 5, 5))
    a = SYMMETRIC[name](q)
    a = (a + a.T) / 2
    values, vectors = run(side, "eigen", "jacobi_eigh", a)
    assert error(values, np.linalg.eigvalsh(a), size(a)) < 8
    assert skew(vectors) < 16
    assert error(vectors * values @ vectors.T, a) < 16


@pytest.mark.parametrize("side", SIDES)
def test_iterations_converge(side, normal):
    call = functools.partial(run, side, "eigen")
    q, _ = np.linalg.qr(normal(0, 4, 4))
    values, v = np.array([8, -4, 2, 1.0]), normal(1, 4)
    a = q * values @ q.T
    wanted = {"power_iteration": (0, {"steps": 60})}
    wanted |= {"inverse_iteration": (2, {"shift": 1.8, "steps": 30})}
    for name, (k, options) in wanted.items():
        value, vector = call(name, a, v, **options)
        assert error(value, values[k], 8) < 8, name
        # A vector is unique up to its sign: its projector is compared.
        assert error(np.outer(vector, vector), np.outer(q[:, k], q[:, k])) < 16, name
    t, basis = call("qr_iteration", a, steps=60)
    assert error(t, np.diag(values)) < 32
    assert skew(basis) < 64
    assert error(basis @ t @ basis.T, a) < 128
    triangular = np.triu(normal(2, 4, 4), 1) + np.diag(values)
    t, _ = call("qr_iteration", q @ triangular @ q.T, steps=60)
    assert error(np.diagonal(t), values, size(triangular)) < 256
    assert call("qr_iteration", np.zeros((0, 0)), steps=60)[0].shape == (0, 0)
