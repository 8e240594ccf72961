"""Series: months, windows and gaps."""

from typing import Any

import numpy as np
import pytest

from compare.data import series


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
