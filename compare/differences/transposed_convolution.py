"""Transposed convolution: the kernel, its padding and its groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import first, flax64, gaps, jax64, last, normal
from compare.differences.shared.convolutions import TRANSPOSED, TRANSPOSED_KINDS, Pads, dilation_of
from compare.differences.shared.frameworks import F, fnn, lax
from compare.differences.shared.layers import EVERYTHING, forms, layer, settings, tupled


def _transposed_conv(x: Any, s: Any, pads: Pads | None = None, weight: Any = None) -> Any:
    """With padding as lax has it, on the dilated input: what exceeds the kernel is zeros."""
    weight = s.weight if weight is None else weight
    n = weight.ndim - 2
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[n - 1]
    stride, dilation = tupled(s.stride or 1, n), dilation_of(s, n)
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
    return [d * (k - 1) for k, d in zip(kernel, dilation_of(s, len(kernel)), strict=True)]


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
    size = tuple(w.shape[2:])
    order = (2, 3, 1, 0) if flip else (2, 3, 0, 1)
    module = fnn.ConvTranspose(
        w.shape[1], size, (2, 2), padding=padding, use_bias=False, transpose_kernel=flip
    )
    return first(flax64(module, {"kernel": w.permute(order)}, last(x)))


def _transposed_flip() -> tuple[float, float]:
    x, w = normal(1, 3, 4, 5), normal(3, 2, 4, 3)
    naive = _flax_transposed(w, x, "VALID", flip=False)
    mended = _flax_transposed(w, x, "VALID")
    return gaps(F.conv_transpose2d(x, w, stride=2), naive, mended)


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
            yield Edit(
                "transpose_kernel=True, {'kernel': weight.transpose(2, 3, 1, 0)}",
                name,
                layer(
                    site,
                    TRANSPOSED,
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
    x, w = normal(1, 3, 4, 5), normal(3, 2, 4, 3)
    naive = _flax_transposed(w, x, ((1, 1), (1, 1)))
    mended = _flax_transposed(w, x, ((2, 2), (1, 1)))
    return gaps(F.conv_transpose2d(x, w, stride=2, padding=1), naive, mended)


def _transposed_paddings(site: Site) -> Iterator[Edit]:
    own = settings(site, TRANSPOSED)
    right = _lax_pads(own)
    for name, pads in _transposed_pads(own).items():
        number = name.startswith("padding") and pads == _lax_pads(own, extra=False)
        if pads != right and not number:  # the number is right, output_padding is not
            yield Edit(
                f"padding={tuple(right)}: dilation * (k - 1) - p",
                f"{name}: padding of the dilated input {tuple(pads)}",
                layer(site, TRANSPOSED, lambda x, s, pads=pads: _transposed_conv(x, s, pads)),
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
    x, w = normal(1, 3, 4, 4), normal(3, 2, 3, 3)
    ours = F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1)
    return gaps(
        ours, _flax_transposed(w, x, ((1, 1), (1, 1))), _flax_transposed(w, x, ((1, 2), (1, 2)))
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
    return gaps(ours, jax64(theirs, x, flipped), jax64(theirs, x, within))


def _group_orders(site: Site) -> Iterator[Edit]:
    own = settings(site, TRANSPOSED)
    groups = own.groups or 1
    if groups == 1:
        return

    def unswapped(weight: Any) -> Any:
        return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)

    yield Edit(
        "weight.reshape(g, in / g, out / g, kh, kw).swapaxes(1, 2), flipped",
        "weight.unflatten(0, (g, -1)).transpose(1, 2).flatten(0, 1)",
        layer(site, TRANSPOSED, lambda x, s: _transposed_conv(x, s, weight=unswapped(s.weight))),
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
