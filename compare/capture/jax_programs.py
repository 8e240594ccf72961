"""JAX's side as programs: forward, backward and the updates, walked with every layer recorded."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from compare.capture.compiler import jit, options
from compare.capture.given import Given, mode_name
from compare.capture.jax_forward import Traced, rooted, traced
from compare.capture.jax_masks import Sampler, randomness
from compare.capture.jax_model import (
    Variables,
    is_image,
)
from compare.capture.jaxpr import Walk, source
from compare.capture.masks import Plan, plan
from compare.capture.taps import Tap
from compare.layout import arrange
from compare.twin import Phase, Twin
from compare.weights import optim
from compare.weights.link import Path
from compare.weights.map import WeightMap


class Programs:
    """The programs of one run, `eval` and, per phase, `train`: traced and compiled when asked for.

    Args:
      weights: the map that tells which parameters a phase trains.
      jit: compile the programs; otherwise every operation runs by itself.
      inputs: record the layers' inputs, too.

    Attributes:
      info, aliases: of the places that were recorded, by mode; see `Walk`.
      narrow: what falls below float64.
      plans: the dropout masks that each mode wants.
      calls: the traced ones, by mode.
    """

    def __init__(
        self,
        twin: Twin,
        model: Any,
        weights: WeightMap,
        given: Given,
        dtype: Any,
        device: Any,
        jit: bool,
        inputs: bool,
    ):
        self.twin, self.model, self.weights, self.given = twin, model, weights, given
        self.dtype, self.device, self.jit, self.inputs = dtype, device, jit, inputs
        self.lift = dtype == np.float64
        self.info: dict[str, dict[str, Tap]] = {}
        self.aliases: dict[str, dict[str, str]] = {}
        self.narrow: dict[str, None] = {}
        self.plans: dict[str, Plan] = {}
        if self.lift and jit:
            options()  # the canaries sing here, not under the settings of a run
        self._drawing: dict[int, tuple[frozenset[Any], dict[str, None]]] = {}
        self._programs: dict[str, Callable] = {}
        self.calls: dict[str, Traced] = {}

    def spread(self, mode: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values by key, those of aliases included, in order of execution; then the inputs."""
        info, aliases = self.info[mode], self.aliases[mode]
        outputs = {k: values[aliases.get(k, k)] for k in info if aliases.get(k, k) in values}
        return outputs | {k: value for k, value in values.items() if k not in info}

    def walk(
        self,
        closed: Any,
        structure: Any,
        args: tuple,
        perturb: Mapping | None = None,
        force: Mapping | None = None,
        masks: list | None = None,
        sources: bool = False,
    ) -> Any:
        walk = Walk(
            perturb,
            force,
            inputs=self.inputs,
            root=rooted(self.model),
            sampler=Sampler(masks, self.random(closed)[0]),
            layout=self.twin.layout,
            tables=self.given.constants if self.lift else (),
            sources=sources,
        )
        flat = walk.run(closed, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(structure), flat), walk

    def _note(self, mode: str, walk: Walk) -> None:
        self.info[mode], self.aliases[mode] = walk.info, walk.aliases
        if self.lift:
            self.narrow |= walk.narrow

    def _kept(self, walk: Walk) -> dict[str, Any]:
        """The branches that were taken; in float64 nobody asks for them."""
        return {} if self.lift else walk.branches

    def _program(self, mode: str, make: Callable[[], Callable]) -> Callable:
        if mode not in self._programs:
            program = make()
            self._programs[mode] = self._jitted(program) if self.jit else _uncompiled(program)
        return self._programs[mode]

    def _jitted(self, program: Callable) -> Callable:
        """In float64, where mathematics are judged, so that it is right; else as users compile it:
        their numerics are judged, and XLA's own sums of float32 are less exact than the fused ones.
        """
        return jit(program, self.device) if self.lift else jax.jit(program)

    def random(self, closed: Any) -> tuple[frozenset[Any], dict[str, None]]:
        """The masks that a traced program draws, and where it draws other numbers."""
        if id(closed) not in self._drawing:
            self._drawing[id(closed)] = randomness(closed, source)
        return self._drawing[id(closed)]

    def _plan(self, mode: str, closed: Any, structure: Any, args: tuple) -> Plan:
        """What dropout masks a traced program wants, from a walk that computes keys alone."""
        samplers: list[Sampler] = []

        def seen(*args: Any) -> list:
            samplers.append(self.walk(closed, structure, args)[1].sampler)
            return samplers[-1].seen

        jax.eval_shape(seen, *args)
        sampler = samplers[-1]
        found = Plan(mode, self.given.draws.get(mode, []))
        if sampler.sites:
            values = jax.tree.map(np.asarray, self._jitted(seen)(*args))
            images = any(is_image(self.twin, name) for name in self.twin.inputs)
            found = plan(mode, found.ours, sampler.sites, values, images, self.twin.layout)
        found.noise = self.random(closed)[1]
        return found

    def forward(self, variables: Variables, inputs: list) -> Traced:
        """The forward pass in eval mode."""
        if "eval" not in self.calls:
            self._trace("eval", None, (variables, inputs, [], []))
        return self.calls["eval"]

    def _trace(self, mode: str, phase: Phase | None, args: tuple) -> Traced:
        outputs = self.given.outputs.get(mode, {})
        call = traced(self.twin, self.model, self.dtype, phase, args, outputs)
        self.calls[mode] = call
        return call

    def evaluator(self, mode: str, variables: Variables, inputs: list) -> Callable:
        def make() -> Callable:
            args = (variables, inputs, [], [])
            call = self.forward(variables, inputs)
            closed, structure = call.program, call.structure
            self.plans[mode] = self._plan(mode, closed, structure, args)

            def program(variables: Variables, inputs: list, force: Mapping, masks: list) -> tuple:
                args = (variables, inputs, [], [])
                output, walk = self.walk(closed, structure, args, None, force, masks)
                self._note(mode, walk)
                return output, walk.taps, self._kept(walk)

            return program

        return self._program(mode, make)

    def trainer(
        self, phase: Phase, variables: Variables, inputs: list, targets: list, drawn: list
    ) -> Callable:
        mode = mode_name(phase)

        def make() -> Callable:
            args = (variables, inputs, targets, drawn)
            call = self._trace(mode, phase, args)
            closed, structure = call.program, call.structure
            self.plans[mode] = self._plan(mode, closed, structure, args)

            def program(variables, inputs, targets, drawn, force, cotangents, masks) -> tuple:
                trained, frozen = self.split(phase, variables.get("params", {}))
                floats = [jnp.issubdtype(x.dtype, jnp.floating) for x in inputs]

                def objective(trained, floating, perturb):
                    these = iter(floating)
                    mixed = [next(these) if f else x for f, x in zip(floats, inputs, strict=True)]
                    params = unflatten_dict({**frozen, **trained})
                    whole = {**variables, "params": params} if params else variables
                    args = (whole, mixed, targets, drawn)
                    result, walk = self.walk(closed, structure, args, perturb, force, masks)
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

    def back(self, phase: Phase, args: tuple) -> Traced:
        """A phase's pass with its gradients, in which each equation has the source of the one that
        it differentiates.

        Args:
          args: variables, inputs, targets, arrays of the default loss, masks, and the gradient of
            the loss.

        Returns: it gives the loss, the outputs, the gradients of parameters by path and of the
          floating inputs by number.
        """
        call = self.calls[mode_name(phase)]

        def program(variables, inputs, targets, drawn, masks, seed) -> tuple:
            trained, frozen = self.split(phase, variables.get("params", {}))
            floats = {i: x for i, x in enumerate(inputs) if jnp.issubdtype(x.dtype, jnp.floating)}

            def objective(trained: Any, floats: Any) -> tuple:
                mixed = [floats.get(i, x) for i, x in enumerate(inputs)]
                params = unflatten_dict({**frozen, **trained})
                whole = {**variables, "params": params} if params else variables
                args = (whole, mixed, targets, drawn)
                result, _ = self.walk(call.program, call.structure, args, masks=masks, sources=True)
                return result[0], result[1]

            loss, pull, output = jax.vjp(objective, trained, floats, has_aux=True)
            return loss, output, *pull(seed)

        return Traced(*jax.make_jaxpr(program, return_shape=True)(*args), call.outputs)

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

    def fresh(self, phase: Phase, params: Any) -> Any:
        """The optimizer's state before the first update."""
        return self._program(
            f"init {phase.name}", lambda: optim.optax_optimizer(phase.optimizer).init
        )(params)

    def update(self, phase: Phase, gradients: Any, state: Any, params: Any) -> tuple[Any, Any]:
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

    def split(
        self, phase: Phase, params: Any, updated: bool = False
    ) -> tuple[dict[Path, Any], dict[Path, Any]]:
        """Flat parameters by path: those that the phase trains, and the others.

        Args:
          updated: without those that PyTorch has frozen, which are differentiated all the same.
        """
        names, flat = self.weights.tensors, flatten_dict(params)
        known = self.given.gradients.get(phase.name, {})

        def trains(name: str) -> bool:
            return bool(re.search(phase.trains, name)) and (name in known or not updated)

        trained = {p: v for p, v in flat.items() if any(map(trains, names.get(p, ())))}
        return trained, {p: v for p, v in flat.items() if p not in trained}


def _uncompiled(program: Callable) -> Callable:
    """A traced program, every operation by itself: JAX would compile the body of a loop even so."""

    def run(*args: Any) -> Any:
        with jax.disable_jit():
            return program(*args)

    return run
