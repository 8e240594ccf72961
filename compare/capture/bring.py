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
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from compare.errors import DiptychError
from compare.weights import Path

Mark = Callable[[Any, str, str, str], Any]

_here: contextvars.ContextVar[str] = contextvars.ContextVar("path of the open module", default="")
_mark: contextvars.ContextVar[Mark | None] = contextvars.ContextVar("tags a value", default=None)

# The identity, under which a batch axis of `jax.vmap` comes first, where PyTorch has it.
leading = Primitive("diptych_leading")
leading.def_impl(lambda x: x)
leading.def_abstract_eval(lambda x: x)
ad.deflinear2(leading, lambda cotangent, _: [cotangent])
mlir.register_lowering(leading, lambda _, x: [x])


def _batched(args: tuple, axes: tuple) -> tuple:
    return leading.bind(batching.moveaxis(args[0], axes[0], 0)), 0


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


def shapes(model: Any) -> dict[Path, tuple[int, ...]]:
    """Shapes of a module's leaves by path, the collection first.

    Raises:
      DiptychError: for a layer of Equinox that keeps `eqx.nn.State`.
    """
    return {path: tuple(leaf.shape) for path, leaf in _leaves(model).items()}


def _leaves(model: Any) -> dict[Path, Any]:
    if is_nnx(model):
        flat = nnx.to_flat_state(nnx.split(model)[1])
        return {_nnx_path(path, v): v.get_value() for path, v in flat if _is_leaf(v)}
    flat, _ = jax.tree_util.tree_flatten_with_path(model)
    found = {}
    for keys, leaf in flat:
        if isinstance(leaf, _equinox().nn.StateIndex) or _stateful(leaf):
            raise DiptychError(_REFUSED)
        if _equinox().is_array(leaf):
            found[_equinox_path(keys, leaf)] = leaf
    return found


_REFUSED = (
    "Twin(jax=...) has an Equinox layer with eqx.nn.State (BatchNorm, SpectralNorm), which cannot"
    " be carried: give (apply, variables) with its statistics as arrays"
)


def _stateful(leaf: Any) -> bool:
    return type(leaf).__name__ == "_Sentinel"


def _is_leaf(variable: Any) -> bool:
    """Whether an NNX variable is one that PyTorch could have: no random state, not empty."""
    value = variable.get_value()
    return not isinstance(variable, nnx.RngState) and hasattr(value, "shape")


def _nnx_path(path: tuple, variable: Any) -> Path:
    if isinstance(variable, nnx.Param):
        collection = "params"
    elif isinstance(variable, nnx.BatchStat):
        collection = "batch_stats"
    else:
        collection = type(variable).__name__.lower()
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
            own = variable.get_value()
            given.append((path, variable.replace(flat.get(_nnx_path(path, variable), own))))
        copy = nnx.merge(graph, nnx.from_flat_state(given))
        copy.train() if train else copy.eval()
        for path, module in nnx.iter_graph(copy):
            if isinstance(module, nnx.Dropout):
                module.deterministic = True
            if isinstance(module, nnx.Module) and path and callable(module):
                cls = _tagging(type(module), "/".join(map(str, path)))
                object.__setattr__(module, "__class__", cls)
        return copy
    leaves, structure = jax.tree_util.tree_flatten_with_path(model)
    copy = jax.tree.unflatten(
        structure,
        [
            flat[_equinox_path(keys, leaf)] if _equinox().is_array(leaf) else leaf
            for keys, leaf in leaves
        ],
    )
    return _tagging_equinox(_equinox().nn.inference_mode(copy, not train), ())


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


def collections(module: Any) -> dict[str, Any]:
    """The variables that are no parameters, as the call left them."""
    flat = {path: value for path, value in _leaves(module).items() if path[0] != "params"}
    return unflatten_dict(flat)
