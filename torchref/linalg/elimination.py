"""Linear systems: substitution, Gaussian elimination, LU and Cholesky.

jax: the same functions under the same names. `scipy.linalg`, `torch.linalg` and `jnp.linalg` call
LAPACK, which eliminates as here, block by block.

Reference: G. Golub, C. Van Loan, "Matrix Computations" (4th edition), chapters 3 and 4.
"""

import torch

from torchref.linalg.products import outer, require_square

__all__ = ["forward_substitution", "back_substitution", "gaussian_elimination", "lu", "cholesky"]


def swap(length: int, i: int, j: int) -> torch.Tensor:
    """The order 0, 1, …, length - 1 with i and j exchanged: `x[swap(len(x), i, j)]`."""
    order = torch.arange(length)
    order[i], order[j] = j, i
    return order


def forward_substitution(l: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Solves L x = b from the top: x_i = (b_i - sum_(j<i) L_ij x_j) / L_ii.

    Args:
      l: float (N, N), lower triangular; what is above the diagonal is not used.
      b: float (N,) or (N, K).

    Returns: x, of the shape of b; a zero on the diagonal gives inf or NaN.

    Raises:
      ValueError: if l is not square, or b has not as many rows.
    """
    _require_system("l", l, b)
    x = torch.zeros_like(b)
    for i in range(len(b)):
        # clone: autograd needs the rows as they are now, and x goes on changing in place.
        x[i] = (b[i] - l[i, :i] @ x[:i].clone()) / l[i, i]
    return x


def back_substitution(u: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Solves U x = b from the bottom: x_i = (b_i - sum_(j>i) U_ij x_j) / U_ii.

    Args:
      u: float (N, N), upper triangular; what is below the diagonal is not used.
      b: float (N,) or (N, K).

    Returns: x, of the shape of b; a zero on the diagonal gives inf or NaN.

    Raises:
      ValueError: if u is not square, or b has not as many rows.
    """
    _require_system("u", u, b)
    x = torch.zeros_like(b)
    for i in reversed(range(len(b))):
        x[i] = (b[i] - u[i, i + 1 :] @ x[i + 1 :].clone()) / u[i, i]
    return x


def gaussian_elimination(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Solves A x = b: elimination on [A | b] with partial pivoting, then back substitution.

    The row with the largest entry of column k becomes row k, and is subtracted from those below:
    row_i <- row_i - (A_ik / A_kk) row_k. No factor is above 1, which keeps rounding small.

    Args:
      a: float (N, N).
      b: float (N,) or (N, K), several right sides.

    Returns: x, of the shape of b. A singular matrix gives inf or NaN, as `jnp.linalg.solve` does;
      `torch.linalg.solve` raises.

    Raises:
      ValueError: if a is not square, or b has not as many rows.
    """
    _require_system("a", a, b)
    n = len(b)
    whole = torch.cat([a, b.reshape(n, -1)], dim=1) if n else a
    for k in range(n):
        whole = whole[swap(n, k, _pivot(whole, k))]
        whole = whole - outer(_factors(whole, k), whole[k])
    return back_substitution(whole[:, :n], whole[:, n:].reshape(b.shape))


def lu(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A[p] = L U: Gaussian elimination with partial pivoting that keeps its factors.

    One factorisation solves for any b: `back_substitution(u, forward_substitution(l, b[p]))`.
    A column without a pivot is skipped, so that a singular A = L U, too, with a zero on U's
    diagonal.

    Args:
      a: float (N, N).

    Returns: p, integers (N,), the rows' order; L (N, N), lower triangular with ones on the diagonal
      and no entry above 1 in size; U (N, N), upper triangular. `torch.linalg.lu` and
      `jax.scipy.linalg.lu` give the matrix P of A = P L U.

    Raises:
      ValueError: if a is not square.
    """
    require_square(a=a)
    n = len(a)
    p, l, u, eye = (
        torch.arange(n, device=a.device),
        torch.zeros_like(a),
        a,
        torch.eye(n, dtype=a.dtype, device=a.device),
    )
    for k in range(n):
        order = swap(n, k, _pivot(u, k))
        p, l, u = p[order], l[order], u[order]
        factors = _factors(u, k)
        l, u = l + outer(factors, eye[k]), u - outer(factors, u[k])
    return p, l + eye, torch.triu(u)


def cholesky(a: torch.Tensor) -> torch.Tensor:
    """A = L L^T of a positive definite matrix, by columns.

    L_jj = sqrt(A_jj - sum_(k<j) L_jk^2),  L_ij = (A_ij - sum_(k<j) L_ik L_jk) / L_jj

    Args:
      a: float (N, N), symmetric; only the lower triangle is used, as `torch.linalg.cholesky` does
        (`jnp.linalg.cholesky` takes the mean of the two).

    Returns: L, float (N, N), lower triangular with a positive diagonal. NaN where the matrix is not
      positive definite, as in `jnp`; `torch.linalg.cholesky` raises.

    Raises:
      ValueError: if a is not square.
    """
    require_square(a=a)
    l = torch.zeros_like(a)
    for j in range(len(a)):
        done = l[:, :j].clone()
        rest = a[j:, j] - done[j:] @ done[j]
        l[j:, j] = rest / torch.sqrt(rest[0])
    return l


def _pivot(a: torch.Tensor, k: int) -> int:
    """The row, from k on, with the largest entry of column k."""
    return k + int(a[k:, k].abs().argmax())


def _factors(a: torch.Tensor, k: int) -> torch.Tensor:
    """What row k is to be multiplied with before it is subtracted from each row; 0 down to k."""
    pivot = torch.where(a[k, k] == 0, 1, a[k, k])
    return torch.where(torch.arange(len(a), device=a.device) > k, a[:, k] / pivot, 0)


def _require_system(name: str, a: torch.Tensor, b: torch.Tensor) -> None:
    require_square(**{name: a})
    if b.ndim not in (1, 2) or len(b) != len(a):
        raise ValueError(f"b must have {len(a)} rows, not the shape {tuple(b.shape)}")
