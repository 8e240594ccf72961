"""Which recorded place of one side is which of the other: by name, then by kind and order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from compare.capture.taps import Tap
from compare.weights.link import renamed

# Layers without weights that are modules on both sides.
BARE = frozenset("Dropout Identity AvgPool1d AvgPool2d AvgPool3d".split())


@dataclass(frozen=True)
class Pairing:
    """Pairs of keys in PyTorch's order of execution, and what is left over.

    Args:
      pairs: PyTorch's key -> JAX's.
      by_order: those keys of PyTorch's that were not paired by name, but by kind and order, or
        because the weights inside were.
      torch_only, jax_only: keys without a counterpart.
      stacked: PyTorch's key -> its keys of all the calls that JAX makes in one scan, in the order
        of JAX's stack.
    """

    pairs: dict[str, str]
    by_order: frozenset[str]
    torch_only: tuple[str, ...]
    jax_only: tuple[str, ...]
    stacked: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Unpaired:
    """What is left over, with its counterpart if one is suggested.

    Args:
      torch, jax: names of a module, tensor, layer or leaf; "" where there is none.
      ours, theirs: what they are, for people.
    """

    torch: str
    ours: str
    jax: str
    theirs: str


@dataclass
class Leftovers:
    """All that is left over of a twin.

    Args:
      rows: in PyTorch's order, then what JAX alone has.
      rename: the twin's `rename` and what pairs the rows that have two sides; empty if none has.
      file: where the twin has its `rename` from.
    """

    rows: list[Unpaired] = field(default_factory=list)
    rename: dict[str, str] = field(default_factory=dict)
    file: str = ""

    @property
    def line(self) -> str:
        """The argument of Twin, or the file's lines, to be pasted; "" if nothing is suggested."""
        if self.file and self.rename:
            both = (f"{row.torch} {row.jax}" for row in self.rows if row.torch and row.jax)
            return f"{self.file}: {'; '.join(both)}"
        pairs = ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in self.rename.items())
        return f"rename={{{pairs}}}" if pairs else ""

    def to_dict(self) -> dict[str, object]:
        rows = [
            {"torch": r.torch, "torch_kind": r.ours, "jax": r.jax, "jax_kind": r.theirs}
            for r in self.rows
        ]
        return {"rows": rows, "rename": self.line or None}


def _literal(text: str) -> str:
    raw = "\\" in text and '"' not in text and not text.endswith("\\")
    return f'r"{text}"' if raw else repr(text).replace("'", '"') if '"' not in text else repr(text)


def _containers(
    torch_info: Mapping[str, Tap], jax_info: Mapping[str, Tap], modules: Mapping[str, str]
) -> dict[str, str]:
    """Modules whose layers were all paired by order -> the one JAX module that holds just those."""

    def inside(paths: set[str], layers: Collection[str], dot: str) -> dict[frozenset, list[str]]:
        found: dict[frozenset, list[str]] = {}
        for path in sorted(paths - set(layers)):
            held = frozenset(layer for layer in layers if layer.startswith(path + dot))
            if held:
                found.setdefault(held, []).append(path)
        return found

    ours = inside({t.path for t in torch_info.values() if t.path}, modules, ".")
    theirs = inside({t.path for t in jax_info.values() if t.path}, modules.values(), "/")
    pairs = {}
    for held, paths in ours.items():
        others = theirs.get(frozenset(modules[layer] for layer in held), [])
        if len(paths) == len(others):  # from the outside in
            pairs |= dict(zip(paths, others, strict=True))
    return pairs


def match(
    torch_info: Mapping[str, Tap],
    jax_info: Mapping[str, Tap],
    rename: Mapping[str, str],
    modules: Mapping[str, str] | None = None,
) -> Pairing:
    """Pairs the places that two runs recorded in one mode.

    Args:
      rename: the twin's.
      modules: PyTorch's modules whose weights were paired by order -> JAX's.
    """
    slashed = {tap.path: renamed(tap.path, rename) for tap in torch_info.values()}
    ordered = _containers(torch_info, jax_info, modules or {}) | {**(modules or {})}
    ordered = {k: v for k, v in ordered.items() if slashed.get(k) != v}
    known = {tap.path for tap in jax_info.values()}
    often = Counter((slashed[tap.path], tap.kind) for tap in torch_info.values() if tap.function)
    often.subtract(Counter((tap.path, tap.kind) for tap in jax_info.values() if tap.function))
    slashed |= {k: v for k, v in ordered.items() if k in slashed and slashed[k] not in known}
    claimed = {other: path for path, other in ordered.items()}
    pairs: dict[str, str] = {}
    for key, tap in torch_info.items():
        rest = key[len(tap.path) :]
        # What holds the weights of a layer is that layer, whatever else has its name.
        if claimed.get(slashed[tap.path], tap.path) != tap.path:
            continue
        if key in jax_info and jax_info[key].path == tap.path:  # PyTorch on another backend
            pairs[key] = key
            continue
        if tap.function and rest.startswith("."):
            rest = "/" + rest[1:] if tap.path else rest
        named = (slashed[tap.path] + rest).lstrip("/")
        own = slashed[tap.path].rpartition("/")[2] != tap.path.rpartition(".")[2]  # by `rename`
        exact = own and rest[:1] in ("", "#")
        if tap.function and often[slashed[tap.path], tap.kind] and not exact:
            continue  # one side calls it more often: which call is which is not known
        if named in jax_info and jax_info[named].function == tap.function:
            pairs[key] = named
    for key, tap in torch_info.items():
        # torch's LSTM and attention give a tuple, and what they compute is its first item
        whole = key.replace(f"{tap.path}.0", slashed[tap.path], 1)
        if key.startswith(f"{tap.path}.0") and key not in pairs and whole in jax_info:
            pairs[key] = whole
    by_order = {key for key in pairs if torch_info[key].path in ordered}

    def parent(key: str, tap: Tap) -> str:
        """The module around a function; PyTorch may spell the function as a module of its own."""
        path = slashed[tap.path]
        return path if key.startswith(f"{tap.path}.") or not tap.path else path.rpartition("/")[0]

    def bare(tap: Tap) -> bool:
        """Whether a module is a layer of a library that has no weights."""
        return tap.kind in BARE

    for local in (True, False):
        theirs: dict[tuple[str, str], list[str]] = {}
        ours: dict[tuple[str, str], list[str]] = {}
        taken = set(pairs.values())
        for key, tap in jax_info.items():
            if (tap.function or bare(tap)) and key not in taken:
                theirs.setdefault((tap.path if local else "", tap.kind), []).append(key)
        for key, tap in torch_info.items():
            if (tap.function or bare(tap)) and key not in pairs:
                ours.setdefault((parent(key, tap) if local else "", tap.kind), []).append(key)
        for place, keys in ours.items():
            others = theirs.get(place, [])
            if len(keys) == len(others):
                pairs |= dict(zip(keys, others, strict=True))
                by_order |= set(keys)
    stacked: dict[str, list[str]] = {}
    scans = [tap for tap in jax_info.values() if tap.function and tap.steps]
    scanned = Counter((tap.path, tap.kind) for tap in scans)
    for key, other in list(pairs.items()):
        tap = jax_info[other]
        steps = tap.steps
        if steps and key in pairs:
            calls = [key, *(f"{key}#{count}" for count in range(1, abs(steps)))]
            # a scan that calls a function twice: which of PyTorch's calls are whose is not known
            alone = scanned[tap.path, tap.kind] < 2
            if alone and all(call in torch_info for call in calls):
                stacked[key] = calls[::-1] if steps < 0 else calls
                for call in calls[1:]:
                    pairs.pop(call, None)
            else:
                del pairs[key]
                by_order.discard(key)
    inside = {call for calls in stacked.values() for call in calls}
    ordered = {key: pairs[key] for key in torch_info if key in pairs}
    taken = set(pairs.values())
    return Pairing(
        ordered,
        frozenset(by_order),
        tuple(key for key in torch_info if key not in pairs and key not in inside),
        tuple(key for key in jax_info if key not in taken),
        stacked,
    )
