"""Convolution and pooling with their backward passes by hand; for the pattern see `backprop`.

All three look through the same windows. `_cut` lays out what the cells of the kernel see (im2col),
after which a convolution is a product of matrices and a pooling a maximum or mean of columns. Its
adjoint `_paste` sums every cell's share back to where it was read: windows that overlap add up.

Images are (N, H, W, C), kernels (R, S, C, K). torch: (N, C, H, W) and (K, C, R, S).

Reference: Y. LeCun et al., "Backpropagation applied to handwritten zip code recognition", Neural
Computation 1 (1989).
"""

import jax
import jax.numpy as jnp

from jaxnn.foundations.backprop import Cache, Grads

__all__ = [
    "conv2d_forward",
    "conv2d_backward",
    "max_pool2d_forward",
    "max_pool2d_backward",
    "avg_pool2d_forward",
    "avg_pool2d_backward",
]


def conv2d_forward(
    x: jax.Array, weight: jax.Array, bias: jax.Array, stride: int = 1, padding: int = 0
) -> tuple[jax.Array, Cache]:
    """y[i, j] = b + sum_rs x[i stride + r, j stride + s] W[r, s], x padded with zeros.

    Strictly a cross-correlation, as in both frameworks: the kernel is not flipped.

    Args:
      x: float (N, H, W, C).
      weight: float (R, S, C, K).
      bias: float (K,).
      stride: step of the window, down and across.
      padding: zeros on each of the four sides.

    Returns: y, float (N, H', W', K) with H' = (H + 2 padding - R) // stride + 1, and the cache.

    Raises:
      ValueError: if the channels of weight are not x's, or stride, padding or kernel do not fit.
    """
    if weight.shape[2] != x.shape[3]:
        raise ValueError(f"weight {weight.shape} does not fit the channels of x {x.shape}")
    columns = _cut(_pad(x, padding), weight.shape[:2], stride)
    # y_nijk = sum_pc columns_npijc W_pck, p = (r, s)
    y = jnp.einsum("npijc,pck->nijk", columns, weight.reshape(-1, *weight.shape[2:]))
    return y + bias, (x, weight)


def conv2d_backward(dy: jax.Array, cache: Cache, stride: int = 1, padding: int = 0) -> Grads:
    """dy, float (N, H', W', K), and the options of the forward pass -> "x", "weight", "bias"."""
    x, weight = cache
    padded = _pad(x, padding)
    columns = _cut(padded, weight.shape[:2], stride)
    # dL/dW_pck = sum_nij columns_npijc dy_nijk: a correlation of the input with dy
    dweight = jnp.einsum("npijc,nijk->pck", columns, dy).reshape(weight.shape)
    # dL/dcolumns_npijc = sum_k dy_nijk W_pck, pasted back: a transposed convolution
    dcolumns = jnp.einsum("nijk,pck->npijc", dy, weight.reshape(-1, *weight.shape[2:]))
    dx = _crop(_paste(dcolumns, padded, weight.shape[:2], stride), padding)
    return {"x": dx, "weight": dweight, "bias": dy.sum((0, 1, 2))}


def max_pool2d_forward(
    x: jax.Array, kernel_size: int, stride: int | None = None, padding: int = 0
) -> tuple[jax.Array, Cache]:
    """y[i, j] = the largest of x[i stride + r, j stride + s] over the window.

    Args:
      x: float (N, H, W, C), padded with -inf.
      kernel_size: R = S, sides of the window.
      stride: step of the window; None for kernel_size. jax: flax's default is 1.
      padding: on each of the four sides, at most half of kernel_size.

    Returns: y, float (N, H', W', C), and the cache.

    Raises:
      ValueError: if stride, padding or kernel_size do not fit.
    """
    columns = _windows(x, kernel_size, stride, padding, fill=-jnp.inf)
    which = columns.argmax(1)  # of equal ones the first
    return jnp.take_along_axis(columns, which[:, None], axis=1)[:, 0], (which, x)


def max_pool2d_backward(
    dy: jax.Array, cache: Cache, kernel_size: int, stride: int | None = None, padding: int = 0
) -> Grads:
    """dy, float (N, H', W', C), and the options of the forward pass -> "x".

    Of equal ones the first gets all, as in both frameworks' pooling. (Their reductions `jnp.max`
    and `torch.amax` share the gradient among equals.)
    """
    which, x = cache
    # dy_nijc/dcolumns_npijc = [p = which_nijc]: the winner takes it all
    cells = jnp.arange(kernel_size**2).reshape(-1, 1, 1, 1)
    dcolumns = jnp.where(cells == which[:, None], dy[:, None], 0)
    return {"x": _unwindows(dcolumns, x, kernel_size, stride, padding)}


def avg_pool2d_forward(
    x: jax.Array, kernel_size: int, stride: int | None = None, padding: int = 0
) -> tuple[jax.Array, Cache]:
    """y[i, j] = the mean of x[i stride + r, j stride + s] over the window; padded zeros count.

    Args, returns and raises: as `max_pool2d_forward`.
    """
    return _windows(x, kernel_size, stride, padding, fill=0).mean(1), (x,)


def avg_pool2d_backward(
    dy: jax.Array, cache: Cache, kernel_size: int, stride: int | None = None, padding: int = 0
) -> Grads:
    """dy, float (N, H', W', C), and the options of the forward pass -> "x"."""
    (x,) = cache
    # dy_nijc/dcolumns_npijc = 1 / (R S): equal shares
    dcolumns = jnp.repeat(dy[:, None] / kernel_size**2, kernel_size**2, axis=1)
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
    sides = (padding, padding)
    return jnp.pad(x, ((0, 0), sides, sides, (0, 0)), constant_values=fill)


def _crop(x, padding):
    return x[:, padding : x.shape[1] - padding, padding : x.shape[2] - padding]


def _cells(x, kernel, stride):
    """Rows (P, H', 1) and columns (P, 1, W') of x that the P = R S cells of the kernel see."""
    if stride < 1:
        raise ValueError(f"stride must be positive, and is {stride}")
    if min(kernel) < 1 or kernel[0] > x.shape[1] or kernel[1] > x.shape[2]:
        raise ValueError(f"a kernel of {kernel} does not fit the padded x {x.shape}")
    down = jnp.arange(0, x.shape[1] - kernel[0] + 1, stride)
    across = jnp.arange(0, x.shape[2] - kernel[1] + 1, stride)
    r, s = jnp.divmod(jnp.arange(kernel[0] * kernel[1]), kernel[1])
    return (down + r[:, None])[:, :, None], (across + s[:, None])[:, None]


def _cut(x, kernel, stride):
    """(N, H, W, C) -> (N, R S, H', W', C): a copy for each cell of the kernel."""
    rows, columns = _cells(x, kernel, stride)
    return x[:, rows, columns]  # torch: F.unfold


def _paste(parts, x, kernel, stride):
    """The adjoint of `_cut`: (N, R S, H', W', C) -> the shape of x."""
    rows, columns = _cells(x, kernel, stride)
    return jnp.zeros_like(x).at[:, rows, columns].add(parts)  # torch: F.fold
