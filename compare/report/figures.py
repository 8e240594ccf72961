"""Figures and phrases as people read them, the same on the page and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from compare.ladder.verdict import DIVERGED

DASH = "-"


def value(x: Any) -> float | None:
    """A number of report.json, where the non-finite ones are strings; None for anything else."""
    if isinstance(x, bool) or not isinstance(x, int | float | str):
        return None
    try:
        return float(x)
    except (ValueError, OverflowError):
        return None


def _special(number: float) -> str | None:
    if math.isnan(number):
        return "nan"
    if math.isinf(number):
        return "inf" if number > 0 else "-inf"
    return None if number else "0"


def difference(x: Any) -> str:
    """2.7e-15"""
    number = value(x)
    return DASH if number is None else _special(number) or f"{number:.1e}"


def numerics(stage: Any) -> dict[str, Any]:
    """A stage's worst share of what is allowed, by dtype; older reports know float32 alone."""
    found = stage.get("numerics")
    return found if isinstance(found, dict) else {"float32": stage.get("f32_worst")}


def dtypes(stages: Sequence[Any]) -> list[str]:
    """The dtypes that the numerics of some stages were judged in."""
    return list(dict.fromkeys(str(d) for stage in stages for d in numerics(stage))) or ["float32"]


def limit(x: Any) -> str:
    """1e-09, or 3.2e-08"""
    return difference(x).replace(".0e", "e")


def ratio(x: Any) -> str:
    """A difference over what is allowed: 0.4. Near 1 it is rounded away from 1, never across it."""
    number = value(x)
    if number is None:
        return DASH
    if special := _special(number):
        return special
    if 0.95 <= number < 1:
        return f"{math.floor(number * 100) / 100:.2f}"
    if 1 < number <= 1.05:
        return f"{math.ceil(number * 100) / 100:.2f}"
    return f"{number:.1f}" if abs(number) < 1000 else f"{number:.1e}"


def plural(count: int, noun: str) -> str:
    """1 twin, 2 twins"""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def seconds(x: Any) -> str:
    """11.8 s, or 3 min 20 s"""
    number = value(x)
    if number is None or not math.isfinite(number):
        return ""
    if number < 120:
        return f"{number:.1f} s"
    return f"{int(number) // 60} min {int(number) % 60} s"


def between(x: Any) -> str:
    """The two layers that something lies between."""
    return x if isinstance(x, str) else " and ".join(str(part) for part in x)


def coverage(twin: dict[str, Any]) -> list[str]:
    """What the comparison reached, as short phrases."""
    found: dict[str, Any] = twin.get("coverage") or {}
    leaves, moved, buffers = (found.get(key, 0) for key in ("leaves", "moved", "buffers"))
    skipped = found.get("skipped") or []
    phrases = [f"{moved}/{leaves} leaves moved the loss" if leaves else "no parameters"]
    phrases += [f"{buffers} buffers compared" if buffers else "no buffers"]
    phrases += [f"{len(skipped)} skipped"]
    if alone := len(found.get("torch_only") or []) + len(found.get("jax_only") or []):
        phrases.append(f"{plural(alone, 'layer')} on one side only")
    if lifted := found.get("lifted"):
        phrases.append(f"{plural(len(lifted), 'cast')} lifted to float64")
    if rounded := found.get("rounded"):
        phrases.append(f"{plural(len(rounded), 'table')} rounded to float32")
    return phrases


def alone(twin: dict[str, Any], most: int = 6) -> str:
    """The layers that only one side has, and that no comparison covers."""
    found = twin.get("coverage") or {}
    names = [f"{side} {n}" for side in ("torch", "jax") for n in found.get(f"{side}_only") or []]
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return ", ".join(names[:most] + more)


def unpaired(found: dict[str, Any], most: int = 6) -> list[str]:
    """What has no counterpart, of both sides, a line each; last the `rename` that pairs what fits.

    Args:
      found: `unpaired` of report.json.
    """
    rows = found.get("rows") or []

    def side(row: dict[str, Any], name: str) -> str:
        kind = f" ({row[f'{name}_kind']})" if row.get(f"{name}_kind") else ""
        return f"{name} {row[name]}{kind}" if row.get(name) else ""

    lines = [" <-> ".join(filter(None, (side(r, "torch"), side(r, "jax")))) for r in rows]
    more = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return [*lines[:most], *more, *([found["rename"]] if found.get("rename") else [])]


def place(layers: Sequence[dict[str, Any]], origin: dict[str, Any] | None) -> int | None:
    """The index of the origin's row."""
    if not origin:
        return None
    named = [i for i, row in enumerate(layers) if row.get("torch") == origin.get("torch")]
    wrong = [i for i in named if layers[i].get("verdict") == DIVERGED]
    return next(iter(wrong or named), None)


def findings(stage: dict[str, Any], origin: dict[str, Any] | None) -> list[str]:
    """A stage's findings, that of the origin first."""
    found = [str(text) for text in stage.get("findings") or []]
    decisive = f"/layer/{origin.get('torch')}:" if origin else None
    return sorted(found, key=lambda text: not (decisive and decisive in text.partition("; ")[0]))
