"""Captions say what the images show."""

import numpy as np

from compare.data import captions
from compare.data.digits import every_digit


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
