"""The origin as the values tell it, where the layers that were replayed do not."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from compare.capture.operations import Operation, Operations
from compare.finder.alignment import LOSS, OUTPUT, Frontier, align
from compare.finder.found import Origin
from compare.finder.pulled import align_back
from compare.finder.replay import Replay
from compare.ladder import verdict as V
from compare.ladder.pair import REFERENCE

STAGES = ("forward", "gradients")
SETTLED = (("forward", "output"), ("gradients", "gradient"), ("gradients", "param"))
TRANSFORMED = re.compile(r"\w+\(|\)")  # "transpose(jvp(net))/fc"


def settled(replay: Replay, origin: Origin | None) -> Origin | None:
    """The origin as the values tell it, where the layers that were replayed do not.

    A layer that differs alone stays what it is. An origin between two layers, or in one that is
    made of others, becomes the smaller place that the values name inside it; where there is none,
    or where they name another, that is said.
    """
    stages = replay.result.stages
    stage = next((name for name in STAGES if stages[name].verdict == V.DIVERGED), None)
    if stage is None or (origin is not None and (origin.stage, origin.what) not in SETTLED):
        return origin
    wrong = [j for j in stages[stage].judged if j.verdict == V.DIVERGED]
    if not wrong or (origin is not None and origin.stage != stage):
        return origin
    mode = origin.mode if origin else wrong[0].name.partition("/")[0]
    replay.progress("alignment")
    phase, back = replay.phase(mode), stage == "gradients"
    try:
        ours, theirs = (
            replay.pair.run(backend).operations(phase, back) for backend in (REFERENCE, "xla:cpu")
        )
    except Exception as error:  # of a model that runs compiled, but not operation by operation
        note = f"no alignment by value: {type(error).__name__}"
        return origin and replace(origin, note=note)
    front = _back(replay, mode, ours, theirs) if back else align(ours, theirs)
    if front is None:
        return origin
    named = _named(front, stage, mode, max(j.relative for j in wrong))
    if origin is None:
        return named
    paired, owner = replay.result.pairing[mode].pairs, origin.torch.rpartition(".")[0]
    forward = ours.operations[: ours.producers.get(ours.seed)]
    if not _within(front, origin, forward):
        if origin.what == "param" and owner not in paired:
            return named  # of a layer that was not replayed
        return replace(origin, note=f"by value the first difference is {front.where}: {named.note}")
    if origin.what == "param":
        return _told(origin, named)
    place, between = _narrowed(front, origin, forward, paired)
    if (place, between) == (origin.torch, origin.between):
        return _told(origin, named)
    return replace(
        named, torch=place, between=between, within=origin.between,
        difference=origin.difference, replayed=origin.replayed,
        ours=origin.ours, theirs=origin.theirs, key=origin.key,
    )  # fmt: skip


def _back(replay: Replay, mode: str, ours: Operations, theirs: Operations) -> Frontier | None:
    """The frontier of the gradients of parameters and inputs that differ."""
    leaves: dict[str, set[str]] = {}
    for link in replay.pair.weights.links:
        path = "/".join(("gradient", *link.jax[1:]))
        leaves.setdefault(f"gradient/param/{link.torch}", set()).add(path)
    missing, others = set(), set()
    for judged in replay.result.stages["gradients"].judged:
        if judged.verdict == V.DIVERGED and judged.name.startswith(f"{mode}/"):
            name = judged.name.removeprefix(f"{mode}/")
            missing |= {name} & ours.ends.keys()
            others |= leaves.get(name, {name}) & theirs.ends.keys()
    found = ([of.ends[n] for n in names] for of, names in ((ours, missing), (theirs, others)))
    return align_back(ours, theirs, *found)


def _told(origin: Origin, named: Origin) -> Origin:
    """An origin that the values name, too, with what they tell of it."""
    sources = {k: v for k in ("torch_source", "jax_source", "note") if (v := getattr(named, k))}
    return replace(origin, **sources)


def _named(front: Frontier, stage: str, mode: str, difference: float) -> Origin:
    theirs = front.jax[0] if front.jax else None
    place = TRANSFORMED.sub("", theirs.place) if theirs else ""
    return Origin(
        stage,
        _place(front),
        (place or theirs.name) if theirs else "",
        mode,
        "output" if stage == "forward" else "gradient",
        difference=difference,
        between=front.between,
        torch_source=front.torch.source,
        jax_source=next((op.source for op in front.jax if op.source), ""),
        note=front.operations,
    )


def _within(front: Frontier, origin: Origin, operations: list[Operation]) -> bool:
    """Whether a frontier lies in the place, or in the stretch, that is an origin; of a parameter in
    the layer that has it.
    """
    if origin.what == "param":
        return _is_in(front.torch.place, origin.torch.rpartition(".")[0])
    if origin.between is None:
        return any(_is_in(place, origin.torch) for place in (front.torch.place, front.place))
    since, until = _stretch(origin.between, operations)
    return since < front.number <= until or _is_in(front.torch.place, origin.between[1])


def _stretch(between: tuple[str, str], operations: list[Operation]) -> tuple[int, int]:
    """The last operation of one place and the first of another behind it."""
    before, after = (
        [i for i, op in enumerate(operations) if op.place == place]
        or [i for i, op in enumerate(operations) if _is_in(op.place, place)]
        for place in between
    )
    until = next((i for i in after if before and i > before[-1]), (*after, len(operations))[0])
    return max((i for i in before if i < until), default=-1), until


def _narrowed(
    front: Frontier, origin: Origin, operations: list[Operation], paired: Collection[str]
) -> tuple[str, tuple[str, str] | None]:
    """The place of a frontier that lies in an origin, or the origin's own where that is smaller."""
    if origin.between is None:
        layer = any(op.layer and op.place == origin.torch for op in operations)
        # What a module does after the last of its children leads to a place outside of it.
        last = front.between is not None and not _is_in(front.between[1], origin.torch)
        return (origin.torch, None) if layer or last else (_place(front), front.between)
    before, after = origin.between
    if after not in (OUTPUT, LOSS) and not any(_is_in(op.place, after) for op in operations):
        return origin.torch, origin.between  # a layer that computes nothing, but is a place
    since, until = _stretch(origin.between, operations)
    inside = {op.place for op in operations[since + 1 : until] if op.layer}
    inside = {place for place in inside if not (_is_in(place, before) or _is_in(place, after))}
    if front.between:
        first, last = front.between
        between = (first if first in inside else before, last if last in inside else after)
        return (origin.torch, between) if between[1] == after else (between[1], between)
    if _is_in(front.place, after) and after in paired:
        return origin.torch, origin.between
    return front.place, None


def _place(front: Frontier) -> str:
    return front.between[1] if front.between else front.place


def _is_in(place: str, of: str) -> bool:
    """Whether a place is another, or inside it, in whichever of its calls."""
    place, of = place.partition("#")[0], of.partition("#")[0]
    return place == of or place.startswith(f"{of}.")
