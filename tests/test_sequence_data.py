"""Sequences to learn from: text, series, frames, captions, and numbers in words."""

import itertools
from typing import Any

import numpy as np
import pytest

from compare.data import captions, frames, series, text, translation
from compare.data.digits import every_digit

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


def test_months_are_the_means_of_their_weeks():
    from statsmodels.datasets import co2

    weeks: Any = co2.load_pandas().data
    weeks = weeks["co2"]
    months = weeks.resample("MS").mean().interpolate()
    np.testing.assert_allclose(series.series("co2"), months.to_numpy(), rtol=1e-12)
    assert series.series("sunspots").shape == (309,)
    with pytest.raises(ValueError, match="name"):
        series.series("moon")


def test_windows_and_what_follows_them():
    found = series.windows(np.arange(7.0), 3, 2)
    assert found["x"][..., 0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert found["y"].tolist() == [[3, 4], [4, 5], [5, 6]]
    with pytest.raises(ValueError, match="horizon"):
        series.windows(np.arange(4.0), 3, 2)


def test_gaps_lie_in_the_windows():
    batch = next(series.gaps(np.random.default_rng(0), batch=64, length=20, share=0.3))
    value, seen = batch["x"][..., 0], batch["x"][..., 1] == 1
    inside = np.arange(20) < batch["lengths"][:, None]
    assert batch["lengths"].min() >= 10
    assert not seen[~inside].any()
    assert not batch["y"][~inside].any()
    assert 0.25 < 1 - seen.sum() / inside.sum() < 0.35
    assert (value[seen] == batch["y"][seen][:, 0]).all()
    assert not value[~seen].any()
    with pytest.raises(ValueError, match="length"):
        series.gaps(np.random.default_rng(0), batch=1, length=400)


def test_frames_hold_their_sounds():
    batch = next(frames.frames(np.random.default_rng(0), batch=32, length=60))
    inside = np.arange(60) < batch["lengths"][:, None]
    assert batch["lengths"][0] == 60
    assert (batch["tags"][~inside] == -100).all()
    assert set(np.unique(batch["tags"][inside])) == set(range(len(frames.TAGS)))
    assert not batch["x"][~inside].any()
    mean = {tag: batch["x"][batch["tags"] == k].mean(0) for k, tag in enumerate(frames.TAGS)}
    assert max(mean["silence"]) < min(0, max(mean["a"]))
    centres = (frames.filterbank(20) * np.fft.rfftfreq(frames.WINDOW, 1 / frames.RATE)).sum(1)
    centres /= frames.filterbank(20).sum(1)
    loudest = {tag: centres[energies.argmax()] for tag, energies in mean.items()}
    assert 600 < loudest["a"] < 1300
    assert loudest["noise"] > 2000


def test_captions_say_what_the_images_show():
    given = np.array([[0, 5], [1796, 3]])
    found, digits = captions.captioned(given), every_digit()
    assert (found["images"][1, :, :, :8] == digits["x"][1796]).all()
    assert (found["images"][1, :, :, 8:] == digits["x"][3]).all()
    words = [[captions.VOCABULARY[word] for word in row] for row in found["targets"]]
    assert words == [["zero", "five", "<end>"], ["eight", "three", "<end>"]]
    assert (found["tokens"][:, 1:] == found["targets"][:, :-1]).all()
    assert (found["tokens"][:, 0] == captions.START).all()
    only = next(captions.captions(np.random.default_rng(0), batch=9, among=np.array([3, 13])))
    assert (only["targets"][:, :2] == 3).all()


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
