"""Gradients of the factorisations are those of the mathematics."""

import functools

import numpy as np
import scipy.linalg
import torch

from compare.share import to_numpy, to_torch
from tests.linalg.matrices import SQUARE, TALL, error, gradients, size


def test_gradients_are_those_of_the_mathematics(normal):
    """Of the one side: that JAX's are the same is what the twins' checks hold."""
    of = functools.partial(gradients, "torch")
    a, b = SQUARE["well"], normal(0, 5)
    inverse = np.linalg.inv(a)
    d_a, d_b = of("elimination", "gaussian_elimination", lambda x: x.sum(), a, b)
    wanted = inverse.T @ np.ones(5)
    assert error(d_b, wanted) < 32
    assert error(d_a, -np.outer(wanted, inverse @ b)) < 32
    # d det A / d A = det(A) A^-T
    (found,) = of("determinants", "determinant", lambda x: x, a)
    assert error(found, np.linalg.det(a) * inverse.T) < 32
    # d l_k / d A = v_k v_k^T
    symmetric = (a + a.T) / 2
    (found,) = of("eigen", "jacobi_eigh", lambda x: x[0][-1], symmetric)
    v = np.linalg.eigh(symmetric)[1][:, -1]
    assert error((found + found.T) / 2, np.outer(v, v)) < 64
    # d s_k / d A = u_k v_k^T; that of a vector is as LAPACK's.
    tall = TALL["well"]
    u, _, vh = np.linalg.svd(tall, full_matrices=False)
    leaf = to_torch(tall).requires_grad_()
    first = torch.linalg.svd(leaf, full_matrices=False)[2][0].prod() ** 2
    of_vector = to_numpy(torch.autograd.grad(first, leaf)[0])
    wanted = np.outer(u[:, 0], vh[0]) + of_vector
    for name in ("jacobi_svd", "golub_kahan_svd"):
        (found,) = of("svd", name, lambda x: x[1][0] + x[2][0].prod() ** 2, tall)
        assert error(found, wanted) < 64
    # d trace e^A / d A = (e^A)^T
    (found,) = of("exponential", "matrix_exponential", lambda x: x.trace(), 4 * a)
    assert error(found, scipy.linalg.expm(4 * a).T, 4 * size(found)) < 64
