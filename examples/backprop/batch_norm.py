"""Batch normalisation in JAX and in PyTorch: what it does to a net, how, and what else there is.

Every lesson shows the same thing twice, once as users of JAX and Flax write it and once as users of
PyTorch do, runs both on the same numbers, and holds what they give to each other in float64. In the
figures broad lines are JAX's, dashed ones PyTorch's.
"""

# %% side="both"
from compare.data.digits import split_digits
from compare.study.figures import legend, lines
from compare.study.lessons import lesson
from compare.study.scripts import script

script(__name__)  # a program runs the lessons from here; a notebook goes on to the next cell

# %% side="jax"
import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnn.layers.container import Sequential  # names its layers "0", "1", …
from jaxnn.layers.norm import BatchNorm

# %% side="torch"
import torch

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
def run_jax(momentum, batches, images):
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
def run_torch(momentum, batches, images):
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
net_jax = Sequential((nn.Conv(8, (3, 3)), BatchNorm(8)))


def fold_jax(variables, batches, images):
    for batch in batches:  # so that there is something to fold: the averages leave 0 and 1
        _, updated = net_jax.apply(variables, batch, train=True, mutable=["batch_stats"])
        variables = variables | updated
    conv, norm = variables["params"]["0"], variables["params"]["1"]
    stats = variables["batch_stats"]["1"]
    rate = norm["scale"] / jnp.sqrt(stats["var"] + 1e-5)
    bias = rate * (conv["bias"] - stats["mean"]) + norm["bias"]
    folded = {"kernel": conv["kernel"] * rate, "bias": bias}  # a kernel is (3, 3, in, out)
    return {
        "two layers": net_jax.apply(variables, images),
        "folded": nn.Conv(8, (3, 3)).apply({"params": folded}, images),
    }


# %% side="torch"
def net_torch():
    return torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.BatchNorm2d(8))


def fold_torch(state, batches, images):
    net = net_torch().train()
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
        ours, theirs = same.run(run_jax, run_torch, momentum, batches, unseen[:2].reshape(2, 64))
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

    weights = same.weights(net_jax, net_torch, x[:2])
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
