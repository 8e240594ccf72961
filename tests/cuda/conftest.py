"""The device that `make cuda` names; the rehearsal runs the same tests on the CPU."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def device() -> str:
    """ "cuda", or "cpu" in the rehearsal."""
    named = os.environ.get("DIPTYCH_DEVICE")
    if not named:
        pytest.skip("no device is named: `make cuda` runs this")
    import torch

    assert named == "cpu" or torch.cuda.is_available(), "PyTorch finds no CUDA device"
    return named
