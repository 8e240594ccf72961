"""PyTorch's side of a capture: hooks that clone, and a function mode for what is no module."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from compare.capture.branches import Flips
from compare.capture.given import Given, mode_name
from compare.capture.operations import Operations
from compare.capture.program import Program, ref
from compare.capture.taps import Section, Tap
from compare.capture.torch_masks import Masks, injected
from compare.capture.torch_model import copied, state, trained
from compare.capture.torch_operations import Watcher
from compare.capture.torch_precision import multiplied
from compare.capture.torch_recorder import Call, Narrow, Recorder, leaves, never_compiled, source
from compare.capture.torch_tables import widen
from compare.errors import whose
from compare.share import to_numpy, to_torch
from compare.twin import Phase, Twin, generator
from compare.weights import optim


class TorchRun:
    """One run of the PyTorch side: a generator of sections.

    Args:
      model: copied, never touched.
      dtype: the dtype of every floating value.
      compiled: run through `torch.compile`.
      precision: on CUDA "highest" turns TF32 off, "default" on.
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
        self.dtypes: dict[str, str] = {}  # of tensors that have another than the run's
        self.lifted: dict[str, None] = {}
        self.narrow: dict[str, None] = {}
        self._moved = moved
        self._rng = generator(given.seed, *moved)
        self.model = copied(model)
        if isinstance(self.model, nn.Module):
            self.model.to(device, self.dtype)
            if self.lift:
                widen(self.model, given.attributes)
        self.replace(given.state)

    def _cross(self, array: np.ndarray) -> torch.Tensor:
        tensor = to_torch(array, self.dtype, self.device)
        # Whole numbers are meant as they are: a mask that is asked whether it is zero.
        if not self._moved or not tensor.is_floating_point() or (tensor == tensor.round()).all():
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

    def rehearse(self, phase: Phase | None) -> tuple[dict[str, tuple[int, ...] | None], Masks]:
        """The outputs of a phase's call (None: in eval) by suffix, the shapes of those that are
        floating; and what it draws.
        """
        self._mode(train=phase is not None)
        inputs, _ = self._batch(self.given.batch)
        with torch.no_grad(), Masks(source) as masks:
            output = self._call(phase, inputs)
        self._reload()
        shapes = {s: tuple(t.shape) if t.is_floating_point() else None for s, t in leaves(output)}
        return shapes, masks

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
                for name, tensor in state(self.model).items():
                    if name in self._state:
                        tensor.copy_(self._cross(self._state[name]))

    def _parameters(self, phase: Phase) -> dict[str, nn.Parameter]:
        return trained(self.model, phase)

    def _buffers(self) -> dict[str, torch.Tensor]:
        if not isinstance(self.model, nn.Module):
            return {}
        return {k: v for k, v in self.model.named_buffers() if k in self.given.state}

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.twin.autocast is None or self.lift:
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, getattr(torch, self.twin.autocast))

    def _call(self, phase: Phase | None, inputs: list) -> Any:
        with self._autocast(), whose("PyTorch's model"):
            return self._called(phase, inputs)

    def _called(self, phase: Phase | None, inputs: list) -> Any:
        if self.twin.torch_call:
            return self.twin.torch_call(self.model, *inputs)
        name = phase.call if phase else self.twin.call
        call = getattr(self.model, name) if name else self.model
        drops = self.given.draws.get(mode_name(phase) if phase else "eval")  # masks need eager mode
        if not self.compiled or drops:
            return call(*inputs)
        never_compiled()
        return torch.compile(call)(*inputs)

    def _mode(self, train: bool) -> None:
        if isinstance(self.model, nn.Module):
            self.model.train(train)

    def _recorder(self, mode: str) -> Recorder:
        return Recorder(self.model, self.impose(mode), self.lift, self.inputs)

    def _keep(self, mode: str, output: Any, recorder: Recorder) -> None:
        named = {f"{mode}/out{suffix}": t for suffix, t in leaves(output)}
        named |= {f"{mode}/layer/{key}": t for key, t in recorder.taps.items()}
        named |= {f"{mode}/gradient/layer/{key}": t for key, t in recorder.gradients.items()}
        self.dtypes |= {
            name: str(t.dtype).removeprefix("torch.")
            for name, t in named.items()
            if t.is_floating_point() and t.dtype != self.dtype
        }
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
        self._keep(mode, output, recorder)
        return _tensors(mode, output, recorder)

    def _objective(self, phase: Phase, output: Any, targets: list) -> torch.Tensor:
        loss = self.twin.objective("torch", phase.loss)
        if loss is None:
            floats = [t for _, t in leaves(output) if t.is_floating_point()]
            products = [(t * c).sum() for t, c in zip(floats, targets, strict=True)]
            return sum(products, torch.zeros((), dtype=self.dtype, device=self.device))
        with self._autocast(), whose("PyTorch's loss"):
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
        self._keep(mode, output, recorder)
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
        output, loss, _ = self._pass(phase, recorder)
        program.inputs |= {f"out{suffix}": ref(tensor) for suffix, tensor in leaves(output)}
        if loss is not None:
            program.inputs["loss"] = ref(loss)
        return program

    def operations(self, phase: Phase | None, back: bool = False) -> Operations:
        """Every operation of a pass, with the fingerprints of what it gives; no value is kept.

        Args:
          back: those of the backward pass, too.
        """
        watcher = Watcher(self.model if isinstance(self.model, nn.Module) else None)
        parameters = self._parameters(phase) if phase is not None else {}
        for parameter in self._parameters(Phase("")).values():
            parameter.grad = None
        output, loss, inputs = self._pass(phase, watcher, watcher.pull if back else None)
        ends = {f"out{suffix}": tensor for suffix, tensor in leaves(output)}
        ends |= {} if loss is None else {"loss": loss}
        given = {f"input/{n}": x for n, x in zip(self.twin.inputs, inputs, strict=True)}
        given |= {f"param/{name}": parameter for name, parameter in parameters.items()}
        ends |= {f"gradient/{name}": x.grad for name, x in given.items() if x.grad is not None}
        return watcher.ended(ends)

    def _pass(
        self,
        phase: Phase | None,
        recorder: Recorder,
        pull: Callable[[torch.Tensor], None] | None = None,
    ) -> tuple[Any, torch.Tensor | None, list[torch.Tensor]]:
        """One forward pass with its loss, if it has one, under a recorder.

        Args:
          pull: runs the loss back; without it there are no gradients.

        Returns: the output, the loss, the inputs.
        """
        self._mode(train=phase is not None)
        inputs, targets = self._batch(self.given.batch)
        if recorder.program is not None:
            for name, tensor in zip(self.twin.inputs, inputs, strict=True):
                recorder.program.output(f"input/{name}", tensor)
        loss, masked = None, self._masked(mode_name(phase) if phase else "eval")
        for x in inputs:
            x.requires_grad_(pull is not None and x.is_floating_point())
        with self._settings(), masked, torch.set_grad_enabled(pull is not None), recorder:
            output = self._call(phase, [x.clone() for x in inputs] if pull else inputs)
            if phase is not None:
                targets += [self._cross(a) for a in self.given.cotangents.get(phase.name, [])]
                recorder.scope("loss")
                loss = self._objective(phase, output, targets)
            if pull is not None and loss is not None and loss.requires_grad:
                pull(loss)
        self._reload()
        return output, loss, inputs

    def _still(self, phase: Phase) -> None:
        """Exact zeros for gradients that are zero by analysis."""
        for name, parameter in self._parameters(phase).items():
            still = self.given.still.get(f"{mode_name(phase)}/{name}")
            if still is not None and parameter.grad is not None:
                where = torch.from_numpy(still).to(parameter.device)
                parameter.grad = parameter.grad.masked_fill(where, 0)

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
        with multiplied(self.precision == "default"), self._default():
            if not self.watch:
                yield
                return
            with Narrow() as narrow:
                yield
            self.narrow |= narrow.found

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
            for name, parameter in self.model.named_parameters():
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
