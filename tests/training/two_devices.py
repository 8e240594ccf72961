"""One small network, trained in several ways on two devices, and recorded.

    python -m tests.training.two_devices torch FOLDER RANK  # one of two processes, for each RANK
    python -m tests.training.two_devices jax FOLDER         # one process with two devices

Each way of training leaves a bundle of its name in FOLDER, and what each device holds as JSON.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np

from compare import Image, Twin
from compare.ladder.recording import Recording, of_jax, of_torch
from compare.share import to_jax, to_torch
from compare.twin import generator

# Four batches of 6 and one of 5, 3 rows and 2: on a mesh, where it is filled up, one program.
DEVICES, BATCH, EPOCH, EPOCHS = 2, 6, 29, 2
RULES = {
    "sgd": ({"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}, ("momentum_buffer",)),
    "adam": ({"lr": 0.01}, ("exp_avg", "exp_avg_sq", "step")),
}
PATIENCE = timedelta(seconds=60)  # after that a process that waits for the other gives up


def alike(weight):
    """A weight for every row, also of those that fill up."""
    return np.full(weight.shape, 1 / len(weight))


# Ways of training, by what they do otherwise than the first; after the right ones the faults.
TORCH = {
    "ddp": {},
    "nothing for one": {"rows": 4 * BATCH + 1},
    "fsdp": {"wrap": "sharded", "rule": "adam"},
    "summed gradients": {"summed": True},
    "own statistics": {"norm": "BatchNorm2d"},
    "mean of means": {"mean": lambda weight: alike(weight) / DEVICES},
    "one share": {"shared": True},
    "own shuffles": {"shuffled": True},
}
JAX = {
    "mesh": {},
    "filling in the statistics": {"statistics": alike},
    "filling in the mean": {"mean": alike},
    "sharded": {"place": "sharded", "rule": "adam"},
    "one device": {"place": None},
}


def batches(rows=EPOCH, *purpose):
    """Images (B, 1, 8, 8) and labels; every epoch in an order of its own."""
    rng = generator(0, "two devices", "data")
    x, labels = rng.standard_normal((EPOCH, 1, 8, 8)), rng.integers(10, size=EPOCH)
    rng = generator(0, "two devices", "order", *purpose)
    for order in (rng.permutation(rows) for _ in range(EPOCHS)):
        for own in (order[i : i + BATCH] for i in range(0, rows, BATCH)):
            yield x[own], labels[own]


def start():
    """The weights, by PyTorch's names."""
    rng = generator(0, "two devices", "weights")
    state = {
        "0.weight": rng.standard_normal((6, 1, 3, 3)) / 3,
        "3.weight": rng.standard_normal((5, 6, 3, 3)) / 5,
        "8.weight": rng.standard_normal((10, 5)),
        "8.bias": rng.standard_normal(10) / 3,
    }
    for norm, channels in (("1", 6), ("4", 5)):
        state[f"{norm}.weight"] = 1 + rng.standard_normal(channels) / 8
        state[f"{norm}.bias"] = rng.standard_normal(channels) / 8
    return state


def torch_net(norm, weights=None):
    """The layers of both sides; two devices do not divide five channels."""
    from torch import nn

    layers = (
        nn.Conv2d(1, 6, 3, padding=1, bias=False),
        norm(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3, stride=2, padding=1, bias=False),
        norm(5),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 10),
    )
    net = nn.Sequential(*layers).double()
    if weights:
        net.load_state_dict({n: to_torch(w) for n, w in weights.items()}, strict=False)
    return net


def jax_net():
    import flax.linen as nn

    from jaxnn.layers.convolution import Conv2d
    from jaxnn.training.data_parallel import GlobalBatchNorm

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, weight=None, *, train: bool = False):
            x = Conv2d(1, 6, 3, padding=1, bias=False, name="0")(x)
            x = nn.relu(GlobalBatchNorm(6, name="1")(x, weight, train=train))
            x = Conv2d(6, 5, 3, stride=2, padding=1, bias=False, name="3")(x)
            x = nn.relu(GlobalBatchNorm(5, name="4")(x, weight, train=train))
            return nn.Dense(10, name="8")(x.mean((1, 2)))

    return Net()


def one_device(rule, moved=None, rows=EPOCH):
    """PyTorch in one process, with its own layer and its own mean: what all are held to.

    Args:
      moved: the number of a run whose weights begin one unit in the last place away.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from torchref.training import optimizers, steps

    weights = start()
    if moved is not None:
        rng = generator(0, "two devices", "moved", moved)
        for name, w in weights.items():
            weights[name] = np.nextafter(w, rng.choice([-np.inf, np.inf], w.shape))
    model = torch_net(torch.nn.BatchNorm2d, weights)
    optimizer = getattr(optimizers, rule)(model.parameters(), **RULES[rule][0])
    recording = Recording("net", "torch:one device", of_torch(model).parameters)
    for x, labels in batches(rows):
        given = (to_torch(x),), (to_torch(labels),)
        loss = steps.train_step(model, optimizer, *given, cross_entropy)
        recording.step(loss.item(), of_torch(model, optimizer))
    return recording


def by_torch(
    mesh,
    wrap="replicated",
    rule="sgd",
    norm="GlobalBatchNorm",
    summed=False,
    mean=np.asarray,
    shared=False,
    shuffled=False,
    rows=EPOCH,
):
    """One process of two: what it records, and the shapes that it holds of every parameter."""
    import torch
    from torch.nn.functional import cross_entropy

    from torchref.training import data_parallel, optimizers

    layer = getattr(data_parallel, norm, None) or getattr(torch.nn, norm)
    model = getattr(data_parallel, wrap)(torch_net(layer, start()), mesh)
    if summed:
        model.register_comm_hook(None, added)
    optimizer = getattr(optimizers, rule)(model.parameters(), **RULES[rule][0])

    def loss(scores, labels, weight):
        losses = cross_entropy(scores, labels, reduction="none")
        return data_parallel.mean_loss(losses, weight)

    recording = Recording("net", f"torch:{wrap}", of_torch(model).parameters)
    for batch in batches(rows, *((mesh.get_rank(),) if shuffled else ())):
        (x, labels), weight = data_parallel.share(tuple(map(to_torch, batch)), mesh)
        if shared:
            x, labels = (to_torch(rows[: len(x)]) for rows in batch)
        targets = labels, to_torch(mean(weight))
        value = data_parallel.train_step(model, optimizer, (x,), targets, loss)
        recording.step(value.item(), of_torch(model, optimizer))
    held = {}
    for name, p in model.named_parameters() if wrap == "sharded" else ():
        kept = (optimizer.state[p][slot] for slot in RULES[rule][1] if slot != "step")
        held[name] = [tuple(part.to_local().shape) for part in (p, p.grad, *kept)]
    return recording, held


def added(_, bucket):
    """A communication hook of DDP's that forgets to divide."""
    import torch.distributed as dist

    work = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return work.then(lambda done: done.value()[0])


def by_jax(programs, place="replicated", rule="sgd", statistics=np.asarray, mean=np.asarray):
    """The same on a mesh, or on one device; of each leaf the shapes that the devices hold.

    Args:
      programs: of all runs; a fault takes that of the right way, and other weights.
    """
    import jax
    from jax.sharding import AxisType

    from jaxnn.training import data_parallel

    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))
    if (place, rule) not in programs.compiled:
        programs.compiled[place, rule] = programs.prepare(place, rule, mesh)
    state, step, loss, tensors = programs.compiled[place, rule]
    recording = Recording("net", f"xla:{place or 'one device'}", tensors(state).parameters)
    for x, labels in batches():
        batch = np.moveaxis(x, 1, -1), labels
        if place:
            (x, labels), weight = data_parallel.share(batch, mesh)
            given = (x, statistics(weight)), (labels, mean(weight))
        else:
            x, labels = map(to_jax, batch)
            given = (x,), (labels,)
        state, value = step(state, *given, loss)
        recording.step(float(value), tensors(state))

    held = {
        jax.tree_util.keystr(path, simple=True, separator="/"): [
            list(shard.data.shape) for shard in leaf.addressable_shards
        ]
        for path, leaf in jax.tree.leaves_with_path((state.params, state.opt_state))
    }
    return recording, held


class Programs:
    """What is the same in all of JAX's runs: the network, the map of its weights, and programs."""

    def __init__(self):
        from torch.nn import BatchNorm2d

        from compare.ladder.weight_map import weight_map

        self.net = jax_net()
        sides = {"torch": lambda: torch_net(BatchNorm2d), "jax": self.net}
        self.map = weight_map(Twin(**sides, inputs={"x": Image(2, 1, 8, 8)}))
        self.compiled = {}

    def prepare(self, place, rule, mesh):
        """The state, the step, its loss, and what turns a state into tensors to record."""
        import jax
        import jax.numpy as jnp
        import optax
        from flax.traverse_util import unflatten_dict
        from torch.nn import BatchNorm2d

        from compare.capture.compiler import jit
        from compare.capture.torch_model import values
        from jaxnn.training import data_parallel, optimizers
        from jaxnn.training.losses import cross_entropy
        from jaxnn.training.steps import TrainState

        keywords, slots = RULES[rule]
        leaves = self.map.to_jax(values(torch_net(BatchNorm2d, start()))).items()
        variables = unflatten_dict({path: to_jax(leaf) for path, leaf in leaves})
        noted = optax.GradientTransformation(  # the state that it keeps are the gradients
            lambda params: jax.tree.map(jnp.zeros_like, params),
            lambda updates, state, params=None: (updates, updates),
        )
        tx = optax.chain(noted, getattr(optimizers, rule)(**keywords))
        state = TrainState.create(apply_fn=self.net.apply, tx=tx, **variables)

        def loss(scores, labels, weight):
            losses = cross_entropy(scores, labels, reduction="none")
            return data_parallel.mean_loss(losses, weight)

        def tensors(state):
            variables = {"params": state.params, "batch_stats": state.batch_stats}
            gradients, opt_state = state.opt_state
            return of_jax(self.map, variables, gradients, opt_state, slots)

        if not place:
            step = jit(data_parallel.train_step, static_argnames="loss")
            return state, step, cross_entropy, tensors
        state = getattr(data_parallel, place)(state, mesh)
        where = jax.tree.map(lambda leaf: leaf.sharding, state)
        step = jit(data_parallel.train_step, static_argnames="loss", out_shardings=(where, None))
        return state, step, loss, tensors


def torch_side(folder, rank):
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    meeting = f"file://{folder.resolve()}/meeting"
    dist.init_process_group("gloo", meeting, PATIENCE, DEVICES, rank)
    mesh = init_device_mesh("cpu", (DEVICES,), mesh_dim_names=("data",))
    for name, slip in TORCH.items():
        yield name, *by_torch(mesh, **slip)
    dist.destroy_process_group()  # after all models: one that outlives its group can hang


def jax_side():
    import jax

    jax.config.update("jax_num_cpu_devices", DEVICES)
    programs = Programs()
    with jax.enable_x64(True):
        for name, slip in JAX.items():
            yield name, *by_jax(programs, **slip)


def main(side, folder, rank="0"):
    folder = Path(folder)
    sides = torch_side(folder, int(rank)) if side == "torch" else jax_side()
    for name, recording, held in sides:
        if rank == "0":
            recording.bundle().save(folder / f"{name}.safetensors")
        (folder / f"{name}.{rank}.json").write_text(json.dumps(held))


if __name__ == "__main__":
    main(*sys.argv[1:])
