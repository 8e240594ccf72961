"""A training that overflows tells nothing; before it does, a fault is found."""

from __future__ import annotations

import torch

from compare import Array, Twin
from tests.toys import climb, trouble


def twin(factor: float = 1.0) -> Twin:
    """Cubes and a large rate: a few steps take the parameters beyond every number."""
    import flax.linen as fnn

    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(x) ** 3

    class Jax(fnn.Module):
        @fnn.compact
        def __call__(self, x):
            return factor * fnn.Dense(4, name="fc")(x) ** 3

    return Twin(torch=Torch, jax=Jax(), inputs={"x": Array((8, 4))}, optimizer=("sgd", {"lr": 3.0}))


def test_a_training_that_overflows_is_inconclusive():
    result = climb(twin(), steps=8)
    assert result.verdict == "INCONCLUSIVE", trouble(result)
    assert "overflows in PyTorch" in result.stages["trajectory"].findings[0][1]
    assert climb(twin(1 + 1e-7), steps=8).verdict == "DIVERGED"
