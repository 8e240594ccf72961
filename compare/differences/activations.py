"""Activations: forms, slopes and what happens at a kink."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compare.differences import Difference, Edit, Site
from compare.differences.measuring import gap, grid, jax64


def _gelu() -> tuple[float, float]:
    import jax
    import torch.nn.functional as F

    x = grid(-8, 8)
    return (
        gap(F.gelu(x), jax64(jax.nn.gelu, x)),
        gap(F.gelu(x), jax64(lambda v: jax.nn.gelu(v, approximate=False), x)),
    )


def _gelu_forms(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    exact, tanh = "jax.nn.gelu(x, approximate=False)", "jax.nn.gelu(x)"
    ours = getattr(site.module, "approximate", None) or site.kwargs.get("approximate", "none")
    other = "tanh" if ours == "none" else "none"
    yield Edit(
        exact if ours == "none" else tanh,
        f"F.gelu(x, approximate={other!r})",
        site.replaced(lambda x, *_: F.gelu(x, approximate=other)),
    )


gelu = Difference(
    code="ACT-01",
    title="GELU variant",
    torch="nn.GELU(), F.gelu: the exact form, x Phi(x)",
    jax="jax.nn.gelu: the tanh approximation (approximate=True)",
    fix_torch="nn.GELU(approximate='tanh')",
    fix_jax="jax.nn.gelu(x, approximate=False)",
    kinds="gelu|GELU",
    measure=_gelu,
    edits=_gelu_forms,
)


def _slope() -> tuple[float, float]:
    import flax.linen as fnn
    import torch
    from torch import nn

    x = grid(-8, 8)
    layer = nn.PReLU().double()

    def flax(start: float) -> np.ndarray:
        def run(v):
            import jax

            module = fnn.PReLU(negative_slope_init=start)
            return module.apply(module.init(jax.random.key(0), v), v)

        return jax64(run, x)

    with torch.no_grad():
        return gap(layer(x), flax(0.01)), gap(layer(x), flax(0.25))


prelu = Difference(
    code="ACT-02",
    title="PReLU's first slope",
    torch="nn.PReLU(init=0.25)",
    jax="nn.PReLU(negative_slope_init=0.01)",
    fix_torch="nn.PReLU(init=0.01)",
    fix_jax="nn.PReLU(negative_slope_init=0.25)",
    kinds="",  # copied weights hide it: the slope is a parameter
    measure=_slope,
)
