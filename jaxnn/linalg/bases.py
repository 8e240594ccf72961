"""Rank, and bases of the spaces of a matrix, from its reduced row echelon form.

The number of basis vectors depends on the values. jax: shapes are static under jit, so the bases
here keep a zero column for every vector that is missing; `basis[:, keep]` drops them outside.

Reference: G. Strang, "Introduction to Linear Algebra", chapter 3.
"""

import jax
import jax.numpy as jnp

from jaxnn.linalg.elimination import fold, swap
from jaxnn.linalg.products import outer, require_matrices

__all__ = ["reduced_row_echelon", "rank", "column_space", "null_space"]


def reduced_row_echelon(a: jax.Array, tol: float | None = None) -> tuple[jax.Array, jax.Array]:
    """The reduced row echelon form, by Gauss-Jordan elimination with partial pivoting.

    Each pivot is 1 and alone in its column; the rows below the last are zero. In exact arithmetic
    the form is unique, whatever the pivoting.

    Args:
      a: float (M, N).
      tol: what is not above it counts as zero. Default: max(M, N) * eps * (largest entry of a). An
        elimination judges ranks less surely than singular values do (`torch.linalg.matrix_rank`,
        `jnp.linalg.matrix_rank`).

    Returns: the form, float (M, N); and which columns hold a pivot, bool (N,).

    Raises:
      ValueError: if a is not a matrix.
    """
    require_matrices(a=a)
    m, n = a.shape
    if m == 0 or n == 0:
        return a, jnp.zeros(n, bool)
    relative = max(m, n) * jnp.finfo(a.dtype).eps
    limit = tol if tol is not None else relative * jax.lax.stop_gradient(jnp.abs(a).max())
    rows, columns = jnp.arange(m)[:, None], jnp.arange(n)

    def column(state, j):
        a, r, pivots = state
        # The candidates: column j from row r on. torch: `if`; here both ways are computed.
        sizes = jnp.where(rows[:, 0] >= r, jnp.abs(a[:, j]), -1)
        found = sizes.max() > limit
        moved = a[swap(m, jnp.minimum(r, m - 1), jnp.argmax(sizes))]
        pivot = jnp.where(found, moved[r, j], 1)
        row = moved[r] / pivot
        cleared = jnp.where(rows == r, row, moved - outer(moved[:, j], row))
        # The column of a pivot is an axis; without one, what counts as zero becomes zero.
        cleared = jnp.where(columns == j, rows == r, cleared)
        zeroed = jnp.where((columns == j) & (rows >= r), 0, a)
        return jnp.where(found, cleared, zeroed), r + found, pivots.at[j].set(found)

    start = a, jnp.zeros((), int), jnp.zeros(n, bool)
    a, _, pivots = fold(column, start, columns)
    return a, pivots


def rank(a: jax.Array, tol: float | None = None) -> jax.Array:
    """The rank: the number of pivots, of independent columns, and of independent rows.

    Args:
      a: float (M, N).
      tol: as in `reduced_row_echelon`.

    Returns: integer ().

    Raises:
      ValueError: if a is not a matrix.
    """
    return reduced_row_echelon(a, tol)[1].sum()


def column_space(a: jax.Array, tol: float | None = None) -> jax.Array:
    """A basis of {A x}: the columns of A (not of its echelon form) that hold a pivot.

    Args:
      a: float (M, N).
      tol: as in `reduced_row_echelon`.

    Returns: float (M, N), with zeros in place of the columns that depend on those before them.

    Raises:
      ValueError: if a is not a matrix.
    """
    _, pivots = reduced_row_echelon(a, tol)
    return jnp.where(pivots, a, 0)


def null_space(a: jax.Array, tol: float | None = None) -> jax.Array:
    """A basis of {x: A x = 0}: for each free column f, the solution with x_f = 1, no other free.

    Row i of the form R says x_(pivot of i) = - sum over free f of R_if x_f.

    Args:
      a: float (M, N).
      tol: as in `reduced_row_echelon`.

    Returns: float (N, N), with zeros in the columns that hold a pivot. `scipy.linalg.null_space`
      gives an orthonormal basis of the same space.

    Raises:
      ValueError: if a is not a matrix.
    """
    form, pivots = reduced_row_echelon(a, tol)
    m, n = a.shape
    # pick_ji = 1 where row i has its pivot in column j: the k-th pivot is in row k.
    pick = pivots[:, None] & (jnp.cumsum(pivots)[:, None] - 1 == jnp.arange(m))
    return jnp.where(pivots, 0, jnp.eye(n, dtype=a.dtype) - pick.astype(a.dtype) @ form)
