"""The same computations without the harness, each run in a process of its own by `measure`."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable
from typing import Any

from compare.bench import steps
from compare.errors import DiptychError

REFERENCE_RUNS = (("float64", 3, True), ("float32", 5, False), ("float64", 6, False))


def by_hand(name: str) -> None:
    """Everything that `check` computes of a twin, without capture and without comparison."""
    from compare.api import prepare
    from compare.discover import find
    from compare.ladder.pair import Pair

    prepare()
    pair = Pair(find(name)[0])
    for dtype, count, trajectory in REFERENCE_RUNS:
        for _ in range(count):
            _torch(pair, dtype, trajectory)
    for dtype, trajectory in (("float64", True), ("float32", False)):
        _jax(pair, dtype, trajectory)


def slipped(name: str) -> None:
    """`find` on a twin whose loss has twice its gradient in JAX.

    Raises:
      DiptychError: it found nothing.
    """
    from compare import api
    from compare.capture import heap

    twin = _doubled(name)
    heap.one()
    report = api.find(twin, progress=heap.trimmed(lambda twin, doing: None))
    if report.origin is None:
        raise DiptychError(f"{name}: the doubled gradient was not found")


def unaligned(name: str) -> None:
    """The same without the alignment by value."""
    from compare.finder import finder

    finder.settled = lambda replay, origin: origin
    slipped(name)


def aligned(name: str) -> None:
    """The alignment by value alone, forward and back.

    Raises:
      DiptychError: it found nothing.
    """
    from compare.api import prepare
    from compare.capture import heap
    from compare.finder.pulled import align_back
    from compare.ladder.pair import REFERENCE, Pair

    prepare()
    heap.one()
    pair = Pair(_doubled(name))
    ours, theirs = (
        pair.run(backend).operations(pair.twin.updates[0], True)
        for backend in (REFERENCE, "xla:cpu")
    )
    missing, others = (
        [value for name, value in of.ends.items() if name.startswith("gradient/")]
        for of in (ours, theirs)
    )
    if align_back(ours, theirs, missing, others) is None:
        raise DiptychError(f"{name}: the doubled gradient was not found")


def _doubled(name: str) -> Any:
    """A twin whose loss is the same on both sides, and its gradient in JAX twice PyTorch's."""
    import jax

    from compare.discover import find

    (twin,) = find(name)
    ours, theirs = (_objective(twin, side) for side in ("torch", "jax"))

    def doubled(*given: Any) -> Any:
        loss = theirs(*given)
        return 2 * loss - jax.lax.stop_gradient(loss)

    return dataclasses.replace(twin, loss=(ours, doubled))


def _objective(twin: Any, side: str) -> Callable:
    objective = twin.objective(side, twin.loss)
    if objective is None or len(twin.updates) > 1:
        raise DiptychError(f"{twin.name} has not one loss; name a twin that has")
    return objective


def torch_step(name: str) -> None:
    """One step of PyTorch's model: forward, backward, update."""
    steps.torch_training(_trained(name), "float64")()


def jax_step(name: str) -> None:
    """One step of JAX's model: forward, backward, update, in one program."""
    steps.jax_training(_trained(name), "float64")()


def torch_steps(name: str) -> None:
    """Prints the seconds of one step in float32 (see `stepping`)."""
    _trained(name)
    print(steps.median(steps.torch_training(steps.sized(name), "float32"), 9))


def jax_steps(name: str) -> None:
    """The same of JAX's model."""
    _trained(name)
    print(steps.median(steps.jax_training(steps.sized(name), "float32"), 9))


def _trained(name: str) -> Any:
    """A twin that has one loss, which both sides can be held to."""
    from compare.discover import find

    (twin,) = find(name)
    _objective(twin, "torch")
    return twin


def _torch(pair: Any, dtype: str, trajectory: bool) -> None:
    import torch

    from compare.weights.optim import torch_optimizer

    twin, given, kind = pair.twin, pair.given, getattr(torch, dtype)
    model = copy.deepcopy(pair.model).to(kind)
    phase = twin.updates[0]
    objective = twin.objective("torch", phase.loss)

    def tensors(batch: dict, names: Any) -> list:
        made = [torch.from_numpy(batch[name]) for name in names]
        return [x.to(kind) if x.is_floating_point() else x for x in made]

    def load() -> None:
        model.load_state_dict({k: torch.from_numpy(v) for k, v in given.state.items()})

    def forward() -> None:
        model.eval()
        with torch.no_grad():
            model(*tensors(given.batch, twin.inputs))
        model.train()

    def backward(batch: dict) -> None:
        inputs = [x.requires_grad_(x.is_floating_point()) for x in tensors(batch, twin.inputs)]
        model.zero_grad()
        objective(model(*inputs), *tensors(batch, twin.targets)).backward()

    load()
    forward()
    for _ in range(2):  # the free update and the teacher-forced one
        optimizer = torch_optimizer(phase.optimizer, list(model.parameters()))
        if _ == 0:
            backward(given.batch)
        optimizer.step()
    if trajectory:
        load()
        optimizer = torch_optimizer(phase.optimizer, list(model.parameters()))
        for batch in twin.batches(pair.seed, given.steps):
            backward(batch)
            optimizer.step()
        forward()


def _jax(pair: Any, dtype: str, trajectory: bool) -> None:
    import jax
    import optax
    from flax.traverse_util import unflatten_dict

    from compare.capture.jax_model import arranged
    from compare.share import to_jax
    from compare.weights.optim import optax_optimizer

    twin, given, model = pair.twin, pair.given, pair.jax_model
    phase = twin.updates[0]
    objective = twin.objective("jax", phase.loss)

    def arrays(batch: dict, names: Any) -> list:
        return [to_jax(arranged(twin, name, batch[name]), dtype) for name in names]

    with jax.enable_x64(dtype == "float64"):
        flat = pair.weights.to_jax(given.state)
        variables = unflatten_dict({path: to_jax(a, dtype) for path, a in flat.items()})
        start = variables
        transformation = optax_optimizer(phase.optimizer)

        @jax.jit
        def forward(variables: Any, inputs: list) -> Any:
            return model.apply(variables, *inputs, train=False)

        @jax.jit
        def backward(variables: Any, inputs: list, targets: list) -> Any:
            rest = {k: v for k, v in variables.items() if k != "params"}

            def loss(params: Any, inputs: list) -> Any:
                whole = {**rest, "params": params}
                output, new = model.apply(whole, *inputs, train=True, mutable=list(rest))
                return objective(output, *targets), new

            return jax.value_and_grad(loss, (0, 1), has_aux=True)(variables["params"], inputs)

        @jax.jit
        def update(gradients: Any, state: Any, params: Any) -> Any:
            updates, state = transformation.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        inputs, targets = arrays(given.batch, twin.inputs), arrays(given.batch, twin.targets)
        jax.block_until_ready(forward(variables, inputs))
        (_, _), (gradients, _) = backward(variables, inputs, targets)
        for _ in range(2):
            state = transformation.init(variables["params"])
            jax.block_until_ready(update(gradients, state, variables["params"]))
        del gradients
        if trajectory:
            state = transformation.init(start["params"])
            for batch in twin.batches(pair.seed, given.steps):
                args = arrays(batch, twin.inputs), arrays(batch, twin.targets)
                (_, new), (gradients, _) = backward(variables, *args)
                params, state = update(gradients, state, variables["params"])
                variables = {**variables, **new, "params": params}
            jax.block_until_ready(forward(variables, inputs))


def main() -> None:
    """Runs one of them, `by_hand NAME`; a mistake of the user's is one line, as of the command."""
    finds = (slipped, unaligned, aligned)
    given = (by_hand, *finds, torch_step, jax_step, torch_steps, jax_steps)
    processes = {each.__name__: each for each in given}
    _, what, name = sys.argv
    try:
        processes[what](name)
    except DiptychError as error:
        sys.exit(f"diptych: {error}")
