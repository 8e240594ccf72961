"""Pooling: strides, padding, ceil_mode and what an average divides by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from compare.differences.catalogue import Difference, Edit, Site
from compare.differences.measuring import against, first, gaps, jax64, last, normal
from compare.differences.shared.frameworks import F, fnn, jnp, lax, torch
from compare.differences.shared.layers import Form, layer, same, settings, tupled

KINDS = r"(Max|Avg|LP)Pool[123]d|(max|avg|lp)_pool[123]?d?"
MAX = r"MaxPool[123]d|max_pool[123]?d?"
AVERAGE = r"AvgPool[123]d|avg_pool[123]?d?"
NAMES = {
    "max": "kernel_size stride padding dilation ceil_mode",
    "avg": "kernel_size stride padding ceil_mode count_include_pad divisor_override",
    "lp": "norm_type kernel_size stride ceil_mode",
}


def _flax(name: str, x: Any, *args: Any, **options: Any) -> Any:
    """flax.linen's pooling of PyTorch's image."""
    return first(jax64(lambda a: getattr(fnn, name)(a, *args, **options), last(x)))


def _pool(
    x: Any, s: SimpleNamespace, reduce: Callable[[Any], Any], pads: Any, stride: Any, fill: float
) -> Any:
    """Windows of a padded image, each reduced: `pads` are (low, high) of each spatial axis."""
    windows = F.pad(x, [side for pair in reversed(pads) for side in pair], value=fill)
    n = len(pads)
    first_axis = x.ndim - n
    for i, (k, step, d) in enumerate(zip(s.kernel, stride, s.dilation, strict=True)):
        windows = windows.unfold(first_axis + i, d * (k - 1) + 1, step)
        windows = windows[..., ::d]
    return reduce(windows.flatten(-n))


def _own(site: Site) -> tuple[str, SimpleNamespace]:
    """The kind of pooling, and its settings with one number for each spatial axis."""
    kind = site.kind.lower()[:3].strip("_p") if "lp" not in site.kind.lower() else "lp"
    s = settings(site, NAMES[kind])
    digits = [c for c in site.kind if c.isdigit()]
    n = int(digits[0]) if digits else site.inputs[0].ndim - 2
    s.kernel = tupled(s.kernel_size, n)
    s.stride = tupled(s.stride or s.kernel_size, n)
    s.dilation = tupled(getattr(s, "dilation", None) or 1, n)
    s.pads = [(p, p) for p in tupled(getattr(s, "padding", None) or 0, n)]
    s.ceil_mode = bool(s.ceil_mode)
    if kind == "avg":
        s.count_include_pad = s.count_include_pad is not False
    return kind, s


def _spill(x: Any, s: SimpleNamespace, pads: Any, stride: Any) -> list[int]:
    """How far ceil_mode's last window reaches beyond the padding, on each axis."""
    spill = []
    for size, k, step, d, (low, high) in zip(
        x.shape[-len(s.kernel) :], s.kernel, stride, s.dilation, pads, strict=True
    ):
        reach = d * (k - 1) + 1
        count = -(-(size + low + high - reach) // step)
        count -= count * step >= size + low
        spill.append(max(count * step + reach - size - low - high, 0))
    return spill


def _max(windows: Any) -> Any:
    return windows.amax(-1)


def _mean(windows: Any) -> Any:
    return windows.mean(-1)


def _same(x: Any, s: SimpleNamespace, stride: Any = None, lower: bool = False) -> Any:
    return same(x.shape[-len(s.kernel) :], s.kernel, stride or s.stride, s.dilation, lower)


def _form(
    kind: str,
    s: SimpleNamespace,
    pads: Any = None,
    stride: Any = None,
    fill: float | None = None,
    reduce: Callable[[Any], Any] | None = None,
    count_pad: bool | None = None,
    full: bool | None = None,
    whole: bool = False,
) -> Form:
    """The layer's pooling with some settings changed, as flax.linen computes it.

    `pads` may be a function of the input; `full` is whether ceil_mode's partial
    window is there; `whole`, whether it is divided as a whole one.
    """

    def form(x: Any, _: Any) -> Any:
        around = declared = pads(x) if callable(pads) else s.pads if pads is None else pads
        steps = s.stride if stride is None else stride
        if s.ceil_mode if full is None else full:
            spill = _spill(x, s, around, steps)
            around = [(a, b + e) for (a, b), e in zip(around, spill, strict=True)]
        if reduce is not None or kind == "max":
            empty = float("-inf") if fill is None else fill
            return _pool(x, s, reduce or _max, around, steps, empty)
        if kind == "lp":
            p = s.norm_type
            return _pool(x.abs() ** p, s, lambda w: w.sum(-1) ** (1 / p), around, steps, 0.0)
        total = _pool(x, s, lambda w: w.sum(-1), around, steps, 0.0)
        if s.divisor_override:
            return total / s.divisor_override
        cells = torch.ones_like(x)
        if s.count_include_pad if count_pad is None else count_pad:
            counted = around if whole else declared
            cells = F.pad(cells, [side for pair in reversed(counted) for side in pair], value=1.0)
            beyond = [
                (0, high - known) for (_, high), (_, known) in zip(around, counted, strict=True)
            ]
        else:
            beyond = around
        return total / _pool(cells, s, lambda w: w.sum(-1), beyond, steps, 0.0)

    return form


def _rows(site: Site, *rows: tuple[str, str, Form]) -> Iterator[Edit]:
    for right, line, form in rows:
        yield Edit(right, line, layer(site, "kernel_size", form))


def _stride_default() -> tuple[float, float]:
    x = normal(1, 2, 7, 7)
    return gaps(
        F.max_pool2d(x, 3), _flax("max_pool", x, (3, 3)), _flax("max_pool", x, (3, 3), (3, 3))
    )


def _other_strides(site: Site) -> Iterator[Edit]:
    kind, s = _own(site)
    ones = (1,) * len(s.kernel)
    line = f"strides={s.stride}"
    rows = [
        (line, "stride=1", _form(kind, s, stride=ones)),
        (line, "stride=kernel_size", _form(kind, s, stride=s.kernel)),
        (
            line,
            "stride=1, padding 'SAME'",
            _form(kind, s, lambda x: _same(x, s, ones), ones, full=False),
        ),
        (line, "stride reversed", _form(kind, s, stride=s.stride[::-1])),
    ]
    yield from _rows(site, *rows)


stride = Difference(
    code="POOL-01",
    title="Pooling's default stride",
    torch="F.max_pool2d: stride=kernel_size",
    jax="nn.max_pool: strides=None, that is 1",
    fix_torch="stride=1",
    fix_jax="strides=window_shape",
    kinds=KINDS,
    measure=_stride_default,
    edits=_other_strides,
)


def _count() -> tuple[float, float]:
    x, pads = normal(1, 2, 7, 7), ((1, 1), (1, 1))
    ours = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    window = ((3, 3), (2, 2), pads)
    return gaps(
        ours, _flax("avg_pool", x, *window), _flax("avg_pool", x, *window, count_include_pad=False)
    )


def _counted(site: Site) -> Iterator[Edit]:
    kind, s = _own(site)
    other = not s.count_include_pad
    yield from _rows(
        site,
        (
            f"count_include_pad={s.count_include_pad}",
            f"count_include_pad={other}",
            _form(kind, s, count_pad=other),
        ),
        (
            f"count_include_pad={s.count_include_pad}, padding={tuple(s.pads)}",
            f"count_include_pad={other}, padding 'SAME'",
            _form(kind, s, lambda x: _same(x, s), count_pad=other, full=False),
        ),
    )


count_include_pad = Difference(
    code="POOL-02",
    title="Padding counted in an average",
    torch="nn.AvgPool2d: count_include_pad=True; False divides by the real cells",
    jax="nn.avg_pool: count_include_pad=True, whatever PyTorch was told",
    fix_torch="count_include_pad=True",
    fix_jax="count_include_pad=False",
    kinds=AVERAGE,
    measure=_count,
    edits=_counted,
)


def _ceil() -> tuple[float, float]:
    x = normal(1, 2, 7, 7)
    ours = F.max_pool2d(x, 2, 2, ceil_mode=True)
    window = ((2, 2), (2, 2))
    return gaps(
        ours, _flax("max_pool", x, *window), _flax("max_pool", x, *window, ((0, 1), (0, 1)))
    )


def _ceil_forms(site: Site) -> Iterator[Edit]:
    kind, s = _own(site)
    said = "more padding on the high side, for ceil_mode" if s.ceil_mode else "floor the size"
    yield from _rows(
        site, (said, f"ceil_mode={not s.ceil_mode}", _form(kind, s, full=not s.ceil_mode))
    )


ceil_mode = Difference(
    code="POOL-03",
    title="ceil_mode",
    torch="nn.MaxPool2d(ceil_mode=True): a last, partial window",
    jax="nn.max_pool: no such argument, the partial window is left out",
    fix_torch="ceil_mode=False",
    fix_jax="padding=((p, p + 1), ...): more on the high side",
    kinds=KINDS,
    measure=_ceil,
    edits=_ceil_forms,
)


def _ceil_divisor() -> tuple[float, float]:
    x, high = normal(1, 1, 8, 8), ((1, 2), (1, 2))
    ours = F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)

    def right(a: Any) -> Any:
        total = fnn.pooling.pool(a, 0.0, lax.add, (3, 3), (2, 2), high)
        cells = jnp.ones((1, 10, 10, 1), a.dtype)
        return total / fnn.pooling.pool(cells, 0.0, lax.add, (3, 3), (2, 2), ((0, 1), (0, 1)))

    return gaps(ours, _flax("avg_pool", x, (3, 3), (2, 2), high), first(jax64(right, last(x))))


def _ceil_divisors(site: Site) -> Iterator[Edit]:
    kind, s = _own(site)
    if not s.ceil_mode:
        return
    yield from _rows(
        site,
        (
            "sums / counts of the cells inside the declared padding",
            "the partial windows divided as whole ones",
            _form(kind, s, full=True, whole=True, count_pad=True),
        ),
    )


ceil_divisor = Difference(
    code="POOL-04",
    title="What ceil_mode's partial average divides by",
    torch="nn.AvgPool2d(ceil_mode=True): by the cells inside the declared padding",
    jax="nn.avg_pool with more padding: by the whole window",
    fix_torch="F.pad, then padding=0 and ceil_mode=False",
    fix_jax="sums / counts of the cells inside the declared padding",
    kinds=AVERAGE,
    measure=_ceil_divisor,
    edits=_ceil_divisors,
)


def _ceil_dropped() -> tuple[float, float]:
    x = normal(1, 1, 5, 5)
    ours = F.max_pool2d(x, 2, 3, padding=1, ceil_mode=True)
    window = ((2, 2), (3, 3))
    naive = _flax("max_pool", x, *window, ((1, 3), (1, 3)))
    mended = _flax("max_pool", x, *window, ((1, 1), (1, 1)))
    return gaps(ours, naive, mended)


ceil_dropped = Difference(
    code="POOL-05",
    title="The window that ceil_mode drops",
    torch="ceil_mode=True: no window that starts in the right padding",
    jax="padding for ceil((n + 2p - k) / s) + 1 windows: one too many",
    fix_torch="F.pad, then ceil_mode=False",
    fix_jax="one window less where (count - 1) * s >= n + p",
    kinds="",  # seen as one row more; what that row holds depends on how it was padded
    measure=_ceil_dropped,
)


def _max_fill() -> tuple[float, float]:
    x = normal(1, 2, 6, 6) - 3
    ours = F.max_pool2d(x, 3, 2, 1)
    widths = ((0, 0), (1, 1), (1, 1), (0, 0))

    def zeros(a: Any) -> Any:
        return fnn.max_pool(jnp.pad(a, widths), (3, 3), (2, 2))

    return gaps(
        ours, first(jax64(zeros, last(x))), _flax("max_pool", x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    )


def _max_fills(site: Site) -> Iterator[Edit]:
    kind, s = _own(site)
    line = "padding inside max_pool: minus infinity"
    yield from _rows(site, (line, "F.pad(x, p) with zeros", _form(kind, s, fill=0.0)))


max_fill = Difference(
    code="POOL-06",
    title="What max pooling pads with",
    torch="nn.MaxPool2d(padding=p): minus infinity",
    jax="nn.max_pool: minus infinity; jnp.pad, lax.reduce_window(init=0): zeros",
    fix_torch="F.pad(x, (p, p, p, p)), then padding=0",
    fix_jax="nn.max_pool(padding=((p, p), (p, p)))",
    kinds=MAX,
    measure=_max_fill,
    edits=_max_fills,
)


def _pool_same() -> tuple[float, float]:
    x = normal(1, 2, 8, 8)
    naive = _flax("max_pool", x, (3, 3), (2, 2), "SAME")
    mended = _flax("max_pool", x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    return gaps(F.max_pool2d(x, 3, 2, 1), naive, mended)


def _pool_paddings(site: Site) -> Iterator[Edit]:
    kind, s = _own(site)
    line = f"padding={tuple(s.pads)}"
    own = s.pads
    choices: dict[str, Any] = {
        "'SAME'": lambda x: _same(x, s),
        "'SAME_LOWER'": lambda x: _same(x, s, lower=True),
        "'VALID'": [(0, 0)] * len(own),
        "one cell more": [(a + 1, b + 1) for a, b in own],
        "one cell less": [(a - 1, b - 1) for a, b in own if a],
        "shifted down": [(a + 1, b - 1) for a, b in own if b],
        "shifted up": [(a - 1, b + 1) for a, b in own if a],
    }
    for name, pads in choices.items():
        if callable(pads) or len(pads) == len(own):
            yield from _rows(site, (line, f"padding {name}", _form(kind, s, pads, full=False)))


pool_padding = Difference(
    code="POOL-07",
    title="Pooling's padding",
    torch="nn.MaxPool2d(padding=p): p cells on both sides, 0 by default",
    jax="nn.max_pool: 'VALID' by default; 'SAME' pads (0, 1) for k=3, stride 2",
    fix_torch="F.pad(x, (0, 1, 0, 1), value=-inf), then padding=0",
    fix_jax="padding=((1, 1), (1, 1))",
    kinds=KINDS,
    measure=_pool_same,
    edits=_pool_paddings,
)


def _adaptive() -> tuple[float, float]:
    x = normal(1, 2, 7, 5)
    ours = F.adaptive_avg_pool2d(x, (3, 2))

    def axis(a: Any, count: int, at: int) -> Any:
        n = a.shape[at]
        parts = [
            jnp.take(a, jnp.arange(i * n // count, -(-(i + 1) * n // count)), at).mean(at)
            for i in range(count)
        ]
        return jnp.stack(parts, at)

    naive = _flax("avg_pool", x, (3, 2), (2, 2))[:, :, :3]
    mended = jax64(lambda a: axis(axis(a, 3, 2), 2, 3), x)
    return gaps(ours, naive, mended)


def _adaptive_forms(site: Site) -> Iterator[Edit]:
    size = settings(site, "output_size").output_size
    x = site.inputs[0]
    digits = [int(c) for c in site.kind if c.isdigit()]
    n = digits[0] if digits else x.ndim - 2
    sizes = x.shape[-n:]
    wanted = [s or m for s, m in zip(tupled(size, n), sizes, strict=True)]
    average = "avg" in site.kind.lower()
    own, other = (F.avg_pool2d, F.max_pool2d) if average else (F.max_pool2d, F.avg_pool2d)
    if n != 2:
        return
    steps = [m // w for m, w in zip(sizes, wanted, strict=True)]
    exact = [m - (w - 1) * s for m, w, s in zip(sizes, wanted, steps, strict=True)]
    up = [-(-m // w) for m, w in zip(sizes, wanted, strict=True)]
    line = "windows from floor(i n / o) to ceil((i + 1) n / o)"
    for name, pool in (("", own), (", the other kind", other)):
        for kernel, stride in ((steps, steps), (exact, steps), (up, up), (up, steps)):
            form: Form = lambda x, s, p=pool, k=kernel, t=stride: p(x, k, t)  # noqa: E731
            yield from _rows(site, (line, f"windows of {kernel}, stride {stride}{name}", form))
    for name, function in (("mean", _mean), ("amax", _max)):
        if wanted == [1, 1]:
            for axis in (-1, -2):
                form = lambda x, s, f=function, a=axis: f(x.movedim(a, -1))[..., None]  # noqa: E731
                yield from _rows(site, ("the mean over both axes", f"{name}({axis})", form))


adaptive = Difference(
    code="POOL-08",
    title="Adaptive pooling",
    torch="nn.AdaptiveAvgPool2d(o): windows floor(i n / o) to ceil((i + 1) n / o)",
    jax="no such layer; windows of n // o differ where o does not divide n",
    fix_torch="F.avg_pool2d(x, n // o, n // o)",
    fix_jax="slice and mean, window by window",
    kinds=r"Adaptive(Avg|Max)Pool[123]d|adaptive_(avg|max)_pool[123]?d?",
    measure=_adaptive,
    edits=_adaptive_forms,
)


def _lp() -> tuple[float, float]:
    x = normal(1, 2, 6, 6)
    ours = F.lp_pool2d(x, 2.0, 2)

    def theirs(factor: float) -> Any:
        def run(a: Any) -> Any:
            return (fnn.avg_pool(a**2, (2, 2), (2, 2)) * factor) ** 0.5

        return first(jax64(run, last(x)))

    return gaps(ours, theirs(1.0), theirs(4.0))


def _lp_mean(site: Site) -> Iterator[Edit]:
    _, s = _own(site)
    p = s.norm_type
    line = "(sum of |x|**p) ** (1 / p): the sum, not the mean"
    for power in (p, 1.0):
        form = _form(
            "lp", s, fill=0.0, reduce=lambda w, q=power: (w.abs() ** p).mean(-1) ** (1 / q)
        )
        yield from _rows(site, (line, "the mean in place of the sum", form))
    root = _form("lp", s, fill=0.0, reduce=lambda w: (w.abs() ** p).sum(-1))
    yield from _rows(site, (line, "without the root", root))


lp_pool = Difference(
    code="POOL-09",
    title="LPPool",
    torch="nn.LPPool2d: (sum of |x|**p) ** (1 / p)",
    jax="no such layer; nn.avg_pool of x**p is the mean",
    fix_torch="F.avg_pool2d(x**p, k) ** (1 / p)",
    fix_jax="(nn.avg_pool(x**p, window, window) * cells) ** (1 / p)",
    kinds=r"LPPool[123]d|lp_pool[123]?d?",
    measure=_lp,
    edits=_lp_mean,
)


def _sums() -> tuple[float, float]:
    x = normal(1, 2, 6, 6)
    ours = F.avg_pool2d(x, 2)

    def window(a: Any) -> Any:
        return lax.reduce_window(a, 0.0, lax.add, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    return against(ours, window, lambda a: window(a) / 4, x)


def _other_kinds(site: Site) -> Iterator[Edit]:
    kind, s = _own(site)
    line = {"max": "nn.max_pool", "avg": "nn.avg_pool"}[kind]
    for name, reduce, fill in (
        ("the largest", _max, float("-inf")),
        ("the average", _mean, 0.0),
        ("the sum", lambda w: w.sum(-1), 0.0),
        ("the smallest", lambda w: w.amin(-1), float("inf")),
        ("minus the largest of -x", lambda w: -w.amin(-1), float("inf")),
    ):
        form = _form(kind, s, reduce=reduce, fill=fill)
        yield from _rows(site, (line, f"{name} of each window", form))


reduction = Difference(
    code="POOL-10",
    title="What a window gives",
    torch="nn.AvgPool2d: the average; nn.MaxPool2d: the largest",
    jax="lax.reduce_window: what its arguments say; with lax.add the sum",
    fix_torch="F.avg_pool2d(x, k, divisor_override=1)",
    fix_jax="nn.avg_pool, nn.max_pool; reduce_window over the window's cells",
    kinds=f"{MAX}|{AVERAGE}",
    measure=_sums,
    edits=_other_kinds,
)
