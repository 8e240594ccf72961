"""Transposed convolutions with torch.nn's options, channels last.

Linen's `nn.ConvTranspose` slides its window unflipped unless `transpose_kernel=True`, pads the
dilated input where torch crops the output, and has neither groups nor output_padding. `kernel` is
laid out as there with `transpose_kernel=True`: the window, outputs of a group, inputs. Everything
starts uniform in +-1/sqrt(fan_in), with fan_in the kernel's size over the inputs' number.
"""

import math

import chex
import flax.linen as nn
import jax
from flax.linen.dtypes import promote_dtype

from jaxnn.layers.convolution import layout, uniform
from jaxnn.layers.patches import conv

__all__ = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class _ConvTranspose(nn.Module):
    in_channels: int
    out_channels: int
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    output_padding: int | tuple[int, ...] = 0
    groups: int = 1
    bias: bool = True
    dilation: int | tuple[int, ...] = 1
    padding_mode: str = "zeros"

    rank = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps (N, ..., in_channels) to (N, ..., out_channels), float."""
        chex.assert_rank(x, self.rank + 2)
        chex.assert_axis_dimension(x, -1, self.in_channels)
        window, stride, padding, beyond, dilation = (
            (given,) * self.rank if isinstance(given, int) else given
            for given in (
                self.kernel_size,
                self.stride,
                self.padding,
                self.output_padding,
                self.dilation,
            )
        )
        self._check(stride, beyond, dilation)

        outputs = self.out_channels // self.groups
        init = uniform(outputs * math.prod(window))
        kernel = self.param("kernel", init, (*window, outputs, self.in_channels))
        bias = self.param("bias", init, (self.out_channels,)) if self.bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=None)

        # the convolution y -> x whose transpose maps x -> y
        def forward(y: jax.Array) -> jax.Array:
            return conv(
                y,
                kernel,
                stride,
                tuple((p, p - b) for p, b in zip(padding, beyond, strict=True)),
                rhs_dilation=dilation,
                dimension_numbers=layout(self.rank),
                feature_group_count=self.groups,
            )

        sizes = [
            (n - 1) * s - 2 * p + d * (k - 1) + b + 1
            for n, s, p, d, k, b in zip(
                x.shape[1:-1], stride, padding, dilation, window, beyond, strict=True
            )
        ]
        if min(sizes) < 1:
            raise ValueError(f"padding={self.padding} crops the whole output")
        image = jax.ShapeDtypeStruct((x.shape[0], *sizes, self.out_channels), x.dtype)
        (y,) = jax.linear_transpose(forward, image)(x)
        return y if bias is None else y + bias

    def _check(self, stride, beyond, dilation):
        if self.padding_mode != "zeros":
            raise ValueError(f"padding_mode={self.padding_mode!r}: only 'zeros' can be transposed")
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(f"{name}={getattr(self, name)} is no multiple of {self.groups}")
        if any(b >= max(s, d) for b, s, d in zip(beyond, stride, dilation, strict=True)):
            raise ValueError("output_padding must be smaller than either stride or dilation")


class ConvTranspose1d(_ConvTranspose):
    """The transpose of `Conv1d` as a linear map, (N, L, C) -> (N, L', O), plus a bias.

    y[n, i * stride + k * dilation - padding, o] += x[n, i, c] w[k, o, c] for all i, k and c: each
    input places a window, and windows add up where they overlap;
    L' = (L - 1) stride - 2 padding + dilation (kernel_size - 1) + output_padding + 1.

    Variables: params `kernel`, (K, O / groups, C), and `bias`, (O,).

    Args:
      in_channels: C.
      out_channels: O.
      kernel_size: K.
      stride: distance of two windows in the output.
      padding: what the convolution pads, and its transpose crops, on both sides.
      output_padding: further places on the high side: with a stride several L' are convolved to
        one L.
      groups: divides C and O.
      bias: whether there is one.
      dilation: distance of two elements of the window.
      padding_mode: "zeros" alone.

    Raises:
      ValueError: for another mode, groups that do not divide the channels, an output_padding that
        is smaller than neither stride nor dilation, or an output of no places. torch: RuntimeError
        in the last two cases.
    """

    rank = 1


class ConvTranspose2d(_ConvTranspose):
    """The transpose of `Conv2d` as a linear map, (N, H, W, C) -> (N, H', W', O), plus a bias.

    Variables: params `kernel`, (kh, kw, O / groups, C), and `bias`, (O,).

    Args: as `ConvTranspose1d`; sizes of both axes as one number, or one for each.
    """

    rank = 2


class ConvTranspose3d(_ConvTranspose):
    """The transpose of `Conv3d`, (N, D, H, W, C) -> (N, D', H', W', O), plus a bias.

    Variables: params `kernel`, (kd, kh, kw, O / groups, C), and `bias`, (O,).

    Args: as `ConvTranspose1d`; sizes of the three axes as one number, or one for each.
    """

    rank = 3
