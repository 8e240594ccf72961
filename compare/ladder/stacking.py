"""Layers that one side calls in a loop and the other in a scan, brought together."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from compare.capture.taps import Section, called, input_key
from compare.ladder.result import Result


def stacked(
    section: Section, noise: Mapping[str, float], result: Result
) -> tuple[Section, Mapping[str, float]]:
    """A layer that PyTorch calls in a loop, and JAX in a scan, as one tensor over time."""
    if not any(pairing.stacked for pairing in result.pairing.values()):
        return section, noise
    tensors, noise = dict(section.tensors), dict(noise)
    for mode, pairing in result.pairing.items():
        info = result.info[mode]
        for key, calls in pairing.stacked.items():
            given = [called(call, info[call]) for call in calls]
            for kind in ("layer", "gradient/layer"):
                base = re.escape(f"{mode}/{kind}/{given[0].partition('#')[0]}:in")
                inputs = [re.fullmatch(rf"{base}([^#]*)(#\d+)?", name) for name in tensors]
                suffixes = {found[1]: None for found in inputs if found}
                for group in [calls, *([input_key(g, s) for g in given] for s in suffixes)]:
                    names = [f"{mode}/{kind}/{place}" for place in group]
                    seen = [tensors[name] for name in names if name in tensors]
                    # A call whose output nobody uses has no gradient in PyTorch.
                    unused = kind == "gradient/layer" and group is calls and seen
                    if len(seen) < len(names) and not unused:
                        continue
                    shakes = [noise.pop(name, 0.0) for name in names]
                    zeros = np.zeros_like(seen[0])
                    whole = np.stack([tensors.pop(name, zeros) for name in names])
                    first = names[calls.index(key)]
                    tensors[first], noise[first] = whole, float(np.hypot.reduce(shakes))
    return Section(section.stage, tensors, section.step), noise
