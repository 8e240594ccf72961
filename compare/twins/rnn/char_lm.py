"""Language models of the characters of Python's help texts."""

from functools import partial

from compare import Tokens, Twin
from compare.data.text import ALPHABET, characters

SIGNS = len(ALPHABET)

CharLM = Twin(
    config={"vocab_size": SIGNS, "embedding_size": 4, "hidden_size": 6},
    inputs={"tokens": Tokens(8, 9, SIGNS)},
    targets={"targets": Tokens(8, 9, SIGNS)},
    loss="next_character_loss",
    optimizer=("sgd", {"lr": 0.5}),
    data=partial(characters, batch=8, length=9),
)

CharLM_tied = Twin(
    of="CharLM",
    config={"vocab_size": SIGNS, "embedding_size": 6, "hidden_size": 6, "tied": True},
    inputs={"tokens": Tokens(8, 9, SIGNS)},
    targets={"targets": Tokens(8, 9, SIGNS)},
    loss="next_character_loss",
    optimizer=("sgd", {"lr": 0.5, "momentum": 0.9}),
    data=partial(characters, batch=8, length=9),
    full={
        "config": {
            "vocab_size": SIGNS,
            "embedding_size": 128,
            "hidden_size": 128,
            "num_layers": 2,
            "tied": True,
        },
        "inputs": {"tokens": Tokens(32, 50, SIGNS)},
        "targets": {"targets": Tokens(32, 50, SIGNS)},
        "data": partial(characters, batch=32, length=50),
    },
)
