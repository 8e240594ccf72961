"""Broadcasting: how arrays of different shapes are combined, by the rule and by the loops.

Reference: NumPy, "Broadcasting", https://numpy.org/doc/stable/user/basics.broadcasting.html; the
same in both frameworks.
"""

import itertools

import torch

__all__ = ["broadcast_shape", "broadcast_to", "unbroadcast"]


def broadcast_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that arrays of these shapes have together.

    Aligned at the last axis; what is missing in front counts as 1; the sizes of an axis are equal,
    or 1, which is stretched. `torch.broadcast_shapes`, `jnp.broadcast_shapes`.

    Raises:
      ValueError: if an axis has two sizes other than 1.
    """
    found = []
    for sizes in itertools.zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1):
        others = {size for size in sizes if size != 1}
        if len(others) > 1:
            raise ValueError(f"shapes {shapes} cannot be combined: an axis has the sizes {sizes}")
        found.append(others.pop() if others else 1)
    return tuple(found[::-1])


def broadcast_to(x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """x repeated along what is stretched: `torch.broadcast_to`, which copies nothing.

    Args:
      x: any shape that the rule stretches to `shape`.
      shape: the result's.

    Raises:
      ValueError: if it does not fit.
    """
    if broadcast_shape(x.shape, shape) != tuple(shape):
        raise ValueError(f"x of shape {tuple(x.shape)} cannot be stretched to {tuple(shape)}")
    x = x.reshape((1,) * (len(shape) - x.ndim) + tuple(x.shape))
    for axis, (size, wanted) in enumerate(zip(x.shape, shape, strict=True)):
        if size != wanted:
            x = torch.cat([x] * wanted, axis) if wanted else x.narrow(axis, 0, 0)
    return x


def unbroadcast(y: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The adjoint of `broadcast_to`: sums over what was stretched, back to `shape`.

    The gradient of x + b with respect to b is the unbroadcast gradient of the sum.

    Args:
      y: of a shape to which `shape` can be stretched.
      shape: the result's.

    Raises:
      ValueError: if it does not fit.
    """
    if broadcast_shape(y.shape, shape) != tuple(y.shape):
        raise ValueError(f"y of shape {tuple(y.shape)} was not stretched from {tuple(shape)}")
    if front := tuple(range(y.ndim - len(shape))):  # sum(()) sums over all axes. jax: over none
        y = y.sum(front)
    stretched = [a for a, n in enumerate(shape) if n == 1 and y.shape[a] != 1]
    return y.sum(tuple(stretched), keepdim=True) if stretched else y
