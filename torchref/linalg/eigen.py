"""Eigenvalues and eigenvectors by iteration; there is no formula beyond four rows.

The number of steps is given, and not decided by a tolerance: the same steps on both sides, static
under jit, differentiable step by step.

Reference: G. Golub, C. Van Loan, "Matrix Computations" (4th edition), chapters 7 and 8.
"""

import torch

from torchref.linalg.elimination import back_substitution, forward_substitution, lu
from torchref.linalg.orthogonal import householder_qr
from torchref.linalg.products import inner, require_square

__all__ = ["power_iteration", "inverse_iteration", "qr_iteration", "jacobi_eigh"]


def power_iteration(
    a: torch.Tensor, v: torch.Tensor, steps: int = 100
) -> tuple[torch.Tensor, torch.Tensor]:
    """v <- A v / |A v| converges to the eigenvector of the eigenvalue largest in size.

    The error falls by |l_2 / l_1| in every step. With a negative l_1 the sign of v alternates.

    Args:
      a: float (N, N).
      v: float (N,), where to begin: not orthogonal to what is sought.
      steps: how often.

    Returns: the eigenvalue v.Av, Rayleigh's quotient, float (), and the eigenvector, float (N,).

    Raises:
      ValueError: if a is not square, or v has another length.
    """
    _require_start(a, v)
    for _ in range(steps):
        v = _unit(a @ v)
    return inner(v, a @ v), v


def inverse_iteration(
    a: torch.Tensor, v: torch.Tensor, shift: float = 0.0, steps: int = 10
) -> tuple[torch.Tensor, torch.Tensor]:
    """Power iteration with (A - shift I)^-1: the eigenvalue nearest to the shift is its largest.

    One LU factorisation serves all steps. A shift that is an eigenvalue exactly has no inverse, and
    gives inf or NaN; one that is near is the better for it.

    Args:
      a: float (N, N).
      v: float (N,), where to begin.
      shift: a guess of the eigenvalue.
      steps: how often.

    Returns: the eigenvalue, float (), and the eigenvector, float (N,).

    Raises:
      ValueError: if a is not square, or v has another length.
    """
    _require_start(a, v)
    p, l, u = lu(a - shift * torch.eye(len(a), dtype=a.dtype, device=a.device))
    for _ in range(steps):
        v = _unit(back_substitution(u, forward_substitution(l, v[p])))
    return inner(v, a @ v), v


def qr_iteration(a: torch.Tensor, steps: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """A_k = Q R, A_(k+1) = R Q = Q^T A_k Q: power iteration on all vectors at once.

    Entries below the diagonal fall as |l_i / l_j|^k; where the eigenvalues differ in size, what is
    left is triangular (Schur's form), and diagonal for a symmetric matrix.

    Args:
      a: float (N, N), with real eigenvalues of different size (a complex pair leaves a block of
        two).
      steps: how often. LAPACK shifts and deflates, and needs about two steps an eigenvalue.

    Returns: T, float (N, N), with the eigenvalues on its diagonal, largest first; and Q of
      A = Q T Q^T, float (N, N), orthogonal: of a symmetric A its columns are the eigenvectors.

    Raises:
      ValueError: if a is not square.
    """
    require_square(a=a)
    eye = torch.eye(len(a), dtype=a.dtype, device=a.device)
    t, whole = a, eye
    for _ in range(steps):
        q, r = householder_qr(t)
        t, whole = r @ q, whole @ q
    return t, whole


def jacobi_eigh(a: torch.Tensor, sweeps: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Jacobi's rotations: each makes one pair of entries off the diagonal zero.

    tan 2t = 2 A_pq / (A_qq - A_pp), t the smaller angle. What stands off the diagonal loses
    2 A_pq^2 with every rotation, and falls quadratically in the end.

    Args:
      a: float (N, N), symmetric.
      sweeps: how often all pairs are visited. Ten are enough for some hundred rows.

    Returns: the eigenvalues in ascending order, float (N,), and the eigenvectors in the columns of
      an orthogonal matrix, float (N, N); as `torch.linalg.eigh` and `jnp.linalg.eigh`, up to signs.

    Raises:
      ValueError: if a is not square.
    """
    require_square(a=a)
    n = len(a)
    eye = torch.eye(n, dtype=a.dtype, device=a.device)
    # (P, 2) for the P = N (N - 1) / 2 pairs p < q, in the order of the rows.
    pairs = torch.triu_indices(n, n, 1, device=a.device).T
    # The vectors stand below the matrix, for their columns turn alike.
    whole = torch.cat([a, eye])
    for pair in pairs.repeat(sweeps, 1):
        block = whole[pair[:, None], pair]
        turn = rotation(block[0, 0], block[1, 1], block[0, 1])
        whole = whole.index_copy(0, pair, turn @ whole[pair])
        whole = whole.index_copy(1, pair, whole[:, pair] @ turn.T)
    values, vectors = torch.diagonal(whole[:n]), whole[n:]
    order = torch.argsort(values)
    return values[order], vectors[:, order]


def rotation(alpha: torch.Tensor, beta: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """J, float (2, 2), such that J [[alpha, gamma], [gamma, beta]] J^T is diagonal; all float ().

    t = tan = 2 gamma / (d + sign(d) sqrt(d^2 + 4 gamma^2)), d = beta - alpha, solves
    t^2 + 2 t d / (2 gamma) - 1 = 0 with the smaller |t|, and divides by nothing small.
    """
    d = beta - alpha
    square = d * d + 4 * gamma * gamma
    root = torch.sqrt(torch.where(square > 0, square, 1))
    tan = 2 * gamma / (d + torch.where(d < 0, -root, root))
    cos = 1 / torch.sqrt(1 + tan * tan)
    sin = tan * cos
    return torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])])


def _unit(v: torch.Tensor) -> torch.Tensor:
    return v / torch.sqrt(inner(v, v))


def _require_start(a: torch.Tensor, v: torch.Tensor) -> None:
    require_square(a=a)
    if v.shape != a.shape[:1]:
        raise ValueError(f"v must have the shape ({len(a)},), not {tuple(v.shape)}")
