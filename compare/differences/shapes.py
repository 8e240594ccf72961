"""Shapes: the order of a flatten, of axes and of channels; pads around them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, first, gaps, jax64, last, normal
from compare.differences.shared.frameworks import F, jnp, torch
from compare.differences.shared.layers import layer, settings, tupled


def _flatten() -> tuple[float, float]:
    x, w = normal(2, 3, 4, 4), normal(5, 48)
    naive = jax64(lambda a, b: a.reshape(2, -1) @ b.T, last(x), w)
    mended = jax64(lambda a, b: a.transpose(0, 3, 1, 2).reshape(2, -1) @ b.T, last(x), w)
    return gaps(F.linear(x.flatten(1), w), naive, mended)


def _flatten_orders(site: Site) -> Iterator[Edit]:
    source: Any = site.inputs[0] if site.inputs else None
    if getattr(source, "ndim", 0) < 3:
        return
    own, shape = tuple(range(1, source.ndim)), site.theirs.shape
    if site.within is not None:
        function: Any = site.function
        shape = function(*site.args, **site.kwargs).shape
    for order in itertools.permutations(own):
        if order != own:
            yield Edit(
                "x.transpose(0, 3, 1, 2) before the reshape: PyTorch flattens (C, H, W)",
                f"x.permute(0, {', '.join(map(str, order))}).flatten(1)",
                site.replaced(lambda x, *_, order=order: x.permute(0, *order).reshape(shape)),
            )


flatten = Difference(
    code="FLAT-01",
    title="Flatten order",
    torch="x.flatten(1) of (N, C, H, W): channels first",
    jax="x.reshape(n, -1) of (N, H, W, C): channels last, no shape error",
    fix_torch="x.permute(0, 2, 3, 1).flatten(1)",
    fix_jax="x.transpose(0, 3, 1, 2).reshape(n, -1)",
    kinds="glue|Flatten|flatten|reshape|view",
    measure=_flatten,
    edits=_flatten_orders,
)


def _reversed_axes() -> tuple[float, float]:
    x = normal(3, 3, 3)
    return against(x.mT, lambda a: a.T, lambda a: a.mT, x)


def _axis_orders(site: Site) -> Iterator[Edit]:
    if site.within is not None:
        function: Any = site.function
        x, shape = site.inputs[0], function(*site.args, **site.kwargs).shape
        for order in itertools.permutations(range(min(x.ndim, 5))):
            yield Edit(
                "the axes in PyTorch's order before the reshape",
                f"x.permute{order}.reshape{tuple(shape)} for {site.kind}",
                site.replaced(lambda x, *_, o=order: x.permute(o).reshape(shape)),
            )
        return
    sources = [site.ours, *site.inputs[:1]]
    for name, source in zip(("y", "x"), sources, strict=False):
        value = torch.as_tensor(source)
        if value.ndim > 5 or value.numel() != site.theirs.size:
            continue
        whole = tuple(range(value.ndim))
        for order in itertools.permutations(whole):
            if order == whole and tuple(value.shape) == site.theirs.shape:
                continue  # not an order of axes: something is left out
            yield Edit(
                "the axes in PyTorch's order before the reshape",
                f"{name}.permute{order}.reshape{site.theirs.shape}",
                lambda v=value, o=order: v.permute(o).reshape(site.theirs.shape),
            )


axis_order = Difference(
    code="FLAT-02",
    title="An order of axes",
    torch="x.mT swaps the last two axes; x.transpose(a, b) two",
    jax="x.T, jnp.transpose reverse all axes; a reshape in their place moves values",
    fix_torch="x.permute(2, 1, 0)",
    fix_jax="x.mT, jnp.swapaxes(x, a, b)",
    kinds="glue|transpose|permute|reshape|view",
    measure=_reversed_axes,
    edits=_axis_orders,
    whats=("output",),
)


def _pixel_shuffle() -> tuple[float, float]:
    x = normal(1, 8, 3, 3)
    ours = F.pixel_shuffle(x, 2)

    def theirs(shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
        return first(
            jax64(lambda a: a.reshape(1, 3, 3, *shape).transpose(axes).reshape(1, 6, 6, 2), last(x))
        )

    return gaps(ours, theirs((2, 2, 2), (0, 1, 3, 2, 4, 5)), theirs((2, 2, 2), (0, 1, 4, 2, 5, 3)))


def _shuffle_orders(site: Site) -> Iterator[Edit]:
    down = "unshuffle" in site.kind.lower()
    names = "downscale_factor" if down else "upscale_factor"
    own = vars(settings(site, names))[names]
    function = F.pixel_unshuffle if down else F.pixel_shuffle
    for order in itertools.permutations(range(3)):
        if order == (0, 1, 2):
            continue

        def form(x: Any, s: Any, order: tuple[int, ...] = order) -> Any:
            # The channels' three factors (C, r, r), taken in another order.
            at = 1 if down else x.ndim - 3
            y = function(x, own) if down else x
            c, shape = y.shape[at] // own**2, [0, 0, 0]
            sizes = (c, own, own)
            if down:
                back = y.unflatten(at, sizes).permute(
                    *range(at), *(at + a for a in order), *range(at + 3, y.ndim + 2)
                )
                return back.flatten(at, at + 2)
            for position, a in enumerate(order):
                shape[position] = sizes[a]
            inverse = [order.index(a) for a in range(3)]
            split = y.unflatten(at, shape).permute(
                *range(at), *(at + a for a in inverse), *range(at + 3, y.ndim + 2)
            )
            return function(split.flatten(at, at + 2), own)

        names_of = "".join("Cij"[a] for a in order)
        yield Edit(
            "x.reshape(n, h, w, C, r, r).transpose(0, 1, 4, 2, 5, 3)",
            f"channels split as ({', '.join(names_of)})",
            layer(site, names, form),
        )


pixel_shuffle = Difference(
    code="PS-01",
    title="Pixel shuffle's channels",
    torch="F.pixel_shuffle: channels split as (C, r, r)",
    jax="no such function; depth_to_space of (N, H, W, C) splits them as (r, r, C)",
    fix_torch="channels reordered before F.pixel_shuffle",
    fix_jax="x.reshape(n, h, w, C, r, r).transpose(0, 1, 4, 2, 5, 3)",
    kinds="PixelShuffle|PixelUnshuffle|pixel_shuffle|pixel_unshuffle",
    measure=_pixel_shuffle,
    edits=_shuffle_orders,
)
PAD = "padding mode value"
PAD_KINDS = r"(Zero|Constant|Reflection|Replication|Circular)Pad[123]d|pad"


def _pad_order() -> tuple[float, float]:
    x = normal(2, 4, 4)
    naive = jax64(lambda a: jnp.pad(a, ((0, 0), (1, 2), (0, 3))), x)
    mended = jax64(lambda a: jnp.pad(a, ((0, 0), (0, 3), (1, 2))), x)
    return gaps(F.pad(x, (1, 2, 0, 3)), naive, mended)


def _pad_mode(site: Site, s: Any) -> str:
    name = site.kind.lower()
    for mode, torch_mode in {
        "reflection": "reflect",
        "replication": "replicate",
        "circular": "circular",
    }.items():
        if mode in name:
            return torch_mode
    return s.mode or "constant"


def _pad_mistakes(site: Site, own: Any) -> tuple[tuple[int, ...], dict[str, tuple[int, ...]]]:
    """The pads that a site has, and what mistakes in their order make of them."""
    given = tupled(own.padding, 2) if own.padding is not None else tuple(site.kwargs["pad"])
    pairs = [given[i : i + 2] for i in range(0, len(given), 2)]
    return given, {
        "pairs in the order of the axes, the last axis last": tuple(
            p for q in pairs[::-1] for p in q
        ),
        "(low, high), in this order": tuple(p for low, high in pairs for p in (high, low)),
        "both": tuple(p for low, high in pairs[::-1] for p in (high, low)),
    }


def _pad_orders(site: Site) -> Iterator[Edit]:
    own = settings(site, PAD)
    mode = _pad_mode(site, own)
    for line, flat in _pad_mistakes(site, own)[1].items():
        yield Edit(
            line, f"pad={flat}", layer(site, PAD, lambda x, s, f=flat: F.pad(x, f, mode, s.value))
        )


pad_order = Difference(
    code="PAD-01",
    title="Order of the pads",
    torch="F.pad: a flat list, the last axis first",
    jax="jnp.pad: pairs, the first axis first",
    fix_torch="F.pad(x, the pairs reversed)",
    fix_jax="jnp.pad(x, ((0, 0), (top, bottom), (left, right)))",
    kinds=PAD_KINDS,
    measure=_pad_order,
    edits=_pad_orders,
)


def _pad_symmetric() -> tuple[float, float]:
    x = normal(2, 3, 5)
    widths = ((0, 0), (0, 0), (2, 2))
    naive = jax64(lambda a: jnp.pad(a, widths, mode="symmetric"), x)
    mended = jax64(lambda a: jnp.pad(a, widths, mode="reflect"), x)
    return gaps(F.pad(x, (2, 2), mode="reflect"), naive, mended)


def _symmetric(x: Any, flat: tuple[int, ...]) -> Any:
    """NumPy's 'symmetric': the edge is repeated."""
    for i in range(0, len(flat), 2):
        axis = -1 - i // 2
        size = x.shape[axis]
        around = torch.arange(-flat[i], size + flat[i + 1]) % (2 * size)
        x = x.index_select(axis, torch.where(around < size, around, 2 * size - 1 - around))
    return x


def _pad_modes(site: Site) -> Iterator[Edit]:
    own = settings(site, PAD)
    given, others = _pad_mistakes(site, own)
    mode = _pad_mode(site, own)
    named = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    fix = f"jnp.pad(mode={named[mode]!r})"
    for flat in dict.fromkeys((given, *others.values())):  # the order may be wrong as well
        at = "" if flat == given else f", pad={flat}"
        if mode == "constant" and own.value:
            value = f"jnp.pad(constant_values={own.value})"
            yield Edit(value, f"value=0{at}", layer(site, PAD, lambda x, s, f=flat: F.pad(x, f)))
        for other in named:
            if other != mode:
                yield Edit(
                    fix,
                    f"mode={other!r}{at}",
                    layer(site, PAD, lambda x, s, m=other, f=flat: F.pad(x, f, m)),
                )
        repeated = f"no such mode: the edge repeated{at}"
        yield Edit(fix, repeated, layer(site, PAD, lambda x, s, f=flat: _symmetric(x, f)))


pad_mode = Difference(
    code="PAD-02",
    title="Modes of padding",
    torch="F.pad: constant, reflect, replicate, circular",
    jax="jnp.pad: constant, reflect, edge, wrap; 'symmetric' repeats the edge",
    fix_torch="no mode repeats the edge as 'symmetric' does: index it",
    fix_jax="reflect -> 'reflect', replicate -> 'edge', circular -> 'wrap'",
    kinds=PAD_KINDS,
    measure=_pad_symmetric,
    edits=_pad_modes,
)
