"""English prose for models of characters: the help texts of Python itself, folded to 32 signs."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import count

import numpy as np

__all__ = ["ALPHABET", "characters", "decode", "encode", "prose"]
ALPHABET = " abcdefghijklmnopqrstuvwxyz.,'()"


def characters(
    rng: np.random.Generator, *, batch: int, length: int, share: slice = slice(None)
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches of windows of the prose; the target of a character is the next one.

    Args:
      rng: places the windows.
      batch: B, windows in a batch.
      length: L, characters in a window.
      share: the stretch of the prose to draw from.

    Returns: an iterator of {"tokens": int64 (B, L), "targets": int64 (B, L)}, both in 0..31.
    Raises: ValueError where the stretch is no longer than a window.
    """
    text = prose()[share]
    if not 1 <= length < len(text):
        raise ValueError(f"length must lie in 1..{len(text) - 1}, not {length}")
    windows = np.lib.stride_tricks.sliding_window_view(text, length + 1)

    def draw() -> dict[str, np.ndarray]:
        window = windows[rng.integers(len(windows), size=batch)]
        return {"tokens": window[:, :-1].copy(), "targets": window[:, 1:].copy()}

    return (draw() for _ in count())


@cache
def prose() -> np.ndarray:
    """All of it as places in `ALPHABET`, int64 (N,): some 180 000, by Python's version.

    Of each help text the paragraphs that stand at the margin: no code, no tables.
    """
    topics = importlib.import_module("pydoc_data.topics").topics
    blocks = [block for name in sorted(topics) for block in topics[name].split("\n\n")]
    text = encode(" ".join(block for block in blocks if re.match(r"[A-Z][a-z ]+ ", block)))
    text.setflags(write=False)
    return text


def encode(text: str) -> np.ndarray:
    """Places in `ALPHABET`, int64 (N,): lower case, other signs dropped, white space made one."""
    kept = "".join(sign for sign in re.sub(r"\s", " ", text.lower()) if sign in ALPHABET)
    places = {sign: place for place, sign in enumerate(ALPHABET)}
    return np.array([places[sign] for sign in re.sub(" +", " ", kept)], np.int64)


def decode(tokens: Iterable[int]) -> str:
    """The text of places in `ALPHABET`."""
    return "".join(ALPHABET[int(token)] for token in tokens)
