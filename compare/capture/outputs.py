"""Which output of one side is which of the other's: by name, and what is left by order."""

from __future__ import annotations

from collections.abc import Sequence


def paired(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """Their suffixes (".logits", ".0", "" of a single output) -> ours.

    A name that both have is one output, wherever it stands. The others are paired by order if they
    are as many on both sides; else they keep their names.
    """
    left = [name for name in ours if name not in theirs]
    over = [name for name in theirs if name not in ours]
    pairs = {name: name for name in theirs}
    return pairs | (dict(zip(over, left, strict=True)) if len(left) == len(over) else {})


def noted(mode: str, pairs: dict[str, str]) -> list[str]:
    """What is said of outputs that no name pairs."""
    other = [(ours, theirs) for theirs, ours in pairs.items() if ours != theirs]
    shown = [f"out{ours} is out{theirs} in JAX" for ours, theirs in other]
    return [f"{mode}: outputs paired by order: {', '.join(shown)}"] if shown else []
