"""Benchmarks: what the harness costs beside what a user would run instead, as ratios."""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NoReturn

from compare.errors import DiptychError
from compare.workers import cores

# Images of a batch and their side where a step of the published size would take too long.
STEPPED = {"cnn/resnet:resnet18": (16, 64)}
COLUMNS = {"seconds": "seconds", "gigabytes": "peak GB"}
REFERENCE_RUNS = (("float64", 3, True), ("float32", 5, False), ("float64", 6, False))


def overhead(name: str) -> dict[str, Any]:
    """Seconds and peak memory of `check` and of the same computations written by hand.

    Each runs in a process of its own, with an empty compilation cache.

    Returns: {"check": {"seconds", "gigabytes"}, "by_hand": the same, "ratio": the same}.
    """
    check = _measured([sys.executable, "-m", "compare", "check", name, "-q"])
    by_hand = _measured([sys.executable, "-m", "compare.bench", "by_hand", name])
    return {"name": name, "check": check, "by_hand": by_hand, "ratio": _ratio(check, by_hand)}


def finding(name: str) -> dict[str, Any]:
    """Seconds and peak memory of `find`, and of one training step of both models by hand.

    What is found is a slip in the loss: the pass that trains is replayed, which costs the most.
    Each runs in a process of its own, in float64; those of the two steps are summed.

    Returns: {"find": {"seconds", "gigabytes"}, "by_hand": the same, "ratio": the same}.
    """
    find, ours, theirs = (
        _measured([sys.executable, "-m", "compare.bench", what, name])
        for what in ("slipped", "torch_step", "jax_step")
    )
    by_hand = {key: ours[key] + theirs[key] for key in ours}
    return {"name": name, "find": find, "by_hand": by_hand, "ratio": _ratio(find, by_hand)}


def stepping(name: str) -> dict[str, Any]:
    """Seconds of one training step of either model on the CPU in float32, at the published size.

    ResNet-18 takes 16 images of 64 pixels. Each side runs in a process of its own, on all cores
    that this one may use; in JAX the step is one program, whose compilation is not counted.

    Returns: {"threads", "jax": {"seconds"}, "torch": the same, "ratio": the same}.
    """
    threads = cores()
    ours, theirs = (
        {"seconds": float(_output([sys.executable, "-m", "compare.bench", what, name], threads))}
        for what in ("jax_steps", "torch_steps")
    )
    return {
        "name": name,
        "threads": threads,
        "jax": ours,
        "torch": theirs,
        "ratio": _ratio(ours, theirs),
    }


def _output(command: list[str], threads: int) -> str:
    """What a command prints; PyTorch is given as many threads as XLA takes by itself."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        _failed(command, done.stderr)
    return done.stdout


def _ratio(measured: dict[str, float], by_hand: dict[str, float]) -> dict[str, float]:
    return {key: measured[key] / by_hand[key] for key in measured}


def _measured(command: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as cache:
        started = time.perf_counter()
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                command,
                env={**os.environ, "JAX_COMPILATION_CACHE_DIR": cache},
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            errors.seek(0)
            text = errors.read().decode(errors="replace")
    if os.waitstatus_to_exitcode(status):
        _failed(command, text)
    return {"seconds": seconds, "gigabytes": usage.ru_maxrss / 2**20}


def _failed(command: list[str], errors: str) -> NoReturn:
    last = errors.strip().splitlines()[-1:] or ["no reason given"]
    raise DiptychError(f"{' '.join(command[1:])} failed: {last[0]}")


def by_hand(name: str) -> None:
    """Everything that `check` computes of a twin, without capture and without comparison."""
    from compare.api import prepare
    from compare.discover import find
    from compare.ladder import Pair

    prepare()
    pair = Pair(find(name)[0])
    for dtype, count, trajectory in REFERENCE_RUNS:
        for _ in range(count):
            _torch(pair, dtype, trajectory)
    for dtype, trajectory in (("float64", True), ("float32", False)):
        _jax(pair, dtype, trajectory)


def slipped(name: str) -> None:
    """`find` on a twin whose loss is doubled in JAX.

    Raises:
      DiptychError: it found nothing.
    """
    from compare import api, discover, heap

    (twin,) = discover.find(name)
    ours, theirs = (_objective(twin, side) for side in ("torch", "jax"))
    twin = dataclasses.replace(twin, loss=(ours, lambda *given: 2 * theirs(*given)))
    heap.one()
    report = api.find(twin, progress=heap.trimmed(lambda twin, doing: None))
    if report.origin is None:
        raise DiptychError(f"{name}: the doubled loss was not found")


def _objective(twin: Any, side: str) -> Callable:
    objective = twin.objective(side, twin.loss)
    if objective is None or len(twin.updates) > 1:
        raise DiptychError(f"{twin.name} has not one loss; name a twin that has")
    return objective


def torch_step(name: str) -> None:
    """One step of PyTorch's model: forward, backward, update."""
    from compare.discover import find

    _torch_training(find(name)[0], "float64")()


def jax_step(name: str) -> None:
    """One step of JAX's model: forward, backward, update, in one program."""
    from compare.discover import find

    _jax_training(find(name)[0], "float64")()


def torch_steps(name: str) -> None:
    """Prints the seconds of one step in float32 (see `stepping`)."""
    print(_median(_torch_training(_sized(name), "float32")))


def jax_steps(name: str) -> None:
    """The same of JAX's model."""
    print(_median(_jax_training(_sized(name), "float32")))


def _sized(name: str) -> Any:
    """A twin at the size at which its steps are timed: the published one, or that in `STEPPED`."""
    from compare.discover import find

    (twin,) = find(name)
    twin = twin.published()
    if name in STEPPED:
        batch, size = STEPPED[name]
        image, labels = twin.inputs["x"], twin.targets["labels"]
        image = dataclasses.replace(image, n=batch, h=size, w=size)
        labels = dataclasses.replace(labels, n=batch)
        twin = dataclasses.replace(twin, inputs={"x": image}, targets={"labels": labels})
    return twin


def _median(step: Callable[[], None]) -> float:
    """Seconds of a step, the median of nine that follow three untimed ones."""
    seconds = []
    for _ in range(3 + 9):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[3:])


def _torch_training(twin: Any, dtype: str) -> Callable[[], None]:
    """PyTorch's training step of a twin's first batch, to be called again and again."""
    import torch

    from compare.optim import torch_optimizer
    from compare.twin import generator

    phase, batch = twin.updates[0], twin.draw(generator(0, "inputs"))
    objective, kind = _objective(twin, "torch"), getattr(torch, dtype)
    model = twin.build("torch").to(kind).train()
    optimizer = torch_optimizer(phase.optimizer, list(model.parameters()))
    inputs, targets = (
        [x.to(kind) if x.is_floating_point() else x for x in map(torch.from_numpy, given)]
        for given in ([batch[n] for n in twin.inputs], [batch[n] for n in twin.targets])
    )

    def step() -> None:
        optimizer.zero_grad()
        objective(model(*inputs), *targets).backward()
        optimizer.step()

    return step


def _jax_training(twin: Any, dtype: str) -> Callable[[], None]:
    """The same of JAX: one program, which is given the memory of what it replaces."""
    import jax
    import optax
    from flax.traverse_util import unflatten_dict

    from compare.capture.jax_side import arranged, shapes
    from compare.optim import optax_optimizer
    from compare.share import to_jax
    from compare.twin import generator

    phase, batch = twin.updates[0], twin.draw(generator(0, "inputs"))
    model, rng = twin.build("jax"), generator(0, "weights")
    objective = _objective(twin, "jax")
    transformation = optax_optimizer(phase.optimizer)

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def program(params: Any, rest: Any, state: Any, inputs: list, targets: list) -> Any:
        def loss(params: Any) -> Any:
            variables = {**rest, "params": params}
            output, new = model.apply(variables, *inputs, train=True, mutable=list(rest))
            return objective(output, *targets), new

        gradients, new = jax.grad(loss, has_aux=True)(params)
        updates, state = transformation.update(gradients, state, params)
        return optax.apply_updates(params, updates), new, state

    with jax.enable_x64(dtype == "float64"):
        variables = unflatten_dict(
            {
                path: to_jax(0.02 * rng.standard_normal(shape) + ("params" not in path), dtype)
                for path, shape in shapes(twin, model, batch).items()
            }
        )
        params = variables.pop("params")
        inputs, targets = (
            [to_jax(arranged(twin, name, batch[name]), dtype) for name in names]
            for names in (twin.inputs, twin.targets)
        )
        held = [params, variables, transformation.init(params)]

    def step() -> None:
        with jax.enable_x64(dtype == "float64"):
            held[:] = jax.block_until_ready(program(*held, inputs, targets))

    return step


def _torch(pair: Any, dtype: str, trajectory: bool) -> None:
    import torch

    from compare.optim import torch_optimizer

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

    from compare.capture.jax_side import arranged
    from compare.optim import optax_optimizer
    from compare.share import to_jax

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


def alarms(runs: int, progress: Callable[[str, str], None]) -> list[dict[str, Any]]:
    """Clean runs, which ought to raise no alarm: the catalogue in turn, each with its own seed.

    Returns: a row per run: twin, seed, verdict, the worst share of what is allowed on either tier.
    """
    from compare.api import check
    from compare.discover import catalogue

    twins = list(catalogue().values())
    rows = []
    for seed in range(runs):
        twin = twins[seed % len(twins)]
        report = check(twin, seed=seed, progress=progress)
        stages = report.twins[0]["stages"]
        rows.append(
            {
                "twin": twin.name,
                "seed": seed,
                "verdict": report.verdict,
                "float64": max(
                    (s["worst"] / s["limit"] for s in stages if s["limit"]), default=0.0
                ),
                "float32": max((s["f32_worst"] or 0.0 for s in stages), default=0.0),
                "finding": next((f for s in stages for f in s["findings"]), ""),
            }
        )
    return rows


def tabulated(rows: list[dict[str, Any]]) -> str:
    """Rows as tab-separated text with a heading."""
    lines = ["\t".join(rows[0])]
    for row in rows:
        cells = (f"{v:.2g}" if isinstance(v, float) else str(v) for v in row.values())
        lines.append("\t".join(cells))
    return "\n".join(lines) + "\n"


def rendered(measured: dict[str, Any]) -> str:
    """The table of `overhead`, `finding` and `stepping` as text."""
    rows = {key: row for key, row in measured.items() if isinstance(row, dict)}
    columns = next(iter(rows.values()))
    heading = "".join(f"{COLUMNS[column]:>10}" for column in columns)
    lines = [f"{measured['name']:24}{heading}"]
    for key, row in rows.items():
        lines.append(f"{key.replace('_', ' '):24}" + "".join(f"{row[c]:>10.4g}" for c in columns))
    return "\n".join(lines)


if __name__ == "__main__":
    given = (by_hand, slipped, torch_step, jax_step, torch_steps, jax_steps)
    processes = {each.__name__: each for each in given}
    processes[sys.argv[1]](sys.argv[2])
