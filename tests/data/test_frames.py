"""Frames of synthetic speech hold their sounds."""

import numpy as np

from compare.data import frames


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
