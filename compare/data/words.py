"""Paragraphs of Python's own documentation, by topic, as bags of words (the standard library)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np

from compare.data.folds import hold_out

__all__ = ["TOPICS", "bags_of_words", "paragraphs"]
TOPICS = ("debugger", "string-methods", "compound")  # pdb; str; if, for, try, class and so on
SHORTEST = 12  # words of a paragraph


def bags_of_words(
    rng: np.random.Generator,
    *,
    topics: Sequence[str] = TOPICS,
    share: float = 0.25,
    size: int = 300,
) -> tuple[list[str], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Paragraphs as counts of words, to be told apart by topic; a share of them is held out.

    The vocabulary is of the paragraphs to train on alone: the words that stand in the most of
    them, of equal ones the first in the alphabet. The text is of the Python that runs, so that the
    numbers differ a little from one version to the next.

    Args:
      rng: draws the split.
      topics: as in `paragraphs`; a label is the position of its topic.
      share: of the paragraphs held out, as in `compare.data.folds.hold_out`.
      size: V, words in the vocabulary.

    Returns: the vocabulary, V words in the order of the alphabet, and what to train on and what is
      held out, each {"x": float32 (N, V), how often each word stands in each paragraph,
      "labels": int64 (N,)}.
    Raises: as `paragraphs`, and ValueError where there are fewer than V words.
    """
    texts, labels = paragraphs(topics)
    train, held_out = hold_out(len(texts), share, rng)
    spread = Counter(word for index in train for word in set(texts[index]))
    if not 1 <= size <= len(spread):
        raise ValueError(f"size must lie in 1..{len(spread)}, the number of words, not {size}")
    vocabulary = sorted(sorted(spread, key=lambda word: (-spread[word], word))[:size])
    column = {word: place for place, word in enumerate(vocabulary)}
    x = np.zeros((len(texts), size), np.float32)
    for row, text in zip(x, texts, strict=True):
        for word in text:
            if word in column:
                row[column[word]] += 1
    kept, aside = ({"x": x[index], "labels": labels[index]} for index in (train, held_out))
    return vocabulary, kept, aside


def paragraphs(topics: Sequence[str] = TOPICS) -> tuple[list[list[str]], np.ndarray]:
    """Every paragraph of some topics, twelve words or more, without examples of code.

    Args:
      topics: pages of `help("topics")`, by their names in `pydoc_data.topics`.

    Returns: the words of each paragraph, lower-case letters only, and its label, the position of
      its topic in `topics`, int64 (N,).
    Raises: ValueError for a page that there is not.
    """
    found = [_paragraphs(topic) for topic in topics]
    labels = np.repeat(np.arange(len(found)), [len(texts) for texts in found])
    return [text for texts in found for text in texts], labels


@cache
def _paragraphs(topic: str) -> list[list[str]]:
    from pydoc_data.topics import topics

    if topic not in topics:
        raise ValueError(f"{topic!r} is no page of Python's help: {', '.join(sorted(topics))}")
    blocks = re.split(r"\n\s*\n", topics[topic])
    texts = [re.findall("[a-z]+", block.lower()) for block in blocks if ">>>" not in block]
    return [text for text in texts if len(text) >= SHORTEST]
