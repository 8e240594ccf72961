"""JAX's side of a capture: a model traced once a mode, walked, differentiated at its layers."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from compare.capture.given import Given, mode_name
from compare.capture.jax_forward import named
from compare.capture.jax_masks import Sampler
from compare.capture.jax_model import (
    Variables,
    arranged,
    is_image,
    key_name,
)
from compare.capture.jax_operations import recorded
from compare.capture.jax_programs import Programs
from compare.capture.lifting import lifted
from compare.capture.masks import Shape
from compare.capture.operations import INTEGERS, Operations
from compare.capture.outputs import noted
from compare.capture.taps import Section
from compare.layout import channels_first, channels_last
from compare.share import to_jax, to_numpy
from compare.twin import Phase, Twin, generator
from compare.weights import optim
from compare.weights.link import Path
from compare.weights.map import WeightMap


class JaxRun:
    """One run of the JAX side: a generator of sections, under the PyTorch names of the weights.

    Two programs serve it all, `eval` and, per phase, `train`: forward, backward, the free update
    and the teacher-forced ones.

    Args:
      weights: the map that carries weights, gradients and optimizer state over.
      jit: compile the programs; otherwise every operation runs by itself.
      precision: of matrix products, "highest" or "default".
      inputs: record the layers' inputs, too.
    """

    def __init__(
        self,
        twin: Twin,
        model: Any,
        weights: WeightMap,
        given: Given,
        *,
        dtype: str = "float64",
        device: str = "cpu",
        jit: bool = True,
        precision: str = "highest",
        inputs: bool = False,
    ):
        self.twin, self.model, self.weights, self.given = twin, model, weights, given
        self.dtype = np.dtype(dtype)
        self.device = jax.devices(device)[0]
        self.lift = dtype == "float64"
        self.precision = precision
        self.programs = Programs(twin, model, weights, given, self.dtype, self.device, jit, inputs)
        self.info, self.narrow = self.programs.info, self.programs.narrow
        self.plans = self.programs.plans
        self.branches: dict[str, dict[str, np.ndarray]] = {}
        self.lifted: dict[str, None] = {}
        self.units: dict[str, float] = {}

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        with (
            jax.enable_x64(self.lift),
            jax.default_device(self.device),
            jax.default_matmul_precision(self.precision),
            lifted(self.lifted) if self.lift else contextlib.nullcontext(),
        ):
            yield

    def _cross(self, array: np.ndarray) -> jax.Array:
        return to_jax(array, self.dtype, self.device)

    def _crossed(self, arrays: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Arrays by key; what several keys share crosses once."""
        crossed: dict[Any, jax.Array] = {}
        found = {}
        for key, array in arrays.items():
            place = array.__array_interface__["data"], array.shape, array.strides
            if place not in crossed:
                crossed[place] = self._cross(array)
            found[key] = crossed[place]
        return found

    def leaves(self) -> dict[Path, np.ndarray]:
        """The variables by path: PyTorch's carried over, and what of the porter's is otherwise."""
        flat = self.weights.to_jax(self.given.state) | self.given.alone
        for path, shape in self.weights.ignored.items():
            if isinstance(path, tuple):  # JAX's: generic, so that it is seen if something uses it
                flat[path] = generator(self.given.seed, "ignored", *path).standard_normal(shape)
        for slip in self.given.slips:
            slip.into(flat)
        return flat

    def _variables(self, leaves: Mapping[Path, np.ndarray] | None = None) -> Variables:
        flat = self.leaves() if leaves is None else leaves
        return unflatten_dict({path: self._cross(array) for path, array in flat.items()})

    def _batch(self, batch: Mapping[str, np.ndarray]) -> tuple[list, list]:
        def cross(names: Mapping) -> list:
            return [self._cross(arranged(self.twin, name, batch[name])) for name in names]

        return cross(self.twin.inputs), cross(self.twin.targets)

    def _drawn(self, phase: Phase) -> list:
        """The arrays of the default loss; a drawn target in JAX's layout."""
        drawn = self.given.cotangents.get(phase.name, [])
        moved = self.twin.layout == "NHWC" and phase.loss is not None
        return [self._cross(channels_last(a) if moved and a.ndim in (4, 5) else a) for a in drawn]

    def _masks(self, mode: str, step: int) -> list:
        draw = functools.partial(self.given.uniform, mode, step)
        return [self._cross(array) for array in self.plans[mode].arrays(draw)]

    @property
    def unlike(self) -> set[str]:
        """The modes whose outputs are not PyTorch's, and whose gradients are of another loss."""
        return {mode for mode, call in self.programs.calls.items() if call.unlike}

    @property
    def notes(self) -> list[str]:
        """What is said of the outputs' names, and of a momentum in another unit."""
        calls = self.programs.calls.items()
        return [n for mode, call in calls for n in noted(mode, call.outputs)] + [
            f"{phase or 'train'}: optax's momentum is {unit:g} times PyTorch's: the same updates"
            " as long as the learning rate is constant (OPT-09)"
            for phase, unit in self.units.items()
            if unit != 1.0
        ]

    def shared(self) -> dict[tuple[str, int], Shape]:
        """The shapes of dropout masks that are not PyTorch's own, in every mode that drops."""
        if not any(self.given.draws.values()):
            return {}
        with self.context():
            variables = self._variables()
            inputs, targets = self._batch(self.given.batch)
            self.programs.evaluator("eval", variables, inputs)
            for phase in self.twin.updates:
                self.programs.trainer(phase, variables, inputs, targets, self._drawn(phase))
        return {place: shape for p in self.plans.values() for place, shape in p.shared().items()}

    def _evaluate(
        self, mode: str, variables: Variables, inputs: list, force: Mapping[str, Any] | None = None
    ) -> dict[str, np.ndarray]:
        program = self.programs.evaluator(mode, variables, inputs)
        output, taps, branches = program(variables, inputs, force or {}, self._masks(mode, 0))
        self.branches[mode] = {k: to_numpy(v) for k, v in branches.items()}
        return self._tensors(mode, output, taps)

    def _train(
        self,
        phase: Phase,
        variables: Variables,
        batch: dict,
        force: Mapping[str, Any] | None = None,
        cotangents: Mapping[str, Any] | None = None,
        step: int = 0,
    ) -> tuple:
        """loss, output, collections, taps, branches, gradients."""
        inputs, targets = self._batch(batch)
        drawn = self._drawn(phase)
        program = self.programs.trainer(phase, variables, inputs, targets, drawn)
        masks = self._masks(mode_name(phase), step)
        force, cotangents = force or {}, cotangents or {}
        return program(variables, inputs, targets, drawn, force, cotangents, masks)

    def _named(self, flat: Mapping[Path, Any], collection: str = "params") -> dict[str, np.ndarray]:
        """PyTorch's names and layouts for flat leaves of one collection."""
        return self.weights.to_torch({(collection, *p): to_numpy(v) for p, v in flat.items()})

    def _stilled(self, phase: Phase, gradients: Mapping[Path, Any]) -> dict[Path, Any]:
        """Gradients, with exact zeros for those that are zero by analysis."""
        mode, still = mode_name(phase), self.given.still
        if not any(name.startswith(f"{mode}/") for name in still):
            return dict(gradients)
        moving = {
            name: ~still.get(f"{mode}/{name}", np.zeros(leaf.shape, bool))
            for name, leaf in self.weights.leaves.items()
        }
        flat = self.weights.to_jax(moving)
        return {
            path: jnp.where(flat["params", *path], g, 0) if ("params", *path) in flat else g
            for path, g in gradients.items()
        }

    def _forced(self, phase: Phase, trained: Mapping[Path, Any], state: Any) -> tuple[Any, Any]:
        """The teacher-forced update, from the given gradients and state."""

        def tree(named: Mapping[str, np.ndarray]) -> dict[Path, jax.Array]:
            flat = self.weights.to_jax(named)
            return {p: self._cross(flat["params", *p]) for p in trained}

        given = self.given.optimizer[phase.name]
        unit = self._unit(phase, trained)
        state = optim.write_optax(phase.optimizer, state, dict(trained), given, tree, unit)
        gradients = tree(self.given.gradients[phase.name])
        return self.programs.update(phase, gradients, state, dict(trained))

    def _buffers(self, collections: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {
            name: array
            for collection, tree in collections.items()
            for name, array in self._named(flatten_dict(tree), collection).items()
        }

    def sections(self, trajectory: bool = True) -> Iterator[Section]:
        """As `TorchRun.sections`."""
        with self.context():
            variables = self._variables()
            inputs, _ = self._batch(self.given.batch)
            sections = [Section("forward", self._evaluate("eval", variables, inputs))]
        yield sections.pop()  # outside: another run may start before this goes on
        for phase in self.twin.updates:
            yield from self._rung(phase, variables)
        del variables  # or it would live as long as the trajectory
        if trajectory:
            yield from self.trajectory()

    def _rung(self, phase: Phase, variables: Variables) -> Iterator[Section]:
        mode = mode_name(phase)
        with self.context():
            loss, output, collections, taps, branches, gradients = self._train(
                phase, variables, self.given.batch
            )
            self.branches[mode] = {k: to_numpy(v) for k, v in branches.items()}
            sections = [Section("forward", self._trained(mode, loss, output, collections, taps))]
        del output, collections, taps, branches
        yield sections.pop()
        differentiable = phase.loss is not None or self.given.cotangents.get(phase.name)
        sections = [
            Section("gradients", self._gradients(mode, gradients) if differentiable else {})
        ]
        gradients = gradients[0]
        yield sections.pop()
        trained, _ = self.programs.split(phase, variables.get("params", {}), updated=True)
        if not trained:
            return
        with self.context():
            start = self.programs.fresh(phase, dict(trained))
            stilled = self._stilled(phase, {path: gradients[path] for path in trained})
            free = self.programs.update(phase, stilled, start, dict(trained))
            sections.append(Section("step", self._updated(f"{mode}/free", phase, *free)))
        del gradients, free
        yield sections.pop()
        with self.context():
            forced = self._updated(f"{mode}/forced", phase, *self._forced(phase, trained, start))
            sections.append(Section("step", forced))
        del forced
        yield sections.pop()

    def replay(
        self,
        phase: Phase | None,
        force: Mapping[str, np.ndarray],
        cotangents: Mapping[str, np.ndarray],
    ) -> dict[str, np.ndarray]:
        """One pass in which every layer is run alone: on the inputs that are given it.

        Args:
          phase: the update whose training pass it is; None for the pass in eval mode.
          force: values by key that the pass goes on with, with PyTorch's axes.
          cotangents: gradients by key of what was computed in their place.

        Returns: the tensors of the sections "forward" and "gradients".
        """
        with self.context():
            variables = self._variables()
            given, back = self._crossed(force), self._crossed(cotangents)
            inputs, _ = self._batch(self.given.batch)
            if phase is None:
                return self._evaluate("eval", variables, inputs, given)
            mode = mode_name(phase)
            loss, output, collections, taps, _, gradients = self._train(
                phase, variables, self.given.batch, given, back
            )
            tensors = self._trained(mode, loss, output, collections, taps)
            return tensors | self._gradients(mode, gradients)

    def _trained(
        self, mode: str, loss: Any, output: Any, collections: Any, taps: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        tensors = self._tensors(mode, output, taps) | {f"{mode}/loss": to_numpy(loss)}
        buffers = self._buffers(collections).items()
        return tensors | {f"{mode}/buffer/{name}": array for name, array in buffers}

    def trajectory(self) -> Iterator[Section]:
        """As `TorchRun.trajectory`."""
        states = {}
        with self.context():
            variables = self._variables()
            if not variables.get("params"):
                return
            for phase in self.twin.updates:
                trained, _ = self.programs.split(phase, variables["params"], updated=True)
                states[phase.name] = self.programs.fresh(phase, dict(trained))
        for number, batch in enumerate(self.twin.batches(self.given.seed, self.given.steps)):
            tensors: dict[str, np.ndarray] = {}
            with self.context():
                for phase in self.twin.updates:
                    result = self._train(phase, variables, batch, step=number + 1)
                    loss, collections, gradients = result[0], result[2], result[-1][0]
                    del result  # the layers' values and gradients
                    trained, frozen = self.programs.split(phase, variables["params"], updated=True)
                    stilled = self._stilled(phase, {path: gradients[path] for path in trained})
                    params, states[phase.name] = self.programs.update(
                        phase, stilled, states[phase.name], trained
                    )
                    merged = unflatten_dict({**frozen, **params})
                    variables = {**variables, **collections, "params": merged}
                    del gradients, stilled, trained, frozen, params, merged
                    tensors[f"{mode_name(phase)}/loss"] = to_numpy(loss)
                for name, array in self._named(flatten_dict(variables["params"])).items():
                    tensors[f"param/{name}"] = array
            sections = [Section("trajectory", tensors, number + 1)]
            del tensors
            yield sections.pop()
        with self.context():
            inputs, _ = self._batch(self.given.batch)
            tensors = self._evaluate("eval", variables, inputs)
            buffers = {k: v for k, v in variables.items() if k != "params"}
            tensors |= {f"buffer/{k}": v for k, v in self._buffers(buffers).items()}
            for phase in self.twin.updates:
                trained, _ = self.programs.split(phase, variables["params"], updated=True)
                tensors |= self._state(mode_name(phase), phase, states[phase.name], trained)
        yield Section("final", tensors)

    def evaluated(self, leaves: Mapping[Path, np.ndarray]) -> dict[str, np.ndarray]:
        """What the pass in eval mode gives of other variables."""
        with self.context():
            inputs, _ = self._batch(self.given.batch)
            return self._evaluate("eval", self._variables(leaves), inputs)

    def plain(self) -> tuple[Any, list, Any]:
        """The forward pass in eval mode as users call it: its jaxpr, what that is given, and the
        structure of what it gives.
        """
        inputs, _ = self._batch(self.given.batch)
        args = (self._variables(), inputs, [], [])
        call = self.programs.forward(args[0], inputs)
        return call.program, jax.tree.leaves(args), jax.tree.structure(call.structure)

    def operations(self, phase: Phase | None, back: bool = False) -> Operations:
        """As `TorchRun.operations`."""
        with self.context():
            variables, mode = self._variables(), "eval" if phase is None else mode_name(phase)
            inputs, targets = self._batch(self.given.batch)
            args: tuple = (variables, inputs, [], [])
            if phase is None:  # which plans its masks
                self.programs.evaluator(mode, variables, inputs)
            else:
                args = (variables, inputs, targets, self._drawn(phase))
                self.programs.trainer(phase, *args)
            call, masks = self.programs.calls[mode], self._masks(mode, 0)
            sampler = Sampler(masks, self.programs.random(call.program)[0])
            if phase is not None and back:
                args = (*args, masks, self._cross(np.ones(())))
                call, sampler = self.programs.back(phase, args), Sampler()

            def ends(values: Sequence[Any]) -> dict[str, Any]:
                whole = jax.tree.unflatten(jax.tree.structure(call.structure), values)
                loss, output = (None, whole) if phase is None else whole[:2]
                params, floats = whole[2:] if back else ({}, {})
                found = {f"out{call.outputs.get(s, s)}": value for s, value in named(output)}
                found |= {} if loss is None else {"loss": loss}
                names = list(self.twin.inputs)
                found |= {f"gradient/input/{names[i]}": value for i, value in floats.items()}
                return found | {"gradient/" + "/".join(p): value for p, value in params.items()}

            weights = jax.tree_util.tree_leaves_with_path(variables)
            kinds = ["/".join(["weight", *map(key_name, path)]) for path, _ in weights]
            leaves = jax.tree.leaves(args)
            floats = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves[len(kinds) :]]
            kinds += ["data" if f else INTEGERS for f in floats]
            kinds[-1] = "seed" if back else kinds[-1]
            return recorded(call.program, list(zip(kinds, leaves, strict=True)), ends, sampler)

    def _tensors(self, mode: str, output: Any, taps: Mapping[str, Any]) -> dict[str, np.ndarray]:
        taps = self.programs.spread(mode, taps)
        layers = {f"{mode}/layer/{key}": to_numpy(value) for key, value in taps.items()}
        names = self.programs.calls[mode].outputs
        return outputs(mode, output, names) | layers

    def _gradients(self, mode: str, gradients: tuple) -> dict[str, np.ndarray]:
        params, inputs, layers = gradients
        tensors = {}
        floating = [
            name
            for name in self.twin.inputs
            if np.issubdtype(self.given.batch[name].dtype, np.floating)
        ]
        for name, value in zip(floating, inputs, strict=True):
            array = to_numpy(value)
            array = channels_first(array) if is_image(self.twin, name) else array
            tensors[f"{mode}/gradient/input/{name}"] = array
        for name, array in self._named(params).items():
            tensors[f"{mode}/gradient/param/{name}"] = array
        for key, value in self.programs.spread(mode, layers).items():
            tensors[f"{mode}/gradient/layer/{key}"] = to_numpy(value)
        return tensors

    def _state(
        self, prefix: str, phase: Phase, state: Any, params: Mapping[Path, Any]
    ) -> dict[str, np.ndarray]:
        slots, unit = self.given.optimizer[phase.name], self._unit(phase, params)
        found = optim.read_optax(state, dict(params), slots, self._named, unit)
        return {
            f"{prefix}/state/{slot}/{name}": array
            for slot, values in found.items()
            for name, array in values.items()
        }

    def _unit(self, phase: Phase, params: Mapping[Path, Any]) -> float:
        """What the momentum is measured in."""

        def update() -> tuple[Any, Any]:
            ones = {path: jnp.ones_like(value) for path, value in params.items()}
            fresh = self.programs.fresh(phase, dict(params))
            after, state = self.programs.update(phase, ones, fresh, dict(params))
            return {path: after[path] - value for path, value in params.items()}, state

        if phase.name not in self.units:
            self.units[phase.name] = optim.unit(phase.optimizer, update)
        return self.units[phase.name]

    def _updated(
        self, prefix: str, phase: Phase, params: Mapping[Path, Any], state: Any
    ) -> dict[str, np.ndarray]:
        tensors = {f"{prefix}/param/{name}": a for name, a in self._named(params).items()}
        return tensors | self._state(prefix, phase, state, params)


def outputs(
    mode: str, output: Any, names: Mapping[str, str] = MappingProxyType({})
) -> dict[str, np.ndarray]:
    """What a model gives, by name; `names` are suffixes -> PyTorch's."""
    return {f"{mode}/out{names.get(s, s)}": to_numpy(value) for s, value in named(output)}
