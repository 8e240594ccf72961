"""How exactly PyTorch multiplies float32, whichever of its two sets of switches was used before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

cudnn: Any = torch.backends.cudnn  # modules that give what they hold when they are asked
mkldnn: Any = torch.backends.mkldnn
ON_CUDA = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
ON_CPU = (mkldnn.matmul, mkldnn.conv, mkldnn.rnn)


@contextlib.contextmanager
def multiplied(tf32: bool) -> Iterator[None]:
    """Inside, products, convolutions and recurrences of float32 are whole; TF32 is for CUDA alone.

    PyTorch's older switches (`allow_tf32`, `set_float32_matmul_precision`) raise an error where the
    newer ones (`fp32_precision`) contradict them, and when they turn TF32 off in cuDNN, what the
    newer ones say of all backends still holds: so both are set, and both are put back.
    """
    homes: list[Any] = [*ON_CUDA, *ON_CPU]
    newer = [home.fp32_precision for home in homes]
    products, others = _known(torch.get_float32_matmul_precision), _known(lambda: cudnn.allow_tf32)
    _older("high" if tf32 else "highest", tf32)
    for home in homes:
        home.fp32_precision = "tf32" if tf32 and home in ON_CUDA else "ieee"
    try:
        yield
    finally:
        _older(products, others)
        for home, precision in zip(homes, newer, strict=True):
            home.fp32_precision = precision


def _known(ask: Callable[[], Any]) -> Any:
    """What an older switch says; None where a newer one contradicts it."""
    try:
        return ask()
    except RuntimeError:
        return None


def _older(products: str | None, others: bool | None) -> None:
    if products is not None:
        torch.set_float32_matmul_precision(products)
    if others is not None:
        cudnn.allow_tf32 = others
