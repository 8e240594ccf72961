"""Translation of numbers in words to digits."""

from functools import partial

import numpy as np

from compare import Array, Lengths, Tokens, Twin
from compare.data.translation import DIGITS, WORDS, translations

AdditiveAttention = Twin(
    config={"query_size": 3, "annotation_size": 4, "hidden_size": 5},
    inputs={
        "query": Array((4, 3)),
        "annotations": Array((4, 6, 4)),
        "inside": np.arange(6) < np.array([[6], [1], [4], [2]]),
    },
    torch_call=lambda attention, query, annotations, inside: attention(
        query, (annotations, attention.keys(annotations), inside)
    ),
    jax_call=lambda attention, query, annotations, inside, train: attention(
        query, (annotations, attention.keys(annotations), inside), train=train
    ),
)

Seq2Seq = Twin(
    config={
        "source_vocab": len(WORDS),
        "target_vocab": len(DIGITS),
        "embedding_size": 4,
        "hidden_size": 5,
    },
    inputs={
        "source": Tokens(8, 6, len(WORDS)),
        "lengths": Lengths(8, 6),
        "tokens": Tokens(8, 5, len(DIGITS)),
    },
    targets={"targets": Tokens(8, 5, len(DIGITS))},
    loss="translation_loss",
    optimizer=("sgd", {"lr": 0.5}),
    data=partial(translations, batch=8),
    full={
        "config": {
            "source_vocab": len(WORDS),
            "target_vocab": len(DIGITS),
            "embedding_size": 620,
            "hidden_size": 1000,
        },
    },
)
