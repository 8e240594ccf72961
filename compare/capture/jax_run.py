"""JAX's side of a capture: a model traced once a mode, walked, differentiated at its layers."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.ad_checkpoint import checkpoint_name

from compare.capture import bring
from compare.capture.dataflow import first_uses
from compare.capture.given import Given, mode_name
from compare.capture.jax_masks import Sampler, randomness
from compare.capture.jax_model import (
    Variables,
    arranged,
    collected,
    is_image,
    key_name,
    method_of,
    mode_keywords,
    structs,
)
from compare.capture.jaxpr import Walk, source, tag
from compare.capture.lifting import lifted
from compare.capture.masks import Plan, Shape, plan
from compare.capture.taps import Section, Tap
from compare.errors import DiptychError
from compare.layout import arrange, channels_first, channels_last
from compare.share import to_jax, to_numpy
from compare.twin import Phase, Twin
from compare.weights import optim
from compare.weights.link import Path
from compare.weights.map import WeightMap


def order(
    twin: Twin, model: Any, batch: Mapping[str, np.ndarray]
) -> tuple[list[Path], dict[Path, frozenset[Path]]]:
    """The variables in the order of their first use; and what that use depends on, beside them."""
    variables = unflatten_dict(structs(twin, model, batch))
    run = JaxRun(twin, model, WeightMap([], {}), Given({}, dict(batch), 0, 0), dtype="float32")
    inputs, _ = run._batch(batch)
    closed = jax.make_jaxpr(lambda v, x: run._forward(v, x, twin.call, False)[0])(variables, inputs)
    flat, _ = jax.tree_util.tree_flatten_with_path(variables)
    paths = [tuple(key_name(k) for k in path) for path, _ in flat]
    uses = first_uses(closed, len(paths))
    before = {paths[i]: frozenset(paths[o] for o in others if o < len(paths)) for i, others in uses}
    return list(before), before


def _intercept(
    call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
) -> Any:
    """Tags what modules return; Linen calls it around every method."""
    name, path = context.method_name, "/".join(context.module.path)
    kind = type(context.module).__name__
    if name != "__call__" or not path:
        return call(*args, **kwargs)
    args = tuple(
        _tagged(arg, path, f":in.{i}" if len(args) > 1 else ":in", kind)
        for i, arg in enumerate(args)
    )
    return _tagged(call(*args, **kwargs), path, "", kind)


def _tagged(value: Any, path: str, prefix: str, kind: str) -> Any:
    tagged: dict[int, Any] = {}  # a leaf that is returned twice is one value, with one gradient

    def one(keys: tuple, leaf: Any) -> Any:
        if not (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)):
            return leaf
        suffix = prefix + "".join(f".{key_name(k)}" for k in keys)
        name = tag(path, suffix, kind)
        tagged[id(leaf)] = checkpoint_name(tagged.get(id(leaf), leaf), name)
        return tagged[id(leaf)]

    mapped = jax.tree_util.tree_map_with_path(one, value)
    return jax.tree.map(lambda leaf, new: tagged.get(id(leaf), new), value, mapped)


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
        self.dtype, self.jit = np.dtype(dtype), jit
        self.device = jax.devices(device)[0]
        self.lift = dtype == "float64"
        self.inputs, self.precision = inputs, precision
        self.info: dict[str, dict[str, Tap]] = {}
        self.branches: dict[str, dict[str, np.ndarray]] = {}
        self.lifted: dict[str, None] = {}
        self.narrow: dict[str, None] = {}
        self.plans: dict[str, Plan] = {}
        self.key: Any = None  # of the model's own random numbers; none is left of them, but here
        self._drawing: dict[int, tuple[frozenset[Any], dict[str, None]]] = {}
        self._programs: dict[str, Callable] = {}
        self._aliases: dict[str, dict[str, str]] = {}

    @contextlib.contextmanager
    def _context(self) -> Iterator[None]:
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

    def _variables(self) -> Variables:
        flat = self.weights.to_jax(self.given.state)
        return unflatten_dict({path: self._cross(array) for path, array in flat.items()})

    def _batch(self, batch: Mapping[str, np.ndarray]) -> tuple[list, list]:
        def cross(names: Mapping) -> list:
            return [self._cross(arranged(self.twin, name, batch[name])) for name in names]

        return cross(self.twin.inputs), cross(self.twin.targets)

    def _drawn(self, phase: Phase) -> list:
        """The arrays of the default loss in JAX's layout."""
        drawn = self.given.cotangents.get(phase.name, [])
        moved = self.twin.layout == "NHWC"
        return [self._cross(channels_last(a) if moved and a.ndim in (4, 5) else a) for a in drawn]

    def _forward(self, variables: Variables, inputs: list, call: str | None, train: bool) -> tuple:
        """Outputs and the collections as the call leaves them."""
        twin, model = self.twin, self.model
        collections = {k: v for k, v in variables.items() if k != "params"}
        with nn.intercept_methods(_intercept):
            if isinstance(model, nn.Module):
                method = method_of(twin, call, train)
                mode: dict[str, Any] = mode_keywords(model, train, method)
                mutable = list(collections) if train else False
                # "params" stands in for every collection; "dropout" is what a model may ask for.
                names = ("params", "dropout") if train else ("params",)
                key = jax.random.key(0) if self.key is None else self.key
                rngs = dict(zip(names, jax.random.split(key, len(names)), strict=True))
                mode |= {"method": method, "mutable": mutable, "rngs": rngs}
                result = model.apply(variables, *inputs, **mode)
                return result if train else (result, collections)
            if bring.is_module(model):
                return self._brought(variables, inputs, call, train)
            apply, tree = model, {}
            if isinstance(model, tuple):
                apply, tree = model[0], self._given_tree(variables)
            if twin.jax_call:
                return twin.jax_call(apply, tree, *inputs, train=train), collections
            return (
                apply(tree, *inputs) if isinstance(model, tuple) else apply(*inputs)
            ), collections

    def _brought(self, variables: Variables, inputs: list, call: str | None, train: bool) -> tuple:
        """The same of an NNX or Equinox module, from a copy that holds the variables."""
        module = bring.filled(self.model, variables, train)
        with bring.marking(_tagged):
            if self.twin.jax_call:
                output = self.twin.jax_call(module, *inputs, train=train)
            else:
                mode = mode_keywords(module, train, call)
                output = getattr(module, call or "__call__")(*inputs, **mode)
        if bring.is_nnx(module):
            return output, bring.collections(module)
        return output, {k: v for k, v in variables.items() if k != "params"}

    def _given_tree(self, variables: Variables) -> Any:
        """The variables of an (apply, variables) pair, in the structure that the user gave."""
        given = self.model[1]
        flat = flatten_dict(variables)
        if not collected(given):
            flat = {path[1:]: value for path, value in flat.items()}
        paths = jax.tree_util.tree_flatten_with_path(given)[0]
        leaves = [flat[tuple(key_name(key) for key in path)] for path, _ in paths]
        return jax.tree.unflatten(jax.tree.structure(given), leaves)

    def _trace(self, train: bool, phase: Phase | None, args: tuple) -> tuple[Any, Any]:
        """The jaxpr of forward (and loss) with every layer tagged, and its output's shapes."""

        def traced(variables: Variables, inputs: list, targets: list, drawn: list) -> Any:
            call = phase.call if phase else self.twin.call
            output, collections = self._forward(variables, inputs, call, train)
            if phase is None:
                return output
            with jax.named_scope("loss"):
                loss = self.twin.objective("jax", phase.loss)
                if loss is None:
                    floats = [
                        x for x in jax.tree.leaves(output) if jnp.issubdtype(x.dtype, jnp.floating)
                    ]
                    if len(floats) != len(drawn):
                        counts = f"JAX gives {len(floats)} outputs, PyTorch {len(drawn)}"
                        raise DiptychError(f"{self.twin.name}: {counts}")
                    products = [(x * c).sum() for x, c in zip(floats, drawn, strict=True)]
                    value = sum(products, jnp.zeros((), self.dtype))
                else:
                    value = loss(output, *targets, *drawn)
            return value, output, collections

        return jax.make_jaxpr(traced, return_shape=True)(*args)

    def _spread(self, mode: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values by key, those of aliases included, in order of execution; then the inputs."""
        info, aliases = self.info[mode], self._aliases[mode]
        outputs = {k: values[aliases.get(k, k)] for k in info if aliases.get(k, k) in values}
        return outputs | {k: value for k, value in values.items() if k not in info}

    def _walk(
        self,
        closed: Any,
        structure: Any,
        args: tuple,
        perturb: Mapping | None = None,
        force: Mapping | None = None,
        masks: list | None = None,
    ) -> Any:
        walk = Walk(
            perturb,
            force,
            inputs=self.inputs,
            root=self._rooted(),
            sampler=Sampler(masks, self._random(closed)[0]),
            layout=self.twin.layout,
        )
        flat = walk.run(closed, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(structure), flat), walk

    def _rooted(self) -> bool:
        """Whether Linen opens the name stack with the root module's own name."""
        apply = self.model[0] if isinstance(self.model, tuple) else None
        return isinstance(getattr(apply, "__self__", self.model), nn.Module)

    def _note(self, mode: str, walk: Walk) -> None:
        self.info[mode], self._aliases[mode] = walk.info, walk.aliases
        if self.lift:
            self.narrow |= walk.narrow

    def _kept(self, walk: Walk) -> dict[str, Any]:
        """The branches that were taken; in float64 nobody asks for them."""
        return {} if self.lift else walk.branches

    def _program(self, mode: str, make: Callable[[], Callable]) -> Callable:
        if mode not in self._programs:
            program = make()
            self._programs[mode] = jax.jit(program) if self.jit else program
        return self._programs[mode]

    def _random(self, closed: Any) -> tuple[frozenset[Any], dict[str, None]]:
        """The masks that a traced program draws, and where it draws other numbers."""
        if id(closed) not in self._drawing:
            self._drawing[id(closed)] = randomness(closed, source)
        return self._drawing[id(closed)]

    def _plan(self, mode: str, closed: Any, structure: Any, args: tuple) -> Plan:
        """What dropout masks a traced program wants, from a walk that computes keys alone."""
        samplers: list[Sampler] = []

        def seen(*args: Any) -> list:
            samplers.append(self._walk(closed, structure, args)[1].sampler)
            return samplers[-1].seen

        jax.eval_shape(seen, *args)
        sampler = samplers[-1]
        found = Plan(mode, self.given.draws.get(mode, []))
        if sampler.sites:
            values = jax.tree.map(np.asarray, jax.jit(seen)(*args))
            images = any(is_image(self.twin, name) for name in self.twin.inputs)
            found = plan(mode, found.ours, sampler.sites, values, images, self.twin.layout)
        found.noise = self._random(closed)[1]
        return found

    def _masks(self, mode: str, step: int) -> list:
        draw = functools.partial(self.given.uniform, mode, step)
        return [self._cross(array) for array in self.plans[mode].arrays(draw)]

    def shared(self) -> dict[tuple[str, int], Shape]:
        """The shapes of dropout masks that are not PyTorch's own, in every mode that drops."""
        if not any(self.given.draws.values()):
            return {}
        with self._context():
            variables = self._variables()
            inputs, targets = self._batch(self.given.batch)
            self._evaluator("eval", variables, inputs)
            for phase in self.twin.updates:
                self._trainer(phase, variables, inputs, targets, self._drawn(phase))
        return {place: shape for p in self.plans.values() for place, shape in p.shared().items()}

    def _evaluator(self, mode: str, variables: Variables, inputs: list) -> Callable:
        def make() -> Callable:
            args = (variables, inputs, [], [])
            closed, structure = self._trace(False, None, args)
            self.plans[mode] = self._plan(mode, closed, structure, args)

            def program(variables: Variables, inputs: list, force: Mapping, masks: list) -> tuple:
                args = (variables, inputs, [], [])
                output, walk = self._walk(closed, structure, args, None, force, masks)
                self._note(mode, walk)
                return output, walk.taps, self._kept(walk)

            return program

        return self._program(mode, make)

    def _evaluate(
        self, mode: str, variables: Variables, inputs: list, force: Mapping[str, Any] | None = None
    ) -> dict[str, np.ndarray]:
        program = self._evaluator(mode, variables, inputs)
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
        program = self._trainer(phase, variables, inputs, targets, drawn)
        masks = self._masks(mode_name(phase), step)
        force, cotangents = force or {}, cotangents or {}
        return program(variables, inputs, targets, drawn, force, cotangents, masks)

    def _trainer(
        self, phase: Phase, variables: Variables, inputs: list, targets: list, drawn: list
    ) -> Callable:
        mode = mode_name(phase)

        def make() -> Callable:
            args = (variables, inputs, targets, drawn)
            closed, structure = self._trace(True, phase, args)
            self.plans[mode] = self._plan(mode, closed, structure, args)

            def program(variables, inputs, targets, drawn, force, cotangents, masks) -> tuple:
                trained, frozen = self._split(phase, variables.get("params", {}))
                floats = [jnp.issubdtype(x.dtype, jnp.floating) for x in inputs]

                def objective(trained, floating, perturb):
                    these = iter(floating)
                    mixed = [next(these) if f else x for f, x in zip(floats, inputs, strict=True)]
                    params = unflatten_dict({**frozen, **trained})
                    whole = {**variables, "params": params} if params else variables
                    args = (whole, mixed, targets, drawn)
                    result, walk = self._walk(closed, structure, args, perturb, force, masks)
                    loss, output, collections = result
                    return loss, (output, collections, walk)

                floating = [x for f, x in zip(floats, inputs, strict=True) if f]
                dry: list[Walk] = []

                def seen() -> dict:
                    *_, walk = objective(trained, floating, None)[1]
                    dry.append(walk)
                    return walk.taps

                taps = jax.eval_shape(seen)
                self._note(mode, dry[0])
                perturb = {k: jnp.zeros(v.shape, v.dtype) for k, v in taps.items()}

                def value(*args):
                    loss, (output, collections, walk) = objective(*args)
                    total = loss + self._pulled(walk.taps, cotangents)
                    return total, (loss, output, collections, walk.taps, self._kept(walk))

                (_, aux), gradients = jax.value_and_grad(value, (0, 1, 2), has_aux=True)(
                    trained, floating, perturb
                )
                return *aux, gradients

            return program

        return self._program(mode, make)

    def _pulled(self, taps: Mapping[str, Any], cotangents: Mapping[str, Any]) -> Any:
        """What makes a layer whose output leads nowhere, as its successor's input is forced, be
        differentiated all the same: its output's product with the gradient that it ought to get.
        """
        total = jnp.zeros((), self.dtype)
        for key, value in taps.items():  # an alias is among the cotangents alone
            if key in cotangents:
                pull = arrange(cotangents[key], value.shape, self.twin.layout)
                total += 0 if pull is None else (value * pull).sum()
        return total

    def _fresh(self, phase: Phase, params: Any) -> Any:
        """The optimizer's state before the first update."""
        return self._program(
            f"init {phase.name}", lambda: optim.optax_optimizer(phase.optimizer).init
        )(params)

    def _update(self, phase: Phase, gradients: Any, state: Any, params: Any) -> tuple[Any, Any]:
        """One update of the phase's parameters; elementwise, a small program of its own."""

        def make() -> Callable:
            transformation = optim.optax_optimizer(phase.optimizer)

            def program(gradients: Any, state: Any, params: Any) -> tuple[Any, Any]:
                updates, state = transformation.update(gradients, state, params)
                return optax.apply_updates(params, updates), state

            return program

        # The zeros of a new state belong to no device; jit would compile once more for them.
        given = jax.device_put((gradients, state, params), self.device)
        return self._program(f"update {phase.name}", make)(*given)

    def _split(self, phase: Phase, params: Any) -> tuple[dict[Path, Any], dict[Path, Any]]:
        """Flat parameters by path: those that the phase trains, and the others."""
        names = {link.jax[1:]: link.torch for link in self.weights.links}
        flat = flatten_dict(params)
        trained = {p: v for p, v in flat.items() if re.search(phase.trains, names.get(p, ""))}
        return trained, {p: v for p, v in flat.items() if p not in trained}

    def _named(self, flat: Mapping[Path, Any], collection: str = "params") -> dict[str, np.ndarray]:
        """PyTorch's names and layouts for flat leaves of one collection."""
        return self.weights.to_torch({(collection, *p): to_numpy(v) for p, v in flat.items()})

    def _stilled(self, phase: Phase, gradients: Mapping[Path, Any]) -> dict[Path, Any]:
        """Gradients, with exact zeros for those that are zero by analysis."""
        names = {link.jax[1:]: link.torch for link in self.weights.links}
        still = self.given.still
        return {
            path: jnp.zeros_like(g) if f"{mode_name(phase)}/{names[path]}" in still else g
            for path, g in gradients.items()
        }

    def _forced(self, phase: Phase, trained: Mapping[Path, Any], state: Any) -> tuple[Any, Any]:
        """The teacher-forced update, from the given gradients and state."""

        def tree(named: Mapping[str, np.ndarray]) -> dict[Path, jax.Array]:
            flat = self.weights.to_jax(named)
            return {p: self._cross(flat["params", *p]) for p in trained}

        given = self.given.optimizer[phase.name]
        state = optim.write_optax(state, dict(trained), given, tree)
        return self._update(phase, tree(self.given.gradients[phase.name]), state, dict(trained))

    def _buffers(self, collections: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {
            name: array
            for collection, tree in collections.items()
            for name, array in self._named(flatten_dict(tree), collection).items()
        }

    def sections(self, trajectory: bool = True) -> Iterator[Section]:
        """As `TorchRun.sections`."""
        with self._context():
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
        with self._context():
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
        trained, _ = self._split(phase, variables.get("params", {}))
        if not trained:
            return
        with self._context():
            start = self._fresh(phase, dict(trained))
            free = self._update(phase, self._stilled(phase, gradients), start, dict(trained))
            sections.append(Section("step", self._updated(f"{mode}/free", phase, *free)))
        del gradients, free
        yield sections.pop()
        with self._context():
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
        with self._context():
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
        with self._context():
            variables = self._variables()
            if not variables.get("params"):
                return
            for phase in self.twin.updates:
                trained, _ = self._split(phase, variables["params"])
                states[phase.name] = self._fresh(phase, dict(trained))
        for number, batch in enumerate(self.twin.batches(self.given.seed, self.given.steps)):
            tensors: dict[str, np.ndarray] = {}
            with self._context():
                for phase in self.twin.updates:
                    result = self._train(phase, variables, batch, step=number + 1)
                    loss, collections, gradients = result[0], result[2], result[-1][0]
                    del result  # the layers' values and gradients
                    trained, frozen = self._split(phase, variables["params"])
                    params, states[phase.name] = self._update(
                        phase, self._stilled(phase, gradients), states[phase.name], trained
                    )
                    merged = unflatten_dict({**frozen, **params})
                    variables = {**variables, **collections, "params": merged}
                    del gradients, trained, frozen, params, merged
                    tensors[f"{mode_name(phase)}/loss"] = to_numpy(loss)
                for name, array in self._named(flatten_dict(variables["params"])).items():
                    tensors[f"param/{name}"] = array
            sections = [Section("trajectory", tensors, number + 1)]
            del tensors
            yield sections.pop()
        with self._context():
            inputs, _ = self._batch(self.given.batch)
            tensors = self._evaluate("eval", variables, inputs)
            buffers = {k: v for k, v in variables.items() if k != "params"}
            tensors |= {f"buffer/{k}": v for k, v in self._buffers(buffers).items()}
            for phase in self.twin.updates:
                trained, _ = self._split(phase, variables["params"])
                tensors |= self._state(mode_name(phase), phase, states[phase.name], trained)
        yield Section("final", tensors)

    def _tensors(self, mode: str, output: Any, taps: Mapping[str, Any]) -> dict[str, np.ndarray]:
        flat, _ = jax.tree_util.tree_flatten_with_path(output)
        tensors = {}
        for path, value in flat:
            suffix = "".join(f".{key_name(k)}" for k in path)
            tensors[f"{mode}/out{suffix}"] = to_numpy(value)
        taps = self._spread(mode, taps)
        return tensors | {f"{mode}/layer/{key}": to_numpy(value) for key, value in taps.items()}

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
        for key, value in self._spread(mode, layers).items():
            tensors[f"{mode}/gradient/layer/{key}"] = to_numpy(value)
        return tensors

    def _state(
        self, prefix: str, phase: Phase, state: Any, params: Mapping[Path, Any]
    ) -> dict[str, np.ndarray]:
        slots = self.given.optimizer[phase.name]
        return {
            f"{prefix}/state/{slot}/{name}": array
            for slot, values in optim.read_optax(state, dict(params), slots, self._named).items()
            for name, array in values.items()
        }

    def _updated(
        self, prefix: str, phase: Phase, params: Mapping[Path, Any], state: Any
    ) -> dict[str, np.ndarray]:
        tensors = {f"{prefix}/param/{name}": a for name, a in self._named(params).items()}
        return tensors | self._state(prefix, phase, state, params)
