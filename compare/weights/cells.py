"""Recurrent cells: PyTorch's packed rows as a layer for each gate, two biases as their sum."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from compare.weights.link import Leaf, Link, Path

GATES = {"LSTM": "ifgo", "GRU": "rzn", "RNN": "h"}
# Which of the two biases the cells of the libraries keep, where they keep one.
KEPT = {"LSTM": "h", "GRU": "i", "RNN": "i"}
# What the libraries call a cell that has no name of its own.
NAMELESS = {"LSTM": "LSTMCell|OptimizedLSTMCell", "GRU": "GRUCell", "RNN": "SimpleCell"}

Shapes = Mapping[Path, tuple[int, ...]]
Homes = dict[tuple[str, str], Path]


def cell(
    name: str, attribute: str, leaf: Leaf, module: str, shapes: Shapes, homes: Homes
) -> list[Link]:
    """The links of one packed tensor of a recurrent layer; none where JAX has no such cell.

    Args:
      module: the layer's name on JAX's side, with slashes.
      homes: where the cells of the layers before were found; one more is added.
    """
    found = re.fullmatch(r"(weight|bias)_(ih|hh)(?:_l(\d+))?(_reverse)?", attribute)
    if not found or leaf.layer not in GATES:
        return []
    what, source, number, reverse = found.groups()
    whose = module, f"{number or 0}{reverse or ''}"
    if whose not in homes:
        taken = set(homes.values())
        home = next((h for h in _homes(leaf.layer, module, shapes) if h not in taken), None)
        if home is None:
            return []
        homes[whose] = home
    return list(_links(name, what, source[0], leaf, homes[whose], shapes))


def _homes(layer: str, module: str, shapes: Shapes) -> Iterator[Path]:
    """Where a cell may be: the module itself, its child, or beside it, as Linen's RNN has it."""
    own = tuple(part for part in module.split("/") if part)
    nameless = rf"({NAMELESS[layer]})_(\d+)"
    here = {path[1 : len(own) + 2] for path in shapes if path[1 : len(own) + 1] == own}
    beside = {path[1 : len(own) + 1] for path in shapes if path[1 : len(own)] == own[:-1]}
    candidates = [own, (*own, "cell")]
    for found in (here, beside):
        calls = [(re.fullmatch(nameless, home[-1]), home) for home in found if home]
        candidates += sorted(
            (home for call, home in calls if call),
            key=lambda home: int(home[-1].rpartition("_")[2]),
        )
    for home in dict.fromkeys(candidates):
        if any(_is_input(layer, home, path) for path in shapes):
            yield home


def _is_input(layer: str, home: Path, path: Path) -> bool:
    """Whether a leaf is a weight that a cell at this place has for its input."""
    inside = path[1 + len(home) :] if path[1 : 1 + len(home)] == home else ()
    names = {f"i{gate}" for gate in GATES[layer]} | {"if_", "dense_i", "i"}
    direct = inside == ("weight_ih",)
    return direct or (len(inside) == 2 and inside[0] in names and inside[1] == "kernel")


def _links(
    name: str, what: str, source: str, leaf: Leaf, home: Path, shapes: Shapes
) -> Iterator[Link]:
    gates, kept = GATES[leaf.layer], KEPT[leaf.layer]
    hidden = leaf.shape[0] // len(gates)
    last = "kernel" if what == "weight" else "bias"
    perm = (1, 0) if what == "weight" else ()

    def at(*inside: str) -> Path | None:
        path = ("params", *home, *inside)
        return path if path in shapes else None

    def gate_of(side: str, gate: str) -> Path | None:
        return at(f"{side}{gate}", last) or at(f"{side}{gate}_", last)  # NNX's if_

    sides = dict.fromkeys((source, kept) if what == "bias" else (source,))
    if any(gate_of(side, gate) for side in sides for gate in gates):
        for index, gate in enumerate(gates):
            own, other = gate_of(source, gate), gate_of(kept, gate) if len(sides) > 1 else None
            adds = own is None
            path = own or (None if (leaf.layer, gate) == ("GRU", "n") else other)
            if path:
                rows, how = (index * hidden, (index + 1) * hidden), _how(name, gate, adds)
                yield Link(name, path, shapes[path], perm, rows, how, adds=adds)
        return
    for side in sides:
        adds, path = side != source, at(f"dense_{side}", last) or at(side, last)
        if path:
            link = Link(name, path, shapes[path], perm, how=_how(name, "", adds), adds=adds)
            yield _added(link, leaf, hidden) if adds else link
            return
    single = at("bias") if what == "bias" else None
    if single:  # Equinox's
        adds = source != kept
        link = Link(name, single, shapes[single], how=_how(name, "", adds), adds=adds)
        yield _added(link, leaf, hidden) if adds else link
        new = at("bias_n")
        if new and adds:
            rows = (2 * hidden, 3 * hidden)
            yield Link(name, new, shapes[new], rows=rows, how=_how(name, "n", False))


def _added(link: Link, leaf: Leaf, hidden: int) -> Link:
    """A bias that is added to the other; of a GRU's new gate it stands inside the product."""
    if leaf.layer != "GRU":
        return link
    rows = 2 * hidden
    return replace(link, shape=(rows,), rows=(0, rows), part=(0, 0, rows))


def _how(name: str, gate: str, adds: bool) -> str:
    of = f"gate {gate} of the packed {name}" if gate else f"the packed {name}"
    return f"{of}, added to the other bias" if adds else of
