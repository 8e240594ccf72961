"""The place where two models part, taken out of PyTorch's model, to look for a cause with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.capture.distance import norm
from compare.capture.taps import called
from compare.differences.catalogue import Site
from compare.finder.recognised import recognised
from compare.ladder import verdict as V
from compare.ladder.pair import REFERENCE
from compare.share import to_numpy, to_torch
from compare.weights.optim import SCHEDULE, START, follow_schedule, torch_optimizer

if TYPE_CHECKING:
    from compare.capture.torch_recorder import Call
    from compare.finder.found import Origin
    from compare.finder.replay import Replay


def sites(replay: Replay, origin: Origin) -> Iterator[Site]:
    """The origin as the catalogue of differences wants it; several where it is not clear."""
    if origin.stage in ("step", "trajectory"):
        yield from _update(replay, origin)
    elif origin.what == "loss":
        yield from _loss(replay, origin)
    elif origin.ours is not None and origin.theirs is not None:
        yield from _layer(replay, origin)


def _layer(replay: Replay, origin: Origin) -> Iterator[Site]:
    what, name, place = origin.what, "", origin.torch
    ours, theirs = np.asarray(origin.ours), np.asarray(origin.theirs)
    if what in ("param", "buffer"):
        place, _, name = origin.torch.rpartition(".")
    info = replay.result.info[origin.mode]
    glue = Site("glue", what, theirs, ours, _before(replay, origin))
    if origin.between:
        after = info.get(origin.between[1])
        glue.towards = after.kind if after else ""
        for call in _giving(replay, origin) if what == "output" else ():
            yield from recognised(call, theirs, ours)
        yield from _functions(replay, origin, glue.towards)
        glue.cotangent = ours
        yield glue
        return
    key = called(place, info[place]) if place in info else place
    call = next(iter(replay.pair.run(REFERENCE).calls(replay.phase(origin.mode), key)), None)
    if call is None:
        return
    kind = type(call.module).__name__ if call.module is not None else info[place].kind
    if what == "output" and call.module is not None and not _is_layer(call.module):
        yield from recognised(call, theirs, ours)
        yield from _functions(replay, origin)
        yield glue  # what it does after the last of its children
        return
    tensors = replay.reference(origin.mode)
    outputs = [k for k in info if called(k, info[k]) == key]
    cotangents = [tensors.get(f"{origin.mode}/gradient/layer/{k}") for k in outputs or [place]]
    fields = replay.hyperparameters(origin.jax)
    for named in dict.fromkeys((kind, info[place].kind if place in info else kind)):
        yield Site(
            named,
            what,
            theirs,
            ours,
            call.args,
            call.module,
            call.function,
            call.args,
            call.kwargs,
            cotangents[0] if len(cotangents) == 1 else cotangents,
            name,
            fields,
            output=outputs.index(place) if place in outputs else 0,
        )


def _giving(replay: Replay, origin: Origin) -> Iterator[Call]:
    """The calls of modules of the user's own that give what a stretch comes to."""
    ours, mode = np.asarray(origin.ours), origin.mode
    for key, tap in replay.result.info[mode].items():
        value = replay.reference(mode).get(f"{mode}/layer/{key}")
        if tap.function or value is None or not np.array_equal(value, ours):
            continue
        for call in replay.pair.run(REFERENCE).calls(replay.phase(mode), called(key, tap))[:1]:
            if call.module is not None and not _is_layer(call.module):
                yield call


def _functions(replay: Replay, origin: Origin, towards: str = "") -> Iterator[Site]:
    """Every function that the glue calls; of several calls alike first all, then each."""
    program, known = replay.program(origin.mode)
    ours, theirs = np.asarray(origin.ours), np.asarray(origin.theirs)
    cotangents: dict[Any, Any] = {}
    if origin.what == "output":
        if origin.key in program.inputs:
            targets = [program.inputs[origin.key]]
        else:  # the output of a layer that calls others
            targets = [program.source(origin.key)]
            known = {r: value for r, value in known.items() if r not in targets}

        def result(change: dict[int, Callable]) -> Any:
            return program.run(targets, known, change)[0]
    else:
        source = program.source(origin.key)
        for own, gradient in replay.used(origin.mode, origin.key).values():
            cotangents[own] = to_torch(gradient) + cotangents.get(own, 0.0)
        targets, known = list(cotangents), {r: v for r, v in known.items() if r not in cotangents}
        known[source] = program.outputs[source][1]

        def result(change: dict[int, Callable]) -> Any:
            return program.gradient(source, cotangents, known, change)

    alike: dict[Any, list[int]] = {}
    for index in program.stretch(targets, known)[0]:
        alike.setdefault(program.ops[index].form, []).append(index)
    several = [[index] for group in alike.values() if len(group) > 1 for index in group]
    for group in (*alike.values(), *several):
        op = program.ops[group[0]]
        yield Site(
            op.name,
            origin.what,
            theirs,
            ours,
            op.args,
            None,
            op.function,
            op.args,
            op.kwargs,
            within=lambda call, group=group: result(dict.fromkeys(group, call)),
            towards=towards,
        )
    if origin.what == "gradient" and len(cotangents) > 1:
        for own in cotangents:  # one of the ways that the value takes
            others = {r: gradient for r, gradient in cotangents.items() if r != own}
            yield Site(
                "glue",
                origin.what,
                theirs,
                ours,
                within=lambda _, others=others: program.gradient(source, others, known, {}),
                towards=towards,
            )


def _is_layer(module: Any) -> bool:
    """Whether a module is one of PyTorch's, not one that calls others or functions."""
    return type(module).__module__.startswith("torch.nn")


def _before(replay: Replay, origin: Origin) -> tuple[Any, ...]:
    """What a piece of glue may have been made of: the outputs before it, the latest first."""
    tensors, prefix = replay.reference(origin.mode), f"{origin.mode}/layer/"
    earlier = []
    for name, value in tensors.items():
        if name == f"{prefix}{origin.torch}" or value is origin.ours:
            break
        if name.startswith(prefix) and ":in" not in name:
            earlier.append(to_torch(value))
    inputs = replay.pair.given.batch.values()
    given = [to_torch(a.astype(np.float64) if a.dtype.kind == "f" else a) for a in inputs]
    return (*earlier[::-1], *given)


def _loss(replay: Replay, origin: Origin) -> Iterator[Site]:
    """The functions that the loss calls; what one of them should have given, if it is to blame."""
    phase = replay.phase(origin.mode)
    ours, theirs = np.asarray(origin.ours), np.asarray(origin.theirs)
    for call in replay.pair.run(REFERENCE).calls(phase, "loss"):
        assert call.function is not None
        own = to_numpy(call.function(*call.args, **call.kwargs))
        if own.shape != ours.shape:
            continue
        wanted = own + (theirs - ours)
        if norm(wanted) <= V.RELATIVE * norm(own):  # left out: a zero confirms no edit of it
            continue
        yield Site(
            call.function.__name__,
            "loss",
            wanted,
            own,
            call.args,
            None,
            call.function,
            call.args,
            call.kwargs,
        )


def _update(replay: Replay, origin: Origin) -> Iterator[Site]:
    """The teacher-forced update of one parameter; where that is the same, the first one."""
    phase, name = replay.phase(origin.mode), origin.torch.removeprefix("param/")
    if phase is None:
        return
    given, mode = replay.pair.given, origin.mode
    import torch

    step = 0 if origin.what == "start" and name in given.state else START
    optimizer = torch_optimizer(phase.optimizer, [torch.nn.Parameter(torch.zeros(1))])
    follow_schedule(phase.optimizer, optimizer, step)
    options = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}

    def site(what: str, name: str, theirs: np.ndarray, ours: np.ndarray) -> Site:
        gradient, state = given.gradients[phase.name][name], given.optimizer[phase.name]
        if what == "start":
            gradient, state = replay.reference(mode)[f"{mode}/gradient/param/{name}"], {}
        context = {
            "options": options,
            "gradient": gradient.astype(np.float64),
            "param": given.state[name].astype(np.float64),
            "state": {slot: np.asarray(of[name], np.float64) for slot, of in state.items()},
            "step": step,
            "schedule": () if callable(phase.optimizer[0]) else SCHEDULE,
        }
        return Site(type(optimizer).__name__, what, theirs, ours, name=name, optimizer=context)

    if origin.what == "update":
        ours, theirs = updated(replay, f"{mode}/forced/param/")
        if name in ours and name in theirs:
            found = site("update", name, theirs[name], ours[name])
            others = [n for n in ours if n in theirs and n != name]
            found.optimizer = {
                **found.optimizer,
                "others": lambda: (site("update", n, theirs[n], ours[n]) for n in others),
            }
            yield found
    elif name in given.state:
        ours, theirs = updated(replay, f"{mode}/free/param/")
        if name in ours and name in theirs:
            yield site("start", name, theirs[name], ours[name])
    else:
        ours, theirs = updated(replay, f"{mode}/forced/state/")
        alone = next((n for n in theirs if n not in ours), None)
        if alone is not None:
            value = theirs[alone]
            yield site("state", alone.partition("/")[2], value, np.zeros_like(value))


def updated(replay: Replay, prefix: str) -> Iterator[dict[str, np.ndarray]]:
    """What an update leaves under a prefix, of PyTorch's side and of JAX's."""
    for backend in (REFERENCE, "xla:cpu"):
        found: dict[str, np.ndarray] = {}
        for section in replay.pair.run(backend).sections(trajectory=False):
            found = {n: np.array(v) for n, v in section.tensors.items() if n.startswith(prefix)}
            if found:
                break
        yield {n.removeprefix(prefix): value for n, value in found.items()}
