"""Attention that is written out: what may have been done otherwise between the projections and
the softmax, and behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compare.differences.catalogue import Edit, Site
from compare.differences.shared.calls import after

SPLITS, MOVES = "unflatten|view|reshape", "transpose|permute|swapaxes|movedim"
COMPARISONS = "ge|gt|le|lt"


def to_softmax(site: Site) -> bool:
    """Whether the glue that a function belongs to makes a softmax's input."""
    return site.within is not None and site.towards.lower() in ("softmax", "log_softmax")


def scales(site: Site) -> Iterator[Edit]:
    """Another factor of the logits: none, of the whole width, of a head, doubled."""
    if not to_softmax(site):
        return
    x = site.inputs[0]
    heads, size = (x.shape[1] if x.ndim > 3 else 1), x.shape[-1]
    for name, base in {"d": size, "heads": heads, "heads * d": heads * size, "2": 2}.items():
        for power in (0.5, -0.5, 1.0, -1.0):
            yield Edit(
                "the logits times PyTorch's factor",
                f"the logits times ({name}) ** {power:g} more",
                after(site, lambda y, f=base**power: y * f),
            )


def polarities(site: Site) -> Iterator[Edit]:
    """Hidden where the mask is True, or where it is False."""
    if not to_softmax(site):
        return
    if site.kind == "masked_fill":
        yield Edit(
            "jnp.where(mask, -jnp.inf, logits): True hides",
            "logits.masked_fill(~mask, …)",
            site.replaced(lambda x, mask, low: x.masked_fill(~mask, low)),
        )
    elif site.kind == "where":
        yield Edit(
            "jnp.where with its two values in PyTorch's order",
            "torch.where(~mask, …)",
            site.replaced(lambda mask, x, y: (~mask).where(x, y)),
        )
    elif site.kind == "add":
        yield Edit(
            "the mask that is added is 0 where attended",
            "logits + (lowest - mask)",
            site.replaced(lambda x, mask: x + (mask.min() - mask)),
        )


def starts(site: Site) -> Iterator[Edit]:
    """A causal mask that begins one place early or late."""
    if not to_softmax(site):
        return
    line = "steps[:, None] >= steps: a place sees itself and what is before"
    function: Any = site.function
    if site.kind in ("tril", "triu"):
        for shift in (1, -1):
            yield Edit(
                line,
                f"{site.kind}(…, diagonal={shift:+d} from here)",
                site.replaced(lambda x, d=0, s=shift: function(x, d + s)),
            )
    elif all(map(_is_range, site.args)):
        for shift in (1, -1):
            yield Edit(
                line,
                f"{site.kind}(steps, steps {shift:+d})",
                site.replaced(lambda x, y, s=shift: function(x, y + s)),
            )


def _is_range(value: Any) -> bool:
    """0, 1, 2, … along one axis."""
    flat = value.flatten().tolist() if hasattr(value, "flatten") else []
    return flat == list(range(len(flat))) and len(flat) > 1


def swaps(site: Site) -> Iterator[Edit]:
    """Keys asked by queries, or queries by keys."""
    if to_softmax(site):
        yield Edit("q @ k.mT", "k @ q.mT", after(site, lambda y: y.mT))


def splits(site: Site) -> Iterator[Edit]:
    """The features shared among the heads in another order, or moved by a reshape."""
    if site.within is None:
        return
    function: Any = site.function
    shape = tuple(function(*site.args, **site.kwargs).shape)
    if len(shape) != 4:
        return
    line = "x.reshape(n, length, heads, d).swapaxes(1, 2)"
    if site.kind in SPLITS.split("|"):
        yield Edit(
            line,
            "x.unflatten(-1, (d, heads)).mT",
            site.replaced(lambda x, *_: x.reshape(*shape[:-2], shape[-1], shape[-2]).mT),
        )
    else:
        yield Edit(
            line,
            f"x.reshape{shape} in place of {site.kind}",
            site.replaced(lambda x, *_: x.reshape(shape)),
        )
