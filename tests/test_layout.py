"""Where the axes stand, of images and of what a layer hands on."""

from __future__ import annotations

import numpy as np
import pytest

from compare.layout import align, align_layer, arrange, refines
from tests.arrays import normal


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((2, 5, 12), (2, 5, 3, 4)),
        ((2, 5, 3, 4), (2, 5, 12)),
        ((2, 1, 6), (2, 6)),
        ((10, 6), (2, 5, 6)),
    ],
)
def test_a_layers_axes_may_be_split_and_merged(shape: tuple[int, ...], wanted: tuple[int, ...]):
    value = normal(0, *shape)
    assert align(value, wanted, "NHWC") is None  # an output's may not
    found = align_layer(value, wanted, "NHWC")
    assert found is not None
    np.testing.assert_array_equal(found.ravel(), value.ravel())
    back = arrange(found, shape, "NHWC")
    np.testing.assert_array_equal(back, value)


def test_one_value_for_all_examples():
    value = normal(0, 1, 5, 6)
    found = align_layer(value, (3, 5, 6), "NHWC")
    assert found is not None
    np.testing.assert_array_equal(found, np.stack([value[0]] * 3))


@pytest.mark.parametrize("wanted", [(3, 4), (2, 7), (4, 3), (6, 2, 1, 2)])
def test_other_axes_do_not_fit(wanted: tuple[int, ...]):
    assert not refines((2, 6), wanted)
    assert align_layer(normal(0, 2, 6), wanted, "NHWC") is None


def test_images_are_moved_first():
    image = normal(0, 2, 3, 3, 3)
    found = align_layer(image, (2, 3, 3, 3), "NHWC")
    np.testing.assert_array_equal(found, np.moveaxis(image, -1, 1))
