"""The demonstration: a small transformer encoder in PyTorch, and a port to Flax with one slip."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from compare.twin import Array, Twin


def _torch() -> Any:
    from compare.study.demo.torch_encoder import TorchEncoder

    return TorchEncoder()


def _flax(*exact: bool) -> Any:
    from compare.study.demo.flax_encoder import FlaxEncoder

    return FlaxEncoder(exact)


slip = Twin(
    torch=_torch,
    jax=lambda: _flax(True, False),
    inputs={"x": Array((2, 8, 16))},
    rename={r"blocks\.(\d+)": r"blocks_\1"},
    name="demo",
)
mended = replace(slip, jax=lambda: _flax(True, True))
