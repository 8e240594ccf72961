"""The walk of a jaxpr: its values recorded at the layers, and perturbed for their gradients.

A model is traced once, with every layer's output tagged by `checkpoint_name`. `Walk` evaluates that
jaxpr again, through jit, remat and scan bodies; custom_jvp and custom_vjp are bound whole, so that
their rules hold. Perturbing out here, and not where the tag is set, leaks no tracer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from compare.capture.jax_masks import INLINED, Sampler, samples
from compare.capture.jax_versions import attributed, bound, carried, opened
from compare.capture.lifting import HIDDEN, narrow
from compare.capture.taps import BRANCHES, FUNCTIONS, Tap, input_key, numbered
from compare.layout import arrange
from compare.share import to_jax

TAG = "diptych"
NN = re.compile(r"[/\\]jax[/\\]_src[/\\]nn[/\\]functions\.py$")
PRIMITIVES = {"reduce_window_max": "max_pool", "logistic": "sigmoid"}
WRAPPED = re.compile(r"\w+\(|\)|eqx\.nn\.\w+")


def tag(path: str, leaf: str, kind: str) -> str:
    """The checkpoint name under which a layer's output is found again."""
    return "|".join((TAG, path, leaf, kind))


def source(eqn: Any) -> str:
    """Where user code made this equation, as "file:line"; empty where only libraries did."""
    traceback = eqn.source_info.traceback
    for frame in traceback.frames if traceback else ():
        if not HIDDEN.search(frame.file_name):
            return f"{os.path.relpath(frame.file_name)}:{frame.line_num}"
    return ""


def theirs(program: Any) -> bool:
    """Whether a library wrote the function that a jaxpr is of, as far as JAX tells."""
    info = getattr(opened(program)[0], "debug_info", None)
    return bool(HIDDEN.search(getattr(info, "func_src_info", None) or ""))


def function(eqn: Any) -> str | None:
    """The name of the function that this equation calls, if it is one that is recorded."""
    name = PRIMITIVES.get(eqn.primitive.name) or eqn.params.get("name")
    if eqn.primitive.name == "custom_jvp_call":
        inner = eqn.params["call_jaxpr"].eqns
        name = inner[0].params.get("name") if len(inner) == 1 else None
    return name if name in FUNCTIONS else None


class Walk:
    """Evaluates a jaxpr and keeps what passes the tags and the named functions.

    Args:
      perturb: values to add at the taps, by key; a gradient with respect to one is the gradient of
        that layer's output.
      force: values to go on with instead of the computed ones, by key, with PyTorch's axes; what
        was computed is recorded all the same. A layer whose input is forced is run alone.
      inputs: record the inputs of modules and functions, too (see `input_key`).
      root: whether the first component of the name stack is the root module's own.
      layout: the twin's.
      sampler: gives the masks of dropout.
      tables: constants to take others for: what they are, and what is taken.
      sources: where the walk is traced, give what is traced the sources of the equations.

    Attributes:
      taps: recorded values by key, in order of execution; a layer in a scan is stacked over time.
      branches: inputs of the functions that have a kink, by key.
      info: the `Tap` of each key.
      aliases: keys whose value is that of the key before (a container's, and its last layer's).
      narrow: "source: type" of what falls below float64.
    """

    def __init__(
        self,
        perturb: Mapping[str, Any] | None = None,
        force: Mapping[str, Any] | None = None,
        *,
        inputs: bool = False,
        root: bool = True,
        layout: str = "NHWC",
        sampler: Sampler | None = None,
        tables: Sequence[tuple[np.ndarray, np.ndarray]] = (),
        sources: bool = False,
    ):
        self.perturb, self.force = perturb or {}, force or {}
        self.sampler = sampler or Sampler()
        self.options: dict[str, Any] = {
            "inputs": inputs,
            "root": root,
            "layout": layout,
            "tables": tables,
            "sources": sources,
        }
        self.taps: dict[str, Any] = {}
        self.branches: dict[str, Any] = {}
        self.info: dict[str, Tap] = {}
        self.aliases: dict[str, str] = {}
        self.narrow: dict[str, None] = {}
        self._quiet = False
        self._traceback: Any = None  # of a call of a library's function, which is traced once
        self._last: tuple[str, Any] | None = None
        self._seen: dict[str, int] = {}

    def run(self, program: Any, args: Sequence[Any], scope: str = "") -> list:
        """The outputs of a jaxpr; `scope` is the name stack around it."""
        jaxpr, consts = opened(program)
        env: dict[Any, Any] = dict(zip(jaxpr.constvars, map(self._exact, consts), strict=True))
        env |= dict(zip(jaxpr.invars, args, strict=True))

        def read(atom: Any) -> Any:
            return self._exact(atom.val) if isinstance(atom, core.Literal) else env[atom]

        last, spelled = last_uses(jaxpr), _spelled_out(jaxpr)
        key, whole = "", None
        for position, eqn in enumerate(jaxpr.eqns):
            values = [read(atom) for atom in eqn.invars]
            here = _join(scope, str(eqn.source_info.name_stack))
            span = spelled.get(position)
            if span and not self._quiet:
                if position == span.first:
                    key, whole = self._key(span.name, here), env.get(span.operand)
                    if span.operand is not None:
                        env[span.operand] = self._input(key, whole)
                values = [read(atom) for atom in eqn.invars]
                with self._attributed(eqn):
                    outputs = self._calling(eqn, values, here)
                if position == span.last:
                    outputs = self._called(key, span.name, eqn, outputs, here)
                    env[span.operand] = whole
            else:
                with self._attributed(eqn):
                    outputs = self._equation(eqn, values, here)
            for value in outputs:
                dtype = getattr(value, "dtype", None)
                if dtype is not None and narrow(dtype):
                    where = source(eqn) or eqn.primitive.name
                    self.narrow[f"{where}: {np.dtype(dtype).name}"] = None
            env |= dict(zip(eqn.outvars, outputs, strict=True))
            for variable in last.get(position, ()):
                env.pop(variable, None)
        return [read(atom) for atom in jaxpr.outvars]

    def _exact(self, constant: Any) -> Any:
        """A constant, or what is taken for it."""
        for held, exact in self.options["tables"]:
            if np.shape(constant) == held.shape and np.array_equal(constant, held):
                return to_jax(exact)
        return constant

    def _equation(self, eqn: Any, values: list, scope: str) -> list:
        name = eqn.primitive.name
        if name == "name":
            return [self._tagged(eqn, values[0])]
        if samples(eqn):
            bind = functools.partial(self._bind, scope=scope)
            return [self.sampler.draw(eqn, values, source(eqn), bind)]
        if not self._quiet and (called := function(eqn)) and _is_value(eqn.outvars):
            key = self._key(called, scope)
            if called in BRANCHES:
                self.branches[key] = values[0]
            values = [self._input(key, values[0]), *values[1:]]
            outputs = self._calling(eqn, values, scope)
            return self._called(key, called, eqn, outputs, scope)
        if name == "scan":
            return self._scan(eqn, values, scope)
        return self._bind(eqn, values, scope)

    def _calling(self, eqn: Any, values: list, scope: str) -> list:
        """An equation inside a recorded function: selu is made of elu, only selu is recorded."""
        self._quiet = True
        try:
            return self._equation(eqn, values, scope)
        finally:
            self._quiet = False

    def _key(self, called: str, scope: str) -> str:
        path = self._path(scope)
        return numbered(self._seen, f"{path}/{called}" if path else called)

    def _called(self, key: str, called: str, eqn: Any, outputs: list, scope: str) -> list:
        """Records what a function gives."""
        tap = Tap(self._path(scope), called, source(eqn), function=True)
        return [self._record(key, tap, outputs[0])]

    def _input(self, key: str, value: Any) -> Any:
        """Records what a function is given."""
        return self._passing(input_key(key), value) if self.options["inputs"] else value

    def _bind(self, eqn: Any, values: list, scope: str) -> list:
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if inner is not None and eqn.primitive.name in INLINED:
            return self.run(inner, values, scope)
        return bound(eqn, values)

    @contextlib.contextmanager
    def _attributed(self, eqn: Any) -> Iterator[None]:
        if not self.options["sources"]:
            yield
            return
        outer, inner = self._traceback, eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        with attributed(eqn, outer):
            if eqn.primitive.name in INLINED and theirs(inner):
                self._traceback = outer or eqn.source_info.traceback
            yield
        self._traceback = outer

    def _tagged(self, eqn: Any, value: Any) -> Any:
        mark, _, rest = eqn.params["name"].partition("|")
        if mark != TAG:
            return value
        path, leaf, kind = rest.split("|")
        key = numbered(self._seen, path + leaf)
        tap = Tap(path, kind, source(eqn))
        if ":in" in leaf:
            return self._passing(key, value) if self.options["inputs"] else value
        return self._record(key, tap, value)

    def _passing(self, key: str, value: Any) -> Any:
        """Records a value; what goes on is the forced one where there is one, and perturbed."""
        self.taps[key] = value
        if key in self.force:
            forced = arrange(self.force[key], value.shape, self.options["layout"])
            value = value if forced is None else forced
        return value + self.perturb[key] if key in self.perturb else value

    def _record(self, key: str, tap: Tap, value: Any) -> Any:
        self.info[key] = tap
        if self._last and self._last[1] is value:
            self.aliases[key] = self._last[0]
            return value
        value = self._passing(key, value)
        self._last = (key, value)
        return value

    def _scan(self, eqn: Any, values: list, scope: str) -> list:
        params = eqn.params
        body, (n_consts, n_carry) = params["jaxpr"], carried(params)
        consts, carry, xs = (
            values[:n_consts],
            values[n_consts : n_consts + n_carry],
            values[n_consts + n_carry :],
        )
        inside = Walk(sampler=self.sampler.inner(), **self.options)
        jax.eval_shape(lambda: inside.run(body, [*consts, *carry, *(x[0] for x in xs)], scope))
        again = functools.partial(numbered, self._seen)
        outer = {key: again(key.partition("#")[0]) for key in inside.info}
        for key in (key for key in inside.taps if key not in inside.info):
            place = key.replace(":in", "", 1)
            of = inside.info.get(place)
            called = of is not None and of.function
            outer[key] = input_key(outer[place]) if called else again(key.partition("#")[0])
        perturb, force = (
            {key: given[name] for key, name in outer.items() if name in given}
            for given in (self.perturb, self.force)
        )
        given = self.sampler.enter(inside.sampler, params["length"], params["reverse"])

        def step(carry, slices):
            x, perturbed, forced, masks = slices
            walk = Walk(perturbed, forced, sampler=self.sampler.inner(masks), **self.options)
            outputs = walk.run(body, [*consts, *carry, *x], scope)
            seen = walk.sampler.seen
            return outputs[:n_carry], (outputs[n_carry:], walk.taps, walk.branches, seen)

        carry, (ys, taps, branches, seen) = jax.lax.scan(
            step,
            [jnp.asarray(c) for c in carry],
            (xs, perturb, force, given),
            length=params["length"],
            reverse=params["reverse"],
            unroll=params["unroll"],
        )
        for key, name in outer.items():
            steps = -params["length"] if params["reverse"] else params["length"]
            if key in inside.info:
                self.info[name] = dataclasses.replace(inside.info[key], steps=steps)
            if key in inside.aliases:
                self.aliases[name] = outer[inside.aliases[key]]
            else:
                self.taps[name] = taps[key]
            if key in branches:
                self.branches[name] = branches[key]
        self.narrow |= inside.narrow
        self.sampler.seen += seen
        return [*carry, *ys]

    def _path(self, scope: str) -> str:
        scope = WRAPPED.sub("", scope)  # what jax.vmap and Equinox's own layers add to it
        parts = [re.sub(r"(?<=.)\.\w+$", "", part) for part in scope.split("/") if part]
        if self.options["root"] and parts and parts[0] != "loss":
            parts = parts[1:]
        return "/".join(parts)


@dataclasses.dataclass(frozen=True)
class Span:
    """The equations, by position, that one call of a function was spelled out into.

    Args:
      operand: the one variable that they read from outside, if it is one.
    """

    name: str
    first: int
    last: int
    operand: Any


# A model is walked several times, and the tracebacks of its equations are long.
_SPANS: weakref.WeakKeyDictionary[Any, dict[int, Span]] = weakref.WeakKeyDictionary()


def _spelled_out(jaxpr: Any) -> dict[int, Span]:
    """Calls of functions of jax.nn that are neither jitted nor custom: gelu, sigmoid, softmax.

    Returns: by position. Two calls that follow one another on one line count as one.
    """
    if jaxpr in _SPANS:
        return _SPANS[jaxpr]
    calls: list[tuple[str, tuple] | None] = []
    for eqn in jaxpr.eqns:
        traceback = eqn.source_info.traceback
        frames = traceback.frames if traceback else []
        outermost = next(
            (i for i in range(len(frames) - 1, -1, -1) if NN.search(frames[i].file_name)), None
        )
        name = None if outermost is None else frames[outermost].function_name
        if outermost is None or name not in FUNCTIONS:
            calls.append(None)
            continue
        outside = tuple((f.file_name, f.line_num) for f in frames[outermost + 1 :])
        calls.append((name, (outside, str(eqn.source_info.name_stack))))
    spans: dict[int, Span] = {}
    for call, group in itertools.groupby(range(len(calls)), calls.__getitem__):
        positions = list(group)
        if call is not None and _is_value(jaxpr.eqns[positions[-1]].outvars):
            operand = _operand([jaxpr.eqns[i] for i in positions])
            span = Span(call[0], positions[0], positions[-1], operand)
            spans |= dict.fromkeys(positions, span)
    _SPANS[jaxpr] = spans
    return spans


def _is_value(outputs: Sequence[Any]) -> bool:
    """Whether an equation gives one floating value."""
    return len(outputs) == 1 and jnp.issubdtype(outputs[0].aval.dtype, jnp.floating)


def _operand(eqns: Sequence[Any]) -> Any:
    made = {variable for eqn in eqns for variable in eqn.outvars}
    read = {v for eqn in eqns for v in eqn.invars if not isinstance(v, core.Literal)} - made
    return read.pop() if len(read) == 1 and _is_value(list(read)) else None


def _join(scope: str, inner: str) -> str:
    return "/".join(part for part in (scope, inner) if part)


def last_uses(jaxpr: Any) -> dict[int, list]:
    """For each equation, the variables that nothing after it reads: dropped, to save memory."""
    last: dict[Any, int] = {}
    for position, eqn in enumerate(jaxpr.eqns):
        for variable in eqn.invars:
            if not isinstance(variable, core.Literal):
                last[variable] = position
    for variable in jaxpr.outvars:
        if not isinstance(variable, core.Literal):
            last.pop(variable, None)
    uses: dict[int, list] = {}
    for variable, position in last.items():
        uses.setdefault(position, []).append(variable)
    return uses
