"""Synthetic speech, frame by frame: silence, three vowels and noise, as log filterbank energies."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np

__all__ = ["TAGS", "filterbank", "frames", "utterance"]
TAGS = ("silence", "a", "i", "u", "noise")
RATE, WINDOW, HOP = 8000, 200, 80  # samples: in a second, in a frame, from frame to frame
FORMANTS = {"a": (750, 1200), "i": (300, 2300), "u": (320, 800)}  # Hz, of a man's voice
SHORTEST, LONGEST = 4, 12  # frames of one sound


def frames(
    rng: np.random.Generator, *, batch: int, length: int, filters: int = 20, noise: float = 0.02
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches of utterances of different length.

    Args:
      rng: draws everything.
      batch: B, utterances in a batch.
      length: L, frames of the longest; others have at least half as many.
      filters: M, bands of the filterbank.
      noise: of the recording, as in `utterance`.

    Returns: an iterator of {"x": float32 (B, L, M), "lengths": int64 (B,), "tags": int64 (B, L),
      places in `TAGS`}. Beyond a length x is 0 and the tag is -100.
    """
    bank = filterbank(filters)

    def draw() -> dict[str, np.ndarray]:
        lengths = rng.integers((length + 1) // 2, length, size=batch, endpoint=True)
        lengths[0] = length
        x = np.zeros((batch, length, filters), np.float32)
        tags = np.full((batch, length), -100)
        for n, steps in enumerate(lengths):
            wave, tags[n, :steps] = utterance(rng, steps, noise)
            cut = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
            power = abs(np.fft.rfft(cut * np.hanning(WINDOW))) ** 2
            x[n, :steps] = np.log(power @ bank.T + 1e-3) / 3
        return {"x": x, "lengths": lengths, "tags": tags}

    return (draw() for _ in count())


def utterance(
    rng: np.random.Generator, length: int, noise: float = 0.02
) -> tuple[np.ndarray, np.ndarray]:
    """A sequence of sounds, of 4 to 12 frames each.

    A vowel is the harmonics of a pitch, loud near its two formants, which differ by some per cent
    from one to the next; noise is a burst of random samples without low frequencies.

    Args:
      rng: draws sounds, lengths, pitches and noise.
      length: frames.
      noise: standard deviation of the recording's own noise; a sound has about 0.3.

    Returns: samples, float64, 8000 a second, and the tag of each frame, int64 (length,), the sound
      at its middle.
    """
    samples = (length - 1) * HOP + WINDOW
    wave, sounds = np.zeros(samples), np.zeros(samples, np.int64)
    start = 0
    while start < samples:
        tag = int(rng.integers(len(TAGS)))
        stop = min(start + HOP * int(rng.integers(SHORTEST, LONGEST + 1)), samples)
        wave[start:stop] = rng.uniform(0.5, 1.5) * _sound(rng, TAGS[tag], stop - start)
        sounds[start:stop] = tag
        start = stop
    wave += noise * rng.standard_normal(samples)
    return wave, sounds[WINDOW // 2 :: HOP][:length]


def filterbank(filters: int) -> np.ndarray:
    """Triangles over the frequencies of a frame, of equal width on the mel scale.

    Returns: float64 (filters, 101), each row up to 1; band k rises from the centre of the one
      before it and falls to that of the next.
    """
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, filters + 2) / 2595) - 1)
    hertz = np.fft.rfftfreq(WINDOW, 1 / RATE)
    low, centre, high = (edges[k : k + filters, None] for k in range(3))
    return np.maximum(
        0, np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre))
    )


def _sound(rng: np.random.Generator, name: str, samples: int) -> np.ndarray:
    """Samples of one sound, of a standard deviation near 0.3, or none."""
    if name == "silence":
        return np.zeros(samples)
    if name == "noise":
        return 0.2 * np.diff(rng.standard_normal(samples + 1))
    pitch = rng.uniform(100, 200)
    harmonics = pitch * np.arange(1, int(RATE / 2 / pitch))
    formants = np.array(FORMANTS[name]) * rng.uniform(0.92, 1.08, 2)
    loud = (1 / (1 + ((harmonics[:, None] - formants) / 120) ** 2)).sum(1)
    phases = rng.uniform(0, 2 * np.pi, (len(harmonics), 1))
    waves = np.sin(2 * np.pi * harmonics[:, None] * np.arange(samples) / RATE + phases)
    return 0.3 * (loud / np.sqrt((loud**2).sum() / 2)) @ waves
