"""Mixed precision: what 16 bits round is allowed for, what they lose is found and named."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax.training.dynamic_scale import DynamicScale

from compare import Array, Twin, check
from compare.discover import find
from compare.errors import DiptychError
from compare.ladder.verdict import DIVERGED, SAME
from jaxnn.layers.layer_norm import LayerNorm
from jaxnn.layers.norm import BatchNorm
from jaxnn.training import mixed_precision
from tests.toys import climb, trouble

HALF = jnp.bfloat16


class RoundedLayerNorm(LayerNorm):
    """Every step in bfloat16."""

    @nn.compact
    def __call__(self, x):
        shape = (self.normalized_shape,)
        scale = self.param("scale", nn.initializers.ones, shape).astype(HALF)
        bias = self.param("bias", nn.initializers.zeros, shape).astype(HALF)
        centred = x.astype(HALF) - x.astype(HALF).mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + bias


class RoundedStatistics(BatchNorm):
    """Running statistics that are kept in bfloat16."""

    def __call__(self, x, *, train=False):
        y = super().__call__(x, train=train)
        if train:
            for name in ("mean", "var"):
                kept = self.get_variable("batch_stats", name)
                self.put_variable("batch_stats", name, kept.astype(HALF).astype(kept.dtype))
        return y


class LostSum(mixed_precision.ConvNet):
    """The mean over positions is a running sum, rounded to bfloat16 after each of them."""

    @nn.compact
    def __call__(self, x, *, train=False):
        options = {"padding": 1, "use_bias": False, "dtype": HALF}
        x = nn.Conv(self.channels, (3, 3), name="conv1", **options)(x)
        x = nn.relu(BatchNorm(self.channels, name="bn1")(x.astype(jnp.float32), train=train))
        x = nn.Conv(2 * self.channels, (3, 3), strides=2, name="conv2", **options)(x)
        x = nn.relu(BatchNorm(2 * self.channels, name="bn2")(x.astype(jnp.float32), train=train))
        total = jnp.zeros((len(x), x.shape[-1]), HALF)
        for row in x.reshape(len(x), -1, x.shape[-1]).swapaxes(0, 1):
            total = (total + row).astype(HALF)
        mean = total.astype(jnp.float32) / x[0, ..., 0].size
        return nn.Dense(self.num_classes, dtype=jnp.float32, name="fc")(mean)


class Undivided(DynamicScale):
    """Multiplies the loss, and leaves the gradient as it then is."""

    def value_and_grad(self, *args, **keywords):  # pyrefly: ignore[bad-override]
        run = super().value_and_grad(*args, **keywords)

        def scaled(weight):
            scaler, finite, value, gradient = run(weight)
            return scaler, finite, value, gradient * self.scale

        return scaled


def twin(name):
    (found,) = find(f"training/mixed_precision:{name}")
    return found


def first(result):
    """The first tensor whose numerics differ; the mathematics must not."""
    assert result.verdict == DIVERGED
    assert result.kind == "numerics", trouble(result)
    numerics = [j for stage in result.stages.values() for j in stage.numerics]
    return next(j.name for j in numerics if j.verdict == DIVERGED)


@pytest.mark.parametrize("name", ["ConvNet", "Block", "scaled_training"])
def test_right_recipes_are_the_same_in_bfloat16(name):
    result = climb(twin(name), numerics=True)
    assert result.verdict == SAME, trouble(result)
    judged = [j for stage in result.stages.values() for j in stage.numerics]
    assert {j.dtype for j in judged} == {"bfloat16"}


def test_a_layer_norm_computed_in_bfloat16_is_found(monkeypatch):
    monkeypatch.setattr(mixed_precision, "LayerNorm", RoundedLayerNorm)
    assert first(climb(twin("Block"), numerics=True)) == "eval/layer/norm1"


def test_running_statistics_kept_in_bfloat16_are_found(monkeypatch):
    monkeypatch.setattr(mixed_precision, "BatchNorm", RoundedStatistics)
    result = climb(twin("ConvNet"), numerics=True)
    assert first(result).startswith("train/buffer/bn")
    forward = result.stages["forward"].numerics
    assert all("running" in j.name for j in forward if j.verdict == DIVERGED)


def test_a_lost_float32_accumulation_is_found():
    result = climb(replace(twin("ConvNet"), jax=LostSum), numerics=True)
    assert first(result) == "eval/out"


def test_a_loss_scale_that_is_not_divided_out_is_found(monkeypatch):
    monkeypatch.setattr(mixed_precision, "DynamicScale", Undivided)
    result = climb(twin("scaled_training"))
    assert (result.verdict, result.kind) == (DIVERGED, "mathematics")
    wrong = [j.name for j in result.stages["forward"].judged if j.verdict == DIVERGED]
    assert wrong[0] == "eval/out.weights"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_product_that_is_less_exact_than_its_type_is_found(dtype):
    def coarse(x):
        return 3 * x if x.dtype == jnp.float64 else jnp.round(3 * x)

    right = {"torch": lambda x: 3 * x, "inputs": {"x": Array((4, 9))}, "layout": "same"}
    clean = climb(Twin(jax=lambda x: 3 * x, **right), numerics=True, dtype=dtype)
    assert clean.verdict == SAME
    faulty = climb(Twin(jax=coarse, **right), numerics=True, dtype=dtype)
    assert first(faulty) == "eval/out"


def test_a_report_has_each_dtype_by_its_name():
    right = Twin(torch=lambda x: 3 * x, jax=lambda x: 3 * x, inputs={"x": Array((4, 9))})
    report = check(right, dtypes=("float32", "bfloat16"))
    forward = next(s for s in report.twins[0]["stages"] if s["name"] == "forward")
    assert list(forward["numerics"]) == ["float32", "bfloat16"]
    assert forward["f32_worst"] == forward["numerics"]["float32"]


def test_types_that_nobody_judges_in_are_refused():
    with pytest.raises(DiptychError, match="dtypes: 'float8' is not among float32"):
        check(twin("Block"), dtypes=("float8",))
    with pytest.raises(DiptychError, match="autocast='float32'"):
        replace(twin("Block"), autocast="float32")
