"""What the entries share about a call: its options, the call with a step more, or another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from compare.differences.catalogue import Edit, Site


def option(site: Site, name: str, position: int | None = None, default: Any = None) -> Any:
    """What the module or the call was given under a name (or at a position of the call)."""
    if site.module is not None and hasattr(site.module, name):
        return getattr(site.module, name)
    if name in site.kwargs:
        return site.kwargs[name]
    if position is not None and position < len(site.args):
        return site.args[position]
    return default


def without(candidates: Iterable[Any], own: Any) -> list[Any]:
    """The candidates but the value that PyTorch's side has, and none twice."""
    return [c for c in dict.fromkeys(candidates) if c is not None and c != own]


def before(site: Site, step: Callable) -> Callable[[], Any]:
    """The site's own result with its first input changed first."""
    if site.module is not None:
        return site.replaced(lambda x, *more: site.module(step(x), *more))
    function: Any = site.function
    return site.called(function=lambda x, *more, **given: function(step(x), *more, **given))


def after(site: Site, step: Callable) -> Callable[[], Any]:
    """The site's own result, changed afterwards."""
    if site.module is not None:
        return site.replaced(lambda *inputs: step(site.module(*inputs)))
    function: Any = site.function
    return site.called(function=lambda *args, **given: step(function(*args, **given)))


def alternatives(
    site: Site, right: str, forms: Mapping[str, Callable], inputs: int = 1
) -> Iterator[Edit]:
    """One edit for each other function of the place's first inputs, by PyTorch's line."""
    for line, form in forms.items():
        yield Edit(right, line, site.replaced(lambda *given, f=form: f(*given[:inputs])))
