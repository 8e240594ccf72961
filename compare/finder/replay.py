"""Every layer of JAX's run alone, on the inputs that PyTorch's layer had."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from compare.capture.given import mode_name
from compare.capture.taps import Section, called, input_key
from compare.finder.found import Origin, Row, Tensors
from compare.finder.lint import hyperparameters
from compare.ladder import verdict as V
from compare.ladder.judge import Judge
from compare.ladder.pair import REFERENCE, Pair
from compare.layout import align, channels_first
from compare.share import to_numpy, to_torch
from compare.twin import Phase


class Replay:
    """One pass of each side in which every layer of JAX's runs on PyTorch's own inputs."""

    def __init__(self, pair: Pair, judge: Judge, progress: Callable[[str], None]):
        self.pair, self.judge, self.result = pair, judge, judge.result
        self.progress = progress
        self.rows: list[Row] = []
        self._run = pair.run(REFERENCE, inputs=True)
        self._reference: tuple[str, Tensors] = "", {}
        self._replayed: tuple[str, Tensors] = "", {}
        self._program: tuple[str, Any, dict[Any, Any]] = "", None, {}
        self._fields: dict[str, tuple[str, dict[str, Any]]] | None = None

    def origin(self) -> Origin | None:
        """The first place that differs by itself: forward, then backward, then in the update."""
        for stage, look in (
            ("forward", self._forward),
            ("gradients", self._backward),
            ("step", self._update),
            ("trajectory", self._trajectory),
        ):
            if self.result.stages[stage].verdict == V.DIVERGED and (origin := look()):
                return origin
        return None

    # Running.

    def reference(self, mode: str) -> Tensors:
        """PyTorch's tensors of one pass, the layers' inputs among them; only the last is kept."""
        if self._reference[0] != mode:
            self._reference = self._replayed = "", {}
            self.progress(f"replay: torch {mode}")
            tensors = self._run.alone(self.phase(mode))
            self._reference = mode, self.judge.stacked(Section("forward", tensors))
        return self._reference[1]

    def _theirs(self, mode: str) -> Tensors:
        """JAX's tensors, each computed from PyTorch's, with PyTorch's axes; only the last."""
        ours = self.reference(mode)
        if self._replayed[0] != mode:
            places = self.places(mode)
            self.progress(f"replay: jax {mode}")
            force = {j: ours[f"{mode}/layer/{t}"] for t, j in places.items()}
            back = {
                j: ours[f"{mode}/gradient/layer/{t}"]
                for t, j in places.items()
                if f"{mode}/gradient/layer/{t}" in ours
            }
            run = self.pair.run("xla:cpu", inputs=True)
            self._replayed = mode, run.replay(self.phase(mode), force, back)
        return self._replayed[1]

    def phase(self, mode: str) -> Phase | None:
        """The update in whose training pass a mode is; None for eval mode."""
        return {mode_name(phase): phase for phase in self.pair.twin.updates}.get(mode)

    def places(self, mode: str) -> dict[str, str]:
        """PyTorch's places, inputs too, in order of execution -> JAX's."""
        prefix, result = f"{mode}/layer/", self.result
        pairs = result.pairing[mode].pairs
        calls = {
            called(key, result.info[mode][key]): called(other, result.others[mode][other])
            for key, other in pairs.items()
        }
        found = {}
        for name, value in self.reference(mode).items():
            key = name.removeprefix(prefix)
            if not name.startswith(prefix) or value.dtype.kind != "f":
                continue
            place, suffix = place_of(key)
            if ":in" in key and place in calls:
                found[key] = input_key(calls[place], suffix)
            elif key in pairs:
                found[key] = pairs[key]
        return found

    def pairs(self, mode: str, kind: str) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
        """PyTorch's key, JAX's, and both values, of every place that both sides have."""
        ours, theirs = self.reference(mode), self._theirs(mode)
        for key, other in self.places(mode).items():
            t, j = ours.get(f"{mode}/{kind}/{key}"), theirs.get(f"{mode}/{kind}/{other}")
            if t is not None and j is not None:
                layout = self.pair.twin.layout
                aligned = align(j, t.shape, layout)
                if aligned is None:  # another shape, but the same axes
                    aligned = channels_first(j) if j.ndim > 3 and layout == "NHWC" else j
                yield key, other, t, aligned

    # Looking.

    def _forward(self) -> Origin | None:
        judged = {j.name: j for j in self.result.stages["forward"].judged}
        diverged = {n.partition("/")[0] for n, j in judged.items() if j.verdict == V.DIVERGED}
        for mode in (m for m in self.result.pairing if m in diverged):
            origin = self._layers(mode, judged) or self._rest(mode)
            if origin:
                return origin
        return None

    def _layers(self, mode: str, judged: Mapping[str, V.Judged]) -> Origin | None:
        rows, origin = [], None
        for key, other, t, j in self.pairs(mode, "layer"):
            relative, same = compared(t, j)
            glue = ":in" in key
            before = self._before(mode, key) if glue and not same else None
            whole = judged.get(f"{mode}/layer/{key}")
            difference = whole.relative if whole else None
            row = Row(key, other, difference, relative, between=before)
            if not same:
                row.verdict = "ORIGIN"
                if origin is None:
                    origin = self._at(mode, "forward", key, other, row, t, j, before or "")
            elif whole and whole.verdict == V.DIVERGED:
                row.verdict = "inherited"
            if not glue or not same:
                rows.append(row)
        self.rows = rows
        return origin

    def program(self, mode: str) -> tuple[Any, dict[Any, Any]]:
        """The functions of PyTorch's pass, and the outputs that both sides have; only the last."""
        if self._program[0] != mode:
            self._program = "", None, {}
            program = self._run.program(self.phase(mode))
            self._program = mode, program, program.known(self.result.pairing[mode].pairs)
        return self._program[1:]

    def _before(self, mode: str, key: str) -> str:
        """The layer that an input comes from, the latest of several."""
        program, known = self.program(mode)
        used = program.stretch([program.inputs[key]], known)[1]
        latest = next((r for r in reversed(known) if r in used), None)
        if latest is None:
            return "the input"
        name = program.name(latest, self.result.pairing[mode].pairs)
        return called(name, self.result.info[mode][name])

    def _rest(self, mode: str) -> Origin | None:
        """What comes after the layers: the output, the loss, the buffers."""
        ours, theirs = self.reference(mode), self._theirs(mode)
        for name, t in ours.items():
            head, _, rest = name.partition("/")
            kind = rest.partition("/")[0].partition(".")[0]
            if head != mode or kind not in ("out", "loss", "buffer") or name not in theirs:
                continue
            j = align(theirs[name], t.shape, self.pair.twin.layout) if kind == "out" else None
            j = theirs[name] if j is None else j
            relative, same = compared(t, j)
            if t.dtype.kind != "f" or same:
                continue
            place = {"out": "the output", "loss": "the loss"}.get(kind, rest.partition("/")[2])
            what = {"out": "output"}.get(kind, kind)
            between = (self._before(mode, rest), place) if kind == "out" else None
            return Origin(
                "forward", place, place, mode, what, relative, relative, between,
                ours=t, theirs=j, key=rest,
            )  # fmt: skip
        return None

    def _backward(self) -> Origin | None:
        diverged = [
            j.name.partition("/")[0]
            for j in self.result.stages["gradients"].judged
            if j.verdict == V.DIVERGED
        ]
        for mode in dict.fromkeys(diverged):
            scale = max(
                (
                    V.norm(t)
                    for n, t in self.reference(mode).items()
                    if n.startswith(f"{mode}/gradient/")
                ),
                default=0.0,
            )
            for key, other, t, j in reversed(list(self.pairs(mode, "gradient/layer"))):
                relative, same = compared(t, j, scale)
                if not same:
                    row = Row(key, other, None, relative, "ORIGIN")
                    origin = self._at(mode, "gradients", key, other, row, t, j, "")
                    origin.what = "gradient"
                    if ":in" not in key:
                        place = called(key, self.result.info[mode][key])
                        origin.between = (place, self._after(mode, key, t, j))
                    self.rows = [row]
                    return origin
                place, _ = place_of(key)
                if ":in" in key and (wrong := self._parameters(mode, place, scale)):
                    return wrong
            if wrong := self._parameters(mode, None, scale) or self._inputs(mode, scale):
                return wrong
        return None

    def used(self, mode: str, key: str) -> dict[str, tuple[Any, np.ndarray]]:
        """What a layer's output goes into, and PyTorch's gradient of that, by key."""
        program, known = self.program(mode)
        return {
            user: (place, self.reference(mode).get(f"{mode}/gradient/layer/{user}", np.ones(())))
            for user, place in program.users(program.source(key), known).items()
            if not re.fullmatch(r"out(\.[^:]*)?", user)
        }

    def _after(self, mode: str, key: str, t: np.ndarray, j: np.ndarray) -> str:
        """Where a layer's output goes; of several places the one that explains the difference."""
        program, known = self.program(mode)
        source, missing = program.source(key), (j - t).ravel()

        def unexplained(place: Any, gradient: np.ndarray) -> float:
            cotangents = {place: to_torch(gradient)}
            part = to_numpy(program.gradient(source, cotangents, known, {})).ravel()
            size = part @ part
            return V.norm(missing - part * (missing @ part / size)) if size else np.inf

        users = self.used(mode, key)
        best = min(users, key=lambda user: unexplained(*users[user]), default="loss")
        return {"loss": "the loss"}.get(best) or program.modules.get(best) or place_of(best)[0]

    def _inputs(self, mode: str, scale: float) -> Origin | None:
        """The gradient of an input of the model, lost before the first layer."""
        ours, theirs = self.reference(mode), self._theirs(mode)
        for name, t in ours.items():
            if name.startswith(f"{mode}/gradient/input/") and name in theirs:
                j = theirs[name]
                relative, same = compared(t, j, scale)
                if not same:
                    place, key = name.rpartition("/")[2], name.removeprefix(f"{mode}/gradient/")
                    between = ("the input", self._after(mode, key, t, j))
                    return Origin(
                        "gradients", place, place, mode, "gradient", relative, relative, between,
                        ours=t, theirs=j, key=key,
                    )  # fmt: skip
        return None

    def _parameters(self, mode: str, place: str | None, scale: float) -> Origin | None:
        """The first parameter of a layer (None: of all) whose own gradient differs."""
        ours, theirs = self.reference(mode), self._theirs(mode)
        prefix = f"{mode}/gradient/param/"
        for name, t in ours.items():
            parameter = name.removeprefix(prefix)
            owner = parameter.rpartition(".")[0]
            if not name.startswith(prefix) or name not in theirs:
                continue
            if place is not None and owner != place.partition("#")[0]:
                continue
            relative, same = compared(t, theirs[name], scale)
            if not same:
                other = self.judge.jax_name(parameter)
                return Origin(
                    "gradients", parameter, other, mode, "param", relative, relative,
                    ours=t, theirs=theirs[name],
                )  # fmt: skip
        return None

    def _update(self) -> Origin | None:
        wrong = [j for j in self.result.stages["step"].judged if j.verdict == V.DIVERGED]
        for judged in wrong:
            mode, _, rest = judged.name.partition("/")
            if rest.startswith("forced/"):
                return Origin(
                    "step", rest.removeprefix("forced/"), judged.other, mode, "update",
                    judged.relative, judged.relative,
                )  # fmt: skip
        if not wrong:  # a tensor of the state that one side alone has
            text = next(text for _, text in self.result.stages["step"].findings)
            return Origin("step", text, "", text.partition("/")[0], "start")
        judged = wrong[0]
        mode, _, rest = judged.name.partition("/")
        return Origin(
            "step", rest.removeprefix("free/"), judged.other, mode, "start", judged.relative
        )

    def _trajectory(self) -> Origin | None:
        wrong = next(j for j in self.result.stages["trajectory"].judged if j.verdict == V.DIVERGED)
        return Origin("trajectory", wrong.name, wrong.other, "", "update", wrong.relative)

    def _at(
        self, mode: str, stage: str, key: str, other: str, row: Row, t: Any, j: Any, before: str
    ) -> Origin:
        place, _ = place_of(key)
        glue = stage == "forward" and ":in" in key
        tap = self.result.info[mode].get(place)
        theirs = self.result.others[mode].get(self.result.pairing[mode].pairs.get(place, ""))
        return Origin(
            stage,
            place if stage == "forward" else key.replace(":in", ""),
            other.replace(":in", ""),
            mode,
            "output",
            row.difference or row.replayed,
            row.replayed,
            (before, place) if glue else None,
            tap.source if tap else "",
            theirs.source if theirs else "",
            t,
            j,
            key,
        )

    def hyperparameters(self, key: str) -> dict[str, Any]:
        """What one of JAX's layers says of itself."""
        if self._fields is None:
            self._fields = hyperparameters(self.pair.twin, self.pair.jax_model)
        return self._fields.get(key.partition("#")[0], ("", {}))[1]


def place_of(key: str) -> tuple[str, str]:
    """The layer and the suffix of an input's key: "fc:in.1#2" -> ("fc#2", ".1")."""
    found = re.fullmatch(r"(.*?):in([^#]*)(#\d+)?", key)
    if not found:
        return key, ""
    return found.group(1) + (found.group(3) or ""), found.group(2)


def compared(t: np.ndarray, j: np.ndarray, scale: float = 0.0) -> tuple[float, bool]:
    """The relative difference, and whether it is none."""
    if t.shape != j.shape:
        return float("inf"), False
    difference, size = V.distance(t, j), V.finite_norm(t)
    allowed = max(V.RELATIVE * size, V.ZERO * scale)
    return difference / size if size else difference, difference <= allowed
