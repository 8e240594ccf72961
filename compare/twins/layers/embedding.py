"""Embedding: the padding's row gets no gradient."""

from compare import Tokens, Twin

Embedding = Twin(
    config={"num_embeddings": 7, "embedding_dim": 4, "padding_idx": -5},
    inputs={"x": Tokens(4, 6, 7)},
    optimizer=("adam", {"lr": 0.05, "eps": 1e-4}),
)
