"""One training step of either framework without the harness: every phase, forward, back, update.

In bfloat16 the parameters, the optimizer's state and what batch norm keeps are float32 on both
sides: PyTorch computes under `torch.autocast`, which chooses by operation; in JAX parameters and
inputs are cast, so that every operation but the loss is in bfloat16. TF32 is off on both sides.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from compare import Array, Image, Labels, Twin
from compare.twin import Phase, generator

# Images of a batch and their side where a step of the published size would take too long.
STEPPED = {"cnn/resnet:resnet18": (16, 64)}
Step = Callable[[], None]


def sized(name: str) -> Twin:
    """A twin at the size at which its steps are timed: the published one, or that in `STEPPED`."""
    from compare.discover import find

    (twin,) = find(name)
    return pictured(twin, *STEPPED[name]) if name in STEPPED else twin.published()


def pictured(twin: Twin, batch: int, size: int) -> Twin:
    """A classifier of images at its published width, on other images."""
    twin = twin.published()
    images = {"x": Image(batch, twin.inputs["x"].c, size, size)}
    classes = {"labels": Labels(batch, twin.targets["labels"].classes)}
    return dataclasses.replace(twin, inputs=images, targets=classes)


def attention(batch: int, length: int, width: int, heads: int) -> Twin:
    """Self-attention with its four projections; the catalogue's is of many kinds at once."""
    return Twin(
        name="layers/attention:MultiheadAttention",
        config={"embed_dim": width, "num_heads": heads, "batch_first": True},
        inputs={"x": Array((batch, length, width))},
        optimizer=("adam", {"lr": 1e-3}),
        layout="same",
        torch_call=lambda layer, x: layer(x, x, x, need_weights=False)[0],
        jax_call=lambda layer, x, train: layer(x, x, x, need_weights=False, train=train)[0],
    )


def median(step: Step, count: int, device: str = "cpu") -> float:
    """Seconds of a step, the median of `count` that follow three untimed ones.

    Args:
      device: "cuda" for PyTorch's own clock of the device; a step of JAX's waits by itself.
    """
    for _ in range(3):
        step()
    return statistics.median(_seconds(step, device) for _ in range(count))


def _seconds(step: Step, device: str) -> float:
    if device == "cuda":
        import torch

        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def torch_training(twin: Twin, dtype: str, device: str = "cpu", compiled: bool = False) -> Step:
    """PyTorch's training step of a twin's first batch, to be called again and again.

    Args:
      dtype: "float64", "float32" or "bfloat16".
      compiled: by `torch.compile`: the model, not the optimizer.
    """
    import torch

    from compare.capture.torch_model import trained
    from compare.capture.torch_precision import multiplied
    from compare.share import to_torch
    from compare.weights.optim import torch_optimizer

    low = dtype == "bfloat16"
    kind = torch.float32 if low else getattr(torch, dtype)
    batch = twin.draw(generator(0, "inputs"))
    model = twin.build("torch").to(device, kind).train()
    inputs, targets = (
        [to_torch(batch[n], kind, device) for n in names] for names in (twin.inputs, twin.targets)
    )
    cast = functools.partial(torch.autocast, device, torch.bfloat16, enabled=low)

    def prepared(phase: Phase) -> tuple[Callable, Callable, Any]:
        call = getattr(model, phase.call) if phase.call else model
        if twin.torch_call:
            call = functools.partial(twin.torch_call, model)
        call = torch.compile(call) if compiled else call
        objective = twin.objective("torch", phase.loss)
        if objective is None:
            with torch.no_grad():
                shape = tuple(call(*inputs).shape)
            drawn = generator(0, "cotangent").standard_normal(shape)
            weights = to_torch(drawn, kind, device)
            objective = lambda output: (output * weights).sum()  # noqa: E731
        parameters = list(trained(model, phase).values())
        return call, objective, torch_optimizer(phase.optimizer, parameters)

    phases = [prepared(phase) for phase in twin.updates]

    def step() -> None:
        with multiplied(tf32=False):
            for call, objective, optimizer in phases:
                model.zero_grad()
                with cast():
                    loss = objective(call(*inputs), *targets)
                loss.backward()
                optimizer.step()

    return step


def jax_training(twin: Twin, dtype: str, device: str = "cpu") -> Step:
    """The same of JAX: one program, which is given the memory of what it replaces."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax.traverse_util import flatten_dict, unflatten_dict

    from compare.capture.jax_model import arranged, method_of, mode_keywords, shapes
    from compare.share import to_jax
    from compare.weights.optim import optax_optimizer

    low, where = dtype == "bfloat16", jax.devices(device)[0]
    kind = "float32" if low else dtype
    batch = twin.draw(generator(0, "inputs"))
    model, rng = twin.build("jax"), generator(0, "weights")
    transformations = [optax_optimizer(phase.optimizer) for phase in twin.updates]

    def cast(tree: Any, to: Any) -> Any:
        floating = lambda x: jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
        return jax.tree.map(lambda x: x.astype(to) if low and floating(x) else x, tree)

    def trained_by(phase: Phase, params: Any) -> Any:
        return {p: v for p, v in params.items() if re.search(phase.trains, ".".join(p))}

    def updated(phase: Phase, transformation: Any, held: Any, inputs: list, targets: list) -> Any:
        params, rest, state = held
        method = method_of(twin, phase.call, train=True)
        mode = mode_keywords(model, True, method) | {"method": method}
        objective = twin.objective("jax", phase.loss)

        def loss(trained: Any) -> Any:
            whole = cast(unflatten_dict({**params, **trained}), jnp.bfloat16)
            variables, given = {**rest, "params": whole}, cast(inputs, jnp.bfloat16)
            output, new = model.apply(variables, *given, mutable=list(rest), **mode)
            output, new = cast(output, jnp.float32), cast(new, jnp.float32)
            if objective is None:
                drawn = generator(0, "cotangent").standard_normal(output.shape).astype(kind)
                return (output * drawn).sum(), new
            return objective(output, *targets), new

        trained = trained_by(phase, params)
        gradients, new = jax.grad(loss, has_aux=True)(trained)
        updates, state = transformation.update(gradients, state, trained)
        moved: Any = optax.apply_updates(trained, updates)
        return params | moved, new, state

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def program(params: Any, rest: Any, states: list, inputs: list, targets: list) -> Any:
        new = []
        for phase, each, state in zip(twin.updates, transformations, states, strict=True):
            params, rest, state = updated(phase, each, (params, rest, state), inputs, targets)
            new.append(state)
        return params, rest, new

    @contextlib.contextmanager
    def settings() -> Iterator[None]:
        precision = jax.default_matmul_precision("default" if low else "highest")
        with jax.enable_x64(dtype == "float64"), jax.default_device(where), precision:
            yield

    with settings():
        variables = unflatten_dict(
            {
                path: to_jax(0.02 * rng.standard_normal(s) + ("params" not in path), kind, where)
                for path, s in shapes(twin, model, batch).items()
            }
        )
        params = flatten_dict(variables.pop("params"))
        inputs, targets = (
            [to_jax(arranged(twin, name, batch[name]), kind, where) for name in names]
            for names in (twin.inputs, twin.targets)
        )
        states = [
            each.init(trained_by(phase, params))
            for phase, each in zip(twin.updates, transformations, strict=True)
        ]
        held = [params, variables, states]

    def step() -> None:
        with settings():
            held[:] = jax.block_until_ready(program(*held, inputs, targets))

    return step


def gigabytes(side: str, device: str) -> float:
    """Peak memory: the device's, as the framework's allocator counts; on the CPU the process's."""
    if device == "cpu":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if side == "torch":
        import torch

        return torch.cuda.max_memory_allocated() / 2**30
    import jax

    stats = jax.devices(device)[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use", 0) / 2**30
