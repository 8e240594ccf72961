"""The place where two models part, taken out of PyTorch's model, to look for a cause with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from compare import verdict as V
from compare.capture import called
from compare.capture.given import mode_name
from compare.differences import Site
from compare.ladder import REFERENCE
from compare.optim import SCHEDULE, START, follow_schedule, torch_optimizer
from compare.share import to_numpy, to_torch

if TYPE_CHECKING:
    from compare.finder import Origin, Replay


def sites(replay: Replay, origin: Origin) -> Iterator[Site]:
    """The origin as the catalogue of differences wants it; several where it is not clear."""
    if origin.stage in ("step", "trajectory"):
        yield from _update(replay, origin)
    elif origin.what == "loss":
        yield from _loss(replay, origin)
    elif origin.ours is not None and origin.theirs is not None:
        yield from _layer(replay, origin)


def _phase(replay: Replay, mode: str) -> Any:
    return {mode_name(phase): phase for phase in replay.pair.twin.updates}.get(mode)


def _layer(replay: Replay, origin: Origin) -> Iterator[Site]:
    what, name, place = origin.what, "", origin.torch
    ours, theirs = np.asarray(origin.ours), np.asarray(origin.theirs)
    if what in ("param", "buffer"):
        place, _, name = origin.torch.rpartition(".")
    info = replay.result.info[origin.mode]
    glue = Site("glue", what, theirs, ours, _before(replay, origin))
    if origin.between:
        if what == "output":
            yield from _alone(replay, origin)
            yield from _unrecorded(glue)
        glue.cotangent = ours
        yield glue
        return
    key = called(place, info[place]) if place in info else place
    call = next(iter(replay.pair.run(REFERENCE).calls(_phase(replay, origin.mode), key)), None)
    if call is None:
        return
    kind = type(call.module).__name__ if call.module is not None else info[place].kind
    if what == "output" and call.module is not None and not _is_layer(call.module):
        yield from _alone(replay, origin)
        yield from _unrecorded(glue)
        yield glue  # what it does after the last of its children
        return
    tensors = replay.reference()
    cotangent = tensors.get(f"{origin.mode}/gradient/layer/{place}")
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
            cotangent,
            name,
            fields,
        )


def _alone(replay: Replay, origin: Origin) -> Iterator[Site]:
    """The layer that only PyTorch has, if glue is that layer and a change of shape."""
    ours, theirs = np.asarray(origin.ours), np.asarray(origin.theirs)
    tensors, info = replay.reference(), replay.result.info[origin.mode]
    for key in replay.result.pairing[origin.mode].torch_only:
        value = tensors.get(f"{origin.mode}/layer/{key}")
        if (
            value is None
            or value.size != theirs.size
            or not np.array_equal(value.ravel(), ours.ravel())
        ):
            continue
        place = called(key, info[key])
        for call in replay.pair.run(REFERENCE).calls(_phase(replay, origin.mode), place):
            kinds = [type(call.module).__name__] if call.module is not None else []
            for kind in dict.fromkeys([*kinds, info[key].kind]):
                yield Site(
                    kind,
                    "output",
                    theirs.reshape(value.shape),
                    value,
                    call.args,
                    call.module,
                    call.function,
                    call.args,
                    call.kwargs,
                )


def _unrecorded(glue: Site) -> Iterator[Site]:
    """An elementwise function between two layers that no capture records: it is recognised."""
    import torch
    from torch.nn import functional

    before = glue.inputs[0] if glue.inputs else None
    if before is None or before.shape != glue.ours.shape or not before.is_floating_point():
        return
    for function in (torch.tanh, functional.logsigmoid, functional.softsign, torch.exp):
        if np.array_equal(to_numpy(function(before)), glue.ours):
            given = (before,)
            yield Site(
                function.__name__, "output", glue.theirs, glue.ours, given, None, function, given
            )


def _is_layer(module: Any) -> bool:
    """Whether a module is one that computes, not one that calls others."""
    return type(module).__module__.startswith("torch.nn") or not any(module.children())


def _before(replay: Replay, origin: Origin) -> tuple[Any, ...]:
    """What a piece of glue may have been made of: the outputs before it, the latest first."""
    tensors, prefix = replay.reference(), f"{origin.mode}/layer/"
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
    phase = _phase(replay, origin.mode)
    ours, theirs = np.asarray(origin.ours), np.asarray(origin.theirs)
    for call in replay.pair.run(REFERENCE).calls(phase, "loss"):
        assert call.function is not None
        own = to_numpy(call.function(*call.args, **call.kwargs))
        if own.shape != ours.shape:
            continue
        wanted = own + (theirs - ours)
        if V.norm(wanted) <= V.RELATIVE * V.norm(own):  # left out: a zero confirms no edit of it
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
    phase, name = _phase(replay, origin.mode), origin.torch.removeprefix("param/")
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
            gradient, state = replay.reference()[f"{mode}/gradient/param/{name}"], {}
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
        ours, theirs = _updated(replay, f"{mode}/forced/param/")
        if name in ours and name in theirs:
            found = site("update", name, theirs[name], ours[name])
            others = [n for n in ours if n in theirs and n != name]
            found.optimizer = {
                **found.optimizer,
                "others": lambda: (site("update", n, theirs[n], ours[n]) for n in others),
            }
            yield found
    elif name in given.state:
        ours, theirs = _updated(replay, f"{mode}/free/param/")
        yield site("start", name, theirs[name], ours[name])
    else:
        ours, theirs = _updated(replay, f"{mode}/forced/state/")
        alone = next((n for n in theirs if n not in ours), None)
        if alone is not None:
            value = theirs[alone]
            yield site("state", alone.partition("/")[2], value, np.zeros_like(value))


def _updated(replay: Replay, prefix: str) -> Iterator[dict[str, np.ndarray]]:
    """What an update leaves under a prefix, of PyTorch's side and of JAX's."""
    for backend in (REFERENCE, "xla:cpu"):
        found: dict[str, np.ndarray] = {}
        for section in replay.pair.run(backend).sections(trajectory=False):
            found = {n: np.array(v) for n, v in section.tensors.items() if n.startswith(prefix)}
            if found:
                break
        yield {n.removeprefix(prefix): value for n, value in found.items()}
