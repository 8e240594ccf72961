"""Products of vectors and matrices, each from its sum.

A sum over an axis of a broadcast product is the definition; `torch.einsum` writes the same with
letters, and `@` computes it in blocks that fit the cache.

Reference: G. Strang, "Introduction to Linear Algebra", chapters 1 and 2.
"""

import torch

__all__ = [
    "inner",
    "outer",
    "hadamard",
    "matmul",
    "matmul_by_columns",
    "matmul_by_outer",
    "kronecker",
]


def require_matrices(**matrices: torch.Tensor) -> None:
    """Raises a ValueError that names the argument which is not a matrix."""
    for name, matrix in matrices.items():
        if matrix.ndim != 2:
            raise ValueError(f"{name} must be a matrix, not of shape {tuple(matrix.shape)}")


def require_square(**matrices: torch.Tensor) -> None:
    """Raises a ValueError that names the argument which is not a square matrix."""
    require_matrices(**matrices)
    for name, matrix in matrices.items():
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"{name} must be square, not of shape {tuple(matrix.shape)}")


def inner(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The inner product: sum_i x_i y_i = |x| |y| cos(angle between them).

    Args:
      x, y: float (N,).

    Returns: float (). Of two empty vectors it is 0.

    Raises:
      ValueError: if y is not a vector as long as x.
    """
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"y must be a vector as long as x {tuple(x.shape)}, not {tuple(y.shape)}")
    return (x * y).sum()


def outer(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The outer product: A_ij = x_i y_j, a matrix of rank one.

    Args:
      x: float (M,).
      y: float (N,).

    Returns: float (M, N).

    Raises:
      ValueError: if one is not a vector.
    """
    for name, vector in (("x", x), ("y", y)):
        if vector.ndim != 1:
            raise ValueError(f"{name} must be a vector, not of shape {tuple(vector.shape)}")
    return x[:, None] * y[None, :]


def hadamard(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The Hadamard product: C_ij = A_ij B_ij. `*` is the same, and broadcasts besides.

    Args:
      a, b: float (M, N).

    Returns: float (M, N).

    Raises:
      ValueError: if the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"b must have the shape of a {tuple(a.shape)}, not {tuple(b.shape)}")
    return a * b


def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The matrix product by entries: C_ij = sum_k A_ik B_kj, row i of A times column j of B.

    Args:
      a: float (M, K).
      b: float (K, N).

    Returns: float (M, N); zeros where K is 0.

    Raises:
      ValueError: if one is not a matrix, or b has not as many rows as a has columns.
    """
    _require_chain(a, b)
    # (M, K, 1) * (1, K, N), summed over K. jax: broadcasts and sums alike.
    return (a[:, :, None] * b[None, :, :]).sum(1)


def matmul_by_columns(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The matrix product by columns: column j of C combines the columns of A, C_:j = A B_:j.

    Args:
      a: float (M, K).
      b: float (K, N).

    Returns: float (M, N).

    Raises:
      ValueError: as `matmul`.
    """
    _require_chain(a, b)

    def combine(weights: torch.Tensor) -> torch.Tensor:
        return (a * weights).sum(1)

    # jax: jax.vmap; both map the function over an axis, here the columns.
    return torch.func.vmap(combine, in_dims=1, out_dims=1)(b)


def matmul_by_outer(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The matrix product as a sum of K matrices of rank one: C = sum_k A_:k B_k:.

    Args:
      a: float (M, K).
      b: float (K, N).

    Returns: float (M, N).

    Raises:
      ValueError: as `matmul`.
    """
    _require_chain(a, b)

    c = a.new_zeros(a.shape[0], b.shape[1])
    # jax: lax.scan walks the leading axis and compiles its body once.
    for column, row in zip(a.T, b, strict=True):
        c = c + outer(column, row)
    return c


def kronecker(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The Kronecker product: block (i, j) of the result is A_ij B.

    (A x B)(C x D) = (AC) x (BD), and with vec stacking rows (A x B) vec(X) = vec(A X B^T).

    Args:
      a: float (M, N).
      b: float (P, Q).

    Returns: float (M P, N Q).

    Raises:
      ValueError: if one is not a matrix.
    """
    require_matrices(a=a, b=b)
    blocks = a[:, None, :, None] * b[None, :, None, :]
    return blocks.reshape(a.shape[0] * b.shape[0], a.shape[1] * b.shape[1])


def _require_chain(a: torch.Tensor, b: torch.Tensor) -> None:
    require_matrices(a=a, b=b)
    if a.shape[1] != b.shape[0]:
        shapes = f"{tuple(a.shape)} by {tuple(b.shape)}"
        raise ValueError(f"b must have as many rows as a has columns: {shapes}")
