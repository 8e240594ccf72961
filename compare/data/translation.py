"""Numbers in words and in digits, "four thousand seventeen" and 4017: a small parallel corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np

from compare.data.batches import epochs

__all__ = ["DIGITS", "WORDS", "digits_of", "pairs", "spelled", "translations"]
_ONES = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
WORDS = ("<pad>", *_ONES, *_TENS, "hundred", "thousand")
DIGITS = ("<pad>", "<start>", "<end>", *"0123456789")
MOST = 9999
PAD, START, END = range(3)


def translations(
    rng: np.random.Generator, *, batch: int, among: np.ndarray | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Endless shuffled batches of pairs.

    Args:
      rng: orders the numbers.
      batch: B, pairs in a batch.
      among: the numbers to draw from, int (K,) in 1..9999; None for all.

    Returns: an iterator of what `pairs` gives, with N = B.
    Raises: ValueError for a batch beyond the numbers.
    """
    among = np.arange(1, MOST + 1) if among is None else np.asarray(among)
    return (pairs(among[index]) for index in epochs(rng, len(among), batch))


def pairs(numbers: Iterable[int]) -> dict[str, np.ndarray]:
    """The two sentences of each number.

    Args:
      numbers: N of them, in 1..9999.

    Returns: {"source": int64 (N, 6), places in `WORDS`, and "lengths": int64 (N,), words;
      "tokens": int64 (N, 5), the start and digits, places in `DIGITS`, and "targets": int64 (N, 5),
      digits and the end}. Behind the end of a sentence stands 0, but -100 in the targets.
    Raises: ValueError for a number beyond.
    """
    sources, lengths, tokens, targets = zip(*map(_pair, numbers), strict=True)
    return {
        "source": np.array(sources),
        "lengths": np.array(lengths),
        "tokens": np.array(tokens),
        "targets": np.array(targets),
    }


def spelled(number: int) -> list[str]:
    """The words of a number in 1..9999."""
    if not 1 <= number <= MOST:
        raise ValueError(f"number must lie in 1..{MOST}, not {number}")
    words = []
    for value, word in ((1000, "thousand"), (100, "hundred")):
        if number >= value:
            words += [_ONES[number // value - 1], word]
            number %= value
    if number >= 20:
        words.append(_TENS[number // 10 - 2])
        number %= 10
    return words + ([_ONES[number - 1]] if number else [])


def digits_of(tokens: Iterable[int]) -> str:
    """What a row of places in `DIGITS` says, up to its end."""
    row = [int(token) for token in tokens]
    return "".join(DIGITS[token] for token in row[: row.index(END) if END in row else None])


@cache
def _pair(number: int) -> tuple[list[int], int, list[int], list[int]]:
    words = [WORDS.index(word) for word in spelled(int(number))]
    digits = [DIGITS.index(digit) for digit in str(number)]
    rest = [PAD] * (4 - len(digits))
    ignored = [-100] * (4 - len(digits))
    source = words + [PAD] * (6 - len(words))
    return source, len(words), [START, *digits, *rest], [*digits, END, *ignored]
