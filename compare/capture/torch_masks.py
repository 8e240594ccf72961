"""PyTorch's masks at the dispatcher, where every dropout ends, of modules, functions and LSTMs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from compare.capture.masks import Draw, single
from compare.share import to_torch

aten = torch.ops.aten
INPLACE = (aten.bernoulli_.float, aten.bernoulli_.Tensor)
FRESH = (aten.bernoulli.default, aten.bernoulli.p)


class Masks(TorchDispatchMode):
    """Puts given masks in the place of those that PyTorch draws.

    Two draws from one state of the generator are one draw: what a checkpoint computes again.

    Args:
      source: where user code made the present call.
      draw: the uniform numbers of a draw, by its number and shape; None leaves PyTorch's masks.

    Attributes:
      draws: the distinct draws, in order.
      masks: the masks themselves, where they are PyTorch's own.
      noise: "source: operation" of every other random number.
    """

    def __init__(
        self,
        source: Callable[[], str],
        draw: Callable[[int, tuple[int, ...]], np.ndarray] | None = None,
    ):
        super().__init__()
        self.draws: list[Draw] = []
        self.masks: list[torch.Tensor] = []
        self.noise: dict[str, None] = {}
        self._source, self._draw = source, draw
        self._known: dict[Any, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        named = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        fused = func == aten.native_dropout.default and named["train"] is not False
        if not (fused or func in INPLACE or func in FRESH):
            if torch.Tag.nondeterministic_seeded in func.tags and _random(func, named):
                self.noise[f"{self._source()}: {func}"] = None
            return func(*args, **kwargs)
        x = named["input"] if fused else named["self"]
        state = _state(named.get("generator"), x.device)
        result = func(*args, **kwargs)  # the generator moves on
        keep = 1 - named["p"] if fused else named.get("p", x if func == FRESH[0] else 0.5)
        index = self._known.setdefault((state, x.shape), len(self.draws))
        if new := index == len(self.draws):
            rate = keep.detach().cpu() if isinstance(keep, torch.Tensor) else keep
            self.draws.append(Draw(tuple(x.shape), single(rate), self._source()))
        if self._draw is None:
            if new:
                self.masks.append((result[1] if fused else result).detach() != 0)
            return result
        mask = to_torch(self._draw(index, tuple(x.shape)), torch.float64, x.device) < keep
        if fused:
            return x * mask * (1 / keep if keep else 0.0), mask
        return result.copy_(mask)


def _random(func: Any, named: dict[str, Any]) -> bool:
    """Whether an operation that may draw does: attention without dropout draws nothing."""
    switches = {"dropout_p", "dropout", "training", "train"}
    arguments = [a for a in func._schema.arguments if a.name in switches]
    return all(named.get(a.name, a.default_value) for a in arguments)


def _state(generator: torch.Generator | None, device: torch.device) -> bytes:
    if generator is not None:
        state = generator.get_state()
    elif device.type == "cuda":
        state = torch.cuda.get_rng_state(device)
    else:
        state = torch.get_rng_state()
    return state.numpy().tobytes()


@contextlib.contextmanager
def injected(
    model: Any,
    device: str,
    source: Callable[[], str],
    draw: Callable[[int, tuple[int, ...]], np.ndarray],
) -> Iterator[None]:
    """Inside, the model's masks are those that `draw` gives; CUDA's fused kernels, which draw
    inside themselves, are left aside."""
    with contextlib.ExitStack() as stack:
        if device == "cuda":
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            modules = model.modules() if isinstance(model, nn.Module) else ()
            if any(isinstance(m, nn.RNNBase) and m.dropout for m in modules):
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(Masks(source, draw))
        yield
