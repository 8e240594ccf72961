"""Orthogonal bases: projections, Gram-Schmidt twice, Householder's reflections.

The three factorisations give the same A = Q R in exact arithmetic, up to signs. In floating point
|Q^T Q - I| grows with the condition k of A as eps k^2 for classical Gram-Schmidt and eps k for the
modified one; Householder's Q is orthogonal to eps whatever A is.

Reference: L. Trefethen, D. Bau, "Numerical Linear Algebra", lectures 6 to 10.
"""

import torch

from torchref.linalg.products import inner, outer, require_matrices

__all__ = [
    "project",
    "classical_gram_schmidt",
    "modified_gram_schmidt",
    "householder_qr",
    "projector",
]


def project(b: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """The projection of b onto the line of a: a (a.b) / (a.a). What is left is orthogonal to a.

    Args:
      b, a: float (N,); a is not zero, or the result is NaN.

    Returns: float (N,).

    Raises:
      ValueError: if a is not a vector as long as b.
    """
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"a must be a vector as long as b {tuple(b.shape)}, not {tuple(a.shape)}")
    return a * (inner(a, b) / inner(a, a))


def classical_gram_schmidt(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A = Q R, column by column: subtract the projections of the *given* column onto those made.

    r_ij = q_i . a_j,  v = a_j - sum_(i<j) r_ij q_i,  q_j = v / |v|

    Args:
      a: float (M, N), M >= N, with independent columns: a dependent one leaves rounding errors,
        which are scaled to length one, or NaN.

    Returns: Q, float (M, N), and R, float (N, N), upper triangular with a positive diagonal.

    Raises:
      ValueError: if a is not a matrix, or has more columns than rows.
    """
    _require_tall(a)
    n = a.shape[1]
    q, r = torch.zeros_like(a), a.new_zeros(n, n)
    for j in range(n):
        # clone: autograd needs the columns as they are now, and q goes on changing in place.
        made = q[:, :j].clone()
        r_j = made.T @ a[:, j]
        v = a[:, j] - made @ r_j
        norm = torch.sqrt(inner(v, v))
        q[:, j] = v / norm
        r[:j, j], r[j, j] = r_j, norm
    return q, r


def modified_gram_schmidt(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A = Q R: as soon as q_i is made, its direction is taken out of *all* columns that remain.

    q_i = v_i / |v_i|,  r_ij = q_i . v_j,  v_j <- v_j - r_ij q_i

    The same products in another order: r_ij is measured on what is left of the column, so that
    earlier errors are corrected, too.

    Args:
      a: float (M, N), M >= N, with independent columns.

    Returns: Q, float (M, N), and R, float (N, N), upper triangular with a positive diagonal.

    Raises:
      ValueError: if a is not a matrix, or has more columns than rows.
    """
    _require_tall(a)
    n = a.shape[1]
    v, q, r = a, torch.zeros_like(a), a.new_zeros(n, n)
    for i in range(n):
        q_i = v[:, i] / torch.sqrt(inner(v[:, i], v[:, i]))
        r_i = torch.where(torch.arange(n, device=a.device) >= i, q_i @ v, 0)
        v = v - outer(q_i, r_i)
        q[:, i], r[i] = q_i, r_i
    return q, r


def householder_qr(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A = Q R by reflections H = I - 2 w w^T, each of which makes one more column triangular.

    x: column k from row k on;  w = (x + sign(x_k) |x| e_k) / |...|;  A <- H A,  Q <- Q H

    With the sign of x_k nothing cancels. A zero column is left as it is. The diagonal of R has any
    sign, and not always that of `torch.linalg.qr` and `jnp.linalg.qr` (LAPACK leaves a last entry).

    Args:
      a: float (M, N), of any shape and rank.

    Returns: Q, float (M, K) with orthonormal columns, and R, float (K, N), upper triangular;
      K = min(M, N).

    Raises:
      ValueError: if a is not a matrix.
    """
    require_matrices(a=a)
    m, n = a.shape
    k = min(m, n)
    rows, q, r = torch.arange(m, device=a.device), torch.eye(m, dtype=a.dtype, device=a.device), a
    for i in range(k):
        w = mirror(torch.where(rows >= i, r[:, i], 0), i)
        q, r = q - outer(q @ w, 2 * w), r - outer(2 * w, w @ r)
    return q[:, :k], torch.triu(r[:k])


def projector(a: torch.Tensor) -> torch.Tensor:
    """P = Q Q^T, which takes every vector to the nearest one among {A x}; P P = P = P^T.

    For independent columns this is A (A^T A)^-1 A^T, without the squared condition of A^T A.

    Args:
      a: float (M, N), M >= N, with independent columns.

    Returns: float (M, M).

    Raises:
      ValueError: if a is not a matrix, or has more columns than rows.
    """
    _require_tall(a)
    q, _ = householder_qr(a)
    return q @ q.T


def mirror(x: torch.Tensor, i: int) -> torch.Tensor:
    """The unit normal of the mirror that takes x to the axis i; zero where x is zero."""
    square = inner(x, x)
    safe = torch.where(square > 0, square, 1)
    w = x + torch.where(
        torch.arange(len(x), device=x.device) == i, torch.where(x < 0, -1, 1) * torch.sqrt(safe), 0
    )
    return torch.where(square > 0, w / torch.sqrt(inner(w, w)), 0)


def _require_tall(a: torch.Tensor) -> None:
    require_matrices(a=a)
    if a.shape[0] < a.shape[1]:
        raise ValueError(f"a must not have more columns than rows: {tuple(a.shape)}")
