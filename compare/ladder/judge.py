"""Two runs held against each other, section by section: what is compared with what, and judged how.

Framework-free: the runs may be live ones or bundles that other machines have written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np

from compare.capture.distance import norm, rearranged
from compare.capture.taps import Section
from compare.ladder import verdict as V
from compare.ladder.noise import Noise
from compare.ladder.pairing import match
from compare.ladder.result import Info, Result, Stage
from compare.ladder.stacking import stacked
from compare.layout import align, align_layer


class Judge:
    """Fills a `Result` from the sections of two runs.

    Args:
      layout, rename: the twin's.
      jax_name: a parameter's name on JAX's side, for people.
      uncounted: buffers that the other side has not, and need not have.
      modules: PyTorch's modules whose weights were paired by order -> the other side's.
      frozen: parameters that PyTorch does not train; the other side's optimizer may see to that.
      ignored: tensors that are left out.
      beside: whether an optimizer is the user's own, and may keep its state where nobody sees it.

    Attributes:
      unlike: the modes whose outputs differ in shape, so that the two losses are not one.
    """

    def __init__(
        self,
        result: Result,
        layout: str = "NHWC",
        rename: Mapping[str, str] | None = None,
        jax_name: Callable[[str], str] = lambda name: name,
        uncounted: Collection[str] = (),
        modules: Mapping[str, str] | None = None,
        frozen: Collection[str] = (),
        ignored: Collection[str] = (),
        beside: bool = False,
    ):
        self.beside = beside
        self.result, self.layout, self.rename = result, layout, rename or {}
        self.jax_name, self.uncounted = jax_name, frozenset(uncounted)
        self.modules, self.frozen = modules or {}, frozenset(frozen)
        self.ignored = frozenset(ignored)
        self.chaotic = False
        self.lone: list[tuple[str, str]] = []
        self.zero: set[str] = set()
        self.still: dict[str, np.ndarray] = {}
        self.unused: set[str] = set()
        self.unlike: set[str] = set()
        self.inner: set[str] = set()

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
        if self.unlike:
            ours, theirs = self._like(ours), self._like(theirs)
        if ours.stage in ("trajectory", "final") and (names := _overflowing(ours)):
            self.chaotic = True
            text = f"step {ours.step}: {names[0]} overflows in PyTorch: lower the learning rate"
            self.result.stages["trajectory"].findings.append((V.INCONCLUSIVE, text))
            return
        ours, noise = stacked(ours, noise, self.result)
        stage = self.result.stages["trajectory" if ours.stage == "final" else ours.stage]
        begun = len(stage.judged), len(stage.findings)
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
                    self._lone(stage, name, f"{step}{name} is missing on the other side")
                continue
            j = self._aligned(name, j, t.shape)
            if j is None:
                j = theirs.tensors[other]
                judged = V.unlike(step + name, self._shown(other), t.shape, j.shape)
                if "/layer/" in name and rearranged(t, j, V.RELATIVE):
                    judged = replace(judged, verdict=V.SAME, difference=0.0)
                stage.judged.append(judged)
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
            if ours.stage in ("trajectory", "final"):
                self.chaotic |= judged.verdict == V.INCONCLUSIVE
                if name.endswith("/loss"):
                    loss = (ours.step, name.removesuffix("/loss"), float(t), float(j))
                    self.result.losses.append(loss)
        for name, j in theirs.tensors.items():
            nothing = "/gradient/" in name and not np.any(j)  # of what PyTorch cannot differentiate
            if name in expected or "/layer/" in name or nothing or self._optional(name):
                continue
            parameter = name.rpartition("/gradient/param/")[2]
            if parameter in self.frozen:
                text = "frozen in PyTorch, but not in JAX: its optimizer has to leave it alone"
                self.result.notes.append(f"{parameter}: {text}")
            else:
                self._lone(stage, name, f"{step}{name} has no counterpart in PyTorch")
        if len(stage.findings) == begun[1]:
            if ours.stage == "gradients":
                self._excuse(
                    stage, begun[0], "gradient/layer", "no parameter's or input's gradient"
                )
            elif ours.stage in ("forward", "final"):
                self._excuse(stage, begun[0], "layer", "no output", V.SHAPE)

    def judge_numerics(self, theirs: Section, exact: Section, rounding: Noise) -> None:
        """Tier 2 on one section of a run, against the float64 run on its branches."""
        exact, noise = stacked(exact, rounding.errors, self.result)
        floats = {
            name: norm(t)
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
            if r is not None and other and name not in self.inner:
                mode, _, leaf = name.partition("/gradient/param/")
                scale = scales.get(mode, 0.0) if f"{mode}/{leaf}" in self.zero else 0.0
                judged = V.tier2(
                    name,
                    self._shown(other),
                    r,
                    t,
                    noise[name],
                    median,
                    rounding.unit(name),
                    scale,
                    rounding.dtype,
                    rounding.too_noisy,
                )
                self.result.stages[theirs.stage].numerics.append(judged)

    def _excuse(
        self, stage: Stage, first: int, places: str, outside: str, label: str | None = None
    ) -> None:
        """What differs at inner places alone, and reaches nothing that is given or trained.

        A gradient that one side stops inside a layer, and the other before it, is one of these; so
        is a layer that gives more rows than anything reads.

        Args:
          places: "layer" or "gradient/layer".
          outside: what does not differ, for people.
          label: of the differences that may be excused; default all.
        """
        seen = stage.judged[first:]
        outer = [j for j in seen if f"/{places}/" not in j.name]
        if any(j.verdict != V.SAME for j in outer) or not any(j.size > 0 for j in outer):
            return
        inner = [j for j in seen if j.verdict == V.DIVERGED]
        if any(j.label != (j.label if label is None else label) for j in inner):
            return
        self.inner |= {j.name for j in inner}
        excused = {j.name: replace(j, verdict=V.SAME, label="inner") for j in inner}
        stage.judged[first:] = [excused.get(j.name, j) for j in seen]
        self.result.notes += [f"{j.name}: {_how(j)}, but {outside} differs" for j in inner]

    def _like(self, section: Section) -> Section:
        """A section without the losses, gradients and updates of modes that are `unlike`."""
        kept = {
            name: value
            for name, value in section.tensors.items()
            if name.partition("/")[0] not in self.unlike
            or (section.stage == "forward" and not name.endswith("/loss"))
        }
        return Section(section.stage, kept, section.step)

    def _label(self, section: Section, noise: Mapping[str, float]) -> dict[str, float]:
        """The gradient scale of each mode; remembers parameters with a gradient of zero, and the
        elements of others: the key's part of a packed bias.
        """
        scale: dict[str, float] = {}
        sizes = {
            name: norm(array)
            for name, array in section.tensors.items()
            if section.stage == "gradients" and "/gradient/param/" in name
        }
        for name, size in sizes.items():
            mode = name.partition("/")[0]
            scale[mode] = max(scale.get(mode, 0.0), size)
        for name, size in sizes.items():
            mode, _, rest = name.partition("/")
            parameter = f"{mode}/{rest.removeprefix('gradient/param/')}"
            shake = V.NOISE * noise.get(name, 0.0)
            magnitude = np.abs(section.tensors[name])
            still = (magnitude < V.ZERO * scale[mode]) & (shake > V.RELATIVE * magnitude)
            if size < V.ZERO * scale[mode] and shake > V.RELATIVE * size:
                self.zero.add(parameter)
            elif not (still & (magnitude > 0)).any():
                still[...] = False  # what no example reaches may be reached by the next
            if still.any():
                self.still[parameter] = still
            if not size:
                self.unused.add(parameter)
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
        """What is left out, and counters that only PyTorch keeps: of batches, and of an optimizer
        without need of one.
        """
        if name.rpartition("/")[2] in self.ignored:
            return True
        _, found, buffer = name.partition("buffer/")
        return (bool(found) and buffer in self.uncounted) or "/state/step/" in name

    def _lone(self, stage: Stage, name: str, text: str) -> None:
        """A tensor that one side alone has; an optimizer of the user's own may keep its state where
        nobody sees it, and one of PyTorch's keeps none of what the loss does not reach, so that
        counts only if what is trained differs, too.
        """
        mode, _, rest = name.partition("/")
        lone = self.beside or f"{mode}/{rest.rpartition('/')[2]}" in self.unused
        found = self.lone if lone and "/state/" in name else stage.findings
        found.append((V.DIVERGED, text))

    def trained(self) -> None:
        """After the last step: what one side's optimizer alone has, if the training differs."""
        stages = self.result.stages
        if V.DIVERGED in (stages["step"].verdict, stages["trajectory"].verdict):
            stages["step"].findings += self.lone

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
        if "/layer/" in name:
            return align_layer(array, shape, self.layout)
        if "/out" in name:
            return align(array, shape, self.layout)
        return array if array.shape == shape else None

    def _shown(self, name: str) -> str:
        return self.jax_name(name.rpartition("/")[2]) if "param/" in name else name


def _how(judged: V.Judged) -> str:
    same = judged.label == V.SHAPE
    return judged.detail if same else f"differs by {judged.relative:.1e}"


def _overflowing(section: Section) -> list[str]:
    """The losses and parameters that no float32 would hold."""
    with np.errstate(invalid="ignore"):
        return [
            name
            for name, value in section.tensors.items()
            if name.endswith("/loss") or name.startswith("param/")
            if value.size and not np.abs(value).max() < np.finfo(np.float32).max
        ]
