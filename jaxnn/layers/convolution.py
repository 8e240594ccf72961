"""Convolutions with torch.nn's options, channels last.

Linen's one `nn.Conv` pads "SAME" unless told otherwise, knows no mode "replicate", and takes the
modes "CIRCULAR" and "REFLECT" with no other width than "SAME". `kernel` is laid out as there: the
window, input channels of a group, output channels. Everything starts uniform in +-1/sqrt(fan_in).
"""

import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from jaxnn.layers.patches import conv

__all__ = ["Conv1d", "Conv2d", "Conv3d"]

MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class _Conv(nn.Module):
    in_channels: int
    out_channels: int
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: str | int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    groups: int = 1
    bias: bool = True
    padding_mode: str = "zeros"

    rank = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps (N, ..., in_channels) to (N, ..., out_channels), float."""
        chex.assert_rank(x, self.rank + 2)
        chex.assert_axis_dimension(x, -1, self.in_channels)
        window, stride, dilation = (
            (given,) * self.rank if isinstance(given, int) else given
            for given in (self.kernel_size, self.stride, self.dilation)
        )
        pads = self._pads(x.shape[1:-1], window, stride, dilation)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(f"{name}={getattr(self, name)} is no multiple of {self.groups}")

        inputs = self.in_channels // self.groups
        init = uniform(inputs * math.prod(window))
        kernel = self.param("kernel", init, (*window, inputs, self.out_channels))
        bias = self.param("bias", init, (self.out_channels,)) if self.bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=None)

        if self.padding_mode != "zeros":
            x = jnp.pad(x, ((0, 0), *pads, (0, 0)), MODES[self.padding_mode])
            pads = ((0, 0),) * self.rank
        y = conv(
            x,
            kernel,
            stride,
            pads,
            rhs_dilation=dilation,
            dimension_numbers=layout(self.rank),
            feature_group_count=self.groups,
        )
        return y if bias is None else y + bias

    def _pads(self, sizes, window, stride, dilation):
        """The padding of each spatial axis, low and high."""
        if self.padding_mode not in MODES:
            raise ValueError(f"padding_mode={self.padding_mode!r} is none of {', '.join(MODES)}")
        if self.padding == "same":
            if max(stride) > 1:
                raise ValueError("padding='same' with a stride: say how much to pad")
            # what does not divide goes to the high side
            reach = [d * (k - 1) for k, d in zip(window, dilation, strict=True)]
            pads = tuple((r // 2, r - r // 2) for r in reach)
        elif isinstance(self.padding, str):
            if self.padding != "valid":
                raise ValueError(f"padding={self.padding!r} is neither 'same' nor 'valid'")
            pads = ((0, 0),) * self.rank
        else:
            given = self.padding
            given = (given,) * self.rank if isinstance(given, int) else given
            pads = tuple((p, p) for p in given)
        # a reflection leaves out the border itself; jnp.pad would reflect again and again
        spare = {"reflect": 1, "circular": 0}.get(self.padding_mode)
        widest = max(max(pad) - size for pad, size in zip(pads, sizes, strict=True))
        if spare is not None and widest > -spare:
            raise ValueError(f"padding={self.padding!r} is too wide to {self.padding_mode} {sizes}")
        return pads


def uniform(fan_in: int) -> nn.initializers.Initializer:
    """Uniform in +-1/sqrt(fan_in), what torch.nn calls kaiming_uniform_(a=sqrt(5))."""
    bound = 1 / math.sqrt(fan_in)

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def layout(rank: int) -> tuple[str, str, str]:
    """The axes of input, kernel and output for `lax`."""
    axes = "DHW"[-rank:]
    return f"N{axes}C", f"{axes}IO", f"N{axes}C"


class Conv1d(_Conv):
    """Cross-correlation of sequences, (N, L, C) -> (N, L', O), plus a bias.

    y[n, i, o] = b[o] + sum over k, c of x[n, i * stride + k * dilation - padding, c] w[k, c, o],
    where a group of outputs sums over its own group of inputs alone, and
    L' = (L + 2 padding - dilation (kernel_size - 1) - 1) // stride + 1.

    Variables: params `kernel`, (K, C / groups, O), and `bias`, (O,).

    Args:
      in_channels: C.
      out_channels: O.
      kernel_size: K.
      stride: distance of two windows.
      padding: on both sides; "same" for L' = L (stride 1 only), "valid" for none.
      dilation: distance of two elements of the window.
      groups: divides C and O.
      bias: whether there is one.
      padding_mode: "zeros", "reflect", "replicate" or "circular".

    Raises:
      ValueError: for a padding or mode other than these, "same" with a stride, groups that do not
        divide the channels, or a reflected padding of L or more (circular: of more than L). torch:
        RuntimeError in the last case.
    """

    rank = 1


class Conv2d(_Conv):
    """Cross-correlation of images, (N, H, W, C) -> (N, H', W', O), plus a bias; as `Conv1d`.

    Variables: params `kernel`, (kh, kw, C / groups, O), and `bias`, (O,).

    Args: as `Conv1d`; sizes of both axes as one number, or one for each.
    """

    rank = 2


class Conv3d(_Conv):
    """Cross-correlation of volumes, (N, D, H, W, C) -> (N, D', H', W', O), plus a bias.

    Variables: params `kernel`, (kd, kh, kw, C / groups, O), and `bias`, (O,).

    Args: as `Conv1d`; sizes of the three axes as one number, or one for each.
    """

    rank = 3
