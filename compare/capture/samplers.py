"""Each side's own dropout with its own generator: rate, scale and independence, by statistics."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compare import verdict as V
from compare.capture import input_key
from compare.capture.given import mode_name
from compare.capture.masks import Draw, single
from compare.share import to_numpy
from compare.twin import Phase, generator

UNLIKELY = 1e-6  # two-sided probability under which chance is no explanation
ELEMENTS = 2**13  # drawn of each mask, where CALLS calls give so many
CALLS = 512

Found = list[tuple[str, str]]
Draws = list[tuple[Draw, np.ndarray]]  # each with its masks, stacked over calls
Layers = dict[str, tuple[np.ndarray, np.ndarray]]  # input and output of layers that drop


def sampler(pair: Any) -> Found:
    """Tests the masks that each side of a `compare.ladder.Pair` draws by itself in train mode.

    Returns:
      Findings: a rate that is not PyTorch's, a scale that does not make up for it, elements,
      channels, masks of one call or masks of two successive calls that depend on one another.
    """
    found: Found = []
    for phase in pair.twin.updates:
        declared = pair.given.draws[mode_name(phase)]
        sizes = [int(np.prod(draw.shape)) for draw in declared]
        calls = 2 * (min(CALLS, max(2, -(-ELEMENTS // max(1, min(sizes, default=1))))) // 2)
        for side, run in (("PyTorch", _torch), ("JAX", _jax)):
            draws, layers = run(pair, phase, calls)
            rates = [draw.keep for draw in (declared if len(declared) == len(draws) else [])]
            found += examine(side, draws, rates)
            for name, (x, y) in layers.items():
                found += scaled(f"{side}, {name}", x, y)
    return found


def examine(side: str, draws: Draws, rates: Sequence[float | None] = ()) -> Found:
    """Tests masks for their rate and for independence.

    Args:
      draws: what was drawn, with the masks of an even number of successive calls, (calls, …).
      rates: the probabilities to keep that were meant, where they are not the draws' own.
    """
    found: Found = []

    def test(hits: np.ndarray, chance: float, text: str) -> None:
        if _unlikely(int(hits.sum()), hits.size, chance):
            text = f"{side}, {text}: {hits.mean():.4g} of {hits.size}, not {chance:.4g}"
            found.append((V.DIVERGED, text))

    for number, (draw, masks) in enumerate(draws):
        own = draw.keep
        if own is None:
            continue
        meant = rates[number] if rates else own
        if meant is None or abs(1 - meant - own) < UNLIKELY:
            meant = own
        name = f"dropout {number + 1}" + (f" ({draw.source})" if draw.source else "")
        test(masks, meant, f"{name}: kept")
        alike = own**2 + (1 - own) ** 2
        for axis in range(1, masks.ndim):
            even = masks.shape[axis] // 2 * 2
            a, b = (masks.take(range(start, even, 2), axis) for start in (0, 1))
            if even:
                test(a == b, alike, f"{name}: neighbours along axis {axis - 1} that are alike")
        test(masks[::2] == masks[1::2], alike, f"{name}: elements alike in two successive calls")
    for (one, (a, x)), (two, (b, y)) in itertools.combinations(enumerate(draws), 2):
        if a.keep is not None and b.keep is not None and x.shape == y.shape:
            alike = a.keep * b.keep + (1 - a.keep) * (1 - b.keep)
            test(x == y, alike, f"dropout {one + 1} and dropout {two + 1}: elements alike")
    return found


def scaled(name: str, x: np.ndarray, y: np.ndarray) -> Found:
    """Tests that a layer which drops multiplies what it keeps by one over the rate of keeping."""
    kept, known = y != 0, x != 0
    if (kept | ~known).all():
        return []  # in eval mode, or at rate 0
    ratios = y[kept & known] / x[kept & known]
    scale = float(np.median(ratios)) if ratios.size else 0.0
    rounding = 16 * np.finfo(x.dtype).eps * abs(scale)
    if not (scale > 0 and np.abs(ratios - scale).max() <= rounding):
        return [(V.DIVERGED, f"{name}: what is kept is not scaled by one number")]
    for axis in range(kept.ndim):  # a mask that is shared over an axis counts once
        one = kept.any(axis, keepdims=True)
        if ((kept == one) | ~known).all():
            kept, known = one, known.any(axis, keepdims=True)
    hits = kept[known]
    if scale >= 1 and not _unlikely(int(hits.sum()), hits.size, 1 / scale):
        return []
    text = f"{name}: {hits.mean():.4g} of {hits.size} are kept, but multiplied by {scale:.6g}"
    return [(V.DIVERGED, text)]


def _unlikely(hits: int, of: int, chance: float) -> bool:
    from scipy.stats import binomtest

    return bool(of) and binomtest(hits, of, min(chance, 1.0)).pvalue < UNLIKELY


def _drops(kind: str) -> bool:
    return "drop" in kind.lower()


def _torch(pair: Any, phase: Phase, calls: int) -> tuple[Draws, Layers]:
    import torch

    from compare.capture.torch_masks import Masks
    from compare.capture.torch_side import Recorder, source

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
    import jax

    from compare.capture.jax_masks import Own
    from compare.capture.jaxpr import Walk

    run = pair.run("xla:cpu", "float64", inputs=True)
    walks: list[Walk] = []
    with run._context():
        variables, (inputs, _) = run._variables(), run._batch(pair.given.batch)

        def forward(key: Any) -> Any:
            run.key = key
            return run._forward(variables, inputs, phase.call, True)[0]

        keys = jax.random.split(
            jax.random.key(generator(pair.seed, "sampler").integers(2**31)), calls
        )
        closed = jax.make_jaxpr(forward)(keys[0])
        masks, _ = run._random(closed)

        def once(key: Any) -> Any:
            walk = Walk(inputs=True, root=run._rooted(), sampler=Own(None, masks))
            walk.run(closed.jaxpr, closed.consts, [key])
            walks.append(walk)
            layers = {
                key: (x, walk.taps[key])
                for key, tap in walk.info.items()
                if _drops(tap.kind) and (x := _input(walk.taps, key)) is not None
            }
            return walk.sampler.seen, layers

        seen, layers = jax.jit(jax.vmap(once))(keys)
        walk = walks[-1]
        draws = [
            (Draw(site.shape, single(np.asarray(keep)), site.source), np.asarray(mask))
            for site, (mask, keep) in zip(walk.sampler.sites, seen, strict=True)
        ]
    return draws, {k: (to_numpy(x), to_numpy(y)) for k, (x, y) in layers.items()}


def _input(taps: Mapping[str, Any], key: str) -> Any:
    """What a layer was given, its first argument if there are several."""
    return next((taps[k] for s in ("", ".0") if (k := input_key(key, s)) in taps), None)
