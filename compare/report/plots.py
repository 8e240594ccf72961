"""Plots as paths of an inline SVG: the differences on a log axis, the losses on their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from compare.ladder.verdict import RELATIVE
from compare.report import figures

Dict = dict[str, Any]
Point = tuple[float, float | None]  # x, and y where there is one
WIDTH, HEIGHT = 400, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 390, 8, 162
MOST = 170  # points of a line; where there are more, the largest of neighbours stands for them
DOTS = 60  # up to this many points of a line are marked


@dataclass
class Plot:
    """One panel.

    Args:
      title: its caption.
      alt: what it shows, in words.
      series: lines and dots, each a class of the style sheet and a path.
      keys: the legend, each a class and a word.
      x, y: the ticks, each a position and a label.
      limit: the height of the limit line.
      floor: the height below which there is only zero.
      origin: the position of the first layer that differs, and the anchor of its label.
      breaks: where another phase begins.
      label: of the x axis.
    """

    title: str
    alt: str
    label: str
    series: list[tuple[str, str]] = field(default_factory=list)
    keys: list[tuple[str, str]] = field(default_factory=list)
    x: list[tuple[str, str]] = field(default_factory=list)
    y: list[tuple[str, str]] = field(default_factory=list)
    limit: str | None = None
    floor: str | None = None
    origin: tuple[str, str, str] | None = None
    breaks: list[str] = field(default_factory=list)


def depth(layers: Sequence[Dict], at: int | None) -> list[Plot]:
    """The differences of the layers' outputs and of their gradients, by depth."""
    panels = (
        ("Layer outputs", (("train", "halo"), ("eval", "dot"))),
        ("Gradients of layer outputs", (("gradient", "dot"),)),
    )
    modes = [row.get("mode") for row in layers]
    breaks = [i + 1 for i in range(1, len(modes)) if modes[i] != modes[i - 1]]
    return [
        plot
        for title, keys in panels
        if (plot := _depth(layers, title, keys, at if title == panels[0][0] else None, breaks))
    ]


def _depth(
    layers: Sequence[Dict],
    title: str,
    keys: Sequence[tuple[str, str]],
    at: int | None,
    breaks: Sequence[int],
) -> Plot | None:
    lines = {
        key: [(float(n), figures.value(row.get(key))) for n, row in enumerate(layers, 1)]
        for key, _ in keys
    }
    found = [y for line in lines.values() for _, y in line if y is not None]
    if not found:
        return None
    scale = Log(found)
    across = _across(1, len(layers))
    worst = max((math.inf if y != y else y for y in found), default=0.0)
    key, number = next(
        (k, int(x))
        for k, line in lines.items()
        for x, y in line
        if y is not None and (y == worst or y != y)
    )
    name = layers[number - 1].get("torch")
    plot = Plot(
        title,
        f"{title}: relative float64 difference of {len(layers)} layers by depth, on a log axis. "
        f"The largest is {figures.difference(worst)}, at layer {number}, {name}, {key}; "
        f"the limit is {figures.limit(RELATIVE)}.",
        "layer, in order of execution",
        y=scale.ticks(),
        limit=_s(scale(RELATIVE)),
        floor=_s(scale.floor) if scale.zeros else None,
        breaks=[_s(across(b - 0.5)) for b in breaks],
    )
    for key, style in keys:
        points = [(across(x), scale(y)) for x, y in _thin(lines[key]) if y is not None]
        if points:
            plot.series.append((style, _dots(points)))
            plot.keys.insert(0, (style, key))
    plot.x = [(_s(across(n)), str(n)) for n in _counts(1, len(layers))]
    if at is not None:
        x = across(at + 1)
        plot.origin = (_s(x), "end" if x > (LEFT + RIGHT) / 2 else "start", str(at + 1))
    return plot


def trajectory(steps: Sequence[Dict], sides: tuple[str, str]) -> list[Plot]:
    """The losses of both sides, and the worst difference of each step."""
    phases = list(dict.fromkeys(str(row.get("phase") or "") for row in steps))
    rows = {p: [row for row in steps if str(row.get("phase") or "") == p] for p in phases}
    numbers = [n for row in steps if (n := figures.value(row.get("step"))) is not None]
    if not numbers:
        return []
    across = _across(min(numbers), max(numbers))

    def line(phase: str, key: str) -> list[Point]:
        found = [(figures.value(r.get("step")), figures.value(r.get(key))) for r in rows[phase]]
        return [(x, y) for x, y in found if x is not None]

    x = [(_s(across(n)), str(n)) for n in _counts(int(min(numbers)), int(max(numbers)))]
    made = (_losses(phases, line, across, sides), _steps(phases, line, across))
    for plot in made:
        if plot:
            plot.x = x
    return [plot for plot in made if plot]


def _losses(
    phases: list[str], line: Callable, across: Callable, sides: tuple[str, str]
) -> Plot | None:
    found = [
        y
        for phase in phases
        for key in ("torch_loss", "jax_loss")
        for _, y in line(phase, key)
        if y is not None and math.isfinite(y)
    ]
    if not found:
        return None
    scale = Linear(found)
    first, last = ([y for _, y in line(phases[0], "torch_loss")][i] for i in (0, -1))
    plot = Plot(
        "Loss",
        "The losses of both sides at every step; "
        f"PyTorch's goes from {_number(first)} to {_number(last)}.",
        "step",
        y=scale.ticks(),
        keys=[("torch", sides[0]), ("jax", sides[1])],
    )
    for phase in phases:
        ours, theirs = (
            [
                (across(x), scale(y))
                for x, y in _thin(line(phase, f"{side}_loss"))
                if y is not None and math.isfinite(y)
            ]
            for side in ("torch", "jax")
        )
        plot.series.append(("torch", _polyline(ours)))
        if len(theirs) <= DOTS:
            plot.series.append(("jax marks", _dots(theirs)))
        else:
            plot.series.append(("jax", _polyline(theirs)))
    plot.series = [(style, path) for style, path in plot.series if path]
    if len(phases) > 1:
        plot.title = f"Loss, {len(phases)} phases"
        plot.alt += f" Phases: {', '.join(phases)}."
    return plot


def _steps(phases: list[str], line: Callable, across: Callable) -> Plot | None:
    lines = {phase: line(phase, "worst") for phase in phases}
    found = [y for points in lines.values() for _, y in points if y is not None]
    if not found:
        return None
    scale = Log(found)
    worst = max(math.inf if y != y else y for y in found)
    plot = Plot(
        "Worst tensor of each step",
        "The worst relative float64 difference of any tensor at every step, on a log axis. "
        f"The largest is {figures.difference(worst)}; the limit is {figures.limit(RELATIVE)}.",
        "step",
        y=scale.ticks(),
        limit=_s(scale(RELATIVE)),
        floor=_s(scale.floor) if scale.zeros else None,
    )
    for points in lines.values():
        drawn = [(across(x), scale(y)) for x, y in _thin(points) if y is not None]
        if len(drawn) > 1:
            plot.series.append(("thread", _polyline(drawn)))
        if len(drawn) <= DOTS:
            plot.series.append(("dot", _dots(drawn)))
    return plot


# Axes.


class Log:
    """A log axis that has room for zero at the bottom and for what is not finite at the top."""

    def __init__(self, values: Iterable[float]):
        values = list(values)
        sizes = [abs(y) for y in values if y and math.isfinite(y)]
        exponents = [math.log10(y) for y in sizes]
        # The same axis for every plot that has room on it, so that plots compare by eye.
        self.low = max(-24, 3 * math.floor(min((-18.0, *exponents)) / 3))
        self.high = min(21, 3 * math.ceil(max((-6.0, *exponents)) / 3))
        self.zeros = any(y == 0 for y in values)
        self.infinite = any(not math.isfinite(y) for y in values)
        self.floor = BOTTOM - (16 if self.zeros else 0)
        self.ceiling = TOP + (16 if self.infinite else 0)

    def __call__(self, y: float) -> float:
        if y == 0:
            return BOTTOM
        if not math.isfinite(y):
            return TOP
        part = (math.log10(abs(y)) - self.low) / (self.high - self.low)
        return self.floor - min(1.0, max(0.0, part)) * (self.floor - self.ceiling)

    def ticks(self) -> list[tuple[str, str]]:
        step = 3 * math.ceil((self.high - self.low) / 18)
        exponents = [e for e in range(self.low, self.high + 1) if (e + 9) % step == 0]
        ticks = [(_s(self(10.0**e)), f"1e{e:+03d}" if e else "1") for e in exponents]
        ticks += [(_s(BOTTOM), "0")] if self.zeros else []
        return ticks + ([(_s(TOP), "inf")] if self.infinite else [])


class Linear:
    """A linear axis with round ticks."""

    def __init__(self, values: Iterable[float]):
        values = list(values)
        low, high = min(values), max(values)
        if not math.isfinite(high - low):
            low, high = max(low, -1e300), min(high, 1e300)
        space = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
        self.low, self.high = low - space, high + space

    def __call__(self, y: float) -> float:
        return BOTTOM - (y - self.low) / (self.high - self.low) * (BOTTOM - TOP)

    def ticks(self) -> list[tuple[str, str]]:
        step = _round((self.high - self.low) / 4)
        first = math.ceil(self.low / step)
        values = [k * step for k in range(first, first + 6) if k * step <= self.high]
        return [(_s(self(v)), _number(v)) for v in values]


def _counts(first: int, last: int) -> list[int]:
    """The first and the last of a count, and round numbers between them."""
    step = max(1, round(_round((last - first) / 4)))
    between = range(math.ceil(first / step) * step, last, step)
    return sorted({first, last, *(n for n in between if min(n - first, last - n) >= step / 2)})


def _round(x: float) -> float:
    """The smallest of 1, 2, 2.5, 5, 10 ... that is not below x."""
    unit = 10.0 ** math.floor(math.log10(x)) if x > 0 else 1.0
    return next((m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= x), 10 * unit)


def _across(first: float, last: float) -> Callable[[float], float]:
    """The x axis; a single value stands in the middle."""
    inner = 8
    if last == first:
        return lambda _: (LEFT + RIGHT) / 2
    return lambda x: LEFT + inner + (x - first) / (last - first) * (RIGHT - LEFT - 2 * inner)


# Paths.


def _thin(points: Sequence[Point]) -> list[Point]:
    """At most `MOST` points: the largest of neighbours stands for them."""
    width = math.ceil(len(points) / MOST) or 1
    groups = [points[i : i + width] for i in range(0, len(points), width)]

    def size(point: Point) -> float:
        return -1.0 if point[1] is None else math.inf if math.isnan(point[1]) else point[1]

    return [max(group, key=size) for group in groups]


def _s(x: float) -> str:
    """A coordinate, with no more digits than the eye needs."""
    return f"{x:.1f}".removesuffix(".0")


def _number(x: float | None) -> str:
    return figures.DASH if x is None else f"{x:.4g}"


def _dots(points: Iterable[tuple[float, float]]) -> str:
    """Strokes without length: the style sheet's round line caps make them dots."""
    return "".join(f"M{_s(x)} {_s(y)}h0" for x, y in points)


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_s(x)} {_s(y)}" for x, y in points) if points else ""
