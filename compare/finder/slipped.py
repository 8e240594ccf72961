"""A slip of the porter's own conversion as what was found: the leaf, and what it is instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from compare.capture.distance import distance, finite_norm
from compare.capture.given import mode_name
from compare.differences.catalogue import Edit, catalogue
from compare.finder.found import Cause, Found, Origin
from compare.finder.sites import updated
from compare.ladder import verdict as V
from compare.weights.map import shown
from compare.weights.own import Slip

if TYPE_CHECKING:
    from compare.finder.replay import Replay

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


def summed(found: Found, replay: Replay) -> None:
    """Names two tensors that JAX has the sum of, and shows that in a step it moves as one does."""
    weights, state = replay.pair.weights, replay.pair.given.state
    leaf, names = next(iter(weights.summed.items()))
    (path,) = {link.jax for link in weights.links if "/".join(link.jax[1:]) == leaf}
    start = {name: state[name].astype(np.float64) for name in names}
    found.origin = Origin("weights", names[0], leaf, "", "weights")
    for phase in replay.pair.twin.updates:
        ours, theirs = updated(replay, f"{mode_name(phase)}/free/param/")
        if not all(name in ours for name in names):
            continue

        def moved(after: Mapping[str, np.ndarray]) -> np.ndarray:
            return weights.to_jax(after)[path] - weights.to_jax(start)[path]

        jax = moved({names[0]: theirs[names[0]]})
        before = _apart(moved({name: ours[name] for name in names}), jax)
        after = _apart(moved(start | {names[0]: ours[names[0]]}), jax)
        found.origin.difference = before
        if after < V.RELATIVE < before:
            difference = catalogue()[CODES["summed"]]
            fix = Edit(difference.fix_jax, difference.fix_torch, lambda: None)
            found.cause = Cause(difference, fix, before, after)
        return


def _apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    return distance(ours, theirs) / (finite_norm(ours) or 1.0)
