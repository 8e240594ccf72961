"""The trees in which people keep Flax's weights, brought to the paths of a weight map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from compare.errors import DiptychError, some
from compare.weights.link import Path

_WRAPPERS = ("state", "model", "variables", "target")
_TRAINING = ("step", "opt_state", "tx", "apply_fn")  # beside the weights in a TrainState


def unwrapped(tree: Any, notes: list[str]) -> Any:
    """The weights in a training checkpoint; each step adds a line to `notes`."""
    while isinstance(tree, Mapping) and "params" not in tree:
        inner = [k for k in _WRAPPERS if isinstance(tree.get(k), Mapping) and "params" in tree[k]]
        if len(inner) != 1:
            return tree
        left = [repr(key) for key in tree if key != inner[0]]
        notes.append(f"took {inner[0]!r}" + (f", left {some(left)}" if left else ""))
        tree = tree[inner[0]]
    if isinstance(tree, Mapping) and isinstance(tree["params"], Mapping):
        left = [key for key in tree if key in _TRAINING]
        if left:
            notes.append(f"left {some(map(repr, left))}: no weights")
        tree = {key: value for key, value in tree.items() if key not in left}
        if isinstance(tree["params"].get("params"), Mapping):  # all variables under that name
            tree = {**{k: v for k, v in tree.items() if k != "params"}, **tree["params"]}
    return tree


def placed(
    wanted: Iterable[Path], leaves: Mapping[Path, np.ndarray], source: str, notes: list[str]
) -> dict[Path, np.ndarray]:
    """Leaves by the paths of the map, under whatever names the file has them.

    A name may be flat, with dots or slashes; lack the collection; end in the `value` of a box. The
    state of NNX's random numbers is left out.

    Raises:
      DiptychError: two leaves have one path.
    """
    wanted = set(wanted)
    named: dict[str, set[Path]] = {}
    for path in wanted:
        for text in (_plain(path), _plain(path[1:])):
            named.setdefault(text, set()).add(path)
    found: dict[Path, np.ndarray] = {}
    random: list[str] = []
    for path, leaf in leaves.items():
        text = _plain(path)
        fits = named.get(text) or named.get(text.removesuffix("/value"), set())
        place = path if path in wanted or len(fits) != 1 else next(iter(fits))
        if place not in wanted and _is_random(path):
            random.append("/".join(path))
            continue
        if place in found:
            raise DiptychError(f"{source}: two leaves are {'/'.join(place)}; keep one")
        found[place] = leaf
    if random:
        notes.append(f"left {some(random)}: the state of random numbers")
    return found


def _plain(path: Path) -> str:
    return "/".join(path).replace(".", "/")


def _is_random(path: Path) -> bool:
    """Whether a leaf is of an NNX `RngStream`: a key or a count."""
    names = [name for name in path if name != "value"]
    return len(names) > 1 and names[-1] in ("key", "count") and "rngs" in names
