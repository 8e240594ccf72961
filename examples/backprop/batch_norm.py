"""Batch normalisation in JAX and in PyTorch: what it does to a net, how, and what else there is.

Every lesson shows the same thing twice, once as users of JAX and Flax write it and once as users of
PyTorch do, runs both on the same numbers, and holds what they give to each other in float64. In the
figures broad lines are JAX's, dashed ones PyTorch's.
"""

# %% side="both"
from functools import partial

import numpy as np

from compare.data.digits import every_digit, split_digits
from compare.study.figures import bars, legend, lines, picture
from compare.study.lessons import lesson
from compare.study.scripts import script

script(__name__)  # a program runs the lessons from here; a notebook goes on to the next cell

# %% side="jax"
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxnn.layers.container import Sequential  # names its layers "0", "1", …
from jaxnn.layers.norm import BatchNorm

# %% side="torch"
import torch

# %% [markdown] lesson="why" title="What is Batch Normalization and why is it important in neural networks?"
# Each layer of a network is given what the layers below make of the data. In a deep network that
# gets out of hand. PyTorch draws first weights of variance $1/(3n)$ for a layer of $n$ inputs, and
# a relu keeps about half of what it is given, so that from one layer to the next the variance of
# the sums shrinks to about
#
# $$n \cdot \frac{1}{3n} \cdot \frac{1}{2} = \frac{1}{6}.$$
#
# After ten layers hardly anything is left that depends on the input. What fades on the way up also
# fades on the way back: the gradients of the lower layers are tiny, and the network does not learn.
#
# Batch normalisation takes the matter out of the weights' hands. Whatever they are, each sum $z$ of
# a layer is given mean 0 and variance 1 over the examples of the batch, before the relu sees it:
#
# $$\hat z = \frac{z - \operatorname{mean}(z)}{\sqrt{\operatorname{var}(z) + \epsilon}}$$
#
# So every layer works on numbers of the same size, at the start and after each step. Two networks
# of ten layers show it, one plain and one normalised. The first two cells define them. Both
# remember the sums that go into the relus: in Flax a module may `sow` a value, which comes out with
# the result of the call that asks for it; in PyTorch a module simply keeps it.


# %% side="jax"
class Net_jax(nn.Module):
    normalised: bool

    @nn.compact
    def __call__(self, x, *, train=False):
        for _ in range(10):
            x = nn.Dense(32)(x)
            if self.normalised:
                x = BatchNorm(32)(x, train=train)
            self.sow("intermediates", "sums", x)
            x = nn.relu(x)
        return nn.Dense(10)(x)


# %% side="torch"
class Net_torch(torch.nn.Module):
    def __init__(self, normalised):
        super().__init__()
        widths = [64] + 10 * [32]
        self.layers = torch.nn.ModuleList(map(torch.nn.Linear, widths, widths[1:]))
        norm = torch.nn.BatchNorm1d if normalised else torch.nn.Identity
        self.norms = torch.nn.ModuleList(norm(32) for _ in range(10))
        self.last = torch.nn.Linear(32, 10)

    def forward(self, x):
        self.sums = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(layer(x))
            self.sums.append(x)
            x = torch.relu(x)
        return self.last(x)


# %% [markdown]
# Training is the same for both networks. In JAX the running averages of batch norm (`stats`) go
# round with the parameters: in as an argument, out beside the loss.


# %% side="jax"
def train_jax(normalised, variables, batches, held_x, held):
    net, optimizer = Net_jax(normalised), optax.sgd(0.05)
    _, seen = net.apply(variables, held_x, train=True, mutable=["batch_stats", "intermediates"])

    def loss_of(params, stats, x, labels):
        variables = {"params": params, "batch_stats": stats}
        logits, updated = net.apply(variables, x, train=True, mutable=["batch_stats"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), updated.get("batch_stats", {})

    @jax.jit
    def step(params, stats, state, x, labels):
        slopes = jax.value_and_grad(loss_of, has_aux=True)
        (loss, stats), gradients = slopes(params, stats, x, labels)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), stats, state, loss

    params, stats, losses = variables["params"], variables.get("batch_stats", {}), []
    state = optimizer.init(params)
    for x, labels in batches:
        params, stats, state, loss = step(params, stats, state, x, labels)
        losses.append(loss)
    scores = net.apply({"params": params, "batch_stats": stats}, held_x)
    return {
        "sums at the start": list(seen["intermediates"]["sums"]),
        "losses": losses,
        "right": (scores.argmax(-1) == held).mean(dtype=float),
    }


# %% side="torch"
def train_torch(normalised, state, batches, held_x, held):
    net = Net_torch(normalised).train()
    net.load_state_dict(state)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    with torch.no_grad():
        net(held_x)
    seen = net.sums
    net.load_state_dict(state)  # the look has moved the running averages

    losses = []
    for x, labels in batches:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    net.eval()
    with torch.no_grad():
        scores = net(held_x)
    return {
        "sums at the start": seen,
        "losses": losses,
        "right": (scores.argmax(-1) == held).double().mean(),
    }


# %% side="both"
with lesson("why") as same:
    x, labels, held_x, held = split_digits(same.rng, flat=True)
    axes, spread, right = same.axes(1, 3, height=4), {}, {}
    names = {r"layers\.(\d+)": r"Dense_\1", r"norms\.(\d+)": r"BatchNorm_\1", "last": "Dense_10"}
    for normalised, name in ((False, "plain"), (True, "normalised")):
        nets = Net_jax(normalised), partial(Net_torch, normalised)
        weights = same.weights(*nets, x[:2], rename=names)
        batches = same.batches(200, 64, x, labels)
        ours, theirs = same.run(train_jax, train_torch, normalised, weights, batches, held_x, held)
        sums = [side["sums at the start"] for side in (ours, theirs)]  # (layer, example, unit)
        spread[name] = [each.std(1).mean(1) for each in sums]
        right[name] = ours["right"], theirs["right"]
        for layer in (1, 10):
            row = [each[layer - 1] for each in spread[name]]
            same.row(f"{name}: spread of the sums in layer {layer}", *row)
        same.row(f"{name}: right on held-out digits", *right[name])
        bins = np.linspace(-2, 2, 41)
        last = [np.histogram(each[9], bins, density=True)[0] for each in sums]
        lines(axes[0], *last, x=bins[1:] - 0.05, label=name)
        lines(axes[1], *spread[name], x=range(1, 11), label=name)
        lines(axes[2], ours["losses"], theirs["losses"], label=name)
    same.holds("plain: the signal fades", spread["plain"][1][-1] < 0.1 * spread["plain"][1][0])
    same.holds("normalised: it does not", spread["normalised"][1].min() > 0.9)
    same.holds("only the normalised one learns", right["plain"][1] < 0.8 < right["normalised"][1])
    axes[0].set(yscale="log", xlabel="sum", title="sums in layer 10")
    axes[1].set(yscale="log", xlabel="layer", title="spread of the sums")
    axes[2].set(xlabel="step", title="cross-entropy")
    legend(axes[2])

# %% [markdown]
# ### Where the frameworks part
# The two columns are the same network because they start from the same weights: PyTorch's. Left to
# itself, Flax draws others, and the plain network fades more slowly.
#
# | | PyTorch | Flax and optax | |
# |---|---|---|---|
# | first weights of a dense layer | variance $1/(3n)$ | variance $1/n$ | INIT-01 |
# | first biases | up to $1/\sqrt n$ | 0 | INIT-02 |
# | cross-entropy | the batch's mean | one value an example | LOSS-14 |
# | the new running averages | written into the module | returned, or lost | BN-08 |
#
# ### Try it
# - Draw the plain network's weights with `torch.nn.init.kaiming_normal_`, which makes up for the
#   relus. Does the signal still fade, and does the network learn now?
# - Raise the learning rate to 0.5. Which of the two networks still learns?
# - Take 30 layers. What does the normalised network do?

# %% [markdown] lesson="how" title="How does Batch Normalization work?"
# For one unit, with the sums $z_1, \dots, z_N$ of the $N$ examples of a batch, the layer computes
#
# $$\hat z_i = r\,(z_i - \bar z), \qquad r = \frac{1}{\sqrt{\operatorname{var}(z) + \epsilon}},
#   \qquad y_i = \gamma \hat z_i + \beta$$
#
# with $\gamma$ and $\beta$ learned, so that the network can have another size and another centre if
# it wants them. Forward that is all. Backward is where the batch shows: each example moves the mean
# and the variance that *all* examples share. Write $g_i = \gamma\,\partial L/\partial y_i$ for what
# comes from above. The chain rule, through $z_i$ itself, through $\bar z$ and through $r$, gives
#
# $$\frac{\partial L}{\partial z_i} = r\,\Big(g_i - \operatorname{mean}(g)
#   - \hat z_i \operatorname{mean}(g\,\hat z)\Big).$$
#
# So what goes down has two parts taken out of it: the one that would move all sums of the unit
# alike, and the one that would stretch them. Neither would change $y$. (This is why a layer before
# batch norm needs no bias: its gradient is zero.)
#
# The cells write both directions by hand and ask the framework's own autodiff. JAX transforms a
# function into its *pullback*, which maps a gradient of the result to gradients of the arguments.
# PyTorch records what happens to tensors that want a gradient, and walks the record back.


# %% side="jax"
@jax.jit
def normalise_jax(z, scale, shift, eps=1e-5):
    centred = z - z.mean(0)
    rate = 1 / jnp.sqrt((centred**2).mean(0) + eps)
    return scale * (centred * rate) + shift


@jax.jit
def backward_jax(z, scale, dy, eps=1e-5):
    centred = z - z.mean(0)
    rate = 1 / jnp.sqrt((centred**2).mean(0) + eps)
    z_hat, g = centred * rate, scale * dy
    dz = rate * (g - g.mean(0) - z_hat * (g * z_hat).mean(0))
    return [dz, (dy * z_hat).sum(0), dy.sum(0)]


def derive_jax(z, scale, shift, dy):
    y, pullback = jax.vjp(normalise_jax, z, scale, shift)
    layer = nn.BatchNorm(use_running_average=False)
    averages = {"mean": jnp.zeros(5), "var": jnp.ones(5)}
    variables = {"params": {"scale": scale, "bias": shift}, "batch_stats": averages}
    return {
        "forward": y,
        "the framework's layer": layer.apply(variables, z, mutable=["batch_stats"])[0],
        "backward by hand": backward_jax(z, scale, dy),
        "backward by autodiff": list(pullback(dy)),
    }


# %% side="torch"
def normalise_torch(z, scale, shift, eps=1e-5):
    centred = z - z.mean(0)
    rate = 1 / torch.sqrt((centred**2).mean(0) + eps)
    return scale * (centred * rate) + shift


def backward_torch(z, scale, dy, eps=1e-5):
    centred = z - z.mean(0)
    rate = 1 / torch.sqrt((centred**2).mean(0) + eps)
    z_hat, g = centred * rate, scale * dy
    dz = rate * (g - g.mean(0) - z_hat * (g * z_hat).mean(0))
    return [dz, (dy * z_hat).sum(0), dy.sum(0)]


def derive_torch(z, scale, shift, dy):
    by_hand = backward_torch(z, scale, dy)
    for leaf in (z, scale, shift):
        leaf.requires_grad_()  # from here on PyTorch records what happens to it
    y = normalise_torch(z, scale, shift)
    y.backward(dy)
    layer = torch.nn.functional.batch_norm(z, None, None, scale, shift, training=True)
    return {
        "forward": y,
        "the framework's layer": layer,
        "backward by hand": by_hand,
        "backward by autodiff": [z.grad, scale.grad, shift.grad],
    }


# %% [markdown]
# One consequence is worth a look. If $z = x W$, the size of $W$ does not matter to $y$: the layer
# divides it out. Then the gradient must know, too: twice the weights, half the gradient. As weights
# grow during training, each step turns them less, as if the learning rate were falling.


# %% side="jax"
def sizes_jax(x, weight, dy, sizes):
    def loss(weight):
        return (normalise_jax(x @ weight, 1.0, 0.0, eps=0.0) * dy).sum()

    losses, gradients = jax.vmap(jax.value_and_grad(loss))(sizes[:, None, None] * weight)
    return {"loss": losses, "size of the gradient": jnp.linalg.norm(gradients, axis=(1, 2))}


# %% side="torch"
def sizes_torch(x, weight, dy, sizes):
    losses, gradients = [], []
    for size in sizes:
        scaled = (size * weight).requires_grad_()
        loss = (normalise_torch(x @ scaled, 1.0, 0.0, eps=0.0) * dy).sum()
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.linalg.norm(scaled.grad))
    return {"loss": losses, "size of the gradient": gradients}


# %% side="both"
with lesson("how") as same:
    x = split_digits(same.rng, flat=True)[0][:50]
    weight, dy = same.rng.standard_normal((64, 5)) / 8, 3 + same.rng.standard_normal((50, 5))
    z, scale, shift = x @ weight, 1 + same.rng.random(5), same.rng.standard_normal(5)
    ours, theirs = same.run(derive_jax, derive_torch, z, scale, shift, dy)
    same("by hand is by autodiff", ours["backward by hand"], theirs["backward by autodiff"])
    same("by hand is the layer", ours["forward"], theirs["the framework's layer"])
    dz = [each["backward by autodiff"][0] for each in (ours, theirs)]
    same.holds("no gradient moves all sums alike", all(abs(s.sum(0)).max() < 1e-12 for s in dz))

    sizes = np.array([0.25, 0.5, 1, 2, 4, 8])
    by_size = same.run(sizes_jax, sizes_torch, x, weight, dy, sizes)
    norms = [each["size of the gradient"] for each in by_size]
    for place in (2, 3, 4):
        row = [each[place] for each in norms]
        same.row(f"gradient of weights {sizes[place]:g} times as large", *row)
    same("twice the weights, half the gradient", norms[0] * sizes, np.full(6, norms[1][2]))
    axes = same.axes(1, 2, height=4)
    axes[0].plot(z[:, 0], dz[0][:, 0], "o", mfc="none", ms=9, label="JAX")
    axes[0].plot(z[:, 0], dz[1][:, 0], "x", label="PyTorch")
    alone = scale[0] * dy[:, 0] / z[:, 0].std()  # were the mean and the variance constants
    axes[0].plot(z[:, 0], alone, "k.", ms=3, label="without the batch's part")
    axes[0].set(xlabel="z of one unit", ylabel="dL/dz", title="backward, 50 digits")
    axes[0].legend(fontsize=9)
    lines(axes[1], *norms, x=sizes)
    axes[1].set_xscale("log", base=2)
    axes[1].set_yscale("log", base=2)
    axes[1].set(xlabel="size of W", title="size of dL/dW")
    legend(axes[1])

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | JAX | |
# |---|---|---|---|
# | a gradient | of a tensor, after `backward()`, in `.grad` | of a function, by `jax.grad` or `jax.vjp` | |
# | many gradients at once | a loop, and fresh leaves | `jax.vmap` of the gradient's function | |
# | the variance inside the layer | mean of squared deviations | `E[x²] - E[x]²`, lost far from zero | BN-07 |
# | `x.var()` | by $n - 1$ | by $n$ | LN-04 |
#
# ### Try it
# - Write the variance as `z.var(0)` in both columns. Which column still equals its layer, and why?
# - Add 1e8 to `z`. Which of the two layers gives the same result as before, and what does Flax's
#   `use_fast_variance=False` change?
# - Set `dy` to ones. What is the gradient of `z`, and could you have known?

# %% [markdown] lesson="train_eval" title="Batch Normalization during training and inference"
# A batch norm layer is two layers in one. While the network **trains**, it centres and scales each
# channel by the mean $\mu_B$ and the variance $\sigma_B^2$ of the batch that it is looking at:
#
# $$\hat x = \frac{x - \mu_B}{\sqrt{\sigma_B^2 + \epsilon}}, \qquad y = \gamma \hat x + \beta$$
#
# When the network is **used**, there may be no batch at all, only one image. So while it trains the
# layer also keeps running averages, and in inference it normalises by those. With the momentum $m$
# and $n$ examples in a batch, every step moves them a little:
#
# $$\mu \leftarrow (1 - m)\,\mu + m\,\mu_B, \qquad
#   \sigma^2 \leftarrow (1 - m)\,\sigma^2 + m\,\tfrac{n}{n-1}\,\sigma_B^2$$
#
# The factor $n/(n-1)$ makes the kept variance unbiased: a batch is normalised by its own spread,
# but what is kept stands for images that the batch did not contain.
#
# Two questions decide how a framework writes this down. *Where do the running averages live?* And
# *who says which of the two layers it is now?* PyTorch keeps the averages inside the module and
# flips a switch on it. Flax has no inside: the averages go in as an argument and come out as a
# result, and the mode is an argument, too. Read the two columns for where the variance changes.


# %% side="jax"
def follow_jax(momentum, batches, images):
    norm = BatchNorm(64, momentum=momentum)

    @jax.jit
    def train_step(variables, batch):
        y, updated = norm.apply(variables, batch, train=True, mutable=["batch_stats"])
        return y, variables | updated  # a new dict: nothing was changed in place

    variables = norm.init(jax.random.key(0), batches[0])
    variances = []
    for batch in batches:
        y, variables = train_step(variables, batch)
        variances.append(variables["batch_stats"]["var"])
    return {
        "last batch": y,
        "running mean": variables["batch_stats"]["mean"],
        "running variance": variances,
        "inference": norm.apply(variables, images),  # train=False: it only reads the averages
    }


# %% side="torch"
def follow_torch(momentum, batches, images):
    norm = torch.nn.BatchNorm1d(64, momentum=momentum)

    norm.train()
    variances = []
    for batch in batches:
        y = norm(batch)  # and norm.running_mean and norm.running_var have moved
        variances.append(norm.running_var.clone())  # a copy: the next step writes into it
    norm.eval()  # forget this line, and the images are normalised by each other
    return {
        "last batch": y,
        "running mean": norm.running_mean,
        "running variance": variances,
        "inference": norm(images),
    }


# %% [markdown]
# In inference nothing is left but a scale and a shift of each channel. A convolution
# $W * x + b$ before the layer can take both up: with $r = \gamma / \sqrt{\sigma^2 + \epsilon}$,
#
# $$\gamma\,\frac{(W * x + b) - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta
#   = (r W) * x + \big(r\,(b - \mu) + \beta\big)$$
#
# and the layer is gone. Networks are *folded* like this before they are shipped.

# %% side="jax"
folding_jax = Sequential((nn.Conv(8, (3, 3)), BatchNorm(8)))


def fold_jax(variables, batches, images):
    for batch in batches:  # so that there is something to fold: the averages leave 0 and 1
        _, updated = folding_jax.apply(variables, batch, train=True, mutable=["batch_stats"])
        variables = variables | updated
    conv, norm = variables["params"]["0"], variables["params"]["1"]
    stats = variables["batch_stats"]["1"]
    rate = norm["scale"] / jnp.sqrt(stats["var"] + 1e-5)
    bias = rate * (conv["bias"] - stats["mean"]) + norm["bias"]
    folded = {"kernel": conv["kernel"] * rate, "bias": bias}  # a kernel is (3, 3, in, out)
    return {
        "two layers": folding_jax.apply(variables, images),
        "folded": nn.Conv(8, (3, 3)).apply({"params": folded}, images),
    }


# %% side="torch"
def folding_torch():
    return torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.BatchNorm2d(8))


def fold_torch(state, batches, images):
    net = folding_torch().train()
    net.load_state_dict(state)
    for batch in batches:  # so that there is something to fold: the averages leave 0 and 1
        net(batch)
    conv, norm = net.eval()
    rate = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    folded = torch.nn.Conv2d(1, 8, 3, padding=1)
    with torch.no_grad():
        folded.weight.copy_(conv.weight * rate[:, None, None, None])  # (out, in, 3, 3)
        folded.bias.copy_(rate * (conv.bias - norm.running_mean) + norm.bias)
    return {"two layers": net(images), "folded": folded(images)}


# %% side="both"
with lesson("train_eval") as same:
    x, _, unseen, _ = split_digits(same.rng)  # images (N, 1, 8, 8) of digits
    flat, pixel = x.reshape(-1, 64), 25
    batches, true = same.batches(100, 32, flat), flat[:, pixel].var()
    axis, off = same.axes(height=4), {}
    for momentum in (0.01, 0.1, None):  # None: the average of all batches
        ours, theirs = same.run(
            follow_jax, follow_torch, momentum, batches, unseen[:2].reshape(2, 64)
        )
        kept = [each["running variance"][:, pixel] for each in (ours, theirs)]
        name = "average of all" if momentum is None else f"momentum {momentum}"
        same.row(f"variance kept, {name}", kept[0][-1], kept[1][-1])
        lines(axis, *kept, label=name)
        off[name] = abs(kept[1][-1] / true - 1)
    same.holds("with momentum 0.01 it is still on its way", off["momentum 0.01"] > 0.1)
    same.holds("the average of all has arrived", off["average of all"] < 0.05)
    axis.axhline(true, color="k", ls=":", label="all digits")
    axis.set(xlabel="batch of 32", ylabel="running variance", title="one pixel of the digits")
    legend(axis)

    weights = same.weights(folding_jax, folding_torch, x[:2])
    images = same.images(unseen)
    batches = same.batches(20, 32, same.images(x))
    ours, theirs = same.run(fold_jax, fold_torch, weights, batches, images)
    same("folded or not", ours["folded"], theirs["two layers"])

# %% [markdown]
# ### Where the frameworks part
# `BatchNorm` in JAX's column is this project's, which does as PyTorch does. Flax's own has the same
# name and other habits. A port that overlooks one trains as well as the original and is a little
# wrong in inference only, which is why it is found late.
#
# | | `torch.nn.BatchNorm1d` | `flax.linen.BatchNorm` | |
# |---|---|---|---|
# | `momentum` weighs | the new batch, 0.1 | the old average, 0.99 | BN-01 |
# | the variance that is kept | unbiased, over $n - 1$ | biased, over $n$ | BN-02 |
# | the mode | a state of the module | an argument, `use_running_average` | BN-06 |
# | the new averages | written into the module | returned, or lost | BN-08 |
#
# ### Try it
# - Feed each layer one image in training mode. PyTorch raises. What does Flax's own layer return?
# - Leave `mutable=["batch_stats"]` out. Which error do you get, and why can PyTorch not have it?
# - Train with batches of two. How far apart would a biased and an unbiased variance be now?

# %% [markdown] lesson="pytorch" title="Batch Normalization in PyTorch"
# Batch norm keeps one mean and one variance for each *channel*, and averages over everything else.
# In a table of numbers, $(N, C)$, that is the examples. In a sequence, $(N, C, L)$, it is examples
# and places in time. In an image, $(N, C, H, W)$, it is examples and pixels: a channel of $N$
# images has $N \cdot H \cdot W$ values.
#
# PyTorch has a class for each kind of input, `BatchNorm1d` for the first two and `BatchNorm2d` for
# images, and refuses an input of another rank. The channels are axis 1. Linen has one class for
# all: it averages over every axis but the last, where Flax keeps the channels. So the arrays of the
# JAX column are laid out otherwise: $(N, L, C)$ and $(N, H, W, C)$.
#
# The cells use what each framework ships. Linen's `momentum` is the share of the *old* average, so
# PyTorch's 0.1 is 0.9 here. Its running variance is the biased one, of a sum that is divided by the
# number of values $n$; multiplying what the batch added by $n/(n-1)$ gives PyTorch's.


# %% side="jax"
def ranks_jax(table, sequences, images):
    norm = nn.BatchNorm(use_running_average=False, momentum=0.9)
    found = {}
    for name, x in {"table": table, "sequences": sequences, "images": images}.items():
        variables = jax.jit(norm.init)(jax.random.key(0), x)  # float32, whatever x is
        variables = jax.tree.map(lambda leaf: leaf.astype(float), variables)
        y, updated = jax.jit(partial(norm.apply, mutable=["batch_stats"]))(variables, x)
        n = x.size / 3  # values of each of the three channels
        added = updated["batch_stats"]["var"] - 0.9  # the average began at 1
        found[name] = y
        found[f"{name}: running mean"] = updated["batch_stats"]["mean"]
        found[f"{name}: running variance"] = 0.9 + added * n / (n - 1)
    return found


# %% side="torch"
def ranks_torch(table, sequences, images):
    found = {}
    for name, x in {"table": table, "sequences": sequences, "images": images}.items():
        norm = torch.nn.BatchNorm2d(3) if name == "images" else torch.nn.BatchNorm1d(3)
        norm.train()
        found[name] = norm(x)
        found[f"{name}: running mean"] = norm.running_mean
        found[f"{name}: running variance"] = norm.running_var
    return found


# %% [markdown]
# Training on several devices divides the batch. Each device then normalises its own share, and the
# smaller the share, the rougher its statistics. *Synchronised* batch norm takes the mean
# and the variance over the shares of all devices, so that the result is that of one large batch.
#
# In JAX devices are an axis with a name, and a collective operation names it. `axis_name` tells the
# layer which axis that is. Nothing in the layer says how it is spread: here `jax.vmap` maps the
# axis on one device, `jax.shard_map` does the same on many. In PyTorch each device has a process of
# its own, and `SyncBatchNorm` talks to the others; in the single process of a lesson it is given
# the whole batch. (`examples/distributed/data_parallel.py` starts several processes.)


# %% side="jax"
def devices_jax(images, slope, shares):
    norm = nn.BatchNorm(use_running_average=False)
    synced = nn.BatchNorm(use_running_average=False, axis_name="devices")
    variables = jax.jit(norm.init)(jax.random.key(0), images)

    @partial(jax.jit, static_argnums=(0, 2))
    def apply(layer, images, share):
        parts = images.reshape(-1, share, *images.shape[1:])  # (devices, share, H, W, C)
        call = partial(layer.apply, variables, mutable=["batch_stats"])
        return jax.vmap(call, axis_name="devices")(parts)[0].reshape(images.shape)

    y, pullback = jax.vjp(lambda x: apply(synced, x, 16), images)
    return {
        "synchronised": y,
        "its gradient": pullback(slope)[0],
        "each by itself": [apply(norm, images, share) for share in shares],
    }


# %% side="torch"
def devices_torch(images, slope, shares):
    norm = torch.nn.BatchNorm2d(3).train()
    synced = torch.nn.SyncBatchNorm.convert_sync_batchnorm(norm)

    def apply(layer, images, share):
        return torch.cat([layer(part) for part in images.split(share)])

    images.requires_grad_()
    y = synced(images)  # a single process, which has all 64
    y.backward(slope)
    return {
        "synchronised": y,
        "its gradient": images.grad,
        "each by itself": [apply(norm, images, share) for share in shares],
    }


# %% side="both"
with lesson("pytorch") as same:
    digits = every_digit(channels=3)["x"][:64].astype(float)  # (64, 3, 8, 8)
    scales = np.array([1.0, 2.0, 3.0])[:, None, None]
    x = digits * scales + same.rng.standard_normal(digits.shape)
    table, sequences = x.mean((2, 3)), same.images(x[:, :, 0])
    ours, theirs = same.run(ranks_jax, ranks_torch, table, sequences, same.images(x))
    for name in ("table", "sequences", "images"):
        key = f"{name}: running variance"
        same.row(f"{key}, third channel", ours[key][2], theirs[key][2])

    shares, slope = [64, 32, 16, 8, 4, 2], same.rng.standard_normal(x.shape)
    images = same.images(x), same.images(slope)
    ours, theirs = same.run(devices_jax, devices_torch, *images, shares)
    off = [(s["each by itself"] - s["synchronised"]).std((1, 2, 3, 4)) for s in (ours, theirs)]
    for place in (2, 5):
        row = [each[place] for each in off]
        same.row(f"{shares[place]} images a device: off the whole batch", *row)
    same.holds("the smaller the share, the farther off", (np.diff(off[1]) > 0).all())
    axis = same.axes(height=4)
    lines(axis, *(each[1:] for each in off), x=shares[1:], label="each device by itself")
    axis.set_xscale("log", base=2)
    axis.set(yscale="log", xlabel="images on a device", ylabel="off the whole batch of 64")
    axis.set(title="what SyncBatchNorm is for")
    legend(axis)

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | Linen | |
# |---|---|---|---|
# | the channels | axis 1 | the last axis | BN-03 |
# | `momentum` weighs | the new batch, 0.1 | the old average, 0.99 | BN-01 |
# | the variance that is kept | over $n - 1$ | over $n$ | BN-02 |
# | several devices | `SyncBatchNorm`, a process each | `axis_name`, an axis of the array | |
#
# ### Try it
# - Hand `nn.BatchNorm` images as PyTorch lays them out. It does not complain. What did it average?
# - Leave `axis_name` out of `synced`. Which of the three results changes?
# - Give the devices shares of a single image. Which statistics does each channel have now, and why
#   does it still work for images, but not for a table?

# %% [markdown] lesson="alternatives" title="Batch Normalization vs. other normalization techniques"
# Batch norm ties the examples of a batch together. With two or four images in a batch its
# statistics are rough, and for one image alone it has to fall back on averages of the past. Other
# normalisations keep the formula and change what the mean and the variance are taken over:
#
# - **layer norm**: all channels and pixels of one image;
# - **group norm**: the pixels of a group of channels of one image;
# - **instance norm**: the pixels of one channel of one image;
# - **RMS norm**: as layer norm, but nothing is subtracted: it divides by
#   $\sqrt{\operatorname{mean}(x^2) + \epsilon}$.
#
# These stay within one example. They keep no running averages, and are the same in training and in
# use. Two more leave the sums alone and normalise the *weights* of the layer before. **Weight
# norm** writes each unit's weights as a length times a direction, $w = g\,v/\lVert v \rVert$, and
# learns both. **Spectral norm** divides the matrix by its largest singular value, which it follows
# by one step of power iteration a call, so that no input comes out longer than it went in.
#
# The first two cells put each of them into one small network. See how the layer is told its axes:
# PyTorch's layer norm is given the *shape* of what it averages over, Linen's the *axes*.

# %% side="jax"
from jaxnn.layers.reparametrised import SpectralNorm, WeightNorm


def normed_jax(kind):
    conv = nn.Conv(8, (3, 3), padding=1)
    whole = {"reduction_axes": (1, 2, 3), "feature_axes": (1, 2, 3)}  # height, width, channels
    norms = {
        "batch": BatchNorm(8),
        "layer": nn.LayerNorm(1e-5, use_scale=False, use_bias=False, **whole),
        "group": nn.GroupNorm(num_groups=4, epsilon=1e-5),
        "instance": nn.InstanceNorm(epsilon=1e-5, use_scale=False, use_bias=False),
        "RMS": nn.RMSNorm(1e-5, use_scale=False, **whole),
    }
    remade = {"weight": WeightNorm, "spectral": SpectralNorm}
    conv = remade[kind](conv) if kind in remade else conv
    norm = norms.get(kind, lambda x: x)

    def flat(x):
        return jnp.moveaxis(x, -1, 1).reshape(len(x), -1)  # channel after channel

    return Sequential((conv, norm, nn.relu, flat, nn.Dense(10)))


# %% side="torch"
from torch.nn.utils import parametrizations


def normed_torch(kind):
    conv = torch.nn.Conv2d(1, 8, 3, padding=1)
    whole = [8, 8, 8]  # channels, height, width
    norms = {
        "batch": torch.nn.BatchNorm2d(8),
        "layer": torch.nn.LayerNorm(whole, elementwise_affine=False),
        "group": torch.nn.GroupNorm(4, 8),
        "instance": torch.nn.InstanceNorm2d(8),
        "RMS": torch.nn.RMSNorm(whole, eps=1e-5, elementwise_affine=False),
    }
    remade = {"weight": parametrizations.weight_norm, "spectral": parametrizations.spectral_norm}
    conv = remade[kind](conv) if kind in remade else conv
    norm = norms.get(kind, torch.nn.Identity())
    last = torch.nn.Linear(512, 10)
    return torch.nn.Sequential(conv, norm, torch.nn.ReLU(), torch.nn.Flatten(), last)


# %% [markdown]
# Then each network is trained, on batches of 16 digits for a short while, to see who learns sooner.
# Before that it is shown one image in two companies: is the result for it the same?


# %% side="jax"
def learn_jax(kind, variables, companies, batches, held_x, held):
    net, optimizer = normed_jax(kind), optax.sgd(0.02)
    call = jax.jit(partial(net.apply, train=True, mutable=["batch_stats"]))

    def loss_of(params, kept, x, labels):
        logits, kept = call({"params": params, **kept}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), kept

    @jax.jit
    def step(params, kept, state, x, labels):
        slopes = jax.value_and_grad(loss_of, has_aux=True)
        (loss, kept), gradients = slopes(params, kept, x, labels)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), kept, state, loss

    first = [call(variables, company)[0][0] for company in companies]
    params, losses = variables["params"], []
    kept = {"batch_stats": variables.get("batch_stats", {})}
    state = optimizer.init(params)
    for x, labels in batches:
        params, kept, state, loss = step(params, kept, state, x, labels)
        losses.append(loss)
    weights = {"params": params, **kept}
    right = (jax.jit(net.apply)(weights, held_x).argmax(-1) == held).mean(dtype=float)
    return {"the first image": first, "losses": losses, "right": right, "weights": weights}


# %% side="torch"
def learn_torch(kind, state, companies, batches, held_x, held):
    net, first, losses = normed_torch(kind).train(), [], []
    for company in companies:
        net.load_state_dict(state)
        first.append(net(company)[0])

    net.load_state_dict(state)  # the looks have moved what the layers keep
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
    for x, labels in batches:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    net.eval()
    with torch.no_grad():
        right = (net(held_x).argmax(-1) == held).double().mean()
    weights = net.state_dict()
    return {"the first image": first, "losses": losses, "right": right, "weights": weights}


# %% side="both"
with lesson("alternatives") as same:
    x, labels, held_x, held = split_digits(same.rng)
    companies = [same.images(held_x[[0, *range(i, i + 15)]]) for i in (1, 16)]
    axes, right, moved, cost = same.axes(1, 2, height=4), {}, {}, {}
    for kind in ("none", "batch", "layer", "group", "instance", "RMS", "weight", "spectral"):
        weights = same.weights(normed_jax(kind), partial(normed_torch, kind), x[:2])
        batches = same.batches(100, 16, same.images(x), labels)
        given = kind, weights, companies, batches, same.images(held_x), held
        ours, theirs = same.run(learn_jax, learn_torch, *given)
        right[kind], cost[kind] = (ours["right"], theirs["right"]), theirs["losses"].mean()
        moved[kind] = abs(np.subtract(*theirs["the first image"])).max() > 1e-9
        same.row(f"{kind}: right on held-out digits", *right[kind])
        smooth = [np.convolve(s["losses"], np.ones(15) / 15, "valid") for s in (ours, theirs)]
        lines(axes[0], *smooth, label=kind)
    same.holds(
        "an image's result depends on its company with batch norm only",
        [k for k in moved if moved[k]] == ["batch"],
    )
    most = max(cost[kind] for kind in ("batch", "layer", "group", "instance", "RMS"))
    same.holds("whoever normalises the sums learns sooner", most < 0.9 * cost["none"])
    axes[0].set(xlabel="step", title="cross-entropy, mean of 15")
    legend(axes[0], ncols=2)
    bars(axes[1], right, *zip(*right.values(), strict=True))
    axes[1].set(title="right on held-out digits", xlim=(0.5, 1.15))

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | Linen | |
# |---|---|---|---|
# | layer norm's axes | a shape: the last axes | `reduction_axes`, by default the last one | LN-02 |
# | $\epsilon$ of layer, group and instance norm | 1e-5 | 1e-6 | LN-01 |
# | groups of group norm | must be said | 32 | GN-01 |
# | instance norm learns | nothing, unless `affine=True` | a scale and a bias | IN-01 |
# | spectral norm in use | keeps its vectors | iterates further | SN-02 |
#
# `WeightNorm` and `SpectralNorm` in JAX's column are this project's, which do as PyTorch's do.
#
# ### Try it
# - Train on batches of 4 and of 64. Whose result changes most?
# - Put Linen's own `nn.SpectralNorm` in. From which step on do the losses differ, and why not less?

# %% [markdown] lesson="gans" title="Batch Normalization in GANs"
# A generative adversarial network is a game of two. The **generator** $G$ turns noise $z$ into
# images, the **discriminator** $D$ is shown real and generated images and says which are which.
# $D$ learns to tell them apart, $G$ to be taken for real:
#
# $$L_D = \ell\big(D(x), 1\big) + \ell\big(D(G(z)), 0\big), \qquad L_G = \ell\big(D(G(z)), 1\big)$$
#
# where $\ell$ is the binary cross-entropy of a logit. Such games are hard to keep even. Batch norm in
# both networks was one of the rules by which DCGAN made them work. Here it is played in three ways:
#
# - **separate**: with batch norm, real and generated images in batches of their own;
# - **joint**: with batch norm, real and generated images in one batch for $D$;
# - **without** batch norm.
#
# In the joint game the mean of the batch tells each image about its companions, and $D$ wins by that.
# But in $G$'s turn its images are alone in the batch, are made to look like any batch, and $D$ takes
# them for real: there is nothing to learn. Without batch norm $G$'s images hardly differ at first.


# %% side="jax"
def generator_jax(way):
    norm = BatchNorm if way != "without" else lambda features: lambda x: x
    up = partial(nn.ConvTranspose, kernel_size=(4, 4), use_bias=False, transpose_kernel=True)
    twice = partial(up, strides=(2, 2), padding=((2, 2), (2, 2)))
    layers = [up(32, padding=((3, 3), (3, 3))), norm(32), nn.relu]  # from 1x1 to 4x4
    layers += [twice(16), norm(16), nn.relu, twice(1), nn.tanh]  # to 8x8, to 16x16
    return Sequential(tuple(layers))


def discriminator_jax(way):
    norm = BatchNorm if way != "without" else lambda features: lambda x: x
    half = partial(nn.Conv, kernel_size=(4, 4), strides=2, padding=1, use_bias=False)
    leaky = partial(nn.leaky_relu, negative_slope=0.2)
    last = nn.Conv(1, (4, 4), padding=0, use_bias=False)  # a logit (N, 1, 1, 1)
    return Sequential((half(8), leaky, half(16), norm(16), leaky, last))


# %% side="torch"
def generator_torch(way):
    norm = torch.nn.BatchNorm2d if way != "without" else torch.nn.Identity
    up = partial(torch.nn.ConvTranspose2d, kernel_size=4, bias=False)
    twice = partial(up, stride=2, padding=1)
    layers = [up(16, 32), norm(32), torch.nn.ReLU()]  # from 1x1 to 4x4
    layers += [twice(32, 16), norm(16), torch.nn.ReLU(), twice(16, 1), torch.nn.Tanh()]
    return torch.nn.Sequential(*layers)


def discriminator_torch(way):
    norm = torch.nn.BatchNorm2d if way != "without" else torch.nn.Identity
    half = partial(torch.nn.Conv2d, kernel_size=4, stride=2, padding=1, bias=False)
    leaky = partial(torch.nn.LeakyReLU, 0.2)
    last = torch.nn.Conv2d(16, 1, 4, bias=False)  # a logit (N, 1, 1, 1)
    return torch.nn.Sequential(half(1, 8), leaky(), half(8, 16), norm(16), leaky(), last)


# %% [markdown]
# The game, a turn of each in every step. Only training mode is used, where a batch is normalised by
# itself; so JAX's column drops the new running averages, and PyTorch's lets them be written.


# %% side="jax"
def play_jax(way, start, batches, z):
    nets = [net(way) for net in (generator_jax, discriminator_jax)]
    training = {"train": True, "mutable": ["batch_stats"]}
    generate = jax.jit(lambda g, z: nets[0].apply(start["g"] | {"params": g}, z, **training)[0])
    judge = jax.jit(lambda d, x: nets[1].apply(start["d"] | {"params": d}, x, **training)[0])

    def cost(logits, truth):
        return optax.sigmoid_binary_cross_entropy(logits, truth).mean()

    def d_loss(d, fake, real):
        if way == "joint":
            of_real, of_fake = jnp.split(judge(d, jnp.concatenate([real, fake])), 2)
        else:
            of_real, of_fake = judge(d, real), judge(d, fake)
        return cost(of_real, 1.0) + cost(of_fake, 0.0)

    optimizer = optax.adam(1e-3, b1=0.5)

    @jax.jit
    def step(g, d, g_state, d_state, real, noise):
        lost, slopes = jax.value_and_grad(d_loss)(d, generate(g, noise), real)
        updates, d_state = optimizer.update(slopes, d_state)
        d = optax.apply_updates(d, updates)
        fooled, slopes = jax.value_and_grad(lambda g: cost(judge(d, generate(g, noise)), 1.0))(g)
        updates, g_state = optimizer.update(slopes, g_state)
        return optax.apply_updates(g, updates), d, g_state, d_state, jnp.stack([lost, fooled])

    g, d, losses = start["g"]["params"], start["d"]["params"], []
    g_state, d_state = optimizer.init(g), optimizer.init(d)
    for real, noise in batches:
        g, d, g_state, d_state, loss = step(g, d, g_state, d_state, real, noise)
        losses.append(loss)
    return {"losses": losses, "images": generate(g, z)}


# %% side="torch"
def play_torch(way, start, batches, z):
    nets = [net(way) for net in (generator_torch, discriminator_torch)]
    generate, judge = nets
    generate.load_state_dict(start["g"])
    judge.load_state_dict(start["d"])
    adam = partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.999))
    g_optimizer, d_optimizer = (adam(net.parameters()) for net in nets)

    def cost(logits, truth):
        truth = torch.full_like(logits, truth)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)

    def d_loss(fake, real):
        if way == "joint":
            of_real, of_fake = judge(torch.cat([real, fake])).chunk(2)
        else:
            of_real, of_fake = judge(real), judge(fake)
        return cost(of_real, 1.0) + cost(of_fake, 0.0)

    losses = []
    for real, noise in batches:
        d_optimizer.zero_grad()
        lost = d_loss(generate(noise).detach(), real)  # no gradient beyond the fakes
        lost.backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        fooled = cost(judge(generate(noise)), 1.0)
        fooled.backward()
        g_optimizer.step()
        losses.append(torch.stack([lost, fooled]).detach())
    return {"losses": losses, "images": generate(z)}


# %% side="both"
with lesson("gans") as same:
    x = every_digit(size=16, scale="signed")["x"].astype(float)
    noise = same.rng.standard_normal((len(x), 16, 1, 1))
    axes, late, spread = same.axes(2, 3, height=3.2), {}, {}
    for place, way in enumerate(("separate", "joint", "without")):
        g = same.weights(generator_jax(way), partial(generator_torch, way), noise[:2])
        d = same.weights(discriminator_jax(way), partial(discriminator_torch, way), x[:2])
        batches = same.batches(100, 32, same.images(x), same.images(noise))
        given = way, {"g": g, "d": d}, batches, same.images(noise[:16])
        ours, theirs = same.run(play_jax, play_torch, *given)
        late[way] = [side["losses"][-20:].mean(0) for side in (ours, theirs)]
        spread[way] = [side["images"].std(0).mean() for side in (ours, theirs)]
        for player, name in enumerate(("discriminator", "generator")):
            same.row(f"{way}: loss of the {name}", *(each[player] for each in late[way]))
            curves = [side["losses"][:, player] for side in (ours, theirs)]
            lines(axes[1, player], *curves, label=way)
            axes[1, player].set(xlabel="step", title=f"loss of the {name}")
        same.row(f"{way}: how much images differ", *spread[way])
        rows = [np.hstack(s["images"][k : k + 4, 0]) for s in (ours, theirs) for k in (0, 4)]
        picture(axes[0, place], np.vstack(rows), f"{way} (lower half: PyTorch)")
    same.holds("separate: the game is even", min(late["separate"][1]) > 0.5)
    same.holds("joint: both believe that they win", max(late["joint"][1]) < 0.5)
    same.holds("without: images are more alike", spread["without"][1] < 0.6 * spread["separate"][1])
    bars(axes[1, 2], spread, *zip(*spread.values(), strict=True))
    axes[1, 2].set(title="how images differ")
    legend(axes[1, 0])

# %% [markdown]
# ### Where the frameworks part
# | | PyTorch | Flax and optax | |
# |---|---|---|---|
# | kernel of a transposed convolution | (in, out, height, width) | flipped, unless `transpose_kernel=True` | CT-01 |
# | its padding | crops the output | is added to the dilated input | CT-02 |
# | fakes as data | `detach()` | an argument that is not differentiated | GRAD-13 |
#
# ### Try it
# - Take batch norm out of the generator alone, then out of the discriminator alone. Which of the
#   two does the game need?
# - In the joint game, let $D$ see real images in $G$'s turn, too. Is there something to learn now?
