"""What happens inside PyTorch's model: hooks that clone, a function mode for what is no module."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import os
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from compare.capture.branches import Flips, imposed
from compare.capture.program import Program, ref
from compare.capture.taps import BRANCHES, FUNCTIONS, Tap, caller, files_of, input_key, numbered
from compare.share import to_torch

LOW = (torch.float32, torch.float16, torch.bfloat16)
NARROWING = {
    torch.Tensor.float: "float32",
    torch.Tensor.half: "float16",
    torch.Tensor.bfloat16: "bfloat16",
}
HIDDEN = files_of("torch")
AMP = os.path.join(os.path.dirname(torch.amp.__file__), "")
NAMES = {
    "hardtanh": "hard_tanh",
    "hardsigmoid": "hard_sigmoid",
    "hardswish": "hard_silu",
    "logsigmoid": "log_sigmoid",
    "softsign": "soft_sign",
}


def _functions() -> dict[Any, str]:
    """PyTorch's functions that are recorded, in every spelling -> their common names."""
    found: dict[Any, str] = {}
    for home in (torch, torch.Tensor, nn.functional, torch._C._nn):
        for attribute in dir(home):
            name = re.sub(r"[123]d(_with_indices)?$", "", attribute.strip("_"))
            if NAMES.get(name, name) in FUNCTIONS and callable(getattr(home, attribute)):
                found[getattr(home, attribute)] = NAMES.get(name, name)
    return found


def source() -> str:
    """Where user code made the present call, as "file:line"; unknown inside torch.compile."""
    return "" if torch.compiler.is_compiling() else caller(HIDDEN)


def leaves(
    value: Any, suffix: str = "", packed: bool = False
) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of nested tuples, dicts, dataclasses, with the suffixes that JAX's side gives.

    Args:
      packed: leave packed sequences as they are; else they are padded.
    """
    if isinstance(value, torch.Tensor):
        yield suffix, value
    elif isinstance(value, nn.utils.rnn.PackedSequence):
        yield suffix, value.data if packed else nn.utils.rnn.pad_packed_sequence(value)[0]
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{suffix}.{key}", packed)
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            name = value._fields[index] if hasattr(value, "_fields") else index
            yield from leaves(item, f"{suffix}.{name}", packed)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), f"{suffix}.{field.name}", packed)


def _apart(output: Any, views: dict[int, torch.Tensor] | None = None) -> Any:
    """Each tensor of nested tuples, dicts and dataclasses as a place of its own: of an LSTM's two
    states h is made from c, and the gradient of c would be counted through both; the tag in JAX is
    behind that. A tensor that is returned twice is one value, with one gradient.
    """
    views = {} if views is None else views
    if type(output) in (tuple, list):
        return type(output)(_apart(item, views) for item in output)
    if isinstance(output, tuple) and hasattr(output, "_make"):
        return output._make(_apart(item, views) for item in output)
    if isinstance(output, dict):
        copied = copy.copy(output)
        for key, item in output.items():
            copied[key] = _apart(item, views)
        return copied
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        copied = copy.copy(output)
        for field in dataclasses.fields(output):
            object.__setattr__(copied, field.name, _apart(getattr(output, field.name), views))
        return copied
    if not isinstance(output, torch.Tensor):
        return output
    return views.setdefault(id(output), output.view_as(output))


KNOWN = _functions()


@dataclass(frozen=True)
class Call:
    """A call as it was made: of a module, as it was then, or of a function."""

    module: nn.Module | None
    function: Callable | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Recorder(TorchFunctionMode):
    """Records a model's layers and functions while it runs, their gradients while it runs back.

    Args:
      model: hooks are put on its modules, and taken off when the context is left.
      impose: branches to take, by key, instead of the run's own.
      lift: turn every cast to a type below float64 into one to float64, and list it.
      inputs: record the inputs of layers and functions, too.
      keep: the key of the place whose call is kept whole; "loss" for the calls that the loss makes.
      program: keeps every call.
    """

    def __init__(
        self,
        model: nn.Module | None,
        impose: Mapping[str, np.ndarray] | None = None,
        lift: bool = False,
        inputs: bool = False,
        keep: str | None = None,
        program: Program | None = None,
    ):
        super().__init__()
        self.calls: list[Call] = []
        self._keep, self.program = keep, program
        self.taps: dict[str, torch.Tensor] = {}
        self.gradients: dict[str, torch.Tensor] = {}
        self.branches: dict[str, torch.Tensor] = {}
        self.kinks: dict[str, tuple[int, ...]] = {}
        self.info: dict[str, Tap] = {}
        self.flips: dict[str, Flips] = {}
        self.lifted: dict[str, None] = {}
        self._impose, self._lift, self._inputs = impose or {}, lift, inputs
        self._seen: dict[str, int] = {}
        self._calls: list[tuple[str, str, str]] = []  # path, key, source of the open modules
        self._last: tuple[Any, int, torch.Tensor] | None = None
        self._modules = list(model.named_modules()) if isinstance(model, nn.Module) else []
        self._functional = {
            name
            for name, module in self._modules
            if not any(True for _ in module.children())
            and not any(True for _ in module.parameters())
            and type(module).__module__.startswith("torch.nn")
        }
        self._handles: list[Any] = []

    def __enter__(self) -> Recorder:
        for name, module in self._modules:
            if name:
                opening = module.register_forward_pre_hook(self._open(name), with_kwargs=True)
                self._handles.append(opening)
                self._handles.append(module.register_forward_hook(self._close(name, module)))
        super().__enter__()
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        super().__exit__(exc_type, exc_val, exc_tb)
        for handle in self._handles:
            handle.remove()
        self._last = None

    def scope(self, name: str) -> None:
        """Names what follows, outside every module (the loss)."""
        self._calls = [(name, name, "")] if name else []

    def _open(self, name: str):
        def hook(module: nn.Module, args: Any, kwargs: dict) -> Any:
            key = numbered(self._seen, name)
            self._calls.append((name, key, source()))
            if _transformed():
                return None
            if key == self._keep:
                self.calls.append(Call(copy.deepcopy(module), None, _cloned(args), kwargs))
            if self.program is not None:
                suffixes = [""] if len(args) == 1 else [f".{i}" for i in range(len(args))]
                for suffix, arg in zip(suffixes, args, strict=True):
                    for inner, tensor in leaves(arg, suffix, packed=True):
                        self.program.inputs[input_key(key, inner)] = ref(tensor)
            if not self._inputs:
                return None
            if len(args) == 1:
                return (self._given(input_key(key), args[0]),), kwargs
            given = (self._given(input_key(key, f".{i}"), arg) for i, arg in enumerate(args))
            return tuple(given), kwargs

        return hook

    def _given(self, key: str, value: Any) -> Any:
        """Records an input, and its gradient through this place alone: a view is another tensor."""
        if not isinstance(value, torch.Tensor):
            for suffix, leaf in leaves(value, key):
                self.taps[suffix] = leaf.detach().clone()
            return value
        self.taps[key] = self._clone(value)
        if not (value.is_floating_point() and torch.is_grad_enabled()):
            return value
        if not value.requires_grad:  # a first carry, a mask: JAX gives a gradient of it
            value = value + torch.zeros_like(value, requires_grad=True)
        view, gradients = value.view_as(value), self.gradients
        view.register_hook(lambda gradient: gradients.__setitem__(key, gradient))
        # An in-place function takes the view's hook away: it alone uses the value, as it was.
        value.register_hook(
            lambda gradient: gradients.__setitem__(key, gradients.get(key, gradient))
        )
        return view

    def _close(self, name: str, module: nn.Module):
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            _, key, where = self._calls.pop()
            if _transformed():
                return output
            if any(output is arg for arg in args) and isinstance(output, torch.Tensor):
                output = output.view_as(output)  # a place of its own, with its own gradient
            given = [value for _, value in leaves(output, packed=True)]
            if len(given) > 1:
                output = _apart(output)
            whole, hash_, count = key.partition("#")
            for (suffix, value), behind in zip(leaves(output), given, strict=True):
                if value.is_floating_point():
                    known = self.info.get(key)
                    kind = known.kind if known else type(module).__name__
                    tap = Tap(name, kind, where, name in self._functional)
                    self._record(whole + suffix + hash_ + count, tap, value, behind)
            if self.program is not None:
                for suffix, value in leaves(output, packed=True):
                    self.program.output(whole + suffix + hash_ + count, value, name)
            return output

        return hook

    def _record(self, key: str, tap: Tap, value: torch.Tensor, behind: torch.Tensor) -> None:
        """Keeps a value, and its gradient; `behind` is itself, or what it is a view of."""
        self.info[key] = tap
        if torch.compiler.is_compiling():  # the layers' gradients stay inside the compiled graph
            self.taps[key] = value.detach().clone()
            return
        self.taps[key] = self._clone(value)
        if value.requires_grad:
            gradients = self.gradients  # a hook that held `self` would hold the graph that holds it
            value.register_hook(lambda gradient: gradients.__setitem__(key, gradient))
            if behind is not value and _is_same(behind, value):
                # As in `_given`; but the module itself may use what it gives, and nobody the view.
                written, alias = value._version, value.detach()  # which shares the version

                def without_view(gradient: torch.Tensor) -> None:
                    if alias._version != written:
                        gradients.setdefault(key, gradient)

                behind.register_hook(without_view)

    def _clone(self, value: torch.Tensor) -> torch.Tensor:
        """A clone, as a later in-place function overwrites what is seen here; one for a value that
        several places in a row give and are given.
        """
        last = self._last
        if last is None or last[1] != value._version or not _is_same(last[0], value):
            last = self._last = (value, value._version, value.detach().clone())
        return last[2]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._lift:
            func, args, kwargs = self._lifted(func, args, kwargs)
        if self.program is None or _transformed():
            return self._called(func, args, kwargs)
        return self.program.call(func, args, kwargs, lambda: self._called(func, args, kwargs))

    def _called(self, func: Any, args: Any, kwargs: Any) -> Any:
        name = KNOWN.get(func)
        path, key, where = self._calls[-1] if self._calls else ("", "", "")
        inside = path in self._functional and bool(path)
        if _transformed():
            if name and not inside:  # it counts, as it does in JAX
                numbered(self._seen, f"{path}.{name}" if path else name)
            return func(*args, **kwargs)
        if path == self._keep == "loss" and getattr(nn.functional, func.__name__, None) is func:
            self.calls.append(Call(None, func, _cloned(args), kwargs))
        if name is None:
            return func(*args, **kwargs)
        if inside:
            self.info[key] = Tap(path, name, where, True)
        else:
            key = numbered(self._seen, f"{path}.{name}" if path else name)
            if key == self._keep:
                self.calls.append(Call(None, func, _cloned(args), kwargs))
            if self.program is not None and isinstance(args[0], torch.Tensor):
                self.program.inputs[input_key(key)] = ref(args[0])
            if self._inputs and isinstance(args[0], torch.Tensor):
                args = (self._given(input_key(key), args[0]), *args[1:])
        if name in BRANCHES:
            x = args[0]
            self.kinks[key] = tuple(x.shape)
            if not self._lift:  # in float64 every run has the branches that it is given
                self.branches[key] = x.detach().clone()
            if key in self._impose:
                theirs = to_torch(self._impose[key], x.dtype, x.device)
                output, self.flips[key] = imposed(name, func, x, theirs, args[1:], kwargs)
                if kwargs.get("inplace") or func.__name__.endswith("_"):
                    output = x.copy_(output)
            else:
                output = func(*args, **kwargs)
        elif name == "hard_sigmoid" and self._lift:
            self.lifted[f"{source()}: float32 in the gradient of hardsigmoid"] = None
            output = _hard_sigmoid(func, *args, **kwargs)
        else:
            output = func(*args, **kwargs)
        if not inside and isinstance(output, torch.Tensor) and output.is_floating_point():
            self._record(key, Tap(path, name, source(), True), output, output)
            if self.program is not None:
                self.program.output(key, output)
        return output

    def _lifted(self, func: Any, args: Any, kwargs: dict) -> tuple[Any, Any, dict]:
        named = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype) and a in LOW]
        if func not in NARROWING and not named:
            return func, args, kwargs
        if _scaling():
            return func, args, kwargs
        name = str(named[0]) if named else NARROWING[func]
        self.lifted[f"{source()}: {name.removeprefix('torch.')}"] = None
        if func in NARROWING:
            return torch.Tensor.double, args, kwargs
        wide = lambda a: torch.float64 if isinstance(a, torch.dtype) and a in LOW else a  # noqa: E731
        return func, tuple(wide(a) for a in args), {k: wide(v) for k, v in kwargs.items()}


def _hard_sigmoid(func: Any, x: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    """`func`, with the gradient in float64: PyTorch's own multiplies by a sixth in float32."""
    output = nn.functional.relu6(x + 3) / 6
    return x.copy_(output) if inplace or func.__name__.endswith("_") else output


def _transformed() -> bool:
    """Whether torch.func transforms what runs: its tensors have no values outside of it."""
    return not torch.compiler.is_compiling() and bool(torch._C._functorch.peek_interpreter_stack())


def _scaling() -> bool:
    """Whether a GradScaler made the present call: its scale is float32, whatever the gradients are,
    and a power of two unless somebody chose another.
    """
    frame = sys._getframe(1)
    while frame is not None and HIDDEN.search(frame.f_code.co_filename):
        if frame.f_code.co_filename.startswith(AMP):
            return True
        frame = frame.f_back
    return False


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are one, or a view of all of it as it is."""
    return one is other or (
        one.data_ptr() == other.data_ptr()
        and (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)
    )


def _cloned(args: tuple) -> tuple:
    return tuple(a.detach().clone() if isinstance(a, torch.Tensor) else a for a in args)


class Narrow(TorchDispatchMode):
    """Finds every value of a float64 run that falls below float64, whoever made it."""

    def __init__(self):
        super().__init__()
        self.found: dict[str, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for _, tensor in leaves(result):
            if tensor.dtype in LOW and not _scaling():
                self.found[f"{source()}: {func} gives {str(tensor.dtype)[6:]}"] = None
        return result


@functools.cache
def never_compiled() -> None:
    """The recorder is traced as a part of graphs, and never compiled by itself: where
    `torch.compile` gives a function up, it takes the functions that this calls, one by one.
    """
    from torch._dynamo.eval_frame import skip_code

    codes = [each.__code__ for each in vars(Recorder).values() if inspect.isfunction(each)]
    for code in codes:
        skip_code(code)
        codes += [each for each in code.co_consts if isinstance(each, types.CodeType)]  # hooks
