"""A slip of the porter's own conversion as what was found: the leaf, and what it is instead."""

from __future__ import annotations

import numpy as np

from compare.capture.distance import distance, finite_norm
from compare.differences.catalogue import Edit, catalogue
from compare.finder.found import Cause, Found, Origin
from compare.weights.map import shown
from compare.weights.own import Slip

# What a leaf is instead of its tensor -> the code, of a layer of its own where there is one.
CODES = {
    "transposed": "WT-01",
    "flipped": "WT-01",
    "reshaped": "WT-01",
    "reordered": "WT-01",
    "scaled": "WT-02",
    "shifted": "WT-02",
    "elementwise": "WT-02",
    "rounded": "WT-03",
    "constant": "WT-04",
    "part": "WT-04",
    "another": "WT-05",
    "rows": "WT-05",
    "joined": "WT-01",
    "lost": "RNN-02",
    "summed": "RNN-04",
}
OWN = {
    ("transposed", "Linear"): "LIN-01",
    ("transposed", "Conv1d"): "CONV-01",
    ("transposed", "Conv2d"): "CONV-01",
    ("transposed", "Conv3d"): "CONV-01",
    ("flipped", "ConvTranspose1d"): "CT-01",
    ("flipped", "ConvTranspose2d"): "CT-01",
    ("flipped", "ConvTranspose3d"): "CT-01",
    ("reordered", "LSTM"): "RNN-01",
    ("reordered", "GRU"): "RNN-09",
    ("rows", "LSTM"): "RNN-01",
    ("rows", "GRU"): "RNN-09",
}


def slipped(
    found: Found, slip: Slip, layer: str, change: tuple[float, float] | None = None
) -> None:
    """Names a slip as the origin, and as the cause what was done instead.

    Args:
      layer: the kind of PyTorch's layer that the tensor belongs to.
      change: how far the outputs are apart with the slip and without, where that told it; else the
        leaf is from its tensor, and from what was done to that.
    """
    link, relation = slip.link, slip.relation
    before, after = change or (_apart(slip.right, slip.value), 0.0)
    if relation is not None and change is None:
        after = _apart(relation.value, slip.value)
    info = {tap.path: tap for mode in found.result.info.values() for tap in mode.values()}
    others = {tap.path: tap for mode in found.result.others.values() for tap in mode.values()}
    ours = info.get(link.torch.rpartition(".")[0])
    theirs = others.get("/".join(link.jax[1:-1]))
    found.origin = Origin(
        "weights", link.torch, shown(link), "", "weights", before,
        torch_source=ours.source if ours else "", jax_source=theirs.source if theirs else "",
        ours=slip.right, theirs=slip.value,
    )  # fmt: skip
    if relation is not None:
        code = OWN.get((relation.kind, layer), CODES[relation.kind])
        fix = Edit(f"{shown(link)} = {slip.joined or link.expression}", "", lambda: None)
        found.cause = Cause(catalogue()[code], fix, before, after)


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    return distance(ours, theirs) / (finite_norm(ours) or 1.0)
