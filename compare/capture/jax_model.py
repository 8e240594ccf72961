"""JAX's model: its variables by path, the layers that own them, and how it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import nnx

from compare.capture import bring
from compare.errors import DiptychError, whose
from compare.layout import channels_last
from compare.share import to_jax
from compare.twin import Image, Twin
from compare.weights.link import Leaf, Path

Variables = dict[str, Any]


def is_image(twin: Twin, name: str) -> bool:
    """Whether an input or target has its channels moved last for JAX."""
    spec = {**twin.inputs, **twin.targets}.get(name)
    images = isinstance(spec, Image) or (isinstance(spec, np.ndarray) and spec.ndim == 4)
    return images and twin.layout == "NHWC"


def arranged(twin: Twin, name: str, array: np.ndarray) -> np.ndarray:
    """An input or target as JAX's side wants it."""
    return channels_last(array) if is_image(twin, name) else array


def shapes(twin: Twin, model: Any, batch: Mapping[str, np.ndarray]) -> dict[Path, tuple[int, ...]]:
    """Shapes of the model's variables by path, from `eval_shape`: nothing is compiled or run."""
    return {path: tuple(leaf.shape) for path, leaf in structs(twin, model, batch).items()}


def structs(twin: Twin, model: Any, batch: Mapping[str, np.ndarray]) -> dict[Path, Any]:
    with whose("JAX's model"):
        return _structs(twin, model, batch)


def _structs(twin: Twin, model: Any, batch: Mapping[str, np.ndarray]) -> dict[Path, Any]:
    if isinstance(model, tuple):
        leaves = given(model)[0].items()
        return {path: _struct(boxed) for path, boxed in leaves if not _is_random(boxed)}
    if isinstance(model, nn.Module):
        inputs = [to_jax(arranged(twin, name, batch[name])) for name in twin.inputs]
        method = method_of(twin, twin.call, train=False)
        variables = jax.eval_shape(
            lambda: model.init(
                jax.random.key(0), *inputs, method=method, **mode_keywords(model, False, method)
            )
        )
    elif bring.is_module(model):
        return bring.structs(model)
    else:
        return {}
    flat, _ = jax.tree_util.tree_flatten_with_path(nn.meta.unbox(variables))
    return {tuple(key_name(k) for k in path): leaf for path, leaf in flat}


def given(model: tuple) -> tuple[dict[Path, Any], Any]:
    """The leaves of an (apply, variables) pair by path, the collection first, and their structure.

    A leaf may be boxed, in sharding metadata or as a variable of NNX. A key with dots is a path, as
    in a state dict of PyTorch's.

    Raises:
      DiptychError: two leaves have one path.
    """
    flat, structure = jax.tree_util.tree_flatten_with_path(model[1], is_boxed)
    above = () if collected(model[1]) else ("params",)
    found: dict[Path, Any] = {}
    for keys, leaf in flat:
        path = above + path_of(keys)
        if path in found:
            raise DiptychError(f"Twin(jax=(apply, variables)): two leaves are {'/'.join(path)}")
        found[path] = leaf
    return found, structure


def keys(model: Any) -> dict[Path, Path]:
    """Where an (apply, variables) pair has its leaves, by their paths without the collection."""
    if not isinstance(model, tuple):
        return {}
    flat, _ = jax.tree_util.tree_flatten_with_path(model[1], is_boxed)
    above = 1 if collected(model[1]) else 0
    return {path_of(k)[above:]: tuple(map(key_name, k)) for k, _ in flat}


def filled(model: tuple, variables: Mapping[Path, Any]) -> Any:
    """The variables of an (apply, variables) pair with other values, in the user's structure."""
    leaves, structure = given(model)
    if not collected(model[1]):  # PyTorch tells which of them are buffers
        variables = {("params", *path[1:]): value for path, value in variables.items()}
    return jax.tree.unflatten(
        structure,
        [
            boxed if _is_random(boxed) else _boxed(boxed, variables[path])
            for path, boxed in leaves.items()
        ],
    )


def values(twin: Twin, model: Any) -> dict[Path, np.ndarray]:
    """The variables that the porter gives, by path; of a Linen module alone there are none."""
    if isinstance(model, tuple):
        leaves = given(model)[0].items()
        found = {path: unboxed(leaf) for path, leaf in leaves if not _is_random(leaf)}
    elif twin.variables is not None:
        flat, _ = jax.tree_util.tree_flatten_with_path(nn.meta.unbox(twin.variables))
        found = {tuple(key_name(k) for k in path): leaf for path, leaf in flat}
    else:
        found = bring.values(model) if bring.is_module(model) else {}
    return {path: np.asarray(leaf) for path, leaf in found.items() if _is_array(leaf)}


def is_boxed(leaf: Any) -> bool:
    """Whether a leaf of the user's variables is wrapped."""
    return isinstance(leaf, (nn.meta.AxisMetadata, nnx.Variable))


def unboxed(leaf: Any) -> Any:
    """What a leaf of the user's variables holds."""
    if isinstance(leaf, nn.meta.AxisMetadata):
        return leaf.unbox()
    return bring.held(leaf)


def _boxed(box: Any, value: Any) -> Any:
    if isinstance(box, nn.meta.AxisMetadata):
        return box.replace_boxed(value)
    return box.replace(value) if isinstance(box, nnx.Variable) else value


def _struct(boxed: Any) -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: unboxed(boxed))


def _is_random(boxed: Any) -> bool:
    """Whether a leaf is the state of a random generator, which stays the user's own."""
    dtype = getattr(bring.held(boxed), "dtype", None)
    return isinstance(boxed, nnx.RngState) or (
        dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)
    )


def _is_array(leaf: Any) -> bool:
    """Whether a leaf has values: a template of shapes has not."""
    return hasattr(leaf, "dtype") and not isinstance(leaf, jax.ShapeDtypeStruct)


def kinds(
    twin: Twin, model: Any, batch: Mapping[str, np.ndarray], leaves: Mapping[str, Leaf]
) -> dict[Path, str]:
    """The layers that own the variables, as `bring.kind`; in Linen where their layout asks it."""
    if not isinstance(model, nn.Module):
        return bring.kinds(model[1] if isinstance(model, tuple) else model)
    found: dict[Path, str] = {}
    if not any("ConvTranspose" in leaf.layer for leaf in leaves.values()):
        return found

    def record(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        found["params", *context.module.path, "kernel"] = bring.described(context.module)
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        shapes(twin, model, batch)
    return {path: kind for path, kind in found.items() if "ConvTranspose" in kind}


def collected(variables: Any) -> bool:
    """Whether variables are Linen's, by collection, and not bare parameters."""
    return isinstance(variables, Mapping) and "params" in variables


def is_bare(model: Any) -> bool:
    """Whether a model's variables are one tree that does not tell parameters from buffers."""
    pair = isinstance(model, tuple) and not collected(model[1])
    return pair or bring.is_equinox(model)


def is_laid(model: Any) -> bool:
    """Whether a library's layers hold the variables: their names then say their layout."""
    apply, variables = model if isinstance(model, tuple) else (model, model)
    apply = getattr(apply, "func", apply)  # a functools.partial
    return isinstance(getattr(apply, "__self__", apply), nn.Module) or bring.is_module(variables)


def path_of(keys: tuple) -> Path:
    """The path of a leaf of the user's variables; a key with dots is several."""
    return tuple(part for key in keys for part in key_name(key).split("."))


def key_name(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))))


def method_of(twin: Twin, call: str | None, train: bool) -> Callable | str | None:
    if twin.jax_call:
        return lambda module, *inputs: twin.jax_call(module, *inputs, train=train)
    return call


def mode_keywords(model: Any, train: bool, method: Any) -> dict[str, bool]:
    """The mode as the model's own keyword, if it has one."""
    if callable(method) and not isinstance(method, str):
        return {}
    target = getattr(model, method) if method else model.__call__
    names = inspect.signature(target).parameters
    if "train" in names:
        return {"train": train}
    return {"deterministic": not train} if "deterministic" in names else {}
