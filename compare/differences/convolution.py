"""Convolution: kernel layouts, padding, dilation, groups and strides."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import first, flax64, gap, gaps, jax64, last, normal
from compare.differences.shared.convolutions import CONV, CONV_KINDS, Pads, dilation_of
from compare.differences.shared.frameworks import F, fnn, jnp, lax, nn, torch
from compare.differences.shared.layers import EVERYTHING, forms, layer, same, settings, tupled


def _conv(x: Any, s: Any, pads: Pads | None = None, weight: Any = None, **changed: Any) -> Any:
    """The convolution with each side's padding said, and with some settings changed."""
    weight = s.weight if weight is None else weight
    n = weight.ndim - 2
    stride = tupled(changed.get("stride") or s.stride or 1, n)
    dilation = tupled(changed.get("dilation") or s.dilation or 1, n)
    pads = _pads(s, weight) if pads is None else pads
    mode = changed.get("mode") or s.padding_mode or "zeros"
    flat = [side for pair in reversed(pads) for side in pair]
    x = F.pad(x, flat, "constant" if mode == "zeros" else mode)
    function = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    return function(x, weight, s.bias, stride, 0, dilation, s.groups or 1)


def _pads(s: Any, weight: Any) -> Pads:
    n = weight.ndim - 2
    if s.padding == "same":
        extents = [d * (k - 1) for k, d in zip(weight.shape[2:], dilation_of(s, n), strict=True)]
        return [(e // 2, e - e // 2) for e in extents]
    return [(p, p) for p in tupled(0 if s.padding in (None, "valid") else s.padding, n)]


def _same(x: Any, s: Any, dilation: Any = None, lower: bool = False) -> Pads:
    n = s.weight.ndim - 2
    stride, dilation = tupled(s.stride or 1, n), tupled(dilation or s.dilation or 1, n)
    return same(x.shape[-n:], s.weight.shape[2:], stride, dilation, lower)


def _flax_conv(w: Any, x: Any, **options: Any) -> Any:
    """flax.linen.Conv without bias, of PyTorch's image and with PyTorch's weight."""
    kernel = w.permute(2, 3, 1, 0)
    module = fnn.Conv(w.shape[0], tuple(w.shape[2:]), use_bias=False, **options)
    return first(flax64(module, {"kernel": kernel}, last(x)))


def _conv_layout() -> tuple[float, float]:
    x, w = normal(2, 3, 6, 5), normal(4, 3, 3, 3)
    return gaps(
        F.conv2d(x, w), _flax_conv(w.mT, x, padding="VALID"), _flax_conv(w, x, padding="VALID")
    )


def _kernel_orders(site: Site) -> Iterator[Edit]:
    weight = settings(site, CONV).weight
    axes = range(weight.ndim)
    for order in itertools.permutations(axes):
        shape = tuple(weight.shape[a] for a in order)
        if order == tuple(axes) or shape != tuple(weight.shape):
            continue
        yield Edit(
            "{'kernel': weight.transpose(2, 3, 1, 0)}, from (out, in, kh, kw)",
            f"weight.permute{order}",
            layer(
                site, CONV, lambda x, s, order=order: _conv(x, s, weight=s.weight.permute(order))
            ),
        )


conv_layout = Difference(
    code="CONV-01",
    title="Convolution kernel's layout",
    torch="nn.Conv2d: weight (out, in / groups, kh, kw)",
    jax="nn.Conv: kernel (kh, kw, in / groups, out); a square one gives no shape error",
    fix_torch="weight.mT, where kh and kw are swapped",
    fix_jax="{'kernel': weight.transpose(2, 3, 1, 0)}",
    kinds=CONV_KINDS,
    measure=_conv_layout,
    edits=_kernel_orders,
)


def _flipped() -> tuple[float, float]:
    x, w = normal(9), normal(3)
    naive = jax64(lambda a, b: jnp.convolve(a, b, mode="valid"), x, w)
    mended = jax64(lambda a, b: jnp.correlate(a, b, mode="valid"), x, w)
    return gaps(F.conv1d(x[None, None], w[None, None])[0, 0], naive, mended)


def _flips(site: Site) -> Iterator[Edit]:
    axes = range(2, settings(site, CONV).weight.ndim)
    for count in axes:
        for flipped in itertools.combinations(axes, count - 1):
            yield Edit(
                "jnp.correlate, or the kernel unflipped: PyTorch does not flip it",
                f"weight.flip({flipped})",
                layer(
                    site,
                    CONV,
                    lambda x, s, flipped=flipped: _conv(x, s, weight=s.weight.flip(flipped)),
                ),
            )


conv_flip = Difference(
    code="CONV-02",
    title="jnp.convolve flips the kernel",
    torch="F.conv1d: cross-correlation, no flip",
    jax="jnp.convolve: a true convolution; lax.conv and nn.Conv do not flip",
    fix_torch="weight.flip(-1)",
    fix_jax="jnp.correlate",
    kinds=CONV_KINDS,
    measure=_flipped,
    edits=_flips,
)


def _same_strided() -> tuple[float, float]:
    x, w = normal(1, 3, 8, 8), normal(4, 3, 3, 3)
    naive = _flax_conv(w, x, strides=(2, 2), padding="SAME")
    mended = _flax_conv(w, x, strides=(2, 2), padding=((1, 1), (1, 1)))
    return gaps(F.conv2d(x, w, stride=2, padding=1), naive, mended)


def _same_forms(site: Site) -> Iterator[Edit]:
    own = settings(site, CONV)
    pads = _pads(own, own.weight)
    if set(tupled(own.stride or 1, len(pads))) == {1}:
        return
    yield from forms(
        site,
        CONV,
        (
            f"padding={tuple(pads)}, not 'SAME'",
            "F.pad as lax.padtype_to_pads(..., 'SAME') says, then padding=0",
            lambda x, s: _conv(x, s, _same(x, s)),
        ),
        (
            f"padding={tuple(pads)}, not 'SAME_LOWER'",
            "F.pad as lax.padtype_to_pads(..., 'SAME_LOWER') says, then padding=0",
            lambda x, s: _conv(x, s, _same(x, s, lower=True)),
        ),
    )


conv_same = Difference(
    code="CONV-03",
    title="SAME padding with a stride",
    torch="nn.Conv2d(padding=p): p cells on both sides",
    jax="padding='SAME': as few cells as needed, the odd one after: (0, 1) for k=3, stride 2",
    fix_torch="F.pad(x, (0, 1, 0, 1)), then padding=0",
    fix_jax="padding=((1, 1), (1, 1))",
    kinds=CONV_KINDS,
    measure=_same_strided,
    edits=_same_forms,
    whats=EVERYTHING,
)


def _dilated() -> tuple[float, float]:
    x, w = normal(1, 3, 8, 8), normal(4, 3, 3, 3)
    ours = F.conv2d(x, w, padding=2, dilation=2)
    pads = ((2, 2), (2, 2))
    return gaps(
        ours, _flax_conv(w, x, padding="SAME"), _flax_conv(w, x, padding=pads, kernel_dilation=2)
    )


def _without_dilation(site: Site) -> Iterator[Edit]:
    own = settings(site, CONV)
    n = own.weight.ndim - 2
    dilation = dilation_of(own, n)
    if set(dilation) == {1}:
        return
    kernel = own.weight.shape[2:]
    short = [((k - 1) // 2, k // 2) for k in kernel]
    said = f"kernel_dilation={dilation}"
    yield from forms(
        site,
        CONV,
        (said, "dilation=1", lambda x, s: _conv(x, s, dilation=1)),
        (
            f"{said}, padding as PyTorch's",
            "dilation=1, padding 'SAME'",
            lambda x, s: _conv(x, s, _same(x, s, 1), dilation=1),
        ),
        (
            f"padding as PyTorch's: {said} needs dilation * (k - 1) / 2",
            "padding=(k - 1) / 2",
            lambda x, s: _conv(x, s, short),
        ),
        (
            f"{said}, axes in the order of the image",
            "dilation reversed",
            lambda x, s: _conv(x, s, dilation=dilation[::-1]),
        ),
    )


conv_dilation = Difference(
    code="CONV-04",
    title="The kernel's dilation",
    torch="nn.Conv2d(dilation=d); the padding is not adapted",
    jax="nn.Conv(kernel_dilation=d); input_dilation is another thing",
    fix_torch="dilation=1",
    fix_jax="kernel_dilation=d, padding=d * (k - 1) / 2 on both sides",
    kinds=CONV_KINDS,
    measure=_dilated,
    edits=_without_dilation,
    whats=EVERYTHING,
)


def _padding_mode() -> tuple[float, float]:
    x, w = normal(1, 2, 6, 6), normal(3, 2, 3, 3)
    worst, left = float("inf"), 0.0
    modes: tuple[tuple[Any, str], ...] = (("circular", "CIRCULAR"), ("reflect", "REFLECT"))
    for torch_mode, jax_mode in modes:
        conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode=torch_mode, bias=False)
        conv.weight = nn.Parameter(w)
        with torch.no_grad():
            ours = conv(x)
        worst = min(worst, gap(ours, _flax_conv(w, x, padding="SAME")))
        left = max(left, gap(ours, _flax_conv(w, x, padding=jax_mode)))
    conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode="replicate", bias=False)
    conv.weight = nn.Parameter(w)
    widths = ((0, 0), (0, 0), (1, 1), (1, 1))
    padded = torch.from_numpy(jax64(lambda a: jnp.pad(a, widths, "edge"), x).copy())
    left = max(left, gap(conv(x), _flax_conv(w, padded, padding="VALID")))
    return worst, left


def _other_modes(site: Site) -> Iterator[Edit]:
    own = settings(site, CONV).padding_mode or "zeros"
    lines = {
        "zeros": "zeros: padding='SAME' or pairs",
        "circular": "padding='CIRCULAR'",
        "reflect": "padding='REFLECT'",
        "replicate": "jnp.pad(x, widths, mode='edge'), then padding='VALID'",
    }
    for mode in lines:
        if mode != own:
            yield Edit(
                lines[own],
                f"padding_mode={mode!r}",
                layer(site, CONV, lambda x, s, m=mode: _conv(x, s, mode=m)),
            )


conv_mode = Difference(
    code="CONV-05",
    title="What the padding holds",
    torch="padding_mode: zeros, reflect, replicate or circular",
    jax="nn.Conv(padding=): zeros, 'REFLECT' or 'CIRCULAR'; no replicate",
    fix_torch="padding_mode='zeros'",
    fix_jax="padding='CIRCULAR' or 'REFLECT'; jnp.pad(mode='edge') for replicate",
    kinds=CONV_KINDS,
    measure=_padding_mode,
    edits=_other_modes,
    whats=EVERYTHING,
)


def _padding_default() -> tuple[float, float]:
    x, w = normal(1, 3, 7, 7), normal(4, 3, 3, 3)
    return gaps(F.conv2d(x, w), _flax_conv(w, x), _flax_conv(w, x, padding="VALID"))


def _other_padding(site: Site) -> Iterator[Edit]:
    own = settings(site, CONV)
    pads = _pads(own, own.weight)
    n = len(pads)
    causal = [
        (d * (k - 1), 0) for k, d in zip(own.weight.shape[2:], dilation_of(own, n), strict=True)
    ]
    tried: dict[str, Pads] = {
        "'VALID'": [(0, 0)] * n,
        "'CAUSAL'": causal,
        "causal on the other side": [(b, a) for a, b in causal],
        "one cell more": [(a + 1, b + 1) for a, b in pads],
        "one cell less": [(max(a - 1, 0), max(b - 1, 0)) for a, b in pads],
        "shifted one cell down": [(a + 1, b - 1) for a, b in pads if b],
        "shifted one cell up": [(a - 1, b + 1) for a, b in pads if a],
        "axes reversed": pads[::-1],
    }
    if set(tupled(own.stride or 1, n)) == {1}:
        tried = {"'SAME'": _same(site.inputs[0], own), **tried}
    known = site.jax.get("padding")
    if isinstance(known, (tuple, list, int)):
        tried[str(known)] = [tupled(p, 2) for p in tupled(known, n)]
    for name, other in tried.items():
        if other != pads and len(other) == n:
            yield Edit(
                f"padding={tuple(pads)}",
                f"padding={tuple(other)} ({name})",
                layer(site, CONV, lambda x, s, other=other: _conv(x, s, other)),
            )


conv_padding = Difference(
    code="CONV-06",
    title="Convolution's padding",
    torch="nn.Conv2d: padding=0",
    jax="nn.Conv: padding='SAME'; lax.conv_general_dilated: none by default",
    fix_torch="padding='same'",
    fix_jax="padding='VALID', or ((p, p), (p, p))",
    kinds=CONV_KINDS,
    measure=_padding_default,
    edits=_other_padding,
    whats=EVERYTHING,
)


def _depthwise() -> tuple[float, float]:
    x, w = normal(1, 3, 6, 6), normal(6, 1, 3, 3)
    ours = F.conv2d(x, w, groups=3)
    options: dict[str, Any] = {"padding": "VALID", "feature_group_count": 3}
    mixed = w.unflatten(0, (3, 2)).transpose(0, 1).flatten(0, 1)
    return gaps(ours, _flax_conv(mixed, x, **options), _flax_conv(w, x, **options))


def _interleaved(site: Site) -> Iterator[Edit]:
    own = settings(site, CONV)
    groups, out = own.groups or 1, own.weight.shape[0]
    if groups == 1:
        return
    for rows in sorted({groups, out // groups}):

        def mixed(weight: Any, rows: int = rows) -> Any:
            return weight.unflatten(0, (rows, -1)).transpose(0, 1).flatten(0, 1)

        yield from forms(
            site,
            CONV,
            (
                "weight.transpose(2, 3, 1, 0) alone: the groups' order is PyTorch's",
                f"weight.unflatten(0, ({rows}, -1)).transpose(0, 1).flatten(0, 1)",
                lambda x, s, mixed=mixed: _conv(x, s, weight=mixed(s.weight)),
            ),
            (
                "the output's channels as they come: group by group",
                f"y.unflatten(1, ({rows}, -1)).transpose(1, 2).flatten(1, 2)",
                lambda x, s, rows=rows: (
                    _conv(x, s).unflatten(1, (rows, -1)).transpose(1, 2).flatten(1, 2)
                ),
            ),
        )


conv_groups = Difference(
    code="CONV-07",
    title="Order of a grouped kernel's output channels",
    torch="groups=g: weight (out, in / g, kh, kw), group by group",
    jax="feature_group_count=g: the same; (kh, kw, in, multiplier) kernels may not be",
    fix_torch="weight.unflatten(0, (g, -1)).transpose(0, 1).flatten(0, 1)",
    fix_jax="weight.transpose(2, 3, 1, 0) alone",
    kinds=CONV_KINDS,
    measure=_depthwise,
    edits=_interleaved,
)


def _spatial_order() -> tuple[float, float]:
    x, w = normal(1, 3, 7, 7), normal(4, 3, 3, 3)
    ours = F.conv2d(x, w, stride=(2, 1))

    def theirs(strides: tuple[int, int]) -> Any:
        """Of an image that is held as (N, W, H, C)."""
        spec = ("NHWC", "HWIO", "NHWC")

        def run(a: Any, b: Any) -> Any:
            return lax.conv_general_dilated(a, b, strides, "VALID", dimension_numbers=spec)

        return jax64(run, x.permute(0, 3, 2, 1), w.permute(3, 2, 1, 0)).transpose(0, 3, 2, 1)

    return gaps(ours, theirs((2, 1)), theirs((1, 2)))


def _other_stride(site: Site) -> Iterator[Edit]:
    own = settings(site, CONV)
    n = own.weight.ndim - 2
    stride, dilation = tupled(own.stride or 1, n), dilation_of(own, n)
    pads = _pads(own, own.weight)
    yield from forms(
        site,
        CONV,
        (
            f"strides={stride}, in the order of the image's axes",
            f"stride={stride[::-1]}",
            lambda x, s: _conv(x, s, stride=stride[::-1]),
        ),
        (
            "strides and padding in the order of the image's axes",
            "stride, padding and dilation reversed",
            lambda x, s: _conv(x, s, pads[::-1], stride=stride[::-1], dilation=dilation[::-1]),
        ),
        (f"strides={stride}", "stride=1", lambda x, s: _conv(x, s, stride=1)),
        (
            f"strides={stride} in the convolution itself",
            "stride=1, then y[:, :, 1::2, 1::2]: every other cell from the second",
            lambda x, s: _conv(x, s, stride=1)[
                (slice(None), slice(None), *(slice(1 if k > 1 else 0, None, k) for k in stride))
            ],
        ),
    )


conv_axes = Difference(
    code="CONV-08",
    title="Order of the spatial axes in strides and padding",
    torch="nn.Conv2d: pairs mean (height, width)",
    jax="nn.Conv: pairs follow the array's axes, another order in (N, W, H, C)",
    fix_torch="stride=(sw, sh), padding=(pw, ph)",
    fix_jax="strides, padding and dilation in the order of the array's axes",
    kinds=CONV_KINDS,
    measure=_spatial_order,
    edits=_other_stride,
    whats=EVERYTHING,
)
