"""Plots hold every point, and few where there are many."""

from compare.report import plots
from tests.report.samples import layer, odd


def test_plots_hold_every_point():
    entry = odd()
    outputs, gradients = plots.depth(entry["layers"], 1)
    assert outputs.origin
    assert "inf" in dict(outputs.y).values()
    assert "0" in dict(gradients.y).values()
    assert [path.count("h0") for _, path in outputs.series] == [3, 2]
    assert [path.count("h0") for _, path in gradients.series] == [3]
    losses, steps = plots.trajectory(entry["trajectory"], ("PyTorch", "JAX"))
    assert [path.count("h0") for _, path in losses.series] == [0, 9]
    assert [path.count("h0") for _, path in steps.series] == [0, 10]
    assert not plots.depth([], None)
    assert not plots.trajectory([], ("PyTorch", "JAX"))
    long = plots.depth([layer(f"{i}", i) for i in range(5000)], None)
    assert all(0 < path.count("h0") <= plots.MOST for plot in long for _, path in plot.series)
