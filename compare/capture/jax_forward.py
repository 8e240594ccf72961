"""JAX's model called: its layers tagged on the way, and the call traced, with its loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.ad_checkpoint import checkpoint_name

from compare.capture import bring
from compare.capture.jax_model import (
    Variables,
    collected,
    filled,
    is_boxed,
    key_name,
    method_of,
    mode_keywords,
    path_of,
    unboxed,
)
from compare.capture.jaxpr import tag
from compare.capture.outputs import paired
from compare.errors import whose
from compare.layout import arrange
from compare.twin import Phase, Twin
from compare.weights.link import Path


def _intercept(
    call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
) -> Any:
    """Tags what modules return; Linen calls it around every method."""
    name, path = context.method_name, "/".join(context.module.path)
    kind = type(context.module).__name__
    if name != "__call__" or not path:
        return call(*args, **kwargs)
    args = tuple(
        tagged(arg, path, f":in.{i}" if len(args) > 1 else ":in", kind)
        for i, arg in enumerate(args)
    )
    return tagged(call(*args, **kwargs), path, "", kind)


def tagged(value: Any, path: str, prefix: str, kind: str) -> Any:
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


def forward(
    twin: Twin,
    model: Any,
    variables: Variables,
    inputs: list,
    call: str | None,
    train: bool,
    key: Any = None,
) -> tuple:
    """Outputs and the collections as the call leaves them.

    Args:
      key: of the model's own random numbers; default a fixed one.
    """
    collections = {k: v for k, v in variables.items() if k != "params"}
    with nn.intercept_methods(_intercept):
        if isinstance(model, nn.Module):
            method = method_of(twin, call, train)
            mode: dict[str, Any] = mode_keywords(model, train, method)
            mutable = list(collections) if train else False
            # "params" stands in for every collection; "dropout" is what a model may ask for.
            names = ("params", "dropout") if train else ("params",)
            key = jax.random.key(0) if key is None else key
            rngs = dict(zip(names, jax.random.split(key, len(names)), strict=True))
            mode |= {"method": method, "mutable": mutable, "rngs": rngs}
            result = model.apply(variables, *inputs, **mode)
            return result if train else (result, collections)
        if bring.is_module(model):
            return _brought(twin, model, variables, inputs, call, train)
        apply, tree = model, {}
        if isinstance(model, tuple):
            apply, tree = model[0], filled(model, flatten_dict(variables))
        with bring.merging(tagged):
            if twin.jax_call:
                output = twin.jax_call(apply, tree, *inputs, train=train)
            else:
                output = apply(tree, *inputs) if isinstance(model, tuple) else apply(*inputs)
        return _updated(model, output, variables)


def _updated(model: Any, output: Any, variables: Variables) -> tuple:
    """An output and the collections; new statistics that an (apply, variables) pair returns as the
    second of two, among other variables or alone, are these.
    """
    flat: dict[Path, Any] = dict(flatten_dict(variables))
    old = {path: x for path, x in flat.items() if path[0] != "params"}
    collections = {k: v for k, v in variables.items() if k != "params"}
    if not (old and isinstance(model, tuple) and type(output) is tuple and len(output) == 2):
        return output, collections
    told, _ = jax.tree_util.tree_flatten_with_path(output[1], is_boxed)
    new = {path_of(keys): unboxed(leaf) for keys, leaf in told}
    where = {path: path if collected(model[1]) else path[1:] for path in old}
    if any(at not in new or np.shape(new[at]) != np.shape(old[path]) for path, at in where.items()):
        return output, collections
    return output[0], unflatten_dict({path: new[at] for path, at in where.items()})


def _brought(
    twin: Twin, model: Any, variables: Variables, inputs: list, call: str | None, train: bool
) -> tuple:
    """The same of an NNX or Equinox module, from a copy that holds the variables."""
    module = bring.filled(model, variables, train)
    with bring.marking(tagged):
        if twin.jax_call:
            output = twin.jax_call(module, *inputs, train=train)
        else:
            mode = mode_keywords(module, train, call)
            output = getattr(module, call or "__call__")(*inputs, **mode)
    if bring.is_nnx(module):
        return output, bring.collections(module)
    return output, {k: v for k, v in variables.items() if k != "params"}


@dataclass
class Traced:
    """A traced call.

    Args:
      program: its jaxpr.
      structure: its output's shapes.
      outputs: suffixes of JAX's outputs -> PyTorch's.
      unlike: whether an output that PyTorch has is missing or of another shape, so that the
        default loss is not the same.
    """

    program: Any = None
    structure: Any = None
    outputs: dict[str, str] = field(default_factory=dict)
    unlike: bool = False


def named(value: Any, suffix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of an output and their suffixes; of a mapping in its own order, not JAX's."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from named(item, f"{suffix}.{key}")
    elif type(value) in (tuple, list):
        for index, item in enumerate(value):
            yield from named(item, f"{suffix}.{index}")
    else:
        for path, leaf in jax.tree_util.tree_flatten_with_path(value)[0]:
            yield suffix + "".join(f".{key_name(key)}" for key in path), leaf


def traced(
    twin: Twin,
    model: Any,
    dtype: Any,
    phase: Phase | None,
    args: tuple,
    outputs: Mapping[str, bool],
) -> Traced:
    """The call of forward (and loss) with every layer tagged.

    Args:
      dtype: of the loss.
      phase: the update in whose training pass; None for the pass in eval mode.
      args: variables, inputs, targets, arrays of the default loss.
      outputs: PyTorch's, by suffix, and whether each is floating.
    """
    found = Traced()

    def products(leaves: Mapping[str, Any], drawn: list) -> Iterator[Any]:
        """The default loss, a product for each floating output of PyTorch's."""
        ours = {found.outputs[suffix]: leaf for suffix, leaf in leaves.items()}
        floating = [suffix for suffix, floats in outputs.items() if floats]
        for suffix, array in zip(floating, drawn, strict=True):
            leaf = ours.get(suffix)
            fits = leaf is not None and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
            fitted = arrange(array, jnp.shape(leaf), twin.layout) if fits else None
            found.unlike |= fitted is None
            if fitted is not None:
                yield (leaf * fitted).sum()

    def run(variables: Variables, inputs: list, targets: list, drawn: list) -> Any:
        call = phase.call if phase else twin.call
        with whose("JAX's model"):
            output, collections = forward(twin, model, variables, inputs, call, phase is not None)
        leaves = dict(named(output))
        found.outputs = paired(list(outputs), list(leaves))
        if phase is None:
            return output
        with jax.named_scope("loss"):
            loss = twin.objective("jax", phase.loss)
            if loss is None:
                value = sum(products(leaves, drawn), jnp.zeros((), dtype))
            else:
                with whose("JAX's loss"):
                    value = loss(output, *targets, *drawn)
        return value, output, collections

    found.program, found.structure = jax.make_jaxpr(run, return_shape=True)(*args)
    return found


def rooted(model: Any) -> bool:
    """Whether Linen opens the name stack with the root module's own name."""
    apply = model[0] if isinstance(model, tuple) else None
    return isinstance(getattr(apply, "__self__", model), nn.Module)
