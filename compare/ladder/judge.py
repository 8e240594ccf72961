"""Two runs held against each other, section by section: what is compared with what, and judged how.

Framework-free: the runs may be live ones or bundles that other machines have written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from compare.capture.taps import Section, called, input_key
from compare.ladder import verdict as V
from compare.ladder.pairing import match
from compare.ladder.result import Info, Result
from compare.layout import align

MOVED = 1e-3  # what a trajectory must move the parameters by, relative


class Judge:
    """Fills a `Result` from the sections of two runs.

    Args:
      layout, rename: the twin's.
      jax_name: a parameter's name on JAX's side, for people.
      uncounted: buffers that the other side has not, and need not have.
      modules: PyTorch's modules whose weights were paired by order -> the other side's.
    """

    def __init__(
        self,
        result: Result,
        layout: str = "NHWC",
        rename: Mapping[str, str] | None = None,
        jax_name: Callable[[str], str] = lambda name: name,
        uncounted: Collection[str] = (),
        modules: Mapping[str, str] | None = None,
    ):
        self.result, self.layout, self.rename = result, layout, rename or {}
        self.jax_name, self.uncounted = jax_name, frozenset(uncounted)
        self.modules = modules or {}
        self.chaotic = False
        self.zero: set[str] = set()

    def meet(self, ours: Info, theirs: Info) -> None:
        """Pairs the places that two runs recorded, in every mode."""
        result = self.result
        for mode, info in ours.items():
            result.pairing[mode] = match(info, theirs.get(mode, {}), self.rename, self.modules)
        result.info, result.others = ours, theirs

    def judge(self, ours: Section, theirs: Section, noise: Mapping[str, float]) -> None:
        """Tier 1 on one section."""
        if self.chaotic and ours.stage in ("trajectory", "final"):
            return
        ours, noise = self._stacked(ours, noise)
        stage = self.result.stages["trajectory" if ours.stage == "final" else ours.stage]
        scale = self._label(ours, noise)
        step = f"step {ours.step}: " if ours.step else ""
        expected = set()
        for name, t in ours.tensors.items():
            other = self._counterpart(name)
            if other is None:
                continue
            expected.add(other)
            j = theirs.tensors.get(other)
            if j is None:
                if "/layer/" not in name and not self._optional(name):
                    text = f"{step}{name} is missing on the other side"
                    stage.findings.append((V.DIVERGED, text))
                continue
            j = self._aligned(name, j, t.shape)
            if j is None:
                shape = theirs.tensors[other].shape
                text = f"{step}{name} has shape {t.shape} in PyTorch, {shape} in JAX"
                stage.findings.append((V.DIVERGED, text))
                continue
            judged = V.tier1(
                step + name,
                self._shown(other),
                t,
                j,
                noise.get(name, 0.0),
                scale=scale.get(name.partition("/")[0], 0.0),
                zero=self._inherits(name),
            )
            stage.judged.append(judged)
            if ours.stage == "trajectory":
                self.chaotic |= judged.verdict == V.INCONCLUSIVE
                if name.endswith("/loss"):
                    loss = (ours.step, name.removesuffix("/loss"), float(t), float(j))
                    self.result.losses.append(loss)
        for name, j in theirs.tensors.items():
            nothing = "/gradient/" in name and not np.any(j)  # of what PyTorch cannot differentiate
            if name not in expected and "/layer/" not in name and not nothing:
                stage.findings.append((V.DIVERGED, f"{step}{name} has no counterpart in PyTorch"))

    def judge_numerics(
        self, theirs: Section, exact: Section, noise: Mapping[str, float], unit: float
    ) -> None:
        """Tier 2 on one section of a run, against the float64 run on its branches."""
        exact, noise = self._stacked(exact, noise)
        floats = {
            name: V.norm(t)
            for name, t in exact.tensors.items()
            if t.dtype.kind == "f" and not self._inherits(name)
        }
        scales: dict[str, float] = {}
        for name, size in floats.items():
            mode, _, rest = name.partition("/")
            if rest.startswith("gradient/param/"):
                scales[mode] = max(scales.get(mode, 0.0), size)
        known = [noise[name] / size for name, size in floats.items() if size]
        median = float(np.median(known)) if known else 0.0
        for name in floats:
            other = self._counterpart(name)
            r = theirs.tensors.get(other) if other else None
            t = exact.tensors[name]
            r = None if r is None else self._aligned(name, r, t.shape)
            if r is not None and other:
                mode, _, leaf = name.partition("/gradient/param/")
                scale = scales.get(mode, 0.0) if f"{mode}/{leaf}" in self.zero else 0.0
                judged = V.tier2(name, self._shown(other), r, t, noise[name], median, unit, scale)
                self.result.stages[theirs.stage].numerics.append(judged)

    def branches(
        self, theirs: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], mode: str
    ) -> dict[str, np.ndarray]:
        """A run's branches in one mode under PyTorch's keys and axes, whose shapes are given."""
        found = {}
        pairing = self.result.pairing[mode]
        for key, other in pairing.pairs.items():
            calls = pairing.stacked.get(key, [key])
            if other not in theirs or any(call not in shapes for call in calls):
                continue
            for call, value in zip(
                calls, theirs[other] if key in pairing.stacked else [theirs[other]], strict=True
            ):
                aligned = align(value, shapes[call], self.layout)
                if aligned is not None:
                    found[call] = aligned
        return found

    def judge_flips(
        self, flips: Mapping[str, Any], references: Mapping[str, list[Any]], unit: float
    ) -> None:
        """The branches that differ from float64's: not more than the references', nor farther."""
        stage = self.result.stages["forward"]
        for key, flip in flips.items():
            others = references.get(key, [])
            most = max((f.count for f in others), default=0)
            error = max((f.error for f in others), default=0.0)
            reach = 4 * max(error, 4 * unit * flip.scale)
            if flip.count > 4 * max(most, 1):
                text = f"{key}: {flip.count} branches differ from float64's, references: {most}"
                stage.findings.append((V.DIVERGED, text))
            elif flip.farthest > reach:
                place = f"{flip.farthest:.1e} from the kink; rounding reaches {reach:.1e}"
                text = f"{key}: a branch differs {place}"
                stage.findings.append((V.DIVERGED, text))

    def summarise(self, trained: list[str], visible: Callable[[str], bool] | None = None) -> None:
        """Coverage, and the words in the column 'compared'.

        Args:
          trained: names of the parameters.
          visible: whether a parameter without a gradient moves some value of a forward pass; None
            where it went no further than a rung that differs.
        """
        result, stages = self.result, self.result.stages
        forward, gradients, step = (stages[n] for n in ("forward", "gradients", "step"))
        passed = forward.judged or forward.numerics
        if all(j.name.endswith("/loss") for j in passed) and forward.verdict == V.SAME:
            forward.findings.append((V.INCONCLUSIVE, "neither side has an output to compare"))
        layers = sum(1 for j in passed if j.name.startswith("eval/layer/"))
        modes = len({j.name.partition("/")[0] for j in passed})
        forward.compared = (
            f"{layers} layers, {modes} modes" if layers else f"outputs, {modes} modes"
        )
        names = [j.name.partition("/")[2] for j in gradients.judged or gradients.numerics]
        params = sum(n.startswith("gradient/param/") for n in names)
        inputs = sum(n.startswith("gradient/input/") for n in names)
        gradients.compared = f"{params} + {inputs} + {len(names) - params - inputs} tensors"
        gradients.applicable = bool(names or gradients.findings)
        step.applicable = bool(trained)
        stages["trajectory"].applicable = bool(trained and visible)
        if trained:
            updated = [j.name for j in step.judged or step.numerics]
            states = sum("/free/state/" in name for name in updated)
            free = sum("/free/param/" in name for name in updated)
            step.compared = f"{free} params, {states} states"
            taken = {j.name.partition(":")[0] for j in stages["trajectory"].judged if ":" in j.name}
            stages["trajectory"].compared = f"{len(taken)} steps" if visible else "not reached"
        reached = {
            j.name.rpartition("/")[2]
            for j in gradients.judged
            if "/gradient/param/" in j.name and j.size > 0 and j.label != "zero"
        }
        silent = [n for n in trained if n not in reached and not (visible and visible(n))]
        result.leaves, result.moved = len(trained), len(trained) - len(silent)
        gradients.findings += [
            (V.INCONCLUSIVE, f"{n} has no gradient and moves no output: nothing was shown of it")
            for n in (silent if visible else ())
        ]
        result.buffers = len(
            {j.name.rpartition("/")[2] for j in forward.judged if "/buffer/" in j.name}
        )

    def judge_movement(self, last: Section, state: Mapping[str, np.ndarray]) -> None:
        """A trajectory counts only if it moved the parameters."""
        names = [n.removeprefix("param/") for n in last.tensors if n.startswith("param/")]
        moved = np.hypot.reduce([V.distance(last.tensors[f"param/{n}"], state[n]) for n in names])
        size = np.hypot.reduce([V.norm(state[n]) for n in names])
        if not moved >= MOVED * size:
            text = f"the parameters moved by {moved / size:.1e} only: raise the learning rate"
            self.result.stages["trajectory"].findings.append((V.INCONCLUSIVE, text))

    def stacked(self, section: Section) -> dict[str, np.ndarray]:
        """A section with the layers that JAX scans over stacked over time."""
        return dict(self._stacked(section, {})[0].tensors)

    def _stacked(
        self, section: Section, noise: Mapping[str, float]
    ) -> tuple[Section, Mapping[str, float]]:
        """A layer that PyTorch calls in a loop, and JAX in a scan, as one tensor over time."""
        if not any(pairing.stacked for pairing in self.result.pairing.values()):
            return section, noise
        tensors, noise = dict(section.tensors), dict(noise)
        for mode, pairing in self.result.pairing.items():
            info = self.result.info[mode]
            for key, calls in pairing.stacked.items():
                given = [called(call, info[call]) for call in calls]
                for kind in ("layer", "gradient/layer"):
                    base = re.escape(f"{mode}/{kind}/{given[0].partition('#')[0]}:in")
                    inputs = [re.fullmatch(rf"{base}([^#]*)(#\d+)?", name) for name in tensors]
                    suffixes = {found[1]: None for found in inputs if found}
                    for group in [calls, *([input_key(g, s) for g in given] for s in suffixes)]:
                        names = [f"{mode}/{kind}/{place}" for place in group]
                        seen = [tensors[name] for name in names if name in tensors]
                        # A call whose output nobody uses has no gradient in PyTorch.
                        unused = kind == "gradient/layer" and group is calls and seen
                        if len(seen) < len(names) and not unused:
                            continue
                        shakes = [noise.pop(name, 0.0) for name in names]
                        zeros = np.zeros_like(seen[0])
                        stacked = np.stack([tensors.pop(name, zeros) for name in names])
                        first = names[calls.index(key)]
                        tensors[first], noise[first] = stacked, float(np.hypot.reduce(shakes))
        return Section(section.stage, tensors, section.step), noise

    def _label(self, section: Section, noise: Mapping[str, float]) -> dict[str, float]:
        """The gradient scale of each mode; remembers parameters with a gradient of zero."""
        scale: dict[str, float] = {}
        sizes = {
            name: V.norm(array)
            for name, array in section.tensors.items()
            if section.stage == "gradients" and "/gradient/param/" in name
        }
        for name, size in sizes.items():
            mode = name.partition("/")[0]
            scale[mode] = max(scale.get(mode, 0.0), size)
        for name, size in sizes.items():
            mode, _, rest = name.partition("/")
            shake = V.NOISE * noise.get(name, 0.0)
            if size < V.ZERO * scale[mode] and shake > V.RELATIVE * size:
                self.zero.add(f"{mode}/{rest.removeprefix('gradient/param/')}")
        return scale

    def _inherits(self, name: str) -> bool:
        """Whether a tensor belongs to a parameter whose gradient is analytically zero."""
        if not self.zero or "/forced/" in name:
            return False
        mode, _, rest = name.partition("/")
        if mode == "param":
            return any(zero.partition("/")[2] == rest for zero in self.zero)
        kind, _, leaf = rest.rpartition("/")
        belongs = kind == "free/param" or "state/" in kind
        return belongs and f"{mode}/{leaf}" in self.zero

    def _optional(self, name: str) -> bool:
        """Counters that only PyTorch keeps: of batches, and of an optimizer without need of one."""
        _, found, buffer = name.partition("buffer/")
        return (bool(found) and buffer in self.uncounted) or "/state/step/" in name

    def _counterpart(self, name: str) -> str | None:
        """The other side's name for a tensor; None for a layer without a pair."""
        mode, _, rest = name.partition("/")
        for kind in ("layer/", "gradient/layer/"):
            if rest.startswith(kind):
                key = self.result.pairing[mode].pairs.get(rest.removeprefix(kind))
                return None if key is None else f"{mode}/{kind}{key}"
        return name

    def _aligned(self, name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
        """What the models computed has each side's own layout; all else is in PyTorch's already."""
        if "/out" in name or "/layer/" in name:
            return align(array, shape, self.layout)
        return array if array.shape == shape else None

    def _shown(self, name: str) -> str:
        return self.jax_name(name.rpartition("/")[2]) if "param/" in name else name
