"""The tagger on synthetic sounds of different length."""

from functools import partial

import numpy as np

from compare import Array, Twin
from compare.data.frames import TAGS, frames

LENGTHS = np.array([8, 5, 1, 3])
INSIDE = np.arange(8) < LENGTHS[:, None]

SpeechTagger = Twin(
    config={"num_features": 6, "channels": 6, "hidden_size": 4, "num_tags": len(TAGS)},
    inputs={"x": Array((4, 8, 6)), "lengths": LENGTHS},
    targets={"tags": np.where(INSIDE, np.arange(32).reshape(4, 8) % len(TAGS), -100)},
    loss="tag_loss",
    optimizer=("sgd", {"lr": 0.3, "momentum": 0.9}),
    data=partial(frames, batch=4, length=8, filters=6),
    full={
        "config": {
            "num_features": 26,
            "channels": 32,
            "hidden_size": 93,
            "num_tags": len(TAGS),
        },
        "inputs": {"x": Array((4, 60, 26)), "lengths": np.array([60, 45, 31, 60])},
        "targets": {"tags": np.where(np.arange(60) < [[60], [45], [31], [60]], 2, -100)},
        "data": partial(frames, batch=4, length=60, filters=26),
    },
)
