"""The captioner on pairs of digits: "three seven"."""

from functools import partial

from compare import Image, Tokens, Twin
from compare.data.captions import VOCABULARY, captions

WORDS = len(VOCABULARY)

ImageCaptioner = Twin(
    config={
        "image_size": (8, 16),
        "channels": 1,
        "width": 3,
        "vocab_size": WORDS,
        "embedding_size": 4,
        "hidden_size": 6,
    },
    inputs={"images": Image(6, 1, 8, 16), "tokens": Tokens(6, 3, WORDS)},
    targets={"targets": Tokens(6, 3, WORDS)},
    loss="caption_loss",
    optimizer=("sgd", {"lr": 0.3}),
    data=partial(captions, batch=6),
    full={
        "config": {
            "image_size": (64, 64),
            "channels": 3,
            "width": 16,
            "vocab_size": 1000,
            "embedding_size": 512,
            "hidden_size": 512,
        },
        "inputs": {"images": Image(2, 3, 64, 64), "tokens": Tokens(2, 12, 1000)},
        "targets": {"targets": Tokens(2, 12, 1000)},
        "optimizer": ("sgd", {"lr": 1.0}),
        "data": None,
    },
)
