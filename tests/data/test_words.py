"""Bags of words of Python's documentation: the split, the vocabulary, and the counts."""

import numpy as np
import pytest

from compare.data.words import TOPICS, bags_of_words, paragraphs


def draw(seed: int = 0, **options):
    return bags_of_words(np.random.default_rng(seed), **options)


def test_the_counts_are_those_of_the_paragraphs():
    texts, labels = paragraphs()
    assert set(labels) == set(range(len(TOPICS)))
    vocabulary, train, held_out = draw(share=0.2, size=100)
    assert vocabulary == sorted(set(vocabulary))
    assert len(vocabulary) == 100
    assert train["x"].dtype == np.float32
    assert len(held_out["labels"]) == round(0.2 * len(texts))
    counted = sorted([text.count(word) for word in vocabulary] for text in texts)
    assert sorted(np.concatenate([train["x"], held_out["x"]]).tolist()) == counted
    both = np.concatenate([train["labels"], held_out["labels"]])
    assert (np.bincount(both) == np.bincount(labels)).all()


def test_the_vocabulary_is_of_what_is_trained_on():
    vocabulary, train, _ = draw(size=300)
    spread = (train["x"] > 0).sum(0)
    assert spread.min() >= 2
    assert set(draw(size=50)[0]) < set(vocabulary)
    kept = np.isin(vocabulary, draw(size=50)[0])
    assert spread[kept].min() >= spread[~kept].max()


def test_the_seed_decides_the_split():
    first, again, other = draw(1), draw(1), draw(2)
    np.testing.assert_array_equal(first[1]["x"], again[1]["x"])
    np.testing.assert_array_equal(first[2]["labels"], again[2]["labels"])
    assert first[1]["x"].tolist() != other[1]["x"].tolist()


def test_the_order_of_the_topics_is_that_of_the_labels():
    _, forward = paragraphs(("debugger", "compound"))
    texts, backward = paragraphs(("compound", "debugger"))
    assert (forward == 0).sum() == (backward == 1).sum()
    assert "pdb" in {word for index in np.flatnonzero(backward) for word in texts[index]}


def test_what_there_is_not():
    with pytest.raises(ValueError, match="no page"):
        paragraphs(("bagpipes",))
    with pytest.raises(ValueError, match="number of words"):
        draw(size=100_000)
