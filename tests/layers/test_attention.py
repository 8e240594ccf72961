"""Attention against torch's: masks of every kind, rows that see nothing, every option."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compare.share import to_jax, to_numpy, to_torch
from jaxnn.layers import attention as theirs
from tests.arrays import assert_same, normal
from torchref.layers import attention as ours

N, H, L, S, E = 2, 2, 3, 4, 8
CAUSAL = np.tri(L, S, dtype=bool)
EMPTY = CAUSAL & (np.arange(L) != 1)[:, None]  # the second row sees nothing
ADDED = normal(9, L, S)
MASKS = {
    "none": None,
    "boolean": CAUSAL,
    "per head": np.random.default_rng(8).random((N, H, L, S)) < 0.7,
    "added": ADDED,
    "added to minus infinity": np.where(CAUSAL, ADDED, -np.inf),
    "an empty row": EMPTY,
    "an empty row, added": np.where(EMPTY, ADDED, -np.inf),
    "all empty": np.zeros((L, S), bool),
}


QKV = (normal(1, N, H, L, 5), normal(2, N, H, S, 5), normal(3, N, H, S, 3))


def by_torch(f, arrays, mask=None) -> list[np.ndarray]:
    """Outputs, then the gradients of the arrays, of a sum of squares."""
    given = [to_torch(a).requires_grad_() for a in arrays]
    values = f(*given, None if mask is None else to_torch(mask))
    total = torch.stack([(v**2).sum() for v in values]).sum()
    return [to_numpy(v) for v in (*values, *torch.autograd.grad(total, given))]


def by_jax(f, arrays, mask=None) -> list[np.ndarray]:
    """The same, one operation after the other."""

    def run(arrays):
        values = f(*arrays, None if mask is None else to_jax(mask))
        return sum((v**2).sum() for v in values), values

    with jax.enable_x64(True):
        slopes, values = jax.grad(run, has_aux=True)([to_jax(a) for a in arrays])
        assert {v.dtype for v in values} == {jnp.dtype("float64")}
        return [to_numpy(v) for v in (*values, *slopes)]


def dot_product(side, q, k, v, mask, **options):
    return (side.scaled_dot_product_attention(q, k, v, mask, **options),)


@pytest.mark.parametrize("name", MASKS)
def test_masks(name):
    """A row that sees nothing is 0, and gives no gradient."""
    wanted = by_torch(partial(dot_product, ours), QKV, MASKS[name])
    found = by_jax(partial(dot_product, theirs), QKV, MASKS[name])
    assert_same(found, wanted)
    assert all(np.isfinite(a).all() for a in found)
    if "empty row" in name:
        assert not found[0][:, :, 1].any()
        assert not found[1][:, :, 1].any()


def test_a_fault_is_found():
    """The mask's polarity, the scale, where a causal mask starts, the mean in an empty row."""
    wanted = by_torch(partial(dot_product, ours), QKV, CAUSAL)
    slips = {
        "polarity": lambda q, k, v, m: dot_product(theirs, q, k, v, ~m),
        "scale": lambda q, k, v, m: dot_product(theirs, q, k, v, m, scale=1.0),
        "start": lambda q, k, v, m: dot_product(theirs, q, k, v, jnp.tri(L, S, S - L, dtype=bool)),
    }
    for slip, f in slips.items():
        with pytest.raises(AssertionError):
            assert_same(by_jax(f, QKV, CAUSAL), wanted, slip)
    lowest = np.where(EMPTY, 0.0, np.finfo("float64").min)
    with pytest.raises(AssertionError):
        assert_same(
            by_jax(partial(dot_product, theirs), QKV, lowest),
            by_torch(partial(dot_product, ours), QKV, EMPTY),
        )


@given(
    lengths=st.sampled_from([(3, 2), (2, 3)]),
    groups=st.sampled_from([1, 2]),
    scale=st.sampled_from([None, 0.0, 0.7]),
    causal=st.booleans(),
    leading=st.sampled_from([(), (2,)]),
)
def test_options(lengths, groups, scale, causal, leading):
    rows, keys = lengths
    arrays = (
        normal(1, *leading, 2 * groups, rows, 4),
        normal(2, *leading, 2, keys, 4),
        normal(3, *leading, 2, keys, 3),
    )
    options = {"scale": scale, "is_causal": causal, "enable_gqa": groups > 1}
    found = by_jax(partial(dot_product, theirs, **options), arrays)
    assert_same(found, by_torch(partial(dot_product, ours, **options), arrays))


# The layer.


def layer(**config) -> tuple:
    """torch's, in float64 with generic parameters; jaxnn's; its variables."""
    module = ours.MultiheadAttention(E, 2, **config).double()
    params: dict = {}
    for index, (name, parameter) in enumerate(module.named_parameters()):
        parameter.data = to_torch(normal(index, *parameter.shape) / 2)
        value = to_numpy(parameter)
        if name.startswith("out_proj."):
            kernel = name.endswith("weight")
            place = params.setdefault("out_proj", {})
            place["kernel" if kernel else "bias"] = value.T if kernel else value
        else:
            params[name] = value
    return module, theirs.MultiheadAttention(E, 2, **config), {"params": params}


def attended(module, q, k, v, mask, **options):
    y, weights = module(q, k, v, attn_mask=mask, **options)
    return (y,) if weights is None else (y, weights)


def both(config, arrays, mask=None, padding=None, **options):
    module, linen, variables = layer(**config)
    more = {} if padding is None else {"key_padding_mask": padding}
    of_torch = {name: to_torch(value) for name, value in more.items()}
    wanted = by_torch(partial(attended, module, **of_torch, **options), arrays, mask)
    with jax.enable_x64(True):
        bound = linen.bind(jax.tree.map(to_jax, variables))
        of_jax = {name: to_jax(value) for name, value in more.items()}
    return by_jax(partial(attended, bound, **of_jax, **options), arrays, mask), wanted


PADDING = np.arange(S) >= np.array([[4], [2]])


@pytest.mark.parametrize(
    ("config", "mask", "padding", "options"),
    [
        ({}, ~CAUSAL, PADDING, {}),
        ({"batch_first": True}, ADDED, None, {"average_attn_weights": False}),
        ({"batch_first": True}, normal(7, N * H, L, S), None, {"need_weights": False}),
        ({"batch_first": True}, normal(7, N * H, L, S) > 1, PADDING, {}),
        ({"bias": False, "add_zero_attn": True}, ~CAUSAL, None, {}),
        ({"add_bias_kv": True, "add_zero_attn": True}, ADDED, np.where(PADDING, -3.0, 0), {}),
        ({"kdim": 6, "vdim": 5}, None, PADDING, {"average_attn_weights": False}),
        ({"kdim": 6, "vdim": 5, "bias": False, "add_bias_kv": True}, None, None, {}),
    ],
)
def test_layer(config, mask, padding, options):
    widths = (E, config.get("kdim", E), config.get("vdim", E))
    arrays = [normal(i, N, (L, S, S)[i], widths[i]) for i in range(3)]
    if not config.get("batch_first"):
        arrays = [a.swapaxes(0, 1) for a in arrays]
    assert_same(*both(config, arrays, mask, padding, **options))


def test_rows_that_see_nothing():
    """NaN with weights, out_proj's bias without, on both sides."""
    arrays = [normal(i, N, (L, S, S)[i], E) for i in range(3)]
    for need in (True, False):
        found, wanted = both({"batch_first": True}, arrays, ~EMPTY, need_weights=need)
        assert_same(found, wanted)
        assert np.isnan(found[0][:, 1]).all() == need
        assert not np.isnan(found[0][:, [0, 2]]).any()


def test_a_fault_in_the_layer_is_found():
    """Query and key exchanged, the mask's polarity, heads taken from the inner axis."""
    arrays = [normal(i, N, (L, S, S)[i], E) for i in range(3)]
    module, linen, variables = layer(batch_first=True)
    wanted = by_torch(partial(attended, module), arrays, ~CAUSAL)
    packed = variables["params"]["in_proj_weight"].reshape(3, H, E // H, E)
    heads = packed.swapaxes(1, 2).reshape(3 * E, E)
    order = packed[[1, 0, 2]].reshape(3 * E, E)
    for weight, mask in ((heads, ~CAUSAL), (order, ~CAUSAL), (packed.reshape(3 * E, E), CAUSAL)):
        params = {**variables["params"], "in_proj_weight": weight}
        with jax.enable_x64(True):
            bound = linen.bind({"params": jax.tree.map(to_jax, params)})
        with pytest.raises(AssertionError):
            assert_same(by_jax(partial(attended, bound), arrays, mask), wanted)


def test_dropout_of_each_weight():
    """What is dropped is zero, the rest grows; the output comes from what is returned."""
    x = normal(0, N, S, E)
    module, linen, variables = layer(batch_first=True, dropout=0.25)
    plain = module.eval()(*[to_torch(x)] * 3, average_attn_weights=False)[1]
    torch.manual_seed(0)
    y, weights = module.train()(*[to_torch(x)] * 3, average_attn_weights=False)
    found = [(to_numpy(y), to_numpy(weights))]
    with jax.enable_x64(True):
        run = partial(linen.apply, variables, *[to_jax(x)] * 3, average_attn_weights=False)
        y, weights = run(train=True, rngs={"dropout": jax.random.key(0)})
        found.append((to_numpy(y), to_numpy(weights)))
        assert_same([run()[1]], [to_numpy(plain)])
    p = variables["params"]
    values = x @ p["in_proj_weight"][2 * E :].T + p["in_proj_bias"][2 * E :]
    values = values.reshape(N, S, H, -1).swapaxes(1, 2)
    for output, dropped in found:
        kept = dropped != 0
        assert len(np.unique(kept.reshape(-1, S * S), axis=0)) == N * H, "one mask for several"
        assert_same([dropped], [kept * to_numpy(plain) / 0.75])
        heads = (dropped @ values).swapaxes(1, 2).reshape(N, S, E)
        assert_same([output], [heads @ p["out_proj"]["kernel"] + p["out_proj"]["bias"]])


@pytest.mark.parametrize(
    "config",
    [{}, {"bias": False, "add_bias_kv": True}, {"kdim": 6, "vdim": 5, "add_zero_attn": True}],
)
def test_parameters_start_as_in_torch(config):
    wanted = ours.MultiheadAttention(64, 4, **config)
    linen = theirs.MultiheadAttention(64, 4, **config)
    key, value = (jnp.ones((1, 1, config.get(k, 64))) for k in ("kdim", "vdim"))
    started: Any = linen.init(jax.random.key(0), jnp.ones((1, 1, 64)), key, value)
    params = dict(started["params"])
    out = params.pop("out_proj")
    found = {**params, "out_proj.weight": out["kernel"].T}
    found |= {"out_proj.bias": out["bias"]} if "bias" in out else {}
    assert {n: v.shape for n, v in found.items()} == {
        n: tuple(p.shape) for n, p in wanted.named_parameters()
    }
    for name, p in wanted.named_parameters():
        one, other = (float(np.std(to_numpy(v))) for v in (found[name], p))
        assert one == pytest.approx(other, rel=0.05 if p.numel() > 999 else 0.4), name


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda q, m: theirs.scaled_dot_product_attention(q, q, q, m, is_causal=True), "is_causal"),
        (lambda q, m: theirs.scaled_dot_product_attention(q, q, q, 1 * m), "attn_mask"),
        (
            lambda q, m: theirs.MultiheadAttention(2, 3).init(jax.random.key(0), q, q, q),
            "num_heads",
        ),
        (
            lambda q, m: theirs.MultiheadAttention(2, 1).init(jax.random.key(0), q, q, q, 1 * m),
            "key_padding_mask",
        ),
    ],
)
def test_bad_arguments(call, said):
    with pytest.raises(ValueError, match=said):
        call(jnp.ones((3, 3, 2)), jnp.ones((3, 3), bool))
