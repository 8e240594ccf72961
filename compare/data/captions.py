"""Images of two handwritten digits side by side, and what they say: "three seven"."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import count

import numpy as np

from compare.data.digits import every_digit

__all__ = ["VOCABULARY", "captions", "captioned"]
VOCABULARY = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("<start>", "<end>"),
)
START, END = VOCABULARY.index("<start>"), VOCABULARY.index("<end>")


def captions(
    rng: np.random.Generator, *, batch: int, among: np.ndarray | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches of random pairs.

    Args:
      rng: draws the pairs.
      batch: B, images in a batch.
      among: indices of the digits to draw from, int (K,) in 0..1796, None for all.

    Returns: an iterator of what `captioned` gives, with N = B.
    """
    among = np.arange(len(_digits()["labels"])) if among is None else among
    return (captioned(rng.choice(among, (batch, 2))) for _ in count())


def captioned(pairs: np.ndarray) -> dict[str, np.ndarray]:
    """The images and captions of given pairs of digits.

    Args:
      pairs: indices of the digit on the left and on the right, int (N, 2) in 0..1796.

    Returns: {"images": float32 (N, 1, 8, 16), standardised; "tokens": int64 (N, 3), the start and
      two words; "targets": int64 (N, 3), two words and the end}; the words are places in
      `VOCABULARY`.
    Raises: IndexError for an index beyond; DiptychError without scikit-learn.
    """
    digits = _digits()
    images = np.concatenate([digits["x"][pairs[:, 0]], digits["x"][pairs[:, 1]]], axis=-1)
    words = digits["labels"][pairs]
    tokens = np.insert(words, 0, START, axis=1)
    return {"images": images, "tokens": tokens, "targets": np.insert(words, 2, END, axis=1)}


@cache
def _digits() -> dict[str, np.ndarray]:
    return every_digit()
