"""Linear systems: substitution, Gaussian elimination, LU and Cholesky.

torch: the same functions under the same names. `scipy.linalg`, `torch.linalg` and `jnp.linalg` call
LAPACK, which eliminates as here, block by block.

Reference: G. Golub, C. Van Loan, "Matrix Computations" (4th edition), chapters 3 and 4.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.linalg.products import outer, require_square

__all__ = ["forward_substitution", "back_substitution", "gaussian_elimination", "lu", "cholesky"]


def fold(body: Callable, start: Any, *given: jax.Array, reverse: bool = False) -> Any:
    """state = body(state, *rows) for the rows of some arrays in turn: `lax.scan` with a guard.

    The body is compiled once; it is not even traced where there are no rows, for a body that reads
    an entry cannot be traced on a matrix without entries.
    """
    if not len(given[0]):
        return start
    return jax.lax.scan(lambda s, rows: (body(s, *rows), None), start, given, reverse=reverse)[0]


def swap(length: int, i: Any, j: Any) -> jax.Array:
    """The order 0, 1, …, length - 1 with i and j exchanged: `x[swap(len(x), i, j)]`."""
    return jnp.arange(length).at[i].set(j).at[j].set(i)


def forward_substitution(l: jax.Array, b: jax.Array) -> jax.Array:
    """Solves L x = b from the top: x_i = (b_i - sum_(j<i) L_ij x_j) / L_ii.

    Args:
      l: float (N, N), lower triangular; what is above the diagonal is not used.
      b: float (N,) or (N, K).

    Returns: x, of the shape of b; a zero on the diagonal gives inf or NaN.

    Raises:
      ValueError: if l is not square, or b has not as many rows.
    """
    _require_system("l", l, b)
    l = jnp.tril(l)

    def row(x, i, l_i, b_i):
        # x is still zero from i on, so that the whole row of L can be taken.
        return x.at[i].set((b_i - l_i @ x) / l_i[i])

    return fold(row, jnp.zeros_like(b), jnp.arange(len(b)), l, b)


def back_substitution(u: jax.Array, b: jax.Array) -> jax.Array:
    """Solves U x = b from the bottom: x_i = (b_i - sum_(j>i) U_ij x_j) / U_ii.

    Args:
      u: float (N, N), upper triangular; what is below the diagonal is not used.
      b: float (N,) or (N, K).

    Returns: x, of the shape of b; a zero on the diagonal gives inf or NaN.

    Raises:
      ValueError: if u is not square, or b has not as many rows.
    """
    _require_system("u", u, b)
    u = jnp.triu(u)

    def row(x, i, u_i, b_i):
        return x.at[i].set((b_i - u_i @ x) / u_i[i])

    return fold(row, jnp.zeros_like(b), jnp.arange(len(b)), u, b, reverse=True)


def gaussian_elimination(a: jax.Array, b: jax.Array) -> jax.Array:
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
    whole = jnp.concatenate([a, b.reshape(n, -1)], axis=1) if n else a

    def column(whole, k):
        whole = whole[swap(n, k, _pivot(whole, k))]
        return whole - outer(_factors(whole, k), whole[k])

    whole = fold(column, whole, jnp.arange(n))
    return back_substitution(whole[:, :n], whole[:, n:].reshape(b.shape))


def lu(a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
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
    eye = jnp.eye(n, dtype=a.dtype)

    def column(state, k):
        p, l, u = state
        order = swap(n, k, _pivot(u, k))
        p, l, u = p[order], l[order], u[order]
        factors = _factors(u, k)
        return p, l + outer(factors, eye[k]), u - outer(factors, u[k])

    p, l, u = fold(column, (jnp.arange(n), jnp.zeros_like(a), a), jnp.arange(n))
    return p, l + eye, jnp.triu(u)


def cholesky(a: jax.Array) -> jax.Array:
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
    rows = jnp.arange(len(a))

    def column(l, j, a_j):
        # The columns of L from j on are still zero.
        rest = a_j - l @ l[j]
        return l.at[:, j].set(jnp.where(rows >= j, rest / jnp.sqrt(rest[j]), 0))

    return fold(column, jnp.zeros_like(a), rows, a.T)


def _pivot(a: jax.Array, k: Any) -> jax.Array:
    """The row, from k on, with the largest entry of column k."""
    return jnp.argmax(jnp.where(jnp.arange(len(a)) >= k, jnp.abs(a[:, k]), -1))


def _factors(a: jax.Array, k: Any) -> jax.Array:
    """What row k is to be multiplied with before it is subtracted from each row; 0 down to k."""
    pivot = jnp.where(a[k, k] == 0, 1, a[k, k])
    return jnp.where(jnp.arange(len(a)) > k, a[:, k] / pivot, 0)


def _require_system(name: str, a: jax.Array, b: jax.Array) -> None:
    require_square(**{name: a})
    if b.ndim not in (1, 2) or len(b) != len(a):
        raise ValueError(f"b must have {len(a)} rows, not the shape {tuple(b.shape)}")
