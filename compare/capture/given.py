"""What every run of one check is given: weights, inputs, gradients, optimizer state; by NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from compare.capture.masks import Draw, Shape, uniform
from compare.twin import Phase, generator
from compare.weights.link import Leaf, Path
from compare.weights.optim import NUMBERS
from compare.weights.own import Slip

State = dict[str, dict[str, np.ndarray]]


@dataclass
class Given:
    """The shared ground of all runs, in PyTorch's names and layout, exact in float32.

    Args:
      state: weights and buffers by name.
      batch: inputs and targets by name.
      seed: of everything that is drawn.
      steps: the length of the trajectory.
      outputs: by mode, the suffixes of PyTorch's outputs, and whether each is floating.
      cotangents: per phase, the arrays of the default loss (or a drawn target).
      gradients: per phase, what the teacher-forced update is given.
      optimizer: per phase, the state that it starts from, by slot.
      still: by "mode/name" of a parameter, where its gradient is zero by analysis. The rounding
        noise there would become whole steps of Adam, so the updates get exact zeros.
      draws: by mode, the dropout masks that PyTorch draws.
      slips: what of the porter's own weights is not PyTorch's, and runs as it is.
      alone: leaves of the porter's that PyTorch has no tensor for.
      shared: by mode and number, the shape of a mask that one side shares over more axes.
      attributes: by name, PyTorch's tables that are no buffers, where they are taken unrounded.
      constants: JAX's tables that are taken unrounded: as they are, and in float64.
    """

    state: dict[str, np.ndarray]
    batch: dict[str, np.ndarray]
    seed: int
    steps: int
    outputs: dict[str, dict[str, bool]] = field(default_factory=dict)
    cotangents: dict[str, list[np.ndarray]] = field(default_factory=dict)
    gradients: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    optimizer: dict[str, State] = field(default_factory=dict)
    still: dict[str, np.ndarray] = field(default_factory=dict)
    draws: dict[str, list[Draw]] = field(default_factory=dict)
    shared: dict[tuple[str, int], Shape] = field(default_factory=dict)
    slips: list[Slip] = field(default_factory=list)
    alone: dict[Path, np.ndarray] = field(default_factory=dict)
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    constants: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def uniform(self, mode: str, step: int, index: int, shape: Shape) -> np.ndarray:
        """The numbers behind one dropout mask of PyTorch's `shape`, in one step of a mode."""
        drawn = self.shared.get((mode, index), shape)
        return np.broadcast_to(uniform(self.seed, mode, step, index, drawn), shape)


def mode_name(phase: Phase) -> str:
    """The prefix of a phase's tensors: "train" or "train.<phase>"."""
    return f"train.{phase.name}" if phase.name else "train"


def jittered(
    state: Mapping[str, np.ndarray], leaves: Mapping[str, Leaf], seed: int
) -> dict[str, np.ndarray]:
    """`state` with generic values where a fault could hide behind a zero or a constant.

    Constant parameters, constant rows of others (an embedding's padding) and running statistics
    move by a tenth (variances stay positive); integer, boolean and other constant buffers keep
    their values.
    """
    values = {}
    for name, leaf in leaves.items():
        value = np.array(state[name])
        statistic = name.endswith(("running_mean", "running_var"))
        if value.dtype.kind == "f" and value.size and (leaf.trains or statistic):
            rng = generator(seed, "jitter", name)
            if name.endswith("running_var"):
                value = value * np.exp(0.1 * rng.standard_normal(value.shape))
            elif value.size == 1 or np.ptp(value) == 0:
                value = value + 0.1 * rng.standard_normal(value.shape)
            else:
                value = value + 0.1 * _constant(value) * rng.standard_normal(value.shape)
            value = value.astype(np.float32)
        values[name] = value
    return values


def _constant(value: np.ndarray) -> np.ndarray:
    """Where the elements lie that are in a slice, along some axis, of one number."""
    found = np.zeros(value.shape, bool)
    for axis in range(value.ndim) if value.ndim > 1 else ():
        others = tuple(other for other in range(value.ndim) if other != axis)
        if value.size > value.shape[axis]:
            found |= np.ptp(value, axis=others, keepdims=True) == 0
    return found


def forced(
    state: Mapping[str, np.ndarray], names: list[str], slots: list[str], seed: int, start: int
) -> tuple[dict[str, np.ndarray], State]:
    """Gradients and a non-zero optimizer state, of the size of a tenth of each parameter."""
    gradients: dict[str, np.ndarray] = {}
    optimizer: State = {slot: {} for slot in slots}
    for name in names:
        rng = generator(seed, "forced", name)
        scale = np.float32(
            0.1 * np.sqrt(np.mean(np.square(state[name]))) if state[name].size else 1
        )
        shape = state[name].shape
        gradients[name] = scale * rng.standard_normal(shape, np.float32)
        for slot in slots:
            if slot == "step":
                optimizer[slot][name] = np.asarray(start)
            elif slot in NUMBERS:  # one for all parameters
                number = generator(seed, "forced", slot).random((), np.float32)
                optimizer[slot][name] = np.asarray(0.25 + 0.5 * number, np.float32)
            elif slot == "grad_avg":  # its square stays below that of `square_avg`
                optimizer[slot][name] = scale * (rng.random(shape, np.float32) - np.float32(0.5))
            elif slot in ("exp_avg", "momentum_buffer", "prev", "ax"):
                optimizer[slot][name] = scale * rng.standard_normal(shape, np.float32)
            else:
                spread = np.float32(0.5) + rng.random(shape, np.float32)
                optimizer[slot][name] = scale * scale * spread
    return gradients, optimizer
