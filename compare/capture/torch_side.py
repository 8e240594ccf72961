"""PyTorch's side of a capture: hooks that clone, and a function mode for what is no module."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from compare import optim
from compare.capture import BRANCHES, FUNCTIONS, Section, Tap, caller, input_key, numbered
from compare.capture.branches import Flips, imposed
from compare.capture.given import Given, mode_name
from compare.capture.program import Program, ref
from compare.capture.torch_masks import Masks, injected
from compare.share import to_numpy, to_torch
from compare.twin import Phase, Twin, generator
from compare.weights import Leaf

LOW = (torch.float32, torch.float16, torch.bfloat16)
NARROWING = {
    torch.Tensor.float: "float32",
    torch.Tensor.half: "float16",
    torch.Tensor.bfloat16: "bfloat16",
}
HIDDEN = re.compile(r"[/\\](compare[/\\]capture|torch|contextlib)[/\\.]")
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
        for key in sorted(value):
            yield from leaves(value[key], f"{suffix}.{key}", packed)
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            name = value._fields[index] if hasattr(value, "_fields") else index
            yield from leaves(item, f"{suffix}.{name}", packed)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), f"{suffix}.{field.name}", packed)


def _apart(output: Any, views: dict[int, torch.Tensor] | None = None) -> Any:
    """Each tensor of nested tuples as a place of its own: of an LSTM's two states h is made from c,
    and the gradient of c would be counted through both; the tag in JAX is behind that. A tensor
    that is returned twice is one value, with one gradient.
    """
    views = {} if views is None else views
    if type(output) in (tuple, list):
        return type(output)(_apart(item, views) for item in output)
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
        name = str(named[0]) if named else NARROWING[func]
        self.lifted[f"{source()}: {name.removeprefix('torch.')}"] = None
        if func in NARROWING:
            return torch.Tensor.double, args, kwargs
        wide = lambda a: torch.float64 if isinstance(a, torch.dtype) and a in LOW else a  # noqa: E731
        return func, tuple(wide(a) for a in args), {k: wide(v) for k, v in kwargs.items()}


def _transformed() -> bool:
    """Whether torch.func transforms what runs: its tensors have no values outside of it."""
    return not torch.compiler.is_compiling() and bool(torch._C._functorch.peek_interpreter_stack())


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
            if tensor.dtype in LOW:
                self.found[f"{source()}: {func} gives {str(tensor.dtype)[6:]}"] = None
        return result


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer by name, also the buffers that a state dict leaves out."""
    return {**model.state_dict(keep_vars=True), **dict(model.named_buffers())}


def _copied(model: Any) -> Any:
    """A deep copy, also where the older weight_norm keeps a computed weight that refuses it."""
    memo = {}
    for module in model.modules() if isinstance(model, nn.Module) else ():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach()
    return copy.deepcopy(model, memo)


def specification(model: Any) -> tuple[dict[str, Leaf], dict[str, str]]:
    """The tensors of a model by name, and its tied names."""
    if not isinstance(model, nn.Module):
        return {}, {}
    owners = {name: type(m).__name__ for name, m in model.named_modules(remove_duplicate=False)}
    persistent = model.state_dict()
    found: dict[str, Leaf] = {}
    aliases: dict[str, str] = {}
    first: dict[Any, str] = {}
    for name, tensor in _state(model).items():
        storage = id(tensor)
        if tensor.numel() and not tensor.is_meta:
            storage = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if storage in first:
            aliases[name] = first[storage]
            continue
        first[storage] = name
        layer = owners.get(name.rpartition(".")[0], "")
        layer = next((kind for kind in ("LSTM", "GRU") if kind in layer), layer)
        found[name] = Leaf(
            tuple(tensor.shape),
            str(tensor.dtype)[6:],
            layer,
            isinstance(tensor, nn.Parameter),
            name in persistent,
        )
    return found, aliases


def construct(twin: Twin, seed: int) -> Any:
    """The model with its own initialisation, drawn from a seed that is the twin's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return twin.build("torch")


def values(model: Any) -> dict[str, np.ndarray]:
    """The model's state as NumPy arrays."""
    if not isinstance(model, nn.Module):
        return {}
    return {name: to_numpy(tensor) for name, tensor in _state(model).items()}


def trained(model: Any, phase: Phase) -> dict[str, nn.Parameter]:
    """The parameters that a phase trains."""
    if not isinstance(model, nn.Module):
        return {}
    named = model.named_parameters()
    return {name: p for name, p in named if re.search(phase.trains, name) and p.requires_grad}


@functools.cache
def _never_compiled() -> None:
    """The recorder is traced as a part of graphs, and never compiled by itself: where
    `torch.compile` gives a function up, it takes the functions that this calls, one by one.
    """
    from torch._dynamo.eval_frame import skip_code

    codes = [each.__code__ for each in vars(Recorder).values() if inspect.isfunction(each)]
    for code in codes:
        skip_code(code)
        codes += [each for each in code.co_consts if isinstance(each, types.CodeType)]  # hooks


class TorchRun:
    """One run of the PyTorch side: a generator of sections.

    Args:
      model: copied, never touched.
      dtype: the dtype of every floating value.
      compiled: run through `torch.compile`.
      precision: "highest" turns TF32 off, "default" on.
      moved: the purpose of a generator; weights and inputs are then moved by one random ulp.
      impose: gives the branches to take in a mode ("eval", "train…"), by key.
      watch: find values that fall below float64.
    """

    def __init__(
        self,
        twin: Twin,
        model: Any,
        given: Given,
        *,
        dtype: str = "float64",
        device: str = "cpu",
        compiled: bool = False,
        precision: str = "highest",
        moved: tuple[object, ...] = (),
        impose: Callable[[str], Mapping[str, np.ndarray]] | None = None,
        watch: bool = False,
        inputs: bool = False,
    ):
        self.twin, self.given = twin, given
        self.dtype, self.device, self.compiled = getattr(torch, dtype), device, compiled
        self.precision = precision
        self.lift, self.watch, self.inputs = dtype == "float64", watch, inputs
        self.impose = impose or (lambda mode: {})
        self.info: dict[str, dict[str, Tap]] = {}
        self.branches: dict[str, dict[str, np.ndarray]] = {}
        self.kinks: dict[str, dict[str, tuple[int, ...]]] = {}
        self.flips: dict[str, Flips] = {}
        self.lifted: dict[str, None] = {}
        self.narrow: dict[str, None] = {}
        self._moved = moved
        self._rng = generator(given.seed, *moved)
        self.model = _copied(model)
        if isinstance(self.model, nn.Module):
            self.model.to(device, self.dtype)
        self.replace(given.state)

    def _cross(self, array: np.ndarray) -> torch.Tensor:
        tensor = to_torch(array, self.dtype, self.device)
        if not self._moved or not tensor.is_floating_point():
            return tensor
        count = tensor.numel()
        bits = np.unpackbits(np.frombuffer(self._rng.bytes(count // 8 + 1), np.uint8))[:count]
        up = torch.from_numpy(bits.astype(bool)).reshape(tensor.shape).to(tensor.device)
        infinity = torch.tensor(torch.inf, dtype=tensor.dtype, device=tensor.device)
        return torch.nextafter(tensor, torch.where(up, infinity, -infinity))

    def replace(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes other weights than those given."""
        self._state = state
        self._reload()

    def rehearse(self, phase: Phase | None) -> tuple[list[tuple[int, ...]], Masks]:
        """Shapes of the floating outputs of a phase's call (None: in eval), and what it draws."""
        self._mode(train=phase is not None)
        inputs, _ = self._batch(self.given.batch)
        with torch.no_grad(), Masks(source) as masks:
            output = self._call(phase, inputs)
        self._reload()
        return [tuple(t.shape) for _, t in leaves(output) if t.is_floating_point()], masks

    def _masked(self, mode: str, step: int = 0) -> contextlib.AbstractContextManager:
        """Dropout's masks are the given ones; nothing, where the model draws none."""
        if not self.given.draws.get(mode):
            return contextlib.nullcontext()
        draw = functools.partial(self.given.uniform, mode, step)
        return injected(self.model, self.device, source, draw)

    def order(self) -> list[str]:
        """The modules in the order of their first calls, in eval mode."""
        called: dict[str, None] = {}
        self._mode(train=False)
        hooks = [
            module.register_forward_pre_hook(lambda *_, name=name: called.setdefault(name))
            for name, module in self.model.named_modules()
        ]
        inputs, _ = self._batch(self.given.batch)
        with torch.no_grad():
            self._call(None, inputs)
        for hook in hooks:
            hook.remove()
        return list(called)

    def _reload(self) -> None:
        """The weights as they were at first, moved as they were: kept nowhere, made again."""
        self._rng = generator(self.given.seed, *self._moved)
        if isinstance(self.model, nn.Module):
            with torch.no_grad():
                for name, tensor in _state(self.model).items():
                    if name in self._state:
                        tensor.copy_(self._cross(self._state[name]))

    def _parameters(self, phase: Phase) -> dict[str, nn.Parameter]:
        return trained(self.model, phase)

    def _buffers(self) -> dict[str, torch.Tensor]:
        if not isinstance(self.model, nn.Module):
            return {}
        return {k: v for k, v in self.model.named_buffers() if k in self.given.state}

    def _call(self, phase: Phase | None, inputs: list) -> Any:
        if self.twin.torch_call:
            return self.twin.torch_call(self.model, *inputs)
        name = phase.call if phase else self.twin.call
        call = getattr(self.model, name) if name else self.model
        drops = self.given.draws.get(mode_name(phase) if phase else "eval")  # masks need eager mode
        if not self.compiled or drops:
            return call(*inputs)
        _never_compiled()
        return torch.compile(call)(*inputs)

    def _mode(self, train: bool) -> None:
        if isinstance(self.model, nn.Module):
            self.model.train(train)

    def _recorder(self, mode: str) -> Recorder:
        return Recorder(self.model, self.impose(mode), self.lift, self.inputs)

    def _keep(self, mode: str, recorder: Recorder) -> None:
        self.info[mode] = recorder.info
        self.branches[mode] = _arrays(recorder.branches)
        self.kinks[mode] = recorder.kinks
        self.flips |= {f"{mode}/{key}": flips for key, flips in recorder.flips.items()}
        self.lifted |= recorder.lifted

    def _batch(self, batch: dict) -> tuple[list, list]:
        inputs = [self._cross(batch[name]) for name in self.twin.inputs]
        return inputs, [self._cross(batch[name]) for name in self.twin.targets]

    def _evaluate(self, mode: str) -> dict[str, np.ndarray]:
        self._mode(train=False)
        inputs, _ = self._batch(self.given.batch)
        settings, masked = self._settings(), self._masked(mode)
        with settings, masked, torch.no_grad(), self._recorder(mode) as recorder:
            output = self._call(None, inputs)
        self._keep(mode, recorder)
        return _tensors(mode, output, recorder)

    def _objective(self, phase: Phase, output: Any, targets: list) -> torch.Tensor:
        loss = self.twin.objective("torch", phase.loss)
        if loss is None:
            floats = [t for _, t in leaves(output) if t.is_floating_point()]
            products = [(t * c).sum() for t, c in zip(floats, targets, strict=True)]
            return sum(products, torch.zeros((), dtype=self.dtype, device=self.device))
        return loss(output, *targets)

    def _train(
        self, phase: Phase, batch: dict, mode: str | None, step: int = 0
    ) -> dict[str, np.ndarray]:
        """Forward and backward in train mode; with a mode, recorded under it."""
        masked = self._masked(mode_name(phase), step)
        self._mode(train=True)
        inputs, targets = self._batch(batch)
        targets += [self._cross(array) for array in self.given.cotangents.get(phase.name, [])]
        for parameter in self._parameters(Phase("")).values():
            parameter.grad = None
        if mode is None:
            lifting = Recorder(None, lift=True) if self.lifted else contextlib.nullcontext()
            with self._settings(), masked, lifting:
                loss = self._objective(phase, self._call(phase, inputs), targets)
                loss.backward()
            self._still(phase)
            return {"loss": to_numpy(loss)}
        leaf = [x.requires_grad_(x.is_floating_point()) for x in inputs]
        with self._settings(), masked:
            with self._recorder(mode) as recorder:
                output = self._call(phase, [x.clone() for x in leaf])
                recorder.scope("loss")
                loss = self._objective(phase, output, targets)
            if loss.requires_grad:
                loss.backward()
        self._keep(mode, recorder)
        tensors = _tensors(mode, output, recorder)
        tensors[f"{mode}/loss"] = to_numpy(loss)
        for name, buffer in self._buffers().items():
            tensors[f"{mode}/buffer/{name}"] = to_numpy(buffer)
        if not loss.requires_grad:
            return tensors
        for name, x in zip(self.twin.inputs, leaf, strict=True):
            if x.is_floating_point():
                gradient = torch.zeros_like(x) if x.grad is None else x.grad
                tensors[f"{mode}/gradient/input/{name}"] = to_numpy(gradient, copy=False)
        for name, parameter in self._parameters(phase).items():
            none = parameter.grad is None
            gradient = torch.zeros_like(parameter) if none else parameter.grad
            tensors[f"{mode}/gradient/param/{name}"] = to_numpy(gradient, copy=False)
        for key, gradient in _arrays(recorder.gradients).items():
            tensors[f"{mode}/gradient/layer/{key}"] = gradient
        return tensors

    def alone(self, phase: Phase | None) -> dict[str, np.ndarray]:
        """One pass: a phase's in training mode, forward and back; None for the one in eval mode."""
        self._reload()
        if phase is None:
            return self._evaluate("eval")
        return self._train(phase, self.given.batch, mode_name(phase))

    def calls(self, phase: Phase | None, key: str) -> list[Call]:
        """The call that is recorded under a key, or those of the "loss", as they are made.

        Args:
          phase: the update in whose training pass; None for eval mode.
        """
        recorder = Recorder(self.model, None, self.lift, keep=key)
        self._pass(phase, recorder)
        return recorder.calls

    def program(self, phase: Phase | None) -> Program:
        """Every function that a pass calls, in order."""
        program = Program()
        recorder = Recorder(self.model, None, self.lift, program=program)
        output, loss = self._pass(phase, recorder)
        program.inputs |= {f"out{suffix}": ref(tensor) for suffix, tensor in leaves(output)}
        if loss is not None:
            program.inputs["loss"] = ref(loss)
        return program

    def _pass(self, phase: Phase | None, recorder: Recorder) -> tuple[Any, torch.Tensor | None]:
        """One forward pass with its loss, if it has one, under a recorder; no gradients."""
        self._mode(train=phase is not None)
        inputs, targets = self._batch(self.given.batch)
        if recorder.program is not None:
            for name, tensor in zip(self.twin.inputs, inputs, strict=True):
                recorder.program.output(f"input/{name}", tensor)
        loss, masked = None, self._masked(mode_name(phase) if phase else "eval")
        with self._settings(), masked, torch.no_grad(), recorder:
            output = self._call(phase, inputs)
            if phase is not None:
                targets += [self._cross(a) for a in self.given.cotangents.get(phase.name, [])]
                recorder.scope("loss")
                loss = self._objective(phase, output, targets)
        self._reload()
        return output, loss

    def _still(self, phase: Phase) -> None:
        """Exact zeros for gradients that are zero by analysis."""
        for name, parameter in self._parameters(phase).items():
            if f"{mode_name(phase)}/{name}" in self.given.still and parameter.grad is not None:
                parameter.grad = torch.zeros_like(parameter)

    def sections(self, trajectory: bool = True) -> Iterator[Section]:
        """forward in eval mode; per phase forward, gradients, step; trajectory by step; final.

        A section is the caller's alone: a run that waits holds none that it has given.
        """
        yield Section("forward", self._evaluate("eval"))
        for phase in self.twin.updates:
            self._reload()
            mode = mode_name(phase)
            gradients = self._train(phase, self.given.batch, mode)
            forward = [k for k in gradients if "/gradient/" not in k]
            yield Section("forward", {k: gradients.pop(k) for k in forward})
            yield Section("gradients", {k: gradients.pop(k) for k in list(gradients)})
            if self._parameters(phase):
                yield Section("step", self._free(phase, mode))
                yield Section("step", self._forced(phase, mode))
        if trajectory:
            yield from self.trajectory()

    @contextlib.contextmanager
    def _default(self) -> Iterator[None]:
        """What names no dtype has the run's: NAdam's product of momenta, too."""
        default = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(default)

    @contextlib.contextmanager
    def _settings(self) -> Iterator[None]:
        """The run's dtype is the default one; where asked, whatever falls below it is found."""
        homes: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
        allowed = [home.allow_tf32 for home in homes]
        for home in homes:
            home.allow_tf32 = self.precision == "default"
        try:
            with self._default():
                if not self.watch:
                    yield
                    return
                with Narrow() as narrow:
                    yield
                self.narrow |= narrow.found
        finally:
            for home, allow in zip(homes, allowed, strict=True):
                home.allow_tf32 = allow

    def _free(self, phase: Phase, mode: str) -> dict[str, np.ndarray]:
        """The update from the gradients just computed."""
        parameters = self._parameters(phase)
        optimizer = optim.torch_optimizer(phase.optimizer, list(parameters.values()))
        optim.follow_schedule(phase.optimizer, optimizer, 0)
        self._still(phase)
        with self._default():
            optimizer.step()
        return _updated(f"{mode}/free", parameters, optimizer)

    def _forced(self, phase: Phase, mode: str) -> dict[str, np.ndarray]:
        """The teacher-forced update, from the given gradients and state."""
        self._reload()
        parameters = self._parameters(phase)
        names = {p: name for name, p in parameters.items()}
        optimizer = optim.torch_optimizer(phase.optimizer, list(parameters.values()))
        optim.write_torch(optimizer, names, self.given.optimizer[phase.name])
        for name, parameter in parameters.items():
            parameter.grad = to_torch(
                self.given.gradients[phase.name][name], self.dtype, self.device
            )
        optim.follow_schedule(phase.optimizer, optimizer, optim.START)
        with self._default():
            optimizer.step()
        for parameter in parameters.values():
            parameter.grad = None
        return _updated(f"{mode}/forced", parameters, optimizer)

    def trajectory(self) -> Iterator[Section]:
        """The sections after the rungs: a training run; none where there is nothing to train."""
        if not self._parameters(Phase("")):
            return
        self._reload()
        updates = [(phase, self._parameters(phase)) for phase in self.twin.updates]
        optimizers = [
            optim.torch_optimizer(phase.optimizer, list(parameters.values()))
            for phase, parameters in updates
        ]

        def trained(step: int, batch: dict) -> dict[str, np.ndarray]:
            tensors = {}
            for (phase, _), optimizer in zip(updates, optimizers, strict=True):
                loss = self._train(phase, batch, None, step + 1)["loss"]
                tensors[f"{mode_name(phase)}/loss"] = loss
                optim.follow_schedule(phase.optimizer, optimizer, step)
                with self._default():
                    optimizer.step()
            for name, parameter in self._parameters(Phase("")).items():
                parameter.grad = None
                tensors[f"param/{name}"] = to_numpy(parameter)
            return tensors

        def final() -> dict[str, np.ndarray]:
            tensors = self._evaluate("eval")
            for name, buffer in self._buffers().items():
                tensors[f"buffer/{name}"] = to_numpy(buffer)
            for (phase, parameters), optimizer in zip(updates, optimizers, strict=True):
                tensors |= _state_of(mode_name(phase), parameters, optimizer)
            return tensors

        for step, batch in enumerate(self.twin.batches(self.given.seed, self.given.steps)):
            yield Section("trajectory", trained(step, batch), step + 1)
        yield Section("final", final())


def _updated(prefix: str, parameters: Mapping[str, Any], optimizer: Any) -> dict[str, np.ndarray]:
    tensors = {f"{prefix}/param/{name}": to_numpy(p) for name, p in parameters.items()}
    return tensors | _state_of(prefix, parameters, optimizer)


def _state_of(prefix: str, parameters: Mapping[str, Any], optimizer: Any) -> dict[str, np.ndarray]:
    state = optim.read_torch(optimizer, {p: name for name, p in parameters.items()})
    return {
        f"{prefix}/state/{slot}/{name}": value
        for slot, values in state.items()
        for name, value in values.items()
    }


def _tensors(mode: str, output: Any, recorder: Recorder) -> dict[str, np.ndarray]:
    tensors = {f"{mode}/out{suffix}": to_numpy(t) for suffix, t in leaves(output)}
    return tensors | {f"{mode}/layer/{k}": v for k, v in _arrays(recorder.taps).items()}


def _arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """What was recorded as NumPy arrays; nobody writes to it any more."""
    return {key: to_numpy(t, copy=False) for key, t in tensors.items()}
