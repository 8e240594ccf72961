"""Batch normalisation in JAX and in PyTorch: what it does to a net, how, and what else there is.

Run it as a program (`python examples/backprop/batch_norm.py --out figures`), or cell by cell in an
editor that knows `# %%`. In the figures broad lines are JAX's, dashed ones PyTorch's. `--full`
trains longer: about 40 s on two cores.
"""

# %% Set-up
import contextlib
import copy
import itertools
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

from compare.data.batches import epochs, shuffled
from compare.data.digits import digits, every_digit, split_digits
from compare.share import to_jax, to_torch
from compare.study.lessons import both, lesson, picture, script, twice
from compare.study.networks import Networks
from jaxnn.foundations import backprop as jax_backprop
from jaxnn.foundations.mlp import MLP as JaxMLP
from jaxnn.foundations.normalized_mlp import NormalizedMLP as JaxNormalizedMLP
from jaxnn.gan import dcgan as jax_dcgan
from jaxnn.layers import layer_norm as jax_layer_norm
from jaxnn.layers import norm as jax_norm
from jaxnn.layers import reparametrised as jax_reparametrised
from jaxnn.layers.container import Sequential
from jaxnn.layers.convolution import Conv2d as JaxConv2d
from jaxnn.training.losses import cross_entropy as jax_cross_entropy
from jaxnn.training.optimizers import adam as jax_adam
from jaxnn.training.optimizers import sgd as jax_sgd
from jaxnn.training.steps import TrainState
from torchref.foundations import backprop
from torchref.foundations.mlp import MLP
from torchref.foundations.normalized_mlp import NormalizedMLP
from torchref.gan import dcgan
from torchref.layers import layer_norm, norm, reparametrised
from torchref.training.losses import cross_entropy
from torchref.training.optimizers import adam, sgd

script(__file__)


def network(seed, x, layers, tlayers):
    """Two sequences with one set of weights; what makes the layers of each is given."""
    sides = lambda: Sequential(tuple(layers())), lambda: torch.nn.Sequential(*tlayers())
    return Networks(*sides, np.random.default_rng(seed), x[:2])


def train(rng, nets, x, labels, steps, lr, batch=64):
    """SGD, a step at a time: the losses (2, steps)."""
    batches = itertools.islice(shuffled(rng, (x,), (labels,), batch), steps)
    rules = jax_sgd(lr=lr), partial(sgd, lr=lr)
    return np.array([*nets.train(batches, (jax_cross_entropy, cross_entropy), rules)]).T


def flat(x):
    """JAX's channels before positions, as PyTorch's Flatten finds them."""
    return jnp.moveaxis(x, -1, 1).reshape(len(x), -1)


# %% [why] What is Batch Normalization and why is it important in neural networks?
# Every layer's input is what the layers below make of the data. In a deep net it shrinks or grows
# from layer to layer, and moves with every step. Batch norm gives each sum a mean of 0 and a
# variance of 1 over the batch, whatever the weights: z_hat = (z - mean) / sqrt(var + eps).
with lesson("why") as same:
    x, labels, held_x, held = split_digits(same.rng, flat=True)
    depth, steps = 10, 200
    seed, losses, spread, sums = same.rng.integers(2**32), {}, {}, {}

    def into_relus(nets, x):
        """What goes into each relu in training mode; nothing is kept of the batch."""
        kept = {"mutable": ["batch_stats", "intermediates"], "capture_intermediates": True}
        run = jax.jit(lambda given, x: nets.jax.apply(given, x, train=True, **kept)[1])
        seen, found = run(nets.variables, to_jax(x))["intermediates"]["layers"], []
        h, layers = to_torch(x), copy.deepcopy(nets.torch).train().layers
        for place, (layer, after) in enumerate(itertools.pairwise(layers)):
            h = layer(h)
            if isinstance(after, torch.nn.ReLU):
                found.append((seen[str(place)]["__call__"][0], h.detach()))
        return [np.stack(side) for side in zip(*found, strict=True)]

    sizes = {"in_features": 64, "hidden": (32,) * depth, "out_features": 10}
    for name, kinds in {
        "plain": (JaxMLP, MLP),
        "normalised": (JaxNormalizedMLP, NormalizedMLP),
    }.items():
        nets = Networks(*kinds, np.random.default_rng(seed), x[:2], **sizes)
        sums[name] = into_relus(nets, x[:500])
        spread[name] = [side.std(1).mean(1) for side in sums[name]]
        same(f"spread of the sums, {name}", *spread[name])
        losses[name] = train(same.rng, nets, x, labels, steps, 0.05)
        same(f"losses, {name}", losses[name][0], losses[name][1])
        right = nets.accuracy(held_x, held)
        print(f"{name}: {right[0]:.3f} and {right[1]:.3f} right on held-out digits")
        same.holds(
            f"{name} learns: {min(right) > 0.8}", (min(right) > 0.8) == (name == "normalised")
        )
    same.holds("plain: the signal fades", spread["plain"][1][-1] < 0.1 * spread["plain"][1][0])
    same.holds("normalised: it does not", spread["normalised"][1].min() > 0.9)
    if (axes := same.axes(2, 2, height=3.6)) is not None:
        for i, (name, found) in enumerate(sums.items()):
            bins = np.linspace(-3, 3, 61)
            for color, place in enumerate((0, 4, 9)):
                heights = [np.histogram(side[place], bins, density=True)[0] for side in found]
                twice(axes[0, i], bins[:-1] + 0.05, heights, f"C{color}", f"layer {place + 1}")
            axes[0, i].set(yscale="log", xlabel="sum", title=f"{name}, at the start")
            axes[0, i].legend()
            twice(axes[1, 0], range(1, depth + 1), spread[name], f"C{3 + i}", name)
            twice(axes[1, 1], range(steps), losses[name], f"C{3 + i}", name)
        axes[1, 0].set(xlabel="layer", ylabel="std of a sum over digits", yscale="log")
        axes[1, 1].set(xlabel="step", ylabel="cross-entropy", title="ten layers on digits")
        axes[1, 0].legend()

# %% [how] How does Batch Normalization work?
# y = w z_hat + b, w and b learned. Backward every example moves the mean and the variance of all:
#   dL/dz = r (g - mean(g) - z_hat mean(g z_hat)),  g = w dL/dy,  r = 1 / sqrt(var + eps).
with lesson("how") as same:
    x = split_digits(same.rng, flat=True)[0][:50]
    z = x @ same.rng.standard_normal((64, 5)) / 8
    w, b, dy = (
        1 + same.rng.random(5),
        same.rng.standard_normal(5),
        same.rng.standard_normal((50, 5)),
    )
    (jz, tz), (jw, tw), (jb, tb), (jdy, tdy) = map(both, (z, w, b, dy))

    # Step by step, in NumPy; the mirrored files have the same in both frameworks.
    mean, var = z.mean(0), z.var(0)
    rate = 1 / np.sqrt(var + 1e-5)
    z_hat, g = (z - mean) * rate, w * dy
    dz = rate * (g - g.mean(0) - z_hat * (g * z_hat).mean(0))
    y, cache = jax_backprop.batch_norm_forward(jz, jw, jb)
    ty, tcache = backprop.batch_norm_forward(tz, tw, tb)
    same("forward", y, ty)
    same("in NumPy", y, w * z_hat + b)
    slopes = jax_backprop.batch_norm_backward(jdy, cache)
    tslopes = backprop.batch_norm_backward(tdy, tcache)
    same("backward", slopes, tslopes)
    same("in NumPy", slopes["x"], dz)

    # Both autodiffs, through the layers themselves.
    norm5 = jax_norm.BatchNorm(5)
    stats = norm5.init(jax.random.key(0), jz)["batch_stats"]

    def by_jax(z, scale, bias):
        given = {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}
        return norm5.apply(given, z, train=True, mutable=["batch_stats"])[0]

    tnorm5 = torch.nn.BatchNorm1d(5)
    tnorm5.load_state_dict(tnorm5.state_dict() | {"weight": tw, "bias": tb})
    leaf = tz.clone().requires_grad_()
    same("the layers", by_jax(jz, jw, jb), tnorm5(leaf))
    pulled = dict(zip(("x", "weight", "bias"), jax.vjp(by_jax, jz, jw, jb)[1](jdy), strict=True))
    tpulled = torch.autograd.grad(tnorm5(leaf), [leaf, *tnorm5.parameters()], tdy)
    same("JAX's autodiff", slopes, pulled)
    same("PyTorch's", list(slopes.values()), [tpulled[1], tpulled[2], tpulled[0]])

    # Nothing passes that would move all sums of a unit alike, or stretch them: the gradient has no
    # part along 1 and none along z_hat (but for eps). A bias before it learns nothing.
    along, left = (dz * z_hat).sum(0), 1e-5 * rate**3 * (g * z_hat).sum(0)
    same.holds("none along 1", abs(dz.sum(0)).max() < 1e-12)
    same.holds("along z_hat what eps leaves", np.allclose(along, left, rtol=1e-6, atol=1e-12))

    # So the size of the weights before it does not matter to y, and divides the gradient: as they
    # grow, the steps turn them less. Weight decay then sets the learning rate.
    sizes, norms = (0.25, 0.5, 1, 2, 4, 8), []
    for size in sizes:
        ours = jax_backprop.batch_norm_backward(
            jdy, jax_backprop.batch_norm_forward(size * jz, jw, jb, eps=0.0)[1]
        )["x"]
        theirs = backprop.batch_norm_backward(
            tdy, backprop.batch_norm_forward(size * tz, tw, tb, eps=0.0)[1]
        )["x"]
        same(f"weights {size} times as large", ours, theirs)
        norms.append([np.linalg.norm(x.T @ np.asarray(each)) for each in (ours, theirs)])
    norms = np.array(norms).T
    same("gradient of the weights, divided", norms[0] * np.array(sizes), norms[1][2].repeat(6))
    if (axes := same.axes(1, 2, height=4)) is not None:
        axes[0].plot(z[:, 0], pulled["x"][:, 0], "o", mfc="none", ms=10, label="jax")
        axes[0].plot(z[:, 0], tpulled[0][:, 0], "x", label="torch")
        axes[0].plot(z[:, 0], (rate * g)[:, 0], "k.", ms=3, label="were the statistics fixed")
        axes[0].set(
            xlabel="z of one unit", ylabel="dL/dz", title="backward, 50 digits", ylim=(-13, 12)
        )
        axes[0].legend(fontsize=8, loc="upper right")
        twice(axes[1], sizes, norms, "C0", "size of dL/dW")
        axes[1].set_xscale("log", base=2)
        axes[1].set_yscale("log", base=2)
        axes[1].set(xlabel="size of W", title="y does not change")
        axes[1].legend()

# %% [train_eval] Batch Normalization during training and inference
# In training the batch is normalised by its own statistics, in evaluation by running ones:
#   running <- (1 - m) running + m batch,  m = 0.1 (Flax: momentum = 0.9, the share of the old).
with lesson("train_eval") as same:
    x, labels, held_x, held = split_digits(same.rng, flat=True)
    order = epochs(same.rng, len(x), 32)
    batches, runs, paths = [x[next(order)] for _ in range(100)], {}, {}
    for momentum in (0.01, 0.1, 0.5, None):
        nets = network(
            0,
            x,
            lambda m=momentum: [jax_norm.BatchNorm(64, momentum=m)],
            lambda m=momentum: [torch.nn.BatchNorm1d(64, momentum=m)],
        )
        step = jax.jit(partial(nets.jax.apply, train=True, mutable=["batch_stats"]))
        mean, var, path = np.zeros(64), np.ones(64), []
        nets.torch.train()
        for k, batch in enumerate(batches, 1):
            nets.variables |= step(nets.variables, to_jax(batch))[1]
            nets.torch(to_torch(batch))
            # The batch is normalised by the biased variance, / n; what is kept is unbiased,
            # / (n - 1): one stands for this batch, the other for all data.
            share = 1 / k if momentum is None else momentum
            mean = (1 - share) * mean + share * batch.mean(0)
            var = (1 - share) * var + share * batch.var(0, ddof=1)
            path.append([each["0.running_var"][25] for each in nets.state()])
        paths[momentum] = np.array(path).T
        ours, theirs = nets.state()
        same(f"running statistics, momentum {momentum}", ours, theirs)
        same("by hand", (mean, var), (theirs["0.running_mean"], theirs["0.running_var"]))
        runs[momentum] = nets, step
    true = x[:, 25].var()
    off = {m: abs(path[1, -1] / true - 1) for m, path in paths.items()}
    print("off the variance of all digits:", {m: f"{each:.3f}" for m, each in off.items()})
    same.holds("0.01 is still on its way", off[0.01] > 0.1)
    same.holds("the average of all has arrived", off[None] < 0.05)

    kept, step = runs[0.1]
    # Flax's own nn.BatchNorm keeps the biased variance: of what batches have added, 31 / 32.
    flax = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
    given: Any = flax.init(jax.random.key(0), to_jax(x[:2]))
    for batch in batches:
        given |= flax.apply(given, to_jax(batch), mutable=["batch_stats"])[1]
    added = [v - 0.9**100 for v in (given["batch_stats"]["var"], kept.state()[1]["0.running_var"])]
    same("Flax's variance is 31 / 32 of torch's", added[0], added[1] * 31 / 32)

    # In training an example's output depends on its companions, in evaluation on it alone.
    point = held_x[:1]
    one, two = (np.concatenate([point, held_x[i : i + 31]]) for i in (1, 100))
    trained = [step(kept.variables, to_jax(each))[0][0] for each in (one, two)]
    kept.torch.train()
    ttrained = [copy.deepcopy(kept.torch)(to_torch(each))[0] for each in (one, two)]
    same("in training", trained, ttrained)
    same.holds("other companions, other output", abs(trained[0] - trained[1]).max() > 0.1)
    same("in evaluation", kept(point)[0], kept(two)[1][:1])

    # Evaluation is an affine map of each channel; a convolution before it can take it up:
    #   w (W x + c - mean) / sqrt(var + eps) + b = (r W) x + (r (c - mean) + b),  r = w / sqrt(...)
    x, labels, held_x, held = split_digits(same.rng)
    nets = network(
        same.rng.integers(2**32),
        x,
        lambda: [
            *(JaxConv2d(1, 8, 3, padding=1), jax_norm.BatchNorm(8)),
            *(nn.relu, flat, nn.Dense(10)),
        ],
        lambda: [
            *(torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.BatchNorm2d(8)),
            *(torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(512, 10)),
        ],
    )
    losses = train(same.rng, nets, x, labels, 300 if same.full else 60, 0.05)
    same("a convolution and a batch norm, trained", losses[0], losses[1])
    right = nets.accuracy(held_x, held)
    print(f"{right[1]:.3f} right on held-out digits")
    same.holds("learns", min(right) > 0.85)
    params, stats = nets.variables["params"], nets.variables["batch_stats"]["1"]
    r = params["1"]["scale"] / jnp.sqrt(stats["var"] + 1e-5)
    bias = r * (params["0"]["bias"] - stats["mean"]) + params["1"]["bias"]
    conv = {"params": {"kernel": params["0"]["kernel"] * r, "bias": bias}}
    folded: Any = JaxConv2d(1, 8, 3, padding=1).apply(conv, to_jax(np.moveaxis(held_x, 1, -1)))
    tfolded = torch.nn.utils.fuse_conv_bn_eval(nets.torch[0].eval(), nets.torch[1].eval())
    given = to_torch(held_x)
    same("folded", jnp.moveaxis(folded, -1, 1), tfolded(given))
    same("is the same", jnp.moveaxis(folded, -1, 1), nets.torch[:2](given))
    if (axis := same.axes(height=4)) is not None:
        for i, (momentum, lines) in enumerate(paths.items()):
            label = "average of all" if momentum is None else f"momentum {momentum}"
            twice(axis, range(1, 101), lines, f"C{i}", label)
        axis.axhline(true, color="k", ls=":", label="all digits")
        axis.set(xlabel="batch of 32", ylabel="running variance", title="one pixel of the digits")
        axis.legend()

# %% [pytorch] Batch Normalization in PyTorch
# BatchNorm1d takes (N, C) and (N, C, L), BatchNorm2d (N, C, H, W): one for each rank. Linen has
# one, over all axes but the last.
with lesson("pytorch") as same:
    images = every_digit(channels=3)["x"][:64].astype(np.float64)
    images = images * np.array([1.0, 2, 3])[:, None, None] + same.rng.standard_normal(images.shape)
    kinds = {
        "BatchNorm1d": (torch.nn.BatchNorm1d(3), images.mean((2, 3))),
        "BatchNorm1d, (N, C, L)": (torch.nn.BatchNorm1d(3), images[:, :, 0]),
        "BatchNorm2d": (torch.nn.BatchNorm2d(3), images),
        "SyncBatchNorm, one process": (torch.nn.SyncBatchNorm(3), images),
    }
    ours, flax = jax_norm.BatchNorm(3), nn.BatchNorm(False, momentum=0.9, epsilon=1e-5)
    for name, (layer, z) in kinds.items():
        last, tz = to_jax(np.moveaxis(z, 1, -1)), to_torch(z)
        given, own = ours.init(jax.random.key(0), last), flax.init(jax.random.key(0), last)
        y, kept = ours.apply(given, last, train=True, mutable=["batch_stats"])
        wanted = np.moveaxis(layer(tz).detach().numpy(), 1, -1)
        same(name, y, wanted)
        same("Linen's own", flax.apply(own, last, mutable=["batch_stats"])[0], wanted)
        same("running mean", kept["batch_stats"]["mean"], layer.running_mean)
        same("running variance", kept["batch_stats"]["var"], layer.running_var)
    print(f"torch: {list(layer.state_dict())}")
    print(f"jax: {jax.tree.map(jnp.shape, given)}")

    # Four devices with 16 images each. SyncBatchNorm takes mean and variance over all of them: on
    # every device the result is that of one BatchNorm on the 64. In torch that is a process for
    # each GPU; in JAX an axis with a name, which vmap maps on one device as shard_map does on many.
    layer: Any = torch.nn.BatchNorm2d(3)
    tz = to_torch(images).requires_grad_()
    weigh = same.rng.standard_normal(images.shape)
    wanted = layer(tz)
    (wanted * to_torch(weigh)).sum().backward()
    last, weights = (to_jax(np.moveaxis(each, 1, -1)) for each in (images, weigh))
    given = ours.init(jax.random.key(0), last)

    def on_devices(module, count, **mode):
        """Output, kept statistics and gradient of a module on `count` shares of the batch."""
        call = partial(module.apply, given, mutable=["batch_stats"], **mode)

        def run(z):
            shares = z.reshape(count, -1, *z.shape[1:])
            y, kept = jax.vmap(call, axis_name="devices")(shares)
            y = y.reshape(z.shape)
            return (y * weights).sum(), (y, kept["batch_stats"])

        slope, (y, kept) = jax.jit(jax.grad(run, has_aux=True))(last)
        return jnp.moveaxis(y, -1, 1), kept, jnp.moveaxis(slope, -1, 1)

    y, kept, slope = on_devices(jax_norm.SyncBatchNorm(3, axis_name="devices"), 4, train=True)
    same("output", y, wanted)
    same("gradient", slope, tz.grad)
    for device in range(4):
        same(f"kept on device {device}", kept["var"][device], layer.running_var)
    linen = nn.BatchNorm(False, momentum=0.9, epsilon=1e-5, axis_name="devices")
    y, kept, slope = on_devices(linen, 4)
    same("Linen's axis_name", (y, slope), (wanted, tz.grad))
    n = images.size // 3
    added = (kept["var"][0] - 0.9) * n / (n - 1)
    same("its variance, made unbiased", added, layer.running_var - 0.9)

    # Without it each device goes by its own share; the smaller that is, the farther off.
    shares, off = (64, 32, 16, 8, 4, 2), []
    for share in shares:
        alone = on_devices(ours, 64 // share, train=True)[0]
        by_torch = torch.cat(
            [torch.nn.BatchNorm2d(3)(part) for part in to_torch(images).split(share)]
        )
        same(f"shares of {share}", alone, by_torch)
        off.append(
            [
                np.std(np.asarray(each) - wanted.detach().numpy())
                for each in (alone, by_torch.detach())
            ]
        )
    same.holds("farther off", (np.diff([each[1] for each in off]) > 0).all())
    if (axis := same.axes(height=4)) is not None:
        twice(axis, shares[1:], np.array(off[1:]).T, "C0", "each device by itself")
        axis.set_xscale("log", base=2)
        axis.set(yscale="log", xlabel="images on a device", ylabel="off the whole batch of 64")
        axis.set(title="what SyncBatchNorm is for")
        axis.legend()

# %% [alternatives] Batch Normalization vs. other normalization techniques
# What is averaged over: batch norm takes one channel of all examples; the others stay within one
# example, so they need no running statistics, and a batch of one will do.
with lesson("alternatives") as same:
    images = every_digit()["x"][:6].astype(np.float64)
    z = images * same.rng.standard_normal((6, 4, 1, 1)) + same.rng.standard_normal((4, 1, 1))
    last, tz = to_jax(np.moveaxis(z, 1, -1)), to_torch(z)
    grouped = z.reshape(6, 2, 2, 8, 8)
    averaged = {  # by JAX, by PyTorch, and what each divides, by what it is averaged over
        "batch": ("BatchNorm", (4,), (4,), z, (0, 2, 3)),
        "layer": ("LayerNorm", ((8, 8, 4),), ((4, 8, 8),), z, (1, 2, 3)),
        "group": ("GroupNorm", (2, 4), (2, 4), grouped, (2, 3, 4)),
        "instance": ("InstanceNorm", (4,), (4,), z, (2, 3)),
        "RMS": ("RMSNorm", ((8, 8, 4),), ((4, 8, 8),), z, (1, 2, 3)),
    }
    eps = {"eps": 1e-5}
    for name, (kind, args, targs, parts, axes) in averaged.items():
        rooms = (jax_norm, norm) if hasattr(norm, kind) else (jax_layer_norm, layer_norm)
        layer, tlayer = (
            getattr(rooms[0], kind)(*args, **eps),
            getattr(rooms[1], kind)(*targs, **eps),
        )
        mode = {"train": True} if rooms[0] is jax_norm else {}
        y, _ = layer.init_with_output(jax.random.key(0), last, **mode)
        middle = 0 if name == "RMS" else parts.mean(axes, keepdims=True)
        size = np.sqrt(((parts - middle) ** 2).mean(axes, keepdims=True) + 1e-5)
        same(f"{name} norm", jnp.moveaxis(y, -1, 1), tlayer(tz))
        same("from the formula", jnp.moveaxis(y, -1, 1), ((parts - middle) / size).reshape(z.shape))
        # Does the first image's output depend on the others?
        alone = tlayer(tz[:1])[0] - tlayer(tz)[0]
        same.holds("only batch norm looks at them", (abs(alone).max() > 0.1) == (name == "batch"))

    # Weight norm and spectral norm leave the sums alone and normalise the weights: w = g v / |v|,
    # one length g for each unit; W / s, with s the largest singular value, so that no input grows.
    seed, steps, found = same.rng.integers(2**32), 150, {}
    x, labels, held_x, held = split_digits(same.rng)

    def block(side, name, i, o, size, stride):
        """A convolution to o channels of size by size, its normalisation and a relu: 0 is JAX's."""
        conv: Any = (JaxConv2d, torch.nn.Conv2d)[side](i, o, 3, stride=stride, padding=1)
        relu = (nn.relu, torch.nn.ReLU())[side]
        within, kept, remade = (
            (jax_layer_norm, jax_norm, jax_reparametrised),
            (layer_norm, norm, reparametrised),
        )[side]
        shape: Any = ((size, size, o), (o, size, size))[side]
        match name:
            case "batch":
                return conv, kept.BatchNorm(o), relu
            case "layer":  # learned scales would be laid out as the images are
                return conv, within.LayerNorm(shape, elementwise_affine=False), relu
            case "group":
                return conv, within.GroupNorm(4, o), relu
            case "instance":
                return conv, kept.InstanceNorm(o), relu
            case "RMS":
                return conv, within.RMSNorm(shape, elementwise_affine=False), relu
            case "weight":
                return remade.WeightNorm(conv), relu
            case "spectral":
                return remade.SpectralNorm(conv), relu
        return conv, relu

    def net(side, name):
        end = (flat, nn.Dense(10)), (torch.nn.Flatten(), torch.nn.Linear(256, 10))
        return *block(side, name, 1, 8, 8, 1), *block(side, name, 8, 16, 4, 2), *end[side]

    for name in ("none", *averaged, "weight", "spectral"):
        nets = network(seed, x, partial(net, 0, name), partial(net, 1, name))
        losses = train(np.random.default_rng(seed), nets, x, labels, steps, 0.02, batch=16)
        found[name] = losses, nets.accuracy(held_x, held)
        same(f"losses, {name}", losses[0], losses[1])
        same(f"trained, {name}", *nets.state())
        print(f"{name:>9}: loss {losses[1, -30:].mean():.2f}, {found[name][1][1]:.3f} right")
        if name == "spectral":
            # s is followed by one step of power iteration a call; with patience it is exact.
            layer = copy.deepcopy(nets.torch[0]).train()
            stretch = [
                torch.linalg.svdvals(layer.weight.detach().flatten(1))[0] for _ in range(200)
            ]
            print(f"largest singular value {stretch[0]:.3f}, at last {stretch[-1]:.3f}")
            same.holds("largest singular value 1", abs(stretch[-1] - 1) < 1e-3)
    right = {name: min(each) for name, (_, each) in found.items()}
    same.holds(
        "with any of five it learns sooner", min(right[k] for k in averaged) > right["none"] + 0.05
    )
    if (axes := same.axes(1, 2, height=4)) is not None:
        for i, (name, (losses, _)) in enumerate(found.items()):
            smooth = [np.convolve(side, np.ones(15) / 15, "valid") for side in losses]
            twice(axes[0], range(len(smooth[0])), smooth, f"C{i}", name)
        axes[0].set(xlabel="step", ylabel="cross-entropy, mean of 15", title="batches of 16 digits")
        axes[0].set_ylim(0.2, 3.6)
        axes[0].legend(fontsize=8, ncols=2, loc="upper right")
        places = np.arange(len(found))
        for side, (shift, label) in enumerate(((-0.2, "jax"), (0.2, "torch"))):
            axes[1].barh(
                places + shift, [right[side] for _, right in found.values()], 0.4, label=label
            )
        axes[1].set_yticks(places, list(found))
        axes[1].set(xlabel="right on held-out digits", xlim=(0.5, 1))
        axes[1].legend(loc="lower right")

# %% [gans] Batch Normalization in GANs
# DCGAN has it in both networks, but for the generator's last layer and the discriminator's first.
# Real and fake images go through the discriminator in batches of their own, each normalised by
# itself: put together, the mean would tell each example what its companions are.
with lesson("gans") as same:
    sizes = {"latent_dim": 16, "features": 8, "channels": 1, "image_size": 16}
    batches, steps = {"batch": 32, "size": 16, "scale": "signed"}, 150

    class JaxJoint(jax_dcgan.DCGAN):
        """Real and fake images in one batch."""

        def discriminate(self, x, z, *, train=False):
            fake = jax.lax.stop_gradient(self.generator(z, train=train))
            logits = self.discriminator(jnp.concatenate([x, fake]), train=train)
            return logits[: len(x)], logits[len(x) :]

    class Joint(dcgan.DCGAN):
        """The same in PyTorch."""

        def discriminate(self, x, z):
            return self.discriminator(torch.cat([x, self.generator(z).detach()])).split(len(x))

    def without(call, args, kwargs, context):
        """Linen's interceptor of calls: batch norms hand on what they are given."""
        skip = isinstance(context.module, jax_norm.BatchNorm) and context.method_name == "__call__"
        return args[0] if skip else call(*args, **kwargs)

    seed, z = same.rng.integers(2**32), same.rng.standard_normal((64, 16))
    players, images, losses, spread = ("discriminator", "generator"), {}, {}, {}
    for name in ("separate", "joint", "without"):
        kinds = (JaxJoint, Joint) if name == "joint" else (jax_dcgan.DCGAN, dcgan.DCGAN)
        nets = Networks(*kinds, np.random.default_rng(seed), z, **sizes)
        if name == "without":
            for layers in (nets.torch.generator.main, nets.torch.discriminator.main):
                for place, layer in enumerate(layers):
                    if isinstance(layer, torch.nn.BatchNorm2d):
                        layers[place] = torch.nn.Identity()
        state = [
            TrainState.create(
                apply_fn=nets.jax.apply,
                tx=jax_adam(lr=1e-3, betas=(0.5, 0.999)),
                params=nets.variables["params"][player],
                batch_stats=nets.variables["batch_stats"][player],
            )
            for player in players
        ]
        of_d, of_g = (
            adam(getattr(nets.torch, player).parameters(), lr=1e-3, betas=(0.5, 0.999))
            for player in players
        )
        rng, costs = np.random.default_rng(seed), []
        with nn.intercept_methods(without) if name == "without" else contextlib.nullcontext():
            step = jax.jit(jax_dcgan.train_step)
            for real in itertools.islice(digits(rng, **batches), steps):
                (noise, tnoise), x = (
                    both(rng.standard_normal((32, 16))),
                    real["x"].astype(np.float64),
                )
                *state, cost, tcost = step(*state, to_jax(np.moveaxis(x, 1, -1)), noise)
                tcosts = dcgan.train_step(nets.torch, of_d, of_g, to_torch(x), tnoise)
                costs.append(((cost, tcost), tcosts))
            generator = {"params": state[1].params, "batch_stats": state[1].batch_stats}
            made, _ = jax_dcgan.Generator(**sizes).apply(
                generator, to_jax(z), train=True, mutable=["batch_stats"]
            )
        tmade = nets.torch.generator(to_torch(z)).detach()
        images[name] = np.asarray(made)[..., 0], tmade.numpy()[:, 0]
        losses[name] = np.array(costs, float).T  # (player, side, step)
        spread[name] = [side.std(0).mean() for side in images[name]]
        same(f"losses, {name}", losses[name][:, 0], losses[name][:, 1], 1e-6)
        ours, theirs = images[name]
        same(f"images, {name}", ours, theirs, 1e-6)  # Adam's steps multiply what is rounded
        late = losses[name][:, 1, -20:].mean(1)
        print(f"{name:>8}: losses {late.round(2)}, images differ by {spread[name][1]:.2f}")
    same.holds(
        "without it all noise gives one image",
        max(spread["without"]) < 0.3 * min(spread["separate"]),
    )
    # In one batch the discriminator always wins; but in the generator's turn it sees fakes alone,
    # normalised to look like any batch, and takes them for real: there is nothing to learn.
    late = losses["joint"][:, :, -20:].mean(2)
    same.holds("joint: the discriminator wins", late[0].max() < 0.2)
    same.holds("and the generator believes that it does", late[1].max() < 0.5)
    same.holds("separate: the game is even", losses["separate"][:, :, -20:].mean(2).min() > 0.5)
    if (axes := same.axes(2, 3, height=3.2)) is not None:
        for i, (name, sides) in enumerate(images.items()):
            rows = [np.hstack(side[k : k + 4]) for side in sides for k in (0, 4)]
            picture(axes[0, i], np.vstack(rows), name, vmin=-1, vmax=1)
            for player, title in enumerate(players):
                twice(axes[1, player], range(steps), losses[name][player], f"C{i}", name)
                axes[1, player].set(xlabel="step", ylabel="loss", title=title)
        axes[0, 0].set_ylabel("torch       jax")
        places = np.arange(3)
        for side, (shift, label) in enumerate(((-0.2, "jax"), (0.2, "torch"))):
            axes[1, 2].bar(
                places + shift, [each[side] for each in spread.values()], 0.4, label=label
            )
        axes[1, 2].set_xticks(places, list(spread))
        axes[1, 2].set(title="how much images differ")
        axes[1, 0].legend(fontsize=8)
        axes[1, 2].legend(fontsize=8)
