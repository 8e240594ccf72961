"""A hand-written layer that is one of PyTorch's: known by what it gives of its own input.

Most language models spell out their RMSNorm and their GELU. The catalogue knows these as layers and
functions; so they are tried in the place of what is written there, and taken where they give the
same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.differences.catalogue import Site
from compare.differences.shared.frameworks import F, nn, torch
from compare.differences.shared.norms import EPSILONS
from compare.share import to_numpy

if TYPE_CHECKING:
    from compare.capture.torch_recorder import Call

CLOSE = 1e-12  # relative: rounding of float64
FUNCTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("gelu", {"approximate": "none"}),
    ("gelu", {"approximate": "tanh"}),
    ("silu", {}),
    ("relu", {}),
    ("mish", {}),
    ("softplus", {}),
    ("softmax", {"dim": -1}),
)


def recognised(call: Call, theirs: np.ndarray, ours: np.ndarray) -> Iterator[Site]:
    """The place as the catalogue has it, if the module is a layer of PyTorch's written out.

    Args:
      call: of the module, in float64.
      theirs, ours: as of `Site`.
    """
    module, inputs = call.module, call.args
    if module is None or len(inputs) != 1 or not isinstance(inputs[0], torch.Tensor):
        return
    (x,) = inputs
    if not x.is_floating_point():
        return
    held = dict(module.named_parameters())
    if not held:
        for name, keywords in FUNCTIONS:
            function = getattr(F, name)
            if _gives(function(x, **keywords), ours):
                yield Site(name, "output", theirs, ours, inputs, None, function, inputs, keywords)
                return
    for layer in _norms(module, x, held):
        if _gives(layer(x), ours):
            kind = type(layer).__name__
            yield Site(kind, "output", theirs, ours, inputs, layer, None, inputs)
            return


def _norms(module: Any, x: Any, held: dict[str, Any]) -> Iterator[Any]:
    """RMSNorm and LayerNorm with the module's parameters, and each eps that may be its own."""
    last = x.shape[-1:]
    vectors = [p.detach() for p in held.values() if p.shape == last]
    if not 0 < len(held) == len(vectors) <= 2:
        return
    own = [v for v in vars(module).values() if isinstance(v, float) and 0 <= v < 1]
    for eps in dict.fromkeys((*own, *EPSILONS)):
        for scale in (vectors[0], 1 + vectors[0]):
            kind = nn.RMSNorm if len(vectors) == 1 else nn.LayerNorm
            for layer in (kind(last, eps), nn.LayerNorm(last, eps, bias=len(vectors) > 1)):
                state = dict(zip(("weight", "bias"), (scale, *vectors[1:]), strict=False))
                layer.double().load_state_dict(state)
                yield layer


def _gives(value: Any, ours: np.ndarray) -> bool:
    found = to_numpy(value)
    if found.shape != ours.shape:
        return False
    return bool(np.linalg.norm(found - ours) <= CLOSE * np.linalg.norm(ours))
