"""Twins of training: losses, and what optimizers and schedules make of given numbers."""

from typing import Any

from compare.twins import in_torch


def constant(module: Any, *arrays: Any) -> tuple:
    """The arrays without a gradient."""
    if in_torch(module):
        return tuple(array.detach() for array in arrays)
    import jax

    return jax.lax.stop_gradient(arrays)


def updated(module: Any, name: str, weight: Any, gradients: Any, **keywords: Any) -> Any:
    """A weight after an update by each of the gradients; what it is has no gradient itself."""
    make = getattr(module, name)
    weight, gradients = constant(module, weight, gradients)
    if in_torch(module):
        import torch

        parameter = torch.nn.Parameter(weight.clone())
        optimizer = make([parameter], **keywords)
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
        return parameter.detach()
    import optax

    transformation = make(**keywords)
    state = transformation.init(weight)
    for gradient in gradients:
        updates, state = transformation.update(gradient, state, weight)
        weight = optax.apply_updates(weight, updates)
    return weight


def rates(module: Any, scale: Any, name: str, *args: Any, steps: int = 12, **keywords: Any) -> Any:
    """The rates of a schedule from step 0 on, times `scale`, which says on which device."""
    make = getattr(module, name)
    if not in_torch(module):
        import jax
        import jax.numpy as jnp

        first = () if name in PEAKED else (LR,)
        values = jax.vmap(make(*first, *args, **keywords))(jnp.arange(steps))
        return scale * jnp.broadcast_to(values, steps)
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=LR)
    turning = {"cycle_momentum": False} if name in PEAKED else {}
    found = _stepped(optimizer, make(optimizer, *args, **turning, **keywords), steps)
    return scale * scale.new_tensor(found)


LR = 0.3
PEAKED = ("cyclic_lr", "one_cycle_lr")  # schedules that name their rates themselves


def _stepped(optimizer: Any, scheduler: Any, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found
