"""The places inside a model that are recorded, their keys, and the sections of a run."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
from dataclasses import dataclass

import numpy as np

# Functions that are recorded by name on both sides, beside the modules.
FUNCTIONS = frozenset(
    "relu relu6 leaky_relu elu selu celu gelu silu softplus sigmoid log_sigmoid mish hard_tanh"
    " hard_sigmoid hard_silu soft_sign softmax log_softmax max_pool".split()
)
# Those with a kink, where float32 may take the other branch than float64: their inputs are kept.
BRANCHES = frozenset("relu relu6 leaky_relu hard_tanh max_pool".split())


@dataclass(frozen=True)
class Tap:
    """A place inside a model whose value is recorded.

    Args:
      path: dotted or slashed name of the module, or of the module that calls the function.
      kind: the module's class, or the function's name.
      source: "file:line" of the call, where known.
      function: whether it is a function call and not a module.
      steps: where the value is stacked over the iterations of a scan, their number, negative if it
        runs backwards.
    """

    path: str
    kind: str
    source: str = ""
    function: bool = False
    steps: int = 0


def files_of(*packages: str) -> re.Pattern[str]:
    """Matches the files of this project's own machinery, and of installed packages, by where they
    are: a folder of the user's may be called torch, too.
    """
    own = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
    shown = rf"twins\b|study{re.escape(os.sep)}demo\b"  # what these are read for
    places = [rf"{re.escape(own)}(?!{shown})", re.escape(contextlib.__file__), "<frozen "]
    for spec in filter(None, map(importlib.util.find_spec, packages)):
        folders = [os.path.join(folder, "") for folder in spec.submodule_search_locations or ()]
        places += map(re.escape, folders)
    return re.compile(f"(?:{'|'.join(places)})")


def caller(hidden: re.Pattern[str]) -> str:
    """Where the present call was made, as "file:line", outside the files that `hidden` matches."""
    frame = sys._getframe(1)
    while frame is not None:
        if not hidden.search(frame.f_code.co_filename):
            return f"{os.path.relpath(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def numbered(seen: dict[str, int], base: str) -> str:
    """The key of one more occurrence of `base`: base, base#1, base#2, …"""
    count = seen.get(base, 0)
    seen[base] = count + 1
    return f"{base}#{count}" if count else base


def input_key(key: str, suffix: str = "") -> str:
    """The key under which the input of a place is recorded: "fc#1" -> "fc:in#1"."""
    whole, mark, count = key.partition("#")
    return f"{whole}:in{suffix}{mark}{count}"


def called(key: str, tap: Tap) -> str:
    """The key of the call that gave an output: one call may give several, "lstm.0", "lstm.1"."""
    _, mark, count = key.partition("#")
    return key if tap.function else f"{tap.path}{mark}{count}"


@dataclass(frozen=True)
class Section:
    """Part of a run, in the order of the ladder: named tensors of one stage.

    Args:
      stage: "forward", "gradients", "step", "trajectory" or "final".
      tensors: arrays by name, e.g. "train/gradient/param/fc.weight".
      step: the step of a trajectory, from 1.
    """

    stage: str
    tensors: dict[str, np.ndarray]
    step: int = 0
