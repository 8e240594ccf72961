"""Images: resizing and sampling."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, gaps, jax64, normal
from compare.differences.shared.calls import option
from compare.differences.shared.frameworks import F, jax, jnp

RESIZE = "interpolate|upsample|Upsample|UpsamplingNearest2d|UpsamplingBilinear2d"


def _resized(method: str, shape: tuple[int, int], **options: Any) -> Callable:
    def run(x):
        return jax.image.resize(x, (*x.shape[:2], *shape), method, **options)

    return run


def _taken(x: Any, index: Callable[[int, int], np.ndarray], shape: tuple[int, int]) -> Any:
    """Each spatial axis at the indices that a rule gives for its old and new length."""
    for axis, length in zip((2, 3), shape, strict=True):
        x = jnp.take(x, index(x.shape[axis], length), axis)
    return x


def _own(site: Site) -> tuple[str, dict[str, Any]]:
    """The mode of a resize, and its arguments for another call."""
    mode = option(site, "mode", 3, "nearest")
    size, scale = option(site, "size", 1), option(site, "scale_factor", 2)
    given = {"scale_factor": scale} if size is None else {"size": size}
    return mode, given


def _resize_call(site: Site) -> str:
    mode, _ = _own(site)
    align, smooth = option(site, "align_corners", 4), option(site, "antialias", 6, False)
    if mode == "nearest":
        return "jnp.take(x, jnp.floor(jnp.arange(n) * old / n), axis): PyTorch's nearest"
    if align:
        return f"{mode} with align_corners=True: jax.image.scale_and_translate"
    if mode == "bicubic" and not smooth:
        return "a cubic kernel with a = -0.75 and clamped edges, written out"
    return f"jax.image.resize(x, shape, {mode.removeprefix('tri')!r}, antialias={bool(smooth)})"


def _resizes(code: str) -> Callable[[Site], Iterator[Edit]]:
    """The other ways to resize that belong to one entry."""

    def edits(site: Site) -> Iterator[Edit]:
        mode, given = _own(site)
        right = _resize_call(site)
        own = {"mode": mode, "align_corners": bool(option(site, "align_corners", 4))}
        own["antialias"] = bool(option(site, "antialias", 6, False))
        # PyTorch samples with the factor that it is given, JAX with the ratio of the sizes
        factors = ({}, {"recompute_scale_factor": True}) if "size" not in given else ({},)
        for choice, factor in itertools.product(_ways(site.inputs[0].ndim - 2), factors):
            if _entry(own, choice) == code and (choice != own or factor):
                set_for = {k: v for k, v in choice.items() if v}
                keywords: dict[str, Any] = {**set_for, **given, **factor}
                text = ", ".join(f"{k}={v!r}" for k, v in keywords.items())
                yield Edit(
                    right,
                    f"F.interpolate(x, {text})",
                    site.replaced(lambda x, *_, k=keywords: F.interpolate(x, **k)),
                )

    return edits


def _ways(spatial: int) -> list[dict[str, Any]]:
    """Modes of F.interpolate with their options."""
    linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[spatial]
    modes = [linear, "bicubic"] if spatial == 2 else [linear]
    ways = [(mode, False, False) for mode in ("nearest", "nearest-exact", "area")]
    ways += [(mode, align, False) for mode in modes for align in (False, True)]
    ways += [(mode, False, True) for mode in modes] if spatial == 2 else []
    return [dict(zip(("mode", "align_corners", "antialias"), way, strict=True)) for way in ways]


def _entry(own: dict[str, Any], other: dict[str, Any]) -> str:
    """The entry that explains one way in place of another."""
    if own == other:
        return "IMG-02"
    if own["mode"] != other["mode"]:
        return (
            "IMG-01" if {own["mode"], other["mode"]} == {"nearest", "nearest-exact"} else "IMG-06"
        )
    if own["align_corners"] != other["align_corners"]:
        return "IMG-03"
    return "IMG-04" if own["mode"] == "bicubic" else "IMG-05"


def _nearest() -> tuple[float, float]:
    x = normal(1, 2, 6, 8)
    ours = F.interpolate(x, size=(9, 11))

    def floor(old, new):
        return np.floor(np.arange(new) * (old / new)).astype(int)

    return against(ours, _resized("nearest", (9, 11)), lambda v: _taken(v, floor, (9, 11)), x)


nearest = Difference(
    code="IMG-01",
    title="resizing to the nearest pixel: corner or centre",
    torch="F.interpolate(mode='nearest'): floor(i old / new)",
    jax="jax.image.resize('nearest'): the pixel's centre, as 'nearest-exact'",
    fix_torch="F.interpolate(x, size, mode='nearest-exact')",
    fix_jax="jnp.take(x, jnp.floor(jnp.arange(n) * old / n), axis)",
    kinds=RESIZE,
    measure=_nearest,
    edits=_resizes("IMG-01"),
)


def _of_modes(shape: tuple[int, int], ours: dict, naive: dict, mended: dict) -> Callable:
    """A measure: F.interpolate against two calls of jax.image.resize."""

    def measure() -> tuple[float, float]:
        x, theirs = normal(1, 2, 6, 8), partial(_resized, shape=shape)
        return against(F.interpolate(x, size=shape, **ours), theirs(**naive), theirs(**mended), x)

    return measure


antialias = Difference(
    code="IMG-05",
    title="making smaller: smoothed first or not",
    torch="F.interpolate(antialias=False)",
    jax="jax.image.resize(antialias=True)",
    fix_torch="F.interpolate(x, size, mode='bilinear', antialias=True)",
    fix_jax="jax.image.resize(x, shape, 'bilinear', antialias=False)",
    kinds=RESIZE,
    measure=_of_modes(
        (3, 5),
        {"mode": "bilinear"},
        {"method": "bilinear"},
        {"method": "bilinear", "antialias": False},
    ),
    edits=_resizes("IMG-05"),
)


def _corners() -> tuple[float, float]:
    x = normal(1, 2, 6, 8)
    ours = F.interpolate(x, size=(9, 11), mode="bilinear", align_corners=True)

    def aligned(v):
        scale = jnp.asarray([8 / 5, 10 / 7])
        return jax.image.scale_and_translate(
            v, (1, 2, 9, 11), (2, 3), scale, 0.5 - scale / 2, "bilinear", antialias=False
        )

    return against(ours, _resized("bilinear", (9, 11)), aligned, x)


corners = Difference(
    code="IMG-03",
    title="resizing with aligned corners",
    torch="F.interpolate(align_corners=True): the corner pixels' centres stay",
    jax="jax.image.resize: never",
    fix_torch="F.interpolate(x, size, mode='bilinear', align_corners=False)",
    fix_jax="jax.image.scale_and_translate with scale (new - 1) / (old - 1)",
    kinds=RESIZE,
    measure=_corners,
    edits=_resizes("IMG-03"),
)


def _cubic() -> tuple[float, float]:
    x = normal(1, 2, 6, 8)
    ours = F.interpolate(x, size=(9, 11), mode="bicubic")

    def weights(t, a=-0.75):
        near = [((a + 2) * s - (a + 3)) * s * s + 1 for s in (t, 1 - t)]
        far = [((a * s - 5 * a) * s + 8 * a) * s - 4 * a for s in (t + 1, 2 - t)]
        return far[0], near[0], near[1], far[1]

    def written(v):
        for axis, new in zip((2, 3), (9, 11), strict=True):
            old = v.shape[axis]
            at = (np.arange(new) + 0.5) * (old / new) - 0.5
            first = np.floor(at).astype(int)
            shape = [-1 if i == axis else 1 for i in range(4)]
            parts = [
                jnp.take(v, np.clip(first + k - 1, 0, old - 1), axis) * w.reshape(shape)
                for k, w in enumerate(weights(at - first))
            ]
            v = jnp.sum(jnp.stack(parts), 0)
        return v

    return against(ours, _resized("bicubic", (9, 11)), written, x)


cubic = Difference(
    code="IMG-04",
    title="cubic resizing: the kernel and the edges",
    torch="F.interpolate(mode='bicubic'): a = -0.75, edges clamped",
    jax="jax.image.resize('bicubic'): a = -0.5, weights at the edges scaled up",
    fix_torch="F.interpolate(x, size, mode='bicubic', antialias=True)",
    fix_jax="a cubic kernel with a = -0.75 and clamped edges, written out",
    kinds=RESIZE,
    measure=_cubic,
    edits=_resizes("IMG-04"),
)


def _scale() -> tuple[float, float]:
    x = normal(1, 2, 6, 8)
    ours = F.interpolate(x, scale_factor=1.6, mode="bilinear")

    def given(v):
        # edges clamped, as torch has them: one more pixel on each side
        v = jnp.pad(v, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
        scale = jnp.asarray([1.6, 1.6])
        return jax.image.scale_and_translate(
            v, (1, 2, 9, 12), (2, 3), scale, -scale, "bilinear", antialias=False
        )

    return against(ours, _resized("bilinear", (9, 12)), given, x)


scale = Difference(
    code="IMG-02",
    title="resizing by a factor that is no ratio of sizes",
    torch="F.interpolate(scale_factor=1.6): samples with the factor",
    jax="jax.image.resize: with new / old",
    fix_torch="F.interpolate(x, scale_factor=1.6, recompute_scale_factor=True)",
    fix_jax="jax.image.scale_and_translate with PyTorch's factor",
    kinds=RESIZE,
    measure=_scale,
    edits=_resizes("IMG-02"),
)


def _area() -> tuple[float, float]:
    x = normal(1, 2, 6, 8)
    naive = jax64(_resized("bilinear", (3, 4)), x)
    mended = jax64(lambda v: v.reshape(1, 2, 3, 2, 4, 2).mean((3, 5)), x)
    return gaps(F.interpolate(x, size=(3, 4), mode="area"), naive, mended)


area = Difference(
    code="IMG-06",
    title="resizing in another mode, by areas among them",
    torch="F.interpolate(mode='area'): the mean of the pixels that are covered",
    jax="jax.image.resize has no such method; 'bilinear' smooths more widely",
    fix_torch="F.interpolate(x, size, mode='bilinear', antialias=True)",
    fix_jax="x.reshape(n, c, h, r, w, r).mean((3, 5))",
    kinds=RESIZE,
    measure=_area,
    edits=_resizes("IMG-06"),
)


def _sampled(x: Any, grid: Any, align: bool, order: tuple[int, int] = (1, 0)) -> Any:
    """Values at the points of a grid in [-1, 1], as map_coordinates gives them."""
    from jax.scipy.ndimage import map_coordinates

    points = []
    for axis, length in zip(order, x.shape[2:], strict=True):
        g = grid[..., axis]
        points.append((g + 1) * (length - 1) / 2 if align else ((g + 1) * length - 1) / 2)

    def one(image, y, x):
        return map_coordinates(image, [y, x], order=1, mode="constant", cval=0.0)

    return jax.vmap(lambda v, a, b: jax.vmap(lambda c: one(c, a, b))(v))(x, *points)


def _sample() -> tuple[float, float]:
    x, grid = normal(2, 3, 5, 6), 0.5 * normal(2, 4, 4, 2, seed=1)
    naive = jax64(_sampled, x, grid, True)
    mended = jax64(_sampled, x, grid, False)
    return gaps(F.grid_sample(x, grid, align_corners=False), naive, mended)


def _samples(site: Site) -> Iterator[Edit]:
    mode, pad = option(site, "mode", 2, "bilinear"), option(site, "padding_mode", 3, "zeros")
    own = bool(option(site, "align_corners", 4, False))
    right = f"map_coordinates at {'(g + 1) (n - 1) / 2' if own else '((g + 1) n - 1) / 2'}, (y, x)"
    choices = itertools.product(
        dict.fromkeys((mode, "bilinear", "nearest")),
        dict.fromkeys((pad, "zeros", "border", "reflection")),
        (own, not own),
        (False, True),
    )
    for m, p, align, flip in choices:
        if (m, p, align, flip) != (mode, pad, own, False):
            text = f"mode={m!r}, padding_mode={p!r}, align_corners={align}"
            yield Edit(
                right,
                f"F.grid_sample(x, {'grid.flip(-1)' if flip else 'grid'}, {text})",
                site.replaced(
                    lambda x, g, *_, m=m, p=p, a=align, f=flip: F.grid_sample(
                        x, g.flip(-1) if f else g, mode=m, padding_mode=p, align_corners=a
                    )
                ),
            )


sample = Difference(
    code="IMG-07",
    title="sampling at a grid: corners, the order of coordinates, the border",
    torch="F.grid_sample: (x, y) in [-1, 1], align_corners=False, zeros outside",
    jax="map_coordinates: (y, x) in pixels",
    fix_torch="F.grid_sample(x, grid, align_corners=True)",
    fix_jax="map_coordinates at ((g + 1) * n - 1) / 2",
    kinds="grid_sample",
    measure=_sample,
    edits=_samples,
)


def _affine() -> tuple[float, float]:
    theta = normal(1, 2, 3)
    ours = F.affine_grid(theta, [1, 1, 4, 5], align_corners=False)

    def grid(t, align):
        ys, xs = (
            jnp.linspace(-1, 1, n) if align else (2 * jnp.arange(n) + 1) / n - 1 for n in (4, 5)
        )
        x, y = jnp.meshgrid(xs, ys)
        return jnp.stack([x, y, jnp.ones_like(x)], -1)[None] @ jnp.swapaxes(t, 1, 2)[:, None]

    return against(ours, lambda t: grid(t, True), lambda t: grid(t, False), theta)


def _affines(site: Site) -> Iterator[Edit]:
    own = bool(option(site, "align_corners", 2, False))
    size = option(site, "size", 1)
    spaced = "(2 * jnp.arange(n) + 1) / n - 1" if not own else "jnp.linspace(-1, 1, n)"
    for align, flip in ((not own, False), (own, True), (not own, True)):
        yield Edit(
            f"points at {spaced}, (x, y)",
            f"F.affine_grid(theta, size, align_corners={align})" + (".flip(-1)" if flip else ""),
            site.replaced(
                lambda t, *_, a=align, f=flip: (
                    F.affine_grid(t, size, align_corners=a).flip(-1)
                    if f
                    else F.affine_grid(t, size, align_corners=a)
                )
            ),
        )


affine = Difference(
    code="IMG-08",
    title="an affine grid: where its points are",
    torch="F.affine_grid: the pixels' centres (align_corners=False), (x, y)",
    jax="jnp.linspace(-1, 1, n): the corners' centres",
    fix_torch="F.affine_grid(theta, size, align_corners=True)",
    fix_jax="(2 * jnp.arange(n) + 1) / n - 1",
    kinds="affine_grid",
    measure=_affine,
    edits=_affines,
)
