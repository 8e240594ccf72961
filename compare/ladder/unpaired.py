"""What could not be paired, from both sides, and the `rename` that would pair it.

A counterpart has the same kind, and its tensors fit under the rules of layout; of several the one
whose name and place in the order are nearest is taken. A suggestion is made only if it holds: the
map is built, and the places are matched, once more with it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from compare.capture.taps import Tap
from compare.ladder.pair import Pair
from compare.ladder.pairing import BARE, Leftovers, Unpaired, match
from compare.ladder.result import Result
from compare.weights.build import build
from compare.weights.by_order import layers, same_type
from compare.weights.cells import GATES
from compare.weights.link import LEAVES, Leaf, Path, place_of, renamed
from compare.weights.map import WeightMap

PACKED = {*GATES, "MultiheadAttention", "NonDynamicallyQuantizableLinear"}


def leftovers(pair: Pair, result: Result | None = None) -> Leftovers:
    """What of a pair's weights, and of the places that were recorded, has no counterpart.

    Args:
      result: of a ladder that was climbed; without one, the weights alone.
    """
    found = _weights(pair)
    if result is None:
        return found
    covered = [row.torch for row in found.rows if row.torch]
    other = _places(pair, result, found.rename or pair.rename)
    rows = [row for row in other.rows if not _within(row.torch, covered)]
    return Leftovers(found.rows + rows, other.rename or found.rename, found.file)


def _within(name: str, covered: Iterable[str]) -> bool:
    return bool(name) and any(f"{name}.".startswith(f"{whole}.") for whole in covered)


# Weights.


def _weights(pair: Pair) -> Leftovers:
    weights = pair.weights
    if not (weights.lacking or weights.unfilled):
        return Leftovers()
    used = pair.order.jax if weights.lacking and weights.unfilled else ()
    first = {path: rank for rank, path in enumerate(used)}
    unfilled = sorted(weights.unfilled, key=lambda path: first.get(path, len(first)))
    ours: dict[str, dict[str, Leaf]] = {}
    for name in weights.lacking:
        ours.setdefault(place_of(name)[0], {})[name] = weights.leaves[name]
    theirs: dict[Path, dict[Path, tuple[int, ...]]] = {}
    for path in unfilled:
        theirs.setdefault(path[1:-1], {})[path] = pair.shapes[path]
    halves = {place_of(link.torch)[0] for link in weights.links}
    halves |= {"/".join(link.jax[1:-1]) for link in weights.links} | {""}

    def whole(module: str, home: Path) -> dict[str, str]:
        """The names that pair two layers: their own, or those of their tensors."""
        links = layers(ours[module], theirs[home], pair.kinds, list)
        said = all(link.jax[-1] in _leaf_names(link.torch) for link in links)
        if links and said and not {module, "/".join(home)} & halves:
            return {module: "/".join(home)}
        return {link.torch: "/".join(link.jax[1:]) for link in links}

    def single(name: str, path: Path) -> dict[str, str]:
        leaf, shape = weights.leaves[name], pair.shapes[path]
        return {
            link.torch: "/".join(link.jax[1:])
            for link in layers({name: leaf}, {path: shape}, pair.kinds, list)
        }

    def packed(module: str, place: str) -> dict[str, str]:
        """A recurrent layer or attention, whose tensors are several leaves each."""
        built = _built(pair, {_exact(module): f"/{place}", **pair.rename})
        return {} if ours[module].keys() & {*built.lacking} else {module: place}

    several = [m for m, u in ours.items() if m and {leaf.layer for leaf in u.values()} & PACKED]
    places = ("/".join(path[1:end]) for path in unfilled for end in range(2, len(path)))
    wanted: dict[str, str] = {}
    for names in _assigned(several, list(dict.fromkeys(places)), packed, str).values():
        wanted |= names
    chosen = _assigned(
        [m for m in ours if not _within(m, wanted)],
        [home for home in theirs if home],
        whole,
        lambda home: "/".join(home),
    )
    for names in chosen.values():
        wanted |= names
    left = [n for n in weights.lacking if not {n, place_of(n)[0]} & wanted.keys()]
    left = [n for n in left if not _within(n, wanted)]
    homes = set(wanted.values())
    free = [p for p in unfilled if not {"/".join(p[1:-1]), "/".join(p[1:])} & homes]
    singles = _assigned(left, free, single, lambda path: "/".join(path[1:]))
    for names in singles.values():
        wanted |= names

    paired = {*_built(pair, pair.rename).named}

    def holds(rename: Mapping[str, str], pairs: Mapping[str, str]) -> bool:
        """Whether the map has these pairs with this `rename`, and all that it had before."""
        built = _built(pair, rename)
        reached: dict[str, set[str]] = {}
        for link in built.links:
            places = {"/".join(link.jax[1:depth]) for depth in range(2, len(link.jax) + 1)}
            for name in (link.torch, place_of(link.torch)[0]):
                reached.setdefault(name, set()).update(places)
        lost = {*built.lacking, *(place_of(name)[0] for name in built.lacking)}
        kept = paired <= {*built.named} and not lost & pairs.keys()
        return kept and all(to in reached.get(name, ()) for name, to in pairs.items())

    rename = _written(wanted, pair.rename, pair.names, holds)
    rows = []
    for module, unit in ours.items():
        if module in rename.pairs:
            rows.append(_row(module, unit, rename.pairs[module], pair))
            continue
        for name in unit:
            rows.append(_row(name, {name: unit[name]}, rename.pairs.get(name, ""), pair))
    for path in unfilled:
        name = "/".join(path[1:])
        if not any(f"{name}/".startswith(f"{home}/") for home in rename.pairs.values()):
            rows.append(Unpaired("", "", name, _shape(pair.shapes[path])))
    return Leftovers(rows, rename.whole, getattr(pair.rename, "path", ""))


def _leaf_names(name: str) -> tuple[str, ...]:
    attribute = place_of(name)[1]
    return (attribute, *LEAVES.get(attribute, ()))


def _built(pair: Pair, rename: Mapping[str, str]) -> WeightMap:
    """The weight map by names and values alone, under another `rename`."""
    ignored = pair.weights.ignored
    return build(
        {name: leaf for name, leaf in pair.leaves.items() if name not in ignored},
        {path: shape for path, shape in pair.shapes.items() if path not in ignored},
        rename,
        kinds=pair.kinds,
        own=pair.own,
    )


def _row(name: str, unit: Mapping[str, Leaf], to: str, pair: Pair) -> Unpaired:
    leaf = next(iter(unit.values()))
    parts = [(n.removeprefix(name).lstrip("."), x.shape) for n, x in unit.items()]
    ours = ", ".join(f"{part} {_shape(shape)}".strip() for part, shape in parts)
    inside = {
        "/".join(path[1:]).removeprefix(to).lstrip("/"): pair.shapes[path]
        for path in pair.weights.unfilled
        if to and f"{'/'.join(path[1:])}/".startswith(f"{to}/")
    }
    theirs = ", ".join(f"{part} {_shape(shape)}".strip() for part, shape in inside.items())
    return Unpaired(name, f"{leaf.layer}: {ours}" if leaf.layer else ours, to, theirs)


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"


# Places.


def _places(pair: Pair, result: Result, rename: Mapping[str, str]) -> Leftovers:
    """What was recorded on one side only, in whatever mode."""
    ours: dict[str, Tap] = {}
    theirs: dict[str, Tap] = {}
    for mode, pairing in result.pairing.items():
        ours |= {key: result.info[mode][key] for key in pairing.torch_only if key not in ours}
        theirs |= {key: result.others[mode][key] for key in pairing.jax_only if key not in theirs}
    tensors = {*_built(pair, rename).named}
    before = {key for pairing in result.pairing.values() for key in pairing.pairs}

    def fits(key: str, other: str) -> dict[str, str]:
        tap, rest = ours[key], key[len(ours[key].path) :]
        rest = "/" + rest[1:] if tap.function and rest.startswith(".") else rest
        place = other[: len(other) - len(rest)]
        alike = _same_kind(tap, theirs[other]) and other.endswith(rest)
        return {tap.path: place} if alike and tap.path and place else {}

    chosen = _assigned(list(ours), list(theirs), fits, str)
    meant = {key: other for (key, other), _ in chosen.items()}
    wanted: dict[str, str] = {}
    for (key, _), names in chosen.items():
        if not names.keys() & wanted.keys():
            wanted |= names
        elif any(wanted[name] != place for name, place in names.items()):
            meant.pop(key)

    def holds(tried: Mapping[str, str], pairs: Mapping[str, str]) -> bool:
        found: dict[str, str] = {}
        for mode, info in result.info.items():
            found |= match(info, result.others.get(mode, {}), tried, pair.weights.modules).pairs
        wanted = {key: other for key, other in meant.items() if ours[key].path in pairs}
        kept = before <= found.keys() and tensors <= {*_built(pair, tried).named}
        return kept and wanted.items() <= found.items()

    written = _written(wanted, rename, pair.names, holds)
    rows = []
    paired = set()
    for key, tap in ours.items():
        other = meant.get(key, "") if tap.path in written.pairs else ""
        paired.add(other)
        kind = theirs[other].kind if other else ""
        rows.append(Unpaired(key or "(the model)", tap.kind, other, kind))
    rows += [Unpaired("", "", key, tap.kind) for key, tap in theirs.items() if key not in paired]
    return Leftovers(rows, written.whole)


def _same_kind(ours: Tap, theirs: Tap) -> bool:
    if ours.function != theirs.function:
        return False
    if ours.function or ours.kind in BARE or theirs.kind in BARE:
        return ours.kind == theirs.kind
    return same_type(ours.kind, theirs.kind)


# Names.


def _likeness(name: str, other: str) -> float:
    """How near two names are: their numbers, their letters, and those at their end."""
    ours, theirs = name.lower().split("."), other.lower().split("/")
    numbers = re.findall(r"\d+", name) == re.findall(r"\d+", other)
    letters = [
        difflib.SequenceMatcher(None, *both).ratio()
        for both in (("/".join(ours), "/".join(theirs)), (ours[-1], theirs[-1]))
    ]
    return 2 * numbers + sum(letters) + (ours[-1][:1] == theirs[-1][:1])


def _assigned(
    ours: list[str],
    theirs: list[Any],
    fits: Callable[[str, Any], dict[str, str]],
    shown: Callable[[Any], str],
) -> dict[tuple[str, Any], dict[str, str]]:
    """Pairs of what fits, the likeliest first; each is used once."""
    ways = {
        (name, other): found for name in ours for other in theirs if (found := fits(name, other))
    }
    first: dict[object, list] = {}
    for name, other in ways:
        first.setdefault(("ours", other), []).append(name)
        first.setdefault(("theirs", name), []).append(other)

    def score(way: tuple[str, Any]) -> float:
        name, other = way
        mine, yours = first["ours", other], first["theirs", name]
        step = mine.index(name) / len(mine) - yours.index(other) / len(yours)
        return _likeness(name, shown(other)) - abs(step)

    taken: set[object] = set()
    chosen = {}
    for name, other in sorted(ways, key=score, reverse=True):
        if ("ours", name) not in taken and ("theirs", other) not in taken:
            taken |= {("ours", name), ("theirs", other)}
            chosen[name, other] = ways[name, other]
    return {way: chosen[way] for way in ways if way in chosen}


@dataclass
class _Written:
    """A `rename` and the pairs that it makes."""

    whole: dict[str, str] = field(default_factory=dict)
    pairs: dict[str, str] = field(default_factory=dict)


def _written(
    wanted: Mapping[str, str],
    rename: Mapping[str, str],
    names: list[str],
    holds: Callable[[Mapping[str, str], Mapping[str, str]], bool],
) -> _Written:
    """The shortest `rename` that makes the wanted pairs, before the twin's own; if not all hold
    together, those families that do.

    Args:
      names: all of PyTorch's.
      holds: whether a `rename` makes these pairs.
    """

    def tried(pairs: Mapping[str, str]) -> dict[str, str]:
        families = list(_families(pairs))
        for lead in ("", "/"):
            for groups in (families, [[name] for name in pairs]):
                new: dict[str, str] = {}
                for group in groups:
                    new |= _expression({name: pairs[name] for name in group}, names, lead)
                whole = new | {k: v for k, v in rename.items() if k not in new}
                if holds(whole, pairs):
                    return whole
        return {}

    done = _Written()
    families = [{name: wanted[name] for name in group} for group in _families(wanted)]
    for group in (wanted, *families) if wanted else ():
        pairs = {**done.pairs, **group}
        if done.pairs.keys() < wanted.keys() and (whole := tried(pairs)):
            done = _Written(whole, pairs)
    return done


def _families(pairs: Mapping[str, str]) -> Iterator[list[str]]:
    """Names that differ in their numbers alone, and whose counterparts do."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, other in pairs.items():
        found.setdefault((re.sub(r"\d+", "#", name), re.sub(r"\d+", "#", other)), []).append(name)
    yield from found.values()


def _expression(pairs: Mapping[str, str], names: list[str], lead: str) -> dict[str, str]:
    """One expression for a family, if all of it follows one; else one for each."""
    numbers = [re.findall(r"\d+", name) for name in pairs]
    others = [re.findall(r"\d+", other) for other in pairs.values()]
    varies = [len(set(run)) > 1 for run in zip(*numbers, strict=True)]
    groups = [i for i, vary in enumerate(varies) if vary]
    places = []
    for run in zip(*others, strict=True):
        same = [k for k, i in enumerate(groups, 1) if run == tuple(n[i] for n in numbers)]
        if not same and len(set(run)) > 1:
            break
        places.append(rf"\{same[0]}" if same else run[0])
    else:
        runs = [r"(\d+)" if vary else run for vary, run in zip(varies, numbers[0], strict=True)]
        pattern = _joined(re.split(r"\d+", next(iter(pairs))), runs, re.escape)
        other = _joined(re.split(r"\d+", next(iter(pairs.values()))), places, _template)
        if lead or not other:
            other = f"{lead}{other}"
        for start in ("", "^"):
            hits = [n for n in names if renamed(n, {start + pattern: "\0"}) != renamed(n, {})]
            if all(_within(name, pairs) for name in hits):
                return {start + pattern: other}
    if len(pairs) == 1:
        ((name, other),) = pairs.items()
        return {_exact(name): lead + _template(other)}
    return {k: v for n, o in pairs.items() for k, v in _expression({n: o}, names, lead).items()}


def _joined(between: list[str], runs: list[str], escape: Callable[[str], str]) -> str:
    parts = [escape(between[0])]
    for run, text in zip(runs, between[1:], strict=True):
        parts += [run, escape(text)]
    return "".join(parts)


def _exact(name: str) -> str:
    return f"^{re.escape(name)}"


def _template(text: str) -> str:
    return text.replace("\\", r"\\")
