"""What the convolutions share: their kinds, their arguments and their dilation."""

from __future__ import annotations

from typing import Any

from compare.differences.shared.layers import tupled

CONV = "weight bias stride padding dilation groups padding_mode"
CONV_KINDS = r"Conv[123]d|conv[123]d"
TRANSPOSED = "weight bias stride padding output_padding groups dilation"
TRANSPOSED_KINDS = r"ConvTranspose[123]d|conv_transpose[123]d"
Pads = list[tuple[int, int]]


def dilation_of(s: Any, n: int) -> tuple[int, ...]:
    return tupled(s.dilation or 1, n)
