"""Rank, and bases of the spaces of a matrix, from its reduced row echelon form.

The number of basis vectors depends on the values. jax: shapes are static under jit, so the bases
here keep a zero column for every vector that is missing; `basis[:, keep]` drops them outside.

Reference: G. Strang, "Introduction to Linear Algebra", chapter 3.
"""

import torch

from torchref.linalg.elimination import swap
from torchref.linalg.products import outer, require_matrices

__all__ = ["reduced_row_echelon", "rank", "column_space", "null_space"]


def reduced_row_echelon(
    a: torch.Tensor, tol: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
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
        return a, torch.zeros(n, dtype=torch.bool, device=a.device)
    relative = max(m, n) * torch.finfo(a.dtype).eps
    limit = tol if tol is not None else relative * float(a.detach().abs().max())
    rows, columns = torch.arange(m, device=a.device)[:, None], torch.arange(n, device=a.device)
    r, pivots = 0, torch.zeros(n, dtype=torch.bool, device=a.device)
    for j in range(n):
        # The candidates: column j from row r on. jax: both ways are computed, and one selected.
        sizes = torch.where(rows[:, 0] >= r, a[:, j].abs(), -1)
        if sizes.max() > limit:
            moved = a[swap(m, r, int(sizes.argmax()))]
            row = moved[r] / moved[r, j]
            a = torch.where(rows == r, row, moved - outer(moved[:, j], row))
            # The column of a pivot is an axis.
            a = torch.where(columns == j, rows == r, a)
            pivots[j] = True
            r += 1
        else:
            # Without a pivot, what counts as zero becomes zero.
            a = torch.where((columns == j) & (rows >= r), 0, a)
    return a, pivots


def rank(a: torch.Tensor, tol: float | None = None) -> torch.Tensor:
    """The rank: the number of pivots, of independent columns, and of independent rows.

    Args:
      a: float (M, N).
      tol: as in `reduced_row_echelon`.

    Returns: integer ().

    Raises:
      ValueError: if a is not a matrix.
    """
    return reduced_row_echelon(a, tol)[1].sum()


def column_space(a: torch.Tensor, tol: float | None = None) -> torch.Tensor:
    """A basis of {A x}: the columns of A (not of its echelon form) that hold a pivot.

    Args:
      a: float (M, N).
      tol: as in `reduced_row_echelon`.

    Returns: float (M, N), with zeros in place of the columns that depend on those before them.

    Raises:
      ValueError: if a is not a matrix.
    """
    _, pivots = reduced_row_echelon(a, tol)
    return torch.where(pivots, a, 0)


def null_space(a: torch.Tensor, tol: float | None = None) -> torch.Tensor:
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
    pick = pivots[:, None] & (
        torch.cumsum(pivots, 0)[:, None] - 1 == torch.arange(m, device=a.device)
    )
    return torch.where(
        pivots, 0, torch.eye(n, dtype=a.dtype, device=a.device) - pick.to(a.dtype) @ form
    )
