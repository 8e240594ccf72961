"""What crosses to the two sides of a lesson, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from compare.layout import align, channels_last
from compare.report.terminal import tracked
from compare.share import to_jax, to_numpy, to_torch

__all__ = ["Images", "Steps", "Weights", "carried", "gathered", "laid_out", "stacked"]
ACROSS: dict[str, Callable[[np.ndarray], Any]] = {"jax": to_jax, "torch": to_torch}
NAMES = {"jax": "JAX", "torch": "PyTorch"}


class Images:
    """Images (N, C, H, W), as PyTorch lays them out; Flax is given them as (N, H, W, C)."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> Images:
        return Images(self.array[index])

    def of(self, side: str) -> Any:
        """The images as one framework has them."""
        return ACROSS[side](channels_last(self.array) if side == "jax" else self.array)


class Steps(Sequence):
    """What a training loop goes through, a step at a time, while a bar shows how far it is.

    Args:
      items: NumPy arrays, tuples of them, or numbers, one for each step.
      side: "jax" or "torch": whose arrays the loop is given; "" leaves them to NumPy.
    """

    def __init__(self, items: Sequence, side: str = "") -> None:
        self.items, self.side = items, side

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return carried(self.items[index], self.side) if self.side else self.items[index]

    def __iter__(self) -> Iterator:
        said = f"{NAMES[self.side]} trains" if self.side else "training"
        return (self[index] for index in tracked(range(len(self)), said))


class Weights:
    """The same starting weights for both sides: PyTorch's first ones, carried over to Flax.

    JAX is given variables for `net.apply`, PyTorch a state for `net.load_state_dict`.

    Args:
      jax, torch: functions or classes that make the networks; a Linen module may be given itself.
      seed: what PyTorch's initialisation draws from.
      inputs: an example of what the networks take; images are (N, C, H, W), Flax's (N, H, W, C).
      rename: patterns of PyTorch's names, and what stands in their place on Flax's side.
    """

    def __init__(
        self,
        jax: Any,
        torch: Callable[[], Any],
        seed: int,
        *inputs: np.ndarray,
        rename: Mapping[str, str] | None = None,
    ) -> None:
        from compare.capture.torch_model import construct, values
        from compare.ladder.weight_map import weight_map
        from compare.twin import Twin

        example = {f"input{place}": array for place, array in enumerate(inputs)}
        twin = Twin(torch=torch, jax=jax, inputs=example, rename=rename or {})
        self.map = weight_map(twin)
        self.state = values(construct(twin, seed).double())

    def of(self, side: str) -> dict[str, Any]:
        """The weights as the framework has them."""
        if side == "torch":
            return {name: to_torch(array) for name, array in self.state.items()}
        from flax.traverse_util import unflatten_dict

        return unflatten_dict({k: to_jax(v) for k, v in self.map.to_jax(self.state).items()})

    def named(self, variables: Mapping) -> dict[str, np.ndarray]:
        """Flax's variables by PyTorch's names, in its layout."""
        from flax.traverse_util import flatten_dict

        return self.map.to_torch({k: to_numpy(v) for k, v in flatten_dict(variables).items()})


def carried(value: Any, side: str) -> Any:
    """NumPy's arrays, alone or in tuples, lists and dicts, as arrays of one framework: copies."""
    if isinstance(value, (Images, Weights)):
        return value.of(side)
    if isinstance(value, Steps):
        return Steps(value.items, side)
    if isinstance(value, np.ndarray):
        return ACROSS[side](value)
    if isinstance(value, dict):
        return {name: carried(each, side) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(carried(each, side) for each in value)
    return value


def gathered(value: Any) -> Any:
    """What a side returned, with NumPy's arrays."""
    if isinstance(value, Mapping):
        return {name: gathered(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [gathered(each) for each in value]
    return to_numpy(value)


def stacked(value: Any) -> Any:
    """The same, with one array in place of every list of arrays of one shape."""
    if isinstance(value, dict):
        return {name: stacked(each) for name, each in value.items()}
    if isinstance(value, list):
        found = [stacked(each) for each in value]
        alone = bool(found) and all(isinstance(each, np.ndarray) for each in found)
        return np.stack(found) if alone and len({each.shape for each in found}) == 1 else found
    return value


def laid_out(ours: Any, theirs: Any) -> Any:
    """JAX's results with the axes of PyTorch's, wherever they are images."""
    if isinstance(ours, dict):
        return {name: laid_out(each, theirs.get(name)) for name, each in ours.items()}
    if isinstance(ours, list):
        return [laid_out(*pair) for pair in zip(ours, theirs, strict=True)]
    if np.ndim(ours) < 3:
        return ours
    found = align(ours, np.shape(theirs), "images")
    return ours if found is None else found
