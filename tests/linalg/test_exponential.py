"""The exponential, against SciPy's, and a series that cancels."""

import numpy as np
import pytest
import scipy.linalg

from tests.linalg.matrices import EPS, SIDES, SQUARE, error, run, size


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", SQUARE)
def test_matrix_exponential(side, name):
    a = SQUARE[name]
    taylor = run(side, "exponential", "taylor_exponential", a, terms=40)
    for scale in (1, 30):
        found = run(side, "exponential", "matrix_exponential", scale * a)
        wanted = scipy.linalg.expm(scale * a) if a.size else a
        condition = size(np.asarray(scipy.linalg.expm_cond(scale * a))) if a.size else 0
        assert error(found, wanted, size(wanted) * (1 + condition)) < 32
        if scale == 1:
            # The series' terms add up to at most e^|A|.
            assert error(taylor, wanted, float(np.exp(np.linalg.norm(a, 2)))) < 32


@pytest.mark.parametrize("side", SIDES)
def test_a_series_that_cancels_is_wrong_where_scaling_is_not(side):
    a, wanted = np.array([[-30.0]]), np.array([[np.exp(-30)]])
    # The condition of e^x is |x|.
    assert error(run(side, "exponential", "matrix_exponential", a), wanted, 30 * wanted[0, 0]) < 16
    assert error(run(side, "exponential", "taylor_exponential", a, terms=150), wanted) > 1 / EPS
