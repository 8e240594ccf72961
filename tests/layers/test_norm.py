"""Normalisation: values, gradients and running statistics against torch, on one device and two."""

import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compare.share import to_jax, to_numpy, to_torch
from jaxnn.layers import layer_norm, norm
from tests.arrays import normal, weigh

NAMES = {"weight": "scale", "running_mean": "mean", "running_var": "var"}
RANKS = {"BatchNorm": {2: "1d", 3: "1d", 4: "2d", 5: "3d"}, "InstanceNorm": {3: "1d", 4: "2d"}}
# Layer, arguments, keywords, torch's shape of x, train.
CASES = {
    "batch": ("BatchNorm", (3,), {}, (4, 3, 2, 2), True),
    "batch, rows": ("BatchNorm", (3,), {"eps": 0.1}, (5, 3), True),
    "batch, volumes": ("BatchNorm", (3,), {"momentum": None}, (2, 3, 2, 1, 3), True),
    "batch, eval": ("BatchNorm", (3,), {}, (4, 3, 5), False),
    "sync": ("SyncBatchNorm", (3,), {"momentum": 0.3}, (4, 3, 2), True),
    "instance": ("InstanceNorm", (3,), {}, (3, 3, 4), True),
    "instance, eval": ("InstanceNorm", (3,), {"affine": True, "eps": 0.1}, (3, 3, 2, 2), False),
    "tracked": ("InstanceNorm", (3,), {"track_running_stats": True}, (3, 3, 4), True),
    "untracked": (
        "InstanceNorm",
        (3,),
        {"track_running_stats": True, "momentum": None},
        (3, 3, 4),
        True,
    ),
    "tracked, eval": ("InstanceNorm", (3,), {"track_running_stats": True}, (3, 3, 1), False),
    "layer": ("LayerNorm", (4,), {}, (3, 2, 4), True),
    "layers": ("LayerNorm", ([2, 4],), {"eps": 0.1}, (3, 2, 4), True),
    "layer without bias": ("LayerNorm", (4,), {"bias": False}, (3, 4), True),
    "layer alone": ("LayerNorm", (4,), {"elementwise_affine": False}, (3, 4), True),
    "layer of one": ("LayerNorm", (1,), {}, (3, 1), True),
    "groups": ("GroupNorm", (2, 6), {}, (3, 6, 2, 2), True),
    "groups of one": ("GroupNorm", (6, 6), {"eps": 0.1}, (3, 6), True),
    "one group": ("GroupNorm", (1, 4), {"affine": False}, (3, 4, 3), True),
    "rms": ("RMSNorm", (4,), {}, (3, 2, 4), True),
    "rms, all": ("RMSNorm", ([2, 4],), {"eps": 0.1}, (3, 2, 4), True),
    "rms alone": ("RMSNorm", (4,), {"elementwise_affine": False}, (3, 4), True),
}


def layers(name, args, more, rank):
    """The same layer twice."""
    ours = getattr(torch.nn, name + RANKS.get(name, {}).get(rank, ""))(*args, **more)
    return ours.double(), getattr(norm if hasattr(norm, name) else layer_norm, name)(*args, **more)


def uneven(shape, seed=0):
    """Far from zero, with an example and a channel that do not vary, and one that is zero."""
    x = 3 * normal(seed, *shape) + 1
    x[0] = 3.0
    if len(x) > 2:
        x[2] = 0.0
    x[:, -1:] = 2.0
    return x


def by_torch(layer, x, train, seed=0):
    """Variables before, and output, gradients and buffers after one call."""
    draws = np.random.default_rng([seed, 1])
    with torch.no_grad():
        for tensor in (*layer.parameters(), *layer.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(to_torch(draws.uniform(0.5, 2, tensor.shape)))
    state = {key: to_numpy(value) for key, value in layer.state_dict().items()}
    x = to_torch(x).requires_grad_()
    y = layer.train(train)(x)
    weigh(y).backward()
    found = {"y": y, "x": x.grad}
    found |= {NAMES.get(key, key): value.grad for key, value in layer.named_parameters()}
    found |= {NAMES.get(key, key): value for key, value in layer.named_buffers()}
    return state, {key: to_numpy(value) for key, value in found.items()}


def variables(layer, state):
    """torch's tensors as the variables of a Linen layer."""
    trains = {key for key, _ in layer.named_parameters()}
    found = {"params": {}, "batch_stats": {}}
    for key, value in state.items():
        found["params" if key in trains else "batch_stats"][NAMES.get(key, key)] = value
    return jax.tree.map(to_jax, found)


def program(layer, train):
    """(variables, x) -> what `by_torch` finds, for a Linen layer whose channels come last."""
    mode = {"train": train} if isinstance(layer, (norm.BatchNorm, norm.InstanceNorm)) else {}
    channels = mode or isinstance(layer, layer_norm.GroupNorm)

    def loss(params, x, stats):
        given = {"params": params, "batch_stats": stats}
        moved = jnp.moveaxis(x, 1, -1) if channels else x
        y, after = layer.apply(given, moved, mutable=["batch_stats"], **mode)
        y = jnp.moveaxis(y, -1, 1) if channels else y
        return weigh(y), (y, after.get("batch_stats", {}))

    def run(given, x):
        slope = jax.grad(loss, (0, 1), has_aux=True)
        (params, x), (y, stats) = slope(given["params"], x, given["batch_stats"])
        return {"y": y, "x": x, **params, **stats}

    return run


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        # What is zero up to rounding is measured by the largest element.
        atol = 1e-12 * max(1, np.max(np.abs(value)))
        np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=atol, err_msg=key)


@pytest.fixture(scope="module")
def both():
    """Case -> (found, wanted), all of JAX's in one program."""
    programs, arguments, wanted = {}, {}, {}
    with jax.enable_x64(True):
        for case, (name, args, more, shape, train) in CASES.items():
            ours, theirs = layers(name, args, more, len(shape))
            state, wanted[case] = by_torch(ours, uneven(shape), train)
            programs[case] = program(theirs, train)
            arguments[case] = variables(ours, state), to_jax(uneven(shape))
        every = jax.jit(lambda given: {case: programs[case](*given[case]) for case in programs})
        found = jax.tree.map(to_numpy, every(arguments))
    return {case: (found[case], wanted[case]) for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_values_gradients_and_statistics(case, both):
    assert_same(*both[case])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype):
    """Both sides against float64 at the same numbers: a few roundings of the larger of 1 and y."""
    runs, arguments, exact, half = {}, {}, {}, {}
    for case, (name, args, more, shape, train) in CASES.items():
        layer, theirs = layers(name, args, more, len(shape))
        state = {key: to_numpy(value) for key, value in layer.state_dict().items()}
        x = to_torch(uneven(shape)).to(getattr(torch, dtype))
        exact[case] = to_numpy(layer.train(train)(x.double()))
        half[case] = to_numpy(layer.to(x.dtype)(x).float())
        runs[case] = program(theirs, train)
        given = variables(layer, state), to_jax(to_numpy(x.float()))
        arguments[case] = jax.tree.map(lambda a: a.astype(dtype) if a.ndim else a, given)
    every = jax.jit(lambda given: {case: runs[case](*given[case])["y"] for case in runs})
    found = every(arguments)
    for case, wanted in exact.items():
        assert found[case].dtype == dtype
        allowed = 4 * float(jnp.finfo(dtype).eps) * np.maximum(1, np.abs(wanted))
        for side in (half[case], to_numpy(found[case].astype("float32"))):
            assert np.all(np.abs(side - wanted) <= allowed), case


def test_the_eps_of_rms_norm():
    """Of the dtype, but never a half precision's: that would be 0.008."""
    ours, theirs = layers("RMSNorm", (4,), {"elementwise_affine": False}, 2)
    for dtype in ("float16", "bfloat16", "float32"):
        x = torch.full((1, 4), 1e-3, dtype=getattr(torch, dtype))
        found = np.asarray(theirs.apply({}, jnp.full((1, 4), 1e-3, dtype))).astype("float32")
        np.testing.assert_allclose(found, to_numpy(ours(x).float()), rtol=0.02, err_msg=dtype)


AXES = {"batch": (0, 2, 3), "layer": (1, 2, 3), "group": (2, 3, 4), "instance": (2, 3)}


@pytest.mark.parametrize(
    ("name", "layer", "ours"),
    [
        ("batch", norm.BatchNorm(4), torch.nn.BatchNorm2d(4)),
        ("layer", layer_norm.LayerNorm((8, 8, 4)), torch.nn.LayerNorm([4, 8, 8])),
        ("group", layer_norm.GroupNorm(2, 4), torch.nn.GroupNorm(2, 4)),
        ("instance", norm.InstanceNorm(4), torch.nn.InstanceNorm2d(4)),
        ("RMS", layer_norm.RMSNorm((8, 8, 4), 1e-5), torch.nn.RMSNorm([4, 8, 8], 1e-5)),
    ],
)
def test_each_is_its_formula_and_batch_norm_alone_looks_at_other_examples(name, layer, ours):
    x = 3 * normal(0, 6, 4, 8, 8) + 1
    parts, axes = x.reshape(6, 2, 2, 8, 8) if name == "group" else x, AXES.get(name, (1, 2, 3))
    middle = 0 if name == "RMS" else parts.mean(axes, keepdims=True)
    size = np.sqrt(((parts - middle) ** 2).mean(axes, keepdims=True) + 1e-5)
    wanted = ((parts - middle) / size).reshape(x.shape)
    mode = {"train": True} if isinstance(layer, (norm.BatchNorm, norm.InstanceNorm)) else {}

    @jax.jit
    def run(x):
        y, _ = layer.init_with_output(jax.random.key(0), jnp.moveaxis(x, 1, -1), **mode)
        return jnp.moveaxis(y, -1, 1)

    with jax.enable_x64(True):
        whole, alone = (to_numpy(run(to_jax(each))) for each in (x, x[:1]))
    np.testing.assert_allclose(whole, wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(to_numpy(ours.double()(to_torch(x))), wanted, rtol=1e-9, atol=1e-12)
    assert (abs(alone[0] - whole[0]).max() > 0.1) == (name == "batch")


@pytest.mark.parametrize("momentum", [0.01, 0.1, 0.5, None])
def test_running_statistics_are_the_formula(momentum):
    """(1 - m) old + m new, or the average of all; in evaluation an example is by itself."""
    layer, ours = norm.BatchNorm(3, momentum=momentum), torch.nn.BatchNorm1d(3, momentum=momentum)
    mean, var, batches = np.zeros(3), np.ones(3), 2 * normal(0, 9, 8, 3) + 1
    with jax.enable_x64(True):
        given = jax.jit(layer.init)(jax.random.key(0), batches[0])
        step = jax.jit(lambda given, x: layer.apply(given, x, train=True, mutable="batch_stats")[1])
        for k, batch in enumerate(batches, 1):
            given = given | step(given, to_jax(batch))
            ours.double()(to_torch(batch))
            share = 1 / k if momentum is None else momentum
            mean = (1 - share) * mean + share * batch.mean(0)
            var = (1 - share) * var + share * batch.var(0, ddof=1)
        few, many = (to_numpy(layer.apply(given, to_jax(batches[0][:n]))) for n in (1, 8))
    kept = {key: to_numpy(given["batch_stats"][key]) for key in ("mean", "var")}
    assert_same(kept, {"mean": mean, "var": var})
    assert_same({key: to_numpy(getattr(ours, f"running_{key}")) for key in kept}, kept)
    np.testing.assert_allclose(few, many[:1], rtol=1e-12)


SIZES = {"n": st.integers(2, 3), "channels": st.sampled_from([2, 4]), "length": st.integers(2, 3)}


@given(
    name=st.sampled_from(["BatchNorm", "InstanceNorm", "GroupNorm", "LayerNorm", "RMSNorm"]),
    eps=st.sampled_from([1e-5, 1e-3, 1.0]),
    seed=st.integers(0, 99),
    **SIZES,
)
def test_any_shape(name, eps, seed, n, channels, length):
    args = {"GroupNorm": (2, channels), "LayerNorm": (length,), "RMSNorm": (length,)}
    ours, theirs = layers(name, args.get(name, (channels,)), {"eps": eps}, 3)
    x = uneven((n, channels, length), seed)
    state, wanted = by_torch(ours, x, True, seed)
    with jax.enable_x64(True):
        run = jax.jit(program(theirs, True))
        assert_same(jax.tree.map(to_numpy, run(variables(ours, state), to_jax(x))), wanted)


def two_devices(x, mapped):
    """A program of `x` whose halves are two devices' batches, and torch's layer on the whole."""
    ours, theirs = layers("SyncBatchNorm", (3,), {"momentum": 0.3}, x.ndim)
    state, wanted = by_torch(ours, x, True)
    theirs = theirs.clone(axis_name="devices")

    def loss(params, x, stats):
        y, after = mapped(theirs)({"params": params, "batch_stats": stats}, x)
        return weigh(jnp.moveaxis(y, -1, 1)), (y, after["batch_stats"])

    def run(given, x):
        slope = jax.grad(loss, (0, 1), has_aux=True)
        (params, x), (y, stats) = slope(
            given["params"], jnp.moveaxis(x, 1, -1), given["batch_stats"]
        )
        return {"y": jnp.moveaxis(y, -1, 1), "x": jnp.moveaxis(x, -1, 1), **params, **stats}

    with jax.enable_x64(True):
        found = jax.jit(run)(variables(ours, state), to_jax(x))
        return jax.tree.map(to_numpy, found), wanted


def by_vmap(layer):
    def call(given, x):
        return layer.apply(given, x, train=True, mutable=["batch_stats"])

    def run(given, x):
        halves = x.reshape(2, -1, *x.shape[1:])
        # No out axis: what is kept is the same on both devices.
        y, after = jax.vmap(call, (None, 0), (0, None), axis_name="devices")(given, halves)
        return y.reshape(x.shape), after

    return run


def by_shard_map(layer):
    def call(given, x):
        return layer.apply(given, x, train=True, mutable=["batch_stats"])

    auto = jax.sharding.AxisType.Auto
    mesh, P = jax.make_mesh((2,), ("devices",), axis_types=(auto,)), jax.sharding.PartitionSpec
    specs = {"in_specs": (P(), P("devices")), "out_specs": (P("devices"), P())}
    return jax.shard_map(call, mesh=mesh, **specs)


def test_synchronised_over_a_mapped_axis():
    assert_same(*two_devices(uneven((6, 3, 2)), by_vmap))


def test_linens_own_over_a_mapped_axis():
    """As torch's on the whole batch, but for the running variance: its n is not n - 1."""
    x = 2 * normal(0, 8, 3, 5) + 1
    ours, layer = (
        torch.nn.BatchNorm1d(3).double(),
        nn.BatchNorm(False, momentum=0.9, axis_name="devices"),
    )
    wanted = to_numpy(ours(to_torch(x)))
    with jax.enable_x64(True):
        moved = to_jax(np.moveaxis(x, 1, -1))
        given = jax.tree.map(lambda a: a.astype(float), layer.init(jax.random.key(0), moved))
        call = jax.vmap(
            lambda part: layer.apply(given, part, mutable=["batch_stats"]), axis_name="devices"
        )
        y, after = call(moved.reshape(4, 2, 5, 3))
    np.testing.assert_allclose(
        np.moveaxis(y.reshape(8, 5, 3), -1, 1), wanted, rtol=1e-9, atol=1e-12
    )
    var = to_numpy(after["batch_stats"]["var"])
    np.testing.assert_allclose(
        0.9 + (var[0] - 0.9) * 40 / 39, to_numpy(ours.running_var), rtol=1e-9
    )
    np.testing.assert_allclose(var, np.tile(var[0], (4, 1)), rtol=1e-12)


def test_synchronised_over_devices():
    """Two of the CPU, which have to be asked for before JAX starts."""
    if jax.device_count() < 2:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
        done = subprocess.run(
            [sys.executable, __file__],
            env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return
    assert_same(*two_devices(uneven((6, 3, 2)), by_shard_map))


def test_faults_are_found(both, monkeypatch):
    """Of a device's own variance alone; of Flax's own eps, momentum and variance."""

    def slip(self, x):
        mean, var, n = norm.BatchNorm._moments(self, x)
        return jax.lax.pmean(mean, "devices"), jax.lax.pmean(var, "devices"), 2 * n

    with monkeypatch.context() as patch:
        patch.setattr(norm.SyncBatchNorm, "_moments", slip)
        with pytest.raises(AssertionError, match="Mismatch"):
            assert_same(*two_devices(uneven((6, 3, 2)), by_vmap))
    state, wanted = by_torch(*(layers("LayerNorm", (4,), {}, 2)[0], uneven((3, 4)), True))
    for wrong in (nn.LayerNorm(), layer_norm.LayerNorm(4, eps=1e-6), layer_norm.RMSNorm(4)):
        with jax.enable_x64(True):
            given = jax.tree.map(to_jax, {"scale": state["weight"], "bias": state["bias"]})
            y = to_numpy(wrong.apply({"params": given}, to_jax(uneven((3, 4)))))
        with pytest.raises(AssertionError, match="Mismatch"):
            assert_same({"y": y}, {"y": wanted["y"]})


@pytest.mark.parametrize(
    ("layer", "shape", "said"),
    [
        (norm.BatchNorm(3), (1, 3), "one value"),
        (norm.InstanceNorm(3), (2, 3), "one position"),
        (norm.InstanceNorm(3), (2, 1, 3), "one position"),
        (layer_norm.GroupNorm(2, 3), (2, 3), "num_groups=2"),
        (layer_norm.LayerNorm(()), (2, 3), "normalized_shape"),
        (layer_norm.RMSNorm(()), (2, 3), "normalized_shape"),
    ],
)
def test_bad_arguments(layer, shape, said):
    mode = {"train": True} if isinstance(layer, (norm.BatchNorm, norm.InstanceNorm)) else {}
    with pytest.raises(ValueError, match=said):
        jax.eval_shape(lambda: layer.init(jax.random.key(0), jnp.ones(shape), **mode))


def test_an_axis_that_nothing_maps():
    layer = norm.SyncBatchNorm(3, axis_name="devices")
    given = layer.init(jax.random.key(0), jnp.ones((2, 3)))
    with pytest.raises(NameError, match="devices"):
        layer.apply(given, jnp.ones((2, 3)), train=True, mutable=["batch_stats"])


if __name__ == "__main__":
    assert jax.device_count() == 2
    test_synchronised_over_devices()
