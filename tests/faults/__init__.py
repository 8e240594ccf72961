"""The fault corpus: small architectures with the slips that people make in ports, one at a time.

Each file is one architecture: a PyTorch model, a Flax port that knows its faults by name (without
one it is right), `twin(fault)` that joins the two, and `FAULTS`, the table of what is to be found.
`EQUIVALENT` holds changes that leave the mathematics as it is, with the reason. The files are
found, not listed. Where a file says `HELD_OUT`, its table was written before the finder had seen
it, and neither follows the other: what comes of these faults is what strangers may expect.

Glue lies between two layers; what a module with children does after the last of them is its own
("block"). A gradient is lost between the layer whose output should get it and what uses that
output.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from compare import Twin
from compare.finder.found import Found, Origin
from compare.ladder.result import STAGES
from compare.ladder.verdict import DIVERGED

Place = str | tuple[str, str]
OPTIMIZER = "the optimizer"


@dataclass(frozen=True)
class Fault:
    """One slip in a port, and what is to be said of it.

    Args:
      name: "mlp/gelu in tanh form".
      architecture: the file.
      twin: gives the faulty twin.
      stage: the rung that must see it: "weights", "forward", "gradients", "step", "trajectory".
      origin: PyTorch's key of the layer, parameter or buffer; of glue the layers (before, after);
        "the loss" or "the optimizer".
      code: the cause in the catalogue of differences, or those that are right alike; None where it
        holds none: then "cause unknown" is the right answer.
    """

    name: str
    architecture: str
    twin: Callable[[], Twin]
    stage: str
    origin: Place
    code: str | tuple[str, ...] | None

    @property
    def codes(self) -> tuple[str, ...]:
        return self.code if isinstance(self.code, tuple) else (self.code,) if self.code else ()


Row = tuple[str, Place, str | tuple[str, ...] | None]


def table(module: str, twin: Callable[[str], Twin], rows: Mapping[str, Row]) -> tuple[Fault, ...]:
    """The faults of one architecture: name -> (stage, origin, code)."""
    architecture = module.rpartition(".")[2]
    return tuple(
        Fault(f"{architecture}/{name}", architecture, partial(twin, name), *row)
        for name, row in rows.items()
    )


def architectures() -> dict[str, Callable[..., Twin]]:
    """Every architecture by name: `twin()` is right."""
    return {name: module.twin for name, module in _modules().items()}


def corpus() -> tuple[Fault, ...]:
    """Every fault of every architecture."""
    return tuple(fault for module in _modules().values() for fault in module.FAULTS)


def held_out() -> tuple[Fault, ...]:
    """The faults that the finder was not built on."""
    held = {name for name, module in _modules().items() if getattr(module, "HELD_OUT", False)}
    return tuple(fault for fault in corpus() if fault.architecture in held)


def equivalent() -> dict[str, tuple[Callable[[], Twin], str]]:
    """Changes that nobody can see, each with the reason: name -> (twin, derivation)."""
    return {
        f"{name}/{change}": (partial(module.twin, change), why)
        for name, module in _modules().items()
        for change, why in getattr(module, "EQUIVALENT", {}).items()
    }


def _modules() -> dict:
    names = sorted(file.name for file in pkgutil.iter_modules(__path__))
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "FAULTS")}


def judge(fault: Fault, found: Found) -> tuple[str, bool, bool, bool]:
    """What the finder made of a fault: the stage seen, detected, origin right, cause right."""
    diverged = [s for s in STAGES if found.result.stages[s].verdict == DIVERGED]
    seen = diverged[0] if diverged else ""
    detected = seen == fault.stage
    if found.origin is None:
        return seen, detected, False, False
    code = found.cause.difference.code if found.cause else None
    right = code in fault.codes if fault.codes else code is None
    return seen, detected, any(_same(fault.origin, place) for place in places(found.origin)), right


def _same(expected: Place, place: Place) -> bool:
    """Glue before a module that calls others may be named by the first layer in it, as well."""
    if isinstance(expected, str) or isinstance(place, str):
        return expected == place
    before, after = map(_layer, expected)
    return before == place[0] and f"{after}.".startswith(f"{place[1]}.")


def _layer(name: str) -> str:
    """A layer without the index of one of its outputs."""
    head, _, last = name.rpartition(".")
    return head if last.isdigit() and head else name


def places(origin: Origin) -> list[Place]:
    """The place as it may be written: between two layers, or one layer without its output's index.

    Glue is never one of its two layers. A place between two paired layers that the values tell more
    exactly may be written either way.
    """
    if origin.within is not None:
        return places(replace(origin, within=None)) + places(
            replace(origin, within=None, between=origin.within)
        )
    if origin.between is not None:
        before, after = map(_layer, origin.between)
        return [after] if before.startswith(f"{after}.") else [(before, after)]
    name = origin.torch
    if origin.what in ("update", "start") and "buffer/" not in name:
        return [OPTIMIZER]
    if "buffer/" in name:
        return [name.partition("buffer/")[2]]
    names = [name, _layer(name)] if origin.what == "output" else [name]
    return [*names, name.partition("#")[0]]  # a later call of a layer that is wrong in each
