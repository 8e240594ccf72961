"""Training on several devices, in JAX and in PyTorch: copies of a network, and parts of one.

Run it as a program (`python examples/distributed/data_parallel.py --out figures`), or cell by cell
in an editor that knows `# %%`. Two devices of the CPU stand for two of any kind. In the figures
broad lines are JAX's, dashed ones PyTorch's.
"""

# %% Set-up
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from compare.data.digits import split_digits
from compare.share import to_jax
from compare.study.figures import twice
from compare.study.lessons import lesson
from compare.study.processes import torchrun
from compare.study.scripts import script
from jaxnn.training import data_parallel
from jaxnn.training.losses import cross_entropy
from jaxnn.training.optimizers import adam, sgd
from jaxnn.training.steps import TrainState

jax.config.update("jax_num_cpu_devices", 2)  # before JAX is used for the first time

script(__name__)

# %% [data_parallel] Data-parallel training
# How do two devices train one network? Each takes half of every batch, finds the gradient of its
# half, and both exchange what they found, so that both make the same step. If that is done right,
# nobody can tell from the network how many devices there were:
#
# $$\nabla L = \frac{1}{B} \sum_{i=1}^{B} \nabla \ell_i
#            = \frac{1}{B} \Bigl(\sum_{i \in \text{device 0}} \nabla \ell_i
#                              + \sum_{i \in \text{device 1}} \nabla \ell_i\Bigr)$$
#
# Three things stand in the way. The last batch of an epoch is smaller, and may not divide: 13
# images are 7 and 6, and the mean of two means is not the mean of 13. So every image weighs 1/13,
# on whichever device it is, and the parts are added up. Batch norm divides by the spread of its
# batch, which has to be that of all 13, not of 7 and of 6. And the halves have to be halves: where
# both devices shuffle for themselves, some images are seen twice and others never.
#
# PyTorch starts a process for each device. Every process runs the same program on its own share,
# and the sums over devices are said by name, or done by a wrapper, `DistributedDataParallel`. JAX
# has one program that sees the whole batch: its arrays lie on several devices, `jax.jit` splits the
# program accordingly, and finds by itself where devices have to be added up. Look for what is said
# of devices in the two columns: in JAX only where things lie. `share`, `mean_loss` and
# `GlobalBatchNorm` are short, and stand in `training/data_parallel.py` on both sides.
#
# The column of PyTorch is a program that is started twice, by
# `torchrun --nproc-per-node 2 program.py`.


# %% side="jax"
class NetJax(nn.Module):
    @nn.compact
    def __call__(self, x, weight=None, *, train: bool = False):
        x = nn.Conv(16, (3, 3), padding=1, use_bias=False, name="0")(x)
        x = nn.relu(data_parallel.GlobalBatchNorm(16, name="1")(x, weight, train=train))
        x = nn.avg_pool(x, (4, 4), (4, 4)).transpose(0, 3, 1, 2)  # channels first, as flattened
        return nn.Dense(10, name="5")(x.reshape(len(x), -1))


def loss_jax(scores, labels, weight):
    return data_parallel.mean_loss(cross_entropy(scores, labels, reduction="none"), weight)


def train_jax(devices, images, labels, order, batch, kernel, matrix):
    """Losses, the convolution's weights and what batch norm has kept."""
    params = {
        "0": {"kernel": to_jax(kernel.transpose(2, 3, 1, 0))},
        "1": {"scale": jnp.ones(16), "bias": jnp.zeros(16)},
        "5": {"kernel": to_jax(matrix.T), "bias": jnp.zeros(10)},
    }
    stats = NetJax().init(jax.random.key(0), jnp.ones((1, 8, 8, 1)))["batch_stats"]
    tx = sgd(lr=0.1, momentum=0.9)
    state = TrainState.create(apply_fn=NetJax().apply, params=params, tx=tx, batch_stats=stats)

    own, auto = jax.devices()[:devices], (AxisType.Auto,)
    mesh = jax.make_mesh((devices,), ("data",), axis_types=auto, devices=own)
    state = data_parallel.replicated(state, mesh)
    where = jax.tree.map(lambda leaf: leaf.sharding, state)
    step = jax.jit(data_parallel.train_step, static_argnames="loss", out_shardings=(where, None))
    losses = []
    for rows in (epoch[i : i + batch] for epoch in order for i in range(0, len(epoch), batch)):
        (x, y), weight = data_parallel.share((np.moveaxis(images[rows], 1, -1), labels[rows]), mesh)
        state, loss = step(state, (x, weight), (y, weight), loss_jax)
        losses.append(loss)
    kept = state.batch_stats["1"]
    found = {"losses": losses, "kernel": state.params["0"]["kernel"]}
    return found | {"mean": kept["mean"], "variance": kept["var"]}


# %% side="torch"
def train_torch(images, labels, order, batch, kernel, matrix):
    """The same. Every process runs this, and finds the same."""
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.nn.functional import cross_entropy

    from torchref.training import data_parallel

    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("data",))
    conv, norm = nn.Conv2d(1, 16, 3, padding=1, bias=False), data_parallel.GlobalBatchNorm(16)
    head = nn.Linear(64, 10)
    conv.weight.data, head.weight.data = torch.tensor(kernel), torch.tensor(matrix)
    nn.init.zeros_(head.bias)
    net = nn.Sequential(conv, norm, nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(), head).double()
    model = data_parallel.replicated(net, mesh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def loss(scores, labels, weight):
        return data_parallel.mean_loss(cross_entropy(scores, labels, reduction="none"), weight)

    losses, data = [], (torch.tensor(images), torch.tensor(labels))
    for rows in (epoch[i : i + batch] for epoch in order for i in range(0, len(epoch), batch)):
        (x, y), weight = data_parallel.share(tuple(whole[rows] for whole in data), mesh)
        losses.append(data_parallel.train_step(model, optimizer, (x,), (y, weight), loss))
    del model  # before its process group: the other way round, a process can hang
    dist.destroy_process_group()
    kernel = conv.weight.detach().permute(2, 3, 1, 0)  # jax: (3, 3, in, out)
    found = {"losses": torch.stack(losses), "kernel": kernel}
    return found | {"mean": norm.running_mean, "variance": norm.running_var}


# %% side="both"
# Four epochs of 301 digits, nine batches of 32 and one of 13, on one device and on two.
with lesson("data_parallel") as same:
    images, labels = (each[:301] for each in split_digits(same.rng)[:2])
    order = np.array([same.rng.permutation(301) for _ in range(4)])
    weights = {
        "kernel": same.rng.standard_normal((16, 1, 3, 3)) / 3,
        "matrix": same.rng.standard_normal((10, 64)) / 8,
    }
    given = {"images": images, "labels": labels, "order": order, "batch": np.array(32), **weights}
    ours = {devices: train_jax(devices, **given) for devices in (1, 2)}
    theirs = {devices: torchrun(train_torch, devices, **given) for devices in (1, 2)}
    same("one device", ours[1], theirs[1][0])
    same("two devices", ours[2], theirs[2][0])
    same("PyTorch's two processes", theirs[2][0], theirs[2][1])
    same("two devices and one", ours[2], theirs[1][0])

    losses = {n: (np.array(ours[n]["losses"]), theirs[n][0]["losses"]) for n in (1, 2)}
    print(f"{'':28}{'JAX':>12}{'PyTorch':>12}")
    for name, step in (("first loss", 0), ("loss of the batch of 13", 9), ("last loss", -1)):
        print(f"{name:28}{losses[2][0][step]:12.6f}{losses[2][1][step]:12.6f}")
    apart = [abs(two / one - 1) for one, two in zip(losses[1], losses[2], strict=True)]
    print(f"{'two devices against one':28}{apart[0].max():12.1e}{apart[1].max():12.1e}")
    same.holds("it learns", losses[2][0][-9:].mean() < 0.5 * losses[2][0][:9].mean())
    if (axes := same.axes(1, 2)) is not None:
        twice(axes[0], range(40), losses[2], "C0", "two devices")
        axes[0].set(xlabel="step", ylabel="cross-entropy", title="301 digits, four times")
        twice(axes[1], range(40), np.maximum(apart, 1e-17), "C1", None)
        axes[1].axhline(1e-9, color="k", ls=":", label="what a lesson allows")
        axes[1].set(xlabel="step", yscale="log", ylim=(1e-17, 1e-8))
        axes[1].set(title="two devices, off one: relative")
        axes[1].legend()

# %%
# ### Where the frameworks part
#
# | | PyTorch | JAX |
# |---|---|---|
# | a program sees | its own share of the batch | the whole batch |
# | devices are added up | by a wrapper, or by name | by the compiler, wherever it needs to |
# | shares | may differ in size | are equal: rows that weigh nothing fill the last one up |
# | what is averaged | gradients of the processes: losses are scaled for that | the batch |
# | batch norm sees | one process's share, unless the layer is another | the whole batch |
# | running averages | those of the first process are copied to the others | one array |
#
# On several hosts the programs stay as they are. PyTorch's is started on each of them, with one
# host, `first`, named as the place where all meet:
#
#     torchrun --nnodes 2 --nproc-per-node 8 \
#         --rdzv-backend c10d --rdzv-endpoint first:29500 program.py
#
# JAX's is started once on each host, and begins by making their devices one list:
#
#     jax.distributed.initialize("first:29500", num_processes=2, process_id=0)  # 1 on the second
#
# On TPUs and under Slurm this needs no arguments.
#
# ### Try it
# - Weigh each row by `1 / len(x) / 2` on PyTorch's side: a mean of two means. Which steps of the
#   forty are wrong, and how far off is the last loss?
# - Put `nn.BatchNorm2d` in the place of PyTorch's `GlobalBatchNorm`. It trains, and the lesson
#   fails: is the network any worse? Try it with batches of 4.
# - Leave `weight` out of the call of `GlobalBatchNorm` in JAX. What does batch norm count then?

# %% [sharded_parameters] Sharded parameters
# Copies are wasteful. With Adam each device holds three numbers for every weight, the weight and
# two averages, and all devices hold the same ones: eight devices with 80 GB each train no larger
# network than one of them. But a layer's weights are needed whole only while that layer is at work,
# and its averages only when it is updated.
#
# So each of $n$ devices keeps $1/n$ of every weight, and of its averages. Before a layer is used,
# the devices *gather* its weights from one another, and drop them after. In the backward pass each
# device needs the sum of all gradients for its own part only: they *scatter* the sums. Then each
# updates its own part, and nothing has to be exchanged, as Adam goes weight by weight:
#
# $$w_{\text{part}} \leftarrow w_{\text{part}} -
#   \eta\, \frac{\hat m_{\text{part}}}{\sqrt{\hat v_{\text{part}}} + \epsilon}$$
#
# What goes over the wire is half as much again as with copies; what a device holds shrinks with
# their number, and the result is that of one device. The technique is known as ZeRO, and as fully
# sharded data parallelism.
#
# In JAX the state lies elsewhere, and that is all: the step of the last lesson is compiled for
# it anew. In PyTorch `fully_shard` (FSDP2) turns parameters into `DTensor`s, which know of
# their whole; the optimizer is made afterwards, so that its averages are parts as well. The second
# layer here has 33 outputs, which two devices do not divide. See what each side makes of it.


# %% side="jax"
class MlpJax(nn.Module):
    @nn.compact
    def __call__(self, x, *, train: bool = False):
        x = nn.relu(nn.Dense(32, name="0")(x))
        x = nn.relu(nn.Dense(33, name="2")(x))
        return nn.Dense(10, name="4")(x)


def mean_jax(scores, labels, weight):
    return data_parallel.mean_loss(cross_entropy(scores, labels, reduction="none"), weight)


def fit_jax(place, images, labels, order, batch, **weights):
    """Losses and first layer; for each device the numbers that it holds: by layer, and in all."""
    params = {
        layer: {"kernel": to_jax(w.T), "bias": jnp.zeros(len(w))} for layer, w in weights.items()
    }
    state = TrainState.create(apply_fn=MlpJax().apply, params=params, tx=adam(lr=0.01))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    state = place(state, mesh)  # all that is said of it
    where = jax.tree.map(lambda leaf: leaf.sharding, state)
    step = jax.jit(data_parallel.train_step, static_argnames="loss", out_shardings=(where, None))
    losses = []
    for rows in (epoch[i : i + batch] for epoch in order for i in range(0, len(epoch), batch)):
        (x, y), weight = data_parallel.share((images[rows], labels[rows]), mesh)
        state, loss = step(state, (x,), (y, weight), mean_jax)
        losses.append(loss)

    def held(device, tree):
        shards = (leaf.addressable_shards[device] for leaf in jax.tree.leaves(tree) if leaf.ndim)
        return sum(shard.data.size for shard in shards)

    trees = *(state.params[layer] for layer in weights), (state.params, state.opt_state)
    found = {"losses": losses, "weights": state.params["0"]["kernel"].T}
    return found, [[held(device, tree) for tree in trees] for device in range(2)]


# %% side="torch"
def fit_torch(copies, images, labels, order, batch, **weights):
    """The same of one process; what it holds is its own."""
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor
    from torch.nn.functional import cross_entropy

    from torchref.training import data_parallel

    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("data",))
    first, second, last = layers = nn.Linear(64, 32), nn.Linear(32, 33), nn.Linear(33, 10)
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last).double()
    for layer, w in zip(layers, weights.values(), strict=True):
        layer.weight.data = torch.tensor(w)
        nn.init.zeros_(layer.bias)
    wrap = data_parallel.replicated if copies else data_parallel.sharded
    model = wrap(net, mesh)  # in place, and before the optimizer
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def loss(scores, labels, weight):
        return data_parallel.mean_loss(cross_entropy(scores, labels, reduction="none"), weight)

    losses, data = [], (torch.tensor(images), torch.tensor(labels))
    for rows in (epoch[i : i + batch] for epoch in order for i in range(0, len(epoch), batch)):
        (x, y), weight = data_parallel.share(tuple(whole[rows] for whole in data), mesh)
        losses.append(data_parallel.train_step(model, optimizer, (x,), (y, weight), loss))

    def held(tensors):
        return sum((t.to_local() if isinstance(t, DTensor) else t).numel() for t in tensors)

    kept = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    trees = *(layer.parameters() for layer in layers), [*net.parameters(), *kept]
    numbers = [held(tensors) for tensors in trees]
    weight = first.weight
    weight = weight.full_tensor() if isinstance(weight, DTensor) else weight  # of all processes
    del model  # before its process group: the other way round, a process can hang
    dist.destroy_process_group()
    found = {"losses": torch.stack(losses), "weights": weight.detach()}
    return found | {"held": torch.tensor(numbers)}


# %% side="both"
# Four epochs of 301 digits again, once with copies on two devices, and once with parts.
with lesson("sharded_parameters") as same:
    images, labels = (each[:301] for each in split_digits(same.rng, flat=True)[:2])
    order = np.array([same.rng.permutation(301) for _ in range(4)])
    sizes = {"0": (32, 64), "2": (33, 32), "4": (10, 33)}
    weights = {n: same.rng.standard_normal(shape) / shape[1] ** 0.5 for n, shape in sizes.items()}
    given = {"images": images, "labels": labels, "order": order, "batch": np.array(32), **weights}
    columns, found = [], []
    for place in (data_parallel.replicated, data_parallel.sharded):
        ours, held = fit_jax(place, **given)
        copies = np.array(place is data_parallel.replicated)
        theirs = torchrun(fit_torch, 2, copies=copies, **given)
        columns += [*held, *(each.pop("held") for each in theirs)]
        same(place.__name__, ours, theirs[0])
        found.append(ours)
    same("parts and copies", *found)

    columns = np.array(columns)  # copies of JAX, of PyTorch, then parts; two devices each
    print("numbers held         copies   JAX: device 0, 1   PyTorch: device 0, 1")
    names = "layer of 32", "layer of 33", "layer of 10", "with Adam's averages"
    for name, (whole, *_, a, b, c, d) in zip(names, columns.T, strict=True):
        print(f"{name:20}{whole:7}{a:11}{b:9}{c:13}{d:9}")
    same.holds("copies are whole, everywhere", (columns[:4] == columns[0]).all())
    same.holds("PyTorch's parts make up the whole", (columns[6:].sum(0) == columns[0]).all())
    halves = columns[4:6, [0, 2]] * 2 == columns[0, [0, 2]]
    same.holds("JAX halves what two divide", halves.all())
    same.holds("and copies the rest", (columns[4:6, 1] == columns[0, 1]).all())
    if (axis := same.axes()) is not None:
        places = np.arange(4) - 0.3
        bars = {"copies": (0, "0.7"), "JAX, device 0": (4, "C0"), "JAX, device 1": (5, "lightblue")}
        bars |= {"PyTorch, device 0": (6, "C1"), "PyTorch, device 1": (7, "moccasin")}
        for i, (label, (column, color)) in enumerate(bars.items()):
            axis.bar(places + 0.15 * i, columns[column], 0.14, label=label, color=color)
        axis.set_xticks(range(4), names)
        axis.set(ylabel="numbers on a device", title="what one device holds", yscale="log")
        axis.legend()

# %%
# ### Where the frameworks part
#
# | | PyTorch, `fully_shard` | JAX, `NamedSharding` |
# |---|---|---|
# | what is split | a parameter's first axis, its outputs | any axes; here the last, the outputs |
# | 33 outputs | uneven parts, 17 and 16 | not split by this rule: a copy each |
# | what is gathered at once | what a call of `fully_shard` was given | what the compiler decides |
# | the optimizer | has to be made afterwards | its state is an array like others |
# | a whole weight | `weight.full_tensor()`, called by all processes | the array is the whole one |
# | what keeps it split | the `DTensor` | `out_shardings` of the step |
#
# ### Try it
# - Make the optimizer before `sharded(net, mesh)`. What does it train now?
# - Give the second layer 34 outputs. Which column changes?
# - Leave `out_shardings` out, and print `state.params["0"]["kernel"].sharding` after each step.
