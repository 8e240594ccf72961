"""A CUDA device that is none: PyTorch runs on the CPU, and what would mix two devices is told."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from compare.capture.taps import caller

HIDDEN = re.compile(r"[/\\](compare[/\\]capture|torch|contextlib|pretended)[/\\.]")
CUDA = torch.device("cuda", 0)
# Operations that may be given a CPU tensor beside one of CUDA: copies, indices, lengths.
MIXING = set("copy_ _to_copy index index_put index_put_ _index_put_impl_".split())
MIXING |= {"_pack_padded_sequence"}
READING = (torch.Tensor.numpy, torch.Tensor.__array__)


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


class Pretended:
    """Inside, tensors that are moved to "cuda" say that they are there, and stay where they were.

    A tensor is there by its storage; what is computed from one that is there, is there, too.

    Attributes:
      mixed: "source: operation" of every operation that CUDA would refuse, for it is given tensors
        of both devices. Single numbers may come from the CPU.
    """

    def __init__(self) -> None:
        self.mixed: dict[str, None] = {}
        self.calling = False  # a function that is given something of the device
        self._there: dict[int, torch.UntypedStorage] = {}  # kept, or its address would be reused
        self._modes = (_Dispatched(self), _Called(self))

    def __enter__(self) -> Pretended:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*exception)

    def holds(self, tensor: torch.Tensor) -> bool:
        try:
            return _storage(tensor).data_ptr() in self._there
        except RuntimeError:  # hidden by torch.func: what it was made from has been seen
            return True

    def put(self, value: Any, there: bool = True) -> None:
        for tensor in _tensors(value):
            if there and self.holds(tensor):
                continue
            storage = _storage(tensor)
            if there and storage.data_ptr():
                self._there[storage.data_ptr()] = storage
            elif not there:
                self._there.pop(storage.data_ptr(), None)

    def refuse(self, name: str) -> None:
        self.mixed[f"{caller(HIDDEN)}: {name}"] = None


def _storage(tensor: torch.Tensor) -> torch.UntypedStorage:
    while is_functorch_wrapped_tensor(tensor):
        tensor = get_unwrapped(tensor)
    return tensor.untyped_storage()


class _Dispatched(TorchDispatchMode):
    """Every operation, those of the backward pass, too."""

    def __init__(self, device: Pretended) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        device, kwargs = self.device, kwargs or {}
        tensors = _tensors((args, kwargs))
        given = [tensor for tensor in tensors if tensor.numel()]
        there = [tensor for tensor in given if device.holds(tensor)]
        name = func._schema.name.partition("::")[2]
        if there and name not in MIXING and any(t.ndim and not device.holds(t) for t in given):
            device.refuse(name)
        result = func(*args, **kwargs)
        filled = name in MIXING and args[0].numel() and not device.holds(args[0])
        made = name == "lift_fresh" or not tensors
        if (there and not filled) or (made and device.calling) or (tensors and not given):
            device.put(result)
        return result


class _Called(TorchFunctionMode):
    """What is asked for by name: where a tensor is, and where one is to be."""

    def __init__(self, device: Pretended) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        device, kwargs = self.device, kwargs or {}
        if func == torch.Tensor.device.__get__:
            return CUDA if device.holds(args[0]) else func(*args)
        if func == torch.Tensor.is_cuda.__get__:  # pyrefly: ignore[missing-attribute]
            return device.holds(args[0])
        to = func is torch.Tensor.to or func is torch.Tensor.cpu
        wanted = "cpu" if func is torch.Tensor.cpu else kwargs.get("device")
        if func is torch.Tensor.to and len(args) > 1 and isinstance(args[1], (str, torch.device)):
            wanted, args = args[1], (args[0], "cpu", *args[2:])
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": "cpu"}
        there = wanted is not None and torch.device(wanted).type == "cuda"
        outer, held = device.calling, any(map(device.holds, _tensors((args, kwargs))))
        if func in READING and held:
            device.refuse(func.__name__)
        if to and wanted is not None and held != there:
            args = (args[0].clone(), *args[1:])
            device.put(args[0], there)
        device.calling = there or (held and not (to and wanted is not None))
        try:
            result = func(*args, **kwargs)
        finally:
            device.calling = outer
        if there:
            device.put(result)
        if func.__name__ == "_pack_padded_sequence":
            if device.holds(args[1]):
                device.refuse("lengths")
            device.put(result[1], False)  # the batch sizes stay on the CPU
        return result
