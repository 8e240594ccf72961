"""Each side's own dropout with its own generator: rate, scale and independence, by statistics."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compare.capture.given import mode_name
from compare.capture.masks import SIDES, Draw, single
from compare.capture.taps import input_key
from compare.ladder import verdict as V
from compare.share import to_numpy
from compare.twin import Phase, generator

UNLIKELY = 1e-6  # two-sided probability under which chance is no explanation
ELEMENTS = 2**13  # drawn of each mask, where CALLS calls give so many
CALLS = 256
LARGEST = 2**22  # elements of masks and parameters in all calls; two are made in any case
Wrong = dict[str, str]  # what is wrong -> by how much
Draws = list[tuple[Draw, np.ndarray]]  # each with its masks, stacked over calls
Layers = dict[str, tuple[np.ndarray, np.ndarray]]  # input and output of layers that drop


def sampler(pair: Any) -> tuple[str, list[tuple[str, str]]]:
    """Tests the masks that each side of a `compare.ladder.pair.Pair` draws in train mode.

    Returns:
      A line on what was tested, and findings: a rate that is not PyTorch's, a scale that does not
      make up for it, elements, channels, or masks of two successive calls that depend on one
      another. What is wrong alike on both sides is no difference, and is not told.
    """
    found, tested = [], []
    for phase in pair.twin.updates:
        declared = pair.given.draws[mode_name(phase)]
        sizes = [int(np.prod(draw.shape)) for draw in declared] or [1]
        weights = sum(int(np.prod(leaf.shape)) for leaf in pair.leaves.values())
        calls = min(CALLS, -(-ELEMENTS // max(1, min(sizes))), LARGEST // (sum(sizes) + weights))
        wrong = []
        for run in (_torch, _jax):
            draws, layers = run(pair, phase, max(2, calls))
            rates = [draw.keep for draw in (declared if len(declared) == len(draws) else [])]
            wrong.append(examine(draws, rates))
            for index, (x, y) in enumerate(layers.values(), 1):
                if text := scaled(x, y):
                    wrong[-1][f"layer {index} that drops"] = text
            count = len(draws[0][1]) if draws else 0
            tested.append(f"{len(draws)} in {count} call{'' if count == 1 else 's'}")
        for side, ours, others in zip(SIDES, wrong, wrong[::-1], strict=True):
            found += [
                (V.DIVERGED, f"{side} by itself, {name}: {text}")
                for name, text in ours.items()
                if name not in others
            ]
    line = "masks of each side's own sampler: " + ", ".join(
        f"{side} {count}" for side, count in zip(SIDES * len(tested), tested, strict=False)
    )
    return f"{line}; {len(found) or 'no'} finding{'' if len(found) == 1 else 's'}", found


def examine(draws: Draws, rates: Sequence[float | None] = ()) -> Wrong:
    """Tests masks for their rate and for independence.

    Args:
      draws: what was drawn, with the masks of successive calls, (calls, …).
      rates: the probabilities to keep that were meant, where they are not the draws' own.
    """
    wrong: Wrong = {}

    def test(name: str, hits: np.ndarray, chance: float, source: str = "") -> None:
        if _unlikely(int(hits.sum()), hits.size, chance):
            where = f" ({source})" if source else ""
            wrong[name] = f"{hits.mean():.4g} of {hits.size}, not {chance:.4g}{where}"

    for number, (draw, masks) in enumerate(draws):
        own = draw.keep
        if own is None:
            continue
        meant = rates[number] if rates else own
        if meant is None or abs(1 - meant - own) < UNLIKELY:
            meant = own
        name = f"dropout {number + 1}"
        test(f"{name}: kept", masks, meant, draw.source)
        alike = own**2 + (1 - own) ** 2
        for axis in range(1, masks.ndim):
            even = masks.shape[axis] // 2 * 2
            a, b = (masks.take(range(start, even, 2), axis) for start in (0, 1))
            if even:
                along = f"{name}: neighbours along axis {axis - 1} that are alike"
                test(along, a == b, alike, draw.source)
        even = len(masks) // 2 * 2
        successive = f"{name}: elements alike in two successive calls"
        test(successive, masks[:even:2] == masks[1:even:2], alike, draw.source)
    for (one, (a, x)), (two, (b, y)) in itertools.combinations(enumerate(draws), 2):
        if a.keep is not None and b.keep is not None and x.shape == y.shape:
            alike = a.keep * b.keep + (1 - a.keep) * (1 - b.keep)
            test(f"dropout {one + 1} and dropout {two + 1}: elements alike", x == y, alike)
    return wrong


def scaled(x: np.ndarray, y: np.ndarray) -> str:
    """Tests that a layer which drops multiplies what it keeps by one over the rate of keeping.

    Returns:
      What is wrong, or "".
    """
    if x.shape != y.shape:
        return ""  # not of its elements: of its weights
    kept, known = y != 0, x != 0
    if (kept | ~known).all():
        return ""  # in eval mode, or at rate 0
    ratios = y[kept & known] / x[kept & known]
    scale = float(np.median(ratios)) if ratios.size else 0.0
    rounding = 16 * np.finfo(x.dtype).eps * abs(scale)
    if not (scale > 0 and np.abs(ratios - scale).max() <= rounding):
        return "what is kept is not scaled by one number"
    for axis in range(kept.ndim):  # a mask that is shared over an axis counts once
        one = kept.any(axis, keepdims=True)
        if ((kept == one) | ~known).all():
            kept, known = one, known.any(axis, keepdims=True)
    hits = kept[known]
    if scale >= 1 and not _unlikely(int(hits.sum()), hits.size, 1 / scale):
        return ""
    return f"{hits.mean():.4g} of {hits.size} are kept, but multiplied by {scale:.6g}"


def _unlikely(hits: int, of: int, chance: float) -> bool:
    from scipy.stats import binomtest

    return bool(of) and binomtest(hits, of, min(chance, 1.0)).pvalue < UNLIKELY


def _drops(kind: str) -> bool:
    return "drop" in kind.lower()


def _torch(pair: Any, phase: Phase, calls: int) -> tuple[Draws, Layers]:
    import torch

    from compare.capture.torch_masks import Masks
    from compare.capture.torch_recorder import Recorder, source

    run = pair.run("torch:cpu", "float64")
    seen: list[Masks] = []
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    inputs, _ = run._batch(pair.given.batch)
    run._mode(train=True)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), run._settings():
        torch.manual_seed(int(generator(pair.seed, "sampler").integers(2**31)))
        for _ in range(calls):
            with Masks(source) as masks, Recorder(run.model, inputs=True) as recorder:
                run._call(phase, [x.clone() for x in inputs])
            seen.append(masks)
            for key, tap in recorder.info.items():
                x = _input(recorder.taps, key)
                if _drops(tap.kind) and x is not None:
                    pairs.setdefault(key, []).append((to_numpy(x), to_numpy(recorder.taps[key])))
    draws = [
        (draw, np.stack([to_numpy(masks.masks[number]) for masks in seen]))
        for number, draw in enumerate(seen[0].draws)
    ]
    return draws, {
        k: (np.stack([x for x, _ in v]), np.stack([y for _, y in v])) for k, v in pairs.items()
    }


def _jax(pair: Any, phase: Phase, calls: int) -> tuple[Draws, Layers]:
    import flax.linen as fnn
    import jax

    from compare.capture.compiler import jit
    from compare.capture.jax_forward import forward, rooted
    from compare.capture.jax_masks import Own
    from compare.capture.jaxpr import Walk

    run = pair.run("xla:cpu", "float64", inputs=True)
    walks: list[Walk] = []
    with run.context():
        variables, (inputs, _) = run._variables(), run._batch(pair.given.batch)

        def train(key: Any) -> Any:
            return forward(pair.twin, run.model, variables, inputs, phase.call, True, key)[0]

        closed = jax.make_jaxpr(train)(jax.random.key(0))
        used, _ = run.programs.random(closed)

        @jit
        def once(key: Any) -> Any:
            walk = Walk(inputs=True, root=rooted(run.model), sampler=Own(None, used))
            walk.run(closed, [key])
            walks.append(walk)
            layers = {
                name: (x, walk.taps[name])
                for name, tap in walk.info.items()
                if _drops(tap.kind) and name in walk.taps
                if (x := _input(walk.taps, name)) is not None
            }
            return walk.sampler.seen, layers

        first = jax.random.key(generator(pair.seed, "sampler").integers(2**31))
        results = [jax.device_get(once(first))]
        # Only a Linen module is handed its key: others draw the same in every call.
        calls = calls if isinstance(run.model, fnn.Module) else 1
        for index in range(1, calls):
            results.append(jax.device_get(once(jax.random.fold_in(first, index))))
    seen, layers = jax.tree.map(lambda *values: np.stack(values), *results)
    draws: Draws = []
    for site, (masks, keep) in zip(walks[-1].sampler.sites, seen, strict=True):
        for mask in _iterations(masks, len(site.lengths)):
            if not any(np.array_equal(mask, other) for _, other in draws):
                draws.append((Draw(site.shape, single(keep), site.source), mask))
    return draws, layers


def _iterations(masks: np.ndarray, scans: int) -> np.ndarray:
    """The masks of a place in scans, each iteration's alone: (iterations, calls, …)."""
    return np.moveaxis(masks.reshape(len(masks), -1, *masks.shape[1 + scans :]), 1, 0)


def _input(taps: Mapping[str, Any], key: str) -> Any:
    """What a layer was given, its first argument if there are several."""
    return next((taps[k] for s in ("", ".0") if (k := input_key(key, s)) in taps), None)
