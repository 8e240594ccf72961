"""The singular value decomposition A = U diag(s) V^T, in two ways.

Lengths are roots of sums of squares: entries below 1e-154 count as zero (float32: 1e-19), those
above 1e154 as infinite. LAPACK scales first.

Reference: G. Golub, C. Van Loan, "Matrix Computations" (4th edition), sections 5.4 and 8.6.
"""

import torch

from torchref.linalg.eigen import rotation
from torchref.linalg.orthogonal import mirror
from torchref.linalg.products import outer, require_matrices

__all__ = ["jacobi_svd", "golub_kahan_svd"]


def jacobi_svd(
    a: torch.Tensor, sweeps: int = 20
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One-sided Jacobi: rotate pairs of columns until all are orthogonal.

    A V = W with orthogonal columns; their lengths are the singular values, s_j = |w_j|, and
    u_j = w_j / s_j. The rotation of two columns is Jacobi's for their 2 by 2 Gram matrix.

    Args:
      a: float (M, N).
      sweeps: how often all pairs are visited. The worse the condition, the more are needed: 20 are
        enough for 30 columns at 1e14. Of R^T from A = Q R ten are, which is LAPACK's way.

    Returns: U (M, K), s (K,) in descending order, V^T (K, N); K = min(M, N). The largest entry of
      each row of V^T (of U's columns where M < N) is positive. As `torch.linalg.svd` and
      `jnp.linalg.svd` with full_matrices=False, up to signs; but where s_j is zero or rounding
      error, so is the length of w_j, and U's column (the row of V^T where M < N) is zero or
      arbitrary.

    Raises:
      ValueError: if a is not a matrix.
    """
    require_matrices(a=a)
    m, n = a.shape
    if m < n:
        u, s, vh = jacobi_svd(a.T, sweeps)
        return vh.T, s, u.T
    pairs = torch.triu_indices(n, n, 1, device=a.device).T
    # V stands below W, for it turns alike.
    whole = torch.cat([a, torch.eye(n, dtype=a.dtype, device=a.device)])
    for pair in pairs.repeat(sweeps, 1):
        both = whole[:, pair]
        gram = both[:m].T @ both[:m]
        turn = rotation(gram[0, 0], gram[1, 1], gram[0, 1])
        whole = whole.index_copy(1, pair, both @ turn.T)
    w, v = whole[:m], whole[m:]
    square = (w * w).sum(0)
    length = torch.sqrt(torch.where(square > 0, square, 1))
    return _arranged(w / length, torch.where(square > 0, length, 0), v)


def golub_kahan_svd(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Golub and Kahan: to two diagonals, then QR iteration on B^T B without forming it.

    A rotation of columns 0 and 1, as a QR step of B^T B - mu I begins with, puts an entry below the
    diagonal; rotations of rows and columns in turn chase it out at the other end. With Wilkinson's
    mu, the eigenvalue of the last 2 by 2 block, the last entry above the diagonal vanishes
    cubically; from there on the block is smaller. A zero on the diagonal takes mu = 0 (Demmel and
    Kahan 1990). At most 6 N + 6 steps are made; two for each value are usual.

    Args:
      a: float (M, N).

    Returns: U (M, K), s (K,) in descending order, V^T (K, N), the columns of U and V orthonormal
      whatever the rank; K = min(M, N). Signs as in `jacobi_svd`.

    Raises:
      ValueError: if a is not a matrix.
    """
    require_matrices(a=a)
    m, n = a.shape
    if m < n:
        u, s, vh = golub_kahan_svd(a.T)
        return vh.T, s, u.T
    whole = bidiagonalise(a)
    places = torch.arange(n, device=a.device)
    for _ in range(6 * n + 6 if n > 1 else 0):
        live, tiny = _live(whole[:n, :n])
        if not live.any():
            break
        top = torch.cat([_band(whole[:n, :n], live), whole[:n, n:]], dim=1)
        whole = torch.cat([top, whole[n:]])
        # The last block without a zero above its diagonal: lo, …, hi.
        hi = int(torch.where(live, places + 1, 0).max())
        lo = int(torch.where(~live & (places < hi - 1), places + 1, 0).max())
        turn = _givens(*_first(whole[:n, :n], lo, hi, tiny))
        # jax: the steps outside of the block are made, too, and turn by nothing.
        for k in range(lo, hi):
            if k > lo:
                turn = _givens(whole[k - 1, k], whole[k - 1, k + 1])
            whole = _turned(whole, turn, k)
            turn = _givens(whole[k, k], whole[k + 1, k])
            whole = _turned(whole.T, turn, k).T
    d, u, v = torch.diagonal(whole[:n, :n]), whole[:n, n:].T, whole[m:, :n]
    return _arranged(u * torch.where(d < 0, -1, 1), torch.abs(d), v)


def bidiagonalise(a: torch.Tensor) -> torch.Tensor:
    """A = U B V^T by reflections from both sides, in turn: column 0, row 0, column 1, row 1, …

    Of a, float (M, N), M >= N: [[B, U^T], [V, 0]], float (M + N, N + M), B zero but for its own
    diagonal and the one above. What turns the rows of this turns B and U^T, what turns its columns
    B and V.
    """
    m, n = a.shape
    places = torch.arange(m + n, device=a.device)
    whole = torch.block_diag(a, a.new_zeros(n, m))
    whole[:m, n:], whole[m:, :n] = a.new_ones(m).diag(), a.new_ones(n).diag()
    for i in range(n):
        w = mirror(torch.where((places >= i) & (places < m), whole[:, i], 0), i)
        whole = whole - outer(2 * w, w @ whole)
        w = mirror(torch.where((places > i) & (places < n), whole[i], 0), i + 1)
        whole = whole - outer(whole @ w, 2 * w)
    return whole


def signs(rows: torch.Tensor) -> torch.Tensor:
    """+1 or -1 for each row, with which its largest entry becomes positive."""
    if not rows.shape[0]:
        return rows.sum(1)
    return torch.where(rows.amax(1) < -rows.amin(1), -1, 1).to(rows.dtype)


def _arranged(
    u: torch.Tensor, s: torch.Tensor, v: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """In descending order, the arbitrary signs chosen."""
    order = torch.argsort(-s)
    u, s, vh = u[:, order], s[order], v[:, order].T
    sign = signs(vh)
    return u * sign, s, vh * sign[:, None]


def _turned(a: torch.Tensor, turn: torch.Tensor, k: int) -> torch.Tensor:
    """The columns k and k + 1 turned."""
    return torch.cat([a[:, :k], a[:, k : k + 2] @ turn.T, a[:, k + 2 :]], dim=1)


def _band(b: torch.Tensor, live: torch.Tensor) -> torch.Tensor:
    """The diagonal, and what counts of the one above it."""
    return torch.where(live[:, None], torch.triu(torch.tril(b, 1)), torch.diag(torch.diagonal(b)))


def _live(b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """In which rows the entry above the diagonal counts, bool (N,); and what does not count."""
    tiny = torch.finfo(b.dtype).eps * b.detach().abs().max()
    return torch.nn.functional.pad(torch.diagonal(b, 1), (0, 1)).abs() > tiny, tiny


def _first(b: torch.Tensor, lo: int, hi: int, tiny: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What the first rotation of a step on the rows lo, …, hi turns: (d - mu / d, e)."""
    # Any shift converges, but the gradient of the vectors is right only where it flows through the
    # shift, too: what is set to zero then has a derivative near zero.
    d, e = torch.diagonal(b), torch.nn.functional.pad(torch.diagonal(b, 1), (0, 1))
    places = torch.arange(len(d), device=d.device)
    e = torch.where(places >= lo, e, 0)
    # [[p, q], [q, r]], the last block of B^T B; e_(hi-2) is 0 where it is outside.
    p = d[hi - 1] ** 2 + torch.where(places == hi - 2, e, 0).sum() ** 2
    q, r = d[hi - 1] * e[hi - 1], d[hi] ** 2 + e[hi - 1] ** 2
    half = (p - r) / 2
    square = half * half + q * q
    root = torch.sqrt(torch.where(square > 0, square, 1))
    below = half + torch.where(half < 0, -root, root)
    mu = r - q * q / below
    singular = ((torch.abs(d) <= tiny) & (places >= lo) & (places <= hi)).any()
    shift = torch.where(singular, 0, mu / torch.where(singular, 1, d[lo]))
    return b[lo, lo] - shift, b[lo, lo + 1]


def _givens(y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """The rotation, float (2, 2), that takes (y, z) to (r, 0); none where both are zero."""
    square = y * y + z * z
    r = torch.sqrt(torch.where(square > 0, square, 1))
    cos, sin = torch.where(square > 0, y / r, 1), z / r
    return torch.stack([torch.stack([cos, sin]), torch.stack([-sin, cos])])
