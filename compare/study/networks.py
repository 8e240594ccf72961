"""One network on both sides, for the lessons: the same weights, trained on the same batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np

from compare.ladder.weight_map import weight_map
from compare.layout import channels_last
from compare.report.terminal import tracked
from compare.share import to_jax, to_numpy, to_torch
from compare.twin import Twin

__all__ = ["Networks"]
Batch = tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]  # inputs, targets


class Networks:
    """A Flax and a PyTorch network of one architecture, in float64, that start from one set of
    weights: PyTorch's own initialisation, drawn from `rng`.

        nets = Networks(JaxMLP, MLP, same.rng, x[:2], in_features=64, hidden=(32,), out_features=10)
        losses = np.array([*nets.train(batches, (jax_loss, loss), (sgd, torch_sgd))])
        same("losses", *losses.T)
        same("parameters", *nets.state())

    Args:
      jax, torch: the classes, or functions that make the networks.
      rng: what the weights are drawn from.
      inputs: an example of what the networks take; images are NCHW here, and reach JAX as NHWC.
      config: constructor keywords of both.
    """

    def __init__(
        self,
        jax: Callable,
        torch: Callable,
        rng: np.random.Generator,
        *inputs: np.ndarray,
        **config: Any,
    ) -> None:
        from flax.traverse_util import unflatten_dict

        from compare.capture.torch_model import construct, values

        example = {f"input{place}": array for place, array in enumerate(inputs)}
        twin = Twin(torch=lambda: torch(**config), jax=lambda: jax(**config), inputs=example)
        self.torch = construct(twin, int(rng.integers(2**63))).double()
        self.jax = twin.build("jax")
        self._map = weight_map(twin)
        leaves = self._map.to_jax(values(self.torch))
        self.variables = unflatten_dict(
            {path: to_jax(array, np.float64) for path, array in leaves.items()}
        )

    def __call__(self, *inputs: np.ndarray) -> tuple[Any, Any]:
        """The outputs in evaluation mode: JAX's, PyTorch's."""
        import torch

        self.torch.eval()
        with torch.no_grad():
            theirs = self.torch(*_torch(inputs))
        return _jitted(self.jax)(self.variables, *_jax(inputs)), theirs

    def accuracy(self, x: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
        """The share of examples whose largest output is that of the label: JAX's, PyTorch's."""
        ours, theirs = (to_numpy(scores).argmax(-1) == labels for scores in self(x))
        return float(ours.mean()), float(theirs.mean())

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Parameters and buffers by PyTorch's names, in its layout: JAX's, PyTorch's."""
        from flax.traverse_util import flatten_dict

        from compare.capture.torch_model import values

        leaves = flatten_dict(self.variables)
        ours = self._map.to_torch({path: to_numpy(leaf) for path, leaf in leaves.items()})
        theirs = values(self.torch)
        return ours, {name: theirs[name] for name in ours}

    def train(
        self,
        batches: Iterable[Batch],
        losses: tuple[Callable, Callable],
        optimizers: tuple[Any, Callable],
    ) -> Iterator[tuple[float, float]]:
        """Trains both, a step per batch; between steps the networks can be looked at.

        Args:
          batches: ((input, ...), (target, ...)) each, in NumPy.
          losses: JAX's and PyTorch's, each called as loss(outputs, *targets).
          optimizers: an optax transformation, and a function of parameters that makes PyTorch's.

        Returns: an iterator of the losses before each step: JAX's, PyTorch's.
        """
        from jaxnn.training.steps import TrainState
        from torchref.training.steps import train_step

        step = _step()
        optimizer = optimizers[1](self.torch.parameters())
        state = TrainState.create(
            apply_fn=_apply(self.jax),
            params=self.variables["params"],
            tx=optimizers[0],
            batch_stats=self.variables.get("batch_stats", {}),
        )
        for inputs, targets in tracked(batches, "training both"):
            state, ours = step(state, _jax(inputs), _jax(targets), losses[0])
            theirs = train_step(self.torch, optimizer, _torch(inputs), _torch(targets), losses[1])
            self.variables = self.variables | {"params": state.params}
            if state.batch_stats:
                self.variables |= {"batch_stats": state.batch_stats}
            yield float(ours), float(theirs)


def _jax(arrays: Iterable[np.ndarray]) -> tuple:
    images = (channels_last(a) if np.ndim(a) == 4 else np.asarray(a) for a in arrays)
    return tuple(to_jax(array, np.float64) for array in images)


def _torch(arrays: Iterable[np.ndarray]) -> tuple:
    import torch

    return tuple(to_torch(np.asarray(array), torch.float64) for array in arrays)


@cache
def _jitted(model: Any) -> Callable:
    from compare.capture.compiler import jit

    return jit(lambda variables, *inputs: model.apply(variables, *inputs, train=False))


@cache
def _apply(model: Any) -> Callable:
    """One function for equal networks, so that a step that is compiled serves them all."""
    return model.apply


@cache
def _step() -> Callable:
    from compare.capture.compiler import jit
    from jaxnn.training.steps import train_step

    return jit(train_step, static_argnames="loss")
