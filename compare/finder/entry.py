"""What was found, as report.json has it."""

from __future__ import annotations

from typing import Any

from compare.finder.found import Found, Origin
from compare.report.entries import number, twin_dict


def _shapes(origin: Origin) -> list[list[int]] | None:
    """Both shapes, with PyTorch's axes, where they differ."""
    if origin.ours is None or origin.theirs is None or origin.ours.shape == origin.theirs.shape:
        return None
    return [list(origin.ours.shape), list(origin.theirs.shape)]


def entry(found: Found, optimizer: str = "") -> dict[str, Any]:
    """The entry of report.json, with origin, cause, and the table of the replay."""
    whole = twin_dict(found.result, optimizer)
    whole["lint"] = [hint.line for hint in found.lint]
    origin = found.origin
    if origin is None:
        return whole
    whole["origin"] = {
        "stage": origin.stage,
        "torch": origin.torch,
        "jax": origin.jax,
        "what": origin.what,
        "mode": origin.mode,
        "shapes": _shapes(origin),
        "between": list(origin.between) if origin.between else None,
        "difference": number(origin.difference),
        "replayed": None if origin.replayed is None else number(origin.replayed),
        "torch_source": origin.torch_source,
        "jax_source": origin.jax_source,
        "note": origin.note or None,
    }
    whole["replay"] = [
        {
            "torch": row.torch,
            "jax": row.jax,
            "difference": None if row.difference is None else number(row.difference),
            "replayed": number(row.replayed),
            "between": row.between,
            "verdict": row.verdict,
        }
        for row in found.rows
    ]
    whole["cause"] = {"code": None, "title": "unknown", "confirmed": False, "tried": found.tried}
    if (cause := found.cause) is not None:
        whole["cause"] = {
            "code": cause.difference.code,
            "title": cause.difference.title,
            "confirmed": True,
            "before": number(cause.before),
            "after": number(cause.after),
            "torch": cause.difference.torch,
            "jax": cause.difference.jax,
            "torch_source": origin.torch_source,
            "jax_source": origin.jax_source,
            "fix": cause.edit.jax,
            "fix_torch": cause.edit.torch,
            "tried": found.tried,
        }
    return whole
