"""JAX's masks at the Bernoulli sampler, found in the jaxpr while it is walked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax._src.interpreters.partial_eval import dce_jaxpr
from jax.extend import core

from compare.capture.jax_versions import opened
from compare.capture.masks import Site

Bind = Callable[[Any, Sequence[Any]], Sequence[Any]]
INLINED = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"}
BITS = ("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform")


def samples(eqn: Any, sampler: str = "_bernoulli") -> bool:
    """Whether an equation is a call of `jax.random.bernoulli`, by whatever name it was made."""
    called = eqn.primitive.name in ("jit", "pjit") and eqn.params.get("name") == sampler
    return called and len(eqn.outvars) == 1  # not what partial evaluation leaves of one


def _inner(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _inner(value)
        elif hasattr(value, "eqns"):
            yield value.eqns


def randomness(
    program: Any, source: Callable[[Any], str]
) -> tuple[frozenset[Any], dict[str, None]]:
    """What random numbers the outputs of a jaxpr depend on.

    Args:
      source: where user code made an equation.

    Returns:
      The variables of the masks that a walk comes by, and the sources of all other numbers.
    """
    jaxpr, _ = opened(program)
    live, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), True)
    masks: set[Any] = set()
    noise: dict[str, None] = {}

    def search(eqns: Sequence[Any], walked: bool) -> None:
        for eqn in eqns:
            name = eqn.primitive.name
            if walked and samples(eqn):
                masks.add(eqn.outvars[0])
            elif name in BITS:
                noise[source(eqn) or name] = None
            else:
                for inner in _inner(eqn.params.values()):
                    search(inner, walked and (name in INLINED or name == "scan"))

    search(live.eqns, True)
    return frozenset(masks), noise


def _twice(numbers: Any, shape: tuple[int, ...]) -> Any:
    """The numbers once more along an axis of two, where the sampler wants a finer second draw."""
    axes = range(len(shape) if len(shape) > numbers.ndim else 0)
    axis = next((a for a in axes if shape[:a] + shape[a + 1 :] == numbers.shape), None)
    return numbers if axis is None else jnp.stack([numbers, numbers], axis)


class Sampler:
    """Puts given numbers in the place of those that JAX's sampler draws.

    Args:
      given: uniform numbers by site, stacked over the scans around it; None while a program is
        looked through, whose masks are then whole.
      used: the variables of the masks that something depends on; None for all.

    Attributes:
      sites: where the program draws, in the order in which it is walked.
      seen: per site, the data of the key and the probability.
    """

    def __init__(self, given: Sequence[Any] | None = None, used: frozenset[Any] | None = None):
        self.sites: list[Site] = []
        self.seen: list[tuple[Any, Any]] = []
        self._given, self.used = given, used
        self._place = 0

    def _next(self) -> int:
        self._place += 1
        return self._place

    def inner(self, given: Sequence[Any] | None = None) -> Sampler:
        """One for the body of a scan."""
        return type(self)(given, self.used)

    def draw(self, eqn: Any, values: Sequence[Any], source: str, bind: Bind) -> Any:
        """The mask of one call of the sampler: its uniform numbers below its probability.

        Args:
          bind: evaluates one equation.
        """
        shape = eqn.outvars[0].aval.shape
        if self.used is not None and eqn.outvars[0] not in self.used:
            return jnp.ones(shape, bool)
        number = len(self.sites)
        self.sites.append(Site(shape, (self._next(),), (), source))
        numbers = jnp.zeros(shape) if self._given is None else self._given[number]
        jaxpr, consts = opened(eqn.params["jaxpr"])
        key: Any = None
        keep: Any = None
        env = dict(zip(jaxpr.constvars, consts, strict=True))
        env |= dict(zip(jaxpr.invars, values, strict=True))
        for inner in jaxpr.eqns:
            read = [v.val if isinstance(v, core.Literal) else env[v] for v in inner.invars]
            if samples(inner, "_uniform"):
                key = read[0]
                outputs = [_twice(numbers, inner.outvars[0].aval.shape)]
            else:
                keep = read[-1] if inner.primitive.name == "lt" else keep
                outputs = bind(inner, read)
            env |= dict(zip(inner.outvars, outputs, strict=True))
        self.seen.append((jax.random.key_data(key), jnp.asarray(keep)))
        return env[jaxpr.outvars[0]]

    def enter(self, inside: Sampler, length: int, reverse: bool) -> list[Any] | None:
        """Takes over the sites of a scan's body; gives the numbers of its iterations."""
        start, place = len(self.sites), self._next()
        steps = -length if reverse else length
        self.sites += [
            dataclasses.replace(s, place=(place, *s.place), lengths=(steps, *s.lengths))
            for s in inside.sites
        ]
        return None if self._given is None else list(self._given[start : len(self.sites)])


class Own(Sampler):
    """Leaves the masks that JAX draws, and sees them instead of the keys."""

    def draw(self, eqn: Any, values: Sequence[Any], source: str, bind: Bind) -> Any:
        known = len(self.sites)
        whole = super().draw(eqn, values, source, bind)
        if len(self.sites) == known:
            return whole
        (mask,) = core.jaxpr_as_fun(eqn.params["jaxpr"])(*values)
        self.seen[-1] = (mask, self.seen[-1][1])
        return mask
