"""The twin: what joins one architecture's two implementations, and what they are fed."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import os
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compare.errors import DiptychError

# How a twin trains that does not say how; and where that is chaotic or overflows.
DEFAULT: Any = ("sgd", {"lr": 0.1})
TAME: Any = ("sgd", {"lr": 1e-2})


def generator(seed: int, *purpose: object) -> np.random.Generator:
    """The NumPy generator of one purpose: every draw that is compared comes from one of these."""
    words = [zlib.crc32(str(word).encode()) for word in purpose]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


@dataclass(frozen=True, init=False)
class Array:
    """A generic float input of the given shape, standard normal; the same array on both sides."""

    shape: tuple[int, ...]

    def __init__(self, shape: tuple[int, ...]):
        object.__setattr__(self, "shape", tuple(shape))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal(self.shape).astype(np.float32)


@dataclass(frozen=True)
class Image:
    """Generic images (n, c, h, w): NCHW for PyTorch, NHWC for JAX."""

    n: int
    c: int
    h: int
    w: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.n, self.c, self.h, self.w)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal(self.shape).astype(np.float32)


@dataclass(frozen=True)
class Labels:
    """Integer class labels (n,) in [0, classes)."""

    n: int
    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.n,)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, self.classes, self.shape)


@dataclass(frozen=True)
class Lengths:
    """Sequence lengths (n,) in [1, longest]; the longest and, where n > 1, the shortest occur."""

    n: int
    longest: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.n,)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        lengths = rng.integers(1, self.longest + 1, self.shape)
        lengths[-1] = 1
        lengths[0] = self.longest
        return lengths


@dataclass(frozen=True)
class Tokens:
    """Integer tokens (n, length) in [0, vocab)."""

    n: int
    length: int
    vocab: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.n, self.length)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, self.vocab, self.shape)


@dataclass(frozen=True)
class Phase:
    """One of several alternating updates: which parameters it trains, and by what loss.

    Args:
      name: shown in the report.
      trains: regular expression on PyTorch's parameter names.
      call: the method, of that name on both sides, that this phase runs.
      loss: as in `Twin`.
      optimizer: as in `Twin`.
    """

    name: str
    trains: str = ""
    call: str | None = None
    loss: Any = None
    optimizer: Any = DEFAULT


@dataclass(frozen=True, kw_only=True)
class Twin:
    r"""One architecture, twice: what to build, what to feed it, how to train it.

    Args:
      torch, jax: an instance or a zero-argument callable giving one; `torch` an `nn.Module` or a
        plain function, `jax` a Linen, NNX or Equinox module, a plain function, or
        `(apply, variables)` with `apply(variables, *inputs)` and any pytree; new running statistics
        it returns as the second of two. Default, in the
        catalogue: the object of the twin's own name in `torchref/X.py` and `jaxnn/X.py`.
      of: in the catalogue, the name to take instead of the twin's own.
      config: constructor keywords that both sides get.
      variables: the weights of a Linen module, as its `apply` takes them. Weights that are given,
        here, in `(apply, variables)` or by a module that holds them, are the ones that run, if they
        were made from PyTorch's; else PyTorch's are carried over, into their structure.
      inputs: what the models are called with, in order: `Array`, `Image`, `Labels`, `Lengths`,
        `Tokens`, or real arrays (four-dimensional ones are NCHW images unless `layout` is "same").
      targets: what the loss takes after the outputs; "mse" draws its own where none is given.
      loss: a name (a function of the mirrored files, else of `training/losses.py`), or the pair
        `(torch_loss, jax_loss)`, each called as `loss(outputs, *targets)`. Default: the inner
        product of the outputs with a generic array.
      optimizer: `(name, keywords)` in torch.optim's terms, or the pair
        `(parameters -> torch optimizer, optax transformation)`. Default: SGD at 0.1, and where a
        trajectory is chaotic with that, at 0.01.
      data: `data(rng)` yields real batches (dicts of inputs and targets) for the trajectory; what
        it does not give is drawn. Default: generic batches.
      rename: regular expressions on PyTorch's dotted names -> JAX's names, applied in turn to the
        names of modules and of tensors. One matches whole components, wherever they stand: "fc" is
        the "fc" of "head.fc" and of "fc.weight", and not part of "fc1"; r"blocks\.(\d+)" renames
        what lies below, too. What stands behind a slash in a replacement is not matched again. A
        name that comes out as the path of a leaf is that leaf: {"embed.weight": "tok/embedding"}.
        An expression that matches nothing is refused. Or the path of a file of pairs, as
        `diptych pair` writes them.
      ignore: regular expressions of whole names ("encoder.mask_token", "encoder/mask_token") of
        parameters or buffers that only one side has and nothing uses; the report counts them.
      layout: "NHWC" where JAX's images are channels-last, "same" where both sides agree.
      call: the name of the method to call on both sides.
      torch_call, jax_call: `f(module, *inputs)` for models that need more than `module(*inputs)`;
        `jax_call` gets a bound Linen module, an NNX or Equinox module (or `apply` and `variables`),
        and `train=`; a model of one example takes its batch axis there, by `jax.vmap`.
      phases: the alternating updates of models that have several.
      modes: ("eval",) for a port that never trains: its forward pass alone is compared, the report
        says so, and gradients, steps and the trajectory are n/a.
      autocast: "bfloat16" or "float16" for mixed precision: PyTorch's calls and losses run under
        `torch.autocast` of that type, JAX's model names its types itself, and parameters stay
        float32 on both sides. Their numerics are judged in that alone.
      full: the fields that change at the published size (`--full`).
    """

    torch: Any = None
    jax: Any = None
    of: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    variables: Any = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    targets: Mapping[str, Any] = field(default_factory=dict)
    loss: Any = None
    optimizer: Any = DEFAULT
    data: Callable[[np.random.Generator], Iterator[dict[str, np.ndarray]]] | None = None
    rename: Mapping[str, str] | str | os.PathLike[str] = field(default_factory=dict)
    ignore: Collection[str] = ()
    layout: str = "NHWC"
    call: str | None = None
    torch_call: Callable | None = None
    jax_call: Callable | None = None
    phases: tuple[Phase, ...] = ()
    modes: tuple[str, ...] = ("eval", "train")
    autocast: str | None = None
    full: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self):
        if not self.inputs:
            raise DiptychError("Twin(inputs=...) is empty: name at least one input of the models")
        if not isinstance(self.rename, (Mapping, str, os.PathLike)):
            raise DiptychError(f"Twin(rename={self.rename!r}): give expressions, or a file's path")
        for pattern, replacement in self.rename.items() if isinstance(self.rename, Mapping) else ():
            try:
                re.sub(f"(?:{pattern})|", replacement, "")
            except (re.error, TypeError) as error:
                pair = f"{{{pattern!r}: {replacement!r}}}"
                raise DiptychError(f"Twin(rename={pair}) is no expression: {error}") from error
        if isinstance(self.ignore, str):
            raise DiptychError(f"Twin(ignore={self.ignore!r}): give a list of expressions")
        if self.layout not in ("NHWC", "same"):
            raise DiptychError(f"Twin(layout={self.layout!r}): it is 'NHWC' or 'same'")
        if tuple(self.modes) not in (("eval",), ("eval", "train")):
            raise DiptychError(f"Twin(modes={self.modes!r}): it is ('eval',) or ('eval', 'train')")
        if self.autocast not in (None, "bfloat16", "float16"):
            raise DiptychError(f"Twin(autocast={self.autocast!r}): it is 'bfloat16' or 'float16'")

    @property
    def room(self) -> str:
        """The relative path X of the three mirrored files, empty for a porter's own pair."""
        return self.name.partition(":")[0] if self.torch is None else ""

    @property
    def updates(self) -> tuple[Phase, ...]:
        """The phases, or the single one that an ordinary model has; none where it never trains."""
        if "train" not in self.modes:
            return ()
        whole = Phase("", call=self.call, loss=self.loss, optimizer=self.optimizer)
        return self.phases or (whole,)

    def published(self) -> Twin:
        """The twin at its published size."""
        return dataclasses.replace(self, full={}, **self.full)

    def configured(self, config: Mapping[str, Any]) -> Twin:
        """The twin with some constructor keywords changed.

        Raises:
          DiptychError: for a pair of the user's own, whose constructors are not called here.
        """
        if not config:
            return self
        if self.torch is not None:
            raise DiptychError(
                f"{self.name}: a twin of your own takes no --config; change its file"
            )
        return dataclasses.replace(self, config={**self.config, **config})

    def build(self, side: str) -> Any:
        """The model of one side ("torch" or "jax")."""
        given = getattr(self, side)
        if given is None:
            if not self.name:
                raise DiptychError(f"Twin({side}=...) is missing: give a model or a callable")
            name = self.of or self.name.partition(":")[2]
            given = self._mirrored(side, name)
            if given is None:
                raise DiptychError(f"{self.name}: {_package(side)}/{self.room}.py has no {name}")
        return _made(given, self.config)

    def objective(self, side: str, loss: Any) -> Callable | None:
        """The loss function of one side, or None for the inner product with a generic array."""
        if loss is None:
            return None
        if isinstance(loss, tuple):
            return loss[0 if side == "torch" else 1]
        found = self._mirrored(side, loss) if self.room else None
        if found is None:
            losses = importlib.import_module(f"{_package(side)}.training.losses")
            found = getattr(losses, loss, None)
        if found is None:
            raise DiptychError(f"loss={loss!r} is no function of {_package(side)}.training.losses")
        return found

    def _mirrored(self, side: str, name: str) -> Any:
        module = f"{_package(side)}.{self.room.replace('/', '.')}"
        return getattr(importlib.import_module(module), name, None)

    def draw(self, rng: np.random.Generator, given: Mapping[str, np.ndarray] | None = None) -> dict:
        """One batch: inputs and targets by name, NCHW, float values exact in float32."""
        given = given or {}
        batch = {}
        for name, spec in {**self.inputs, **self.targets}.items():
            value = given.get(name)
            if value is None:
                value = np.asarray(spec) if not hasattr(spec, "draw") else spec.draw(rng)
            if value.shape != spec.shape:
                raise DiptychError(
                    f"{self.name}: data gives {name!r} of shape {value.shape}, not {spec.shape}"
                )
            batch[name] = np.array(value)
        return batch

    def batches(self, seed: int, steps: int) -> Iterator[dict]:
        """The trajectory's batches, the same on both sides."""
        stream = self.data(generator(seed, "data")) if self.data else None
        for step in range(steps):
            yield self.draw(generator(seed, "batch", step), next(stream) if stream else None)


def _made(given: Any, config: Mapping[str, Any]) -> Any:
    """What a class or factory makes; a model, or a function that needs inputs, as it is."""
    if not (inspect.isroutine(given) or isinstance(given, (type, functools.partial))):
        return given
    try:
        inspect.signature(given).bind(**config)
    except (TypeError, ValueError):
        if config or isinstance(given, type):
            raise DiptychError(f"Twin(config={dict(config)}) does not fit {given}") from None
        return given
    return given(**config)


def _package(side: str) -> str:
    return "torchref" if side == "torch" else "jaxnn"
