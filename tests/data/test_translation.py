"""Numbers are spelled and read."""

import pytest

from compare.data import translation


def test_numbers_are_spelled_and_read():
    assert " ".join(translation.spelled(4017)) == "four thousand seventeen"
    assert " ".join(translation.spelled(9999)) == "nine thousand nine hundred ninety nine"
    assert translation.spelled(100) == ["one", "hundred"]
    assert len({tuple(translation.spelled(n)) for n in range(1, 10_000)}) == 9999
    found = translation.pairs([7, 4017])
    assert found["lengths"].tolist() == [1, 3]
    assert (found["source"] > 0).sum(1).tolist() == [1, 3]
    assert found["tokens"].tolist()[0] == [1, 10, 0, 0, 0]
    assert found["targets"].tolist()[0] == [10, 2, -100, -100, -100]
    assert [translation.digits_of(row) for row in found["targets"]] == ["7", "4017"]
    with pytest.raises(ValueError, match="number"):
        translation.pairs([10_000])
