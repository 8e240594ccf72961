"""Every layer of JAX's run alone, on the inputs that PyTorch's layer had."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from compare.capture.distance import distance, finite_norm, parts
from compare.capture.fingerprint import LARGE
from compare.capture.given import mode_name
from compare.capture.taps import Section, called, input_key
from compare.finder.found import Tensors
from compare.finder.lint import hyperparameters
from compare.ladder import verdict as V
from compare.ladder.judge import Judge
from compare.ladder.pair import REFERENCE, Pair
from compare.ladder.stacking import stacked
from compare.layout import align_layer, channels_first
from compare.twin import Phase


class Replay:
    """One pass of each side in which every layer of JAX's runs on PyTorch's own inputs."""

    def __init__(self, pair: Pair, judge: Judge, progress: Callable[[str], None]):
        self.pair, self.judge, self.result = pair, judge, judge.result
        self.progress = progress
        self._run = pair.run(REFERENCE, inputs=True)
        self._reference: tuple[str, Tensors] = "", {}
        self._replayed: tuple[str, Tensors] = "", {}
        self._program: tuple[str, Any, dict[Any, Any]] = "", None, {}
        self._fields: dict[str, tuple[str, dict[str, Any]]] | None = None

    def reference(self, mode: str) -> Tensors:
        """PyTorch's tensors of one pass, the layers' inputs among them; only the last is kept."""
        if self._reference[0] != mode:
            self._reference = self._replayed = "", {}
            self.progress(f"replay: torch {mode}")
            tensors = self._run.alone(self.phase(mode))
            self._reference = mode, stacked(Section("forward", tensors), {}, self.result)[0].tensors
        return self._reference[1]

    def theirs(self, mode: str) -> Tensors:
        """JAX's tensors, each computed from PyTorch's, with PyTorch's axes; only the last."""
        if self._replayed[0] != mode:
            self._replayed = mode, self._passed(mode, "xla:cpu")
        return self._replayed[1]

    def uncompiled(self, mode: str) -> Tensors:
        """The same, every operation run by itself."""
        return self._passed(mode, "xla:cpu+eager")

    def _passed(self, mode: str, backend: str) -> Tensors:
        ours, places = self.reference(mode), self.places(mode)
        self.progress(f"replay: {backend} {mode}")
        force = {j: ours[f"{mode}/layer/{t}"] for t, j in places.items()}
        back = {
            j: ours[f"{mode}/gradient/layer/{t}"]
            for t, j in places.items()
            if f"{mode}/gradient/layer/{t}" in ours
        }
        return self.pair.run(backend, inputs=True).replay(self.phase(mode), force, back)

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
        ours, theirs = self.reference(mode), self.theirs(mode)
        for key, other in self.places(mode).items():
            t, j = ours.get(f"{mode}/{kind}/{key}"), theirs.get(f"{mode}/{kind}/{other}")
            if t is not None and j is not None:
                yield key, other, t, axes(j, t.shape, self.pair.twin.layout)

    def program(self, mode: str) -> tuple[Any, dict[Any, Any]]:
        """The functions of PyTorch's pass, and the outputs that both sides have; only the last."""
        if self._program[0] != mode:
            self._program = "", None, {}
            program = self._run.program(self.phase(mode))
            self._program = mode, program, program.known(self.result.pairing[mode].pairs)
        return self._program[1:]

    def used(self, mode: str, key: str) -> dict[str, tuple[Any, np.ndarray]]:
        """What a layer's output goes into, and PyTorch's gradient of that, by key."""
        program, known = self.program(mode)
        return {
            user: (place, self.reference(mode).get(f"{mode}/gradient/layer/{user}", np.ones(())))
            for user, place in program.users(program.source(key), known).items()
            if not re.fullmatch(r"out(\.[^:]*)?", user)
        }

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


def axes(j: np.ndarray, shape: tuple[int, ...], layout: str) -> np.ndarray:
    """JAX's value with PyTorch's axes, also where its shape is another."""
    aligned = align_layer(j, shape, layout)
    if aligned is None:
        aligned = channels_first(j) if j.ndim > 3 and layout == "NHWC" else j
    return aligned


def compared(t: np.ndarray, j: np.ndarray, scale: float = 0.0) -> tuple[float, bool]:
    """The relative difference, and whether it is none."""
    if t.shape != j.shape:
        return float("inf"), False
    relative, same = 0.0, True
    for ours, theirs, _ in parts(t, j):
        difference, size = distance(ours, theirs), finite_norm(ours)
        same &= difference <= max(V.RELATIVE * size, V.ZERO * scale)
        relative = max(relative, difference / size if size else difference)
    return relative, same


def unmasked(t: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both values without what is masked on both, whichever large number stands for infinity."""
    if t.shape != j.shape:
        return t, j
    masked = [np.abs(x) >= LARGE for x in (t, j)]
    both = masked[0] & masked[1] & (np.sign(t) == np.sign(j))
    fills = [np.abs(x[both]) for x in (t, j)]
    if not both.any() or both.all() or any(f.min() < 0.99 * f.max() for f in fills):
        return t, j
    return np.where(both, 0, t), np.where(both, 0, j)
