"""Figures of lessons: JAX's lines broad and pale, PyTorch's dashed upon them."""

from __future__ import annotations

from typing import Any

import numpy as np

BROAD: dict[str, Any] = {"lw": 5, "alpha": 0.35}
DASHED: dict[str, Any] = {"ls": "--", "lw": 1.3}


def lines(axis: Any, jax: Any, torch: Any, label: str | None = None, **how: Any) -> None:
    """A line of each framework, in one colour.

    Args:
      axis: matplotlib's.
      jax, torch: the values (N,).
      label: what the two are lines of, for `legend`.
      how: `x`, the places (N,), by default 0, 1, …; `color`, by default the axis's next.
    """
    x = how.get("x", np.arange(len(torch)))
    (broad,) = axis.plot(x, jax, color=how.get("color"), label=label, **BROAD)
    axis.plot(x, torch, color=broad.get_color(), **DASHED)


def legend(axis: Any, **how: Any) -> None:
    """The labels of the lines, and which lines are whose; `how` goes to matplotlib's."""
    from matplotlib.lines import Line2D

    own, labels = axis.get_legend_handles_labels()
    whose = [Line2D([], [], color="gray", **style) for style in (BROAD, DASHED)]
    axis.legend([*own, *whose], [*labels, "JAX", "PyTorch"], **({"fontsize": 9} | how))


def bars(axis: Any, names: Any, jax: Any, torch: Any) -> None:
    """Horizontal bars, a pair for each name, JAX's above PyTorch's."""
    places = np.arange(len(names))
    axis.barh(places - 0.2, jax, 0.4, color="C0", alpha=0.5, label="JAX")
    axis.barh(places + 0.2, torch, 0.4, color="C1", label="PyTorch")
    axis.set_yticks(places, list(names))
    axis.invert_yaxis()
    axis.legend(fontsize=9, loc="lower right")


def picture(axis: Any, image: Any, title: str, **how: Any) -> None:
    """An image (H, W) or (H, W, 3) without ticks; `how` goes to `imshow`."""
    axis.imshow(image, **({"cmap": "gray"} | how))
    axis.set_title(title, fontsize=10)
    axis.set(xticks=[], yticks=[])


def overlay(axis: Any, jax: Any, torch: Any, color: str, label: str | None) -> None:
    """`lines` of two series that have their own x.

    Args:
      jax, torch: what `plot` takes, (x, y) each.
    """
    axis.plot(*jax, color=color, label=label, **BROAD)
    axis.plot(*torch, color=color, marker=".", ms=3, **DASHED)


def twice(axis: Any, x: Any, both: Any, color: str, label: str | None) -> None:
    """`lines` over the same x.

    Args:
      both: the values at x: JAX's, PyTorch's.
    """
    ours, theirs = both
    overlay(axis, (x, ours), (x, theirs), color, label)
