"""Containers that keep torch's names."""

import inspect
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax

__all__ = ["Sequential"]


class Sequential(nn.Module):
    """Applies layers one after the other; child i is named `str(i)`, as in `torch.nn.Sequential`.

    `nn.Sequential` of Linen names its children after the attribute and counts only modules
    (`layers_0`, `layers_2`). Here a plain function takes up its index too, so that
    `(nn.Conv(...), nn.relu, nn.Conv(...))` has parameters under '0' and '2', the paths of torch's
    `state_dict`. `train` is passed on to the modules whose `__call__` takes it.

    Example::

      net = Sequential((nn.Dense(8), nn.relu, nn.Dense(2)))
      variables = net.init(jax.random.key(0), jnp.ones((1, 4)))
      variables["params"].keys()  # '0', '2'

    Args:
      layers: modules and functions of one array. A module is a template: the sequence calls a copy
        that it names itself, so a module that occurs twice has two sets of parameters.
        torch: `nn.Sequential(a, b)` takes them as positional arguments, and shares.
    """

    layers: Sequence[Callable]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, nn.Module):
                x = layer(x)
                continue
            mode = {"train": train} if "train" in inspect.signature(layer).parameters else {}
            x = layer.copy(name=str(index))(x, **mode)
        return x
