"""JAX's model: its variables by path, the layers that own them, and how it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from compare.capture import bring
from compare.errors import whose
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
        variables = jax.eval_shape(lambda: model[1])
    elif isinstance(model, nn.Module):
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
    if isinstance(model, tuple) and not collected(variables):
        variables = {"params": variables}
    flat, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {tuple(key_name(k) for k in path): leaf for path, leaf in flat}


def kinds(
    twin: Twin, model: Any, batch: Mapping[str, np.ndarray], leaves: Mapping[str, Leaf]
) -> dict[Path, str]:
    """The layers that own the variables, as `bring.kind`; in Linen where their layout asks it."""
    if not isinstance(model, nn.Module):
        return bring.kinds(model)
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
