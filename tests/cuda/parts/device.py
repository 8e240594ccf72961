"""Whether there is a device at all, for each framework, compiled and not: one product each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from compare.capture.distance import distance, norm
from compare.share import to_jax, to_numpy, to_torch
from compare.twin import generator
from tests.cuda.parts import asked
from tests.cuda.runner import emit

LIMIT = 1e-12  # of a product of float64, relative


def main() -> None:
    kind = asked().device
    rng = generator(0, "device")
    a, b = rng.standard_normal((64, 96)), rng.standard_normal((96, 32))
    probes: dict[str, Callable[[], tuple[np.ndarray, dict[str, Any]]]] = {
        f"torch:{kind}": lambda: _torch(kind, a, b, False),
        f"torch:{kind}+compile": lambda: _torch(kind, a, b, True),
        f"xla:{kind}": lambda: _jax(kind, a, b),
        "flax": lambda: _flax(kind, a, b),
    }
    emit({"planned": list(probes)})
    for name, probe in probes.items():
        began = time.perf_counter()
        try:
            found, facts = probe()
            off = distance(found, a @ b) / norm(a @ b)
            row = {"verdict": "SAME" if off <= LIMIT else "DIVERGED", "float64": off, **facts}
        except Exception as error:  # of whatever kind: the other ones are still worth asking
            row = {"verdict": "CRASHED", "detail": f"{type(error).__name__}: {error}"[:600]}
        emit({"name": name, **row, "seconds": round(time.perf_counter() - began, 1)})


def _torch(kind: str, a: Any, b: Any, compiled: bool) -> tuple[np.ndarray, dict[str, Any]]:
    import torch

    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a @ b).relu() - (-(a @ b)).relu()

    call = torch.compile(product) if compiled else product
    found = call(to_torch(a, device=kind), to_torch(b, device=kind))
    assert found.device.type == kind
    facts = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    if kind == "cuda":
        facts |= {"capability": ".".join(map(str, torch.cuda.get_device_capability()))}
    return to_numpy(found), facts


def _jax(kind: str, a: Any, b: Any) -> tuple[np.ndarray, dict[str, Any]]:
    import jax

    where = jax.devices(kind)[0]
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        found = jax.jit(lambda a, b: a @ b)(to_jax(a, device=where), to_jax(b, device=where))
    assert found.devices() == {where}
    return to_numpy(found), {"device": where.device_kind, "platform": where.platform}


def _flax(kind: str, a: Any, b: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """As `_jax`, once flax is there: it wants rich, which a wheel can bring."""
    import flax.linen as nn
    import jax

    where = jax.devices(kind)[0]
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        variables = {"params": {"kernel": to_jax(b, device=where)}}
        layer = nn.Dense(b.shape[1], use_bias=False)
        return to_numpy(layer.apply(variables, to_jax(a, device=where))), {}


if __name__ == "__main__":
    main()
