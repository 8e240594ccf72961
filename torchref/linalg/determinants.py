"""Determinants: by elimination, and by cofactors.

Reference: G. Strang, "Introduction to Linear Algebra", chapter 5.
"""

import torch

from torchref.linalg.elimination import lu
from torchref.linalg.products import require_square

__all__ = ["determinant", "cofactors", "laplace"]


def determinant(a: torch.Tensor) -> torch.Tensor:
    """det A = sign(p) prod_i U_ii from A[p] = L U: n^3 / 3 multiplications, where Laplace needs n!.

    The gradient is the matrix of cofactors. At a singular matrix the elimination gives it only
    where the missing pivot comes last; take `laplace` there. `jnp.linalg.det` is right there,
    `torch.linalg.det` gives zeros.

    Args:
      a: float (N, N).

    Returns: float (); 1 for a matrix without rows.

    Raises:
      ValueError: if a is not square.
    """
    p, _, u = lu(a)
    # The sign of the order: each pair that stands the wrong way round is one exchange.
    wrong = (p[:, None] > p[None, :]) & (
        torch.arange(len(p), device=p.device)[:, None] < torch.arange(len(p), device=p.device)
    )
    return (1 - 2 * (wrong.sum() % 2)) * torch.prod(torch.diagonal(u))


def cofactors(a: torch.Tensor) -> torch.Tensor:
    """C_ij = (-1)^(i+j) det(A without row i and column j): the derivative of det A by A_ij.

    A C^T = det(A) I, so that C^T / det A, the transposed matrix being the adjugate, is the inverse.

    Args:
      a: float (N, N).

    Returns: float (N, N).

    Raises:
      ValueError: if a is not square.
    """
    require_square(a=a)
    n = len(a)
    if n == 0:
        return a
    # Row i holds 0, …, n - 1 without i.
    rows = [[k for k in range(n) if k != i] for i in range(n)]
    others = torch.tensor(rows, dtype=torch.long).reshape(n, n - 1)
    # minors_ij: the rows without i, the columns without j, each of shape (n - 1, n - 1).
    minors = a[others[:, None, :, None], others[None, :, None, :]].reshape(n * n, n - 1, n - 1)
    # jax: vmap computes all n^2 at once; torch.func.vmap cannot, for the pivots steer Python.
    values = torch.stack([determinant(minor) for minor in minors]).reshape(n, n)
    signs = (-1) ** (torch.arange(n, device=a.device)[:, None] + torch.arange(n, device=a.device))
    return signs * values


def laplace(a: torch.Tensor) -> torch.Tensor:
    """det A = sum_j A_0j C_0j, the expansion along the first row.

    Carried on to minors of one entry it defines the determinant, and costs n! products.

    Args:
      a: float (N, N).

    Returns: float (); 1 for a matrix without rows.

    Raises:
      ValueError: if a is not square.
    """
    c = cofactors(a)
    return (a[0] * c[0]).sum() if len(a) else determinant(a)
