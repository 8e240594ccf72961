"""Convolution and pooling with their backward passes by hand; for the pattern see `backprop`.

All three look through the same windows. `_cut` lays out what the cells of the kernel see (im2col),
after which a convolution is a product of matrices and a pooling a maximum or mean of columns. Its
adjoint `_paste` sums every cell's share back to where it was read: windows that overlap add up.

Images are (N, C, H, W), kernels (K, C, R, S). jax: (N, H, W, C) and (R, S, C, K).

Reference: Y. LeCun et al., "Backpropagation applied to handwritten zip code recognition", Neural
Computation 1 (1989).
"""

import torch
from torch.nn.functional import fold, pad, unfold

from torchref.foundations.backprop import Cache, Grads

__all__ = [
    "conv2d_forward",
    "conv2d_backward",
    "max_pool2d_forward",
    "max_pool2d_backward",
    "avg_pool2d_forward",
    "avg_pool2d_backward",
]


def conv2d_forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, stride: int = 1, padding: int = 0
) -> tuple[torch.Tensor, Cache]:
    """y[i, j] = b + sum_rs x[i stride + r, j stride + s] W[r, s], x padded with zeros.

    Strictly a cross-correlation, as in both frameworks: the kernel is not flipped.

    Args:
      x: float (N, C, H, W).
      weight: float (K, C, R, S).
      bias: float (K,).
      stride: step of the window, down and across.
      padding: zeros on each of the four sides.

    Returns: y, float (N, K, H', W') with H' = (H + 2 padding - R) // stride + 1, and the cache.

    Raises:
      ValueError: if the channels of weight are not x's, or stride, padding or kernel do not fit.
    """
    if weight.shape[1] != x.shape[1]:
        raise ValueError(f"weight {weight.shape} does not fit the channels of x {x.shape}")
    columns = _cut(_pad(x, padding), weight.shape[2:], stride)
    # y_nkij = sum_cp columns_ncpij W_kcp, p = (r, s)
    y = torch.einsum("ncpij,kcp->nkij", columns, weight.flatten(2))
    return y + bias[:, None, None], (x, weight)


def conv2d_backward(dy: torch.Tensor, cache: Cache, stride: int = 1, padding: int = 0) -> Grads:
    """dy, float (N, K, H', W'), and the options of the forward pass -> "x", "weight", "bias"."""
    x, weight = cache
    padded = _pad(x, padding)
    columns = _cut(padded, weight.shape[2:], stride)
    # dL/dW_kcp = sum_nij columns_ncpij dy_nkij: a correlation of the input with dy
    dweight = torch.einsum("ncpij,nkij->kcp", columns, dy).reshape(weight.shape)
    # dL/dcolumns_ncpij = sum_k dy_nkij W_kcp, pasted back: a transposed convolution
    dcolumns = torch.einsum("nkij,kcp->ncpij", dy, weight.flatten(2))
    dx = _crop(_paste(dcolumns, padded, weight.shape[2:], stride), padding)
    return {"x": dx, "weight": dweight, "bias": dy.sum((0, 2, 3))}


def max_pool2d_forward(
    x: torch.Tensor, kernel_size: int, stride: int | None = None, padding: int = 0
) -> tuple[torch.Tensor, Cache]:
    """y[i, j] = the largest of x[i stride + r, j stride + s] over the window.

    Args:
      x: float (N, C, H, W), padded with -inf.
      kernel_size: R = S, sides of the window.
      stride: step of the window; None for kernel_size. jax: flax's default is 1.
      padding: on each of the four sides, at most half of kernel_size.

    Returns: y, float (N, C, H', W'), and the cache.

    Raises:
      ValueError: if stride, padding or kernel_size do not fit.
    """
    columns = _windows(x, kernel_size, stride, padding, fill=-torch.inf)
    which = columns.argmax(2)  # of equal ones the first
    return columns.gather(2, which[:, :, None])[:, :, 0], (which, x)


def max_pool2d_backward(
    dy: torch.Tensor, cache: Cache, kernel_size: int, stride: int | None = None, padding: int = 0
) -> Grads:
    """dy, float (N, C, H', W'), and the options of the forward pass -> "x".

    Of equal ones the first gets all, as in both frameworks' pooling. (Their reductions `jnp.max`
    and `torch.amax` share the gradient among equals.)
    """
    which, x = cache
    # dy_ncij/dcolumns_ncpij = [p = which_ncij]: the winner takes it all
    cells = torch.arange(kernel_size**2, device=x.device).view(-1, 1, 1)
    dcolumns = torch.where(cells == which[:, :, None], dy[:, :, None], 0)
    return {"x": _unwindows(dcolumns, x, kernel_size, stride, padding)}


def avg_pool2d_forward(
    x: torch.Tensor, kernel_size: int, stride: int | None = None, padding: int = 0
) -> tuple[torch.Tensor, Cache]:
    """y[i, j] = the mean of x[i stride + r, j stride + s] over the window; padded zeros count.

    Args, returns and raises: as `max_pool2d_forward`.
    """
    return _windows(x, kernel_size, stride, padding, fill=0).mean(2), (x,)


def avg_pool2d_backward(
    dy: torch.Tensor, cache: Cache, kernel_size: int, stride: int | None = None, padding: int = 0
) -> Grads:
    """dy, float (N, C, H', W'), and the options of the forward pass -> "x"."""
    (x,) = cache
    # dy_ncij/dcolumns_ncpij = 1 / (R S): equal shares
    cells = kernel_size**2
    dcolumns = (dy / cells)[:, :, None].expand(-1, -1, cells, -1, -1)
    return {"x": _unwindows(dcolumns, x, kernel_size, stride, padding)}


def _windows(x, kernel_size, stride, padding, fill):
    if padding > kernel_size // 2:
        raise ValueError(f"padding {padding} is more than half of kernel_size {kernel_size}")
    return _cut(_pad(x, padding, fill), (kernel_size,) * 2, _step(kernel_size, stride))


def _unwindows(dcolumns, x, kernel_size, stride, padding):
    shape, step = (kernel_size,) * 2, _step(kernel_size, stride)
    return _crop(_paste(dcolumns, _pad(x, padding), shape, step), padding)


def _step(kernel_size, stride):
    return kernel_size if stride is None else stride


def _pad(x, padding, fill=0.0):
    if padding < 0:
        raise ValueError(f"padding must not be negative, and is {padding}")
    return pad(x, (padding,) * 4, value=fill)


def _crop(x, padding):
    return x[..., padding : x.shape[2] - padding, padding : x.shape[3] - padding]


def _cut(x, kernel, stride):
    """(N, C, H, W) -> (N, C, R S, H', W'): a copy for each cell of the kernel."""
    if stride < 1:
        raise ValueError(f"stride must be positive, and is {stride}")
    if min(kernel) < 1 or kernel[0] > x.shape[2] or kernel[1] > x.shape[3]:
        raise ValueError(f"a kernel of {(*kernel,)} does not fit the padded x {(*x.shape,)}")
    columns = unfold(x, kernel, stride=stride)  # jax: a gather
    height = (x.shape[2] - kernel[0]) // stride + 1
    return columns.view(*x.shape[:2], -1, height, columns.shape[2] // height)


def _paste(parts, x, kernel, stride):
    """The adjoint of `_cut`: (N, C, R S, H', W') -> the shape of x."""
    return fold(parts.flatten(3).flatten(1, 2), x.shape[2:], kernel, stride=stride)
