"""JAX's masks at the Bernoulli sampler, found in the jaxpr while it is walked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from compare.capture.masks import Site

BITS = ("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform")


def samples(eqn: Any) -> bool:
    """Whether an equation is a call of `jax.random.bernoulli`, by whatever name it was made."""
    return eqn.primitive.name in ("jit", "pjit") and eqn.params.get("name") == "_bernoulli"


def draws(eqn: Any, whole: bool) -> bool:
    """Whether an equation draws random bits; one that is bound `whole`, anywhere inside."""
    if eqn.primitive.name in BITS:
        return True
    return whole and any(draws(e, True) for inner in _inner(eqn.params.values()) for e in inner)


def _inner(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _inner(value)
        elif hasattr(value, "eqns"):
            yield value.eqns


class Sampler:
    """Puts given numbers in the place of those that JAX's sampler draws.

    Args:
      given: uniform numbers by site, stacked over the scans around it; None while a program is
        looked through, whose masks are then whole.

    Attributes:
      sites: where the program draws, in the order in which it is walked.
      seen: per site, the data of the key and the probability.
      noise: sources of other random numbers.
    """

    def __init__(self, given: Sequence[Any] | None = None):
        self.sites: list[Site] = []
        self.seen: list[tuple[Any, Any]] = []
        self.noise: dict[str, None] = {}
        self._given = given
        self._place = 0

    def _next(self) -> int:
        self._place += 1
        return self._place

    def draw(self, eqn: Any, values: Sequence[Any], source: str) -> Any:
        """The mask of one call of the sampler."""
        key, keep = values
        shape = eqn.outvars[0].aval.shape
        number = len(self.sites)
        self.sites.append(Site(shape, (self._next(),), (), source))
        self.seen.append((jax.random.key_data(key), jnp.asarray(keep)))
        if self._given is None:
            return jnp.ones(shape, bool)
        return self._given[number] < _spread(keep, shape)

    def enter(self, inside: Sampler, length: int, reverse: bool) -> list[Any] | None:
        """Takes over the sites of a scan's body; gives the numbers of its iterations."""
        start, place = len(self.sites), self._next()
        steps = -length if reverse else length
        self.sites += [
            dataclasses.replace(s, place=(place, *s.place), lengths=(steps, *s.lengths))
            for s in inside.sites
        ]
        self.noise |= inside.noise
        return None if self._given is None else list(self._given[start : len(self.sites)])


def _spread(keep: Any, shape: tuple[int, ...]) -> Any:
    """A probability against a mask; `vmap` puts its axis first, whatever the ranks."""
    fits = jnp.ndim(keep) <= len(shape) and all(
        a in (1, b) for a, b in zip(jnp.shape(keep)[::-1], shape[::-1])
    )
    return keep if fits else jnp.reshape(keep, jnp.shape(keep) + (1,) * (len(shape) - keep.ndim))
