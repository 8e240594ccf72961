"""`diptych weights`: which tensor is which leaf, and whether the porter's leaves are right."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from compare.commands.options import Subparsers, busy, columns, command, dump, emit, say
from compare.discover import find
from compare.report.figures import unpaired

if TYPE_CHECKING:
    from compare.twin import Twin

NOTES = """\
Weights that you give, in (apply, variables), in a module that holds them, in Twin(variables=...),
are held to PyTorch's, leaf by leaf: "right", or how the leaf was made instead. Nothing is compiled.
Exit code 1 where a leaf is wrong or has no counterpart."""
CARRIED, YOURS = "PyTorch's, carried over", "yours"


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "weights",
        run,
        "say which tensor is which leaf, and what is wrong with your own conversion",
        [
            ("diptych weights my_port:encoder", "of your own pair"),
            ("diptych weights cnn/resnet:resnet50 --full", "of the catalogue, at published size"),
        ],
        NOTES,
    )
    parser.add_argument("name", metavar="NAME", help="a twin, or all of a file")
    parser.add_argument("--full", action="store_true", help="the map at the published size")


def run(args: argparse.Namespace) -> int:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # only shapes are asked for
    found = {}
    with busy(args, args.name, "weights"):
        for twin in find(args.name):
            found[twin.name] = _weights(twin.published() if args.full else twin)
    emit(args, lambda: dump(found))
    console = say(args)
    if console is not None:
        for name, weights in found.items():
            _print(console, name, weights)
    return int(any(weights["wrong"] for weights in found.values()))


def _weights(twin: Twin) -> dict[str, Any]:
    """The map, whose weights they are, and what is wrong, a line each."""
    from compare.ladder.pairing import Leftovers
    from compare.ladder.weight_map import weight_map

    left = Leftovers()
    if twin.room:
        weights, slips, whose = weight_map(twin), {}, CARRIED
    else:
        from compare.ladder.pair import Pair
        from compare.ladder.unpaired import leftovers

        pair = Pair(twin)
        weights, whose = pair.weights, YOURS if pair.own else CARRIED
        left = leftovers(pair)
        slips = {slip.link.place: slip.line for slip in pair.given.slips}
    rows = []
    for link in weights.links:
        verdict = slips.get(link.place, "right") if whose == YOURS else ""
        rows.append(
            {
                "torch": link.torch,
                "rows": list(link.rows) if link.rows else None,
                "torch_shape": list(weights.leaves[link.torch].shape),
                "jax": "/".join(link.jax),
                "part": list(link.part) if link.part else None,
                "jax_shape": list(link.shape),
                "how": link.how,
                "verdict": verdict,
            }
        )
    none = dict.fromkeys(("rows", "torch_shape", "jax", "part", "jax_shape"))
    for alias, name in weights.aliases.items():
        rows.append({"torch": alias, **none, "how": f"tied to {name}", "verdict": ""})
    for line in weights.uncounted:
        name, _, why = line.partition(": ")
        rows.append({"torch": name, **none, "how": why, "verdict": ""})
    wrong = [*weights.differences, *slips.values()]
    return {"weights": whose, "rows": rows, "wrong": wrong, "unpaired": left.to_dict()}


def _print(console: Any, name: str, weights: dict[str, Any]) -> None:
    rows = weights["rows"]
    if not rows and not weights["wrong"]:
        console.print(f"{name}: no weights; both sides are functions of their inputs")
        return
    leaves = sum(row["jax"] is not None for row in rows)
    console.print(f"{name}: weights {weights['weights']}, {leaves} leaves")
    headings = ["torch", "shape", "jax", "shape", "how"]
    mine = weights["weights"] == YOURS
    cells = []
    for row in rows:
        part = f"[{row['rows'][0]}:{row['rows'][1]}]" if row["rows"] else ""
        rest = (row["torch_shape"], row["jax"], row["jax_shape"], row["how"])
        verdict = ["WRONG" if row["verdict"] not in ("right", "") else row["verdict"]]
        cells.append([row["torch"] + part, *map(_cell, rest), *(verdict if mine else [])])
    columns(console, [*headings, *(["is"] if mine else [])], cells)
    for text in weights["wrong"]:
        console.print(f"WRONG  {text}")
    for i, text in enumerate(unpaired(weights["unpaired"], len(weights["unpaired"]["rows"]))):
        console.print(f"{'' if i else 'not paired':10}  {text}")


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "×".join(map(str, value)) or "scalar"
    return "-" if value is None else value
