"""What the layers' candidates share: a layer's settings, and its result with another forward."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from compare.differences.catalogue import Edit, Site

Form = Callable[..., Any]
EVERYTHING = ("output", "gradient", "param")


class Variant:
    """A copy of a module that runs another forward with the same parameters and buffers."""

    def __init__(self, module: Any, forward: Callable[..., Any]) -> None:
        self.module = copy.deepcopy(module)
        self.forward = forward
        self.named_parameters = self.module.named_parameters
        self.named_buffers = self.module.named_buffers

    def __call__(self, *inputs: Any) -> Any:
        return self.forward(self.module, *inputs)


def settings(site: Site, names: str, module: Any = None) -> SimpleNamespace:
    """A layer's settings: attributes of the module, or the function's arguments after the first."""
    listed, module = names.split(), module if module is not None else site.module
    if module is not None:
        found = {name: getattr(module, name, None) for name in listed}
    else:
        given = {**dict(zip(listed, site.args[1:], strict=False)), **site.kwargs}
        found = {name: given.get(name) for name in listed}
    return SimpleNamespace(**found)


def layer(site: Site, names: str, form: Form) -> Callable[[], Any]:
    """The result with `form(x, settings)` in the layer's place; its parameters stay leaves."""
    if site.module is None:
        return site.replaced(lambda x, *_: form(x, settings(site, names)))
    return rewritten(site, lambda m, x, *_: form(x, settings(site, names, m)))


def rewritten(site: Site, forward: Callable[..., Any]) -> Callable[[], Any]:
    """The result with `forward(module, *inputs)` in place of the module's own."""
    return lambda: site.result(Variant(site.module, forward), *site.inputs)


def retold(site: Site, names: str, **changes: Any) -> Callable[[], Any]:
    """The layer's own result with some of its settings changed."""
    if site.module is not None:
        return site.changed(**changes)
    listed, args, keywords = names.split(), list(site.args), {}
    for name, value in changes.items():
        at = listed.index(name) + 1
        if at < len(args):
            args[at] = value
        else:
            keywords[name] = value
    return site.called(*args, **keywords)


def forms(site: Site, names: str, *rows: tuple[str, str, Form]) -> Iterator[Edit]:
    """One edit for each (JAX's line, PyTorch's line, form)."""
    for right, line, form in rows:
        yield Edit(right, line, layer(site, names, form))


def tupled(value: Any, count: int) -> tuple[Any, ...]:
    """3 -> (3, 3)."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * count


def same(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    lower: bool = False,
) -> list[tuple[int, int]]:
    """What lax pads for 'SAME', or for 'SAME_LOWER', on each axis."""
    pads = []
    for size, k, step, d in zip(sizes, kernel, stride, dilation, strict=True):
        total = max((-(-size // step) - 1) * step + d * (k - 1) + 1 - size, 0)
        low = total - total // 2 if lower else total // 2
        pads.append((low, total - low))
    return pads
