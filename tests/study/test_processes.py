"""Processes for lessons: what a cell's function returns in each, and how it fails."""

import numpy as np
import pytest

from compare import DiptychError
from compare.study.processes import torchrun


def total(x):
    import numpy as np
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    if x[rank] < 0:
        raise ValueError("a negative number")
    whole = torch.tensor(x[rank])
    dist.all_reduce(whole)
    dist.destroy_process_group()
    return {"rank": np.array(rank), "whole": whole.numpy()}


def test_each_process_returns_what_it_found():
    found = torchrun(total, 2, x=np.array([1.0, 2.0]))
    assert [int(each["rank"]) for each in found] == [0, 1]
    assert [float(each["whole"]) for each in found] == [3, 3]


def test_a_process_that_fails():
    with pytest.raises(DiptychError, match="a negative number"):
        torchrun(total, 2, x=np.array([1.0, -2.0]))
