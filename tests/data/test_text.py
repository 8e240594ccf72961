"""Text: there and back, and the next character is the target."""

import numpy as np
import pytest

from compare.data import text


def test_text_is_there_and_back_and_the_next_character_is_the_target():
    assert text.decode(text.encode("It's\n a  (Test), 100%.")) == "it's a (test), ."
    assert len(text.prose()) > 50_000
    assert set(np.unique(text.prose())) <= set(range(len(text.ALPHABET)))
    batch = next(text.characters(np.random.default_rng(0), batch=5, length=20))
    assert (batch["tokens"][:, 1:] == batch["targets"][:, :-1]).all()
    whole = text.decode(text.prose())
    for row, last in zip(batch["tokens"], batch["targets"][:, -1], strict=True):
        assert text.decode([*row, last]) in whole
    short = text.characters(np.random.default_rng(0), batch=9, length=5, share=slice(100, 110))
    assert {text.decode(row) for row in next(short)["tokens"]} <= {
        text.decode(text.prose()[k : k + 5]) for k in range(100, 105)
    }
    with pytest.raises(ValueError, match="length"):
        text.characters(np.random.default_rng(0), batch=1, length=5, share=slice(5))
