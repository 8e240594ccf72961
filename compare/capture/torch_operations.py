"""The operations of one pass of PyTorch's, as its dispatcher sees them, with their fingerprints."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from compare.capture.fingerprint import Fingerprint, fingerprint, ordered
from compare.capture.operations import INTEGERS, Operation, Operations
from compare.capture.taps import Tap
from compare.capture.torch_recorder import Recorder, source
from compare.share import to_numpy

MOVING = frozenset(
    "cat stack clone copy detach alias lift_fresh _to_copy contiguous constant_pad_nd flip roll"
    " _reshape_copy index select slice".split()
)
# Those with a data operand whose elements are summed over, and its axis.
SUMMED = {"addmm": (1, -1), "mm": (0, -1), "convolution": (0, 1)}
SHAPED = re.compile(r"_like$|^new_")  # these read no values
DETACHING = (torch.Tensor.detach, torch.Tensor.detach_, torch.detach)
PARAMETRIZED = re.compile(r"\.parametrizations\..*")
Key = tuple[Any, ...]


class Watcher(Recorder):
    """A recorder that keeps no values, but every operation with the place that it runs in.

    Args:
      model: as of a recorder; its parameters and buffers are the weights.

    Attributes:
      found: the operations so far.
    """

    def __init__(self, model: nn.Module | None):
        super().__init__(model, None, lift=True)
        self.found = Operations()
        self._weights = {}
        if isinstance(model, nn.Module):
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
                self._weights.setdefault(StorageWeakRef(tensor.untyped_storage()).cdata, name)
        self._layers = {name: _is_layer(name, module) for name, module in self._modules}
        self._storages: dict[int, Any] = {}  # held, so that no address is given again
        self._versions: dict[int, int] = {}
        self._written: dict[int, list[int]] = {}  # values that stand in a storage, the whole first
        self._values: dict[Key, int] = {}
        self._made: dict[int, int] = {}  # a node of autograd -> the operation that it goes back
        self._of: int | None = None  # of the node that runs, or ran last
        self._detaching = False
        self._dispatch = _Dispatch(self)

    def __enter__(self) -> Watcher:
        super().__enter__()
        self._whole = sdpa_kernel(SDPBackend.MATH)  # attention as the products that it is made of
        self._whole.__enter__()
        self._dispatch.__enter__()
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        self._dispatch.__exit__(exc_type, exc_val, exc_tb)
        self._whole.__exit__(exc_type, exc_val, exc_tb)
        super().__exit__(exc_type, exc_val, exc_tb)

    def pull(self, loss: torch.Tensor) -> None:
        """Runs a loss back; the operations are those of the forward pass, going back."""
        seed = torch.ones(loss.shape, dtype=loss.dtype, device=loss.device)
        self.found.seed = self._value(seed)
        loss.backward(seed)

    def ended(self, ends: Mapping[str, torch.Tensor]) -> Operations:
        """The whole pass; `ends` names what it comes to."""
        self.found.ends = {name: self._value(tensor) for name, tensor in ends.items()}
        return self.found

    def _record(self, key: str, tap: Tap, value: torch.Tensor, behind: torch.Tensor) -> None:
        self.info[key] = tap

    def _called(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A function that is recorded by name is a place, too."""
        known, first = len(self.info), len(self.found.operations)
        self._detaching = func in DETACHING
        output = super()._called(func, args, kwargs)
        self._detaching = False
        if len(self.info) > known:
            key, tap = next(reversed(self.info.items()))
            inside = self.found.operations[first:] if tap.function else []
            for index, op in enumerate(inside, first):
                self.found.operations[index] = replace(op, place=key, layer=True)
        return output

    def ran(self, func: Any, args: tuple, kwargs: dict, run: Any) -> Any:
        """Runs one operation, and keeps what it reads and gives."""
        if func is torch.ops.aten.detach.default and not self._detaching:
            return run()  # autograd's own: the same value, under the same key
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        reads = tuple(map(self._value, given))
        order = self._order(func, given, reads)
        output = run()
        name = func._schema.name.partition("::")[2].rstrip("_")
        reads = () if SHAPED.search(name) else reads
        written = list(_written(func, args, kwargs))
        constant = not any(self.found.prints[v] is not None for v in reads)
        for tensor in written:
            self._versions[_storage(tensor)] += 1
        gives = []
        for tensor in (*written, *(x for x in tree_leaves(output) if _is_new(x, written))):
            storage, changed = self._known(tensor), any(tensor is x for x in written)
            viewed = None if changed or not reads else self._viewed(tensor, given, reads)
            print_ = None if constant else viewed or _print(tensor)
            number = self.found.value(print_)
            if changed:
                self._written.setdefault(storage, []).append(number)
            elif not any(storage == _storage(x) for x in given):
                self._written[storage] = [number]
            self._values[self._key(tensor)] = number
            gives.append(number)
        moves = name in MOVING or (bool(given) and not written and _is_view(output, given[0]))
        place, line, layer = self._where()
        self.found.operations.append(
            Operation(name, line, place, reads, tuple(gives), layer, moves, order, self._of)
        )
        return output

    def _where(self) -> tuple[str, str, bool]:
        """The place of the present operation, its line, and whether that place is a layer; going
        back those of the operation whose node runs, or ran last: it is their gradients that add up.
        """
        if self.found.seed is None:
            number = torch.autograd._get_sequence_nr() - 1
            self._made.setdefault(number, len(self.found.operations))
            path, key, _ = self._calls[-1] if self._calls else ("", "", "")
            return PARAMETRIZED.sub("", key), source(), self._layers.get(path, False)
        node = torch._C._current_autograd_node()
        if node is not None:
            self._of = self._made.get(node._sequence_nr(), self._of)
        if self._of is None:
            return "", "", False
        of = self.found.operations[self._of]
        return of.place, of.source, of.layer

    def _known(self, tensor: torch.Tensor) -> int:
        """The storage of a tensor, which is held from now on."""
        storage = _storage(tensor)
        if storage not in self._storages:
            strided = tensor.layout is torch.strided
            self._storages[storage] = (
                StorageWeakRef(tensor.untyped_storage()) if strided else tensor
            )
        self._versions.setdefault(storage, 0)
        return storage

    def _key(self, tensor: torch.Tensor) -> Key:
        storage = _storage(tensor)
        if tensor.layout is not torch.strided:
            return (storage,)
        how = (tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        return (storage, self._versions.get(storage, 0), *how, tensor.is_conj(), tensor.is_neg())

    def _value(self, tensor: torch.Tensor) -> int:
        """The number of what a tensor holds now; it may be new, or have been written elsewhere."""
        storage, key = self._known(tensor), self._key(tensor)
        if key not in self._values:
            reads = tuple(self._written.get(storage, ()))
            constant = reads and all(self.found.prints[v] is None for v in reads)
            print_ = None if constant else _print(tensor)
            self._values[key] = self.found.value(print_)
            if reads:
                gives = (self._values[key],)
                self.found.operations.append(Operation("alias", "", "", reads, gives, moves=True))
            else:
                floats = tensor.is_floating_point() or tensor.is_complex()
                data = "data" if floats else INTEGERS
                weight = self._weights.get(storage)
                self.found.given[self._values[key]] = f"weight/{weight}" if weight else data
                self._written[storage] = [self._values[key]]
        return self._values[key]

    def _viewed(self, tensor: Any, given: list, reads: tuple[int, ...]) -> Fingerprint | None:
        """The fingerprint of what a tensor is a view of all of."""
        for value, read in zip(given, reads, strict=True):
            same = (value.numel(), value.dtype) == (tensor.numel(), tensor.dtype)
            dense = tensor.layout is torch.strided and 0 not in (*tensor.stride(), *value.stride())
            if same and dense and _storage(value) == _storage(tensor):
                return self.found.prints[read]
        return None

    def _order(self, func: Any, given: list, reads: tuple[int, ...]) -> dict[int, float]:
        name = func._schema.name.partition("::")[2]
        if name not in SUMMED:
            return {}
        which, axis = SUMMED[name]
        operand = given[which]
        return {} if operand.is_meta else {reads[which]: ordered(_array(operand), axis)}


class _Dispatch(TorchDispatchMode):
    def __init__(self, watcher: Watcher):
        super().__init__()
        self._watcher = watcher

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return self._watcher.ran(func, args, kwargs, lambda: func(*args, **kwargs))


def _print(tensor: torch.Tensor) -> Fingerprint | None:
    """None where there are only shapes."""
    return None if tensor.is_meta else fingerprint(_array(tensor))


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    tensor = tensor.to_dense() if tensor.layout is not torch.strided else tensor
    return to_numpy(tensor.resolve_conj().resolve_neg(), copy=False)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else id(tensor)


def _is_new(value: Any, written: list[torch.Tensor]) -> bool:
    return isinstance(value, torch.Tensor) and not any(value is x for x in written)


def _is_view(output: Any, of: torch.Tensor) -> bool:
    given = [x for x in tree_leaves(output) if isinstance(x, torch.Tensor)]
    return bool(given) and all(_storage(x) == _storage(of) for x in given)


def _written(func: Any, args: tuple, kwargs: dict) -> Iterator[torch.Tensor]:
    """The arguments that an operation writes to."""
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            yield from (x for x in tree_leaves(value) if isinstance(x, torch.Tensor))


def _is_layer(name: str, module: nn.Module) -> bool:
    """Whether a module is one that a port has as one, too: PyTorch's own, or without children."""
    own = type(module).__module__.startswith("torch.nn")
    made = type(module).__name__.startswith("Transformer") or isinstance(module, nn.Sequential)
    return bool(name) and ((own and not made) or not any(True for _ in module.children()))
