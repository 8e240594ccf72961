"""The whole pairing of a twin: every tensor beside its leaf, every module beside its layer."""

from __future__ import annotations

from collections import Counter

from compare.capture.taps import Tap
from compare.ladder.pair import REFERENCE, Pair
from compare.ladder.pairing import Pairing, match
from compare.ladder.result import Info
from compare.ladder.unpaired import leftovers
from compare.weights.link import place_of, renamed, slashed
from compare.weights.map import shown
from compare.weights.named import Row

TENSORS, MODULES = "tensors", "modules"


def rows(pair: Pair) -> dict[str, list[Row]]:
    """The rows of a pair's file, by heading; modules where both sides can run.

    Raises:
      DiptychError: a line of the file of pairs that the twin has is wrong.
    """
    found = {TENSORS: _tensors(pair)}
    if not set(pair.weights.unfilled) - pair.given.alone.keys():
        found[MODULES] = _modules(pair, found[TENSORS])
    return found


def pairings(pair: Pair) -> tuple[dict[str, Pairing], Info, Info]:
    """The places of both sides' forward passes, paired, by mode; and what was recorded of each."""
    runs = [pair.run(name) for name in (REFERENCE, "xla:cpu")]
    for run in runs:
        for section in run.sections(trajectory=False):
            del section
    ours, theirs = (run.info for run in runs)
    pair.refuse_places(theirs)
    modules = pair.weights.modules
    found = {mode: match(i, theirs.get(mode, {}), pair.rename, modules) for mode, i in ours.items()}
    return found, ours, theirs


def _tensors(pair: Pair) -> list[Row]:
    weights = pair.weights
    perhaps = {row.torch: f"perhaps {row.jax}" for row in leftovers(pair).rows if row.jax}
    often = Counter(link.torch for link in weights.links)
    makers = Counter(link.jax for link in weights.links)
    same = Counter(path[1:] for path in pair.shapes)
    found: dict[str, list[Row]] = {name: [] for name in weights.leaves}
    for link in weights.links:
        if often[link.torch] == makers[link.jax] == 1 and not (link.rows or link.part):
            path = link.jax[same[link.jax[1:]] < 2 :]
            found[link.torch].append(Row(link.torch, "/".join(path), link.how))
        else:
            found[link.torch].append(Row(link.source, shown(link), link.how, said=False))
    for name in weights.lacking:
        leaf = weights.leaves[name]
        why = perhaps.get(name) or perhaps.get(place_of(name)[0], "")
        note = f"{leaf.layer} {leaf.shape}; {why}".removesuffix("; ")
        found[name].append(Row(name, "", note))
    for line in weights.uncounted:
        name, _, why = line.partition(": ")
        found.setdefault(name, []).append(Row(name, "", why, said=False))
    tied = [Row(name, "", f"tied to {to}", said=False) for name, to in weights.aliases.items()]
    alone = [Row("", "/".join(path[1:]), str(pair.shapes[path])) for path in weights.unfilled]
    return [*(row for rows in found.values() for row in rows), *tied, *alone]


def _modules(pair: Pair, tensors: list[Row]) -> list[Row]:
    found, ours, theirs = pairings(pair)
    names = set(pair.names)
    places: dict[str, tuple[str, str]] = {}
    left: dict[str, Row] = {}
    for mode, pairing in found.items():
        taps = ours[mode]
        # A module's own value says more of its place than a function that it calls.
        for key in sorted(pairing.pairs, key=lambda key: key != taps[key].path):
            tap, other = taps[key], pairing.pairs[key]
            place = _place(key, tap, other)
            if tap.path in names and place:
                kinds = tap.kind, theirs[mode][other].kind
                places.setdefault(tap.path, (place, " / ".join(dict.fromkeys(kinds))))
        for key in pairing.torch_only:
            if key and key == taps[key].path:
                left.setdefault(key, Row(key, "", taps[key].kind))
            elif key:
                left.setdefault(key, Row(key, "", f"a call of {taps[key].kind}", said=False))
    for row in tensors:  # a packed tensor has no line of its own, but its module's
        module = place_of(row.torch)[0]
        place = renamed(module, pair.rename)
        own = not row.said and module in names - places.keys() and place != slashed(module)
        if own and any("/".join(path[1:]).startswith(f"{place}/") for path in pair.shapes):
            places[module] = place, ""
    alone = {
        key: Row("", key, theirs[mode][key].kind, said=not theirs[mode][key].function)
        for mode, pairing in found.items()
        for key in pairing.jax_only
        if key
    }
    order = {name: rank for rank, name in enumerate(pair.names)}
    paired = [Row(name, *places[name]) for name in sorted(places, key=order.__getitem__)]
    left = {key: row for key, row in left.items() if key not in places}
    return [*paired, *left.values(), *alone.values()]


def _place(key: str, tap: Tap, other: str) -> str:
    """The name on JAX's side that a module must have, for `match` to pair these two."""
    rest = key[len(tap.path) :]
    for end in (rest, "/" + rest[1:] if rest.startswith(".") else rest, rest.removeprefix(".0")):
        if other.endswith(end):
            return other[: len(other) - len(end)] if end else other
    return ""
