"""A twin made ready: both models, their weight map, and what every run of them is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from compare.capture.given import Given, forced, jittered, mode_name
from compare.capture.taps import Tap
from compare.errors import DiptychError, some, whose
from compare.ladder.ignored import ignored
from compare.twin import Twin, generator
from compare.weights.build import build as build_map
from compare.weights.by_value import common
from compare.weights.link import Path, renamed, slashed
from compare.weights.map import Order, WeightMap
from compare.weights.named import Named, named
from compare.weights.optim import START
from compare.weights.own import Own, slips

STEPS = 10
REFERENCE = "torch:cpu"


def _seed(seed: int, *purpose: object) -> int:
    return int(generator(seed, *purpose).integers(2**31))


class Pair:
    """A twin made ready: both models, their weight map, and what every run is given.

    Attributes:
      names: of PyTorch's modules and tensors.
      rename: the twin's, from its file if it names one.

    Raises:
      DiptychError: if a model cannot be built or called.
    """

    def __init__(self, twin: Twin, seed: int = 0, steps: int = STEPS, precision: str = "highest"):
        from compare.capture import torch_model

        self.twin, self.seed, self.precision = twin, seed, precision
        self.model = torch_model.construct(twin, _seed(seed, "torch"))
        self.leaves, aliases = torch_model.specification(self.model)
        self.rename = named(twin.rename, twin.name)
        self.names = [*torch_model.modules(self.model), *self.leaves, *aliases]
        self._refuse_idle()
        batch = twin.draw(generator(seed, "inputs"))
        own = torch_model.values(self.model)
        self.given = Given(jittered(own, self.leaves, seed), batch, seed, steps)
        self._aliases = aliases
        self.noise: dict[str, None] = {}
        self._rounded: list[str] | None = None
        self._draw()

    def _refuse_idle(self) -> None:
        """Refuses expressions of `rename` that match none of PyTorch's names."""
        idle = set(self.rename)
        for name in self.names:
            renamed(name, self.rename, idle)
        if isinstance(self.rename, Named):
            for name in self.rename.lines.keys() - self.names:
                raise self.rename.wrong(name, f"PyTorch has no module and no tensor {name}")
        for pattern in self.rename:
            if pattern in idle:
                raise DiptychError(
                    f"{self.twin.name}: Twin(rename=...): {pattern!r} matches no module and no"
                    " tensor of PyTorch's, as whole names between dots"
                )

    def _refuse_leaves(self) -> None:
        """Refuses lines of a file of pairs that name no leaf, or one that another names."""
        if not isinstance(self.rename, Named):
            return
        leaves = {"/".join(part): path for path in self.shapes for part in (path, path[1:])}
        taken: dict[Path, str] = {}
        for name, (text, _) in self.rename.lines.items():
            if name not in self.leaves:
                continue
            path = leaves.get(slashed(text))
            if path is None:
                raise self.rename.wrong(name, f"JAX has no leaf {text}")
            if path in taken:
                raise self.rename.wrong(name, f"{text} is the leaf of {taken[path]} already")
            taken[path] = name

    def refuse_places(self, taps: Mapping[str, Mapping[str, Tap]]) -> None:
        """Refuses lines of a file of pairs that name no layer.

        Args:
          taps: what was recorded of JAX's side, by mode.
        """
        if not isinstance(self.rename, Named):
            return
        known = {path[1:end] for path in self.shapes for end in range(2, len(path))}
        for key, tap in (item for info in taps.values() for item in info.items()):
            known |= {tuple(key.split("/")), tuple(tap.path.split("/"))}
        for name, (text, _) in self.rename.lines.items():
            if name not in self.leaves and tuple(slashed(text).split("/")) not in known:
                raise self.rename.wrong(name, f"JAX has no layer {text}")

    def train_by(self, optimizer: Any) -> None:
        """Takes another optimizer than the twin's."""
        self.twin = dataclasses.replace(self.twin, optimizer=optimizer)
        self._draw()

    def _draw(self) -> None:
        """The cotangents of default losses, the gradients and states of the forced updates."""
        from compare.capture import torch_model
        from compare.weights import optim

        run = self.run("torch:cpu", "float32")
        self._rehearsed("eval", *run.rehearse(None))
        for phase in self.twin.updates:
            shapes, masks = run.rehearse(phase)
            self._rehearsed(mode_name(phase), shapes, masks)
            if phase.loss is None or (phase.loss == "mse" and not self.twin.targets):
                rng = generator(self.seed, "cotangent", phase.name)
                self.given.cotangents[phase.name] = [
                    rng.standard_normal(shape, np.float32)
                    for shape in shapes.values()
                    if shape is not None
                ]
            names = [n for n, leaf in self.leaves.items() if leaf.trains]
            trained = torch_model.trained(self.model, phase)
            slots = optim.slots(phase.optimizer) if names else []
            gradients, state = forced(
                self.given.state, [n for n in names if n in trained], slots, self.seed, START
            )
            self.given.gradients[phase.name] = gradients
            self.given.optimizer[phase.name] = state

    def _rehearsed(self, mode: str, shapes: Mapping[str, Any], masks: Any) -> None:
        self.given.outputs[mode] = {suffix: shape is not None for suffix, shape in shapes.items()}
        self.given.draws[mode] = masks.draws
        self.noise |= {f"{mode}: PyTorch draws at {text}": None for text in masks.noise}

    @cached_property
    def jax_model(self) -> Any:
        with whose("JAX's model"):
            return self.twin.build("jax")

    @cached_property
    def own(self) -> Own | None:
        """The weights that the porter gives for JAX's side; None where they only show a structure,
        having nothing in common with PyTorch's.
        """
        from compare.capture import jax_model, torch_model

        given = jax_model.values(self.twin, self.jax_model)
        if self.twin.variables is not None:
            wanted = self.shapes
            for verb, paths in {
                "lacks": wanted.keys() - given.keys(),
                "has unknown": given.keys() - wanted.keys(),
            }.items():
                if paths:
                    names = some(sorted("/".join(path) for path in paths))
                    raise DiptychError(f"{self.twin.name}: Twin(variables=...) {verb} {names}")
        values = torch_model.values(self.model) if given else {}
        if self.twin.variables is None and not common(values, given):
            return None
        return Own(values, given, jax_model.is_laid(self.jax_model))

    @cached_property
    def shapes(self) -> dict[Path, tuple[int, ...]]:
        """The shapes of JAX's leaves by path, the collection first."""
        from compare.capture import jax_model

        return jax_model.shapes(self.twin, self.jax_model, self.given.batch)

    @cached_property
    def kinds(self) -> Mapping[Path, str]:
        """ "library layer" of the leaves whose layer is known."""
        from compare.capture import jax_model

        return jax_model.kinds(self.twin, self.jax_model, self.given.batch, self.leaves)

    @cached_property
    def order(self) -> Order:
        """The order of execution, of both sides."""
        from compare.capture import dataflow

        ours = self.run(REFERENCE, "float32").order()
        return Order(ours, *dataflow.order(self.twin, self.jax_model, self.given.batch))

    @cached_property
    def weights(self) -> WeightMap:
        from compare.capture import jax_model

        twin, shapes = self.twin, self.shapes
        self._refuse_leaves()
        tensors = [(name, name, leaf.shape) for name, leaf in self.leaves.items()]
        tensors += [(path, "/".join(path[1:]), shape) for path, shape in shapes.items()]
        left_out = ignored(twin, tensors)
        found = build_map(
            {name: leaf for name, leaf in self.leaves.items() if name not in left_out},
            {path: shape for path, shape in shapes.items() if path not in left_out},
            self.rename,
            self._aliases,
            self.kinds,
            None if twin.room else lambda: self.order,  # the catalogue's names are equal
            jax_model.is_bare(self.jax_model),
            self.own,
        )
        if isinstance(self.rename, Named):
            found.exact = []  # the file has lines for the modules, too
        found.leaves = self.leaves
        found.uncounted += left_out.values()
        found.ignored = {key: shapes.get(key, ()) for key in left_out}
        if self.own:
            alone = (path for path in found.unfilled if path in self.own.given)
            self.given.alone = {path: self.own.given[path] for path in alone}
            self.given.slips = list(slips(found, self.own))
        return found

    @cached_property
    def own_masks(self) -> tuple[str, list[tuple[str, str]]]:
        """What the sampler of each side does by itself, that is without the masks it is given."""
        from compare.ladder.samplers import sampler

        return sampler(self)

    def rounded(self, run: Any) -> list[str]:
        """The tables that one side rounds to float32, a line each; no longer in float64 runs."""
        from compare.ladder.tables import unround

        if self._rounded is None:
            self._rounded = unround(self, run)
        return self._rounded

    @property
    def frozen(self) -> list[str]:
        """The parameters that PyTorch trains in no phase."""
        trained = {name for gradients in self.given.gradients.values() for name in gradients}
        return [n for n, leaf in self.leaves.items() if leaf.trains and n not in trained]

    def compared(self, backend: str) -> list[str]:
        """The parameters that are to be shown the same."""
        ignored = self.weights.ignored if parse(backend)[0] == "xla" else {}
        return [n for n, leaf in self.leaves.items() if leaf.trains and n not in ignored]

    def uncounted(self, backend: str) -> list[str]:
        """Tensors of PyTorch's that a backend has not, and need not have."""
        if parse(backend)[0] == "torch":
            return []
        named = set(self.weights.named)
        return [name for name in self.leaves if name not in named]

    def stored(self, dtype: str) -> str:
        """The dtype of parameters and inputs where the numerics of `dtype` are judged."""
        return "float32" if self.twin.autocast else dtype

    def run(self, backend: str, dtype: str = "float64", **options: Any) -> Any:
        """A run of one backend, not yet started: see `TorchRun` and `JaxRun`."""
        framework, device, mode = parse(backend)
        if framework == "torch":
            from compare.capture.torch_run import TorchRun

            compiled = mode == "compile"
            return TorchRun(
                self.twin,
                self.model,
                self.given,
                dtype=dtype,
                device=device,
                compiled=compiled,
                precision=self.precision,
                **options,
            )
        from compare.capture.jax_run import JaxRun

        return JaxRun(
            self.twin,
            self.jax_model,
            self.weights,
            self.given,
            dtype=dtype,
            device=device,
            jit=mode != "eager",
            precision=self.precision,
            **options,
        )


def parse(backend: str) -> tuple[str, str, str]:
    """ "torch:cpu+compile" -> ("torch", "cpu", "compile").

    Raises:
      DiptychError: for a name that is no backend.
    """
    place, _, mode = backend.partition("+")
    framework, _, device = place.partition(":")
    modes = {"torch": ("", "compile"), "xla": ("", "eager")}
    if framework not in modes or device not in ("cpu", "cuda") or mode not in modes[framework]:
        known = "torch:cpu, torch:cuda (+compile), xla:cpu, xla:cuda (+eager)"
        raise DiptychError(f"backend {backend!r} is unknown: {known}")
    return framework, device, mode
