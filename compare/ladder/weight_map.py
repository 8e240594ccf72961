"""The weight map of a twin from shapes alone, for whoever brings the weights."""

from __future__ import annotations

from typing import Any

from compare.errors import DiptychError, need, reason
from compare.ladder.pair import Pair
from compare.twin import Twin, generator
from compare.weights.build import build as build_map
from compare.weights.map import WeightMap
from compare.weights.named import named

# In-place initialisers, which have nothing to do on the meta device (and import a second of code).
_FILLS = frozenset("uniform_ normal_ trunc_normal_ fill_ zero_ copy_ bernoulli_ erfinv_".split())


def weight_map(twin: Twin) -> WeightMap:
    """The bijection between both sides' tensors, from their shapes alone: no weights are made.

    Raises:
      DiptychError: a side cannot be built, or the two sides do not hold the same tensors.
    """
    need("torch", "jax")
    from compare.capture import jax_model, torch_model

    try:
        leaves, aliases = torch_model.specification(_on_meta(twin))
        batch = twin.draw(generator(0, "inputs"))
        model = twin.build("jax")
        shapes = jax_model.shapes(twin, model, batch)
        kinds = jax_model.kinds(twin, model, batch, leaves)
        found = build_map(leaves, shapes, named(twin.rename, twin.name), aliases, kinds)
        if found.differences and not twin.room:  # names that differ: the order of execution tells
            found = Pair(twin).weights
        found.keys = jax_model.keys(model)
    except DiptychError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {reason(error)}"
        given = f" with {dict(twin.config)}" if twin.config else ""
        raise DiptychError(f"{twin.name} cannot be built{given} ({what})") from error
    if found.differences:
        more = len(found.differences) - 1
        rest = f" (and {more} more)" if more else ""
        raise DiptychError(f"{twin.name} has no weight map: {found.differences[0]}{rest}")
    return found


def _on_meta(twin: Twin) -> Any:
    """The PyTorch model without memory or values; an instance that the twin holds is as it is."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Idle(TorchFunctionMode):
        """Skips what would only fill memory."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            kwargs = kwargs or {}
            name = getattr(func, "__name__", "")
            if name in _FILLS or getattr(func, "__module__", None) == "torch.nn.init":
                target = args[0] if args else kwargs.get("tensor")
                if isinstance(target, torch.Tensor) and target.is_meta:
                    return target
            return func(*args, **kwargs)

    try:
        with torch.device("meta"), Idle():
            return twin.build("torch")
    except (NotImplementedError, RuntimeError):  # a constructor that reads its own values
        return twin.build("torch")
