"""What the losses share: labels, reductions, and where a loss stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compare.differences.catalogue import Site
from compare.differences.measuring import normal
from compare.differences.shared.calls import option
from compare.differences.shared.frameworks import optax, torch
from compare.twin import generator

LOSSES = (
    "loss|.*_loss|.*Loss|cross_entropy|kl_div|binary_cross_entropy|"
    "binary_cross_entropy_with_logits|cosine_similarity|CosineSimilarity"
)
WHATS = ("output", "loss", "gradient")
REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "mean": lambda v: v.mean(),
    "sum": lambda v: v.sum(),
    "sum over each example, then mean": lambda v: v.flatten(1).sum(1).mean(),
}


def class_labels(*shape: int, classes: int) -> Any:
    return torch.from_numpy(generator(1, "labels", *shape).integers(0, classes, shape))


def probabilities(*shape: int, seed: int = 0) -> Any:
    return torch.softmax(normal(*shape, seed=seed), -1)


def cross_entropies(logits: Any, labels: Any) -> Any:
    """optax's cross entropy of each example."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def reduced(site: Site, position: int = 4) -> Callable[[Any], Any]:
    """The reduction that PyTorch's call asks for."""
    how = option(site, "reduction", position, "mean")
    return {"sum": lambda v: v.sum(), "none": lambda v: v}.get(how, lambda v: v.mean())
