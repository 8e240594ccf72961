"""Where two passes part, by the values that they have in common.

A value of PyTorch's that occurs in JAX's program is known; what is given and what is made of
nothing is known, too. From the outputs that differ the search goes back through what is unknown to
the first operations whose operands are all known: the frontier. What a right port fuses, splits or
reorders is unknown as well, but known values lie behind it, and the search never gets there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from compare.capture.fingerprint import LIKE, Index
from compare.capture.operations import Operation, Operations

OUTPUT, LOSS, INPUT = "the output", "the loss", "the input"
WEIGHING = frozenset("addmm mm convolution".split())  # one product with a weight, on both sides
PRODUCTS = ("dot_general", "conv_general_dilated")
SHOWN = 2  # of JAX's operations, in words
PADDING = frozenset("pad convert_element_type copy stop_gradient".split())


@dataclass(frozen=True)
class Frontier:
    """The first operation that one side alone has.

    Args:
      number: of PyTorch's operation, in order of execution.
      torch: PyTorch's; of what it gives, or gives back, JAX's program has nothing.
      jax: JAX's that read the same values and give what PyTorch's program has not.
      place: the layer that PyTorch's runs in; empty where it is none.
      between: of an operation outside a layer, or one whose operand is another: the layers around.
      operations: both sides' in words.
    """

    number: int
    torch: Operation
    jax: tuple[Operation, ...]
    place: str
    between: tuple[str, str] | None
    operations: str

    @property
    def where(self) -> str:
        return "between {} and {}".format(*self.between) if self.between else self.place


class Side:
    """One pass, with what is known of its values."""

    def __init__(self, pass_: Operations, other: Operations):
        self.of = pass_
        index = Index(other.prints)
        self.alike = [[] if p is None else list(index.alike(p)) for p in pass_.prints]
        if pass_.seed is None:
            self.known = [not any(d) or v in pass_.given for v, d in enumerate(pass_.depends)]
        else:  # the forward passes agree
            self.known = [
                not of or p is None for of, p in zip(pass_.gradients, pass_.prints, strict=True)
            ]

    def meet(self, other: Side) -> None:
        """Finds the known values, in order of execution."""
        depends = self.of.depends
        for op in self.of.operations:
            for value in op.gives:
                if self.known[value]:
                    continue
                print_ = self.of.prints[value]
                found = self.alike[value]
                if print_ is not None and print_.trivial:
                    found = [j for j in found if self._made_alike(op, other, j)]
                moved = op.moves and not depends[value][0] and all(self.known[v] for v in op.reads)
                self.known[value] = bool(found) or moved

    def _made_alike(self, op: Operation, other: Side, value: int) -> bool:
        """Whether the other's value, which proves nothing itself, is made of what this one is."""
        number = other.of.producers.get(value)
        if number is None:
            return True
        reads = set(other.of.operations[number].reads)
        return any(reads & set(self.alike[v]) for v in op.reads)

    def frontier(self, ends: Iterable[int], name: str) -> list[tuple[int, Operation]]:
        """The operations of the frontier, by place in the order of execution."""
        found: dict[int, Operation] = {}
        seen: set[int] = set()
        for end in ends:
            waiting = [end]
            if self.known[end]:  # it goes on from here on the other side
                found[len(self.of.operations)] = Operation(name, "", name, (end,), (), moves=True)
            while waiting:
                value = waiting.pop()
                number = self.of.producers.get(value)
                if self.known[value] or number is None or number in seen:
                    continue
                seen.add(number)
                op = self.of.operations[number]
                if all(self.known[v] for v in op.reads):
                    found[number] = op
                waiting += op.reads
        return sorted(found.items())


def differing(ours: Operations, theirs: Operations) -> list[int]:
    """What a pass comes to that the other does not."""
    names = list(theirs.ends)
    index = Index([theirs.prints[value] for value in theirs.ends.values()])

    def found(name: str, value: int) -> bool:
        print_ = ours.prints[value]
        same = [] if print_ is None else index.alike(print_)
        return print_ is None or any(_kind(names[i]) == _kind(name) for i in same)

    return [value for name, value in ours.ends.items() if not found(name, value)]


def align(ours: Operations, theirs: Operations) -> Frontier | None:
    """The first operation of PyTorch's behind which nothing has a counterpart; None if none is.

    Args:
      ours: of PyTorch's pass.
      theirs: of JAX's.
    """
    missing, others = differing(ours, theirs), differing(theirs, ours)
    if not missing:
        return None
    torch, jax = Side(ours, theirs), Side(theirs, ours)
    torch.meet(jax)
    jax.meet(torch)
    end = LOSS if missing == [ours.ends.get("loss")] else OUTPUT
    candidates = torch.frontier(missing, end)
    partners = [op for _, op in jax.frontier(others, end)]
    if not candidates:
        return None

    def shared(op: Operation, data: bool) -> list[Operation]:
        """JAX's that read the same values, or the same weights."""
        same = {j for v in op.reads if ours.depends[v][0] == data for j in torch.alike[v]}
        return [p for p in partners if same & set(p.reads) and p.moves <= op.moves]

    def rank(item: tuple[int, Operation]) -> tuple[bool, bool, bool, int]:
        number, op = item
        prints = [ours.prints[v] for v in op.gives]
        trivial = bool(prints) and all(p is not None and p.trivial for p in prints)
        return trivial, not shared(op, True), not shared(op, False), number

    number, op = min(candidates, key=rank)
    met = shared(op, True) or shared(op, False)
    goes_on = listed(met)
    if not op.gives:
        words = f"JAX has the value of {op.name}, and goes on from it with {goes_on}"
    else:
        rest = f"; JAX goes on from the same values with {goes_on}" if goes_on else ""
        words = f"{shown(op)} has no counterpart{rest}"
    before, after = before_of(ours, op), after_of(ours, number, op, end)
    if not op.layer:
        return Frontier(number, op, tuple(met), "", (before, after), words)
    moved = before != op.place and _moved(op, torch, theirs)
    between = (before, op.place) if moved else None
    return Frontier(number, op, tuple(met), op.place, between, words)


def shown(op: Operation) -> str:
    return f"{op.name} at {op.source}" if op.source else op.name


def listed(operations: Iterable[Operation]) -> str:
    """The first of some operations, and how many more there are."""
    lines = list(dict.fromkeys(map(shown, operations)))
    more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return ", ".join(lines[:SHOWN]) + more


def _kind(name: str) -> str:
    return name.partition(".")[0]


def before_of(ours: Operations, op: Operation) -> str:
    """The layer that an operation's operands come from, the latest of several."""
    waiting, seen, latest = list(op.reads), set(), -1
    while waiting:
        number = ours.producers.get(waiting.pop())
        if number is None or number in seen:
            continue
        seen.add(number)
        made = ours.operations[number]
        if made.layer and made.place != op.place:
            latest = max(latest, number)
        else:
            waiting += made.reads
    return ours.operations[latest].place if latest >= 0 else INPUT


def after_of(ours: Operations, number: int, op: Operation, end: str) -> str:
    """The first layer that reads what an operation gives."""
    reached = set(op.gives)
    for later in ours.operations[number + 1 :]:
        if reached & set(later.reads):
            if later.layer:
                return later.place
            if later.place == "loss":
                return LOSS
            reached |= set(later.gives)
    return end


def _moved(op: Operation, torch: Side, theirs: Operations) -> bool:
    """Whether JAX's product with the same weight has another operand, or in another order."""
    if op.name not in WEIGHING:
        return False
    data = [v for v in op.reads if torch.of.depends[v][0]]
    weights = {j for v in op.reads if not torch.of.depends[v][0] for j in torch.alike[v]}
    same = {j for v in data for j in torch.alike[v]}
    products = [p for p in theirs.operations if p.name in PRODUCTS and weights & set(p.reads)]
    if not products:
        return False
    for product in products:
        for read in product.reads:
            while read not in same and (number := theirs.producers.get(read)) is not None:
                made = theirs.operations[number]
                if made.name not in PADDING:
                    break
                read = made.reads[0]
            if read in same:
                hers, his = product.order.get(read), next(iter(op.order.values()), None)
                if hers is None or his is None or abs(hers - his) <= LIKE * max(1.0, abs(his)):
                    return False
    return True
