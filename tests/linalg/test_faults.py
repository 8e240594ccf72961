"""What judges linear algebra can fail: a slip in each of three files is caught."""

import numpy as np
import pytest
import torch

from tests.linalg import test_determinants, test_elimination, test_svd
from tests.linalg.matrices import TALL


def test_the_tests_can_fail(monkeypatch):
    """Without its pivoting an elimination is caught by the residuals."""
    from torchref.linalg import elimination

    monkeypatch.setattr(elimination, "_pivot", lambda a, k: k)
    with pytest.raises(AssertionError):
        test_elimination.test_lu_and_cholesky("torch", "ill")
    monkeypatch.undo()
    monkeypatch.setattr(np.linalg, "det", lambda a: np.float64(1.0))
    with pytest.raises(AssertionError):
        test_determinants.test_determinants("torch", "well")


def test_an_svd_that_stops_early_is_caught(monkeypatch):
    from torchref.linalg import svd

    monkeypatch.setattr(svd, "rotation", lambda alpha, beta, gamma: torch.eye(2).double())
    with pytest.raises(AssertionError):
        test_svd.test_svd("torch", TALL["well"], "jacobi_svd")
