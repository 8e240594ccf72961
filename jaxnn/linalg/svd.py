"""The singular value decomposition A = U diag(s) V^T, in two ways.

Lengths are roots of sums of squares: entries below 1e-154 count as zero (float32: 1e-19), those
above 1e154 as infinite. LAPACK scales first.

Reference: G. Golub, C. Van Loan, "Matrix Computations" (4th edition), sections 5.4 and 8.6.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.linalg.eigen import rotation
from jaxnn.linalg.elimination import fold
from jaxnn.linalg.orthogonal import mirror
from jaxnn.linalg.products import outer, require_matrices

__all__ = ["jacobi_svd", "golub_kahan_svd"]


def jacobi_svd(a: jax.Array, sweeps: int = 20) -> tuple[jax.Array, jax.Array, jax.Array]:
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
    pairs = jnp.array(np.stack(np.triu_indices(n, 1), axis=1))

    def rotate(whole, pair):
        both = whole[:, pair]
        gram = both[:m].T @ both[:m]
        turn = rotation(gram[0, 0], gram[1, 1], gram[0, 1])
        return whole.at[:, pair].set(both @ turn.T)

    def sweep(_, whole):
        return fold(rotate, whole, pairs)

    # V stands below W, for it turns alike.
    whole = jnp.concatenate([a, jnp.eye(n, dtype=a.dtype)])
    whole = jax.lax.fori_loop(0, sweeps, sweep, whole)
    w, v = whole[:m], whole[m:]
    square = (w * w).sum(0)
    length = jnp.sqrt(jnp.where(square > 0, square, 1))
    return _arranged(w / length, jnp.where(square > 0, length, 0), v)


def golub_kahan_svd(a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
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
    places, identity = jnp.arange(n), jnp.eye(2, dtype=a.dtype)

    def step(whole, _):
        live, tiny = _live(whole[:n, :n])
        whole = whole.at[:n, :n].set(_band(whole[:n, :n], live))
        # The last block without a zero above its diagonal: lo, …, hi. torch: breaks without one.
        hi = jnp.max(jnp.where(live, places + 1, 0))
        lo = jnp.max(jnp.where(~live & (places < hi - 1), places + 1, 0))
        begin = _givens(*_first(whole[:n, :n], lo, hi, tiny))

        def chase(whole, k):
            active = (lo <= k) & (k < hi)
            turn = jnp.where(k == lo, begin, _givens(whole[k - 1, k], whole[k - 1, k + 1]))
            whole = _turned(whole, jnp.where(active, turn, identity), k)
            turn = _givens(whole[k, k], whole[k + 1, k])
            return _turned(whole.T, jnp.where(active, turn, identity), k).T

        return fold(chase, whole, places[:-1])

    whole = fold(step, whole, jnp.arange(6 * n + 6 if n > 1 else 0))
    d, u, v = jnp.diagonal(whole[:n, :n]), whole[:n, n:].T, whole[m:, :n]
    return _arranged(u * jnp.where(d < 0, -1, 1), jnp.abs(d), v)


def bidiagonalise(a: jax.Array) -> jax.Array:
    """A = U B V^T by reflections from both sides, in turn: column 0, row 0, column 1, row 1, …

    Of a, float (M, N), M >= N: [[B, U^T], [V, 0]], float (M + N, N + M), B zero but for its own
    diagonal and the one above. What turns the rows of this turns B and U^T, what turns its columns
    B and V.
    """
    m, n = a.shape
    places = jnp.arange(m + n)
    eyes = jnp.eye(m, dtype=a.dtype), jnp.eye(n, dtype=a.dtype)
    whole = jnp.block([[a, eyes[0]], [eyes[1], jnp.zeros((n, m), a.dtype)]])

    def reflect(whole, i):
        w = mirror(jnp.where((places >= i) & (places < m), whole[:, i], 0), i)
        whole = whole - outer(2 * w, w @ whole)
        w = mirror(jnp.where((places > i) & (places < n), whole[i], 0), i + 1)
        return whole - outer(whole @ w, 2 * w)

    return fold(reflect, whole, jnp.arange(n))


def signs(rows: jax.Array) -> jax.Array:
    """+1 or -1 for each row, with which its largest entry becomes positive."""
    if not rows.shape[0]:
        return rows.sum(1)
    return jnp.where(rows.max(1) < -rows.min(1), -1, 1).astype(rows.dtype)


def _arranged(u: jax.Array, s: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """In descending order, the arbitrary signs chosen."""
    order = jnp.argsort(-s)
    u, s, vh = u[:, order], s[order], v[:, order].T
    sign = signs(vh)
    return u * sign, s, vh * sign[:, None]


def _turned(a: jax.Array, turn: jax.Array, k: int) -> jax.Array:
    """The columns k and k + 1 turned."""
    # A slice of two is cheaper than `a.at[:, [k, k + 1]]`, a gather and a scatter.
    pair = jax.lax.dynamic_slice_in_dim(a, k, 2, axis=1)
    return jax.lax.dynamic_update_slice_in_dim(a, pair @ turn.T, k, axis=1)


def _band(b: jax.Array, live: jax.Array) -> jax.Array:
    """The diagonal, and what counts of the one above it."""
    return jnp.where(live[:, None], jnp.triu(jnp.tril(b, 1)), jnp.diag(jnp.diagonal(b)))


def _live(b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """In which rows the entry above the diagonal counts, bool (N,); and what does not count."""
    tiny = jnp.finfo(b.dtype).eps * jax.lax.stop_gradient(jnp.abs(b).max())
    return jnp.abs(jnp.pad(jnp.diagonal(b, 1), (0, 1))) > tiny, tiny


def _first(b: jax.Array, lo: Any, hi: Any, tiny: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What the first rotation of a step on the rows lo, …, hi turns: (d - mu / d, e)."""
    # Any shift converges, but the gradient of the vectors is right only where it flows through the
    # shift, too: what is set to zero then has a derivative near zero.
    d, e = jnp.diagonal(b), jnp.pad(jnp.diagonal(b, 1), (0, 1))
    places = jnp.arange(len(d))
    e = jnp.where(places >= lo, e, 0)
    # [[p, q], [q, r]], the last block of B^T B; e_(hi-2) is 0 where it is outside.
    p = d[hi - 1] ** 2 + jnp.where(places == hi - 2, e, 0).sum() ** 2
    q, r = d[hi - 1] * e[hi - 1], d[hi] ** 2 + e[hi - 1] ** 2
    half = (p - r) / 2
    square = half * half + q * q
    root = jnp.sqrt(jnp.where(square > 0, square, 1))
    below = half + jnp.where(half < 0, -root, root)
    mu = r - q * q / below
    singular = ((jnp.abs(d) <= tiny) & (places >= lo) & (places <= hi)).any()
    shift = jnp.where(singular, 0, mu / jnp.where(singular, 1, d[lo]))
    return b[lo, lo] - shift, b[lo, lo + 1]


def _givens(y: jax.Array, z: jax.Array) -> jax.Array:
    """The rotation, float (2, 2), that takes (y, z) to (r, 0); none where both are zero."""
    square = y * y + z * z
    r = jnp.sqrt(jnp.where(square > 0, square, 1))
    cos, sin = jnp.where(square > 0, y / r, 1), z / r
    return jnp.stack([jnp.stack([cos, sin]), jnp.stack([-sin, cos])])
