"""What the singular value decomposition is for: approximation, components, pseudo-inverse.

The decomposition itself is the framework's, by LAPACK or cuSOLVER; `svd.py` shows two ways to it.
Its vectors have arbitrary signs, so that what is returned either has none or has them chosen.

Reference: N. Halko, P. Martinsson, J. Tropp, "Finding structure with randomness", SIAM Review 53
(2011), for the randomised one.
"""

import jax
import jax.numpy as jnp

from jaxnn.linalg.products import require_matrices
from jaxnn.linalg.svd import signs

__all__ = ["low_rank", "randomised_svd", "pca", "pseudo_inverse"]


def low_rank(a: jax.Array, rank: int) -> jax.Array:
    """A_k = sum_(i<k) s_i u_i v_i^T: of all matrices of rank k the nearest to A.

    |A - A_k|_2 = s_k and |A - A_k|_F^2 = sum_(i>=k) s_i^2 (Eckart and Young 1936).

    Args:
      a: float (M, N).
      rank: k, 0 to min(M, N).

    Returns: float (M, N). Where s_(k-1) = s_k it is one of several.

    Raises:
      ValueError: if a is not a matrix, or the rank is outside its range.
    """
    _require_rank("rank", rank, a)
    u, s, vh = jnp.linalg.svd(a, full_matrices=False)
    return u[:, :rank] * s[:rank] @ vh[:rank]


def randomised_svd(
    a: jax.Array, omega: jax.Array, power: int = 1
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """An SVD of rank K from K random combinations of the columns.

    Y = A Omega spans nearly the leading directions; Q = orth(Y); Q^T A = U' S V^T is small, and
    U = Q U'. Each power step Q <- orth(A orth(A^T Q)) sharpens the decay of the singular values.

    Args:
      a: float (M, N).
      omega: float (N, K), K <= min(M, N): standard normal, drawn outside; some 5 to 10 columns more
        than the rank that is sought.
      power: how many power steps.

    Returns: U (M, K), s (K,) in descending order, V^T (K, N), the largest entry of each row
      positive.

    Raises:
      ValueError: if one is not a matrix, or omega has the wrong number of rows or too many columns.
    """
    require_matrices(a=a, omega=omega)
    if len(omega) != a.shape[1] or omega.shape[1] > min(a.shape):
        shapes = f"{tuple(a.shape)} by {tuple(omega.shape)}"
        raise ValueError(f"omega must be (N, K), K at most min(M, N), of a (M, N): {shapes}")
    q, _ = jnp.linalg.qr(a @ omega)
    for _ in range(power):
        q, _ = jnp.linalg.qr(a.T @ q)
        q, _ = jnp.linalg.qr(a @ q)
    u, s, vh = jnp.linalg.svd(q.T @ a, full_matrices=False)
    sign = signs(vh)
    return q @ u * sign, s, vh * sign[:, None]


def pca(x: jax.Array, components: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Principal components: the orthogonal directions in which the data vary most.

    The right singular vectors of X - mean are the eigenvectors of the covariance
    (X - mean)^T (X - mean) / (M - 1), whose eigenvalues are s^2 / (M - 1); the covariance itself,
    with its squared condition, is not formed.

    Args:
      x: float (M, N), M > 1 examples in rows.
      components: K, 0 to min(M, N).

    Returns: the mean (N,), the directions (K, N) in rows, the largest entry of each positive, and
      the variances (K,) along them, in descending order.

    Raises:
      ValueError: if x is not a matrix of at least two rows, or components is outside its range.
    """
    _require_rank("components", components, x)
    if len(x) < 2:
        raise ValueError(f"x must have at least two rows: {tuple(x.shape)}")
    mean = x.mean(0)
    _, s, vh = jnp.linalg.svd(x - mean, full_matrices=False)
    directions = vh[:components]
    directions = directions * signs(directions)[:, None]
    return mean, directions, s[:components] ** 2 / (len(x) - 1)


def pseudo_inverse(a: jax.Array, rtol: float | None = None) -> jax.Array:
    """Moore and Penrose: A+ = sum over s_i > rtol s_0 of v_i u_i^T / s_i.

    x = A+ b is the shortest of those that minimise |A x - b|.

    Args:
      a: float (M, N).
      rtol: singular values up to this part of the largest count as zero. Default: max(M, N) * eps,
        as `torch.linalg.pinv`; `jnp.linalg.pinv` takes ten times as much.

    Returns: float (N, M).

    Raises:
      ValueError: if a is not a matrix.
    """
    require_matrices(a=a)
    limit = max(a.shape) * jnp.finfo(a.dtype).eps if rtol is None else rtol
    u, s, vh = jnp.linalg.svd(a, full_matrices=False)
    keep = s > limit * s[:1]
    return (vh.T * jnp.where(keep, 1 / jnp.where(keep, s, 1), 0)) @ u.T


def _require_rank(name: str, rank: int, a: jax.Array) -> None:
    require_matrices(**{"x" if name == "components" else "a": a})
    if not 0 <= rank <= min(a.shape):
        raise ValueError(f"{name} must be 0 to {min(a.shape)}, not {rank}")
