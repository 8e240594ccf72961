"""Layers' mistakes, made in JAX: the catalogue must name each, and not a value that is near."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from compare.differences.catalogue import Edit, Site, catalogue
from compare.differences.measuring import normal
from compare.share import to_numpy

CATALOGUE = catalogue()


class Places(list[tuple[str, str, Callable[[], Site]]]):
    """Where JAX's side made a mistake: the difference's code, a name, and what makes the site."""

    def case(self, code: str, name: str) -> Callable[[Callable[[], Site]], Callable[[], Site]]:
        """Adds a place where JAX's side made the mistake `code`."""

        def add(build: Callable[[], Site]) -> Callable[[], Site]:
            self.append((code, name, build))
            return build

        return add

    def cases(self, code: str, build: Callable[..., Site], **rows: tuple[Any, ...]) -> None:
        """Adds one place for each row of arguments."""
        for name, row in rows.items():
            self.append((code, name, lambda row=row: build(*row)))

    @property
    def names(self) -> list[str]:
        return [f"{code} {name}" for code, name, _ in self]

    def have(self, family: str) -> bool:
        """Whether every difference of a family that has candidates has a place."""
        with_candidates = {code for code, one in CATALOGUE.items() if one.edits is not None}
        mine = {code for code in with_candidates if code.split("-")[0] == family}
        return mine <= {code for code, _, _ in self}


def filled(module: nn.Module) -> Any:
    """A module with generic float64 parameters and positive variances."""
    module = module.double()
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=index, scale=0.7))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(normal(*buffer.shape, seed=7))
            elif name.endswith("running_var"):
                buffer.copy_(normal(*buffer.shape, seed=8).square() + 0.5)
    return module


def module_site(module: Any, theirs: Any, *inputs: Any, **more: Any) -> Site:
    """The site of a module's output."""
    import copy

    with torch.no_grad():
        ours = copy.deepcopy(module)(*inputs)
    while isinstance(ours, tuple):
        ours = ours[0]
    kind = type(module).__name__
    return Site(kind, "output", np.asarray(theirs), to_numpy(ours), inputs, module, **more)


def function_site(function: Any, theirs: Any, *args: Any, **kwargs: Any) -> Site:
    """The site of a function's output."""
    inputs = tuple(a for a in args if isinstance(a, torch.Tensor))
    ours = to_numpy(function(*args, **kwargs))
    theirs = np.asarray(theirs)
    name = function.__name__.lstrip("_")
    return Site(name, "output", theirs, ours, inputs, None, function, args, kwargs)


def glue_site(ours: Any, theirs: Any, *inputs: Any) -> Site:
    return Site("glue", "output", np.asarray(theirs), to_numpy(ours), inputs)


def confirming(code: str, site: Site) -> list[Edit]:
    """The edits of a difference that give JAX's value."""
    edits = CATALOGUE[code].edits
    assert edits is not None
    found = []
    for edit in edits(site):
        try:
            value = to_numpy(edit.compute())
        except (RuntimeError, ValueError, IndexError, TypeError):
            continue  # a candidate that does not fit this place
        bound = 1e-12 * max(1.0, np.abs(site.theirs).max())
        if value.shape == site.theirs.shape and np.abs(value - site.theirs).max() <= bound:
            found.append(edit)
    return found


X, IMAGE = normal(4, 6), normal(2, 4, 8, 8)


def numbers(module: Any) -> list[Any]:
    return [p.detach() for p in module.parameters()]


def recognised(code: str, site: Site) -> None:
    """The candidates of a difference give JAX's value, and not one that is 1 % off."""
    one = CATALOGUE[code]
    assert re.fullmatch(one.kinds, site.kind)
    assert site.what in one.whats
    if site.theirs.shape == site.ours.shape:
        assert np.abs(site.theirs - site.ours).max() > 1e-8
    found = confirming(code, site)
    assert found
    for edit in found:
        assert 0 < len(edit.jax) <= 100
        assert "\n" not in edit.jax + edit.torch
    site.theirs = site.theirs * 1.01
    assert not confirming(code, site)
