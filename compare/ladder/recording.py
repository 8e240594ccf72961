"""Training runs that a program records itself: of several processes, or on a mesh of devices.

A `Twin` is one process on one device. Where a port trains otherwise, both programs record what
they do, and `diptych diff` compares the two files as it does captures. In the one program, all of
whose processes call `of_torch` and one of which records,

    record = Recording("digits", "torch:ddp", of_torch(model).parameters)
    ...  # after each step
    record.step(loss, of_torch(model, optimizer))
    record.bundle().save("ddp.safetensors")

and `of_jax` with the backend "xla:mesh" in the other.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from compare.capture.environment import environment
from compare.capture.taps import Section
from compare.errors import DiptychError
from compare.ladder.bundle import Bundle, fingerprints
from compare.ladder.coverage import MOVED, movement
from compare.ladder.noise import mathematical_noise
from compare.share import to_numpy
from compare.weights.map import WeightMap
from compare.weights.optim import read_optax, read_torch

Arrays = Mapping[str, np.ndarray]


class Tensors(NamedTuple):
    """What there is after a step, whole, by PyTorch's names and in its layout.

    Args:
      parameters, buffers: by name.
      gradients: that the optimizer was given, by name.
      state: the optimizer's: slot -> name -> array.
    """

    parameters: Arrays
    gradients: Arrays
    state: Mapping[str, Arrays]
    buffers: Arrays


def of_torch(model: Any, optimizer: Any = None) -> Tensors:
    """Of a model, in `DistributedDataParallel` or not, and its optimizer; split tensors are put
    together (`fully_shard`), so that all processes have to call it."""
    names = {p: name.removeprefix("module.") for name, p in model.named_parameters()}
    gradients = {name: to_numpy(p.grad) for p, name in names.items() if p.grad is not None}
    state = read_torch(optimizer, names) if optimizer else {}
    buffers = {n.removeprefix("module."): to_numpy(b) for n, b in model.named_buffers()}
    return Tensors({name: to_numpy(p) for p, name in names.items()}, gradients, state, buffers)


def of_jax(
    weights: WeightMap,
    variables: Mapping[str, Any],
    gradients: Any = None,
    opt_state: Any = (),
    slots: Container[str] = (),
) -> Tensors:
    """Of Flax variables, gradients like their params, and an optax state.

    Args:
      weights: the map to PyTorch's names, `compare.ladder.weight_map.weight_map(twin)`.
      slots: what the PyTorch optimizer keeps of each parameter: `("momentum_buffer",)`.
    """
    from flax.traverse_util import flatten_dict

    def named(tree: Any, collection: str = "params") -> dict[str, np.ndarray]:
        leaves = flatten_dict(tree)
        return weights.to_torch({(collection, *p): to_numpy(leaf) for p, leaf in leaves.items()})

    params = variables["params"]
    state = read_optax(opt_state, params, slots, named)
    buffers: dict[str, np.ndarray] = {}
    for collection in variables.keys() - {"params"}:
        buffers |= named(variables[collection], collection)
    return Tensors(named(params), named(gradients or {}), state, buffers)


class Recording:
    """What a training program notes, in float64.

    Args:
      name: of what is trained; recordings of two names are not compared.
      backend: "torch" or "xla", a colon, and what is wanted to tell the run by.
      start: the parameters before the first step; recordings are compared only if they are equal.
    """

    def __init__(self, name: str, backend: str, start: Arrays) -> None:
        self.name, self.backend = name, backend
        self.start = {key: np.array(start[key]) for key in sorted(start)}
        self.sections: list[Section] = []

    def step(self, loss: Any, after: Tensors) -> None:
        """Notes a step. The arrays are copied.

        Args:
          loss: before the step, of the whole batch.

        Raises:
          DiptychError: if the names are not those of the start, or something is not float64.
        """
        step = len(self.sections) // 2 + 1
        for what in ("parameters", "gradients"):
            odd = getattr(after, what).keys() ^ self.start.keys()
            if odd:
                names = ", ".join(sorted(odd)[:3])
                raise DiptychError(f"{what} of step {step} and parameters of the start: {names}")
        values = {"train/loss": loss} | {f"param/{n}": a for n, a in after.parameters.items()}
        for slot, kept in after.state.items():
            values |= {f"train/state/{slot}/{name}": array for name, array in kept.items()}
        values |= {f"buffer/{name}": array for name, array in after.buffers.items()}
        slopes = {f"train/gradient/param/{name}": a for name, a in after.gradients.items()}
        for stage, tensors in (("gradients", slopes), ("trajectory", values)):
            copies = {name: np.array(tensors[name]) for name in sorted(tensors)}
            for name, array in copies.items():
                if array.dtype.kind == "f" and array.dtype != np.float64:
                    raise DiptychError(f"{name} is {array.dtype}: record a run in float64")
            self.sections.append(Section(stage, copies, step))

    def bundle(self, moved: Iterable[Recording] = ()) -> Bundle:
        """What was noted, for `Bundle.save` and `compare.ladder.captures.diff`.

        Args:
          moved: the same run from weights that were moved by one unit in the last place; how far
            they are off is noise. Without them the limit is a relative 1e-9 everywhere.

        Raises:
          DiptychError: if there is no step, or the steps moved the parameters by less than 1e-3.
        """
        if not self.sections:
            raise DiptychError(f"{self.name}: no step was recorded")
        distance = movement(self.sections[-1], self.start)
        if not distance >= MOVED:
            raise DiptychError(
                f"{self.name}: the parameters moved by {distance:.1e} only; raise the learning rate"
            )
        streams = [iter(other.sections) for other in moved]
        tensors: dict[str, np.ndarray] = {}
        noise: dict[str, float] = {}
        for index, section in enumerate(self.sections):
            place = f"{index:03d}.{section.stage}.{section.step}|"
            tensors |= {place + name: array for name, array in section.tensors.items()}
            found = mathematical_noise(section, streams)
            noise |= {place + name: size for name, size in found.items()}
        meta = {
            "kind": "capture",
            "twin": self.name,
            "backend": self.backend,
            "dtype": "float64",
            "seed": 0,
            "layout": "same",
            "rename": {},
            "weights": fingerprints(self.start),
            "inputs": "",
            "trained": {name: name for name in self.start},
            "uncounted": [],
            "taps": {},
            "noise": noise,
            "environment": environment(),
        }
        return Bundle(tensors, meta)
