"""Flax NNX and Equinox modules as JAX's side: their leaves by path, and their layers tagged.

A module is never run itself, nor changed: each trace gets a copy that holds the given variables. In
the copy, every submodule's class is replaced by a subclass that knows the submodule's path and tags
what `__call__` returns. A class survives what takes a module apart and puts it together again (jit,
remat, scan, vmap); an identity or a hook would not.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from compare.errors import DiptychError
from compare.weights.link import Path

Mark = Callable[[Any, str, str, str], Any]
LIBRARIES = {"flax.linen.": "Linen", "flax.nnx.nn.": "NNX", "equinox.nn.": "Equinox"}
_here: contextvars.ContextVar[str] = contextvars.ContextVar("path of the open module", default="")
_mark: contextvars.ContextVar[Mark | None] = contextvars.ContextVar("tags a value", default=None)
# The identity, under which a batch axis of `jax.vmap` comes first, where PyTorch has it.
leading = Primitive("diptych_leading")
leading.def_impl(lambda x: x)
leading.def_abstract_eval(lambda x: x)
ad.deflinear2(leading, lambda cotangent, _: [cotangent])
mlir.register_lowering(leading, lambda _, x: [x])


def _batched(args: tuple, axes: tuple) -> tuple:
    return leading.bind(jnp.moveaxis(args[0], axes[0], 0)), 0


batching.primitive_batchers[leading] = _batched


def _equinox() -> Any:
    """Equinox, where the user has imported it."""
    return sys.modules.get("equinox")


def is_nnx(model: Any) -> bool:
    return isinstance(model, nnx.Module)


def is_equinox(model: Any) -> bool:
    equinox = _equinox()
    return equinox is not None and isinstance(model, equinox.Module)


def is_module(model: Any) -> bool:
    """Whether a model is one of NNX's or Equinox's modules."""
    return is_nnx(model) or is_equinox(model)


def structs(model: Any) -> dict[Path, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a module's leaves by path, the collection first.

    Raises:
      DiptychError: for a layer of Equinox that keeps `eqx.nn.State`.
    """
    leaves = values(model).items()
    return {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in leaves}


def kind(module: Any) -> str:
    """The library's layer that a module is, or is derived from: "NNX Linear"; else its class."""
    for cls in type(module).__mro__:
        for prefix, library in LIBRARIES.items():
            if cls.__module__.startswith(prefix) and cls.__module__ != "flax.linen.module":
                return f"{library} {cls.__name__}"
    return type(module).__name__


def kinds(model: Any) -> dict[Path, str]:
    """The kind of the layer that owns each leaf of an NNX or Equinox module, where it has one."""
    if not is_module(model):
        return {}
    owners = dict(modules(model))
    found = {}
    for path in values(model):
        owner = owners.get(path[1:-1])
        if owner is not None and " " in kind(owner):
            found[path] = described(owner)
    return found


def described(module: Any) -> str:
    """A layer's kind, and what of it decides the layout of its weight."""
    return kind(module) + (
        " with transpose_kernel" if getattr(module, "transpose_kernel", False) else ""
    )


def modules(model: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The submodules of an NNX or Equinox module, each once, with their paths."""
    if is_nnx(model):
        for path, module in nnx.iter_graph(model):
            if isinstance(module, nnx.Module):
                yield tuple(map(str, path)), module
        return
    equinox = _equinox()

    def inside(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        yield path, node
        children, _ = jax.tree_util.tree_flatten_with_path(
            node, is_leaf=lambda x: x is not node and isinstance(x, equinox.Module)
        )
        for keys, child in children:
            if isinstance(child, equinox.Module):
                yield from inside(child, path + _names(keys))

    yield from inside(model, ())


def values(model: Any) -> dict[Path, Any]:
    """The arrays that a module holds, by path; raises as `structs` does."""
    if is_nnx(model):
        flat = nnx.to_flat_state(nnx.split(model)[1])
        return {_nnx_path(path, v): held(v) for path, v in flat if _is_leaf(v)}
    stateful = _equinox().nn.StateIndex
    flat, _ = jax.tree_util.tree_flatten_with_path(model, lambda x: isinstance(x, stateful))
    found = {}
    for keys, leaf in flat:
        if isinstance(leaf, stateful):
            raise DiptychError(
                f"Twin(jax=...): {'/'.join(_names(keys))} keeps eqx.nn.State, which cannot be"
                " carried: give (apply, variables), with the statistics among the variables"
            )
        if _equinox().is_array(leaf):
            found[_equinox_path(keys, leaf)] = leaf
    return found


def _is_leaf(variable: Any) -> bool:
    """Whether an NNX variable is one that PyTorch could have: no random state, not empty."""
    return not isinstance(variable, nnx.RngState) and hasattr(held(variable), "shape")


def held(variable: Any) -> Any:
    """What an NNX variable holds; an array that is no variable is its own."""
    return variable.get_value() if isinstance(variable, nnx.Variable) else variable


def _nnx_path(path: tuple, variable: Any) -> Path:
    if isinstance(variable, nnx.Param):
        collection = "params"
    elif isinstance(variable, nnx.BatchStat):
        collection = "batch_stats"
    else:
        collection = "buffers"
    return (collection, *map(str, path))


def _equinox_path(keys: tuple, leaf: Any) -> Path:
    collection = "params" if _equinox().is_inexact_array(leaf) else "buffers"
    return (collection, *_names(keys))


def _names(keys: tuple) -> tuple[str, ...]:
    return tuple(
        str(next(getattr(k, n) for n in ("key", "idx", "name") if hasattr(k, n))) for k in keys
    )


def filled(model: Any, variables: Mapping[str, Any], train: bool) -> Any:
    """A copy of a module with the given variables, in a mode, its submodules' classes tagging.

    Dropout stays deterministic.
    """
    flat = flatten_dict(variables)
    if is_nnx(model):
        graph, state = nnx.split(model)
        given = []
        for path, variable in nnx.to_flat_state(state):
            value = flat.get(_nnx_path(path, variable), held(variable))
            own = isinstance(variable, nnx.Variable)
            given.append((path, variable.replace(value) if own else value))
        copy = nnx.merge(graph, nnx.from_flat_state(given))
        copy.train() if train else copy.eval()
        for _, module in nnx.iter_graph(copy):
            if isinstance(module, nnx.Dropout):
                module.deterministic = True
        return _tagging_nnx(copy)
    flat = {path[1:]: value for path, value in flat.items()}
    leaves, structure = jax.tree_util.tree_flatten_with_path(model)
    copy = jax.tree.unflatten(
        structure,
        [flat[_names(keys)] if _equinox().is_array(leaf) else leaf for keys, leaf in leaves],
    )
    return _tagging_equinox(_equinox().nn.inference_mode(copy, not train), ())


def _tagging_nnx(model: Any) -> Any:
    for path, module in nnx.iter_graph(model):
        if isinstance(module, nnx.Module) and path and callable(module):
            cls = _tagging(type(module), "/".join(map(str, path)))
            object.__setattr__(module, "__class__", cls)
    return model


def _tagging_equinox(node: Any, path: tuple[str, ...]) -> Any:
    equinox = _equinox()
    children, structure = jax.tree_util.tree_flatten_with_path(
        node, is_leaf=lambda x: x is not node and isinstance(x, equinox.Module)
    )
    children = [
        _tagging_equinox(child, path + _names(keys)) if isinstance(child, equinox.Module) else child
        for keys, child in children
    ]
    copy = jax.tree.unflatten(structure, children)
    own = type(copy)
    # Equinox's wrappers of functions (filter_jit, …) are modules, too, but no layers.
    if not path or not callable(copy) or own.__module__.startswith("equinox._"):
        return copy
    tagged = object.__new__(_tagging(own, "/".join(path)))
    vars(tagged).update(vars(copy))
    if isinstance(copy, equinox.nn.Dropout):
        object.__setattr__(tagged, "inference", True)
    return tagged


@functools.cache
def _tagging(cls: type, path: str) -> type:
    """A subclass for the submodule at a path: what it is given and what it returns is tagged."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        mark, outer = _mark.get(), _here.get()
        if mark is None:
            return cls.__call__(self, *args, **kwargs)
        inner = path.removeprefix(f"{outer}/") if outer else path
        token = _here.set(path)
        try:
            with jax.named_scope(inner):
                args = tuple(
                    mark(_led(arg), path, f":in.{i}" if len(args) > 1 else ":in", cls.__name__)
                    for i, arg in enumerate(args)
                )
                output = cls.__call__(self, *args, **kwargs)
        finally:
            _here.reset(token)
        return mark(_led(output), path, "", cls.__name__)

    names = {"__call__": __call__, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls)(cls.__name__, (cls,), names)


def _led(value: Any) -> Any:
    """A value with the batch axes of `jax.vmap` first; what is returned twice stays one value."""
    led: dict[int, Any] = {}

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, jax.core.Tracer) or jax.dtypes.issubdtype(
            leaf.dtype, jax.dtypes.extended
        ):
            return leaf
        if id(leaf) not in led:
            led[id(leaf)] = leading.bind(leaf)
        return led[id(leaf)]

    return jax.tree.map(one, value)


@contextlib.contextmanager
def marking(mark: Mark) -> Iterator[None]:
    """Inside, the layers of filled modules tag what they return by `mark`."""
    token = _mark.set(mark)
    try:
        yield
    finally:
        _mark.reset(token)


@contextlib.contextmanager
def merging(mark: Mark) -> Iterator[None]:
    """Inside, modules that a function puts together (`nnx.merge`, `eqx.combine`) tag as well."""
    makers: list[tuple] = [(nnx, "merge", is_nnx, _tagging_nnx)]
    if _equinox() is not None:
        makers.append((_equinox(), "combine", is_equinox, lambda tree: _tagging_equinox(tree, ())))

    def wrapped(make: Callable, is_ours: Callable, tagging: Callable) -> Callable:
        @functools.wraps(make)
        def merge(*args: Any, **kwargs: Any) -> Any:
            made = make(*args, **kwargs)
            return tagging(made) if is_ours(made) else made

        return merge

    with contextlib.ExitStack() as stack, marking(mark):
        for library, name, is_ours, tagging in makers:
            make = getattr(library, name)
            stack.callback(setattr, library, name, make)
            setattr(library, name, wrapped(make, is_ours, tagging))
        yield


def collections(module: Any) -> dict[str, Any]:
    """NNX's variables that are no parameters, as the call left them."""
    flat = {path: value for path, value in values(module).items() if path[0] != "params"}
    return unflatten_dict(flat)
