"""Linear algebra: wrong values and gradients of JAX's are recognised."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from compare.differences.catalogue import Site
from compare.differences.measuring import normal
from compare.share import to_numpy
from tests.differences.places import GRID, W, X, check, label, place

# code, kind, PyTorch's call, JAX's mistake, arguments[, keywords]
PLACES: list[tuple] = [
    ("LA-01", "eigvalsh", torch.linalg.eigvalsh, jnp.linalg.eigvalsh, normal(4, 4)),
    ("LA-03", "cholesky", torch.linalg.cholesky, jax.scipy.linalg.cholesky, X @ X.T + torch.eye(4)),
    (
        "LA-02",
        "linalg_cholesky",
        torch.linalg.cholesky,
        jnp.linalg.cholesky,
        X @ X.T + 9 * torch.eye(4) + torch.ones(4, 4).triu(1),
    ),
    (
        "LA-04",
        "pinv",
        torch.linalg.pinv,
        jnp.linalg.pinv,
        torch.diag(torch.tensor([1.0, 3.3e-15, 0.5]).double()),
    ),
    ("LA-05", "norm", torch.norm, lambda x: jnp.linalg.norm(x, 1), X, 1),
    (
        "LA-08",
        "solve_triangular",
        lambda a, b, upper=False: torch.linalg.solve_triangular(a, b, upper=upper),
        jax.scipy.linalg.solve_triangular,
        normal(3, 3),
        normal(3, 2),
    ),
    (
        "LA-11",
        "conv1d",
        F.conv1d,
        lambda x, w: jnp.convolve(x[0, 0], w[0, 0], mode="valid")[None, None],
        GRID[None, None],
        W[None, None],
    ),
    ("LA-14", "fft_rfft", torch.fft.rfft, lambda x: jnp.fft.rfft(x), GRID, None, -1, "ortho"),
]


@pytest.mark.parametrize("row", PLACES, ids=label)
def test_a_wrong_output_is_recognised(row: tuple):
    code, kind, call, wrong, *args = row
    check(code, place(kind, call, wrong, *args))


GRADIENTS: list[tuple] = [
    (
        "LA-06",
        "det",
        torch.linalg.det,
        jnp.linalg.det,
        torch.tensor([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 1.0, 3.0]], dtype=torch.float64),
    ),
]


@pytest.mark.parametrize("row", GRADIENTS, ids=label)
def test_a_wrong_gradient_is_recognised(row: tuple):
    code, kind, call, wrong, *args = row
    check(code, place(kind, call, wrong, *args, what="gradient"))


def test_a_conjugated_gradient_is_recognised():
    ours = to_numpy(torch.complex(normal(3), normal(3, seed=1)))
    check("LA-10", Site("abs", "gradient", np.conj(ours), ours))
