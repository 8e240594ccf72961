"""Batches: endless shuffled epochs, the same for the same seed."""

import itertools

import numpy as np
import pytest

from compare.data import captions, frames, series, text, translation
from compare.data.batches import shuffled


def test_shuffled_batches_visit_every_example_once_an_epoch_inputs_beside_their_targets():
    rows, rng = np.arange(10), np.random.default_rng(0)
    stream = shuffled(rng, (rows, rows[:, None] ** 2), (-rows,), 3)
    orders = []
    for _ in range(2):
        epoch = [next(stream) for _ in range(3)]
        for (x, square), (y,) in epoch:
            assert (square == x[:, None] ** 2).all()
            assert (y == -x).all()
        orders.append(np.concatenate([x for (x, _), _ in epoch]))
        assert len(set(orders[-1])) == 9
    assert (orders[0] != orders[1]).any()
    with pytest.raises(ValueError, match="batch"):
        shuffled(rng, (rows,), (rows,), 11)


DATA = {
    "characters": lambda rng: text.characters(rng, batch=4, length=9),
    "gaps": lambda rng: series.gaps(rng, batch=4, length=9),
    "frames": lambda rng: frames.frames(rng, batch=4, length=30),
    "captions": lambda rng: captions.captions(rng, batch=4),
    "translations": lambda rng: translation.translations(rng, batch=4),
}


@pytest.mark.parametrize("name", DATA)
def test_a_seed_gives_one_stream_of_batches_of_one_shape(name):
    one, two = (DATA[name](np.random.default_rng(3)) for _ in range(2))
    shapes = set()
    for first, second in itertools.islice(zip(one, two, strict=True), 3):
        for key, value in first.items():
            assert (value == second[key]).all()
            assert value.dtype in (np.float32, np.int64)
        shapes.add(tuple(value.shape for value in first.values()))
    assert len(shapes) == 1
    assert any((value != first[key]).any() for key, value in next(one).items())
