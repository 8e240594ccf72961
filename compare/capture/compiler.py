"""What the harness compiles is computed right, whatever XLA makes of some programs.

jaxlib 0.10.2 computes some reductions of matrix products wrongly on the CPU, without a word: the
fusion of them, which can be turned off by an option of one compilation. Whether the installed
version needs that is not read from its number: small programs, the canaries, are compiled and run
operation by operation, and must agree.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.share import to_jax, to_numpy
from compare.twin import generator

FUSION = "xla_cpu_experimental_ynn_fusion_type"
# What the harness compiles with: single products and convolutions keep the fast kernels, without
# which a step of ResNet-18 in float64 takes sixteen times as long; nothing is fused with them.
UNFUSED = {FUSION: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"}
REMEDY = {FUSION: ""}  # the shortest that mends a function of a user's
DTYPES = {"float64": 1e-9, "float32": 1e-4}  # by how much compiled and uncompiled may differ


@dataclass(frozen=True)
class Canary:
    """A small program that some compiler got wrong, or might.

    Args:
      name: what it computes.
      function: of arrays.
      shapes: theirs.
    """

    name: str
    function: Callable
    shapes: tuple[tuple[int, ...], ...]

    def apart(self, dtype: str, options: dict[str, Any] | None = None) -> float:
        """How far the compiled program is from the same operation by operation, relative.

        Args:
          dtype: of the arrays, "float64" or "float32".
          options: of the compilation.

        Returns:
          Infinity where it cannot be compiled or run.
        """
        cpu = jax.devices("cpu")[0]
        with jax.enable_x64(dtype == "float64"), jax.default_device(cpu):
            rng = generator(0, "canary", self.name)
            arrays = [to_jax(rng.standard_normal(shape), dtype, cpu) for shape in self.shapes]
            with jax.disable_jit():
                wanted = to_numpy(self.function(*arrays))
            try:
                with jax.disable_jit(False):  # whoever asks may have disabled it
                    found = to_numpy(jax.jit(self.function, compiler_options=options)(*arrays))
            except jax.errors.JaxRuntimeError:
                return float("inf")
        return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


CANARIES = (
    Canary(
        "the squared length of a matrix times each of 40,000 rows",
        lambda matrix, rows: jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2))(rows),
        ((3, 3), (40_000, 3)),
    ),
    Canary(
        "rows normalised by their mean and variance",
        lambda x: (x - x.mean(1, keepdims=True)) / jnp.sqrt(x.var(1, keepdims=True) + 1e-5),
        ((20_000, 9),),
    ),
    Canary(
        "attention over 130 positions",
        lambda q, k, v: jax.nn.softmax(q @ k.swapaxes(-1, -2)) @ v,
        ((6, 130, 8), (6, 130, 8), (6, 130, 8)),
    ),
    Canary("a sum over four of seven axes", lambda x: (x * x).sum((0, 2, 4, 6)), ((3,) * 7,)),
)


def failing(options: dict[str, Any] | None = None) -> Iterator[tuple[Canary, str, float]]:
    """The canaries that differ, with the dtype and by how much."""
    for canary in CANARIES:
        for dtype, limit in DTYPES.items():
            apart = canary.apart(dtype, options)
            if not apart <= limit:
                yield canary, dtype, apart


@functools.cache
def options() -> dict[str, Any] | None:
    """What this version needs to compile for the CPU as it should; None for nothing."""
    fusion = CANARIES[0]
    wrong = any(not fusion.apart(dtype) <= limit for dtype, limit in DTYPES.items())
    return UNFUSED if wrong else None


def jit(function: Callable, device: Any = None, **keywords: Any) -> Any:
    """`jax.jit` of what the harness runs.

    Args:
      device: where it will run; default the CPU.
      keywords: as of `jax.jit`.
    """
    on_cpu = device is None or device.platform == "cpu"
    return jax.jit(function, compiler_options=options() if on_cpu else None, **keywords)
