"""Memory that crosses between host and device is copied, whatever its strides are."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
import torch

from compare import Image, Twin, check
from compare.discover import find
from compare.share import to_jax, to_numpy, to_torch

pytestmark = pytest.mark.cuda
VIEWS = {
    "transposed": lambda x: x.transpose(0, 1),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "every other": lambda x: x[:, ::2, 1:],
    "expanded": lambda x: x[:1].expand(5, -1, -1, -1),
    "reversed": lambda x: x.flip(0)[::1],
    "empty": lambda x: x[:0],
    "a number": lambda x: x[0, 0, 0, 0],
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "int64", "bool"])
@pytest.mark.parametrize("name", VIEWS)
def test_views_come_out_whole(device, name, dtype, normal):
    kind = getattr(torch, dtype)
    whole = torch.from_numpy(normal(0, 4, 3, 6, 5)).to(kind)
    view = VIEWS[name](whole.to(device))
    expected = VIEWS[name](whole)
    expected = expected.float() if kind is torch.bfloat16 else expected
    expected, array = np.array(expected), to_numpy(view)
    np.testing.assert_array_equal(array, expected)
    if view.numel() and name != "expanded":
        view.zero_()
        np.testing.assert_array_equal(array, expected)


def test_what_goes_in_is_a_copy(device):
    """While the device works: a copy that is not finished would see the source change."""
    where = jax.devices(device)[0]
    busy = torch.randn(512, 512, device=device)
    source, ours, theirs = np.empty((300, 300), np.float32), [], []
    for value in range(100):
        busy = busy @ busy / 100
        source.fill(value)
        theirs.append(to_torch(source, device=device))
        ours.append(to_jax(source, device=where))
        source.fill(-1)
    assert [float(x.min()) for x in theirs] == [float(x.max()) for x in theirs]
    assert [float(x[-1, -1]) for x in theirs] == list(range(100))
    assert all(np.all(np.asarray(x) == value) for value, x in enumerate(ours))
    assert all(x.devices() == {where} for x in ours)


def test_what_comes_out_is_a_copy(device):
    tensor = torch.arange(90_000.0, device=device)
    array = to_numpy(tensor)
    tensor.mul_(0)
    np.testing.assert_array_equal(array, np.arange(90_000, dtype=np.float32))
    array[:] = 7
    assert float(tensor.abs().max()) == 0


def test_a_network_of_images_with_channels_last(device):
    (twin,) = find("cnn/lenet:LeNet")

    def last(model, x):
        model.to(memory_format=torch.channels_last)
        return model(x.contiguous(memory_format=torch.channels_last))

    moved = dataclasses.replace(twin, torch_call=last)
    report = check(moved, backends=[f"torch:{device}"], steps=2)
    assert report.verdict == "SAME", report.to_json()


def test_strided_inputs_of_every_layer(device):
    """What a layer is given is not contiguous, forward and backward."""

    class Strided(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(4, 6, 3)
            self.norm = torch.nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x.transpose(2, 3)[:, ::2])
            return self.norm(y[:, 1::2].flip(3)).permute(0, 2, 3, 1)

    twin = Twin(torch=Strided, jax=lambda x: x, inputs={"x": Image(3, 8, 7, 9)})
    report = check(twin, backends=[f"torch:{device}"], steps=2)
    assert report.verdict == "SAME", report.to_json()
