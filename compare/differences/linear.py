"""Linear, convolution, embedding: kernel layouts, padding, flatten order, ids."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.layers import forms, layer, same, settings, tupled
from compare.differences.measuring import first, flax64, gap, jax64, last, normal

LINEAR = "weight bias"
CONV = "weight bias stride padding dilation groups padding_mode"
CONV_KINDS = r"Conv[123]d|conv[123]d"
TRANSPOSED = "weight bias stride padding output_padding groups dilation"
TRANSPOSED_KINDS = r"ConvTranspose[123]d|conv_transpose[123]d"
EVERYTHING = ("output", "gradient", "param")
Pads = list[tuple[int, int]]

# Linear ---------------------------------------------------------------------------------------


def _dense(w: Any, b: Any, x: Any) -> Any:
    import flax.linen as fnn

    return flax64(fnn.Dense(len(b)), {"kernel": w, "bias": b}, x)


def _linear_layout() -> tuple[float, float]:
    import torch.nn.functional as F

    x, w, b = normal(4, 6), normal(6, 6), normal(6)
    ours = F.linear(x, w, b)
    return gap(ours, _dense(w, b, x)), gap(ours, _dense(w.T, b, x))


def _transposed(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    yield from forms(
        site,
        LINEAR,
        (
            "{'kernel': weight.T}",
            "layer.weight.data = layer.weight.data.T",
            lambda x, s: F.linear(x, s.weight.T, s.bias),
        ),
    )


linear_layout = Difference(
    code="LIN-01",
    title="Linear kernel's layout",
    torch="nn.Linear: weight (out, in)",
    jax="nn.Dense, nnx.Linear: kernel (in, out); a square one gives no shape error",
    fix_torch="F.linear(x, weight.T, bias)",
    fix_jax="{'kernel': weight.T}",
    kinds="Linear|linear",
    measure=_linear_layout,
    edits=_transposed,
)


def _no_bias() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch.nn.functional as F

    x, w, b = normal(4, 6), normal(5, 6), normal(5)
    ours = F.linear(x, w, b)
    return gap(ours, jax64(jnp.dot, x, w.T)), gap(ours, _dense(w.T, b, x))


def _other_bias(site: Site) -> Iterator[Edit]:
    import torch

    bias = settings(site, LINEAR).bias
    if bias is None:
        return
    for jax, line, factor in (
        ("add the bias: use_bias=True, {'bias': bias}", "bias=None", 0.0),
        ("add the bias once", "bias=2 * bias", 2.0),
        ("+ bias, not - bias", "bias=-bias", -1.0),
    ):
        value = factor * bias.detach()
        if site.module is not None:
            yield Edit(jax, line, site.changed(bias=torch.nn.Parameter(value)))
        elif "bias" in site.kwargs:
            yield Edit(jax, line, site.called(bias=value))
        else:
            yield Edit(jax, line, site.called(*site.args[:2], value, *site.args[3:]))


linear_bias = Difference(
    code="LIN-02",
    title="The bias left out",
    torch="nn.Linear, nn.Conv2d: bias=True",
    jax="jnp.dot, lax.conv_general_dilated: no bias; nn.Dense: use_bias=True",
    fix_torch="nn.Linear(..., bias=False)",
    fix_jax="+ bias",
    kinds=rf"Linear|linear|Bilinear|{CONV_KINDS}|{TRANSPOSED_KINDS}",
    measure=_no_bias,
    edits=_other_bias,
)


def _bilinear() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch.nn.functional as F

    x, y, w = normal(4, 3), normal(4, 3, seed=1), normal(5, 3, 3)
    ours = F.bilinear(x, y, w)

    def theirs(formula: str) -> Any:
        return jax64(lambda *a: jnp.einsum(formula, *a), x, w, y)

    return gap(ours, theirs("bi,oji,bj->bo")), gap(ours, theirs("bi,oij,bj->bo"))


def _bilinear_swapped(site: Site) -> Iterator[Edit]:
    import torch
    import torch.nn.functional as F

    def swapped(weight: Any, bias: Any, x: Any, y: Any) -> Any:
        return F.bilinear(x, y, weight.mT.contiguous(), bias)

    def compute() -> Any:
        if site.module is None:
            return site.called(*site.args[:2], site.args[2].mT.contiguous(), *site.args[3:])()
        weight = torch.nn.Parameter(site.module.weight.detach().mT.contiguous())
        return site.changed(weight=weight)()

    yield Edit("jnp.einsum('bi,oij,bj->bo', x, weight, y)", "weight.mT", compute)


bilinear = Difference(
    code="LIN-03",
    title="Bilinear's two inputs",
    torch="nn.Bilinear: weight (out, first, second)",
    jax="no such layer: an einsum by hand, where the two inputs are easily swapped",
    fix_torch="weight.mT",
    fix_jax="jnp.einsum('bi,oij,bj->bo', x, weight, y)",
    kinds="Bilinear|bilinear",
    measure=_bilinear,
    edits=_bilinear_swapped,
)

# Convolution ----------------------------------------------------------------------------------


def _conv(x: Any, s: Any, pads: Pads | None = None, weight: Any = None, **changed: Any) -> Any:
    """The convolution with each side's padding said, and with some settings changed."""
    import torch.nn.functional as F

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
        extents = [d * (k - 1) for k, d in zip(weight.shape[2:], _dilation(s, n), strict=True)]
        return [(e // 2, e - e // 2) for e in extents]
    return [(p, p) for p in tupled(0 if s.padding in (None, "valid") else s.padding, n)]


def _dilation(s: Any, n: int) -> tuple[int, ...]:
    return tupled(s.dilation or 1, n)


def _same(x: Any, s: Any, dilation: Any = None, lower: bool = False) -> Pads:
    n = s.weight.ndim - 2
    stride, dilation = tupled(s.stride or 1, n), tupled(dilation or s.dilation or 1, n)
    return same(x.shape[-n:], s.weight.shape[2:], stride, dilation, lower)


def _flax_conv(w: Any, x: Any, **options: Any) -> Any:
    """flax.linen.Conv without bias, of PyTorch's image and with PyTorch's weight."""
    import flax.linen as fnn

    kernel = w.permute(2, 3, 1, 0)
    module = fnn.Conv(w.shape[0], tuple(w.shape[2:]), use_bias=False, **options)
    return first(flax64(module, {"kernel": kernel}, last(x)))


def _conv_layout() -> tuple[float, float]:
    import torch.nn.functional as F

    x, w = normal(2, 3, 6, 5), normal(4, 3, 3, 3)
    ours = F.conv2d(x, w)
    return (
        gap(ours, _flax_conv(w.mT, x, padding="VALID")),
        gap(ours, _flax_conv(w, x, padding="VALID")),
    )


def _kernel_orders(site: Site) -> Iterator[Edit]:
    weight = settings(site, CONV).weight
    axes = range(weight.ndim)
    for order in itertools.permutations(axes):
        shape = tuple(weight.shape[a] for a in order)
        if order == tuple(axes) or shape != tuple(weight.shape):
            continue
        yield from forms(
            site,
            CONV,
            (
                "{'kernel': weight.transpose(2, 3, 1, 0)}, from (out, in, kh, kw)",
                f"weight.permute{order}",
                lambda x, s, order=order: _conv(x, s, weight=s.weight.permute(order)),
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
    import jax.numpy as jnp
    import torch.nn.functional as F

    x, w = normal(9), normal(3)
    ours = F.conv1d(x[None, None], w[None, None])[0, 0]
    return (
        gap(ours, jax64(lambda a, b: jnp.convolve(a, b, mode="valid"), x, w)),
        gap(ours, jax64(lambda a, b: jnp.correlate(a, b, mode="valid"), x, w)),
    )


def _flips(site: Site) -> Iterator[Edit]:
    axes = range(2, settings(site, CONV).weight.ndim)
    for count in axes:
        for flipped in itertools.combinations(axes, count - 1):
            yield from forms(
                site,
                CONV,
                (
                    "jnp.correlate, or the kernel unflipped: PyTorch does not flip it",
                    f"weight.flip({flipped})",
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
    import torch.nn.functional as F

    x, w = normal(1, 3, 8, 8), normal(4, 3, 3, 3)
    ours = F.conv2d(x, w, stride=2, padding=1)
    return (
        gap(ours, _flax_conv(w, x, strides=(2, 2), padding="SAME")),
        gap(ours, _flax_conv(w, x, strides=(2, 2), padding=((1, 1), (1, 1)))),
    )


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
    import torch.nn.functional as F

    x, w = normal(1, 3, 8, 8), normal(4, 3, 3, 3)
    ours = F.conv2d(x, w, padding=2, dilation=2)
    pads = ((2, 2), (2, 2))
    return (
        gap(ours, _flax_conv(w, x, padding="SAME")),
        gap(ours, _flax_conv(w, x, padding=pads, kernel_dilation=2)),
    )


def _without_dilation(site: Site) -> Iterator[Edit]:
    own = settings(site, CONV)
    n = own.weight.ndim - 2
    dilation = _dilation(own, n)
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
    import jax.numpy as jnp
    import torch
    from torch import nn

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
            row = (
                lines[own],
                f"padding_mode={mode!r}",
                lambda x, s, m=mode: _conv(x, s, mode=m),
            )
            yield from forms(site, CONV, row)


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
    import torch.nn.functional as F

    x, w = normal(1, 3, 7, 7), normal(4, 3, 3, 3)
    ours = F.conv2d(x, w)
    return gap(ours, _flax_conv(w, x)), gap(ours, _flax_conv(w, x, padding="VALID"))


def _other_padding(site: Site) -> Iterator[Edit]:
    own = settings(site, CONV)
    pads = _pads(own, own.weight)
    n = len(pads)
    causal = [
        (d * (k - 1), 0) for k, d in zip(own.weight.shape[2:], _dilation(own, n), strict=True)
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
            row = (
                f"padding={tuple(pads)}",
                f"padding={tuple(other)} ({name})",
                lambda x, s, other=other: _conv(x, s, other),
            )
            yield from forms(site, CONV, row)


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
    import torch.nn.functional as F

    x, w = normal(1, 3, 6, 6), normal(6, 1, 3, 3)
    ours = F.conv2d(x, w, groups=3)
    options: dict[str, Any] = {"padding": "VALID", "feature_group_count": 3}
    mixed = w.unflatten(0, (3, 2)).transpose(0, 1).flatten(0, 1)
    return gap(ours, _flax_conv(mixed, x, **options)), gap(ours, _flax_conv(w, x, **options))


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
    import torch.nn.functional as F
    from jax import lax

    x, w = normal(1, 3, 7, 7), normal(4, 3, 3, 3)
    ours = F.conv2d(x, w, stride=(2, 1))

    def theirs(strides: tuple[int, int]) -> Any:
        """Of an image that is held as (N, W, H, C)."""
        spec = ("NHWC", "HWIO", "NHWC")

        def run(a: Any, b: Any) -> Any:
            return lax.conv_general_dilated(a, b, strides, "VALID", dimension_numbers=spec)

        return jax64(run, x.permute(0, 3, 2, 1), w.permute(3, 2, 1, 0)).transpose(0, 3, 2, 1)

    return gap(ours, theirs((2, 1))), gap(ours, theirs((1, 2)))


def _other_stride(site: Site) -> Iterator[Edit]:
    own = settings(site, CONV)
    n = own.weight.ndim - 2
    stride, dilation = tupled(own.stride or 1, n), _dilation(own, n)
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

# Transposed convolution -----------------------------------------------------------------------


def _transposed_conv(x: Any, s: Any, pads: Pads | None = None, weight: Any = None) -> Any:
    """With padding as lax has it, on the dilated input: what exceeds the kernel is zeros."""
    import torch.nn.functional as F

    weight = s.weight if weight is None else weight
    n = weight.ndim - 2
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[n - 1]
    stride, dilation = tupled(s.stride or 1, n), _dilation(s, n)
    whole = function(x, weight, None, stride, 0, 0, s.groups or 1, dilation)
    extents = [d * (k - 1) for k, d in zip(weight.shape[2:], dilation, strict=True)]
    pads = _lax_pads(s) if pads is None else pads
    flat = [
        side - e for pair, e in reversed(list(zip(pads, extents, strict=True))) for side in pair
    ]
    y = F.pad(whole, flat)
    return y if s.bias is None else y + s.bias.reshape(-1, *[1] * n)


def _extents(s: Any) -> list[int]:
    kernel = s.weight.shape[2:]
    return [d * (k - 1) for k, d in zip(kernel, _dilation(s, len(kernel)), strict=True)]


def _lax_pads(s: Any, extra: bool = True) -> Pads:
    """PyTorch's padding and output_padding, as padding of the dilated input."""
    n = s.weight.ndim - 2
    own, out = tupled(s.padding or 0, n), tupled(s.output_padding or 0, n)
    return [
        (e - p, e - p + (o if extra else 0)) for e, p, o in zip(_extents(s), own, out, strict=True)
    ]


def _transposed_pads(s: Any) -> dict[str, Pads]:
    """What a port may have said instead: lax's names, and PyTorch's number as it stands."""
    n = s.weight.ndim - 2
    stride = tupled(s.stride or 1, n)
    same, valid = [], []
    for e, step in zip(_extents(s), stride, strict=True):
        total = e + 1 + step - 2
        low = e if step > e else -(-total // 2)
        same.append((low, total - low))
        valid.append((e, total + max(e + 1 - step, 0) - e))
    number = [(p, p) for p in tupled(s.padding or 0, n)]
    return {"'SAME'": same, "'VALID'": valid, "padding=p as it stands": number}


def _flax_transposed(w: Any, x: Any, padding: Any, flip: bool = True) -> Any:
    import flax.linen as fnn

    size = tuple(w.shape[2:])
    order = (2, 3, 1, 0) if flip else (2, 3, 0, 1)
    module = fnn.ConvTranspose(
        w.shape[1], size, (2, 2), padding=padding, use_bias=False, transpose_kernel=flip
    )
    return first(flax64(module, {"kernel": w.permute(order)}, last(x)))


def _transposed_flip() -> tuple[float, float]:
    import torch.nn.functional as F

    x, w = normal(1, 3, 4, 5), normal(3, 2, 4, 3)
    ours = F.conv_transpose2d(x, w, stride=2)
    return (
        gap(ours, _flax_transposed(w, x, "VALID", flip=False)),
        gap(ours, _flax_transposed(w, x, "VALID")),
    )


def _transposed_flips(site: Site) -> Iterator[Edit]:
    own = settings(site, TRANSPOSED)
    spatial = tuple(range(2, own.weight.ndim))
    weights: dict[str, Any] = {f"weight.flip({spatial})": lambda w: w.flip(spatial)}
    if own.weight.shape[0] == own.weight.shape[1]:
        weights["weight.transpose(0, 1)"] = lambda w: w.transpose(0, 1)
        weights["weight.transpose(0, 1), flipped"] = lambda w: w.transpose(0, 1).flip(spatial)
    if own.weight.ndim == 4 and own.weight.shape[2] == own.weight.shape[3]:
        weights["weight.mT"] = lambda w: w.mT
        weights["weight.mT, flipped"] = lambda w: w.mT.flip(spatial)
    for name, change in weights.items():
        for pads in (None, *_transposed_pads(own).values()):
            yield from forms(
                site,
                TRANSPOSED,
                (
                    "transpose_kernel=True, {'kernel': weight.transpose(2, 3, 1, 0)}",
                    name,
                    lambda x, s, change=change, pads=pads: _transposed_conv(
                        x, s, pads, change(s.weight)
                    ),
                ),
            )


transposed_flip = Difference(
    code="CT-01",
    title="Transposed convolution's kernel",
    torch="nn.ConvTranspose2d: weight (in, out, kh, kw), the gradient of a convolution",
    jax="nn.ConvTranspose: a dilated convolution, not flipped unless transpose_kernel=True",
    fix_torch="weight.flip(2, 3)",
    fix_jax="transpose_kernel=True, {'kernel': weight.transpose(2, 3, 1, 0)}",
    kinds=TRANSPOSED_KINDS,
    measure=_transposed_flip,
    edits=_transposed_flips,
)


def _transposed_padding() -> tuple[float, float]:
    import torch.nn.functional as F

    x, w = normal(1, 3, 4, 5), normal(3, 2, 4, 3)
    ours = F.conv_transpose2d(x, w, stride=2, padding=1)
    return (
        gap(ours, _flax_transposed(w, x, ((1, 1), (1, 1)))),
        gap(ours, _flax_transposed(w, x, ((2, 2), (1, 1)))),
    )


def _transposed_paddings(site: Site) -> Iterator[Edit]:
    own = settings(site, TRANSPOSED)
    right = _lax_pads(own)
    for name, pads in _transposed_pads(own).items():
        number = name.startswith("padding") and pads == _lax_pads(own, extra=False)
        if pads != right and not number:  # the number is right, output_padding is not
            yield from forms(
                site,
                TRANSPOSED,
                (
                    f"padding={tuple(right)}: dilation * (k - 1) - p",
                    f"{name}: padding of the dilated input {tuple(pads)}",
                    lambda x, s, pads=pads: _transposed_conv(x, s, pads),
                ),
            )


transposed_padding = Difference(
    code="CT-02",
    title="Transposed convolution's padding",
    torch="nn.ConvTranspose2d(padding=p): crops the output",
    jax="nn.ConvTranspose(padding=): cells around the dilated input; 'SAME' by default",
    fix_torch="padding=k - 1 - p",
    fix_jax="padding=((k - 1 - p, k - 1 - p), ...)",
    kinds=TRANSPOSED_KINDS,
    measure=_transposed_padding,
    edits=_transposed_paddings,
    whats=EVERYTHING,
)


def _output_padding() -> tuple[float, float]:
    import torch.nn.functional as F

    x, w = normal(1, 3, 4, 4), normal(3, 2, 3, 3)
    ours = F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1)
    return (
        gap(ours, _flax_transposed(w, x, ((1, 1), (1, 1)))),
        gap(ours, _flax_transposed(w, x, ((1, 2), (1, 2)))),
    )


def _output_paddings(site: Site) -> Iterator[Edit]:
    own = settings(site, TRANSPOSED)
    right = _lax_pads(own)
    if right == _lax_pads(own, extra=False):
        return
    said = f"padding={tuple(right)}: output_padding more on the high side"
    low = [(b, a) for a, b in right]
    yield from forms(
        site,
        TRANSPOSED,
        (said, "output_padding=0", lambda x, s: _transposed_conv(x, s, _lax_pads(s, extra=False))),
        (said, "output_padding on the low side", lambda x, s: _transposed_conv(x, s, low)),
    )


output_padding = Difference(
    code="CT-03",
    title="output_padding",
    torch="nn.ConvTranspose2d(output_padding=o): o more cells on the high side",
    jax="nn.ConvTranspose: no such argument",
    fix_torch="output_padding=0",
    fix_jax="padding=((k - 1 - p, k - 1 - p + o), ...)",
    kinds=TRANSPOSED_KINDS,
    measure=_output_padding,
    edits=_output_paddings,
    whats=EVERYTHING,
)


def _transposed_groups() -> tuple[float, float]:
    import torch.nn.functional as F
    from jax import lax

    x, w, g = normal(1, 4, 4, 4), normal(4, 2, 3, 3), 2
    ours = F.conv_transpose2d(x, w, stride=2, groups=g)

    def theirs(a: Any, b: Any) -> Any:
        return lax.conv_general_dilated(
            a,
            b,
            (1, 1),
            ((2, 2), (2, 2)),
            lhs_dilation=(2, 2),
            dimension_numbers=("NCHW", "OIHW", "NCHW"),
            feature_group_count=g,
        )

    flipped = w.flip(2, 3)
    within = flipped.unflatten(0, (g, -1)).transpose(1, 2).flatten(0, 1)  # (out, in / g, kh, kw)
    return gap(ours, jax64(theirs, x, flipped)), gap(ours, jax64(theirs, x, within))


def _group_orders(site: Site) -> Iterator[Edit]:
    own = settings(site, TRANSPOSED)
    groups = own.groups or 1
    if groups == 1:
        return

    def unswapped(weight: Any) -> Any:
        return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)

    yield from forms(
        site,
        TRANSPOSED,
        (
            "weight.reshape(g, in / g, out / g, kh, kw).swapaxes(1, 2), flipped",
            "weight.unflatten(0, (g, -1)).transpose(1, 2).flatten(0, 1)",
            lambda x, s: _transposed_conv(x, s, weight=unswapped(s.weight)),
        ),
    )


transposed_groups = Difference(
    code="CT-04",
    title="Grouped transposed convolution",
    torch="nn.ConvTranspose2d(groups=g): weight (in, out / g, kh, kw)",
    jax="nn.ConvTranspose has no groups; lax with feature_group_count wants (out, in / g)",
    fix_torch="weight.unflatten(0, (g, -1)).transpose(1, 2).flatten(0, 1)",
    fix_jax="lax.conv_general_dilated(lhs_dilation=s), kernel flipped and swapped by group",
    kinds=TRANSPOSED_KINDS,
    measure=_transposed_groups,
    edits=_group_orders,
)

# Shapes ---------------------------------------------------------------------------------------


def _flatten() -> tuple[float, float]:
    import torch.nn.functional as F

    x, w = normal(2, 3, 4, 4), normal(5, 48)
    ours = F.linear(x.flatten(1), w)
    return (
        gap(ours, jax64(lambda a, b: a.reshape(2, -1) @ b.T, last(x), w)),
        gap(ours, jax64(lambda a, b: a.transpose(0, 3, 1, 2).reshape(2, -1) @ b.T, last(x), w)),
    )


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
    return gap(x.mT, jax64(lambda a: a.T, x)), gap(x.mT, jax64(lambda a: a.mT, x))


def _axis_orders(site: Site) -> Iterator[Edit]:
    import torch

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
    import torch.nn.functional as F

    x = normal(1, 8, 3, 3)
    ours = F.pixel_shuffle(x, 2)

    def theirs(shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
        return first(
            jax64(lambda a: a.reshape(1, 3, 3, *shape).transpose(axes).reshape(1, 6, 6, 2), last(x))
        )

    return (
        gap(ours, theirs((2, 2, 2), (0, 1, 3, 2, 4, 5))),
        gap(ours, theirs((2, 2, 2), (0, 1, 4, 2, 5, 3))),
    )


def _shuffle_orders(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

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
        yield from forms(
            site,
            names,
            (
                "x.reshape(n, h, w, C, r, r).transpose(0, 1, 4, 2, 5, 3)",
                f"channels split as ({', '.join(names_of)})",
                form,
            ),
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
    import jax.numpy as jnp
    import torch.nn.functional as F

    x = normal(2, 4, 4)
    ours = F.pad(x, (1, 2, 0, 3))
    return (
        gap(ours, jax64(lambda a: jnp.pad(a, ((0, 0), (1, 2), (0, 3))), x)),
        gap(ours, jax64(lambda a: jnp.pad(a, ((0, 0), (0, 3), (1, 2))), x)),
    )


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
    import torch.nn.functional as F

    own = settings(site, PAD)
    mode = _pad_mode(site, own)
    for line, flat in _pad_mistakes(site, own)[1].items():
        row = (line, f"pad={flat}", lambda x, s, f=flat: F.pad(x, f, mode, s.value))
        yield from forms(site, PAD, row)


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
    import jax.numpy as jnp
    import torch.nn.functional as F

    x = normal(2, 3, 5)
    widths = ((0, 0), (0, 0), (2, 2))
    ours = F.pad(x, (2, 2), mode="reflect")
    return (
        gap(ours, jax64(lambda a: jnp.pad(a, widths, mode="symmetric"), x)),
        gap(ours, jax64(lambda a: jnp.pad(a, widths, mode="reflect"), x)),
    )


def _symmetric(x: Any, flat: tuple[int, ...]) -> Any:
    """NumPy's 'symmetric': the edge is repeated."""
    import torch

    for i in range(0, len(flat), 2):
        axis = -1 - i // 2
        size = x.shape[axis]
        around = torch.arange(-flat[i], size + flat[i + 1]) % (2 * size)
        x = x.index_select(axis, torch.where(around < size, around, 2 * size - 1 - around))
    return x


def _pad_modes(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    own = settings(site, PAD)
    given, others = _pad_mistakes(site, own)
    mode = _pad_mode(site, own)
    named = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    fix = f"jnp.pad(mode={named[mode]!r})"
    for flat in dict.fromkeys((given, *others.values())):  # the order may be wrong as well
        at = "" if flat == given else f", pad={flat}"
        if mode == "constant" and own.value:
            value = f"jnp.pad(constant_values={own.value})"
            row = (value, f"value=0{at}", lambda x, s, f=flat: F.pad(x, f))
            yield from forms(site, PAD, row)
        for other in named:
            if other != mode:
                row = (fix, f"mode={other!r}{at}", lambda x, s, m=other, f=flat: F.pad(x, f, m))
                yield from forms(site, PAD, row)
        repeated = f"no such mode: the edge repeated{at}"
        yield from forms(site, PAD, (fix, repeated, lambda x, s, f=flat: _symmetric(x, f)))


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
# Embedding ------------------------------------------------------------------------------------
EMBED = "weight padding_idx max_norm norm_type scale_grad_by_freq"
EMBED_KINDS = "Embedding|embedding"


def _ids() -> Any:
    import torch

    return torch.tensor([[0, 1, 0, 2], [3, 4, 1, 1]])


def _embedding_gradient(**options: Any) -> tuple[Any, Any, Any]:
    """PyTorch's gradient of an embedding's weight, the weight and the output's gradient."""
    import torch.nn.functional as F

    weight, cotangent = normal(5, 3).requires_grad_(), normal(2, 4, 3, seed=1)
    (F.embedding(_ids(), weight, **options) * cotangent).sum().backward()
    return weight.grad, weight.detach(), cotangent


def _take_gradient(weight: Any, cotangent: Any, stopped: int | None = None) -> Any:
    import jax
    import jax.numpy as jnp

    def run(w: Any, ids: Any, g: Any) -> Any:
        def loss(w: Any) -> Any:
            rows = w if stopped is None else w.at[stopped].set(jax.lax.stop_gradient(w[stopped]))
            return (jnp.take(rows, ids, axis=0) * g).sum()

        return jax.grad(loss)(w)

    return jax64(run, weight, _ids(), cotangent)


def _padding_row() -> tuple[float, float]:
    ours, weight, cotangent = _embedding_gradient(padding_idx=0)
    return (
        gap(ours, _take_gradient(weight, cotangent)),
        gap(ours, _take_gradient(weight, cotangent, 0)),
    )


def _padding_rows(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    if site.kind == "glue":
        yield from _padding_zeros(site)
        return
    index = settings(site, EMBED).padding_idx
    if index is None:
        return
    yield from forms(
        site,
        EMBED,
        (
            f"w.at[{index}].set(lax.stop_gradient(w[{index}]))",
            "padding_idx=None",
            lambda ids, s: F.embedding(ids, s.weight),
        ),
        (
            f"the row {index} of the weight as PyTorch has it",
            "y.masked_fill((ids == padding_idx)[..., None], 0)",
            lambda ids, s: F.embedding(ids, s.weight).masked_fill((ids == index)[..., None], 0),
        ),
    )


def _padding_zeros(site: Site) -> Iterator[Edit]:
    """After the embedding: the rows of one id are zero."""
    rows: Any = site.inputs[0] if site.inputs else None
    for ids in site.inputs[1:]:
        if ids.is_floating_point() or tuple(ids.shape) != site.ours.shape[:-1]:
            continue
        for index in sorted(set(ids.flatten().tolist())):
            yield Edit(
                f"no mask of the id {index} here",
                f"nn.Embedding(…, padding_idx={index}), its row zero",
                lambda i=ids, pad=index: rows.masked_fill((i == pad)[..., None], 0),
            )


padding_idx = Difference(
    code="EMB-01",
    title="padding_idx",
    torch="nn.Embedding(padding_idx=i): row i gets no gradient; its value is used",
    jax="nn.Embed: no such argument; the row is trained, or masked to zero by hand",
    fix_torch="padding_idx=None",
    fix_jax="w.at[i].set(lax.stop_gradient(w[i])), the row's value as it is",
    kinds=f"{EMBED_KINDS}|glue",
    measure=_padding_row,
    edits=_padding_rows,
    whats=("output", "param"),
)


def _out_of_range() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch
    import torch.nn.functional as F

    weight, ids = normal(5, 3), torch.tensor([1, 7, -1])

    def ours(ids: Any) -> Any:
        try:
            return F.embedding(ids, weight)
        except IndexError:
            return torch.empty(0)

    def theirs(ids: Any) -> Any:
        return jax64(lambda w, i: jnp.take(w, i, axis=0), weight, ids)

    valid = ids.clamp(0, 4)
    return gap(ours(ids), theirs(ids)), gap(ours(valid), theirs(valid))


def _other_ids(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    shifts = {
        "ids that start where PyTorch's do (JAX took one less)": lambda i, n: (i - 1) % n,
        "ids that start where PyTorch's do (JAX took one more)": lambda i, n: (i + 1) % n,
        "ids - 1 was clipped: start where PyTorch's do": lambda i, n: (i - 1).clamp(0),
        "ids + 1 was clipped: start where PyTorch's do": lambda i, n: (i + 1).clamp(max=n - 1),
        "the weight's rows in PyTorch's order": lambda i, n: n - 1 - i,
    }
    for line, change in shifts.items():
        yield from forms(
            site,
            EMBED,
            (
                line,
                "the same shift of the ids",
                lambda ids, s, f=change: F.embedding(f(ids, len(s.weight)), s.weight),
            ),
        )


ids = Difference(
    code="EMB-02",
    title="Ids out of range, or off by one",
    torch="F.embedding: IndexError for ids below 0 or beyond the table",
    jax="jnp.take: -1 is the last row, beyond the table is NaN: an offset goes unseen",
    fix_torch="ids % len(weight)",
    fix_jax="check the ids: 0 <= ids < len(weight)",
    kinds=EMBED_KINDS,
    measure=_out_of_range,
    edits=_other_ids,
)


def _bag() -> tuple[float, float]:
    import jax
    import torch
    import torch.nn.functional as F

    weight, ids, bags = normal(5, 3), torch.tensor([0, 1, 2, 4, 4]), torch.tensor([0, 0, 0, 1, 1])
    ours = F.embedding_bag(ids, weight, torch.tensor([0, 3]))

    def theirs(w: Any, i: Any, b: Any) -> Any:
        return jax.ops.segment_sum(w[i], b, 2)

    sums = jax64(theirs, weight, ids, bags)
    means = jax64(lambda w, i, b: theirs(w, i, b) / theirs(w * 0 + 1, i, b), weight, ids, bags)
    return gap(ours, sums), gap(ours, means)


def _bag_modes(site: Site) -> Iterator[Edit]:
    own = getattr(site.module, "mode", None) or site.kwargs.get("mode", "mean")
    for mode in ("sum", "mean", "max"):
        if mode != own:
            change = site.changed if site.module is not None else site.called
            yield Edit(f"the {own} of each bag", f"mode={mode!r}", change(mode=mode))


embedding_bag = Difference(
    code="EMB-03",
    title="EmbeddingBag's reduction",
    torch="nn.EmbeddingBag: mode='mean'",
    jax="no such layer: jax.ops.segment_sum sums",
    fix_torch="mode='sum'",
    fix_jax="segment_sum(w[ids], bags) / segment_sum(ones, bags)",
    kinds="EmbeddingBag|embedding_bag",
    measure=_bag,
    edits=_bag_modes,
)


def _embedding_scale() -> tuple[float, float]:
    import flax.linen as fnn
    import torch.nn.functional as F

    weight = normal(5, 3)
    ours = F.embedding(_ids(), weight)
    theirs = flax64(fnn.Embed(5, 3), {"embedding": weight}, _ids())
    return gap(ours, theirs * 3**0.5), gap(ours, theirs)


def _scales(site: Site) -> Iterator[Edit]:
    import torch

    if site.kind in ("glue", "add") and site.ours.ndim > 3:
        return  # images, no embedded tokens
    for name, power in {
        "sqrt(dim)": 0.5,
        "dim": 1.0,
        "1 / sqrt(dim)": -0.5,
        "1 / dim": -1.0,
    }.items():
        factor = site.ours.shape[-1] ** power if site.ours.ndim else 1.0
        if site.within is not None:  # and then something is added, positions for one
            for line, form in {
                "(x * {}) + y": lambda x, y, f=factor: x * f + y,
                "x + y * {}": lambda x, y, f=factor: x + y * f,
            }.items():
                yield Edit(f"without the factor {name}", line.format(name), site.replaced(form))
            continue
        yield Edit(
            f"without the factor {name}",
            f"* {name}",
            lambda f=factor: torch.as_tensor(site.ours) * f,
        )


embedding_scale = Difference(
    code="EMB-04",
    title="A factor sqrt(dim) after the embedding",
    torch="nn.Embedding: the row as it is",
    jax="nn.Embed: the same; many Transformers multiply by sqrt(dim)",
    fix_torch="embedding(ids) * dim**0.5",
    fix_jax="without the factor",
    kinds=f"{EMBED_KINDS}|glue|add",
    measure=_embedding_scale,
    edits=_scales,
    whats=EVERYTHING,
)


def _max_norm() -> tuple[float, float]:
    import jax.numpy as jnp
    import torch.nn.functional as F

    weight = normal(5, 3, scale=3.0)
    ours = F.embedding(_ids(), weight.clone(), max_norm=1.0)

    def capped(w: Any, i: Any) -> Any:
        norm = jnp.linalg.norm(w[i], axis=-1, keepdims=True)
        return jnp.where(norm > 1.0, w[i] / (norm + 1e-7), w[i])

    return gap(ours, jax64(lambda w, i: w[i], weight, _ids())), gap(
        ours, jax64(capped, weight, _ids())
    )


def _without_max_norm(site: Site) -> Iterator[Edit]:
    import torch
    import torch.nn.functional as F

    own = settings(site, EMBED)
    if own.max_norm is None:
        return
    p = own.norm_type or 2.0

    def exact(ids: Any, s: Any) -> Any:
        rows = F.embedding(ids, s.weight)
        norm = torch.linalg.vector_norm(rows, p, dim=-1, keepdim=True)
        return torch.where(norm > own.max_norm, rows * own.max_norm / norm, rows)

    line = "rows longer than max_norm times max_norm / (norm + 1e-7)"
    yield from forms(
        site,
        EMBED,
        (line, "max_norm=None", lambda ids, s: F.embedding(ids, s.weight)),
        (line, "max_norm / norm, without the 1e-7", exact),
    )


max_norm = Difference(
    code="EMB-05",
    title="Embedding's max_norm",
    torch="nn.Embedding(max_norm=c): longer rows are shortened in place, with 1e-7 added",
    jax="nn.Embed: no such argument",
    fix_torch="max_norm=None",
    fix_jax="jnp.where(norm > c, w * c / (norm + 1e-7), w)",
    kinds=EMBED_KINDS,
    measure=_max_norm,
    edits=_without_max_norm,
)


def _by_frequency() -> tuple[float, float]:
    import torch

    ours, weight, cotangent = _embedding_gradient(scale_grad_by_freq=True)
    counts = torch.bincount(_ids().flatten(), minlength=5).clamp(min=1)
    theirs = _take_gradient(weight, cotangent)
    return gap(ours, theirs), gap(ours, theirs / counts.numpy()[:, None])


def _not_by_frequency(site: Site) -> Iterator[Edit]:
    import torch.nn.functional as F

    own = settings(site, EMBED)
    if own.scale_grad_by_freq:
        yield Edit(
            "divide each row's gradient by the count of its id",
            "scale_grad_by_freq=False",
            layer(site, EMBED, lambda i, s: F.embedding(i, s.weight, own.padding_idx)),
        )


by_frequency = Difference(
    code="EMB-06",
    title="scale_grad_by_freq",
    torch="nn.Embedding(scale_grad_by_freq=True): row gradients are divided by the id's count",
    jax="nn.Embed: no such argument",
    fix_torch="scale_grad_by_freq=False",
    fix_jax="divide each row's gradient by the count of its id",
    kinds=EMBED_KINDS,
    measure=_by_frequency,
    edits=_not_by_frequency,
    whats=("param",),
)
