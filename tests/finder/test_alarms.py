"""Right ports that were once called different, or crashed the finder, each beside a wrong one."""

from __future__ import annotations

from typing import Any

import flax.linen as fnn
import jax
import jax.numpy as jnp
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compare import Array, Image, Lengths, Twin
from tests.toys import climb, found, trouble


def twin(ours: Any, theirs: Any, **inputs: Any) -> Twin:
    return Twin(torch=ours, jax=theirs, inputs=inputs)


class TorchUnnamed(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.a, self.b = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))

    def forward(self, x):
        return self.fc(x) * self.a + self.b


class JaxUnnamed(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        u, v = (self.param(name, fnn.initializers.normal(), (4,)) for name in "uv")
        return fnn.Dense(4, name="fc")(x) * u + v


def test_two_parameters_of_one_shape_without_a_name_are_said_to_be_unclear():
    what = found(twin(TorchUnnamed, JaxUnnamed(), x=Array((3, 4))))
    assert what.result.verdict == "INCONCLUSIVE"
    assert what.result.stages["weights"].findings[0][1].startswith("a, b: u, v fit equally")
    assert what.origin is None


class TorchPacked(nn.Module):
    """The module gives a packed sequence, which is recorded with the time first."""

    def __init__(self):
        super().__init__()
        self.pre, self.rnn = nn.Linear(3, 3), nn.GRU(3, 4, batch_first=True)
        self.fc = nn.Linear(4, 2)

    def forward(self, x, lengths):
        options = {"batch_first": True, "enforce_sorted": False}
        packed = nn.utils.rnn.pack_padded_sequence(self.pre(x), lengths, **options)
        h, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.fc(h.sum(1))


class JaxGru(fnn.Module):
    keep: float

    @fnn.compact
    def __call__(self, x, lengths):
        def param(name, *shape):
            return self.param(name, fnn.initializers.normal(), shape)

        wi, wh = param("weight_ih_l0", 12, 3), param("weight_hh_l0", 12, 4)
        bi, bh = param("bias_ih_l0", 12), param("bias_hh_l0", 12)
        h, given = jnp.zeros((x.shape[0], 4), x.dtype), []
        for t in range(x.shape[1]):
            a, b = jnp.split(x[:, t] @ wi.T + bi, 3, -1), jnp.split(h @ wh.T + bh, 3, -1)
            r, z = jax.nn.sigmoid(a[0] + b[0]), jax.nn.sigmoid(a[1] + b[1])
            new = (1 - z) * jnp.tanh(a[2] + r * b[2]) + z * h
            on = (t < lengths)[:, None]
            h = jnp.where(on, new, h)
            h = self.keep * h + (1 - self.keep) * jax.lax.stop_gradient(h)
            given.append(jnp.where(on, h, 0))
        return jnp.stack(given, 1)


class JaxPacked(fnn.Module):
    keep: float = 1.0

    @fnn.compact
    def __call__(self, x, lengths):
        h = JaxGru(self.keep, name="rnn")(fnn.Dense(3, name="pre")(x), lengths)
        return fnn.Dense(2, name="fc")(h.sum(1))


def test_a_packed_sequence_and_a_fault_in_its_gradient_alone():
    inputs = {"x": Array((3, 5, 3)), "lengths": Lengths(3, 5)}
    right = climb(twin(TorchPacked, JaxPacked(), **inputs))
    assert right.verdict == "SAME", trouble(right)
    wrong = found(twin(TorchPacked, JaxPacked(0.5), **inputs))
    assert wrong.result.stages["forward"].verdict == "SAME"
    assert wrong.origin is not None
    assert wrong.origin.stage == "gradients"


class TorchDropped(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.drop, self.fc = nn.Conv2d(3, 4, 3), nn.Dropout(0.3), nn.Linear(144, 5)

    def forward(self, x):
        return self.fc(self.drop(self.conv(x)).flatten(1))


class JaxDropped(fnn.Module):
    early: bool = False
    rate: float = 0.3

    @fnn.compact
    def __call__(self, x, train=False):
        x = fnn.Conv(4, (3, 3), padding="VALID", name="conv")(x)
        drop = fnn.Dropout(self.rate, deterministic=not train, name="drop")
        x = (drop(x) if self.early else x).transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
        return fnn.Dense(5, name="fc")(x if self.early else drop(x))


@pytest.mark.parametrize("early", [True, False], ids=["before", "after"])
def test_dropout_before_or_after_the_flatten(early: bool):
    right = climb(twin(TorchDropped, JaxDropped(early), x=Image(4, 3, 8, 8)))
    assert right.verdict == "SAME", trouble(right)
    wrong = climb(twin(TorchDropped, JaxDropped(early, 0.2), x=Image(4, 3, 8, 8)))
    assert wrong.verdict == "DIVERGED"


class TorchTies(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(64, 5)

    def forward(self, x):
        return self.fc(F.max_pool2d(self.conv(x).relu(), 2).flatten(1))


class JaxTies(fnn.Module):
    """Pooled by a reshape: the gradient of a tie is shared, PyTorch's goes to the first."""

    padding: Any = 1

    @fnn.compact
    def __call__(self, x):
        x = fnn.relu(fnn.Conv(4, (3, 3), padding=self.padding, name="conv")(x))
        n, h, w, c = x.shape
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4)).transpose(0, 3, 1, 2)
        return fnn.Dense(5, name="fc")(x.reshape(n, -1))


def test_ties_of_pooling_at_zero_reach_no_parameter():
    right = climb(twin(TorchTies, JaxTies(), x=Image(4, 3, 8, 8)))
    assert right.verdict == "SAME", trouble(right)
    assert [note.partition(":")[0] for note in right.notes] == ["train/gradient/layer/relu"]
    wrong = climb(twin(TorchTies, JaxTies(((0, 2), (0, 2))), x=Image(4, 3, 8, 8)))
    assert wrong.verdict == "DIVERGED"


class TorchMasked(nn.Module):
    def __init__(self, fill: float | None):
        super().__init__()
        self.q, self.k = nn.Linear(4, 4), nn.Linear(4, 4)
        self.score, self.fill = nn.Identity(), fill

    def forward(self, x):
        scores = self.q(x) @ self.k(x).mT * 0.5
        fill = torch.finfo(x.dtype).min if self.fill is None else self.fill
        mask = torch.ones(5, 5, dtype=torch.bool).tril()
        return self.score(scores.masked_fill(~mask, fill)).softmax(-1) @ x


class JaxMasked(fnn.Module):
    fill: float | None
    scale: float = 0.5
    masked: bool = True

    @fnn.compact
    def __call__(self, x):
        q, k = fnn.Dense(4, name="q")(x), fnn.Dense(4, name="k")(x)
        scores = q @ k.swapaxes(-1, -2) * self.scale
        mask = jnp.tri(5, dtype=bool) | (not self.masked)
        fill = jnp.finfo(x.dtype).min if self.fill is None else self.fill
        scores = Score(name="score")(jnp.where(mask, scores, fill))
        return jax.nn.softmax(scores, -1) @ x


class Score(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        return x


@pytest.mark.parametrize("fill", [None, -1e9, -3.4028234663852886e38])
def test_what_is_wrong_with_masked_scores_is_seen_before_the_softmax(fill: float | None):
    """None: the least number of the run's own type."""
    inputs = {"x": Array((2, 5, 4))}
    right = climb(twin(lambda: TorchMasked(fill), JaxMasked(fill), **inputs))
    assert right.verdict == "SAME", trouble(right)
    for wrong in (JaxMasked(fill, scale=0.6), JaxMasked(fill, masked=False)):
        what = found(twin(lambda: TorchMasked(fill), wrong, **inputs))
        assert what.origin is not None
        assert what.origin.stage == "forward"
        assert what.origin.torch == "score"
