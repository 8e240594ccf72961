"""One converter for the state of torch.optim and of optax, and the schedule that both follow."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any

import numpy as np

from compare.errors import DiptychError
from compare.share import to_numpy, to_torch

# optax's field -> torch.optim's keys for the same quantity.
SLOTS = {
    "trace": ("momentum_buffer",),
    "ema": ("momentum_buffer",),
    "mu": ("exp_avg", "grad_avg"),
    "nu": ("exp_avg_sq", "square_avg", "exp_inf"),
    "nu_max": ("max_exp_avg_sq",),
    "sum_of_squares": ("sum",),
    "e_g": ("square_avg",),
    "e_x": ("acc_delta",),
}
# What torch.optim keeps per parameter though it is the same for all: one number in an optax state.
NUMBERS = ("mu_product", "eta", "mu")
# The files that hold the optimizers of torch.optim's names.
MODULES = ("optimizers", "adaptive", "moments", "averaging")
START = 3  # updates that a teacher-forced step pretends to have behind it
SCHEDULE = tuple(1 / (1 + 0.1 * step) for step in range(64))
State = dict[str, dict[str, np.ndarray]]  # slot -> parameter's PyTorch name -> array


def torch_optimizer(spec: Any, parameters: list) -> Any:
    """The torch optimizer that a twin names (or makes)."""
    if callable(spec[0]):
        return spec[0](parameters)
    name, keywords = spec
    import torch

    known = {n.lower(): c for n, c in vars(torch.optim).items() if isinstance(c, type)}
    if name == "lbfgs":
        raise DiptychError("optimizer='lbfgs' computes losses of its own: it is no single update")
    if name not in known:
        raise DiptychError(f"optimizer={name!r} is none of torch.optim: {', '.join(sorted(known))}")
    return known[name](parameters, **keywords)


def follow_schedule(spec: Any, optimizer: Any, step: int) -> None:
    """Sets the learning rate of one step; an optimizer that the user made keeps its own."""
    if not callable(spec[0]):
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * SCHEDULE[step]


def optax_optimizer(spec: Any) -> Any:
    """The optax transformation beside `torch_optimizer`, following the same schedule."""
    if callable(spec[0]):
        return spec[1]
    name, keywords = spec
    import jax.numpy as jnp

    modules = [importlib.import_module(f"jaxnn.training.{file}") for file in MODULES]
    make = next((getattr(m, name) for m in modules if name in m.__all__), None)
    if make is None:
        names = ", ".join(known for module in modules for known in module.__all__)
        raise DiptychError(f"optimizer={name!r} is none of jaxnn.training: {names}")
    keywords = dict(keywords)
    rate = keywords.pop("lr")
    return make(lr=lambda count: rate * jnp.asarray(SCHEDULE)[count], **keywords)


def slots(spec: Any) -> list[str]:
    """The per-parameter quantities that the torch optimizer keeps."""
    import torch

    probe = torch.nn.Parameter(torch.ones(1))
    optimizer = torch_optimizer(spec, [probe])
    probe.grad = torch.ones(1)
    optimizer.step()
    return [slot for slot, value in optimizer.state[probe].items() if value is not None]


def unit(spec: Any, update: Callable[[], tuple[Any, Any]]) -> float:
    """What optax's momentum is measured in: 1, PyTorch's unit, or minus the learning rate.

    A chain of the user's own may have the rate before the momentum, as `optax.rmsprop` has: its
    momentum then is what the parameters move by, the same as long as the rate is constant.

    Args:
      update: gives the moves of a first update with gradients of one, and optax's state after it.
    """
    if not callable(spec[0]) or "momentum_buffer" not in slots(spec):
        return 1.0
    import jax
    import torch

    probe = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch_optimizer(spec, [probe])
    probe.grad = torch.ones_like(probe)
    optimizer.step()
    buffer = float(optimizer.state[probe]["momentum_buffer"])
    moves, state = update()
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    held = [np.asarray(leaf) for path, leaf in leaves if _field(path) == "trace"]
    moved = [np.asarray(leaf) for leaf in jax.tree.leaves(moves)]
    # The moves come from a difference of parameters, so they are rounded.
    alike = len(held) == len(moved) and all(map(partial(np.allclose, rtol=1e-6), held, moved))
    return (float(probe.detach()) - 1) / buffer if held and alike else 1.0


def read_torch(optimizer: Any, names: Mapping[Any, str]) -> State:
    """The state by slot and parameter name, not copied; `names` maps parameters to names."""
    state: State = {}
    for parameter, entries in optimizer.state.items():
        for slot, value in entries.items():
            if value is not None:
                array = (
                    to_numpy(value, copy=False) if hasattr(value, "detach") else np.asarray(value)
                )
                if slot == "step":
                    array = array.astype(np.int64)
                state.setdefault(slot, {})[names[parameter]] = array
    return state


def write_torch(optimizer: Any, names: Mapping[Any, str], state: State) -> None:
    """Puts `state` into a torch optimizer, as if START updates had been made.

    On CUDA, too, the numbers that steer an update stay on the CPU, where torch.optim keeps them,
    unless it is one fused kernel.
    """
    import torch

    for parameter, name in names.items():
        fused = any(group.get("fused") for group in optimizer.param_groups)
        home = parameter.device if fused else "cpu"
        optimizer.state[parameter] = {
            slot: torch.tensor(float(START), device=home)
            if slot == "step"
            else to_torch(
                values[name], parameter.dtype, home if slot == "mu_product" else parameter.device
            )
            for slot, values in state.items()
        }


def _is_tree_like(structure: Any) -> Callable[[Any], bool]:
    import jax

    return lambda node: jax.tree.structure(node) == structure


def _is_schedule(node: Any) -> bool:
    """Whether a state counts for a schedule; optax exports not all of these types."""
    return type(node).__name__ in ("ScaleByScheduleState", "WrappedScheduleState")


def _field(path: tuple) -> str:
    """The field of an optax state that a path of its tree ends in."""
    return next((key.name for key in reversed(path) if hasattr(key, "name")), "")


def read_optax(
    state: Any,
    params: Any,
    slots: Container[str],
    to_torch_names: Callable[[Any], dict],
    unit: float = 1.0,
) -> State:
    """The same from an optax state, under torch's names.

    Args:
      slots: the quantities that the torch optimizer keeps; a count that it has not is left out.
      to_torch_names: turns a tree like `params` into arrays by PyTorch's name.
      unit: of optax's momentum.
    """
    import jax

    found: State = {}
    is_tree = _is_tree_like(jax.tree.structure(params))
    entries, _ = jax.tree_util.tree_flatten_with_path(state, is_leaf=is_tree)
    names = list(to_torch_names(params))
    for path, value in entries:
        field = _field(path)
        if is_tree(value):
            known = SLOTS.get(field, (field,))
            if field == "trace":
                value = jax.tree.map(lambda leaf: leaf / unit, value)
            found[next((s for s in known if s in slots), known[0])] = to_torch_names(value)
        elif field in NUMBERS and field in slots:
            found[field] = dict.fromkeys(names, np.asarray(value))
        elif field == "count" and "step" in slots and "step" not in found:
            found["step"] = dict.fromkeys(names, np.asarray(value).astype(np.int64))
    return found


def write_optax(
    spec: Any,
    state: Any,
    params: Any,
    given: State,
    to_tree: Callable[[dict], Any],
    unit: float = 1.0,
) -> Any:
    """`state` with the slots of `given` (PyTorch's names) and every count at START.

    The schedule of an optimizer that the user made begins where PyTorch's does, which nobody sees.
    """
    import jax
    import jax.numpy as jnp

    is_tree = _is_tree_like(jax.tree.structure(params))
    nodes, _ = jax.tree_util.tree_flatten_with_path(state, is_leaf=_is_schedule)
    begun = {path for path, node in nodes if _is_schedule(node) and callable(spec[0])}

    def replaced(path: tuple, value: Any) -> Any:
        field = _field(path)
        if path[:-1] in begun:
            return value
        if is_tree(value):
            slot = next((s for s in SLOTS.get(field, (field,)) if s in given), None)
            if slot is None:
                return value
            scale = unit if field == "trace" else 1.0
            return jax.tree.map(lambda leaf: scale * leaf, to_tree(given[slot]))
        if field in NUMBERS and field in given:
            return jnp.full_like(value, float(next(iter(given[field].values()))))
        return jnp.full_like(value, START) if field == "count" else value

    return jax.tree_util.tree_map_with_path(replaced, state, is_leaf=is_tree)
