"""The place where two models part, taken out of PyTorch's model, to look for a cause with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.capture import called
from compare.capture.given import mode_name
from compare.differences import Site
from compare.ladder import REFERENCE
from compare.optim import SCHEDULE, START, torch_optimizer
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
    tensors = replay.reference(origin.mode)
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
    tensors, info = replay.reference(origin.mode), replay.result.info[origin.mode]
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
    phase = _phase(replay, origin.mode)
    ours, theirs = np.asarray(origin.ours), np.asarray(origin.theirs)
    for call in replay.pair.run(REFERENCE).calls(phase, "loss"):
        assert call.function is not None
        own = to_numpy(call.function(*call.args, **call.kwargs))
        if own.shape != ours.shape:
            continue
        yield Site(
            call.function.__name__,
            "loss",
            own + (theirs - ours),
            own,
            call.args,
            None,
            call.function,
            call.args,
            call.kwargs,
        )


def _update(replay: Replay, origin: Origin) -> Iterator[Site]:
    """The teacher-forced update of one parameter."""
    phase = _phase(replay, origin.mode)
    if phase is None or origin.what != "update" or not origin.torch.startswith("param/"):
        return
    pair, name = replay.pair, origin.torch.removeprefix("param/")
    given = pair.given
    values = []
    for backend in (REFERENCE, "xla:cpu"):
        for section in pair.run(backend).sections(trajectory=False):
            key = f"{origin.mode}/forced/param/{name}"
            if key in section.tensors:
                values.append(np.array(section.tensors[key]))
                break
    import torch

    probe = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch_optimizer(phase.optimizer, [probe])
    group = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    if not isinstance(phase.optimizer[0], str):
        group["lr"] = optimizer.param_groups[0]["lr"]
    else:
        group["lr"] = phase.optimizer[1].get("lr", group["lr"]) * SCHEDULE[START]
    yield Site(
        type(optimizer).__name__,
        "update",
        values[1],
        values[0],
        optimizer={
            "options": group,
            "gradient": given.gradients[phase.name][name].astype(np.float64),
            "param": given.state[name].astype(np.float64),
            "state": {
                slot: np.asarray(of[name], np.float64)
                for slot, of in given.optimizer[phase.name].items()
            },
            "step": START,
        },
    )
