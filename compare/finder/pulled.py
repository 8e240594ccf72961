"""Where two backward passes part, by the gradients that they have in common.

The forward passes agree, so that all of their values are known on both sides. From the gradients
that differ the search goes back, as in `alignment`, to the first operations that are given known
gradients and give unknown ones. Where one side alone has such an operation, the other cuts the
gradient: what cuts it is looked for in its forward pass.
"""

from __future__ import annotations

from collections.abc import Collection

from compare.capture.operations import INTEGERS, Operation, Operations
from compare.finder.alignment import (
    INPUT,
    OUTPUT,
    Frontier,
    Side,
    after_of,
    before_of,
    listed,
    shown,
)

SUMS = frozenset("add add_any".split())  # where a value is read more than once
# What lets no gradient through.
CUTS = frozenset(
    "stop_gradient detach round floor ceil trunc sign argmax argmin eq ne lt le gt ge is_finite"
    " isfinite isnan isinf logical_not bitwise_not and or not".split()
)


def align_back(
    ours: Operations, theirs: Operations, missing: Collection[int], others: Collection[int]
) -> Frontier | None:
    """The forward operation of PyTorch's behind which, going back, no gradient has a counterpart.

    Args:
      ours, theirs: PyTorch's pass and JAX's, forward and back.
      missing, others: the gradients that differ, of either.
    """
    torch, jax = Side(ours, theirs), Side(theirs, ours)
    torch.meet(jax)
    jax.meet(torch)
    candidates = torch.frontier(missing, "gradient")
    partners = [op for _, op in jax.frontier(others, "gradient")]
    partners = [p for p in partners if not (_is_end(p) or _explained(p, jax, torch))]

    def shared(op: Operation, gradient: bool) -> list[Operation]:
        """JAX's that read the same gradients, or the same values of the forward pass."""
        return [p for p in partners if _both_read(op, p, torch, gradient) and p.moves <= op.moves]

    def rank(item: tuple[int, Operation]) -> tuple[bool, bool, bool, bool, bool, int]:
        number, op = item
        prints = [ours.prints[v] for v in op.gives]
        trivial = bool(prints) and all(p is not None and p.trivial for p in prints)
        explained = _is_end(op) or _explained(op, torch, jax)
        unmet = not shared(op, True), not shared(op, False)
        return explained, trivial, op.name in SUMS, *unmet, number

    _, op = min(candidates, key=rank, default=(0, None))
    if op is None or _is_end(op) or _explained(op, torch, jax):
        lone = [p for p in partners if p.name not in SUMS] or partners
        return _cut_in_torch(lone[0], lone[0].reads, torch, jax) if lone else None
    of, met = op.of, shared(op, True)
    if op.name in SUMS:
        alone = [v for v in op.reads if not any(_added(jax, j) for j in torch.alike[v])]
        if len(alone) == len(op.reads):  # JAX has one of them as the whole
            whole = [v for v in op.reads if any(set(torch.alike[v]) & set(p.reads) for p in met)]
            known = {ours.operations[ours.producers[v]].of for v in whole if v in ours.producers}
            if of is not None and (front := _cut_in_jax(of, torch, jax, known)):
                return front
        elif alone and alone[0] in ours.producers:  # to the other JAX adds something else
            of = ours.operations[ours.producers[alone[0]]].of
            met = [p for p in met if set(torch.alike[alone[0]]) & set(p.reads)]
    elif met and all(p.name in SUMS for p in met):  # which is PyTorch's whole
        known = {j for v in op.reads for j in torch.alike[v]}
        return _cut_in_torch(met[0], [v for v in met[0].reads if v not in known], torch, jax)
    elif not met and of is not None and (front := _cut_in_jax(of, torch, jax)):
        return front
    if of is None:
        return None
    met = met or shared(op, False)
    rest = f"; JAX goes on from the same gradient with {listed(met)}" if met else ""
    words = f"the gradient of {shown(ours.operations[of])} has no counterpart{rest}"
    return _placed(ours, of, tuple(met), words)


def _is_end(op: Operation) -> bool:
    """Whether it stands for a gradient that the other side has, and goes on from."""
    return not op.gives


def _both_read(ours: Operation, theirs: Operation, torch: Side, gradient: bool) -> bool:
    reads = [v for v in ours.reads if torch.of.gradients[v] == gradient]
    return any(set(torch.alike[v]) & set(theirs.reads) for v in reads)


def _explained(op: Operation, here: Side, there: Side) -> bool:
    """Whether the gradients that an operation is given are complete here, and not there."""
    return any(
        not _added(here, v) and any(_added(there, j, unknown=True) for j in here.alike[v])
        for v in op.reads
        if here.of.gradients[v]
    )


def _added(side: Side, value: int, unknown: bool = False) -> bool:
    """Whether a gradient is added to one; `unknown`: to one that has no counterpart."""
    readers = (side.of.operations[i] for i in side.of.readers.get(value, ()))
    sums = [op for op in readers if op.name in SUMS]
    return any(not (unknown and all(side.known[v] for v in op.reads)) for op in sums)


def _cut_in_jax(
    of: int, torch: Side, jax: Side, known: Collection[int | None] = ()
) -> Frontier | None:
    """A gradient that PyTorch alone has, where something in JAX's forward pass cuts it.

    Args:
      of: PyTorch's operation.
      known: those that read the same value, and whose gradients JAX has.
    """
    ours, op = torch.of, torch.of.operations[of]
    ways = ((op.reads, _above), (op.gives, _below))
    found = (look(jax, j) for values, look in ways for v in values for j in _same(torch, jax, v))
    for cut in next(filter(None, found), []):
        for value in (v for read in cut.reads for v in _same(jax, torch, read)):
            readers = [i for i in ours.readers.get(value, ()) if i not in known]
            if value in ours.given:  # a weight that is used again, or an input
                readers = [i for i in readers if i <= of][-1:]
            if readers:
                reader = of if of in readers else readers[0]
                line = op if of not in known else ours.operations[reader]
                words = f"JAX has no gradient of {shown(line)}: {shown(cut)} cuts it"
                return _behind(ours, value, reader, (cut,), words)
    return None


def _cut_in_torch(op: Operation, reads: Collection[int], torch: Side, jax: Side) -> Frontier | None:
    """A gradient that JAX alone has; the place is where PyTorch's forward pass cuts it.

    Args:
      reads: what its operation makes it of.
    """
    ours, words = torch.of, f"PyTorch has no gradient where JAX has {shown(op)}"
    given = {v for read in reads if jax.of.gradients[read] for v in jax.alike[read]}
    made = [(ours.operations[ours.producers[v]].of, v) for v in given if ours.gradients[v]]
    # Each belongs to a value that this operation of the forward pass reads.
    behind, value = min(((of, v) for of, v in made if of is not None), default=(None, None))
    values = [ours.ends["loss"]]
    if behind is not None and value is not None:
        values = [v for v in ours.operations[behind].reads if _size(ours, v) == _size(ours, value)]
    makers = [ours.producers[v] for v in values if v in ours.producers]
    for number in makers:
        for read in ours.operations[number].reads:
            for cut in _above(torch, read):
                line = f"{words}: {shown(cut)} cuts it"
                return _behind(ours, cut.reads[0], ours.producers[cut.gives[0]], (op,), line)
    return _placed(ours, makers[0], (op,), words) if makers else None


def _same(side: Side, other: Side, value: int) -> list[int]:
    """The values of the other's forward pass that are the same."""
    return [j for j in side.alike[value] if not other.of.gradients[j]]


def _size(of: Operations, value: int) -> int | None:
    print_ = of.prints[value]
    return None if print_ is None else print_.size


def _above(side: Side, value: int) -> list[Operation]:
    """What cuts every way from a value back to what is given; nothing where one is open."""
    waiting, seen, cuts = [value], set(), []
    while waiting:
        value = waiting.pop()
        if side.of.given.get(value, INTEGERS) != INTEGERS:
            return []
        number = side.of.producers.get(value)
        if number is None or number in seen or side.of.gradients[value]:
            continue
        seen.add(number)
        op = side.of.operations[number]
        if op.name not in CUTS:
            waiting += op.reads
        elif any(_is_open(side.of, v) for v in op.reads):
            cuts.append(op)
    return cuts


def _is_open(of: Operations, value: int) -> bool:
    """Whether a value is made of anything that could have a gradient."""
    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if of.given.get(value, INTEGERS) != INTEGERS:
            return True
        number = of.producers.get(value)
        if number is not None and number not in seen:
            seen.add(number)
            waiting += of.operations[number].reads
    return False


def _below(side: Side, value: int) -> list[Operation]:
    """What cuts every way from a value on to the loss; nothing where one is open."""
    waiting, seen, cuts = [value], set(), []
    while waiting:
        value = waiting.pop()
        if value == side.of.ends.get("loss"):
            return []
        for number in side.of.readers.get(value, ()):
            op = side.of.operations[number]
            if number in seen or any(side.of.gradients[v] for v in op.gives):
                continue
            seen.add(number)
            if op.name in CUTS:
                cuts.append(op)
            else:
                waiting += op.gives
    return cuts


def _placed(ours: Operations, number: int, jax: tuple[Operation, ...], words: str) -> Frontier:
    """A frontier at an operation of the forward pass; of a weight's, at what reads it."""
    op = ours.operations[number]
    while (
        op.moves and not any(ours.depends[v][0] for v in op.reads) and op.gives[0] in ours.readers
    ):
        number = ours.readers[op.gives[0]][0]
        op = ours.operations[number]
    if op.layer:
        return Frontier(number, op, jax, op.place, None, words)
    between = (before_of(ours, op), after_of(ours, number, op, OUTPUT))
    return Frontier(number, op, jax, "", between, words)


def _behind(
    ours: Operations, value: int, number: int, jax: tuple[Operation, ...], words: str
) -> Frontier:
    """A frontier between a value and the operation of the forward pass that reads it."""
    if not ours.depends[value][0]:
        return _placed(ours, number, jax, words)
    op, made = ours.operations[number], ours.producers.get(value)
    before, after = INPUT, op.place if op.layer else after_of(ours, number, op, OUTPUT)
    if made is not None:
        maker = ours.operations[made]
        before = maker.place if maker.layer else before_of(ours, maker)
    if before == after:
        return Frontier(number, op, jax, before, None, words)
    return Frontier(number, op, jax, "", (before, after), words)
