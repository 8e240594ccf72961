"""The porter's own weights: the ones that run, each leaf held to PyTorch's tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from compare.weights import by_value
from compare.weights.link import Link, Path
from compare.weights.map import WeightMap, shown
from compare.weights.relation import Relation, alike, moved, relation, same, telling

# Relations of the right tensor's own values.
OF = ("transposed flipped reshaped reordered rounded scaled shifted elementwise part").split()


@dataclass(frozen=True)
class Own:
    """What the porter gives for JAX's side, beside what PyTorch's module holds.

    Args:
      values: PyTorch's tensors by name.
      given: JAX's leaves by path.
      laid: whether a library's layers hold them, so that their names say their layout.
    """

    values: Mapping[str, np.ndarray]
    given: Mapping[Path, np.ndarray]
    laid: bool

    def layout(self, name: str, path: Path) -> Link | None:
        """How a tensor lies in a leaf, by its values; None if the leaf holds others."""
        if path not in self.given:
            return None
        return by_value.layout(name, self.values[name], path, self.given[path])

    def alike(self, links: list[Link]) -> list[Link]:
        """Those of a tensor's links to one leaf that may be: both hold the same numbers."""

        def same_numbers(link: Link) -> bool:
            if link.jax not in self.given:
                return True
            ours, theirs = self.values[link.torch], self.given[link.jax]
            return alike(ours, theirs)

        return [link for link in links if same_numbers(link)]

    def related(self, links: list[Link]) -> list[Link]:
        """Those of several links to one leaf by which its numbers are made from the tensor's."""
        if len(links) < 2 or links[0].jax not in self.given:
            return links
        theirs = self.given[links[0].jax]
        found = [link for link in links if relation(link.forward(self.values[link.torch]), theirs)]
        return found or links


@dataclass(frozen=True)
class Slip:
    """A leaf, or its part, that is not the tensor carried over.

    Args:
      link: what it should have been made of, and how.
      right: what should be there.
      value: what the porter gives there.
      relation: what it is instead, if that is known.
      joined: where several tensors are to lie in it, the line that puts them there.
    """

    link: Link
    right: np.ndarray
    value: np.ndarray
    relation: Relation | None
    joined: str = ""

    @property
    def line(self) -> str:
        """The leaf, the tensor, and what is wrong."""
        if self.relation is None:
            return f"{shown(self.link)} is not {self.link.source}, nor made from it: never loaded?"
        text, of = self.relation.text, self.relation.kind in OF
        return f"{shown(self.link)} is {f'{self.link.source}, {text}' if of else text}"

    def into(self, leaves: dict[Path, np.ndarray]) -> None:
        """Puts what the porter gives in the place of what was carried over."""
        path = self.link.jax
        if self.link.part is None:
            leaves[path] = self.value
        else:
            leaves[path] = leaves[path].copy()
            self.link.of(leaves[path])[...] = self.value


def slips(weights: WeightMap, own: Own) -> Iterator[Slip]:
    """What of the porter's weights is not PyTorch's, carried over by the map."""
    carried = weights.to_jax(own.values)
    right = [link.of(carried[link.jax]) for link in weights.links]
    for link, ours in zip(weights.links, right, strict=True):
        if link.adds:
            continue  # the leaf is looked at where the other tensor is
        path = link.jax if link.jax in own.given else ("params", *link.jax[1:])
        if path not in own.given:
            continue
        theirs = link.of(own.given[path])
        if not same(ours, theirs):
            found = _found(link, ours, theirs, weights, own, right)
            yield Slip(link, ours, np.array(theirs), found)


def _related(ours: np.ndarray, theirs: np.ndarray) -> Relation | None:
    """How a leaf was made from the right one; where heads are split off, of the axis whole."""
    shapes = [ours.shape]
    if ours.ndim > 2:
        shapes += [(len(ours), -1), (-1, ours.shape[-1])]
    for shape in shapes:
        if found := relation(ours.reshape(shape), theirs.reshape(shape)):
            return replace(found, value=found.value.reshape(theirs.shape))
    return None


def _found(
    link: Link,
    ours: np.ndarray,
    theirs: np.ndarray,
    weights: WeightMap,
    own: Own,
    right: list[np.ndarray],
) -> Relation | None:
    """What a leaf is instead: another tensor, several biases in one, the right one changed."""
    found = _related(ours, theirs)
    if telling(theirs) and (found is None or found.kind == "part"):
        linked = {other.torch for other in weights.links}
        for name, value in own.values.items():
            alone = name not in linked and value.shape == own.values[link.torch].shape
            if not alone or link.rows:
                continue
            other = link.forward(value)
            if same(other, theirs):
                return Relation("lost", f"{name} alone", other)
            if np.allclose(ours + other, theirs, rtol=1e-5, atol=1e-7):
                return Relation("summed", f"the sum of {link.torch} and {name}", ours + other)
        for other, value in zip(weights.links, right, strict=True):
            if other is link or value.shape != theirs.shape:
                continue
            if same(value, theirs):
                kind = "rows" if other.torch == link.torch else "another"
                return Relation(kind, other.source, value)
            turned = moved(value, theirs)
            if turned and turned.kind in ("transposed", "flipped", "reordered"):
                return Relation("another", f"{other.source}, {turned.text}", turned.value)
    return found
